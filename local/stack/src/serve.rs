//! The roles: each service of the stack as a process of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use host::{Host, Level, LogLine};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::bank;
use crate::child::ready_text;
use crate::cosmos_role;
use crate::endpoints::write_ready_file;
use crate::output;
use crate::report::Report;
use crate::signal::stop_signal;
use crate::subscriber;

/// The key of the official Service Bus emulator; public, and good for nothing else.
pub const BUS_KEY: &str = "SAS_KEY_VALUE";

/// The name of that key.
pub const BUS_KEY_NAME: &str = "RootManageSharedAccessKey";

/// The key of the official Cosmos DB emulator; public as well.
pub const COSMOS_KEY: &str = cosmos::EMULATOR_KEY;

/// How long a host lets invocations finish when it stops. Azure gives ten seconds; at a desk an
/// open stream of a browser should not hold up Ctrl-C.
const HOST_DRAIN: Duration = Duration::from_secs(2);

/// How a role is started.
#[derive(Clone, Debug, clap::Args)]
pub struct Common {
    /// Where to listen; port 0 chooses a free one.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Writes `{"address": "…"}` to this file once ready.
    #[arg(long)]
    pub ready_file: Option<PathBuf>,
    /// Stops when standard input closes, as it does when the parent dies.
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
}

/// A role.
#[derive(Clone, Debug, clap::Subcommand)]
pub enum Role {
    /// The Service Bus stand-in: AMQP 1.0.
    Bus {
        /// Where, and how it tells.
        #[command(flatten)]
        common: Common,
        /// The topology whose `serviceBus` section declares the entities, or a `Config.json` of the
        /// official emulator.
        #[arg(long)]
        topology: PathBuf,
        /// Where else, and how it may be spoken to.
        #[command(flatten)]
        doors: BusDoors,
        /// How it keeps what it is given.
        #[command(flatten)]
        keeping: BusKeeping,
        /// What clients may use, and what operators see.
        #[command(flatten)]
        operation: BusOperation,
    },
    /// The Cosmos DB stand-in: REST.
    Cosmos {
        /// Where, and how it tells.
        #[command(flatten)]
        common: Common,
        /// The topology whose `cosmos` section declares databases and containers.
        #[arg(long)]
        topology: PathBuf,
        /// Where it keeps things.
        #[command(flatten)]
        store: cosmos_role::Store,
    },
    /// The Storage queue stand-in: REST.
    Queue {
        /// Where, and how it tells.
        #[command(flatten)]
        common: Common,
        /// The topology whose `storage` section declares the queues.
        #[arg(long)]
        topology: PathBuf,
        /// Keeps the account in this directory; created if there is none, continued if there is.
        /// Without it everything is gone with the process.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Answers once the system has a change, without waiting for the disk: survives a crash of
        /// the process, not one of the machine.
        #[arg(long)]
        no_fsync: bool,
    },
    /// The bank simulator: charges and cancellations over HTTP, and a ledger of what it did.
    Bank {
        /// Where, and how it tells.
        #[command(flatten)]
        common: Common,
        /// The ledger, JSON lines; created if there is none, continued if there is.
        #[arg(long)]
        ledger: PathBuf,
    },
    /// The Event Grid stand-in: publish over HTTP, deliver to webhooks.
    Grid {
        /// Where, and how it tells.
        #[command(flatten)]
        common: Common,
        /// The topology whose `eventGrid` section declares topics and subscriptions.
        #[arg(long)]
        topology: PathBuf,
        /// The folder that takes dead letters.
        #[arg(long)]
        dead_letters: PathBuf,
        /// Lets delays and times to live pass this many times faster than in Azure.
        #[arg(long, default_value_t = 1, value_parser = time_scale())]
        time_scale: u32,
        /// What `%NAME%` stands for in an endpoint, `NAME=VALUE`; may be repeated.
        #[arg(long, value_parser = name_and_value)]
        fill: Vec<(String, String)>,
    },
    /// A sample subscriber of Event Grid: `GET /events` shows what came.
    Subscriber {
        /// Where, and how it tells.
        #[command(flatten)]
        common: Common,
    },
    /// A Functions host for one staged app; settings come from the environment.
    Host {
        /// Where, and how it tells.
        #[command(flatten)]
        common: Common,
        /// The staged app: host.json, handler, one folder per function.
        #[arg(long)]
        root: PathBuf,
        /// Keeps what has to outlive the host in this directory.
        #[arg(long, hide = true)]
        state: Option<PathBuf>,
        /// Lease of a queue message, in seconds. By default as in Azure.
        #[arg(long, hide = true, value_parser = clap::value_parser!(u32).range(1..))]
        queue_lease_seconds: Option<u32>,
    },
}

