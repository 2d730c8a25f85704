//! An app directory of its own per test, a host on it, and its log to wait on.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use host::{Host, HostError, Level, LogLine, Options};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::fixture;

/// No wait of a test is longer; hitting it is a failure that prints the log.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// A directory laid out as a Function App. Removed when dropped.
pub(crate) struct App {
    pub(crate) root: PathBuf,
    pub(crate) settings: BTreeMap<String, String>,
}

impl App {
    /// With `host.json` for the fixture handler, changed by `change`.
    pub(crate) fn new(change: impl FnOnce(&mut Value)) -> Self {
        let root = std::env::temp_dir().join(format!("host-it-{}", Uuid::new_v4()));
        std::fs::create_dir(&root).unwrap();
        let mut host = json!({
            "version": "2.0",
            "extensionBundle": {
                "id": "Microsoft.Azure.Functions.ExtensionBundle", "version": "[4.*, 5.0.0)"
            },
            "customHandler": {
                "description": {
                    "defaultExecutablePath": "handler", "arguments": fixture::ARGUMENTS
                },
                "enableProxyingHttpRequest": true
            }
        });
        change(&mut host);
        std::fs::write(root.join("host.json"), host.to_string()).unwrap();
        std::os::unix::fs::symlink(std::env::current_exe().unwrap(), root.join("handler")).unwrap();
        Self { root, settings: BTreeMap::new() }
    }

    pub(crate) fn function(self, name: &str, bindings: &Value) -> Self {
        self.function_json(name, &json!({ "bindings": bindings }))
    }

    /// With all of its `function.json`.
    pub(crate) fn function_json(self, name: &str, file: &Value) -> Self {
        std::fs::create_dir(self.root.join(name)).unwrap();
        std::fs::write(self.root.join(name).join("function.json"), file.to_string()).unwrap();
        self
    }

    /// An HTTP function on `route`, any method.
    pub(crate) fn http(self, name: &str, route: &str) -> Self {
        let bindings = json!([
            { "type": "httpTrigger", "direction": "in", "name": "req", "route": route },
            { "type": "http", "direction": "out", "name": "res" }
        ]);
        self.function(name, &bindings)
    }

    pub(crate) fn setting(mut self, name: &str, value: impl Into<String>) -> Self {
        self.settings.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn replace_handler(&self, content: &str, mode: u32) {
        let path = self.root.join("handler");
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) async fn bind(&self, log: &Log) -> Result<Host, HostError> {
        self.bind_with(log, |_| {}).await
    }

    async fn bind_with(
        &self,
        log: &Log,
        change: impl FnOnce(&mut Options),
    ) -> Result<Host, HostError> {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut options = Options::new(&self.root, listen, self.settings.clone(), log.sink());
        change(&mut options);
        Host::bind(options).await
    }

    /// Binds and runs. The app stays alive with what is returned.
    pub(crate) async fn start(self) -> Running {
        self.start_with(|_| {}).await
    }

    pub(crate) async fn start_with(self, change: impl FnOnce(&mut Options)) -> Running {
        let log = Log::default();
        let host = self.bind_with(&log, change).await.unwrap();
        let stop = CancellationToken::new();
        Running {
            address: host.local_addr(),
            status: host.handler_status(),
            task: Some(TaskTracker::new().spawn(host.run(stop.clone()))),
            stop,
            log,
            app: self,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.root
    }
}

impl Drop for App {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

/// Collects the host's log and lets tests wait on it.
#[derive(Clone)]
pub(crate) struct Log(Arc<watch::Sender<Vec<LogLine>>>);

impl Default for Log {
    fn default() -> Self {
        Self(Arc::new(watch::Sender::new(Vec::new())))
    }
}

impl Log {
    pub(crate) fn sink(&self) -> host::LogSink {
        let log = self.clone();
        Arc::new(move |line| log.0.send_modify(|lines| lines.push(line)))
    }

    /// Waits until `count` lines hold `text`, and returns them.
    pub(crate) async fn wait_for(&self, text: &str, count: usize) -> Vec<LogLine> {
        let found = |lines: &Vec<LogLine>| {
            lines.iter().filter(|line| line.text.contains(text)).cloned().collect::<Vec<_>>()
        };
        let mut seen = self.0.subscribe();
        let waited = timeout(PATIENCE, seen.wait_for(|lines| found(lines).len() >= count)).await;
        match waited {
            Ok(Ok(lines)) => found(&lines),
            _ => panic!("{count} × \"{text}\" not seen in:\n{}", self.text()),
        }
    }

    /// The lines that hold `text` by now.
    pub(crate) fn lines(&self, text: &str) -> Vec<LogLine> {
        self.0.borrow().iter().filter(|line| line.text.contains(text)).cloned().collect()
    }

    pub(crate) fn text(&self) -> String {
        let lines = self.0.borrow();
        lines.iter().map(|l| format!("{:?} {}: {}\n", l.level, l.category, l.text)).collect()
    }

    pub(crate) fn at(&self, level: Level) -> Vec<String> {
        self.0.borrow().iter().filter(|l| l.level == level).map(|l| l.text.clone()).collect()
    }

    /// What the fixture printed behind `tag`, as JSON; waits for `count` of them.
    pub(crate) async fn said(&self, tag: &str, count: usize) -> Vec<Value> {
        let prefix = format!("{tag} ");
        self.wait_for(&prefix, count)
            .await
            .iter()
            .filter_map(|line| serde_json::from_str(line.text.strip_prefix(&prefix)?).ok())
            .collect()
    }
}

/// A running host. Stop it with [`Running::stop`]; dropping it aborts it.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) status: watch::Receiver<host::HandlerStatus>,
    pub(crate) stop: CancellationToken,
    pub(crate) log: Log,
    pub(crate) app: App,
    task: Option<JoinHandle<Result<(), HostError>>>,
}

impl Running {
    /// The process id of the handler, once it answers.
    pub(crate) async fn pid(&mut self) -> u32 {
        self.pid_other_than(0).await
    }

    pub(crate) async fn pid_other_than(&mut self, old: u32) -> u32 {
        let ready = self
            .status
            .wait_for(|status| matches!(status, host::HandlerStatus::Ready { pid } if *pid != old));
        match timeout(PATIENCE, ready).await {
            Ok(Ok(status)) => match *status {
                host::HandlerStatus::Ready { pid } => pid,
                other => panic!("{other:?}"),
            },
            _ => panic!("the handler is not ready:\n{}", self.log.text()),
        }
    }

    pub(crate) async fn status(&mut self, wanted: host::HandlerStatus) {
        let seen = timeout(PATIENCE, self.status.wait_for(|status| *status == wanted)).await;
        assert!(seen.is_ok(), "not {wanted:?}:\n{}", self.log.text());
    }

    /// Waits until the host ends by itself.
    pub(crate) async fn ended(mut self) -> (Result<(), HostError>, Log) {
        let task = self.task.take().unwrap();
        let outcome = timeout(PATIENCE, task).await;
        let outcome = outcome.unwrap_or_else(|_| panic!("still running:\n{}", self.log.text()));
        (outcome.unwrap(), self.log.clone())
    }

    pub(crate) async fn stop(self) -> Log {
        self.stop.cancel();
        let (outcome, log) = self.ended().await;
        outcome.unwrap();
        log
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
        }
    }
}

/// Whether a process exists and is not a zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim().starts_with('Z'))
}

/// Ends a process of this test the hard way.
pub(crate) fn kill(pid: u32) {
    let status = std::process::Command::new("kill").args(["-9", &pid.to_string()]).status();
    assert!(status.unwrap().success());
}
