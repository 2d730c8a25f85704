//! A message of an entry: in memory, or left on disk where the journal has it anyway.

use std::fmt::Debug;
use std::sync::Arc;

use journal::Location;

use crate::message::Message;

/// Where messages can be read from.
pub(crate) trait Shelf: Debug + Send + Sync {
    /// The message stored in `length` bytes at `at`. A journal that can no longer be read is the
    /// end of everything; it has to see to it that nobody is told of what this returns then.
    fn load(&self, at: Location, length: usize) -> Message;
}

/// Which bytes of the journal are the message of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) at: Location,
    pub(crate) length: u32,
}

/// A message, or where it is.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Here(Arc<Message>),
    There { shelf: Arc<dyn Shelf>, stored: Stored, size: u64, session: Option<Arc<str>> },
}

impl Body {
    /// Bytes that the message occupies, for quotas.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Body::Here(message) => message.size(),
            Body::There { size, .. } => *size,
        }
    }

    /// Bytes of memory it takes.
    pub(crate) fn resident(&self) -> u64 {
        match self {
            Body::Here(message) => message.size(),
            Body::There { .. } => 0,
        }
    }

    pub(crate) fn session_id(&self) -> Option<&str> {
        match self {
            Body::Here(message) => message.session_id.as_deref(),
            Body::There { session, .. } => session.as_deref(),
        }
    }

    /// The message, read back if it has to be.
    pub(crate) fn load(&self) -> Arc<Message> {
        match self {
            Body::Here(message) => Arc::clone(message),
            Body::There { shelf, stored, .. } => {
                Arc::new(shelf.load(stored.at, stored.length as usize))
            }
        }
    }

    /// Where it is, if it is not here.
    pub(crate) fn stored(&self) -> Option<Stored> {
        match self {
            Body::Here(_) => None,
            Body::There { stored, .. } => Some(*stored),
        }
    }

    /// Leaves the message where the journal has it.
    pub(crate) fn put_away(&mut self, shelf: &Arc<dyn Shelf>, stored: Stored) {
        let session = self.session_id().map(Arc::from);
        *self = Body::There { shelf: Arc::clone(shelf), stored, size: self.size(), session };
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Body) -> bool {
        self.load() == other.load()
    }
}
