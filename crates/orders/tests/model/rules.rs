//! What must hold: at every transition, in every state, and when nothing is left to do.

use orders::limits::HISTORY_ENTRIES_MAX;
use orders::{EventType, Notice, Order, Overall, Service, Status};

use super::document::Version;
use super::world::{Ending, Payment, Request, Reservation, Setting, State};

/// Something happened that must not.
#[derive(Clone, Debug)]
pub(crate) struct Violation(pub(crate) String);

impl Violation {
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self(what.into())
    }
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Violation {}

/// A violation unless `condition` is true.
pub(crate) fn hold(condition: bool, what: impl FnOnce() -> String) -> Result<(), Violation> {
    if condition { Ok(()) } else { Err(Violation(what())) }
}

macro_rules! hold {
    ($condition:expr, $($what:tt)+) => { hold($condition, || format!($($what)+))? };
}

/// Lines that a history may have beyond its limit. Each part has one holder and one compensation,
/// the customer cancels once and the order is closed once; each of these may have looked when one
/// place was left.
const HISTORY_OVERSHOOT_MAX: usize = 7;

/// Where the part of a service may go. Everything else is the end.
#[expect(clippy::match_same_arms, reason = "a table: one line per state")]
fn successors(service: Service, from: Status) -> &'static [Status] {
    use Status::{DeadLettered, Done, Failed, Pending, Processing, Refunded, Released};
    match (service, from) {
        (Service::Inventory, Pending) => &[Processing, Released],
        (Service::Inventory, Processing) => &[Done, Failed, DeadLettered, Released],
        (Service::Inventory, DeadLettered) => &[Processing, Released],
        (Service::Inventory, Done) => &[Released],
        (Service::Billing, Pending) => &[Processing, Released],
        (Service::Billing, Processing) => &[Done, Failed, DeadLettered, Released, Refunded],
        (Service::Billing, DeadLettered) => &[Processing, Released, Refunded],
        (Service::Billing, Done) => &[Refunded],
        (Service::Notification, Pending) => &[Processing],
        (Service::Notification, Processing) => &[Done, DeadLettered],
        (Service::Notification, DeadLettered) => &[Processing],
        _ => &[],
    }
}

/// One applied move.
pub(crate) fn transition(
    before: &Version,
    after: &Order,
    request: &Request,
) -> Result<(), Violation> {
    let mover = match request {
        Request::Claim { service, .. } | Request::Compensated { service, .. } => Some(*service),
        Request::HandOver => Some(Service::Billing),
        Request::Unwound => Some(Service::Inventory),
        Request::Complete(held) | Request::Reject(held) | Request::Fail(held, _) => {
            Some(held.service())
        }
        _ => None,
    };
    for service in Service::ALL {
        let (from, to) = (before.status[service], after.status[service]);
        hold!(
            from == to || successors(service, from).contains(&to),
            "{service} goes from {from:?} to {to:?}"
        );
        if mover != Some(service) {
            hold!(
                from == to && before.stage[service] == after.stage[service],
                "{request:?} touches {service}"
            );
        }
        let claimed = u32::from(
            matches!(request, Request::Claim { service: claimed, .. } if *claimed == service),
        );
        hold!(
            after.stage[service].attempt == before.stage[service].attempt + claimed,
            "the attempt of {service} does not count its claims"
        );
        hold!(
            after.stage[service].calls >= before.stage[service].calls,
            "the calls of {service} become fewer"
        );
        hold!(
            !before.stage[service].unwound || after.stage[service].unwound,
            "{service} is no longer unwound"
        );
    }
    match request {
        Request::Compensated { service, .. } => {
            hold!(before.status[*service] != after.status[*service], "{service} is undone again")
        }
        Request::Fail(held, ending) => {
            let dead = after.status[held.service()] == Status::DeadLettered;
            hold!(dead == (*ending == Ending::DeadLettered), "{ending:?} and {dead}");
        }
        _ => {}
    }
    if let Request::Complete(held) | Request::Reject(held) | Request::Fail(held, _) = request {
        hold!(
            held.attempt() == before.stage[held.service()].attempt,
            "a stale attempt of {} got through",
            held.service()
        );
    }
    hold!(!before.is_unwinding() || after.is_unwinding(), "an order no longer unwinds");
    if before.overall != Overall::Accepted {
        let parts = |order: &Order| [order.status.inventory, order.status.billing];
        hold!(
            before.overall == after.overall && parts(before) == parts(after),
            "{request:?} changes a closed order"
        );
    }
    hold!(
        before.notified.iter().all(|(notice, at)| after.notified.get(notice) == Some(at)),
        "the customer is told again"
    );
    Ok(())
}

