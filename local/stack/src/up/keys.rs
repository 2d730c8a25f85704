//! What a person may press while the stack runs: a letter, then Enter. Only where standard input is
//! a terminal.

use std::io::IsTerminal as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::sync::mpsc;

use crate::report::{Outcome, Report};

/// What is wanted of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    /// Build, then start every host again, one at a time.
    Rebuild,
    /// Stop.
    Quit,
}

/// What the keys act upon.
pub(super) struct Keys {
    pub(super) portal: String,
    pub(super) bank: String,
    pub(super) verbose: Arc<AtomicBool>,
    pub(super) wishes: mpsc::Sender<Wish>,
}

/// The line that says which keys there are.
pub(super) const HELP: &str =
    "o open portal · r rebuild · f bank fails, or works again · l all log lines, or not · q quit";

/// Whether anybody can press a key.
pub(super) fn are_there() -> bool {
    std::io::stdin().is_terminal()
}

/// Reads keys until standard input ends.
pub(super) async fn read(keys: Keys) {
    let report = Report::default();
    let http = reqwest::Client::builder().no_proxy().build().unwrap_or_default();
    let mut bank_fails = false;
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match line.trim() {
            "" => {}
            "q" => drop(keys.wishes.send(Wish::Quit).await),
            "r" => drop(keys.wishes.send(Wish::Rebuild).await),
            "o" => {
                match tokio::process::Command::new("xdg-open").arg(&keys.portal).status().await {
                    Ok(status) if status.success() => {}
                    _ => report.step(
                        Outcome::Warning,
                        &format!("Open {} yourself", keys.portal),
                        None,
                    ),
                }
            }
            "l" => {
                let verbose = !keys.verbose.fetch_xor(true, Ordering::Relaxed);
                let text = if verbose { "Every line is shown" } else { "Routine is left out" };
                report.step(Outcome::Done, text, None);
            }
            "f" => {
                bank_fails = !bank_fails;
                let behaviour = json!({"behaviour": {"kind": "fail", "status": 503}});
                let rules = if bank_fails { json!([behaviour]) } else { json!([]) };
                let script = http.put(format!("{}/v1/script", keys.bank));
                let said = script.json(&json!({ "rules": rules })).send().await;
                match said.is_ok_and(|answer| answer.status().is_success()) {
                    true if bank_fails => report.step(Outcome::Done, "The bank fails now", None),
                    true => report.step(Outcome::Done, "The bank works again", None),
                    false => report.step(Outcome::Failed, "The bank does not answer", None),
                }
            }
            _ => report.line(&format!("  Keys:    {HELP}")),
        }
    }
}
