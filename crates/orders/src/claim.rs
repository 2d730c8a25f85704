//! The moves of one service with its own part of an order: claim, complete, reject, give back.

use serde_json::Value;

use crate::automaton::{Edit, Guard, Move, Status, record, set, stage_path, status_path};
use crate::event::EventType;
use crate::history::{Happening, HistoryEntry};
use crate::limits::ERROR_CHARS_MAX;
use crate::{Order, OutboxEvent, Service, Timestamp};

/// A part of an order that is ours for a while.
#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    /// The order as it was when claimed.
    pub order: Order,
    /// Whose part.
    pub service: Service,
    /// The fencing token, from 1.
    pub attempt: u32,
}

/// Why a claim was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// There is nothing left to do: acknowledge the message.
    Finished,
    /// The order unwinds, so nothing is begun: acknowledge. Its compensation has a message of its
    /// own.
    Withdrawn,
    /// The lease is ours: an earlier answer of the store was lost.
    Ours,
    /// Another attempt holds a lease until then (milliseconds since the Unix epoch). Never
    /// acknowledge without leaving a copy: that attempt may still die.
    Busy {
        /// End of the lease.
        until_ms: i64,
    },
    /// Free by now: claim again.
    Free,
}

/// What becomes of an attempt that did not succeed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoSuccess {
    /// The broker delivers the message again at once.
    Redelivered,
    /// A copy comes back after this many milliseconds.
    Delayed {
        /// The delay.
        after_ms: i64,
    },
    /// The message is in a dead-letter or poison queue.
    DeadLettered,
}

/// Takes an order in hand: attempt + 1, a lease of `lease_ms` milliseconds from `now`. `owner` is
/// unique to the invocation; `calls_out` says that the world outside will be called.
#[must_use]
pub fn claim(
    service: Service,
    owner: &str,
    now: Timestamp,
    lease_ms: i64,
    calls_out: bool,
) -> Move {
    let mut edits = vec![
        set(status_path(service), Status::Processing),
        Edit::Increment(stage_path(service, "attempt"), 1),
        set(stage_path(service, "leaseUntil"), now.epoch_ms() + lease_ms),
        set(stage_path(service, "owner"), owner),
        set(stage_path(service, "updatedAt"), now),
    ];
    if calls_out {
        edits.push(Edit::Increment(stage_path(service, "calls"), 1));
    }
    Move::silent(Guard::Claimable { service, now_ms: now.epoch_ms() }, edits)
}

/// What a claim that the store applied gives: `order` is the document after the move.
#[must_use]
pub fn claimed(order: Order, service: Service) -> Claim {
    let attempt = order.stage[service].attempt;
    Claim { order, service, attempt }
}

/// What a refused claim means, judged on the document as read afterwards.
#[must_use]
pub fn standing(order: &Order, service: Service, owner: &str, now: Timestamp) -> Standing {
    let stage = &order.stage[service];
    match order.status[service] {
        status if status.is_finished() => Standing::Finished,
        Status::Processing if stage.lease_until >= now.epoch_ms() => {
            if stage.owner.as_deref() == Some(owner) {
                Standing::Ours
            } else {
                Standing::Busy { until_ms: stage.lease_until }
            }
        }
        _ if service.compensates() && order.is_unwinding() => Standing::Withdrawn,
        _ => Standing::Free,
    }
}

/// Hands billing's part over to the payments queue: nobody holds it until the payment is taken
/// from there. Doing so twice is harmless, so no claim is needed for it. An order that asks
/// billing's own app to fail is handed over with `despite_fault` only, once the failing is done.
#[must_use]
pub fn hand_over(now: Timestamp, despite_fault: bool) -> Move {
    let (service, now_ms) = (Service::Billing, now.epoch_ms());
    let edits = vec![
        set(status_path(service), Status::Processing),
        set(stage_path(service, "leaseUntil"), 0),
        set(stage_path(service, "handedOverAt"), now),
        set(stage_path(service, "updatedAt"), now),
    ];
    let guard = match despite_fault {
        true => Guard::Claimable { service, now_ms },
        false => Guard::Payable { now_ms },
    };
    Move::silent(guard, edits)
}

impl Claim {
    /// The work is done.
    #[must_use]
    pub fn complete(&self, now: Timestamp) -> Move {
        let mut edits = self.end(Status::Done, now);
        edits.push(set(self.stage("error"), Value::Null));
        self.record(&mut edits, now, Happening::Done, None);
        Move::silent(self.held(), edits)
    }

    /// The answer is no. That is no error: the order unwinds, and the others are told in the same
    /// batch.
    #[must_use]
    pub fn reject(&self, now: Timestamp, reason: &str, trace: Option<&str>) -> Move {
        let mut edits = self.end(Status::Failed, now);
        edits.push(set(self.stage("outcome"), reason));
        edits.push(set(self.stage("error"), Value::Null));
        // A declined payment leaves nothing behind; part of an order may be reserved already.
        edits.push(set(self.stage("unwound"), self.service == Service::Billing));
        self.record(&mut edits, now, Happening::Failed, Some(reason.to_owned()));
        let event = match self.service {
            Service::Inventory => Some(EventType::InventoryRejected),
            Service::Billing => Some(EventType::BillingFailed),
            Service::Notification => None,
        };
        let event = event.map(|event_type| {
            Box::new(OutboxEvent::about(&self.order, event_type, now, Some(reason), trace))
        });
        Move { guard: self.held(), edits, event }
    }

    /// The attempt failed. The lease is given back, so that the next delivery need not wait for
    /// it; once the message is given up on, the part is marked dead-lettered.
    #[must_use]
    pub fn fail(&self, now: Timestamp, error: &str, then: NoSuccess) -> Move {
        let error: String = error.chars().take(ERROR_CHARS_MAX).collect();
        let mut edits = vec![
            set(self.stage("leaseUntil"), 0),
            set(self.stage("error"), &error),
            set(self.stage("updatedAt"), now),
        ];
        let what = match then {
            NoSuccess::Redelivered => Happening::AttemptFailed,
            NoSuccess::Delayed { .. } => Happening::RetryScheduled,
            NoSuccess::DeadLettered => {
                edits.push(set(status_path(self.service), Status::DeadLettered));
                Happening::DeadLettered
            }
        };
        let note = match then {
            NoSuccess::Delayed { after_ms } => format!("{error} (again in {after_ms} ms)"),
            _ => error,
        };
        self.record(&mut edits, now, what, Some(note));
        Move::silent(self.held(), edits)
    }

    fn held(&self) -> Guard {
        Guard::HeldBy { service: self.service, attempt: self.attempt }
    }

    fn stage(&self, field: &str) -> String {
        stage_path(self.service, field)
    }

    fn end(&self, status: Status, now: Timestamp) -> Vec<Edit> {
        vec![
            set(status_path(self.service), status),
            set(self.stage("leaseUntil"), 0),
            set(self.stage("updatedAt"), now),
        ]
    }

    fn record(&self, edits: &mut Vec<Edit>, at: Timestamp, what: Happening, note: Option<String>) {
        let entry = HistoryEntry {
            service: Some(self.service),
            attempt: Some(self.attempt),
            // The claim was the last to touch the stage.
            since: self.order.stage[self.service].updated_at,
            note,
            ..HistoryEntry::new(at, what)
        };
        record(edits, &self.order, &entry);
    }
}
