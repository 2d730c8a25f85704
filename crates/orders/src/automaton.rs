//! What one service may do with its own part of an order.
//!
//! ```text
//! pending --claim(attempt n, lease)--> processing(n) --complete(n)--> done
//!            ^ lease over: re-claim n+1     |--last delivery failed--> dead-lettered(n)
//!            `-------- attempt failed: lease given back --'
//! ```
//!
//! A delivery is a lease, never mutual exclusion: a message can come twice, at once or later, and
//! a worker can stall past its lease and wake up. So every move names the state it starts from
//! ([`Guard`]) and the store applies it only there, atomically. The attempt number is the fencing
//! token: who holds attempt n cannot write once attempt n+1 exists.
//!
//! This module decides; it knows neither the store nor its query language.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::history::{Happening, HistoryEntry};
use crate::limits::{ERROR_CHARS_MAX, HISTORY_ENTRIES_MAX};
use crate::{Order, Overall, Timestamp};

/// The services that work on an order, each in its own compartment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Reserves stock.
    Inventory,
    /// Charges the customer.
    Billing,
    /// Tells the customer.
    Notification,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Inventory, Self::Billing, Self::Notification];

    /// The name, as in `/status/<service>`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inventory => "inventory",
            Self::Billing => "billing",
            Self::Notification => "notification",
        }
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where a service stands with an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Nobody has begun.
    #[default]
    Pending,
    /// Attempt n is at work, or was and its lease is running out.
    Processing,
    /// Finished; never changes again.
    Done,
    /// Every delivery failed; the message waits in the dead-letter queue for an operator. Another
    /// delivery, which only a replay or a duplicate can bring, may claim it again.
    DeadLettered,
}

impl Status {
    /// The text form, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Done => "done",
            Self::DeadLettered => "dead-lettered",
        }
    }

    /// Whether nothing can follow.
    #[must_use]
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Done)
    }
}

/// The bookkeeping behind a status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    /// Attempts begun; the fencing token of the last one.
    pub attempt: u32,
    /// Until when the attempt owns the service's part, in milliseconds since the Unix epoch; 0
    /// when nobody does.
    pub lease_until: i64,
    /// Which invocation holds the lease, for people.
    pub owner: Option<String>,
    /// Why the last attempt failed, for people.
    pub error: Option<String>,
    /// When any of this changed.
    pub updated_at: Option<Timestamp>,
}

/// The state that a move starts from. The store evaluates it and applies the move in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nobody holds the service's part: pending, dead-lettered, or processing under a lease that
    /// ended before `now_ms`.
    Claimable {
        /// Whose part.
        service: Service,
        /// The moment of the claim, in milliseconds since the Unix epoch.
        now_ms: i64,
    },
    /// Attempt `attempt` still holds the service's part.
    HeldBy {
        /// Whose part.
        service: Service,
        /// The fencing token.
        attempt: u32,
    },
    /// Every service is done and nobody has said so yet.
    AllDone,
}

impl Guard {
    /// Evaluates the guard; the store does the same in its own language.
    #[must_use]
    pub fn admits(&self, order: &Order) -> bool {
        match *self {
            Self::Claimable { service, now_ms } => match order.status[service] {
                Status::Pending | Status::DeadLettered => true,
                Status::Processing => order.stage[service].lease_until < now_ms,
                Status::Done => false,
            },
            Self::HeldBy { service, attempt } => {
                order.status[service] == Status::Processing
                    && order.stage[service].attempt == attempt
            }
            Self::AllDone => order.overall == Overall::Accepted && order.is_all_done(),
        }
    }
}

/// One edit of the order document. Paths are JSON Pointers.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// Writes a value.
    Set(String, Value),
    /// Adds to a number.
    Increment(String, i64),
    /// Adds to the end of an array.
    Append(String, Value),
    /// Takes an element out.
    Remove(String),
}

/// Edits that are applied together, and only where the guard admits them.
#[derive(Clone, Debug, PartialEq)]
pub struct Move {
    /// Where the move may start.
    pub guard: Guard,
    /// What it changes; at most ten, which is what the store takes in one patch.
    pub edits: Vec<Edit>,
}

/// A part of an order that is ours for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The order as it was when claimed.
    pub order: Order,
    /// The fencing token, from 1.
    pub attempt: u32,
}

/// Why a claim was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// The work is done: acknowledge the message.
    Finished,
    /// Another attempt holds a lease until then (milliseconds since the Unix epoch). Never
    /// acknowledge: that attempt may still die.
    Busy {
        /// End of the lease.
        until_ms: i64,
    },
    /// Free by now: claim again.
    Free,
}

