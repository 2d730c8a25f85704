//! The automaton against an adversary: two workers, duplicate deliveries, crashes and pauses at
//! any moment, clocks that move by any amount. Whatever the schedule, the state machine must not
//! leave its rails.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs, reason = "a test binary")]

use orders::automaton::{Edit, Move, Stage};
use orders::order::{Acceptance, PerService};
use orders::{
    Catalogue, Claim, Currency, Guard, NoSuccess, Order, OrderId, Overall, Product, Service, Sku,
    Standing, Status, Submission, Timestamp,
};
use orders::{claim, saga};
use proptest::prelude::*;
use serde_json::Value;

const LEASE_MS: i64 = 50_000;

fn order() -> Order {
    let body = br#"{"customerId":"c","currency":"EUR","items":[{"sku":"a","quantity":1}]}"#;
    let submission = Submission::parse(body).unwrap();
    let catalogue = Catalogue::from_iter([Product {
        sku: Sku::parse("a").unwrap(),
        name: "A".to_owned(),
        unit_price_minor: 1,
        currency: Currency::parse("EUR").unwrap(),
        available: 1,
    }]);
    let acceptance = Acceptance {
        order_id: "01890a5d-ac96-774b-bcce-b302099a8057".parse::<OrderId>().unwrap(),
        at: at(0),
        correlation_id: "corr",
        traceparent: None,
    };
    Order::accept(&submission, submission.price(&catalogue).unwrap(), acceptance).0
}

fn at(ms: i64) -> Timestamp {
    Timestamp::parse("2026-03-01T10:00:00Z").unwrap().plus_ms(ms)
}

/// Applies a move as the store does: all edits or none.
fn apply(order: &Order, change: &Move) -> Option<Order> {
    assert!(change.edits.len() <= 10, "a patch takes ten operations");
    if !change.guard.admits(order) {
        return None;
    }
    let mut document = serde_json::to_value(order).unwrap();
    for edit in &change.edits {
        match edit {
            Edit::Set(path, value) => *document.pointer_mut(path).expect(path) = value.clone(),
            Edit::Increment(path, by) => {
                let target = document.pointer_mut(path).expect(path);
                *target = (target.as_i64().unwrap() + by).into();
            }
            Edit::Append(path, value) => array(&mut document, path).push(value.clone()),
            Edit::Remove(path) => {
                let (parent, name) = path.rsplit_once('/').unwrap();
                match document.pointer_mut(parent).expect(path) {
                    Value::Array(array) => drop(array.remove(name.parse().unwrap())),
                    Value::Object(object) => drop(object.remove(name).expect(path)),
                    other => panic!("{path} leads into {other}"),
                }
            }
        }
    }
    Some(serde_json::from_value(document).expect("the document keeps its shape"))
}

fn array<'v>(document: &'v mut Value, path: &str) -> &'v mut Vec<Value> {
    let parent = path.strip_suffix("/-").expect("an append names the end");
    document.pointer_mut(parent).unwrap().as_array_mut().unwrap()
}

