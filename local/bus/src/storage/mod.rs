//! The broker's state on disk: every record in a [`journal::Log`], and snapshots in its place.
//!
//! A group of broker records is one record of the journal, atomic as the broker means it. A group
//! that is larger than [`GROUP_BYTES`] is spread over several, all but the last marked; a group of
//! which the last part is missing never happened. The bytes:
//!
//! | part | bytes | content |
//! | --- | --- | --- |
//! | head | 1 | version, 1 |
//! | | 1 | 1 if the group goes on in the next record, else 0 |
//! | broker record | 1 | kind, see [`codec`] |
//! | | 4 | the place, an index that a `Declared` record gives a path |
//! | | | what the kind has: numbers little-endian, texts with their length in four bytes |
//!
//! A message that several places get in one group is written once. Indices are of one run: every
//! run declares its places before it writes anything else, twice in case that one of them is
//! damaged, and what belongs to a path that no topology declares any more is passed over and
//! reported.

mod codec;
mod compaction;
mod disk;
pub(crate) mod input;
mod replay;
mod rules;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use journal::Log;

#[cfg(test)]
pub(crate) use codec::Group;
pub(crate) use compaction::compact;
pub(crate) use replay::Replay;

use crate::broker::body::Shelf;
use crate::broker::{Broker, NoJournal};
use crate::limits::GROUP_BYTES;
use crate::topology::{Namespace, NamespaceError};
use disk::{Bookshelf, Disk};

/// What a start found on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Groups of changes read back.
    pub records: u64,
    /// Messages there are again.
    pub messages: usize,
    /// Bytes at the end of the journal that were being written when the process ended. Nobody was
    /// told of what was in them.
    pub torn_bytes: u64,
    /// Messages of entities that are not declared any more, by path. They are gone.
    pub undeclared: Vec<(String, usize)>,
}

/// Why the state could not be read back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecoverError {
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    #[error(transparent)]
    Journal(#[from] journal::OpenError),
}

/// The declared entities with the messages that the journal in `directory` knows of, and the
/// journal itself, which from now on has every change.
pub(crate) fn recover(
    namespace: &Namespace,
    directory: &Path,
    options: journal::Options,
    memory_bytes: u64,
    seed: u64,
) -> Result<(Broker, Arc<Log>, Recovered), RecoverError> {
    let mut broker = Broker::new(namespace, Box::new(NoJournal), seed)?;
    broker.limit_memory(memory_bytes);
    let mut replay = Replay::default();
    let bookshelf = Arc::new(Bookshelf::default());
    let shelf: Arc<dyn Shelf> = Arc::clone(&bookshelf) as Arc<dyn Shelf>;
    let (log, opened) = Log::open(directory, options, |bytes, at| {
        replay.group(&mut broker, bytes, Some((&shelf, at))).map_err(Into::into)
    })?;
    let log = Arc::new(log);
    bookshelf.open(&log);
    // Of what both know the file has the last word.
    broker.declare_all(namespace);
    let declared = broker.adopt(Box::new(Disk::new(Arc::clone(&log), shelf)));
    // Once the first is written, the second does not share a frame with it. Should that fail,
    // nothing is durable from here on, as everybody who waits will hear.
    let _ = log.wait_blocking(declared);
    broker.declare_places();
    let recovered = Recovered {
        records: opened.records,
        messages: broker.message_count(),
        torn_bytes: opened.torn_bytes,
        undeclared: replay.undeclared(),
    };
    Ok((broker, log, recovered))
}
