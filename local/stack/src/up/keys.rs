//! What a person may press while the stack runs: a letter. Only where standard input is a terminal
//! that is ours to read.

use std::io::IsTerminal as _;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::mpsc;

use crate::report::{Outcome, Report};

/// Keys of one read; more were not pressed but pasted.
const KEYS_MAX: usize = 64;

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

/// Whether anybody can press a key. Reading, or setting, the terminal from the background would stop
/// the process.
pub(super) fn are_there() -> bool {
    std::io::stdin().is_terminal() && is_in_foreground()
}

/// Whether our process group has the terminal, as `/proc` tells it (proc_pid_stat(5): `pgrp` and
/// `tpgid`). Where there is no `/proc`, it is taken for granted.
fn is_in_foreground() -> bool {
    std::fs::read_to_string("/proc/self/stat").ok().is_none_or(|stat| {
        // After the name, which may hold anything: state, ppid, pgrp, session, tty_nr, tpgid.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split(' ').collect();
        fields.get(3) == fields.get(6)
    })
}

/// A terminal that gives each key at once and shows none. As it was before when dropped.
struct Unbuffered(String);

impl Unbuffered {
    /// Nothing where the terminal cannot be set; then keys come with Enter.
    fn new() -> Option<Self> {
        let before = stty(&["-g"])?;
        stty(&["-icanon", "-echo", "min", "1", "time", "0"])?;
        Some(Self(before))
    }
}

impl Drop for Unbuffered {
    fn drop(&mut self) {
        // A terminal that is gone needs no setting.
        let _ = stty(&[self.0.trim()]);
    }
}

/// Sets the terminal, by the command that POSIX has for it; what the command said.
fn stty(arguments: &[&str]) -> Option<String> {
    let mut stty = Command::new("stty");
    let output =
        stty.args(arguments).stdin(Stdio::inherit()).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Reads keys until standard input ends.
pub(super) async fn read(keys: Keys) {
    let _terminal = Unbuffered::new();
    keys.follow(tokio::io::stdin()).await;
}

impl Keys {
    async fn follow(self, mut input: impl AsyncRead + Unpin) {
        let mut bank_fails = false;
        let mut pressed = [0; KEYS_MAX];
        while let Ok(count @ 1..) = input.read(&mut pressed).await {
            for key in &pressed[..count] {
                self.press(*key, &mut bank_fails).await;
            }
        }
    }

    async fn press(&self, key: u8, bank_fails: &mut bool) {
        let report = Report::default();
        match key {
            key if key.is_ascii_whitespace() => {}
            b'q' => drop(self.wishes.send(Wish::Quit).await),
            b'r' => drop(self.wishes.send(Wish::Rebuild).await),
            b'o' => self.open(&report).await,
            b'l' => {
                let verbose = !self.verbose.fetch_xor(true, Ordering::Relaxed);
                let text = if verbose { "Every line is shown" } else { "Routine is left out" };
                report.step(Outcome::Done, text, None);
            }
            b'f' => match self.script_bank(!*bank_fails).await {
                true => {
                    *bank_fails = !*bank_fails;
                    let text =
                        if *bank_fails { "The bank fails now" } else { "The bank works again" };
                    report.step(Outcome::Done, text, None);
                }
                false => report.step(Outcome::Failed, "The bank does not answer", None),
            },
            _ => report.line(&format!("  Keys:    {HELP}")),
        }
    }

    async fn open(&self, report: &Report) {
        let mut opener = tokio::process::Command::new("xdg-open");
        let opener = opener.arg(&self.portal).stdin(Stdio::null()).stderr(Stdio::null());
        match opener.status().await {
            Ok(status) if status.success() => {
                report.step(Outcome::Done, "Opening the portal", None)
            }
            _ => report.step(Outcome::Warning, &format!("Open {} yourself", self.portal), None),
        }
    }

    /// Makes the bank fail, or work again; whether it took that.
    async fn script_bank(&self, fails: bool) -> bool {
        let http = reqwest::Client::builder().no_proxy().build().unwrap_or_default();
        let behaviour = json!({"behaviour": {"kind": "fail", "status": 503}});
        let rules = if fails { json!([behaviour]) } else { json!([]) };
        let script = http.put(format!("{}/v1/script", self.bank));
        let said = script.json(&json!({ "rules": rules })).send().await;
        said.is_ok_and(|answer| answer.status().is_success())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn keys_come_one_by_one_or_in_lines() {
        let (wishes, mut wished) = mpsc::channel(4);
        let verbose = Arc::new(AtomicBool::new(false));
        let (portal, bank) = (String::new(), "http://127.0.0.1:1".to_owned());
        let keys = Keys { portal, bank, verbose: Arc::clone(&verbose), wishes };
        keys.follow(&b"l\nr\n f q"[..]).await;
        assert!(verbose.load(Ordering::Relaxed));
        assert_eq!(wished.recv().await, Some(Wish::Rebuild));
        assert_eq!(wished.recv().await, Some(Wish::Quit));
        assert_eq!(wished.recv().await, None);
    }
}
