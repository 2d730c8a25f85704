//! What is done besides dead letters, in the audit trail: written down before it is done, and what
//! came of it afterwards; and whatever was refused.

use azure::cosmos::StoreError;
use tracing::{error, warn};

use super::super::{OrderApi, store_problem};
use crate::chain::chain;
use crate::problem::Problem;
use crate::store::audit::{AuditEntry, Deed, Outcome, Subject};

/// Stands for a reason where none is asked for and none was given.
const NO_REASON: &str = "(none given)";

/// Characters of what a client calls the place that it acts on. Known ones are shorter.
pub(super) const SOURCE_CHARS_MAX: usize = 64;

/// What somebody sets out to do.
#[derive(Debug)]
pub(in crate::order_api) struct Intent {
    pub(in crate::order_api) deed: Deed,
    pub(in crate::order_api) actor: String,
    /// Why, if it was said.
    pub(in crate::order_api) reason: String,
    /// Where.
    pub(in crate::order_api) source: String,
    pub(in crate::order_api) message_id: Option<String>,
    pub(in crate::order_api) order_id: Option<String>,
}

impl Intent {
    fn subject<'a>(&'a self, source: &'a str) -> Subject<'a> {
        Subject {
            action: self.deed,
            actor: &self.actor,
            reason: if self.reason.is_empty() { NO_REASON } else { &self.reason },
            source,
            sequence_number: None,
            message_id: self.message_id.as_deref(),
            order_id: self.order_id.clone(),
        }
    }

    fn source(&self) -> String {
        self.source.chars().take(SOURCE_CHARS_MAX).collect()
    }

    /// The record of doing it.
    pub(in crate::order_api) fn entry(&self) -> AuditEntry {
        AuditEntry::of_deed(&self.subject(&self.source()))
    }

    /// Writes down that it was refused.
    pub(in crate::order_api) async fn refused(&self, api: &OrderApi, problem: &Problem) {
        let entry = AuditEntry::refused(&self.subject(&self.source()), &problem.summary());
        note(api, &entry).await;
    }
}

/// Writes down that it is begun; nothing may be done where that fails.
pub(in crate::order_api) async fn begin(api: &OrderApi, entry: &AuditEntry) -> Result<(), Problem> {
    api.ops.audit.begin(entry).await.map(drop).map_err(|error| {
        warn!(error = %chain(&error), "nothing is done that is not written down");
        store_problem(&error)
    })
}

/// Writes down what came of it, which has happened by now.
pub(in crate::order_api) async fn end(api: &OrderApi, entry: &AuditEntry, outcome: Outcome) {
    if let Err(error) = api.ops.audit.mark(entry, outcome, None).await {
        error!(error = %chain(&error), entry = entry.id, ?outcome,
            "the audit trail is behind what was done");
    }
}

/// Writes down the end that `entry` has by now, also where it is not certain that its beginning was.
pub(in crate::order_api) async fn settle(
    api: &OrderApi,
    entry: &AuditEntry,
    is_there: bool,
) -> Result<(), StoreError> {
    if !is_there {
        // What was begun may have reached the store after all: then this changes nothing.
        api.ops.audit.note(entry).await?;
    }
    api.ops.audit.mark(entry, entry.outcome, None).await
}

/// Writes an entry that nothing depends on.
pub(in crate::order_api) async fn note(api: &OrderApi, entry: &AuditEntry) {
    if let Err(error) = api.ops.audit.note(entry).await {
        // What was answered stands; the log keeps what the trail could not.
        warn!(error = %chain(&error), actor = entry.actor, action = entry.action.as_str(),
            source = entry.source, detail = entry.detail, "an entry is not in the audit trail");
    }
}
