//! No handler outlives its host, even when the host is killed.
//!
//! In Azure a container ends as a whole; on a desk a host that gets SIGKILL would leave its handler
//! behind, connected to everything. A shell waits on a pipe that only the host holds open: when the
//! host is gone, by whatever cause, the pipe closes and the shell kills the handler.

use std::process::Stdio;

use tokio::process::{Child, Command};

const SHELL: &str = "/bin/sh";
const SCRIPT: &str = "read -r _; kill -9 \"$1\" 2>/dev/null";

/// Watches one handler process until dropped.
pub(crate) struct Watchdog {
    shell: Child,
}

impl Watchdog {
    /// Starts watching the process `pid`. The error is that of starting the shell.
    pub(crate) fn start(pid: u32) -> std::io::Result<Self> {
        let shell = Command::new(SHELL)
            .args(["-c", SCRIPT, "handler-watchdog", &pid.to_string()])
            .env_clear()
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C is for the host alone.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { shell })
    }

    /// Ends the watch. Has to be done while the process, or its exit status, is still there: later
    /// its id may belong to another one.
    pub(crate) async fn end(mut self) {
        // It can only be gone already, which is as good.
        let _ = self.shell.kill().await;
    }
}