/// Where else the Service Bus stand-in listens, and what it takes. Every port speaks everything.
#[derive(Clone, Debug, clap::Args)]
pub struct BusDoors {
    /// A port for clients that want AMQP within TLS, usually 127.0.0.1:5671.
    #[arg(long)]
    pub tls_listen: Option<SocketAddr>,
    /// A port for administration clients, usually 127.0.0.1:5300.
    #[arg(long)]
    pub admin_listen: Option<SocketAddr>,
    /// The folder of the development certificate, made at the first start. Without it, and without
    /// `--tls-listen`, there is no TLS.
    #[arg(long, value_name = "DIR")]
    pub certificate: Option<PathBuf>,
}

/// The folder of the development certificate when none is named.
const BUS_CERTIFICATE: &str = "target/bus-certificate";
/// How the Service Bus stand-in keeps messages.
#[derive(Clone, Debug, clap::Args)]
pub struct BusKeeping {
    /// The directory of its journal; created if there is none, continued if there is.
    #[arg(long, default_value = "target/bus", value_name = "DIR")]
    pub data: PathBuf,
    /// Keeps everything in memory, and nothing when it ends.
    #[arg(long, conflicts_with = "data")]
    pub ephemeral: bool,
    /// Answers once the system has a change, without waiting for the disk: survives a crash of the
    /// process, not one of the machine.
    #[arg(long)]
    pub no_fsync: bool,
    /// Before it starts, keeps what can still be read of a damaged journal.
    #[arg(long, conflicts_with = "ephemeral")]
    pub repair: bool,
}

/// Limits of the Service Bus stand-in, and its endpoint for operators.
#[derive(Clone, Debug, clap::Args)]
pub struct BusOperation {
    /// Where `/healthz`, `/status` and `/metrics` are answered over HTTP.
    #[arg(long, value_name = "ADDRESS")]
    pub operations: Option<SocketAddr>,
    /// Lets `PUT /faults` of that endpoint make things go wrong.
    #[arg(long, requires = "operations")]
    pub faults: bool,
    /// Connections served at once.
    #[arg(long, value_parser = count())]
    pub max_connections: Option<u32>,
    /// Links of one session.
    #[arg(long, value_parser = count())]
    pub max_links: Option<u32>,
    /// Unsettled deliveries of one session, beyond which nothing more is delivered.
    #[arg(long, value_parser = count())]
    pub max_unsettled: Option<u32>,
    /// Largest frame accepted, in bytes; AMQP has no limit below 512.
    #[arg(long, value_parser = clap::value_parser!(u32).range(i64::from(bus::FRAME_BYTES_MIN)..))]
    pub max_frame_bytes: Option<u32>,
    /// Largest message accepted, in bytes; at most 8 MiB.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..=bus::MESSAGE_BYTES_LIMIT))]
    pub max_message_bytes: Option<u64>,
    /// Messages in memory, in bytes: what comes beyond stays in the journal, or is refused where
    /// there is none.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub max_memory_bytes: Option<u64>,
}

/// A limit that leaves something to do.
fn count() -> clap::builder::RangedI64ValueParser<u32> {
    clap::value_parser!(u32).range(1..)
}

impl BusOperation {
    fn apply(&self, options: bus::Options) -> bus::Options {
        let or = |given: Option<u32>, usual| given.map_or(usual, |given| given as usize);
        bus::Options {
            operations: self.operations,
            faults: self.faults,
            max_connections: or(self.max_connections, options.max_connections),
            max_links: or(self.max_links, options.max_links),
            max_unsettled: or(self.max_unsettled, options.max_unsettled),
            max_frame_bytes: self.max_frame_bytes.unwrap_or(options.max_frame_bytes),
            max_message_bytes: self.max_message_bytes.unwrap_or(options.max_message_bytes),
            max_memory_bytes: self.max_memory_bytes.or(options.max_memory_bytes),
            ..options
        }
    }
}

