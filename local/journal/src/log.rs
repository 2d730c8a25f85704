//! The log as its owner uses it: append, wait, read back, start a snapshot.

use std::collections::{HashMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::watch;

use crate::committer::Committer;
use crate::directory::{Directory, file_error};
use crate::error::{AppendError, Failed, OpenError};
use crate::format::{ENTRY_HEADER_BYTES, FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FileId, put_entry};
use crate::limits::{FRAME_BYTES_MAX, RECORD_BYTES_MAX, RELEASE_BYTES_MIN, SEGMENT_BYTES_MAX};
use crate::read::{Each, End, read};
use crate::snapshot::Snapshot;
use crate::times::{Counting, WriteTimes};

/// How a log is kept.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether durable means on the disk (`fdatasync`), which survives a crash of the machine.
    /// Without it, durable means handed to the system, which survives a crash of the process.
    pub fsync: bool,
    /// Bytes after which a segment is left for a new one.
    pub segment_bytes: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options { fsync: true, segment_bytes: SEGMENT_BYTES_MAX }
    }
}

/// The number of records appended since the log was opened, this one included.
pub type Position = u64;

/// How far the log is durable.
#[derive(Debug, Clone, Default)]
pub struct Durable {
    /// Every record up to this one is.
    pub position: Position,
    /// Set once nothing more will be.
    pub failed: Option<Failed>,
}

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Location {
    pub(crate) file: FileId,
    pub(crate) offset: u64,
}

impl Location {
    /// The place `bytes` further on in the same record.
    #[must_use]
    pub fn plus(self, bytes: usize) -> Location {
        Location { offset: self.offset + bytes as u64, ..self }
    }
}

/// A record that waits to be durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    /// Wait for this.
    pub position: Position,
    /// Read it back from here.
    pub location: Location,
}

/// What was found at the start.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Records handed back.
    pub records: u64,
    /// Bytes of a last frame that was being written when the process ended, and that nobody was
    /// told of. They are gone.
    pub torn_bytes: u64,
}

/// A frame in the making. Starts with room for its header.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) segment: u32,
    /// Offset of the frame in its segment.
    pub(crate) start: u64,
    pub(crate) frame: Vec<u8>,
    /// The position that is durable with it.
    pub(crate) last: Position,
}

impl Batch {
    fn new(segment: u32, start: u64, mut frame: Vec<u8>) -> Batch {
        frame.clear();
        frame.resize(FRAME_HEADER_BYTES, 0);
        Batch { segment, start, frame, last: 0 }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.frame.len() == FRAME_HEADER_BYTES
    }

    fn end(&self) -> u64 {
        if self.is_empty() { self.start } else { self.start + self.frame.len() as u64 }
    }

    fn slice(&self, at: Location, length: usize) -> Option<&[u8]> {
        if at.file != FileId::segment(self.segment) {
            return None;
        }
        let from = usize::try_from(at.offset.checked_sub(self.start)?).ok()?;
        self.frame.get(from..from.checked_add(length)?)
    }
}

/// What waits to be written.
#[derive(Debug)]
pub(crate) struct Waiting {
    /// Takes what is appended.
    pub(crate) open: Batch,
    /// Full, in order.
    pub(crate) full: VecDeque<Batch>,
    /// On its way to the disk.
    pub(crate) writing: Option<Arc<Batch>>,
    /// A buffer to use again.
    pub(crate) spare: Vec<u8>,
    pub(crate) position: Position,
    /// Bytes in segments since the last snapshot was started.
    pub(crate) since_snapshot: u64,
    /// The last finished snapshot.
    pub(crate) snapshot: Option<u32>,
    pub(crate) closing: bool,
    /// The position at which the committer wants to be told. Telling it is a system call, which
    /// most appends can do without.
    pub(crate) tell_at: Option<Position>,
}

