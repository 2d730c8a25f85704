//! The executable in one of its roles, as a process of its own.

use std::ffi::OsStr;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// Ample for anything that happens at once, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A service that is ready. Killed without warning when dropped.
pub(crate) struct Role {
    process: Child,
    /// Where it listens.
    pub(crate) address: String,
    /// What it said when it was ready.
    pub(crate) ready: Value,
}

impl Role {
    /// Runs `stack serve` with these arguments.
    pub(crate) async fn start(arguments: &[&OsStr]) -> Self {
        Self::start_as(Command::new(env!("CARGO_BIN_EXE_stack")), arguments).await
    }

    /// The same by way of another command, which ends in the executable.
    pub(crate) async fn start_as(mut command: Command, arguments: &[&OsStr]) -> Self {
        let ready_file = std::env::temp_dir().join(format!("role-{}.json", uuid::Uuid::new_v4()));
        let process = command
            .arg("serve")
            .args(arguments)
            .args(["--until-stdin-closes", "--ready-file"])
            .arg(&ready_file)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // From here on it is killed however the test ends.
        let mut role = Self { process, address: String::new(), ready: Value::Null };
        let begun = Instant::now();
        let text = loop {
            if let Ok(text) = std::fs::read_to_string(&ready_file) {
                break text;
            }
            assert!(role.process.try_wait().unwrap().is_none(), "it did not start");
            assert!(begun.elapsed() < SOON, "it is not ready");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        std::fs::remove_file(ready_file).unwrap();
        role.ready = serde_json::from_str(&text).unwrap();
        role.address = role.ready["address"].as_str().unwrap().to_owned();
        role
    }

    /// Ends it without warning, as SIGKILL does.
    pub(crate) fn kill(&self) {
        let pid = self.process.id().to_string();
        assert!(Command::new("kill").args(["-KILL", &pid]).status().unwrap().success());
    }

    /// Memory it has now and at most had, in bytes: `VmRSS` and `VmHWM` of its status.
    pub(crate) fn memory(&self) -> (u64, u64) {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()));
        let status = status.unwrap();
        let of = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
            kilobytes * 1_024
        };
        (of("VmRSS:"), of("VmHWM:"))
    }

    /// Waits until it has ended by itself; `None` if a signal ended it.
    pub(crate) async fn exit_code(&mut self) -> Option<i32> {
        loop {
            if let Some(status) = self.process.try_wait().unwrap() {
                return status.code();
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(mut self) {
        drop(self.process.stdin.take());
        self.exit_code().await;
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
