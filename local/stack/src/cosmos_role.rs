//! The options of `serve cosmos`.

use std::net::SocketAddr;
use std::path::PathBuf;

use cosmos::{Account, Options};

use crate::serve::COSMOS_KEY;

/// Where the store keeps its items, and how it treats its clients.
#[derive(Clone, Debug, clap::Args)]
pub struct Store {
    /// Keeps everything in this directory, and goes on with what is there. Without it everything
    /// is in memory.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Keeps everything in memory; nothing outlives the process.
    #[arg(long, conflicts_with = "data")]
    ephemeral: bool,
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
            key: COSMOS_KEY.to_owned(),
            data: self.data,
            ..Options::default()
        }
    }
}
