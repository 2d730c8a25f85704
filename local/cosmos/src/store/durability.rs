//! How far a log has come with making commits durable.
//!
//! A commit is visible inside the process before it is on the disk. Nothing that was learned from
//! it may leave the process earlier: every answer waits here for the commit that it depends on.

use std::sync::Arc;

use tokio::sync::watch;

use super::commit::LogError;

/// What a log has achieved.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress {
    /// Every commit up to this one is durable.
    pub(crate) sequence: u64,
    /// Why nothing can become durable any more.
    pub(crate) failure: Option<Arc<str>>,
}

/// A view of the progress of a log.
#[derive(Debug, Clone)]
pub struct Durability(Option<watch::Receiver<Progress>>);

impl Durability {
    /// That of a log whose commits are as durable as they will ever be.
    pub fn immediate() -> Self {
        Self(None)
    }

    pub(crate) fn of(progress: watch::Receiver<Progress>) -> Self {
        Self(Some(progress))
    }

    /// Returns once commit `sequence` is durable.
    ///
    /// # Errors
    /// [`LogError`] when it may never be.
    pub async fn reached(&self, sequence: u64) -> Result<(), LogError> {
        let Some(progress) = &self.0 else { return Ok(()) };
        if let Some(result) = verdict(&progress.borrow(), sequence) {
            return result;
        }
        let mut progress = progress.clone();
        let decided = progress.wait_for(|now| verdict(now, sequence).is_some()).await;
        let now = decided.map_err(|_| LogError("the log has been closed".to_owned()))?;
        verdict(&now, sequence).unwrap_or(Ok(()))
    }

    /// Returns why the log has failed, once it has; never for a log that cannot fail.
    pub async fn failed(&self) -> LogError {
        let Some(progress) = &self.0 else { return std::future::pending().await };
        let mut progress = progress.clone();
        let failure = match progress.wait_for(|now| now.failure.is_some()).await {
            Ok(now) => now.failure.as_ref().map(ToString::to_string),
            Err(_) => None,
        };
        LogError(failure.unwrap_or_else(|| "the log has been closed".to_owned()))
    }
}

fn verdict(progress: &Progress, sequence: u64) -> Option<Result<(), LogError>> {
    match &progress.failure {
        Some(failure) => Some(Err(LogError(failure.to_string()))),
        None => (progress.sequence >= sequence).then_some(Ok(())),
    }
}
