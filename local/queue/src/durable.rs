//! The store over a journal: commits that outlive the process, and when they do.
//!
//! A commit is applied once the journal has taken it, and its request is answered once the disk
//! has. Whoever sees a change that is not on the disk yet is answered later than it is: an answer
//! waits for everything that was appended before it.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use journal::{Failed, Log, OpenError, Opened};
use serde::Serialize;

use crate::limits::{JOURNAL_WAITING_BYTES_MAX, SNAPSHOT_AFTER_BYTES};
use crate::store::{Commit, CommitLog, LogError, Record, Store, Volatile};

/// The journal as the service sees it.
#[derive(Clone)]
pub(crate) struct Durable {
    log: Arc<Log>,
    /// Position of the latest commit.
    latest: Arc<AtomicU64>,
}

/// The journal as the store sees it.
struct Appender(Durable);

/// A commit as [`Record::Commit`] has it, without a copy of it.
#[derive(Serialize)]
enum Written<'a> {
    Commit(&'a Commit),
}

impl Durable {
    /// Rebuilds the store from the journal in `directory`, which is created if there is none.
    ///
    /// # Errors
    /// [`OpenError`].
    pub(crate) fn open(
        directory: &Path,
        incarnation: u64,
        deletion_ms: u64,
        fsync: bool,
    ) -> Result<(Store, Self, Opened), OpenError> {
        let mut store = Store::new(incarnation, deletion_ms, Box::new(Volatile));
        let each = |record: &[u8], _| {
            store.restore(serde_json::from_slice::<Record>(record)?);
            Ok(())
        };
        let options = journal::Options { fsync, ..journal::Options::default() };
        let (log, opened) = Log::open(directory, options, each)?;
        let durable = Self { log: Arc::new(log), latest: Arc::default() };
        store.set_log(Box::new(Appender(durable.clone())));
        Ok((store, durable, opened))
    }

    /// Waits until everything that was committed before this call is on the disk.
    ///
    /// # Errors
    /// It never will be.
    pub(crate) async fn settled(&self) -> Result<(), Failed> {
        self.log.wait(self.latest.load(Ordering::Acquire)).await
    }

    /// Whether a start would read so much history that a snapshot is worth its while.
    pub(crate) fn wants_snapshot(&self) -> bool {
        self.log.bytes_since_snapshot() > SNAPSHOT_AFTER_BYTES
    }

    /// Writes a snapshot, which `store` locks for a moment; blocks. Without one the next start
    /// takes longer, which is all.
    pub(crate) fn snapshot<'a, S>(&self, store: impl FnOnce() -> S) -> std::io::Result<()>
    where
        S: std::ops::Deref<Target = Store> + 'a,
    {
        let (snapshot, records) = {
            let store = store();
            let Some(snapshot) = self.log.snapshot()? else { return Ok(()) };
            (snapshot, store.snapshot())
        };
        let mut snapshot = snapshot;
        for record in records {
            snapshot.append(&serde_json::to_vec(&record)?)?;
        }
        snapshot.commit()?.discard()
    }
}

impl CommitLog for Appender {
    fn append(&mut self, commit: &Commit) -> Result<(), LogError> {
        let Self(Durable { log, latest }) = self;
        if let Some(failed) = &log.durable().borrow().failed {
            return Err(LogError(failed.to_string()));
        }
        if log.waiting_bytes() > JOURNAL_WAITING_BYTES_MAX {
            return Err(LogError("the disk is too slow for what comes in".to_owned()));
        }
        let refused = |error: &dyn std::error::Error| LogError(error.to_string());
        let record = serde_json::to_vec(&Written::Commit(commit)).map_err(|e| refused(&e))?;
        let appended = log.append(&record).map_err(|e| refused(&e))?;
        latest.store(appended.position, Ordering::Release);
        Ok(())
    }
}