/// What owner and committer share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) directory: Directory,
    pub(crate) options: Options,
    pub(crate) waiting: Mutex<Waiting>,
    /// Told when there is something to write, or the log closes.
    pub(crate) work: Condvar,
    /// Told when more is durable, or nothing more will be.
    pub(crate) progress: Condvar,
    pub(crate) durable: watch::Sender<Durable>,
    pub(crate) times: Counting,
    files: Mutex<HashMap<FileId, Arc<File>>>,
}

impl Shared {
    pub(crate) fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn files(&self) -> MutexGuard<'_, HashMap<FileId, Arc<File>>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn file(&self, id: FileId) -> io::Result<Arc<File>> {
        if let Some(file) = self.files().get(&id) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(self.directory.file(id))?);
        self.files().insert(id, Arc::clone(&file));
        Ok(file)
    }

    /// Deletes what a snapshot stands for.
    pub(crate) fn discard_before(&self, number: u32) -> Result<(), OpenError> {
        self.files().retain(|id, _| id.number >= number);
        for path in self.directory.before(number)? {
            self.release(&path).map_err(file_error(&path))?;
        }
        Ok(())
    }

    /// Deletes a file that nobody reads any more: while records are written, little by little
    /// between their syncs, and faster than they fill others.
    fn release(&self, path: &Path) -> io::Result<()> {
        if self.options.fsync {
            let file = File::options().write(true).open(path)?;
            let mut left = file.metadata()?.len();
            let mut written = self.waiting().since_snapshot;
            while left > RELEASE_BYTES_MIN {
                let (position, bytes) = {
                    let waiting = self.waiting();
                    (waiting.position, waiting.since_snapshot)
                };
                let grown = bytes.saturating_sub(std::mem::replace(&mut written, bytes));
                left = left.saturating_sub(RELEASE_BYTES_MIN.max(2 * grown));
                file.set_len(left)?;
                self.wait_blocking(position).map_err(|Failed(error)| io::Error::other(error))?;
            }
        }
        std::fs::remove_file(path)
    }
}

/// An open log. Nobody else can open it meanwhile. Dropping it writes what waits.
#[derive(Debug)]
pub struct Log {
    shared: Arc<Shared>,
    committer: Option<JoinHandle<()>>,
}

