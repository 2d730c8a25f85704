//! The one point through which every change passes.
//!
//! A change is first decided against the current state, then given to a [`CommitLog`], then
//! applied. Replaying the same commits into an empty store makes the same store, which is all that
//! a durable log needs to know about it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

use super::message::{Message, Receipt, shared_text};
use super::queue::{AccessPolicy, Metadata};

/// An atomic change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commit {
    /// Position among all commits of the account, starting at 1, without gaps.
    pub sequence: u64,
    /// When it was decided, epoch milliseconds.
    pub at_ms: u64,
    /// What changes.
    pub change: Change,
}

/// What a commit changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// A queue comes into being.
    CreateQueue {
        /// Its name.
        queue: String,
        /// What its owner says about it.
        metadata: Metadata,
    },
    /// A queue goes, with everything in it.
    DropQueue {
        /// Its name.
        queue: String,
        /// When its name can be used again, epoch milliseconds.
        free_at_ms: u64,
    },
    /// A queue gets other metadata.
    SetMetadata {
        /// Its name.
        queue: String,
        /// All of it.
        metadata: Metadata,
    },
    /// A queue gets other stored access policies.
    SetAccessPolicies {
        /// Its name.
        queue: String,
        /// All of them.
        policies: Vec<AccessPolicy>,
    },
    /// Settings of the account change.
    SetProperties {
        /// The ones that change, each as the text of an XML element, by name.
        properties: BTreeMap<String, String>,
    },
    /// A message is there.
    Put {
        /// The queue it is in.
        queue: String,
        /// The message.
        message: Message,
    },
    /// Messages are handed out together.
    Take {
        /// The queue they are in.
        queue: String,
        /// The new state of each.
        taken: Vec<Taken>,
    },
    /// Whoever holds a message changes it.
    Update {
        /// The queue it is in.
        queue: String,
        /// Its id.
        id: Uuid,
        /// The receipt that counts from now on.
        receipt: Receipt,
        /// When it can be taken again, epoch milliseconds.
        visible_at_ms: u64,
        /// Its new text, if that changes.
        #[serde(with = "shared_text::optional")]
        text: Option<Arc<str>>,
    },
    /// Whoever holds a message is done with it.
    Delete {
        /// The queue it was in.
        queue: String,
        /// Its id.
        id: Uuid,
    },
    /// Messages have outlived their time.
    Expire {
        /// The queue they were in.
        queue: String,
        /// Their ids.
        ids: Vec<Uuid>,
    },
    /// A queue loses all messages.
    Clear {
        /// Its name.
        queue: String,
    },
}

/// A message that was handed out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// Its id.
    pub id: Uuid,
    /// The receipt that counts from now on.
    pub receipt: Receipt,
    /// When it can be taken again, epoch milliseconds.
    pub visible_at_ms: u64,
    /// How often it has been handed out, this time included.
    pub dequeue_count: u64,
}

/// Takes commits, in order, before they become visible.
pub trait CommitLog: Send + Sync {
    /// Accepts a commit. It becomes visible if and only if this returns `Ok`.
    ///
    /// # Errors
    /// [`LogError`] when the commit was not accepted; the change is then refused.
    fn append(&mut self, commit: &Commit) -> Result<(), LogError>;
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
