//! The host of one app as a process of its own, and what a process has used.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use host::{HandlerStatus, Host, LogLine, Options};
use tokio_util::sync::CancellationToken;

use crate::Result;

/// Ticks of `/proc/<pid>/stat` in a second: `USER_HZ`, which Linux fixes at 100.
const TICKS_PER_SECOND: u64 = 100;

/// Runs the app until standard input closes. Says on standard output where it listens, and then
/// when the handler answers; the log goes to standard error.
pub(crate) fn serve(root: &str) -> Result<()> {
    let settings: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect();
    host::runtime()?.block_on(async {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let log = std::sync::Arc::new(|line: LogLine| {
            // In one write, as `cargo stack` prints it.
            let _ = std::io::stderr().lock().write_all(format!("{}\n", line.text).as_bytes());
        });
        let host = Host::bind(Options::new(root, listen, settings, log)).await?;
        println!("{} {}", host.local_addr(), host.handler_port());
        let stop = CancellationToken::new();
        std::thread::spawn({
            let stop = stop.clone();
            move || {
                let _ = std::io::stdin().read(&mut [0]);
                stop.cancel();
            }
        });
        let mut status = host.handler_status();
        let ready = async move {
            match status.wait_for(|status| matches!(status, HandlerStatus::Ready { .. })).await {
                Ok(status) => println!("{:?}", *status),
                Err(_) => println!("gone"),
            }
            std::future::pending::<()>().await;
        };
        tokio::select! {
            outcome = host.run(stop) => Ok(outcome?),
            () = ready => Ok(()),
        }
    })
}

/// A running host; killed when dropped, and the handler with it.
pub(crate) struct Process {
    child: Child,
    stdout: BufReader<ChildStdout>,
    /// Where callers reach the host.
    pub(crate) address: SocketAddr,
    /// Where the handler listens.
    pub(crate) handler: SocketAddr,
    /// Known once it is ready.
    handler_pid: u32,
}

impl Process {
    /// Starts the host of the app in `root`; it is not ready yet.
    pub(crate) fn start(root: &Path, settings: &[(&str, String)]) -> Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("host")
            .arg(root)
            .envs(settings.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().ok_or("no standard output")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let (address, port) = line.trim().split_once(' ').ok_or("the host did not start")?;
        let handler = SocketAddr::from(([127, 0, 0, 1], port.parse()?));
        Ok(Self { child, stdout, address: address.parse()?, handler, handler_pid: 0 })
    }

    /// Waits until the handler answers.
    pub(crate) fn wait_until_ready(&mut self) -> Result<()> {
        let mut line = String::new();
        self.stdout.read_line(&mut line)?;
        let digits: String = line.chars().filter(char::is_ascii_digit).collect();
        self.handler_pid = digits.parse().map_err(|_| format!("not ready: {line}"))?;
        Ok(())
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn handler_pid(&self) -> u32 {
        self.handler_pid
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Closed, standard input asks for a clean stop, which takes the handler along.
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// Processor time that a process has used so far, in user and system mode.
pub(crate) fn processor_time(pid: u32) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name, in parentheses, may hold spaces; what follows starts with field 3.
    let fields = stat.rsplit_once(')').ok_or("no name in stat")?.1;
    let field = |number: usize| -> Result<u64> {
        Ok(fields.split_whitespace().nth(number - 3).ok_or("too few fields")?.parse()?)
    };
    Ok(Duration::from_millis((field(14)? + field(15)?) * 1_000 / TICKS_PER_SECOND))
}

/// A value of `/proc/<pid>/<file>` in megabytes.
pub(crate) fn megabytes(pid: u32, file: &str, name: &str) -> Result<f64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/{file}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no such value")?;
    Ok(kib.parse::<f64>()? * 1_024.0 / 1_000_000.0)
}