impl Log {
    /// Opens the log in `directory`, which is created if there is none, and hands every record to
    /// `each` in order, with the place it can be read from later.
    ///
    /// # Errors
    /// [`OpenError`]; whatever `each` returns becomes [`OpenError::Record`].
    pub fn open(
        directory: &Path,
        options: Options,
        mut each: impl FnMut(&[u8], Location) -> Result<(), Box<dyn std::error::Error + Send + Sync>>,
    ) -> Result<(Log, Opened), OpenError> {
        let directory = Directory::open(directory)?;
        let files = directory.files(false)?;
        let mut opened = Opened::default();
        let mut each = |record: &[u8], at: Location| {
            opened.records += 1;
            each(record, at)
        };
        let each: &mut Each<'_> = &mut each;
        if let Some(number) = files.snapshot {
            let id = FileId::snapshot(number);
            read(&directory.file(id), id, false, each)?;
        }
        let last = files.segments.last().copied();
        let mut next = last.map_or(files.snapshot.unwrap_or(1), |last| last + 1);
        let (mut torn, mut since_snapshot) = (None, 0);
        for &number in &files.segments {
            let id = FileId::segment(number);
            let end = read(&directory.file(id), id, Some(number) == last, each)?;
            if let End::Torn { at } = end {
                torn = Some((id, at));
            }
            let path = directory.file(id);
            since_snapshot += path.metadata().map_err(file_error(&path))?.len();
        }
        if let Some((id, at)) = torn {
            let path = directory.file(id);
            opened.torn_bytes = cut_off(&path, at).map_err(file_error(&path))?;
            if at < FILE_HEADER_BYTES as u64 {
                std::fs::remove_file(&path).map_err(file_error(&path))?;
                next = id.number;
            }
        }
        let waiting = Waiting {
            open: Batch::new(next, FILE_HEADER_BYTES as u64, Vec::new()),
            full: VecDeque::new(),
            writing: None,
            spare: Vec::new(),
            position: 0,
            since_snapshot,
            snapshot: files.snapshot,
            closing: false,
            tell_at: None,
        };
        let shared = Arc::new(Shared {
            directory,
            options,
            waiting: Mutex::new(waiting),
            work: Condvar::new(),
            progress: Condvar::new(),
            durable: watch::Sender::new(Durable::default()),
            times: Counting::default(),
            files: Mutex::default(),
        });
        let committer = Committer::new(Arc::clone(&shared));
        let committer = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || committer.run())
            .map_err(file_error(shared.directory.path()))?;
        Ok((Log { shared, committer: Some(committer) }, opened))
    }

    /// Appends one record. It is not durable yet.
    ///
    /// # Errors
    /// It is larger than [`RECORD_BYTES_MAX`].
    pub fn append(&self, record: &[u8]) -> Result<Appended, AppendError> {
        if record.len() > RECORD_BYTES_MAX {
            return Err(AppendError { bytes: record.len() });
        }
        let mut waiting = self.shared.waiting();
        let needed = ENTRY_HEADER_BYTES + record.len();
        if waiting.open.frame.len() - FRAME_HEADER_BYTES + needed > FRAME_BYTES_MAX {
            waiting.close_batch(self.shared.options.segment_bytes, false);
        }
        waiting.position += 1;
        let position = waiting.position;
        let open = &mut waiting.open;
        let offset = open.start + (open.frame.len() + ENTRY_HEADER_BYTES) as u64;
        let location = Location { file: FileId::segment(open.segment), offset };
        put_entry(&mut open.frame, record);
        open.last = position;
        waiting.since_snapshot += needed as u64;
        let told = waiting.tell_at.take_if(|at| *at <= position).is_some();
        drop(waiting);
        if told {
            self.shared.work.notify_one();
        }
        Ok(Appended { position, location })
    }

    /// How far the log is durable; can be waited on for changes.
    #[must_use]
    pub fn durable(&self) -> watch::Receiver<Durable> {
        self.shared.durable.subscribe()
    }

    /// Waits until a record is durable.
    ///
    /// # Errors
    /// It never will be.
    pub async fn wait(&self, position: Position) -> Result<(), Failed> {
        let mut durable = self.durable();
        let reached =
            durable.wait_for(|durable| durable.position >= position || durable.failed.is_some());
        match reached.await {
            Ok(durable) if durable.position >= position => Ok(()),
            Ok(durable) => Err(durable.failed.clone().unwrap_or_else(gone)),
            Err(_) => Err(gone()),
        }
    }

    /// As [`wait`](Log::wait), blocking; for a thread that may.
    ///
    /// # Errors
    /// It never will be.
    pub fn wait_blocking(&self, position: Position) -> Result<(), Failed> {
        self.shared.wait_blocking(position)
    }

    /// Bytes that are appended and not durable: what to look at before taking on more.
    #[must_use]
    pub fn waiting_bytes(&self) -> usize {
        let waiting = self.shared.waiting();
        let full: usize = waiting.full.iter().map(|batch| batch.frame.len()).sum();
        let writing = waiting.writing.as_ref().map_or(0, |batch| batch.frame.len());
        full + writing + waiting.open.frame.len()
    }

    /// Reads `length` bytes back, from a record that is durable or still waits.
    ///
    /// # Errors
    /// The file cannot be read, or is shorter.
    pub fn read(&self, at: Location, length: usize) -> io::Result<Vec<u8>> {
        {
            let waiting = self.shared.waiting();
            let writing = waiting.writing.as_deref();
            let batches = waiting.full.iter().chain(writing).chain([&waiting.open]);
            for batch in batches {
                if let Some(bytes) = batch.slice(at, length) {
                    return Ok(bytes.to_vec());
                }
            }
        }
        let mut bytes = vec![0; length];
        self.shared.file(at.file)?.read_exact_at(&mut bytes, at.offset)?;
        Ok(bytes)
    }

    /// Bytes written since the last snapshot was started: what a start has to read on top of it.
    #[must_use]
    pub fn bytes_since_snapshot(&self) -> u64 {
        self.shared.waiting().since_snapshot
    }

    /// How long the writes so far took.
    #[must_use]
    pub fn write_times(&self) -> WriteTimes {
        self.shared.times.read()
    }

    /// Starts a snapshot of the state after the last appended record; `None` if nothing came since
    /// the last one. Call this where nothing can be appended meanwhile; the snapshot itself is then
    /// written at leisure, from the state as it is by then.
    ///
    /// # Errors
    /// The file cannot be created.
    pub fn snapshot(&self) -> io::Result<Option<Snapshot>> {
        let number = {
            let mut waiting = self.shared.waiting();
            waiting.close_batch(self.shared.options.segment_bytes, true);
            if waiting.snapshot == Some(waiting.open.segment) {
                return Ok(None);
            }
            waiting.since_snapshot = 0;
            waiting.open.segment
        };
        self.shared.work.notify_one();
        Snapshot::create(Arc::clone(&self.shared), number).map(Some)
    }

    /// Ends the log from the owner's side: nothing that is not durable yet ever will be.
    pub fn fail(&self, error: io::Error) {
        self.shared.fail(error);
    }

    /// Writes what waits, and closes.
    ///
    /// # Errors
    /// The disk did not take it.
    pub fn close(mut self) -> Result<(), Failed> {
        self.finish();
        let failed = self.shared.durable.borrow().failed.clone();
        failed.map_or(Ok(()), Err)
    }

    #[cfg(test)]
    pub(crate) fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    fn finish(&mut self) {
        self.shared.waiting().closing = true;
        self.shared.work.notify_one();
        if let Some(committer) = self.committer.take() {
            // Its panic would have been reported where it happened.
            let _ = committer.join();
        }
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        self.finish();
    }
}

