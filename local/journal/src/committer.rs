//! The thread that writes: one frame after another, each durable before the next is begun.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::Failed;
use crate::format::FileId;
use crate::limits::{BUFFER_BYTES_KEPT_MAX, GATHER_QUIET_US, GATHER_SHARE, GATHER_US_MAX};
use crate::log::{Batch, Position, Shared, Waiting};
use crate::pace::Pace;

pub(crate) struct Committer {
    shared: Arc<Shared>,
    /// The segment being written.
    segment: Option<(u32, File)>,
    /// The last write with a sync: how many records it had, how long it took and when it ended.
    last: Option<(Position, Duration, Instant)>,
    /// Of writes with a sync. Without one a write costs too little to be worth a wait.
    pace: Option<Pace>,
}

impl Drop for Committer {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // Nobody would come to write what they wait for.
            self.shared.fail(io::Error::other("the thread that writes has panicked"));
        }
    }
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>) -> Committer {
        let pace = shared.options.fsync.then(Pace::default);
        Committer { shared, segment: None, last: None, pace }
    }

    /// Writes until the log is closed or the disk fails.
    pub(crate) fn run(mut self) {
        while let Some(batch) = self.next() {
            let begun = Instant::now();
            let records = batch.last - self.shared.durable.borrow().position;
            if let Some(pace) = &mut self.pace {
                pace.begin(begun, records);
            }
            let result = self.write(&batch);
            let ended = Instant::now();
            self.shared.times.add(ended - begun);
            if self.shared.options.fsync {
                self.last = Some((records, ended - begun, ended));
            }
            let failed = result.err().map(|error| Failed(Arc::new(error)));
            let position = batch.last;
            let mut waiting = self.shared.waiting();
            waiting.writing = None;
            if let Some(Batch { frame, .. }) = Arc::into_inner(batch)
                && frame.capacity() <= BUFFER_BYTES_KEPT_MAX
            {
                waiting.spare = frame;
            }
            if let Some(failed) = failed {
                tracing::error!(error = %failed.0, "the journal cannot be written");
                self.shared.durable.send_modify(|durable| durable.failed = Some(failed));
                self.shared.progress.notify_all();
                return;
            }
            self.shared.durable.send_modify(|durable| durable.position = position);
            self.shared.progress.notify_all();
        }
    }

    /// The next batch, once there is one; `None` when the log is closed and all is written.
    fn next(&self) -> Option<Arc<Batch>> {
        let mut waiting = self.shared.waiting();
        loop {
            if self.shared.durable.borrow().failed.is_some() {
                return None;
            }
            if waiting.full.is_empty() && !waiting.open.is_empty() {
                let pace = self.pace.as_ref();
                waiting = match pace.and_then(|pace| pace.rest(Instant::now())) {
                    Some((rest, records)) => self.keep_pace(waiting, rest, records),
                    None => self.gather(waiting),
                };
                waiting.close_batch(self.shared.options.segment_bytes, false);
            }
            if let Some(mut batch) = waiting.full.pop_front() {
                FileId::segment(batch.segment).finish(batch.start, &mut batch.frame);
                let batch = Arc::new(batch);
                waiting.writing = Some(Arc::clone(&batch));
                return Some(batch);
            }
            if waiting.closing {
                return None;
            }
            waiting.tell_at = Some(waiting.position + 1);
            waiting = self.shared.work.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Under load, lets a write become large enough to be worth what it costs everybody.
    fn keep_pace<'a>(
        &self,
        mut waiting: MutexGuard<'a, Waiting>,
        rest: Duration,
        records: Position,
    ) -> MutexGuard<'a, Waiting> {
        let wanted = self.shared.durable.borrow().position + records;
        let until = Instant::now() + rest;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let enough = waiting.position >= wanted || !waiting.full.is_empty();
            if enough || waiting.closing || left.is_zero() {
                return waiting;
            }
            waiting.tell_at = Some(wanted);
            let waited = self.shared.work.wait_timeout(waiting, left);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Lets follow what is about to: clients that were answered by the last write come back at
    /// once, and all of them should be in the same one. Whoever comes alone does not wait.
    fn gather<'a>(&self, mut waiting: MutexGuard<'a, Waiting>) -> MutexGuard<'a, Waiting> {
        let Some((records, took, ended)) = self.last else { return waiting };
        let wanted = self.shared.durable.borrow().position + records;
        let most = (took / GATHER_SHARE).min(Duration::from_micros(GATHER_US_MAX));
        loop {
            let before = waiting.position;
            let over = ended.elapsed() >= most || !waiting.full.is_empty() || waiting.closing;
            if over || before >= wanted {
                return waiting;
            }
            waiting.tell_at = Some(wanted);
            let quiet = Duration::from_micros(GATHER_QUIET_US);
            let waited = self.shared.work.wait_timeout(waiting, quiet);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
            if waiting.position == before {
                return waiting;
            }
        }
    }

    fn write(&mut self, batch: &Batch) -> io::Result<()> {
        let sync = self.shared.options.fsync;
        let file = match &mut self.segment {
            Some((number, file)) if *number == batch.segment => file,
            other => {
                let id = FileId::segment(batch.segment);
                let path = self.shared.directory.file(id);
                let mut file = OpenOptions::new().create_new(true).append(true).open(path)?;
                file.write_all(&id.header())?;
                if sync {
                    file.sync_all()?;
                    self.shared.directory.sync()?;
                }
                &mut other.insert((batch.segment, file)).1
            }
        };
        file.write_all(&batch.frame)?;
        if sync {
            file.sync_data()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::{Log, Options};

    #[test]
    fn whoever_waits_is_told_when_the_thread_panics() {
        let directory = std::env::temp_dir().join(format!("journal-panic-{}", std::process::id()));
        let (log, _) = Log::open(&directory, Options::default(), |_, _| Ok(())).unwrap();
        let committer = super::Committer::new(log.shared());
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| log.wait_blocking(1));
            let writing = scope.spawn(move || {
                let _committer = committer;
                panic!("on purpose");
            });
            writing.join().unwrap_err();
            let failed = waiting.join().unwrap().unwrap_err();
            assert!(failed.0.to_string().contains("panicked"));
        });
        drop(log);
        std::fs::remove_dir_all(directory).unwrap();
    }
}
