//! How `stack up` is started: its options, and the ports that it takes.

use std::path::PathBuf;

use crate::serve::{name_and_value, time_scale};

/// Port of the portal and the API; that of the Functions tools.
const HTTP_PORT: u16 = 7071;

/// Port of the Cosmos DB stand-in; that of the official emulator.
const COSMOS_PORT: u16 = 8081;

/// Port of the Service Bus stand-in; that of AMQP.
const BUS_PORT: u16 = 5672;

/// Port of the Storage queue stand-in; that of the official emulator.
const QUEUE_PORT: u16 = 10001;

/// Port of the bank; beside those that `func` takes for several apps.
const BANK_PORT: u16 = 7075;

/// Port of the Event Grid stand-in; nothing that is known uses it.
const GRID_PORT: u16 = 6500;

/// Port of the sample subscriber; beside it.
const SUBSCRIBER_PORT: u16 = 6501;

/// Every port that is taken unless another is chosen, with the option that chooses it.
pub const PORTS: [(u16, &str); 7] = [
    (HTTP_PORT, "--port"),
    (COSMOS_PORT, "--cosmos-port"),
    (BUS_PORT, "--bus-port"),
    (QUEUE_PORT, "--queue-port"),
    (BANK_PORT, "--bank-port"),
    (GRID_PORT, "--grid-port"),
    (SUBSCRIBER_PORT, "--subscriber-port"),
];

/// How the stack is started.
#[derive(Clone, Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "one flag each on the command line")]
pub struct Options {
    /// Port of the portal and the API; 0 chooses a free one.
    #[arg(long, default_value_t = HTTP_PORT)]
    pub port: u16,
    /// Port of the Cosmos DB stand-in; 0 chooses a free one.
    #[arg(long, default_value_t = COSMOS_PORT)]
    pub cosmos_port: u16,
    /// Port of the Service Bus stand-in; 0 chooses a free one.
    #[arg(long, default_value_t = BUS_PORT)]
    pub bus_port: u16,
    /// Port of the Storage queue stand-in; 0 chooses a free one.
    #[arg(long, default_value_t = QUEUE_PORT)]
    pub queue_port: u16,
    /// Port of the bank; 0 chooses a free one.
    #[arg(long, default_value_t = BANK_PORT)]
    pub bank_port: u16,
    /// Port of the Event Grid stand-in; 0 chooses a free one.
    #[arg(long, default_value_t = GRID_PORT)]
    pub grid_port: u16,
    /// Port of the sample subscriber; 0 chooses a free one.
    #[arg(long, default_value_t = SUBSCRIBER_PORT)]
    pub subscriber_port: u16,
    /// Lets the retries of Event Grid pass this many times faster than in Azure.
    #[arg(long, default_value_t = 1, value_parser = time_scale())]
    pub grid_time_scale: u32,
    /// Keeps the bank's ledger in this file, and goes on with it if it exists. Otherwise it is a
    /// temporary file that goes with the stack.
    #[arg(long)]
    pub bank_ledger: Option<PathBuf>,
    /// Keeps what the services store in this directory, one folder for each, and goes on with it if
    /// it is there. Otherwise it is a temporary directory that goes with the stack.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// Does not build the handler first.
    #[arg(long)]
    pub no_build: bool,
    /// Starts with an empty store.
    #[arg(long)]
    pub no_seed: bool,
    /// Starts the services alone, for hosts of your own (`func`).
    #[arg(long)]
    pub no_hosts: bool,
    /// Stages into this directory.
    #[arg(long)]
    pub apps_dir: Option<PathBuf>,
    /// Writes where everything is to this file once ready.
    #[arg(long)]
    pub ready_file: Option<PathBuf>,
    /// Prints every line of every process, invocations included.
    #[arg(long, short)]
    pub verbose: bool,
    /// Refuses orders that ask for failures.
    #[arg(long)]
    pub no_faults: bool,
    /// Builds and swaps the apps, one at a time, when a source file is written; pages follow the
    /// files of the portal.
    #[arg(long)]
    pub watch: bool,
    /// Stops when standard input closes, as it does when the parent dies.
    #[arg(long, hide = true)]
    pub until_stdin_closes: bool,
    /// Lease of a queue message in every host, in seconds; for tests that kill hosts.
    #[arg(long, hide = true, value_parser = clap::value_parser!(u32).range(1..))]
    pub queue_lease_seconds: Option<u32>,
    /// One more app setting for every host, `NAME=VALUE`; may be repeated, and wins.
    #[arg(long, hide = true, value_parser = name_and_value)]
    pub set: Vec<(String, String)>,
}

impl Options {
    /// The port for each entry of [`PORTS`].
    pub(super) fn ports(&self) -> [u16; PORTS.len()] {
        [
            self.port,
            self.cosmos_port,
            self.bus_port,
            self.queue_port,
            self.bank_port,
            self.grid_port,
            self.subscriber_port,
        ]
    }
}
