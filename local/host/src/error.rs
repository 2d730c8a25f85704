//! What can keep a host from starting or make it give up, written for the person who must fix it.

use std::fmt;

/// One thing that is wrong: what, why, and what to do about it. Prints as three lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong, naming the file, function or setting.
    pub what: String,
    /// Why that is a problem.
    pub why: String,
    /// What to change.
    pub fix: String,
}

impl Problem {
    pub(crate) fn new(
        what: impl Into<String>,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { what: what.into(), why: why.into(), fix: fix.into() }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}\n  why: {}\n  fix: {}", self.what, self.why, self.fix)
    }
}

/// Why a host did not start, or stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The app cannot be run as it is laid out. Holds every problem found, not only the first.
    #[error("{}", listed(.0))]
    Config(Vec<Problem>),
    /// The HTTP port could not be bound.
    #[error("{problem}")]
    Bind {
        /// What, why and fix.
        problem: Problem,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// The handler failed so often, or in such a way, that the host stopped, as Azure's does.
    #[error("{0}")]
    GaveUp(Problem),
}

fn listed(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let (mut text, mut cause) = (error.to_string(), error.source());
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