/// What holds in every state.
pub(crate) fn always(state: &State, setting: &Setting) -> Result<(), Violation> {
    let order = &state.order;
    let unwinding = order.is_unwinding();

    for (sku, shelf) in state.shelves.iter().enumerate() {
        let sum = shelf.available + shelf.reserved + shelf.elsewhere;
        hold!(sum == setting.available[sku], "sku-{sku}: {sum} units");
        let reserved = shelf.reservation == Reservation::Reserved;
        let expected = if reserved { setting.quantities[sku] } else { 0 };
        hold!(shelf.reserved == expected, "sku-{sku}: {} units reserved", shelf.reserved);
    }
    let shelves = || state.shelves.iter().map(|shelf| shelf.reservation);
    match order.status.inventory {
        Status::Done => hold!(
            unwinding || shelves().all(|shelf| shelf == Reservation::Reserved),
            "inventory is done without its stock"
        ),
        Status::Released => hold!(
            shelves().all(|shelf| shelf == Reservation::Released),
            "inventory is released and could still reserve"
        ),
        Status::Failed => hold!(
            !order.stage.inventory.unwound || shelves().all(|shelf| shelf == Reservation::Released),
            "inventory is unwound and could still reserve"
        ),
        _ => hold!(
            unwinding || shelves().all(|shelf| shelf != Reservation::Released),
            "stock of a healthy order is released"
        ),
    }

    let bank = &state.bank;
    hold!(bank.captures <= 1, "charged {} times", bank.captures);
    hold!(
        bank.captures - bank.refunds == u32::from(bank.payment == Payment::Captured),
        "the bank's books"
    );
    hold!(
        bank.captures == 0 || order.stage.billing.calls > 0,
        "charged though nobody has set out to"
    );
    hold!(
        bank.captures == 0 || order.cancellation.is_none(),
        "charged though the order is cancelled"
    );
    hold!(
        bank.payment != Payment::Refunded && bank.payment != Payment::Voided || unwinding,
        "payment of a healthy order is cancelled"
    );
    let expected = match order.status.billing {
        Status::Done => bank.payment == Payment::Captured || unwinding,
        Status::Failed => bank.payment == Payment::Declined,
        Status::Refunded => bank.payment == Payment::Refunded,
        Status::Released => {
            matches!(bank.payment, Payment::Voided | Payment::Declined)
                || bank.payment == Payment::Unknown && order.stage.billing.calls == 0
        }
        _ => true,
    };
    hold!(expected, "billing is {:?} and the payment {:?}", order.status.billing, bank.payment);

    let (closed, closing) = match order.overall {
        Overall::Accepted => (true, None),
        Overall::Completed => (order.is_all_done() && !unwinding, Some(EventType::OrderCompleted)),
        Overall::Failed => {
            (order.is_unwound() && order.cancellation.is_none(), Some(EventType::OrderFailed))
        }
        Overall::Cancelled => {
            (order.is_unwound() && order.cancellation.is_some(), Some(EventType::OrderCancelled))
        }
    };
    hold!(closed, "closed as {:?} too early", order.overall);

    // Events are told in the batch of what they tell, so both are there or neither is.
    let told = |event| state.told.iter().filter(|&&told| told == event).count();
    for (event, happened) in [
        (EventType::OrderCreated, true),
        (EventType::InventoryRejected, order.status.inventory == Status::Failed),
        (EventType::BillingFailed, order.status.billing == Status::Failed),
        (EventType::OrderCancelRequested, order.cancellation.is_some()),
        (EventType::OrderCompleted, closing == Some(EventType::OrderCompleted)),
        (EventType::OrderFailed, closing == Some(EventType::OrderFailed)),
        (EventType::OrderCancelled, closing == Some(EventType::OrderCancelled)),
    ] {
        hold!(told(event) == usize::from(happened), "{event} is told {} times", told(event));
    }
    for (index, notice) in state.sent.iter().enumerate() {
        hold!(!state.sent[..index].contains(notice), "{notice:?} is sent twice");
        hold!(
            *notice == Notice::Received || closing.and_then(Notice::of) == Some(*notice),
            "{notice:?} is sent for an order that is {:?}",
            order.overall
        );
    }
    hold!(
        order.history.len() <= HISTORY_ENTRIES_MAX + HISTORY_OVERSHOOT_MAX,
        "{} lines of history",
        order.history.len()
    );
    Ok(())
}

/// What holds when every message has been handled and nobody is at work.
pub(crate) fn finally(state: &State, setting: &Setting) -> Result<(), Violation> {
    always(state, setting)?;
    let order = &state.order;
    hold!(state.is_quiet(), "there is work left");
    hold!(order.overall != Overall::Accepted, "the order is stuck: {order:?}");
    let completed = order.overall == Overall::Completed;
    let net = state.bank.captures - state.bank.refunds;
    hold!(net == u32::from(completed), "{:?} with {net} net charges", order.overall);
    for (sku, shelf) in state.shelves.iter().enumerate() {
        let expected = if completed { setting.quantities[sku] } else { 0 };
        hold!(shelf.reserved == expected, "{:?} with reserved stock", order.overall);
    }
    for part in [order.status.inventory, order.status.billing] {
        hold!(completed || part != Status::Done, "{:?} and not all undone", order.overall);
    }
    hold!(order.status.notification == Status::Done, "the notification is not done");
    let cancelled = order.overall == Overall::Cancelled;
    hold!(cancelled == order.cancellation.is_some(), "cancelled without a wish, or against it");
    hold!(
        setting.unnotified || order.notified.len() == 2,
        "told about {} things",
        order.notified.len()
    );
    let enough = setting.quantities.iter().zip(&setting.available).all(|(q, a)| q <= a);
    hold!(!completed || enough && !setting.declines, "completed against a no");
    hold!(
        order.overall != Overall::Failed || setting.declines || !enough || state.contested,
        "failed without a reason"
    );
    Ok(())
}