impl Shared {
    /// See [`Log::fail`].
    pub(crate) fn fail(&self, error: io::Error) {
        let failed = Failed(Arc::new(error));
        tracing::error!(error = %failed.0, "the journal cannot be used any more");
        let _waiting = self.waiting();
        self.durable.send_modify(|durable| {
            durable.failed.get_or_insert(failed);
        });
        self.progress.notify_all();
        self.work.notify_all();
    }

    pub(crate) fn wait_blocking(&self, position: Position) -> Result<(), Failed> {
        let mut waiting = self.waiting();
        loop {
            {
                let durable = self.durable.borrow();
                if durable.position >= position {
                    return Ok(());
                }
                if let Some(failed) = &durable.failed {
                    return Err(failed.clone());
                }
            }
            // What is told is told under the lock, so nothing is missed.
            waiting = self.progress.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Waiting {
    /// Makes the open batch a full one and opens the next, in a new segment if this one is long
    /// enough or `anew`.
    pub(crate) fn close_batch(&mut self, segment_bytes: u64, anew: bool) {
        let end = self.open.end();
        let fresh = end == FILE_HEADER_BYTES as u64;
        let rotate = !fresh && (anew || end >= segment_bytes);
        let (segment, start) = if rotate {
            (self.open.segment + 1, FILE_HEADER_BYTES as u64)
        } else {
            (self.open.segment, end)
        };
        let next = Batch::new(segment, start, std::mem::take(&mut self.spare));
        let closed = std::mem::replace(&mut self.open, next);
        if !closed.is_empty() {
            self.full.push_back(closed);
        }
    }
}

fn gone() -> Failed {
    Failed(Arc::new(io::Error::other("the journal is closed")))
}

/// Cuts a file at `at`; how many bytes are gone.
fn cut_off(path: &Path, at: u64) -> io::Result<u64> {
    let file = File::options().write(true).open(path)?;
    let bytes = file.metadata()?.len().saturating_sub(at);
    file.set_len(at)?;
    file.sync_all()?;
    Ok(bytes)
}
