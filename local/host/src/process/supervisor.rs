//! The loop around the handler process: start, wait until it answers, watch, restart or give up.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::process::Child;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::command::Launch;
use super::output::{LastErrors, Stream, classify, lines};
use super::restarts::{ErrorBucket, Exit};
use super::watchdog::Watchdog;
use crate::error::{HostError, Problem};
use crate::http::client::HandlerClient;
use crate::log::{Level, Logger, category};

/// Pause between two readiness probes, as in the Azure host.
const PROBE_INTERVAL: Duration = Duration::from_millis(25);

/// How long the output pipes of a dead handler are read. A grandchild may hold them open.
const PIPE_DRAIN: Duration = Duration::from_secs(1);

/// Restart requests that may wait; more than one at a time is one restart anyway.
const RESTART_REQUESTS_MAX: usize = 16;

/// How the handler is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandlerStatus {
    /// Started, or about to be; does not answer yet.
    Starting,
    /// Answers.
    Ready {
        /// Process id.
        pid: u32,
    },
    /// Ended with code 0. The host does not start it again, and every invocation fails.
    Exited,
    /// The host has ended it, or given up.
    Stopped,
}

/// What the rest of the host sees of the handler.
#[derive(Clone)]
pub(crate) struct HandlerLink {
    status: watch::Receiver<HandlerStatus>,
    restart: mpsc::Sender<u32>,
}

impl HandlerLink {
    pub(crate) fn status(&self) -> watch::Receiver<HandlerStatus> {
        self.status.clone()
    }

    /// The process that answers at present.
    pub(crate) fn pid(&self) -> Option<u32> {
        match *self.status.borrow() {
            HandlerStatus::Ready { pid } => Some(pid),
            _ => None,
        }
    }

    /// Waits until the handler was started and is worth a request: it answers, or it never will.
    pub(crate) async fn started(&self) -> HandlerStatus {
        let mut status = self.status.clone();
        match status.wait_for(|status| *status != HandlerStatus::Starting).await {
            Ok(status) => *status,
            Err(_) => HandlerStatus::Stopped,
        }
    }

    /// Waits until the process `pid` is known to be gone, for at most `patience`.
    pub(crate) async fn gone(&self, pid: u32, patience: Duration) {
        let mut status = self.status.clone();
        let other = |status: &HandlerStatus| *status != HandlerStatus::Ready { pid };
        // Still there: then the connection broke for another reason.
        let _ = timeout(patience, status.wait_for(other)).await;
    }

    /// Asks for a restart of the process `pid`. Nothing happens if it is another one by then.
    pub(crate) fn restart(&self, pid: u32) {
        // A full queue means that a restart is already on its way.
        let _ = self.restart.try_send(pid);
    }
}

/// Owns the handler process. Dropping it kills the process.
pub(crate) struct Supervisor {
    launch: Launch,
    client: HandlerClient,
    initialization_timeout: Duration,
    stderr_is_for_errors_only: bool,
    log: Logger,
    status: watch::Sender<HandlerStatus>,
    restarts: mpsc::Receiver<u32>,
    errors: ErrorBucket,
    stop_accepting: CancellationToken,
}

/// Why one run of the process ended.
enum End {
    Shutdown,
    Exited { code: Option<i32>, how: String, last_errors: Vec<String> },
    NotReady,
    RestartRequested,
}

impl End {
    fn is_error(&self) -> bool {
        match self {
            Self::Exited { code, .. } => Exit::of(*code) == Exit::Error,
            Self::NotReady => true,
            Self::Shutdown | Self::RestartRequested => false,
        }
    }
}

impl Supervisor {
    /// `stop_accepting` is cancelled when the handler has failed for the last time, before anybody
    /// waiting for it learns so: what they give back must not come to this host again.
    pub(crate) fn new(
        launch: Launch,
        client: HandlerClient,
        initialization_timeout: Duration,
        stderr_is_for_errors_only: bool,
        log: Logger,
        stop_accepting: CancellationToken,
    ) -> (Self, HandlerLink) {
        let (status, status_seen) = watch::channel(HandlerStatus::Starting);
        let (restart, restarts) = mpsc::channel(RESTART_REQUESTS_MAX);
        let supervisor = Self {
            launch,
            client,
            initialization_timeout,
            stderr_is_for_errors_only,
            log,
            status,
            restarts,
            errors: ErrorBucket::default(),
            stop_accepting,
        };
        (supervisor, HandlerLink { status: status_seen, restart })
    }

