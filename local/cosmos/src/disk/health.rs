//! Whether the log still works, and how far it has come.

use std::sync::Arc;

use crate::store::Progress;

/// Shared by the files of a log and its writer. Once failed, it stays failed: after an fsync that
/// did not succeed nobody knows what is on the disk.
#[derive(Debug, Default)]
pub(crate) struct Health(Arc<Progress>);

impl Health {
    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.0
    }

    /// Nothing can be trusted any more.
    pub(crate) fn fail(&self, reason: &str) {
        if self.0.fail(reason) {
            tracing::error!(reason, "the log has failed");
        }
    }
}
