//! The one point through which every change passes.
//!
//! A change is first decided against the current state, then given to a [`CommitLog`], then
//! applied. Replaying the same commits into an empty store makes the same store, which is all that
//! a durable log needs to know about it.

use std::sync::Arc;

use serde_json::{Map, Value};
use thiserror::Error;

use super::document::Document;
use super::durability::Durability;
use super::partition::Partition;
use super::rid::{ContainerRid, DatabaseRid};

/// An atomic change.
#[derive(Debug, Clone)]
pub struct Commit {
    /// Position among all commits of the account, starting at 1, without gaps.
    pub sequence: u64,
    /// When it was decided, epoch milliseconds.
    pub at_ms: u64,
    /// What changes.
    pub change: Change,
}

/// What a commit changes.
#[derive(Debug, Clone)]
pub enum Change {
    /// A database comes into being.
    CreateDatabase {
        /// Its number.
        rid: DatabaseRid,
        /// Its id.
        id: String,
    },
    /// A database goes, with everything in it.
    DropDatabase {
        /// Its number.
        rid: DatabaseRid,
    },
    /// A container comes into being or gets new properties.
    PutContainer {
        /// Its number.
        rid: ContainerRid,
        /// Its properties as the client wrote them.
        properties: Map<String, Value>,
    },
    /// A container goes, with everything in it.
    DropContainer {
        /// Its number.
        rid: ContainerRid,
    },
    /// A container gets an offer of throughput.
    PutOffer {
        /// The container.
        rid: ContainerRid,
        /// The `content` of the offer.
        content: Value,
    },
    /// What has expired by now is gone, whatever settings come later.
    Expire {
        /// The container.
        container: ContainerRid,
        /// Its default time to live so far.
        default_ttl: Option<i64>,
    },
    /// Items of one partition change together.
    Items {
        /// The container they are in.
        container: ContainerRid,
        /// The log sequence number they share.
        lsn: u64,
        /// The last state of every item that changed.
        writes: Vec<Write>,
    },
}

/// The new state of one item.
#[derive(Debug, Clone)]
pub enum Write {
    /// It is this now.
    Put(Arc<Document>),
    /// It is gone.
    Remove {
        /// The logical partition it was in.
        partition: Arc<Partition>,
        /// Its id.
        id: Arc<str>,
    },
}

/// Takes commits, in order, before they become visible.
pub trait CommitLog: Send + Sync {
    /// Accepts a commit. It becomes visible if and only if this returns `Ok`.
    ///
    /// A log that syncs in groups accepts at once and lets the caller wait for
    /// [`Commit::sequence`] elsewhere before it acknowledges.
    ///
    /// # Errors
    /// [`LogError`] when the commit was not accepted; the change is then refused.
    fn append(&mut self, commit: &Commit) -> Result<(), LogError>;

    /// Tells how far the log has come with what it accepted.
    fn durability(&self) -> Durability {
        Durability::immediate()
    }
}

/// The log did not take a commit.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("the commit log refused the commit: {0}")]
pub struct LogError(pub String);

/// A log that keeps nothing: the store lives as long as the process.
#[derive(Debug, Default)]
pub struct Volatile;

impl CommitLog for Volatile {
    fn append(&mut self, _: &Commit) -> Result<(), LogError> {
        Ok(())
    }
}
