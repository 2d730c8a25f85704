//! The broker as a process of its own.

use std::fmt;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
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
            operations: Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))),
            ..Options::default()
        })
        .await?;
        let operations = server.operations_addr().ok_or("no endpoint for operators")?;
        println!("{} {operations}", server.local_addr());
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

/// Where the brokers of one run keep their data. It is deleted in the end: a disk that is told
/// what is free is busy with that, and the next measurement would show it.
pub(crate) struct Folder {
    path: PathBuf,
    used: std::cell::Cell<u32>,
}

impl Folder {
    pub(crate) fn new() -> Folder {
        let path = std::env::temp_dir().join(format!("bus-bench-{}", std::process::id()));
        Folder { path, used: std::cell::Cell::new(0) }
    }

    /// A place that nobody has used.
    fn fresh(&self) -> PathBuf {
        self.used.set(self.used.get() + 1);
        self.path.join(self.used.get().to_string())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Writes of the journal, each with its sync.
#[derive(Debug, Clone, Default)]
pub(crate) struct Writes {
    /// So many took as long as this at most, by seconds.
    below: Vec<(f64, u64)>,
    count: u64,
    seconds: f64,
}

impl Writes {
    /// What came after `before`.
    pub(crate) fn since(&self, before: &Writes) -> Writes {
        let below = self.below.iter().zip(&before.below);
        Writes {
            below: below.map(|((le, now), (_, then))| (*le, now - then)).collect(),
            count: self.count - before.count,
            seconds: self.seconds - before.seconds,
        }
    }

    fn over(&self, seconds: f64) -> u64 {
        let below = self.below.iter().find(|(le, _)| *le >= seconds);
        self.count - below.map_or(self.count, |(_, count)| *count)
    }
}

impl fmt::Display for Writes {
    #[expect(clippy::cast_precision_loss, reason = "a count of writes, for people")]
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mean = self.seconds * 1_000.0 / self.count.max(1) as f64;
        write!(f, "{:>8} writes of the journal, {mean:.2} ms each", self.count)?;
        let over = |ms: f64| self.over(ms / 1_000.0);
        write!(f, "; over 5, 25 and 100 ms: {}, {} and {}", over(5.0), over(25.0), over(100.0))
    }
}

/// A running broker; killed when dropped.
pub(crate) struct Process {
    mode: Mode,
    data: PathBuf,
    child: Child,
    door: Door,
    operations: SocketAddr,
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
    pub(crate) fn start(mode: Mode, folder: &Folder) -> Result<Process> {
        Process::start_in(mode, &folder.fresh())
    }

    fn start_in(mode: Mode, data: &Path) -> Result<Process> {
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
        let (address, operations) = line.trim().split_once(' ').ok_or("it did not start")?;
        let operations = operations.parse()?;
        let door = Door {
            address: address.parse()?,
            user: known.shared_access_key_name,
            password: known.shared_access_key,
            prefix: "",
            answers_settlement: true,
        };
        Ok(Process { mode, data: data.to_owned(), child, door, operations })
    }

    /// Kills it and starts it again with the same journal.
    pub(crate) fn restart(self) -> Result<Process> {
        let (mode, data) = (self.mode, self.data.clone());
        drop(self);
        Process::start_in(mode, &data)
    }

    /// What it says of its journal; nothing without one.
    pub(crate) fn writes(&self) -> Result<Writes> {
        let mut stream = TcpStream::connect(self.operations)?;
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let mut writes = Writes::default();
        for line in text.lines() {
            let Some(line) = line.strip_prefix("bus_journal_write_seconds_") else { continue };
            let (name, value) = line.rsplit_once(' ').ok_or("no value")?;
            let le = name.strip_prefix("bucket{le=\"").and_then(|le| le.strip_suffix("\"}"));
            match (le, name) {
                (Some("+Inf"), _) => {}
                (Some(le), _) => writes.below.push((le.parse()?, value.parse()?)),
                (None, "sum") => writes.seconds = value.parse()?,
                (None, _) => writes.count = value.parse()?,
            }
        }
        Ok(writes)
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
    }
}
