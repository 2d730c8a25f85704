//! Standard output, for what a command answers and for what a service says.
//!
//! Whoever reads it may have had enough, as `head` does. Then nobody is left to answer, and the
//! command ends without a word; a service goes on, since its output is not what it is there for.

use std::fmt::Display;
use std::io::{ErrorKind, Write as _, stdout};

use crate::report::Report;

/// Prints text as it is. A closed pipe ends the process quietly, and with success: what was asked
/// for was done, as far as anybody wanted to see it. Output that cannot be kept is a failure.
pub fn print(text: impl Display) {
    let mut out = stdout().lock();
    let Err(error) = write!(out, "{text}").and_then(|()| out.flush()) else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        std::process::exit(0);
    }
    Report::default().line(&format!("Standard output cannot be written: {error}"));
    std::process::exit(1);
}

/// [`print()`] of a line.
pub fn line(line: impl Display) {
    print(format_args!("{line}\n"));
}

/// A line of a service, which stops for no reader.
pub(crate) fn note(line: impl Display) {
    let mut out = stdout().lock();
    // A closed pipe means that nobody reads any more.
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}
