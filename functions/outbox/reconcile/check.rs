//! What has to agree about one order and one product, decided without asking anybody.
//!
//! An order that is on its way somewhere may be ahead of its bank or its stock, or behind; what is
//! judged here is only what cannot be on its way.

use std::collections::BTreeMap;

use orders::{Order, Overall, Service, Sku, Status, Timestamp, saga};

use crate::payments::bank::{Payment, PaymentState};
use crate::store::changed::StockLevel;

/// Two places that disagree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mismatch {
    /// Stable, for machines: attribute `kind` of metric `reconcile.mismatches`.
    pub(super) kind: &'static str,
    /// For people.
    pub(super) what: String,
}

fn mismatch(kind: &'static str, what: impl Into<String>) -> Mismatch {
    Mismatch { kind, what: what.into() }
}

/// Everything about one order: its roll-up against its parts, its payment against the bank, and
/// its reservations (units per SKU that are held) against the stock.
pub(super) fn order(
    order: &Order,
    payment: Option<&Payment>,
    held: &BTreeMap<Sku, u64>,
    now: Timestamp,
) -> Vec<Mismatch> {
    let mut found = Vec::new();
    found.extend(roll_up(order, now));
    found.extend(money(order, payment));
    found.extend(units(order, held));
    found
}

/// Whether the order is being undone right now.
fn unwinds(order: &Order) -> bool {
    order.overall == Overall::Accepted && order.is_unwinding()
}

fn roll_up(order: &Order, now: Timestamp) -> Option<Mismatch> {
    let fits = match order.overall {
        Overall::Completed => Service::ALL.iter().all(|s| order.status[*s] == Status::Done),
        Overall::Failed | Overall::Cancelled => order.is_unwound(),
        Overall::Accepted => {
            let left_open = saga::close(order, now, None).is_some();
            return left_open.then(|| mismatch("not-closed", "every part is settled"));
        }
    };
    (!fits).then(|| mismatch("overall", format!("{} over other parts", order.overall.as_str())))
}

fn money(order: &Order, payment: Option<&Payment>) -> Option<Mismatch> {
    let state = payment.map(|payment| payment.state);
    let seen = || state.map_or("nothing".to_owned(), |state| format!("{state:?}").to_lowercase());
    let billing = order.status[Service::Billing];
    if unwinds(order) {
        return None;
    }
    let paid = order.overall == Overall::Completed || billing == Status::Done;
    if paid && order.overall != Overall::Failed && order.overall != Overall::Cancelled {
        let Some(payment) = payment.filter(|payment| payment.state == PaymentState::Captured)
        else {
            return Some(mismatch("charge-missing", format!("paid, but the bank has {}", seen())));
        };
        let differs = payment.amount_minor.is_some_and(|amount| amount != order.total_minor);
        return differs.then(|| {
            let amount = payment.amount_minor.unwrap_or_default();
            mismatch("charge-amount", format!("{} charged, {amount} taken", order.total_minor))
        });
    }
    if matches!(order.overall, Overall::Failed | Overall::Cancelled) {
        if state == Some(PaymentState::Captured) {
            return Some(mismatch("charge-left", "over, but the bank still has the money"));
        }
        let refunded = billing == Status::Refunded;
        return (refunded && state != Some(PaymentState::Refunded))
            .then(|| mismatch("refund-missing", format!("refunded, but the bank has {}", seen())));
    }
    let uncalled = order.stage[Service::Billing].calls == 0;
    let moved = matches!(state, Some(PaymentState::Captured | PaymentState::Refunded));
    (uncalled && moved)
        .then(|| mismatch("charge-unasked", "nobody set out to charge, but the bank did"))
}

fn units(order: &Order, held: &BTreeMap<Sku, u64>) -> Vec<Mismatch> {
    let over = matches!(order.overall, Overall::Failed | Overall::Cancelled);
    let reserved = order.status[Service::Inventory] == Status::Done;
    if unwinds(order) || (!over && !reserved) {
        return Vec::new();
    }
    let mut found = Vec::new();
    for (sku, quantity) in order.quantities() {
        let wanted = if over { 0 } else { quantity };
        let units = held.get(&sku).copied().unwrap_or(0);
        if units != wanted {
            let kind = if over { "reservation-left" } else { "reservation-missing" };
            found.push(mismatch(kind, format!("{units} of {sku} held, {wanted} expected")));
        }
    }
    found
}

