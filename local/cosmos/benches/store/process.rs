//! The service as a process of its own, and what processes cost.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The unit of processor time in `/proc`: on Linux always a hundredth of a second
/// (<https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html>, `USER_HZ`).
const TICK: Duration = Duration::from_millis(10);

/// The service as a process; killed when dropped.
pub(crate) struct Service {
    process: Child,
    pub(crate) address: SocketAddr,
    pub(crate) started_in: Duration,
}

impl Service {
    pub(crate) async fn start(folder: &Path, fsync: bool) -> Self {
        let ready = folder.join("address");
        let _ = std::fs::remove_file(&ready);
        let begun = Instant::now();
        let process = Command::new(std::env::current_exe().unwrap())
            .arg(super::SERVE)
            .arg(folder)
            .args((!fsync).then_some(super::NO_FSYNC))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let address = loop {
            if let Ok(text) = std::fs::read_to_string(&ready) {
                break text.parse().unwrap();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        Self { process, address, started_in: begun.elapsed() }
    }

    pub(crate) fn id(&self) -> u32 {
        self.process.id()
    }

    /// Resident memory in MB.
    pub(crate) fn resident_mb(&self) -> f64 {
        let path = format!("/proc/{}/status", self.process.id());
        let status = std::fs::read_to_string(path).unwrap_or_default();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
        let kb = line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok());
        kb.unwrap_or(f64::NAN) / 1024.0
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a process has used so far, in user and in kernel mode.
pub(crate) fn processor_time(id: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
    // The name of the program may hold spaces; what follows its parenthesis does not.
    let fields: Vec<&str> =
        stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<u32>().ok()).unwrap_or(0);
    TICK * (ticks(11) + ticks(12))
}
