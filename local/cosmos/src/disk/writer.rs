//! The commit thread: takes what has been queued, writes it, syncs it, says so.
//!
//! While one group is being synced the next one collects, so that groups grow with the load and
//! with the slowness of the disk, and a lone commit waits for nobody. Without a wait for the disk
//! whoever wants to know that a commit is written writes it, and the thread does the rest.

use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Settings;
use super::catalogue::{Catalogue, sync_directory};
use super::frame;
use super::health::Health;
use super::segment::{HEAD_BYTES, Segment};
use crate::limits::MAX_UNWRITTEN_BYTES;
use crate::store::{Commit, Flush, LogError};

/// Largest buffer that is kept between groups: that of a busy second at most.
const MAX_SPARE_BYTES: usize = 1024 * 1024;

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
    /// The commit thread sleeps. Waking it costs a system call even when it is awake.
    sleeping: bool,
    /// Somebody is writing a group.
    writing: bool,
    /// A group could not be written. There will be no other.
    broken: bool,
    /// How many threads wait until the queue has been written.
    awaited: usize,
    /// A buffer that was written, to be filled again.
    spare: Vec<u8>,
}

/// What is written and synced together.
struct Group {
    chunks: Vec<Chunk>,
    /// The last commit in it.
    sequence: u64,
    new_file: bool,
    /// Records queued up to its end, ever.
    queued: u64,
}

impl Queue {
    fn has_work(&self, health: &Health) -> bool {
        !self.chunks.is_empty() || self.sequence > health.progress().durable()
    }

    /// Takes everything as the next group to write.
    fn take(&mut self) -> Group {
        self.unwritten_bytes = 0;
        self.writing = true;
        Group {
            chunks: std::mem::take(&mut self.chunks),
            sequence: self.sequence,
            new_file: std::mem::take(&mut self.new_file),
            queued: self.queued,
        }
    }

    /// Whether the commit thread has to be woken for what there is to do; this is said once.
    fn wake(&mut self, health: &Health) -> bool {
        let wanted = !self.writing && (self.closing || self.has_work(health));
        wanted && std::mem::take(&mut self.sleeping)
    }
}

struct Chunk {
    segment: Arc<Segment>,
    offset: u64,
    bytes: Vec<u8>,
}

impl Chunk {
    /// Whether its buffer is worth keeping, and not too large to keep.
    fn is_handy(&self) -> bool {
        self.bytes.capacity() <= MAX_SPARE_BYTES
    }
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
            sleeping: false,
            writing: false,
            broken: false,
            awaited: 0,
            spare: Vec::new(),
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
        if let Some(failure) = self.health.progress().failure() {
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
            let bytes = std::mem::take(&mut queue.spare);
            queue.chunks.push(Chunk { segment: segment.clone(), offset: end, bytes });
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
        // Without a wait for the disk whoever waits for the commit writes it.
        let due = self.settings.fsync || queue.unwritten_bytes > MAX_SPARE_BYTES;
        let wake = due && queue.wake(&self.health);
        drop(queue);
        if wake {
            self.filled.notify_one();
        }
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
        let _told = Told(&self.health);
        loop {
            let group = {
                let mut queue = lock(&self.queue);
                while !queue.broken
                    && (queue.writing || !(queue.has_work(&self.health) || queue.closing))
                {
                    queue.sleeping = true;
                    queue = self.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
                }
                queue.sleeping = false;
                if queue.broken || !queue.has_work(&self.health) {
                    return;
                }
                queue.take()
            };
            if !self.write_group(group) {
                return;
            }
        }
    }

    /// Writes and syncs a group, and says so; whether that went well.
    fn write_group(&self, mut group: Group) -> bool {
        if let Err(error) = self.write(&group) {
            self.health.fail(&format!("{}: {error}", self.directory.display()));
            lock(&self.queue).broken = true;
            self.drained.notify_all();
            self.filled.notify_one();
            return false;
        }
        self.health.progress().advance(group.sequence);
        let (awaited, wake) = {
            let mut queue = lock(&self.queue);
            queue.synced = group.queued;
            queue.groups += 1;
            queue.writing = false;
            if let Some(chunk) = group.chunks.pop().filter(Chunk::is_handy) {
                queue.spare = chunk.bytes;
                queue.spare.clear();
            }
            (queue.awaited > 0, queue.wake(&self.health))
        };
        if awaited {
            self.drained.notify_all();
        }
        if wake {
            self.filled.notify_one();
        }
        true
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
            if let Some(failure) = self.health.progress().failure() {
                return Err(LogError(failure.to_string()));
            }
            queue.awaited += 1;
            self.filled.notify_one();
            queue = self.drained.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.awaited -= 1;
        }
        Ok(())
    }

    fn write(&self, group: &Group) -> std::io::Result<()> {
        for chunk in &group.chunks {
            chunk.segment.write(chunk.offset, &chunk.bytes)?;
            if self.settings.fsync {
                chunk.segment.sync()?;
            }
        }
        if group.new_file && self.settings.fsync { sync_directory(&self.directory) } else { Ok(()) }
    }

    /// Writes what is queued and ends the commit thread.
    pub(super) fn close(&self) {
        lock(&self.queue).closing = true;
        self.filled.notify_one();
    }
}

impl Flush for Shared {
    fn flush(&self) {
        let group = {
            let mut queue = lock(&self.queue);
            if queue.writing || queue.broken || !queue.has_work(&self.health) {
                return;
            }
            queue.take()
        };
        self.write_group(group);
    }
}

/// Ends every wait when the thread that has it panics: nobody else would come to write.
struct Told<'a>(&'a Health);

impl Drop for Told<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fail("the thread that writes has panicked");
        }
    }
}

/// A panic while one of these was held has left nothing half-done that the next holder relies on.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Durability;

    #[test]
    fn whoever_waits_is_told_when_the_thread_panics() {
        let health = Health::default();
        let durability = Durability::of(health.progress().clone(), None);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || runtime.block_on(durability.reached(1)));
            let writing = scope.spawn(|| {
                let _told = Told(&health);
                panic!("on purpose");
            });
            writing.join().unwrap_err();
            assert!(waiting.join().unwrap().unwrap_err().to_string().contains("panicked"));
        });
    }
}