impl BusKeeping {
    /// Repairs if that is asked for; where the journal is to be.
    fn prepare(&self) -> anyhow::Result<Option<PathBuf>> {
        if self.ephemeral {
            return Ok(None);
        }
        if self.repair {
            let repaired = bus::repair(&self.data).context("the journal cannot be repaired")?;
            let report = Report::default();
            for loss in &repaired.losses {
                let (path, bytes, offset) = (loss.path.display(), loss.bytes, loss.offset);
                let lost = format!("{path}: lost {bytes} bytes at {offset}");
                report.line(&format!("{lost}; the damaged file is beside it"));
            }
            let (kept, lost) = (repaired.frames_kept, repaired.losses.len());
            report.line(&format!("kept {kept} frames, lost {lost}"));
        }
        Ok(Some(self.data.clone()))
    }
}

/// What to do about a journal that cannot be used.
fn with_advice(error: bus::BindError) -> anyhow::Error {
    use bus::{BindError, OpenError};
    let advice = match &error {
        BindError::Journal { source: OpenError::Damaged { .. }, .. } => {
            "run it again with --repair to keep what can still be read"
        }
        BindError::Journal { source: OpenError::Locked(_), .. } => {
            "choose another directory with --data, or --ephemeral"
        }
        _ => return error.into(),
    };
    anyhow::Error::from(error).context(advice)
}

/// Runs a role until it is told to stop.
///
/// # Errors
/// It cannot start, or stopped by itself.
pub async fn serve(role: Role) -> anyhow::Result<()> {
    match role {
        Role::Bus { common, topology, doors, keeping, operation } => {
            let text = std::fs::read_to_string(&topology)
                .with_context(|| format!("{} cannot be read", topology.display()))?;
            let namespace = bus::Namespace::from_file_text(&text)
                .and_then(|namespace| namespace.validate().map(|()| namespace))
                .with_context(|| format!("{} cannot be used", topology.display()))?;
            let tls = doors.tls_listen.map(|_| PathBuf::from(BUS_CERTIFICATE));
            let options = bus::Options {
                listen: common.listen,
                also_listen: doors.tls_listen.into_iter().chain(doors.admin_listen).collect(),
                certificate: doors.certificate.or(tls),
                namespace,
                shared_access_key_name: BUS_KEY_NAME.to_owned(),
                shared_access_key: BUS_KEY.to_owned(),
                data: keeping.prepare()?,
                fsync: !keeping.no_fsync,
                ..bus::Options::default()
            };
            let options = operation.apply(options);
            let server = bus::Server::bind(options).await.map_err(with_advice)?;
            let address = server.local_addr();
            let recovered = server.recovered();
            let mut further = server.local_addrs()[1..].iter();
            let mut ready = json!({
                "messages": recovered.messages,
                "tornBytes": recovered.torn_bytes,
                "operations": server.operations_addr().map(|address| address.to_string()),
            });
            for (asked, name) in
                [(doors.tls_listen, "tlsAddress"), (doors.admin_listen, "adminAddress")]
            {
                if let Some(address) = asked.and_then(|_| further.next()) {
                    ready[name] = json!(address.to_string());
                }
            }
            if let Some(authority) = server.certificate_authority() {
                ready["certificateAuthority"] = json!(authority);
            }
            announce(&common, address, ready)?;
            Ok(server.run(stop_signal(common.until_stdin_closes)).await?)
        }
        Role::Cosmos { common, topology, store } => {
            let options = store.options(common.listen, section(&topology, "cosmos")?);
            let server = cosmos::Server::bind(options).await?;
            let address = server.local_addr();
            announce(&common, address, json!({}))?;
            Ok(server.run(stop_signal(common.until_stdin_closes)).await?)
        }
        Role::Queue { common, topology, data, no_fsync } => {
            let storage: Storage = section(&topology, "storage")?;
            let options = queue::Options {
                listen: common.listen,
                queues: storage.queues,
                data,
                fsync: !no_fsync,
                ..queue::Options::default()
            };
            let server = queue::Server::bind(options).await?;
            let address = server.local_addr();
            let connection_string = queue::connection_string(address);
            announce(&common, address, json!({ "connectionString": connection_string }))?;
            Ok(server.run(stop_signal(common.until_stdin_closes)).await?)
        }
        Role::Bank { common, ledger } => {
            let mut options = bank::Options::new(ledger);
            options.listen = common.listen;
            let server = bank::Server::bind(options).await?;
            let ready = json!({ "lines": server.lines(), "tornBytes": server.torn_bytes() });
            announce(&common, server.local_addr(), ready)?;
            Ok(server.run(stop_signal(common.until_stdin_closes)).await?)
        }
        Role::Grid { common, topology, dead_letters, time_scale, fill } => {
            let declaration: grid::topology::Declaration = section(&topology, "eventGrid")?;
            let look_up = |name: &str| {
                let found = fill.iter().find(|(known, _)| known == name);
                found.map(|(_, value)| value.clone())
            };
            let options = grid::Options {
                listen: common.listen,
                time_scale,
                ..grid::Options::new(declaration.filled(look_up), dead_letters)
            };
            let server = grid::Server::bind(options).await?;
            announce(&common, server.local_addr(), json!({}))?;
            Ok(server.run(stop_signal(common.until_stdin_closes)).await?)
        }
        Role::Subscriber { common } => {
            let server = subscriber::Server::bind(common.listen).await?;
            announce(&common, server.local_addr(), json!({}))?;
            Ok(server.run(stop_signal(common.until_stdin_closes)).await?)
        }
        Role::Host { common, root, state, queue_lease_seconds } => {
            let log = Arc::new(|line: LogLine| print_line(&line));
            let mut options = host::Options::new(root, common.listen, settings(), log);
            options.drain = HOST_DRAIN;
            options.state = state;
            if let Some(seconds) = queue_lease_seconds {
                options.queue_lease = Duration::from_secs(u64::from(seconds));
            }
            let host = Host::bind(options).await?;
            let functions: Vec<Value> = host
                .functions()
                .iter()
                .map(|function| {
                    json!({
                        "name": function.name,
                        "trigger": function.trigger_type,
                        "methods": function.methods,
                        "source": function.entity.as_ref().or(function.url.as_ref()),
                        "problems": function.problems.iter().map(ToString::to_string)
                            .collect::<Vec<_>>(),
                    })
                })
                .collect();
            announce(&common, host.local_addr(), json!({ "functions": functions }))?;
            Ok(host.run(stop_signal(common.until_stdin_closes)).await?)
        }
    }
}