    /// Runs the handler until `stop`, then kills it.
    ///
    /// # Errors
    /// When the handler cannot be started, or failed for the third time.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), HostError> {
        let outcome = loop {
            self.status.send_replace(HandlerStatus::Starting);
            let (end, give_up) = match self.run_once(&stop).await {
                Ok(ended) => ended,
                Err(problem) => break Err(HostError::GaveUp(problem)),
            };
            let why = match end {
                End::Shutdown => break Ok(()),
                End::RestartRequested => {
                    self.line(Level::Information, "Restarting the handler.");
                    continue;
                }
                End::NotReady => {
                    self.line(Level::Error, "Initializing HttpWorker timed out.");
                    format!(
                        "it did not answer GET http://127.0.0.1:{}/ within {:?}",
                        self.launch.port, self.initialization_timeout
                    )
                }
                End::Exited { code, how, last_errors } => match Exit::of(code) {
                    Exit::Final => {
                        self.line(
                            Level::Error,
                            "The handler exited with code 0. The host takes that as intended and \
                             does not restart it: every invocation fails from now on. Fix: do not \
                             end by yourself, or exit with 1 to be restarted.",
                        );
                        self.status.send_replace(HandlerStatus::Exited);
                        stop.cancelled().await;
                        break Ok(());
                    }
                    Exit::Requested => {
                        self.line(
                            Level::Information,
                            "The handler exited with code 200 (intentional restart).",
                        );
                        continue;
                    }
                    Exit::Error if last_errors.is_empty() => how,
                    Exit::Error => format!("{how}: {}", last_errors.join(" | ")),
                },
            };
            self.line(
                Level::Error,
                format!("The handler failed ({} of 3 errors): {why}", self.errors.count()),
            );
            if give_up {
                self.line(
                    Level::Error,
                    "Exceeded http worker restart retry count. Shutting down Functions Host",
                );
                break Err(HostError::GaveUp(Problem::new(
                    format!("the handler {} failed three times", self.launch.program().display()),
                    format!("last: {why}"),
                    "read its output above; start it by hand with FUNCTIONS_CUSTOMHANDLER_PORT set",
                )));
            }
        };
        self.status.send_replace(HandlerStatus::Stopped);
        outcome
    }

    /// One life of the process, from start to end, and whether it was the last.
    async fn run_once(&mut self, stop: &CancellationToken) -> Result<(End, bool), Problem> {
        let mut child = self.launch.command().spawn().map_err(|error| {
            Problem::new(
                format!("the handler {} cannot be started", self.launch.program().display()),
                error.to_string(),
                "check that it is built for this machine and executable (chmod 755)",
            )
        })?;
        let last_errors = Arc::new(Mutex::new(LastErrors::default()));
        let pipes = self.follow_output(&mut child, &last_errors);
        let pid = child.id().unwrap_or_default();
        let watchdog = Watchdog::start(pid).inspect_err(|error| {
            let text = format!("Nothing ends the handler should the host be killed: {error}");
            self.line(Level::Debug, text);
        });

        let end = tokio::select! {
            biased;
            () = stop.cancelled() => End::Shutdown,
            exit = child.wait() => Self::exited(exit),
            ready = timeout(self.initialization_timeout, self.client.wait_until_answering(
                PROBE_INTERVAL,
            )) => match ready {
                Ok(()) => {
                    self.line(Level::Information, "Worker process started and initialized.");
                    self.status.send_replace(HandlerStatus::Ready { pid });
                    self.watch(&mut child, pid, stop).await
                }
                Err(_) => End::NotReady,
            },
        };
        let give_up = end.is_error() && self.errors.push(Instant::now());
        if give_up {
            self.stop_accepting.cancel();
        }
        // Nobody may be told that it answers once it is being ended.
        self.status.send_replace(HandlerStatus::Starting);
        // SIGKILL to the process alone, as the Azure host does. It gets no SIGTERM there either.
        if child.id().is_some()
            && let Err(error) = child.kill().await
        {
            self.line(Level::Warning, format!("The handler could not be killed: {error}"));
        }
        if let Ok(watchdog) = watchdog {
            watchdog.end().await;
        }
        let _ = timeout(PIPE_DRAIN, pipes.wait()).await;
        let end = match end {
            End::Exited { code, how, .. } => {
                let mut last = last_errors.lock().unwrap_or_else(PoisonError::into_inner);
                End::Exited { code, how, last_errors: last.take() }
            }
            other => other,
        };
        Ok((end, give_up))
    }

    async fn watch(&mut self, child: &mut Child, pid: u32, stop: &CancellationToken) -> End {
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return End::Shutdown,
                exit = child.wait() => return Self::exited(exit),
                Some(asked) = self.restarts.recv() => {
                    // Several invocations can run into their timeout at once: one restart is meant.
                    if asked == pid {
                        return End::RestartRequested;
                    }
                }
            }
        }
    }

    fn exited(exit: std::io::Result<std::process::ExitStatus>) -> End {
        let (code, how) = match exit {
            Ok(status) => (status.code(), status.to_string()),
            Err(error) => (None, error.to_string()),
        };
        End::Exited { code, how, last_errors: Vec::new() }
    }

    fn follow_output(&self, child: &mut Child, last: &Arc<Mutex<LastErrors>>) -> TaskTracker {
        let pipes = TaskTracker::new();
        if let Some(stdout) = child.stdout.take() {
            let log = self.log.clone();
            pipes.spawn(async move {
                lines(stdout, |line| {
                    let found = classify(Stream::Out, line);
                    log.line(found.level, found.category, found.text);
                })
                .await;
            });
        }
        if let Some(stderr) = child.stderr.take() {
            let (log, last) = (self.log.clone(), Arc::clone(last));
            let stream = Stream::Err { errors_only: self.stderr_is_for_errors_only };
            pipes.spawn(async move {
                lines(stderr, |line| {
                    let found = classify(stream, line);
                    if found.is_error {
                        last.lock().unwrap_or_else(PoisonError::into_inner).push(found.text);
                    }
                    log.line(found.level, found.category, found.text);
                })
                .await;
            });
        }
        pipes.close();
        pipes
    }

    fn line(&self, level: Level, text: impl Into<String>) {
        self.log.line(level, category::WORKER, text);
    }
}
