//! Whether the log still works, and how far it has come.

use std::sync::Arc;

use tokio::sync::watch;

use crate::store::Progress;

/// Shared by the files of a log and its writer. Once failed, it stays failed: after an fsync that
/// did not succeed nobody knows what is on the disk.
#[derive(Debug)]
pub(crate) struct Health(watch::Sender<Progress>);

impl Health {
    pub(super) fn new() -> Self {
        Self(watch::Sender::new(Progress::default()))
    }

    pub(super) fn watch(&self) -> watch::Receiver<Progress> {
        self.0.subscribe()
    }

    pub(super) fn progress(&self) -> Progress {
        self.0.borrow().clone()
    }

    pub(super) fn durable(&self) -> u64 {
        self.0.borrow().sequence
    }

    /// Everything up to `sequence` is durable.
    pub(super) fn advance(&self, sequence: u64) {
        self.0.send_modify(|progress| progress.sequence = progress.sequence.max(sequence));
    }

    /// Nothing can be trusted any more.
    pub(crate) fn fail(&self, reason: &str) {
        self.0.send_if_modified(|progress| {
            let first = progress.failure.is_none();
            if first {
                tracing::error!(reason, "the log has failed");
                progress.failure = Some(Arc::from(reason));
            }
            first
        });
    }
}
