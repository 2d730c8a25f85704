//! The commit thread: takes what has been queued, writes it, syncs it, says so.
//!
//! While one group is being synced the next one collects, so that groups grow with the load and
//! with the slowness of the disk, and a lone commit waits for nobody.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Settings;
use super::catalogue::{Catalogue, sync_directory};
use super::frame;
use super::health::Health;
use super::segment::{HEAD_BYTES, Segment};
use crate::limits::MAX_UNWRITTEN_BYTES;
use crate::store::{Commit, LogError};

/// What the store side and the commit thread share.
pub(super) struct Shared {
    pub(super) directory: PathBuf,
    pub(super) settings: Settings,
    pub(super) health: Arc<Health>,
    queue: Mutex<Queue>,
    filled: Condvar,
    drained: Condvar,
    pub(super) catalogue: Mutex<Catalogue>,
    /// All files, oldest first; the last one is being written.
    pub(super) segments: Mutex<Vec<Arc<Segment>>>,
}

struct Queue {
    /// The file that takes the next record, and where.
    segment: Arc<Segment>,
    end: u64,
    chunks: Vec<Chunk>,
    unwritten_bytes: usize,
    /// The last commit in the queue.
    sequence: u64,
    /// A file was created since the directory was last synced.
    new_file: bool,
    closing: bool,
    /// Records queued and records synced, ever.
    queued: u64,
    synced: u64,
    /// Groups in which they were.
    groups: u64,
}

struct Chunk {
    segment: Arc<Segment>,
    offset: u64,
    bytes: Vec<u8>,
}

/// Where a record will be.
pub(super) struct Position {
    pub(super) segment: Arc<Segment>,
    /// Where the buffer that was written into begins in the file.
    pub(super) base: u64,
}

impl Shared {
    pub(super) fn new(
        directory: PathBuf,
        settings: Settings,
        health: Arc<Health>,
        catalogue: Catalogue,
        segments: Vec<Arc<Segment>>,
        current: Arc<Segment>,
        end: u64,
    ) -> Self {
        let queue = Queue {
            segment: current,
            end,
            chunks: Vec::new(),
            unwritten_bytes: 0,
            sequence: 0,
            new_file: true,
            closing: false,
            queued: 0,
            synced: 0,
            groups: 0,
        };
        Self {
            directory,
            settings,
            health,
            queue: Mutex::new(queue),
            filled: Condvar::new(),
            drained: Condvar::new(),
            catalogue: Mutex::new(catalogue),
            segments: Mutex::new(segments),
        }
    }

    /// Queues the record that `write` writes. `sequence` is durable once it is.
    pub(super) fn append<T>(
        &self,
        sequence: u64,
        write: impl FnOnce(&mut Vec<u8>) -> T,
    ) -> Result<(Position, T), LogError> {
        let refused = |why: String| LogError(why);
        if let Some(failure) = self.health.progress().failure {
            return Err(refused(failure.to_string()));
        }
        let mut queue = lock(&self.queue);
        if queue.unwritten_bytes > MAX_UNWRITTEN_BYTES {
            return Err(refused("the disk does not keep up".to_owned()));
        }
        if queue.end >= self.settings.sizes.segment_bytes {
            self.roll(&mut queue).map_err(|error| refused(error.to_string()))?;
        }
        let (segment, end) = (queue.segment.clone(), queue.end);
        let open = queue.chunks.last().is_some_and(|last| Arc::ptr_eq(&last.segment, &segment));
        if !open {
            let chunk = Chunk { segment: segment.clone(), offset: end, bytes: Vec::new() };
            queue.chunks.push(chunk);
        }
        let Some(chunk) = queue.chunks.last_mut() else {
            return Err(refused("the queue is empty".to_owned()));
        };
        let (before, base) = (chunk.bytes.len(), chunk.offset);
        let mut result = None;
        frame::push(&mut chunk.bytes, |out| result = Some(write(out)));
        let grown = chunk.bytes.len() - before;
        queue.end += grown as u64;
        queue.unwritten_bytes += grown;
        queue.queued += 1;
        queue.sequence = queue.sequence.max(sequence);
        drop(queue);
        self.filled.notify_one();
        match result {
            Some(result) => Ok((Position { segment, base }, result)),
            None => Err(refused("nothing was written".to_owned())),
        }
    }

    /// Takes a change of databases, containers or offers; it is durable when this returns.
    pub(super) fn change_catalogue(&self, commit: &Commit) -> Result<(), LogError> {
        // Settings must not be there before the items that were written under the old ones.
        self.flushed()?;
        let mut catalogue = lock(&self.catalogue);
        let mut changed = catalogue.clone();
        changed.apply(commit);
        changed.save(&self.directory).map_err(|error| LogError(error.to_string()))?;
        *catalogue = changed;
        self.note(commit.sequence);
        Ok(())
    }

    /// Lets `sequence` become durable with what is queued already.
    fn note(&self, sequence: u64) {
        let mut queue = lock(&self.queue);
        queue.sequence = queue.sequence.max(sequence);
        drop(queue);
        self.filled.notify_one();
    }

    /// Begins the next file.
    fn roll(&self, queue: &mut Queue) -> std::io::Result<()> {
        let number = queue.segment.number + 1;
        let segment = Segment::create(&self.directory, number, self.health.clone())?;
        let segment = Arc::new(segment);
        lock(&self.segments).push(segment.clone());
        queue.segment = segment;
        queue.end = HEAD_BYTES as u64;
        queue.new_file = true;
        Ok(())
    }

    /// The body of the commit thread.
    pub(super) fn run(&self) {
        loop {
            let (chunks, sequence, new_file, queued) = {
                let mut queue = lock(&self.queue);
                while queue.chunks.is_empty()
                    && queue.sequence <= self.health.durable()
                    && !queue.closing
                {
                    queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                if queue.chunks.is_empty() && queue.sequence <= self.health.durable() {
                    return;
                }
                queue.unwritten_bytes = 0;
                let new_file = std::mem::take(&mut queue.new_file);
                let chunks = std::mem::take(&mut queue.chunks);
                (chunks, queue.sequence, new_file, queue.queued)
            };
            if let Err(error) = self.write(&chunks, new_file) {
                self.health.fail(&format!("{}: {error}", self.directory.display()));
                self.drained.notify_all();
                return;
            }
            self.health.advance(sequence);
            {
                let mut queue = lock(&self.queue);
                queue.synced = queued;
                queue.groups += 1;
            }
            self.drained.notify_all();
        }
    }

    /// Records synced, and the groups in which they were.
    pub(super) fn synced(&self) -> (u64, u64) {
        let queue = lock(&self.queue);
        (queue.synced, queue.groups)
    }

    /// Waits until everything that is queued by now has been synced.
    pub(super) fn flushed(&self) -> Result<(), LogError> {
        let mut queue = lock(&self.queue);
        let wanted = queue.queued;
        while queue.synced < wanted {
            if let Some(failure) = self.health.progress().failure {
                return Err(LogError(failure.to_string()));
            }
            queue = self.drained.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    fn write(&self, chunks: &[Chunk], new_file: bool) -> std::io::Result<()> {
        for chunk in chunks {
            chunk.segment.write(chunk.offset, &chunk.bytes)?;
            if self.settings.fsync {
                chunk.segment.sync()?;
            }
        }
        if new_file { sync_directory(&self.directory) } else { Ok(()) }
    }

    /// Writes what is queued and ends the commit thread.
    pub(super) fn close(&self) {
        lock(&self.queue).closing = true;
        self.filled.notify_one();
    }
}

/// A panic while one of these was held has left nothing half-done that the next holder relies on.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
