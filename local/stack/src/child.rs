//! One process of the stack: this same executable in another role, watched through its pipes.
//!
//! A child says that it is ready by one line on standard output, `{"ready":…}`, and stops when its
//! standard input closes. So it also stops when its parent dies, however it dies.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

use crate::fault::Fault;

/// How long a child may take to be ready. It binds a port and reads small files.
const READY_WITHIN: Duration = Duration::from_secs(20);

/// How long a child may take to stop: a host gives invocations in flight ten seconds.
const STOP_WITHIN: Duration = Duration::from_secs(13);

/// Last lines of standard error that are kept to explain a child that dies.
const EVIDENCE_LINES_MAX: usize = 12;

/// Receives the lines that children print: `(child, line)`. Must not block.
pub type LineSink = Arc<dyn Fn(&str, &str) + Send + Sync>;

/// What to start.
#[derive(Clone, Debug)]
pub struct Spec {
    /// `cosmos`, `bus`, `queue`, `bank`, `subscriber`, `grid`, or the name of an app.
    pub name: String,
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<String>,
    /// Environment on top of our own.
    pub environment: Vec<(String, String)>,
}

/// A process that is ready.
#[derive(Debug)]
pub struct Running {
    /// Its name.
    pub name: String,
    /// Its process id.
    pub pid: u32,
    /// What it said when it was ready.
    pub ready: Value,
    process: Child,
    stdin: Option<ChildStdin>,
    evidence: Evidence,
}

type Evidence = Arc<Mutex<Vec<String>>>;

impl Running {
    /// Starts a process and waits until it is ready.
    ///
    /// # Errors
    /// It cannot be started, dies, or is not ready in time; the fault holds its last words.
    pub async fn start(
        spec: &Spec,
        lines: &LineSink,
        readers: &TaskTracker,
    ) -> Result<Self, Fault> {
        let failed =
            |why: String, fix: &str| Fault::new(format!("{} did not start.", spec.name), why, fix);
        let mut process = Command::new(&spec.program)
            .args(&spec.arguments)
            .envs(spec.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // Its own group: Ctrl-C reaches us alone, and we stop the children in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| {
                let why = format!("{}: {error}", spec.program.display());
                failed(why, "cargo build --workspace")
            })?;
        let evidence = Evidence::default();
        let (ready_sender, ready) = oneshot::channel();
        if let Some(stdout) = process.stdout.take() {
            let (name, lines) = (spec.name.clone(), Arc::clone(lines));
            let mut ready_sender = Some(ready_sender);
            readers.spawn(each_line(stdout, move |line| {
                if let Some(ready) = ready_line(line).filter(|_| ready_sender.is_some()) {
                    // Nobody waits any more when the start has already failed.
                    let _ = ready_sender.take().map(|sender| sender.send(ready));
                } else {
                    lines(&name, line);
                }
            }));
        }
        if let Some(stderr) = process.stderr.take() {
            let (name, lines) = (spec.name.clone(), Arc::clone(lines));
            let kept = Arc::clone(&evidence);
            readers.spawn(each_line(stderr, move |line| {
                let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
                if kept.len() == EVIDENCE_LINES_MAX {
                    kept.remove(0);
                }
                kept.push(line.to_owned());
                drop(kept);
                lines(&name, line);
            }));
        }
        let stdin = process.stdin.take();
        let pid = process.id().unwrap_or_default();
        let name = spec.name.clone();
        let mut running = Self { name, pid, ready: Value::Null, process, stdin, evidence };
        tokio::select! {
            ready = ready => if let Ok(ready) = ready {
                running.ready = ready;
                return Ok(running);
            },
            () = tokio::time::sleep(READY_WITHIN) => {
                let why = format!("it was not ready after {} s", READY_WITHIN.as_secs());
                return Err(failed(why, "look at its last lines above, or run `cargo stack doctor`"));
            }
        }
        // Its output closed before it was ready.
        let status = running.exited().await;
        let said = running.last_words();
        let why = if said.is_empty() { status.to_string() } else { said };
        Err(failed(why, "see the reason above, or run `cargo stack doctor`"))
    }

    /// Where it listens, as it said when it was ready.
    #[must_use]
    pub fn address(&self) -> &str {
        self.ready["address"].as_str().unwrap_or_default()
    }

    /// Waits until it exits; how it did.
    pub async fn exited(&mut self) -> ExitStatus {
        // Waiting for our own child fails only if it was already reaped.
        self.process.wait().await.unwrap_or_default()
    }

    /// The last lines of its standard error.
    #[must_use]
    pub fn last_words(&self) -> String {
        self.evidence.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// Asks it to stop and waits; kills it if it does not.
    pub async fn stop(mut self) {
        drop(self.stdin.take());
        if tokio::time::timeout(STOP_WITHIN, self.process.wait()).await.is_err() {
            // Already gone is as good as killed.
            let _ = self.process.kill().await;
        }
    }
}

fn ready_line(line: &str) -> Option<Value> {
    let value: Value =
        serde_json::from_str(line.strip_prefix("{\"ready\":")?.strip_suffix('}')?).ok()?;
    Some(value)
}

/// The line by which a child says that it is ready.
#[must_use]
pub fn ready_text(ready: &Value) -> String {
    format!("{{\"ready\":{ready}}}")
}

async fn each_line(output: impl AsyncRead + Unpin, mut each: impl FnMut(&str)) {
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    // Bytes, not text: a handler may print anything.
    while let Ok(1..) = reader.read_until(b'\n', &mut line).await {
        each(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(script: &str) -> Spec {
        Spec {
            name: "child".to_owned(),
            program: "/bin/sh".into(),
            arguments: vec!["-c".to_owned(), script.to_owned()],
            environment: vec![("GREETING".to_owned(), "hello".to_owned())],
        }
    }

    fn sink() -> (LineSink, Arc<Mutex<Vec<String>>>) {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&seen);
        (Arc::new(move |_, line: &str| sink.lock().unwrap().push(line.to_owned())), seen)
    }

    #[tokio::test]
    async fn a_child_is_ready_when_it_says_so_and_stops_when_its_input_closes() {
        let (lines, seen) = sink();
        let readers = TaskTracker::new();
        let script = "echo $GREETING; echo '{\"ready\":{\"address\":\"here\"}}'; cat; echo bye";
        let running = Running::start(&spec(script), &lines, &readers).await.unwrap();
        assert_eq!(running.address(), "here");
        running.stop().await;
        readers.close();
        readers.wait().await;
        assert_eq!(*seen.lock().unwrap(), ["hello", "bye"]);
        assert_eq!(ready_line(&ready_text(&json!({"a": 1}))), Some(json!({"a": 1})));
    }

    #[tokio::test]
    async fn a_child_that_dies_leaves_its_last_words() {
        let (lines, _) = sink();
        let readers = TaskTracker::new();
        let script = "echo 'the port is taken' >&2; exit 3";
        let fault = Running::start(&spec(script), &lines, &readers).await.unwrap_err();
        assert_eq!(fault.why, "the port is taken");
        let missing = Spec { program: "/nonexistent".into(), ..spec("") };
        let fault = Running::start(&missing, &lines, &readers).await.unwrap_err();
        assert!(fault.why.contains("/nonexistent"), "{fault}");
    }
}
