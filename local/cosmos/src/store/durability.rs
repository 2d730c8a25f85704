//! How far a log has come with making commits durable.
//!
//! A commit is visible inside the process before it is on the disk. Nothing that was learned from
//! it may leave the process earlier: every answer waits here for the commit that it depends on.
//! Progress wakes those whose commit is reached, and nobody else.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::commit::LogError;

/// What a log has achieved, and who waits for more.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    /// Every commit up to this one is durable.
    durable: AtomicU64,
    /// Ends when nothing can become durable any more.
    failed: CancellationToken,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    failure: Option<Arc<str>>,
    /// At most one for each request under way.
    answers: Vec<(u64, oneshot::Sender<()>)>,
}

impl Progress {
    /// Every commit up to this one is durable.
    pub(crate) fn durable(&self) -> u64 {
        self.durable.load(Ordering::Acquire)
    }

    /// Why nothing can become durable any more.
    pub(crate) fn failure(&self) -> Option<Arc<str>> {
        // Asked for every commit; the lock is only taken when there is something to tell.
        self.failed.is_cancelled().then(|| self.lock().failure.clone()).flatten()
    }

    /// Everything up to `sequence` is durable.
    pub(crate) fn advance(&self, sequence: u64) {
        self.durable.fetch_max(sequence, Ordering::AcqRel);
        let reached: Vec<_> =
            self.lock().answers.extract_if(.., |(wanted, _)| *wanted <= sequence).collect();
        for (_, answer) in reached {
            // Whoever has gone meanwhile does not matter.
            let _ = answer.send(());
        }
    }

    /// Nothing can be trusted any more. Only the first reason counts; whether this is it.
    pub(crate) fn fail(&self, reason: &str) -> bool {
        let mut waiting = self.lock();
        let first = waiting.failure.is_none();
        if first {
            waiting.failure = Some(Arc::from(reason));
            self.failed.cancel();
            waiting.answers.clear();
        }
        first
    }

    /// What is known about commit `sequence`, or the end of the wait for it.
    fn ask(&self, sequence: u64) -> Result<Option<oneshot::Receiver<()>>, LogError> {
        if let Some(failure) = self.failure() {
            return Err(LogError(failure.to_string()));
        }
        if self.durable() >= sequence {
            return Ok(None);
        }
        let mut waiting = self.lock();
        if let Some(failure) = &waiting.failure {
            return Err(LogError(failure.to_string()));
        }
        // Progress is noted before the lock is taken to tell of it.
        if self.durable() >= sequence {
            return Ok(None);
        }
        let (answer, answered) = oneshot::channel();
        waiting.answers.push((sequence, answer));
        Ok(Some(answered))
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what has collected, for a log that has no need to wait for anything.
pub(crate) trait Flush: Send + Sync {
    /// Writes what is queued, unless somebody else is writing already.
    fn flush(&self);
}

/// A view of the progress of a log.
#[derive(Clone)]
pub struct Durability(Option<View>);

#[derive(Clone)]
struct View {
    progress: Arc<Progress>,
    flush: Option<Arc<dyn Flush>>,
}

impl Durability {
    /// That of a log whose commits are as durable as they will ever be.
    pub fn immediate() -> Self {
        Self(None)
    }

    /// That of a log that gets on by itself, or whenever somebody waits and calls `flush`.
    pub(crate) fn of(progress: Arc<Progress>, flush: Option<Arc<dyn Flush>>) -> Self {
        Self(Some(View { progress, flush }))
    }

    /// Returns once commit `sequence` is durable.
    ///
    /// # Errors
    /// [`LogError`] when it may never be.
    pub async fn reached(&self, sequence: u64) -> Result<(), LogError> {
        let Some(View { progress, flush }) = &self.0 else { return Ok(()) };
        if progress.durable() < sequence
            && let Some(flush) = flush
        {
            flush.flush();
        }
        let Some(answered) = progress.ask(sequence)? else { return Ok(()) };
        match answered.await {
            Ok(()) => Ok(()),
            Err(_) => Err(LogError(reason(progress))),
        }
    }

    /// Returns why the log has failed, once it has; never for a log that cannot fail.
    pub async fn failed(&self) -> LogError {
        let Some(View { progress, .. }) = &self.0 else { return std::future::pending().await };
        progress.failed.cancelled().await;
        LogError(reason(progress))
    }
}

fn reason(progress: &Progress) -> String {
    let failure = progress.failure().map(|failure| failure.to_string());
    failure.unwrap_or_else(|| "the log has been closed".to_owned())
}
