//! The options of `serve cosmos`.

use std::net::SocketAddr;
use std::path::PathBuf;

use cosmos::limits::MAX_HELD_BYTES;
use cosmos::{Account, Options};

use crate::serve::COSMOS_KEY;

/// Where the store keeps its items, and how it treats its clients.
#[derive(Clone, Debug, clap::Args)]
pub struct Store {
    /// Keeps everything in this directory, and goes on with what is there. Without it everything
    /// is in memory.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Answers once the system has it and does not wait for the disk: what was answered outlives the
    /// process, and not the machine.
    #[arg(long)]
    no_fsync: bool,
    /// Keeps everything in memory; nothing outlives the process.
    #[arg(long, conflicts_with = "data")]
    ephemeral: bool,
    /// The account key, in Base64; by default the public one of the emulators.
    #[arg(long, env = "COSMOS_ACCOUNT_KEY", hide_env_values = true)]
    account_key: Option<String>,
    /// Another key, in Base64, that only reads.
    #[arg(long, env = "COSMOS_READ_ONLY_KEY", hide_env_values = true)]
    read_only_key: Option<String>,
    /// Takes development tokens of this Entra ID tenant.
    #[arg(long)]
    entra_tenant: Option<String>,
    /// Cuts every container into this many partition key ranges.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=100))]
    ranges: u16,
    /// Refuses requests with 429 that exceed the throughput offered for their container.
    #[arg(long)]
    enforce_throughput: bool,
    /// Bytes of rows and groups that a query may hold for ORDER BY, DISTINCT, GROUP BY or OFFSET; one
    /// that needs more is refused with 400.
    #[arg(long, default_value_t = MAX_HELD_BYTES)]
    max_query_bytes: usize,
    /// Lets faults be ordered under /admin/faults.
    #[arg(long)]
    faults: bool,
    /// Serves https with the certificate in this directory, certificate.pem and key.pem, which are
    /// made there if there are none.
    #[arg(long)]
    certificate: Option<PathBuf>,
}

impl Store {
    /// What the service is started with.
    pub fn options(self, listen: SocketAddr, account: Account) -> Options {
        if self.data.is_none() && !self.ephemeral {
            tracing::info!("the store is in memory and goes with this process; --data keeps it");
        }
        Options {
            listen,
            account,
            key: self.account_key.unwrap_or_else(|| COSMOS_KEY.to_owned()),
            data: self.data,
            fsync: !self.no_fsync,
            read_only_key: self.read_only_key,
            entra_tenant: self.entra_tenant,
            partition_key_ranges: self.ranges,
            enforce_throughput: self.enforce_throughput,
            max_held_bytes: self.max_query_bytes,
            faults: self.faults,
            certificate: self.certificate,
            ..Options::default()
        }
    }
}
