//! The order as a whole: what makes it unwind, how each part is undone, who closes it.
//!
//! An order unwinds when a service's answer is no or the customer cancels. From that moment on no
//! part that would have to be undone begins any more, and each such part is undone exactly once:
//! its effect first (stock given back, payment cancelled, both idempotent and both leaving a
//! tombstone that stops a late act), then its status, by the moves here. Compensations therefore
//! need no lease: whichever of them comes second finds nothing to do.
//!
//! The last move of an order writes `overall` and the closing event, in one batch.

use serde_json::Value;

use crate::automaton::{Edit, Guard, Move, Status, record, set, stage_path, status_path};
use crate::event::EventType;
use crate::history::{Happening, HistoryEntry};
use crate::order::{Cancellation, Overall};
use crate::{Order, OutboxEvent, Service, Timestamp};

/// The customer cancels. Admitted only while nobody has set out to charge; others are told in the
/// same batch.
#[must_use]
pub fn cancel(order: &Order, now: Timestamp, trace: Option<&str>) -> Move {
    let mut edits = vec![set("/cancellation", Cancellation { at: now })];
    record(&mut edits, order, &HistoryEntry::new(now, Happening::CancelRequested));
    let event = OutboxEvent::about(order, EventType::OrderCancelRequested, now, None, trace);
    Move { guard: Guard::Cancellable, edits, event: Some(Box::new(event)) }
}

/// Notes that a service's part is undone. `how` is the end state: released, or refunded for a
/// payment that had been made. `uncalled` admits the move only while nobody has set out to call
/// the world outside.
#[must_use]
pub fn compensated(
    order: &Order,
    service: Service,
    how: Status,
    now: Timestamp,
    uncalled: bool,
) -> Move {
    let mut edits = vec![
        set(status_path(service), how),
        set(stage_path(service, "leaseUntil"), 0),
        set(stage_path(service, "error"), Value::Null),
        set(stage_path(service, "unwound"), true),
        set(stage_path(service, "updatedAt"), now),
    ];
    let what = if how == Status::Refunded { Happening::Refunded } else { Happening::Released };
    let entry = HistoryEntry { service: Some(service), ..HistoryEntry::new(now, what) };
    record(&mut edits, order, &entry);
    Move::silent(Guard::Compensable { service, uncalled }, edits)
}

/// Notes that nothing is left of an act that was answered no: half of an order may have been
/// reserved before the other half was found missing.
#[must_use]
pub fn unwound(service: Service, now: Timestamp) -> Move {
    let edits =
        vec![set(stage_path(service, "unwound"), true), set(stage_path(service, "updatedAt"), now)];
    Move::silent(Guard::Rejected { service }, edits)
}

/// An operator replays the message of a part that was given up on: it is pending again, and
/// `without_fault` takes away the failure that the client asked this service for. The attempt
/// number stays, so that whoever still believes to hold the part is fenced off as before.
#[must_use]
pub fn reopen(order: &Order, service: Service, now: Timestamp, without_fault: bool) -> Move {
    let mut edits = vec![
        set(status_path(service), Status::Pending),
        set(stage_path(service, "leaseUntil"), 0),
        set(stage_path(service, "error"), Value::Null),
        set(stage_path(service, "updatedAt"), now),
    ];
    let fault = order.faults.contains_key(&service) && without_fault;
    if fault {
        edits.push(Edit::Remove(format!("/faults/{service}")));
    }
    let note = fault.then(|| "without the failure that was asked for".to_owned());
    let entry = HistoryEntry {
        service: Some(service),
        note,
        ..HistoryEntry::new(now, Happening::Replayed)
    };
    record(&mut edits, order, &entry);
    Move::silent(Guard::Reopenable { service }, edits)
}

/// The closing move, if this order is ready for it: it writes `overall` once, with the closing
/// event in the same batch.
#[must_use]
pub fn close(order: &Order, now: Timestamp, trace: Option<&str>) -> Option<Move> {
    let guard = [Guard::AllDone, Guard::Unwound].into_iter().find(|g| g.admits(order))?;
    let (overall, what, event_type) = match guard {
        Guard::AllDone => (Overall::Completed, Happening::Completed, EventType::OrderCompleted),
        _ if order.cancellation.is_some() => {
            (Overall::Cancelled, Happening::Cancelled, EventType::OrderCancelled)
        }
        _ => (Overall::Failed, Happening::OrderFailed, EventType::OrderFailed),
    };
    let reason = order.failure();
    let note = reason.map(|(service, reason)| format!("{service}: {reason}"));
    let mut edits: Vec<Edit> = vec![set("/overall", overall)];
    let entry = HistoryEntry { note: note.clone(), ..HistoryEntry::new(now, what) };
    record(&mut edits, order, &entry);
    let event = OutboxEvent::about(order, event_type, now, note.as_deref(), trace);
    Some(Move { guard, edits, event: Some(Box::new(event)) })
}
