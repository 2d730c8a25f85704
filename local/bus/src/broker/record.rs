//! Every change of the broker's state, as data.
//!
//! A command decides, then expresses what it decided as records; applying a record is the only way
//! the state changes. A journal beneath the broker therefore sees everything that a restart must
//! know, and applying its records in order rebuilds the state. What is not a record (which
//! receivers wait, for how many messages) belongs to connections and dies with them.

use std::sync::Arc;

use bytes::Bytes;
use uuid::Uuid;

use super::body::{Shelf, Stored};
use super::rule::Rule;
use super::time::Timestamp;
use crate::message::Message;
use crate::topology::Definition;

/// A place where messages are kept: a queue, a subscription, a dead-letter sub-queue, or the shelf
/// on which a topic keeps scheduled messages. An index, stable while the broker lives; a journal
/// learns the lasting name from [`Record::Declared`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct QueueId(pub(crate) u32);

/// Why a message is no longer where it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Removal {
    /// Completed by its receiver, or handed to a receive-and-delete one.
    Completed,
    /// Its time to live is over and nobody wanted it kept.
    Expired,
    /// Moved to the dead-letter sub-queue; an `Enqueued` there belongs to the same group.
    DeadLettered,
    /// A scheduled message that was taken back.
    Cancelled,
    /// A scheduled message whose time has come; its copies belong to the same group.
    Activated,
    /// Deleted by a management request.
    Deleted,
    /// Moved to the entity it is forwarded to; its copies belong to the same group.
    Forwarded,
}

/// What an `Enqueued` message waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arrival {
    Now,
    At(Timestamp),
}

/// One change.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Record {
    /// The path that an index stands for in the records that follow.
    Declared {
        queue: QueueId,
        path: Arc<str>,
    },
    /// A message is there.
    Enqueued {
        queue: QueueId,
        sequence: i64,
        /// The number it got where it was first accepted.
        original_sequence: i64,
        enqueued_at: Timestamp,
        expires_at: Option<Timestamp>,
        delivery_count: u32,
        arrival: Arrival,
        message: Arc<Message>,
    },
    /// It is gone.
    Removed {
        queue: QueueId,
        sequence: i64,
        removal: Removal,
    },
    /// A receiver has it to itself.
    Locked {
        queue: QueueId,
        sequence: i64,
        token: Uuid,
        until: Timestamp,
    },
    /// For longer.
    Renewed {
        queue: QueueId,
        sequence: i64,
        until: Timestamp,
    },
    /// It can be received again: by anybody, or when deferred by its number.
    Unlocked {
        queue: QueueId,
        sequence: i64,
        delivery_count: u32,
        deferred: bool,
        /// The message with properties its receiver changed.
        changed: Option<Arc<Message>>,
    },
    /// A message-id to recognise duplicates by.
    Remembered {
        queue: QueueId,
        key: Arc<str>,
        until: Timestamp,
    },
    RuleAdded {
        queue: QueueId,
        rule: Arc<Rule>,
    },
    RuleRemoved {
        queue: QueueId,
        name: String,
    },
    /// Numbers up to this one are used, also where no message has it.
    Numbered {
        queue: QueueId,
        sequence: i64,
    },
    /// What the holders of a session have noted about it; `None` is nothing.
    SessionState {
        queue: QueueId,
        session: Arc<str>,
        state: Option<Bytes>,
        at: Timestamp,
    },
    /// An entity was created, or changed if there is one with its path. Those of the topology file
    /// are not told: the file is.
    Defined {
        definition: Arc<Definition>,
        at: Timestamp,
    },
    /// An entity is gone with everything in it. The path is in lower case.
    Dropped {
        path: Arc<str>,
    },
}

impl Record {
    /// The place that it is about.
    pub(crate) fn queue_mut(&mut self) -> Option<&mut QueueId> {
        match self {
            Record::Declared { queue, .. }
            | Record::Enqueued { queue, .. }
            | Record::Removed { queue, .. }
            | Record::Locked { queue, .. }
            | Record::Renewed { queue, .. }
            | Record::Unlocked { queue, .. }
            | Record::Remembered { queue, .. }
            | Record::RuleAdded { queue, .. }
            | Record::RuleRemoved { queue, .. }
            | Record::Numbered { queue, .. }
            | Record::SessionState { queue, .. } => Some(queue),
            Record::Defined { .. } | Record::Dropped { .. } => None,
        }
    }
}

/// Where records go before anybody is told of the change.
///
/// Everything appended since the last [`seal`](Journal::seal) is one group: after a crash all of it
/// happened or none.
pub(crate) trait Journal: Send {
    /// Takes one record of the current group.
    fn append(&mut self, record: &Record);

    /// Ends the group. Nobody may be told of it before the journal is durable up to the position
    /// that this returns; 0 always is.
    fn seal(&mut self) -> u64;

    /// Where the messages of the last group are, in the order of their records.
    fn stored(&mut self) -> Vec<(QueueId, i64, Stored)> {
        Vec::new()
    }

    /// Where messages can be read back from; `None` if they cannot.
    fn shelf(&self) -> Option<Arc<dyn Shelf>> {
        None
    }
}

/// Keeps nothing: the broker's memory is all there is.
#[derive(Debug, Default)]
pub(crate) struct NoJournal;

impl Journal for NoJournal {
    fn append(&mut self, _: &Record) {}
    fn seal(&mut self) -> u64 {
        0
    }
}