/// How fast time may pass for Event Grid.
pub(crate) fn time_scale() -> clap::builder::RangedI64ValueParser<u32> {
    let range = grid::limits::TIME_SCALE;
    clap::value_parser!(u32).range(i64::from(*range.start())..=i64::from(*range.end()))
}

/// Reads `NAME=VALUE`.
///
/// # Errors
/// It has no `=`, or nothing before it.
pub fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("wanted: NAME=VALUE".to_owned()),
    }
}

/// The `storage` section of a topology.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Storage {
    /// Name of the setting under which apps find the account; of no meaning to the service.
    #[serde(default, rename = "connection")]
    _connection: Option<String>,
    /// Names of the queues.
    queues: Vec<String>,
    // What only a deployment has: blobs, and the queue that Event Grid delivers to.
    #[serde(default, rename = "packageContainerPrefix")]
    _package_container_prefix: Option<String>,
    #[serde(default, rename = "eventQueue")]
    _event_queue: Option<String>,
    #[serde(default, rename = "eventDeadLetterContainer")]
    _event_dead_letter_container: Option<String>,
}

fn section<T: DeserializeOwned>(topology: &std::path::Path, name: &str) -> anyhow::Result<T> {
    let text = std::fs::read_to_string(topology)
        .with_context(|| format!("{} cannot be read", topology.display()))?;
    let mut whole: Value = serde_json::from_str(&text)
        .with_context(|| format!("{} is no JSON", topology.display()))?;
    let section = whole[name].take();
    serde_json::from_value(section)
        .with_context(|| format!("section `{name}` of {} cannot be used", topology.display()))
}

/// The environment as a Functions host sees it: its own variables are the app settings.
pub(crate) fn settings() -> BTreeMap<String, String> {
    // `vars` would panic on a variable that is no UTF-8, which somebody else may have set.
    std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .collect()
}

fn announce(common: &Common, address: SocketAddr, mut ready: Value) -> anyhow::Result<()> {
    ready["address"] = json!(address.to_string());
    output::note(ready_text(&ready));
    if let Some(path) = &common.ready_file {
        write_ready_file(path, &ready)
            .with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}

/// Host log lines on standard output; the parent adds time and app.
fn print_line(line: &LogLine) {
    let level = match line.level {
        Level::Debug => return,
        Level::Information => "",
        Level::Warning => "warning: ",
        Level::Error => "error: ",
    };
    output::note(format_args!("{level}{}", line.text));
}
