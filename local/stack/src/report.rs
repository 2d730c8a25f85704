//! What a person sees: one line per step, in five states, told apart by sign and word.

use std::io::{IsTerminal as _, Write as _};
use std::time::Instant;

/// Writes progress to standard error, so that standard output stays for data.
#[derive(Debug)]
pub struct Report {
    colour: bool,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// As intended.
    Done,
    /// Not as intended, but the rest can go on.
    Warning,
    /// Not needed.
    Skipped,
    /// Not at all.
    Failed,
}

impl Default for Report {
    fn default() -> Self {
        Self { colour: std::io::stderr().is_terminal() }
    }
}

impl Report {
    /// One step, with the time it took if that is worth telling.
    pub fn step(&self, outcome: Outcome, text: &str, since: Option<Instant>) {
        let (sign, word, colour) = match outcome {
            Outcome::Done => ("✓", "Done", "32"),
            Outcome::Warning => ("!", "Warning", "33"),
            Outcome::Skipped => ("-", "Skipped", "90"),
            Outcome::Failed => ("x", "Failed", "31"),
        };
        let took = since.map(|since| since.elapsed()).filter(|took| took.as_millis() >= 100);
        let took = took.map_or(String::new(), |took| format!("  {:.1} s", took.as_secs_f64()));
        let mark = format!("({sign}) {word}:");
        let mark = if self.colour { format!("\x1b[{colour}m{mark}\x1b[0m") } else { mark };
        self.line(&format!("  {mark} {text}{took}"));
    }

    /// A plain line.
    pub fn line(&self, text: &str) {
        // A closed terminal must not stop the system.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }
}
