//! The broker as a process of its own.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use bus::{Options, Server};
use tokio_util::sync::CancellationToken;

use crate::Result;

const NAMESPACE: &str = r#"{"queues": [{"name": "q0"}, {"name": "q1"}, {"name": "latency"},
    {"name": "batched", "maxSizeInMegabytes": 4096},
    {"name": "backlog", "maxSizeInMegabytes": 4096}]}"#;

/// How it keeps messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Durable,
    NoFsync,
    Memory,
}

impl Mode {
    pub(crate) const ALL: [Mode; 3] = [Mode::Durable, Mode::NoFsync, Mode::Memory];

    /// As an argument names it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Mode::Durable => "durable",
            Mode::NoFsync => "no-fsync",
            Mode::Memory => "memory",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Mode::Durable => "journal, answered once it is on the disk",
            Mode::NoFsync => "journal, answered once the system has it (--no-fsync)",
            Mode::Memory => "in memory (--ephemeral)",
        })
    }
}

/// Serves until standard input closes.
pub(crate) fn serve(arguments: &[String]) -> Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (how, data) = (arguments[0].as_str(), PathBuf::from(&arguments[1]));
    runtime.block_on(async {
        let server = Server::bind(Options {
            namespace: serde_json::from_str(NAMESPACE)?,
            data: (how != Mode::Memory.name()).then_some(data),
            fsync: how == Mode::Durable.name(),
            ..Options::default()
        })
        .await?;
        println!("{}", server.local_addr());
        let stop = CancellationToken::new();
        std::thread::spawn({
            let stop = stop.clone();
            move || {
                let _ = std::io::stdin().read(&mut [0]);
                stop.cancel();
            }
        });
        Ok(server.run(stop).await?)
    })
}

/// What a client has to know of a broker.
#[derive(Debug, Clone)]
pub(crate) struct Door {
    pub(crate) address: SocketAddr,
    pub(crate) user: String,
    pub(crate) password: String,
    /// What stands before the name of a queue in its address.
    pub(crate) prefix: &'static str,
    /// Whether it answers what a receiver settles (`rcv-settle-mode` second).
    pub(crate) answers_settlement: bool,
}

impl Door {
    /// RabbitMQ with its AMQP 1.0 plugin, as it is installed; version 3 declares a queue that is
    /// addressed so.
    pub(crate) fn rabbitmq(address: SocketAddr) -> Door {
        let guest = || "guest".to_owned();
        let (user, password, prefix) = (guest(), guest(), "/queue/");
        Door { address, user, password, prefix, answers_settlement: false }
    }
}

/// A broker under load, and who knows what it costs.
pub(crate) trait Broker {
    /// How to reach it.
    fn door(&self) -> &Door;

    /// Processor time it has taken, in seconds.
    fn seconds(&self) -> Result<f64>;
}

/// A broker that somebody else has started: its processes are those of that name.
pub(crate) struct Elsewhere {
    pub(crate) door: Door,
    pub(crate) process_name: &'static str,
}

impl Broker for Elsewhere {
    fn door(&self) -> &Door {
        &self.door
    }

    fn seconds(&self) -> Result<f64> {
        let mut seconds = 0.0;
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
            if name.trim() == self.process_name {
                seconds += seconds_of(&entry.path().join("stat").display().to_string())?;
            }
        }
        Ok(seconds)
    }
}

/// A running broker; killed when dropped, its files gone.
pub(crate) struct Process {
    mode: Mode,
    data: PathBuf,
    child: Child,
    door: Door,
    keep: bool,
}

impl Broker for Process {
    fn door(&self) -> &Door {
        &self.door
    }

    fn seconds(&self) -> Result<f64> {
        seconds_of(&format!("/proc/{}/stat", self.child.id()))
    }
}

impl Process {
    pub(crate) fn start(mode: Mode) -> Result<Process> {
        let data = std::env::temp_dir().join(format!("bus-bench-{}", std::process::id()));
        Process::start_in(mode, data)
    }

    fn start_in(mode: Mode, data: PathBuf) -> Result<Process> {
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve".to_owned(), mode.name().to_owned(), data.display().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let known = Options::default();
        let door = Door {
            address: line.trim().parse()?,
            user: known.shared_access_key_name,
            password: known.shared_access_key,
            prefix: "",
            answers_settlement: true,
        };
        Ok(Process { mode, data, child, door, keep: false })
    }

    /// Kills it and starts it again with the same journal.
    pub(crate) fn restart(mut self) -> Result<Process> {
        self.keep = true;
        let (mode, data) = (self.mode, self.data.clone());
        drop(self);
        Process::start_in(mode, data)
    }

    /// Resident memory, as Linux counts it.
    pub(crate) fn resident_mb(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()).ok_or("no VmRSS")?;
        Ok(kib.parse::<f64>()? * 1_024.0 / 1_000_000.0)
    }
}

/// Processor time that this process has taken, in seconds.
pub(crate) fn own_seconds() -> Result<f64> {
    seconds_of("/proc/self/stat")
}

/// User and system time: fields 14 and 15, in hundredths of a second.
fn seconds_of(path: &str) -> Result<f64> {
    let text = std::fs::read_to_string(path)?;
    let fields = text.rsplit_once(") ").ok_or("no process name")?.1;
    let times = fields.split(' ').skip(11).take(2);
    let ticks = times.map(str::parse::<u32>).sum::<std::result::Result<u32, _>>()?;
    Ok(f64::from(ticks) / 100.0)
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if !self.keep {
            let _ = std::fs::remove_dir_all(&self.data);
        }
    }
}
