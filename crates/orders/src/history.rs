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

/// The kinds of history lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Happening {
    /// The order was committed.
    Accepted,
    /// An attempt of a service did not succeed.
    AttemptFailed,
    /// The last delivery did not succeed: the message is in the dead-letter queue.
    DeadLettered,
    /// A service finished.
    Done,
    /// Every service finished.
    Completed,
}
