//! `up --watch`: notices that a source file was written. Looks at the times of the files twice a
//! second, which works on every file system and costs a few hundred calls.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;

use super::keys::Wish;

/// Pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Folders and files whose change needs a build.
const SOURCES: [&str; 5] =
    ["functions", "crates", "Cargo.toml", "Cargo.lock", "infra/topology.json"];

/// What a set of files looks like: how many, and when the last one was written.
type Look = (usize, Option<SystemTime>);

/// Asks for a rebuild whenever the sources have changed and then kept still for a moment.
pub(super) async fn watch(root: PathBuf, wishes: mpsc::Sender<Wish>) {
    let mut built = look(&root);
    let mut seen = built;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = look(&root);
        // An editor that saves several files is waited for.
        let still = now == seen;
        seen = now;
        if still && now != built {
            built = now;
            if wishes.send(Wish::Rebuild).await.is_err() {
                return;
            }
        }
    }
}

fn look(root: &Path) -> Look {
    let mut found = (0, None);
    SOURCES.iter().for_each(|source| look_into(&root.join(source), &mut found));
    found
}

fn look_into(path: &Path, found: &mut Look) {
    let Ok(about) = path.metadata() else { return };
    if about.is_dir() {
        let entries = std::fs::read_dir(path).into_iter().flatten().flatten();
        entries.for_each(|entry| look_into(&entry.path(), found));
        return;
    }
    *found = (found.0 + 1, found.1.max(about.modified().ok()));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_a_written_and_a_removed_file_are_noticed() {
        let root = std::env::temp_dir().join(format!("bulkhead-watch-{}", uuid::Uuid::new_v4()));
        std::fs::create_dir_all(root.join("functions/deep")).unwrap();
        let file = root.join("functions/deep/one.rs");
        std::fs::write(&file, "1").unwrap();
        let before = look(&root);
        assert_eq!(before.0, 1);
        let later = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        std::fs::File::options().write(true).open(&file).unwrap().set_modified(later).unwrap();
        assert_ne!(look(&root), before);
        std::fs::remove_file(&file).unwrap();
        assert_eq!(look(&root).0, 0);
        std::fs::write(root.join("Cargo.toml"), "").unwrap();
        assert_eq!(look(&root).0, 1);
        std::fs::remove_dir_all(root).unwrap();
    }
}
