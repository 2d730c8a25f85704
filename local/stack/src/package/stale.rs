//! Whether the handler was built from the sources that lie here now.
//!
//! cargo writes beside each executable which files it was built from, what is compiled into it
//! included: <https://doc.rust-lang.org/cargo/reference/build-cache.html#dep-info-files>. Versions
//! of other people's crates are not among them; `scripts/package` has cargo look after those, by
//! building with the lock file before it packages.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::fault::Fault;

/// Checks that no source of `handler` is newer than the handler, and that none is gone.
///
/// # Errors
/// One is, or it is unknown what the handler was built from.
pub fn check(handler: &Path) -> Result<(), Fault> {
    let fix = "./scripts/package, which builds it first";
    let unknown = |path: &Path, error: &std::io::Error| {
        let why = format!("{}: {error}", path.display());
        Fault::new("It is unknown what the handler was built from.", why, fix)
    };
    let list = handler.with_extension("d");
    let text = std::fs::read_to_string(&list).map_err(|error| unknown(&list, &error))?;
    let built = modified(handler).map_err(|error| unknown(handler, &error))?;
    let sources = sources(&text);
    if sources.is_empty() {
        let why = format!("{} names no file", list.display());
        return Err(Fault::new("It is unknown what the handler was built from.", why, fix));
    }
    let stale = |why: String| Err(Fault::new("The handler is older than its sources.", why, fix));
    for source in sources {
        match modified(&source) {
            Ok(changed) if changed > built => {
                return stale(format!("{} was changed since it was built", source.display()));
            }
            Ok(_) => {}
            Err(error) => return stale(format!("{}: {error}", source.display())),
        }
    }
    Ok(())
}

fn modified(path: &Path) -> std::io::Result<SystemTime> {
    std::fs::metadata(path)?.modified()
}

/// The files that the first rule of such a list depends on: `target: file file …`, with a
/// backslash before a space that belongs to a name.
fn sources(text: &str) -> Vec<PathBuf> {
    let Some((_, files)) = text.lines().next().and_then(|line| line.split_once(": ")) else {
        return Vec::new();
    };
    let mut found = Vec::new();
    let mut name = String::new();
    let mut characters = files.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\\' if characters.peek() == Some(&' ') => name.extend(characters.next()),
            ' ' => found.push(std::mem::take(&mut name)),
            _ => name.push(character),
        }
    }
    found.push(name);
    found.into_iter().filter(|name| !name.is_empty()).map(PathBuf::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_sources_is_read_as_cargo_writes_it() {
        let paths = |names: &[&str]| names.iter().map(PathBuf::from).collect::<Vec<_>>();
        assert_eq!(sources("/t/handler: /a/b.rs /c\\ d/e.rs\n"), paths(&["/a/b.rs", "/c d/e.rs"]));
        assert_eq!(sources("/t/handler: /a\n\n/b: /c\n"), paths(&["/a"]));
        assert!(sources("").is_empty() && sources("/t/handler:\n").is_empty());
    }
}
