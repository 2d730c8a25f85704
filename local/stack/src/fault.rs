//! An error in three lines: what happened, why (the evidence), and the fix (a command).

use std::fmt;

/// Something that went wrong, told so that a person can act on it.
#[derive(Debug)]
pub struct Fault {
    /// What happened.
    pub what: String,
    /// The evidence.
    pub why: String,
    /// What to do.
    pub fix: String,
}

impl Fault {
    /// A fault of three lines.
    pub fn new(what: impl Into<String>, why: impl Into<String>, fix: impl Into<String>) -> Self {
        Self { what: what.into(), why: why.into(), fix: fix.into() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indented = |text: &str| text.trim_end().replace('\n', "\n        ");
        writeln!(f, "{}", indented(&self.what))?;
        writeln!(f, "  why:  {}", indented(&self.why))?;
        write!(f, "  fix:  {}", indented(&self.fix))
    }
}

impl std::error::Error for Fault {}