#[derive(Clone, Debug)]
enum Step {
    Deliver { worker: usize },
    Complete { worker: usize },
    Fail { worker: usize, last: bool },
    Crash { worker: usize },
    Wait { ms: i64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let worker = 0..2_usize;
    let step = prop_oneof![
        4 => worker.clone().prop_map(|worker| Step::Deliver { worker }),
        2 => worker.clone().prop_map(|worker| Step::Complete { worker }),
        2 => (worker.clone(), any::<bool>()).prop_map(|(worker, last)| Step::Fail { worker, last }),
        1 => worker.prop_map(|worker| Step::Crash { worker }),
        2 => (1..2 * LEASE_MS).prop_map(|ms| Step::Wait { ms }),
    ];
    prop::collection::vec(step, 0..200)
}

proptest! {
    #[test]
    fn no_schedule_leaves_the_rails(steps in steps()) {
        let service = Service::Billing;
        let mut order = order();
        let untouched = order.clone();
        let mut now = 0;
        let mut held: [Option<Claim>; 2] = [None, None];
        let mut completions = 0;
        for step in steps {
            let before = order.clone();
            match step {
                Step::Wait { ms } => now += ms,
                Step::Crash { worker } => held[worker] = None,
                Step::Deliver { worker } => {
                    let claim = claim::claim(service, "worker", at(now), LEASE_MS, false);
                    if let Some(after) = apply(&order, &claim) {
                        prop_assert_eq!(after.stage[service].attempt,
                            before.stage[service].attempt + 1);
                        held[worker] = Some(claim::claimed(after.clone(), service));
                        order = after;
                    } else {
                        // A refused claim has a reason, and that reason is never "free".
                        prop_assert_ne!(claim::standing(&order, service, "x", at(now)),
                            Standing::Free);
                    }
                }
                Step::Complete { worker } => if let Some(claim) = &held[worker] {
                    let change = claim.complete(at(now));
                    if let Some(after) = apply(&order, &change) {
                        // Only the newest attempt gets through: a stale worker is fenced off.
                        prop_assert_eq!(claim.attempt, before.stage[service].attempt);
                        completions += 1;
                        order = after;
                    }
                },
                Step::Fail { worker, last } => if let Some(claim) = held[worker].take() {
                    let change = claim.fail(at(now), "no", if last { NoSuccess::DeadLettered } else { NoSuccess::Redelivered });
                    if let Some(after) = apply(&order, &change) {
                        prop_assert_eq!(claim.attempt, before.stage[service].attempt);
                        prop_assert!(last == (after.status[service] == Status::DeadLettered));
                        order = after;
                    }
                },
            }
            prop_assert!(order.stage[service].attempt >= before.stage[service].attempt);
            if before.status[service].is_finished() {
                prop_assert_eq!(&order, &before, "a finished service never changes again");
            }
            prop_assert!(order.history.len() <= orders::limits::HISTORY_ENTRIES_MAX);
        }
        prop_assert!(completions <= 1, "completed {} times", completions);
        prop_assert_eq!(order.status[service] == Status::Done, completions == 1);
        for other in [Service::Inventory, Service::Notification] {
            prop_assert_eq!(order.status[other], untouched.status[other]);
            prop_assert_eq!(&order.stage[other], &untouched.stage[other]);
        }
        // Liveness: once every lease is over, one more delivery can always finish the work.
        if order.status[service] != Status::Done {
            let later = at(now + 3 * LEASE_MS);
            let claim = claim::claim(service, "last", later, LEASE_MS, false);
            let claimed = claim::claimed(apply(&order, &claim).unwrap(), service);
            let done = apply(&claimed.order, &claimed.complete(later)).unwrap();
            prop_assert_eq!(done.status[service], Status::Done);
        }
    }
}

#[test]
fn a_busy_order_is_never_called_finished() {
    let order = order();
    let service = Service::Inventory;
    assert_eq!(claim::standing(&order, service, "x", at(0)), Standing::Free);
    let held = apply(&order, &claim::claim(service, "w", at(0), LEASE_MS, false)).unwrap();
    let until_ms = at(LEASE_MS).epoch_ms();
    assert_eq!(claim::standing(&held, service, "x", at(1)), Standing::Busy { until_ms });
    assert_eq!(claim::standing(&held, service, "x", at(LEASE_MS + 1)), Standing::Free);
    let claim = claim::claimed(held, service);
    let done = apply(&claim.order, &claim.complete(at(2))).unwrap();
    assert_eq!(claim::standing(&done, service, "x", at(3)), Standing::Finished);
    let last = done.history.last().unwrap();
    assert_eq!((last.since, last.at, last.attempt), (Some(at(0)), at(2), Some(1)));
}

#[test]
fn the_roll_up_happens_once_and_only_when_all_are_done() {
    let mut order = order();
    assert_eq!(saga::close(&order, at(0), None), None);
    for service in Service::ALL {
        let claim = claim::claimed(
            apply(&order, &claim::claim(service, "w", at(0), LEASE_MS, false)).unwrap(),
            service,
        );
        order = apply(&claim.order, &claim.complete(at(1))).unwrap();
    }
    let closing = saga::close(&order, at(2), None).expect("all are done");
    assert_eq!(closing.guard, Guard::AllDone);
    let closed = apply(&order, &closing).unwrap();
    assert_eq!(closed.overall, Overall::Completed);
    assert_eq!(apply(&closed, &closing), None, "nobody can close it twice");
    assert_eq!(saga::close(&closed, at(3), None), None);
    let fresh: PerService<Stage> = PerService::default();
    assert_ne!(closed.stage, fresh);
}

#[test]
fn only_what_was_given_up_on_is_reopened_and_the_fault_goes_with_it() {
    use orders::submission::Fault;
    let mut order = order();
    order.faults.insert(Service::Billing, Fault::Fail);
    order.faults.insert(Service::Inventory, Fault::Flaky);
    for status in [
        Status::Pending,
        Status::Processing,
        Status::Done,
        Status::Failed,
        Status::Released,
        Status::Refunded,
    ] {
        order.status.billing = status;
        let reopen = saga::reopen(&order, Service::Billing, at(1), true);
        assert!(apply(&order, &reopen).is_none(), "{status:?}");
    }
    order.status.billing = Status::DeadLettered;
    order.stage.billing.attempt = 3;
    order.stage.billing.calls = 2;
    let with = apply(&order, &saga::reopen(&order, Service::Billing, at(1), false)).unwrap();
    assert_eq!(with.faults, order.faults);
    let without = apply(&order, &saga::reopen(&order, Service::Billing, at(1), true)).unwrap();
    assert_eq!(without.faults.keys().collect::<Vec<_>>(), [&Service::Inventory]);
    for after in [with, without] {
        assert_eq!(after.status.billing, Status::Pending);
        assert_eq!((after.stage.billing.attempt, after.stage.billing.calls), (3, 2));
        assert_eq!(after.history.len(), order.history.len() + 1);
        let claim = claim::claim(Service::Billing, "w", at(2), LEASE_MS, true);
        assert_eq!(apply(&after, &claim).unwrap().stage.billing.attempt, 4);
        assert!(apply(&after, &saga::reopen(&after, Service::Billing, at(3), true)).is_none());
    }
}
