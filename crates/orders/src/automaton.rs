//! What may happen to an order: statuses, and moves that name the state they start from.
//!
//! ```text
//! pending --claim(attempt n, lease)--> processing(n) --complete(n)--> done
//!            ^ lease over: re-claim n+1     |--reject(n)--> failed            (a business answer)
//!            `------ attempt failed: lease given back --'
//!                                           `--given up--> dead-lettered --claim--> processing
//!                                                               `--reopen--> pending
//!
//! while the order unwinds:
//! pending | processing | dead-lettered | done --compensate--> released | refunded
//! ```
//!
//! A delivery is a lease, never mutual exclusion: a message can come twice, at once or later, and
//! a worker can stall past its lease and wake up. So every move names the state it starts from
//! ([`Guard`]) and the store applies it only there, atomically. The attempt number is the fencing
//! token: who holds attempt n cannot write once attempt n+1 exists.
//!
//! This module decides; it knows neither the store nor its query language. The moves of one
//! service are in [`claim`](crate::claim), those of the order as a whole in [`saga`](crate::saga).

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::history::HistoryEntry;
use crate::notice::Notice;
use crate::{Order, OutboxEvent, Overall, Service, Timestamp};

/// Where a service stands with an order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// Nobody has begun.
    #[default]
    Pending,
    /// Attempt n is at work, or was and its lease is running out; or, for billing, the payment
    /// waits in its queue.
    Processing,
    /// Finished.
    Done,
    /// The answer is no: out of stock, declined. The reason is the stage's `outcome`.
    Failed,
    /// Given up on for a technical reason; the message waits in a dead-letter or poison queue for
    /// an operator. Another delivery, which only a replay or a duplicate can bring, may claim it
    /// again.
    DeadLettered,
    /// Undone, or prevented before it began: nothing is reserved and nothing was paid.
    Released,
    /// Undone: what was paid went back.
    Refunded,
}

impl Status {
    /// The text form, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::DeadLettered => "dead-lettered",
            Self::Released => "released",
            Self::Refunded => "refunded",
        }
    }

    /// Whether the service will not begin again. `Done` may still be compensated; the others are
    /// the end.
    #[must_use]
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Done | Self::Failed | Self::Released | Self::Refunded)
    }

    /// Whether a compensation has something to move here.
    #[must_use]
    pub fn is_compensable(self) -> bool {
        matches!(self, Self::Pending | Self::Processing | Self::Done | Self::DeadLettered)
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
    /// Which invocation holds the lease.
    pub owner: Option<String>,
    /// The business answer, once there is one: why it failed, or how it was undone.
    #[serde(default)]
    pub outcome: Option<String>,
    /// Why the last attempt failed, for people.
    pub error: Option<String>,
    /// How often somebody set out to change the world outside of the store for this order. Raised
    /// in the claim, so before the call itself: at 1 nobody has called yet, beyond that an earlier
    /// call may have had its effect.
    #[serde(default)]
    pub calls: u32,
    /// When the work was put into a queue of its own; billing only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handed_over_at: Option<Timestamp>,
    /// Whether nothing is left of a failed act.
    #[serde(default)]
    pub unwound: bool,
    /// When any of this changed.
    pub updated_at: Option<Timestamp>,
}

/// The state that a move starts from. The store evaluates it and applies the move in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nobody holds the service's part: pending, dead-lettered, or processing under a lease that
    /// ended before `now_ms`. An order that unwinds begins nothing that would have to be undone.
    Claimable {
        /// Whose part.
        service: Service,
        /// The moment of the claim, in milliseconds since the Unix epoch.
        now_ms: i64,
    },
    /// As [`Self::Claimable`] for billing, and its app is not asked to fail on the way.
    Payable {
        /// The moment of the hand-over, in milliseconds since the Unix epoch.
        now_ms: i64,
    },
    /// Attempt `attempt` still holds the service's part.
    HeldBy {
        /// Whose part.
        service: Service,
        /// The fencing token.
        attempt: u32,
    },
    /// The order unwinds, and the service's part is not undone yet.
    Compensable {
        /// Whose part.
        service: Service,
        /// Only while nobody has set out to call the world outside.
        uncalled: bool,
    },
    /// The service's answer was no, and something may be left of its act.
    Rejected {
        /// Whose.
        service: Service,
    },
    /// The order is open, nothing unwinds it yet, and nobody has set out to charge.
    Cancellable,
    /// Every service is done and nobody has said so yet.
    AllDone,
    /// The order unwinds, all of it is undone, and nobody has said so yet.
    Unwound,
    /// The customer has not been told this yet.
    Untold(Notice),
    /// The service's message was given up on.
    Reopenable {
        /// Whose part.
        service: Service,
    },
}

impl Guard {
    /// Evaluates the guard; the store does the same in its own language.
    #[must_use]
    pub fn admits(&self, order: &Order) -> bool {
        match *self {
            Self::Claimable { service, now_ms } => {
                (!service.compensates() || !order.is_unwinding())
                    && match order.status[service] {
                        Status::Pending | Status::DeadLettered => true,
                        Status::Processing => order.stage[service].lease_until < now_ms,
                        _ => false,
                    }
            }
            Self::Payable { now_ms } => {
                let billing = Service::Billing;
                let fault = order.faults.get(&billing);
                !fault.is_some_and(|fault| fault.fails_the_service())
                    && Self::Claimable { service: billing, now_ms }.admits(order)
            }
            Self::HeldBy { service, attempt } => {
                order.status[service] == Status::Processing
                    && order.stage[service].attempt == attempt
            }
            Self::Compensable { service, uncalled } => {
                order.is_unwinding()
                    && order.status[service].is_compensable()
                    && (!uncalled || order.stage[service].calls == 0)
            }
            Self::Rejected { service } => {
                order.status[service] == Status::Failed && !order.stage[service].unwound
            }
            Self::Cancellable => {
                order.overall == Overall::Accepted
                    && !order.is_unwinding()
                    && order.stage[Service::Billing].calls == 0
            }
            Self::AllDone => order.overall == Overall::Accepted && order.is_all_done(),
            Self::Unwound => order.overall == Overall::Accepted && order.is_unwound(),
            Self::Untold(notice) => !order.notified.contains_key(&notice),
            Self::Reopenable { service } => order.status[service] == Status::DeadLettered,
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
    /// What is told about it, written in the same batch.
    pub event: Option<Box<OutboxEvent>>,
}

impl Move {
    /// A move that nobody is told about.
    pub(crate) fn silent(guard: Guard, edits: Vec<Edit>) -> Self {
        Self { guard, edits, event: None }
    }
}

pub(crate) fn status_path(service: Service) -> String {
    format!("/status/{service}")
}

pub(crate) fn stage_path(service: Service, field: &str) -> String {
    format!("/stage/{service}/{field}")
}

pub(crate) fn set(path: impl Into<String>, value: impl Serialize) -> Edit {
    Edit::Set(path.into(), json!(value))
}

/// Adds a history line; the second oldest gives way when the history is full (the first says when
/// the order was accepted). Moves that overlap may each see the last free place, so the bound can
/// be passed by as many entries as moves overlap then; it does not grow beyond that.
pub(crate) fn record(edits: &mut Vec<Edit>, order: &Order, entry: &HistoryEntry) {
    if order.history.len() >= crate::limits::HISTORY_ENTRIES_MAX {
        edits.push(Edit::Remove("/history/1".to_owned()));
    }
    edits.push(Edit::Append("/history/-".to_owned(), json!(entry)));
}