/// What is reserved of a product against the sum of its reservations.
pub(super) fn product(level: &StockLevel, held: i64) -> Option<Mismatch> {
    let StockLevel { sku, available, reserved } = level;
    if *available < 0 || *reserved < 0 {
        let what = format!("{sku}: {available} available, {reserved} reserved");
        return Some(mismatch("stock-negative", what));
    }
    (*reserved != held).then(|| {
        let what = format!(
            "{sku}: {reserved} of {} units reserved, but the reservations hold {held}",
            available + reserved,
        );
        mismatch("stock-reserved", what)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const ORDER: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn order_with(overall: &str, [inventory, billing]: [&str; 2], calls: u32) -> Order {
        let at = "2026-03-01T10:00:00.000000Z";
        let stage = |calls: u32| json!({"attempt": 1, "leaseUntil": 0, "owner": null, "error": null, "calls": calls, "unwound": true, "updatedAt": at});
        let order: Value = json!({
            "id": ORDER, "orderId": ORDER, "type": "order", "schemaVersion": 1,
            "customerId": "c-1", "currency": "EUR", "totalMinor": 300, "payloadHash": "h",
            "items": [{"sku": "zinc", "quantity": 3, "unitPriceMinor": 100}],
            "createdAt": at, "sortKey": format!("{at}~{ORDER}"), "correlationId": "c",
            "status": {"inventory": inventory, "billing": billing, "notification": "done"},
            "stage": {"inventory": stage(0), "billing": stage(calls), "notification": stage(0)},
            "overall": overall, "history": [],
        });
        serde_json::from_value(order).unwrap()
    }

    fn kinds(order: &Order, payment: Option<(PaymentState, u64)>, units: u64) -> Vec<&'static str> {
        let payment = payment.map(|(state, amount)| Payment {
            state,
            reason: None,
            amount_minor: Some(amount),
        });
        let held = BTreeMap::from([(order.items[0].sku.clone(), units)]);
        let now = Timestamp::parse("2026-03-01T11:00:00Z").unwrap();
        super::order(order, payment.as_ref(), &held, now).iter().map(|m| m.kind).collect()
    }

    #[test]
    fn what_agrees_is_no_mismatch() {
        use PaymentState::{Captured, Refunded, Voided};
        let completed = order_with("completed", ["done", "done"], 1);
        assert!(kinds(&completed, Some((Captured, 300)), 3).is_empty());
        let failed = order_with("failed", ["failed", "refunded"], 1);
        assert!(kinds(&failed, Some((Refunded, 300)), 0).is_empty());
        let failed = order_with("failed", ["failed", "released"], 0);
        assert!(kinds(&failed, None, 0).is_empty());
        assert!(kinds(&failed, Some((Voided, 300)), 0).is_empty());
        let open = order_with("accepted", ["pending", "processing"], 0);
        assert!(kinds(&open, None, 0).is_empty());
        let charging = order_with("accepted", ["pending", "processing"], 1);
        assert!(kinds(&charging, Some((Captured, 300)), 0).is_empty(), "on its way");
        let unwinding = order_with("accepted", ["failed", "done"], 1);
        assert!(kinds(&unwinding, Some((Refunded, 300)), 0).is_empty(), "on its way");
    }

    #[test]
    fn each_disagreement_has_its_kind() {
        use PaymentState::{Captured, Declined};
        let completed = order_with("completed", ["done", "done"], 1);
        assert_eq!(kinds(&completed, None, 3), ["charge-missing"]);
        assert_eq!(kinds(&completed, Some((Declined, 300)), 3), ["charge-missing"]);
        assert_eq!(kinds(&completed, Some((Captured, 299)), 3), ["charge-amount"]);
        assert_eq!(kinds(&completed, Some((Captured, 300)), 2), ["reservation-missing"]);
        let failed = order_with("failed", ["failed", "released"], 1);
        assert_eq!(kinds(&failed, Some((Captured, 300)), 0), ["charge-left"]);
        assert_eq!(kinds(&failed, None, 3), ["reservation-left"]);
        let refunded = order_with("failed", ["failed", "refunded"], 1);
        assert_eq!(kinds(&refunded, None, 0), ["refund-missing"]);
        let open = order_with("accepted", ["pending", "processing"], 0);
        assert_eq!(kinds(&open, Some((Captured, 300)), 0), ["charge-unasked"]);
        let settled = order_with("accepted", ["done", "done"], 1);
        assert_eq!(kinds(&settled, Some((Captured, 300)), 3), ["not-closed"]);
        let torn = order_with("completed", ["done", "processing"], 1);
        assert_eq!(kinds(&torn, Some((Captured, 300)), 3), ["overall"]);
    }

    #[test]
    fn reserved_units_are_those_of_the_reservations() {
        let sku = order_with("completed", ["done", "done"], 1).items[0].sku.clone();
        let level = |available, reserved| StockLevel { sku: sku.clone(), available, reserved };
        assert_eq!(product(&level(7, 3), 3), None);
        assert_eq!(product(&level(7, 3), 4).unwrap().kind, "stock-reserved");
        assert_eq!(product(&level(-1, 3), 3).unwrap().kind, "stock-negative");
    }
}
