//! The store on disk: a log of everything that was written, and a catalogue beside it.
//!
//! A directory holds `catalogue.json`, numbered files `*.log` and a lock. Records are only ever
//! appended. A text is kept in memory while it is new and read back from its file afterwards; the
//! oldest file goes once more than half of the log is out of date, and what is still current in it
//! is appended again first ([`Compactor`]).
//!
//! Why not a storage engine from the shelf: see `docs/performance.md`.

mod catalogue;
mod codec;
mod compaction;
mod frame;
mod health;
mod recovery;
mod segment;
#[cfg(test)]
mod tests;
mod writer;
#[cfg(test)]
mod writer_tests;

use std::collections::VecDeque;
use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::BytesMut;
use thiserror::Error;

pub(crate) use compaction::{Compactor, LogStats};
pub(crate) use segment::Segment;

use crate::limits::{MAX_RECENT_TEXT_BYTES, MAX_SEGMENT_BYTES, MIN_OUTDATED_BYTES};
use crate::store::{
    Change, Commit, CommitLog, Document, Durability, Flush, LogError, Place, Store, Write,
};
use writer::{Position, Shared};

const LOCK_NAME: &str = "lock";

/// Size of the slabs that hold texts in memory: many texts, and a small part of all of them.
const SLAB_BYTES: usize = 1024 * 1024;

/// The data directory cannot be used.
#[derive(Debug, Error)]
pub enum StorageError {
    /// The file system refused something.
    #[error("{}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Another process uses it.
    #[error("{}: another process uses this directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
    /// What is there was not written like this. Nothing has been changed.
    #[error(
        "{}: damaged at byte {offset}: {what}. Restore the directory from a copy, or move it away \
         to start with nothing",
        path.display()
    )]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// Where in it, in bytes.
        offset: u64,
        /// What is wrong.
        what: String,
    },
}

impl StorageError {
    fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// How the log is kept: when an answer may leave, and the sizes at which things move.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Settings {
    /// Whether an answer waits until the machine has it on the disk, and not the system alone.
    pub(crate) fsync: bool,
    pub(crate) sizes: Sizes,
}

impl Default for Settings {
    fn default() -> Self {
        Self { fsync: true, sizes: Sizes::default() }
    }
}

/// When files are rolled, texts leave memory and files are given up, in bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) segment_bytes: u64,
    pub(crate) recent_bytes: usize,
    pub(crate) outdated_bytes: u64,
}

impl Default for Sizes {
    fn default() -> Self {
        Self {
            segment_bytes: MAX_SEGMENT_BYTES,
            recent_bytes: MAX_RECENT_TEXT_BYTES,
            outdated_bytes: MIN_OUTDATED_BYTES,
        }
    }
}

/// Opens the store in `directory`, or makes one there, whose incarnation is then `incarnation`.
///
/// # Errors
/// [`StorageError`].
pub(crate) fn open(
    directory: &Path,
    incarnation: u64,
    settings: Settings,
) -> Result<(Store, Compactor), StorageError> {
    std::fs::create_dir_all(directory).map_err(|error| StorageError::io(directory, error))?;
    let lock = exclusive(directory)?;
    let (mut store, shared) = recovery::recover(directory, incarnation, settings)?;
    let shared = Arc::new(shared);
    let log = DiskLog::start(shared.clone(), lock)?;
    store.set_log(Box::new(log));
    Ok((store, Compactor::new(shared)))
}

fn exclusive(directory: &Path) -> Result<File, StorageError> {
    let path = directory.join(LOCK_NAME);
    let file = File::create(&path).map_err(|error| StorageError::io(&path, error))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StorageError::InUse { path: directory.to_owned() }),
        Err(TryLockError::Error(error)) => Err(StorageError::io(&path, error)),
    }
}

/// The side of the log that the store writes to.
struct DiskLog {
    shared: Arc<Shared>,
    /// Takes the next texts that stay in memory. They go in the order in which they came, so that
    /// whole slabs become free; texts one by one would leave holes between what stays.
    slab: BytesMut,
    /// The documents whose texts are still in memory, oldest first.
    recent: VecDeque<Arc<Document>>,
    recent_bytes: usize,
    thread: Option<JoinHandle<()>>,
    /// Released when the log goes.
    _lock: File,
}

impl DiskLog {
    fn start(shared: Arc<Shared>, lock: File) -> Result<Self, StorageError> {
        let writer = shared.clone();
        let thread = std::thread::Builder::new()
            .name("commit".to_owned())
            .spawn(move || writer.run())
            .map_err(|error| StorageError::io(&shared.directory, error))?;
        let recent = VecDeque::new();
        let slab = BytesMut::new();
        Ok(Self { shared, slab, recent, recent_bytes: 0, thread: Some(thread), _lock: lock })
    }

    /// Gives up the oldest texts in memory once there are too many.
    fn remember(&mut self, document: &Arc<Document>) {
        let text = document.text.read();
        if self.slab.capacity() < text.len() {
            self.slab = BytesMut::with_capacity(SLAB_BYTES.max(text.len()));
        }
        self.slab.extend_from_slice(&text);
        document.text.keep(self.slab.split().freeze());
        self.recent_bytes += document.text.len();
        self.recent.push_back(document.clone());
        let durable = self.shared.health.progress().durable();
        while self.recent_bytes > self.shared.settings.sizes.recent_bytes
            && let Some(oldest) = self.recent.pop_front_if(|oldest| oldest.sequence <= durable)
        {
            self.recent_bytes -= oldest.text.len();
            oldest.text.forget();
        }
    }
}

impl CommitLog for DiskLog {
    fn append(&mut self, commit: &Commit) -> Result<(), LogError> {
        let (container, lsn, writes) = match &commit.change {
            Change::Items { container, lsn, writes } => (*container, *lsn, writes),
            Change::Expire { container, default_ttl } => {
                let write = |out: &mut Vec<u8>| {
                    codec::write_expire(commit, *container, *default_ttl, out);
                };
                return self.shared.append(commit.sequence, write).map(drop);
            }
            _ => return self.shared.change_catalogue(commit),
        };
        let (position, texts) = self.shared.append(commit.sequence, |out| {
            codec::write_commit(commit, container, lsn, writes, out)
        })?;
        let puts = writes.iter().filter_map(|write| match write {
            Write::Put(document) => Some(document),
            Write::Remove { .. } => None,
        });
        for (document, text) in puts.zip(texts) {
            document.text.set_place(place(&position, &text));
            self.remember(document);
        }
        Ok(())
    }

    fn durability(&self) -> Durability {
        let progress = self.shared.health.progress().clone();
        // Without a wait for the disk there is nothing that is better done by another thread.
        let flush = (!self.shared.settings.fsync).then(|| self.shared.clone() as Arc<dyn Flush>);
        Durability::of(progress, flush)
    }
}

fn place(position: &Position, text: &codec::Written) -> Place {
    let offset = position.base + text.position as u64;
    Place {
        segment: position.segment.clone(),
        // Files are rolled long before.
        offset: u32::try_from(offset).unwrap_or(u32::MAX),
        checksum: text.checksum,
    }
}

impl Drop for DiskLog {
    fn drop(&mut self) {
        self.shared.close();
        if let Some(thread) = self.thread.take() {
            // A commit thread that panicked has told nobody that anything was durable.
            drop(thread.join());
        }
    }
}
