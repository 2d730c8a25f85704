//! What happened to an order, in the order document itself. The portal draws from it, so it must
//! not depend on telemetry being on.

use serde::{Deserialize, Serialize};

use crate::{Service, Timestamp};

/// One line of an order's history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct HistoryEntry {
    /// When it happened.
    pub at: Timestamp,
    /// Whose doing it was; `None` for the order as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// What happened.
    pub what: Happening,
    /// The attempt it belongs to, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// When that attempt began; waiting time is what lies before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    /// For people: why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl HistoryEntry {
    /// A line about the order as a whole.
    #[must_use]
    pub fn new(at: Timestamp, what: Happening) -> Self {
        Self { at, service: None, what, attempt: None, since: None, note: None }
    }
}

/// The kinds of history lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Happening {
    /// The order was committed.
    Accepted,
    /// An attempt of a service did not succeed.
    AttemptFailed,
    /// An attempt did not succeed for a reason that may pass; a copy of the message comes back.
    RetryScheduled,
    /// The message was given up on: it is in a dead-letter or poison queue.
    DeadLettered,
    /// An operator sends the message that was given up on again.
    Replayed,
    /// A service finished.
    Done,
    /// A service's answer is no.
    Failed,
    /// A service's part was undone, or prevented before it began.
    Released,
    /// What was paid went back.
    Refunded,
    /// The customer asked to cancel.
    CancelRequested,
    /// Every service finished.
    Completed,
    /// The order could not be fulfilled, and nothing of it is left.
    OrderFailed,
    /// The order was cancelled, and nothing of it is left.
    Cancelled,
}
