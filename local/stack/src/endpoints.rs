//! Where everything is, in one machine-readable file: what tests, scripts and the benchmark wait
//! for and connect to.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// Where a running stack is.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Endpoints {
    /// Base URL of the HTTP app, without a trailing slash.
    pub http: String,
    /// Base URL of what only the stack knows, without a trailing slash.
    pub control: String,
    /// Cosmos DB endpoint.
    pub cosmos: String,
    /// Cosmos DB key, base64. The emulator's public one.
    pub cosmos_key: String,
    /// Service Bus connection string. The emulator's public one.
    pub bus: String,
    /// Base URL where the bus tells how it is and takes faults, without a trailing slash.
    pub bus_operations: String,
    /// Storage connection string, queues only. The emulator's public one.
    pub queue: String,
    /// Base URL of the bank, without a trailing slash.
    pub bank: String,
    /// Endpoint of the Event Grid topic, without `api-version`.
    pub grid: String,
    /// Its access key, base64. Public, and good for nothing else.
    pub grid_key: String,
    /// The folder of its dead letters: `<destination>/<topic>/<subscription>.jsonl`.
    pub grid_dead_letters: PathBuf,
    /// Base URL of the sample subscriber, without a trailing slash.
    pub subscriber: String,
    /// The bank's ledger. Gone with the stack, unless it was given on the command line.
    pub bank_ledger: PathBuf,
    /// Every process. The file is written again, in one step, when one was started again.
    pub processes: Vec<Process>,
}

/// One process of a running stack.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Process {
    /// `cosmos`, `bus`, `queue`, `bank`, `subscriber`, `grid`, or `host <app>`.
    pub name: String,
    /// Process id. That of a host's handler is what the host's own `/admin/host/processes` says.
    pub pid: u32,
    /// Where it listens, `address:port`.
    pub address: String,
}

/// Writes a file in one step: whoever waits for it never reads half of it.
///
/// # Errors
/// The file cannot be written.
pub fn write_ready_file(path: &Path, content: &impl Serialize) -> std::io::Result<()> {
    let beside = path.with_extension(format!("writing-{}", std::process::id()));
    let mut file = std::fs::File::create(&beside)?;
    serde_json::to_writer(&mut file, content)?;
    file.write_all(b"\n")?;
    drop(file);
    std::fs::rename(&beside, path)
}