fn status_path(service: Service) -> String {
    format!("/status/{service}")
}

fn stage_path(service: Service, field: &str) -> String {
    format!("/stage/{service}/{field}")
}

fn history(entry: &HistoryEntry) -> Edit {
    Edit::Append("/history/-".to_owned(), json!(entry))
}

/// Takes an order in hand: attempt + 1, a lease of `lease_ms` milliseconds from `now`.
#[must_use]
pub fn claim(service: Service, owner: &str, now: Timestamp, lease_ms: i64) -> Move {
    Move {
        guard: Guard::Claimable { service, now_ms: now.epoch_ms() },
        edits: vec![
            Edit::Set(status_path(service), json!(Status::Processing)),
            Edit::Increment(stage_path(service, "attempt"), 1),
            Edit::Set(stage_path(service, "leaseUntil"), json!(now.epoch_ms() + lease_ms)),
            Edit::Set(stage_path(service, "owner"), json!(owner)),
            Edit::Set(stage_path(service, "updatedAt"), json!(now)),
        ],
    }
}

/// What a claim that the store applied gives: `order` is the document after the move.
#[must_use]
pub fn claimed(order: Order, service: Service) -> Claim {
    let attempt = order.stage[service].attempt;
    Claim { order, attempt }
}

/// What a refused claim means, judged on the document as read afterwards.
#[must_use]
pub fn standing(order: &Order, service: Service, now: Timestamp) -> Standing {
    match order.status[service] {
        Status::Done => Standing::Finished,
        Status::Pending | Status::DeadLettered => Standing::Free,
        Status::Processing => {
            let until_ms = order.stage[service].lease_until;
            if until_ms < now.epoch_ms() { Standing::Free } else { Standing::Busy { until_ms } }
        }
    }
}

impl Claim {
    /// The work is done.
    #[must_use]
    pub fn complete(&self, service: Service, now: Timestamp) -> Move {
        let mut edits = vec![
            Edit::Set(status_path(service), json!(Status::Done)),
            Edit::Set(stage_path(service, "leaseUntil"), json!(0)),
            Edit::Set(stage_path(service, "error"), Value::Null),
            Edit::Set(stage_path(service, "updatedAt"), json!(now)),
        ];
        self.record(&mut edits, service, now, Happening::Done, None);
        Move { guard: Guard::HeldBy { service, attempt: self.attempt }, edits }
    }

    /// The attempt failed. The lease is given back, so that the next delivery need not wait for
    /// it; after the `last` delivery the part is marked dead-lettered instead.
    #[must_use]
    pub fn fail(&self, service: Service, now: Timestamp, error: &str, last: bool) -> Move {
        let error: String = error.chars().take(ERROR_CHARS_MAX).collect();
        let mut edits = vec![
            Edit::Set(stage_path(service, "leaseUntil"), json!(0)),
            Edit::Set(stage_path(service, "error"), json!(error)),
            Edit::Set(stage_path(service, "updatedAt"), json!(now)),
        ];
        let what = if last {
            edits.push(Edit::Set(status_path(service), json!(Status::DeadLettered)));
            Happening::DeadLettered
        } else {
            Happening::AttemptFailed
        };
        self.record(&mut edits, service, now, what, Some(error));
        Move { guard: Guard::HeldBy { service, attempt: self.attempt }, edits }
    }

    /// Adds a history line; the second oldest gives way when the history is full (the first says
    /// when the order was accepted). Overlapping services may each see one free place, so the
    /// bound can be passed by one entry per service, no more.
    fn record(
        &self,
        edits: &mut Vec<Edit>,
        service: Service,
        at: Timestamp,
        what: Happening,
        note: Option<String>,
    ) {
        if self.order.history.len() >= HISTORY_ENTRIES_MAX {
            edits.push(Edit::Remove("/history/1".to_owned()));
        }
        let entry = HistoryEntry {
            at,
            service: Some(service),
            what,
            attempt: Some(self.attempt),
            // The claim was the last to touch the stage.
            since: self.order.stage[service].updated_at,
            note,
        };
        edits.push(history(&entry));
    }
}

/// The closing move, if this order is ready for it.
#[must_use]
pub fn roll_up(order: &Order, now: Timestamp) -> Option<Move> {
    let done = HistoryEntry {
        at: now,
        service: None,
        what: Happening::Completed,
        attempt: None,
        since: None,
        note: None,
    };
    Guard::AllDone.admits(order).then(|| Move {
        guard: Guard::AllDone,
        edits: vec![Edit::Set("/overall".to_owned(), json!(Overall::Completed)), history(&done)],
    })
}
