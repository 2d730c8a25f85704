//! An order against an adversary: duplicate, lost and reordered messages, workers that die at any
//! moment or stall and wake up, answers that get lost, clocks that move by any amount. Whatever the
//! schedule, an order must not leave its rails, and once the faults end it must arrive.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, missing_docs, reason = "a test")]

mod model;

use std::collections::BTreeSet;

use model::adversary::{Adversary, Mishap, Step, settings, steps};
use model::document::{apply, at, order};
use model::search::{Budget, explore};
use model::world::{App, Flaw, LEASE_MS, Memory, Setting, State};
use orders::limits::HISTORY_ENTRIES_MAX;
use orders::{Claim, Guard, NoSuccess, Order, Overall, Service, Standing, Status, claim, saga};
use proptest::prelude::*;

proptest! {
    #[test]
    fn no_schedule_leaves_the_rails(setting in settings(), steps in steps()) {
        let mut adversary = Adversary::new(setting);
        adversary.walk(&steps)?;
        adversary.heal(&App::ALL)?;
    }

    #[test]
    fn one_app_that_stays_down_stops_nobody_else(
        setting in settings(),
        steps in steps(),
        down in prop::sample::select(App::ALL.to_vec()),
    ) {
        let mut adversary = Adversary::new(setting);
        adversary.walk(&steps)?;
        let up: Vec<App> = App::ALL.into_iter().filter(|app| *app != down).collect();
        adversary.heal(&up)?;
        let order = &adversary.state.order;
        for service in Service::ALL.into_iter().filter(|service| *service != down.service()) {
            prop_assert!(order.status[service].is_finished(), "{down:?} stops {service}: {order:?}");
        }
        if down == App::Notification && order.is_unwinding() {
            prop_assert_ne!(order.overall, Overall::Accepted, "nobody closes {:?}", order);
        }
    }

    #[test]
    fn without_faults_everything_happens_once(
        setting in settings(),
        schedule in prop::collection::vec((any::<u8>(), 1..6_u8), 0..60),
        cancel in prop::option::of(0..20_usize),
    ) {
        let mut adversary = Adversary::new(setting);
        for (step, (pick, requests)) in schedule.into_iter().enumerate() {
            let cancel = (cancel == Some(step)).then_some(Step::Cancel { age: 0 });
            let run = Step::Run { pick, requests, first: Mishap::None };
            adversary.walk(cancel.iter().chain(&[Step::Deliver { pick }, run]))?;
        }
        adversary.finish()?;
        let state = &adversary.state;
        prop_assert_eq!(state.abandoned, 0);
        prop_assert_eq!(state.sent.len(), 2, "sent {:?}", &state.sent);
        for service in Service::ALL {
            prop_assert!(state.order.stage[service].attempt <= 1);
        }
    }
}

/// Faults one at a time, and the customer.
const BUDGETS: [Budget; 5] = [
    Budget { cancels: 1, ..NOTHING },
    Budget { duplicates: 1, ..NOTHING },
    Budget { faults: 1, ..NOTHING },
    Budget { thefts: 1, ..NOTHING },
    Budget { old_reads: 1, ..NOTHING },
];

/// Several at once, as many as take a few seconds together.
const MIXED_BUDGETS: [Budget; 6] = [
    Budget { duplicates: 1, faults: 1, ..NOTHING },
    Budget { duplicates: 1, cancels: 1, ..NOTHING },
    Budget { faults: 1, old_reads: 1, ..NOTHING },
    Budget { faults: 1, cancels: 1, ..NOTHING },
    Budget { duplicates: 1, thefts: 1, ..NOTHING },
    Budget { old_reads: 1, cancels: 1, ..NOTHING },
];

/// The same for an order that is out of stock, and more: minutes in an unoptimised build.
const DEEP_BUDGETS: [Budget; 5] = [
    Budget { duplicates: 1, faults: 1, ..NOTHING },
    Budget { duplicates: 1, faults: 1, thefts: 1, ..NOTHING },
    Budget { duplicates: 1, thefts: 1, cancels: 1, ..NOTHING },
    Budget { faults: 2, cancels: 1, ..NOTHING },
    Budget { old_reads: 1, faults: 1, cancels: 1, ..NOTHING },
];

const NOTHING: Budget = Budget { duplicates: 0, faults: 0, thefts: 0, old_reads: 0, cancels: 0 };

fn small(available: u32, declines: bool, flaw: Option<Flaw>) -> Setting {
    Setting {
        quantities: vec![1],
        available: vec![available],
        declines,
        history: 1,
        unnotified: true,
        flaw,
        memory: Some(Memory::default()),
    }
}

/// Where a search ends, for people.
fn name(end: &State) -> String {
    let order = &end.order;
    let [inventory, billing] = [order.status.inventory, order.status.billing].map(Status::as_str);
    format!("{:?}, {inventory}, {billing}, {:?}", order.overall, end.bank.payment)
}

/// Explores with and without stock, with and without cover; the names of all ends.
fn explore_all(in_stock: &[Budget], out_of_stock: &[Budget]) -> BTreeSet<String> {
    let mut ends = BTreeSet::new();
    for (available, budgets) in [(1, in_stock), (0, out_of_stock)] {
        for declines in [false, true] {
            for &budget in budgets {
                let seen = explore(&small(available, declines, None), budget).unwrap_or_else(|v| {
                    panic!("{available} in stock, declines: {declines}, {budget:?}: {}", v.0)
                });
                ends.extend(seen.ends.iter().map(name));
            }
        }
    }
    ends
}

#[test]
fn every_interleaving_arrives_where_it_should() {
    let in_stock = [BUDGETS.as_slice(), &MIXED_BUDGETS].concat();
    let ends = explore_all(&in_stock, &BUDGETS);
    let expected = [
        "Cancelled, failed, released, Unknown",
        "Cancelled, released, released, Unknown",
        "Completed, done, done, Captured",
        "Failed, failed, failed, Declined",
        "Failed, failed, refunded, Refunded",
        "Failed, failed, released, Declined",
        "Failed, failed, released, Unknown",
        "Failed, failed, released, Voided",
        "Failed, released, failed, Declined",
    ];
    assert_eq!(ends, expected.map(str::to_owned).into());
}

#[test]
#[ignore = "takes minutes; for changes of the protocol: cargo test --release -- --ignored"]
fn every_interleaving_of_several_faults_arrives_where_it_should() {
    explore_all(&DEEP_BUDGETS, &DEEP_BUDGETS);
}

/// A model that finds nothing proves nothing.
#[test]
fn every_known_mistake_is_found_out() {
    for flaw in Flaw::ALL {
        let found = [(1, false), (0, false)].into_iter().any(|(available, declines)| {
            let setting = small(available, declines, Some(flaw));
            let mut budgets =
                BUDGETS.into_iter().chain([Budget { faults: 1, old_reads: 1, ..NOTHING }]);
            budgets.any(|budget| explore(&setting, budget).is_err())
        });
        assert!(found, "{flaw:?} goes unnoticed");
    }
}

/// Takes the part of a service in hand.
fn begin(order: &Order, service: Service) -> Claim {
    let calls_out = service == Service::Billing;
    let claim = claim::claim(service, "w", at(0), LEASE_MS, calls_out);
    claim::claimed(apply(order, &claim).expect("nobody holds it"), service)
}

#[test]
fn a_busy_order_is_never_called_finished() {
    let order = order(&[1], 1);
    let service = Service::Inventory;
    let standing = |order: &Order, who, ms| claim::standing(order, service, who, at(ms));
    assert_eq!(standing(&order, "x", 0), Standing::Free);
    let claim = begin(&order, service);
    let until_ms = at(LEASE_MS).epoch_ms();
    assert_eq!(standing(&claim.order, "x", 1), Standing::Busy { until_ms });
    assert_eq!(standing(&claim.order, "w", 1), Standing::Ours);
    assert_eq!(standing(&claim.order, "x", LEASE_MS + 1), Standing::Free);
    let done = apply(&claim.order, &claim.complete(at(2))).unwrap();
    assert_eq!(standing(&done, "x", 3), Standing::Finished);
    let last = done.history.last().unwrap();
    assert_eq!((last.since, last.at, last.attempt), (Some(at(0)), at(2), Some(1)));
    let rejected = apply(&claim.order, &claim.reject(at(2), "no", None)).unwrap();
    assert_eq!(standing(&rejected, "x", 3), Standing::Finished);
    assert_eq!(claim::standing(&rejected, Service::Billing, "x", at(3)), Standing::Withdrawn);
    let notification = claim::standing(&rejected, Service::Notification, "x", at(3));
    assert_eq!(notification, Standing::Free, "customers are told of bad news as well");
}

/// The programs of the apps never ask for these, so only the guards stand in the way of one that
/// does.
#[test]
fn nothing_is_undone_that_nobody_wants_undone() {
    let fresh = order(&[1], 1);
    for service in [Service::Inventory, Service::Billing] {
        let claim = begin(&fresh, service);
        let done = apply(&claim.order, &claim.complete(at(1))).unwrap();
        for order in [&fresh, &claim.order, &done] {
            let undo = saga::compensated(order, service, Status::Released, at(2), false);
            assert_eq!(apply(order, &undo), None, "{service} of a healthy order");
            assert_eq!(apply(order, &saga::unwound(service, at(2))), None);
        }
    }
    let telling = begin(&fresh, Service::Notification);
    let untold = apply(&telling.order, &telling.reject(at(1), "no", None)).unwrap();
    assert!(!untold.is_unwinding(), "nobody would be told to undo anything");
    let charging = begin(&fresh, Service::Billing).order;
    let inventory = begin(&charging, Service::Inventory);
    let unwinding = apply(&inventory.order, &inventory.reject(at(1), "no", None)).unwrap();
    let undo = |uncalled| {
        let how = Status::Refunded;
        saga::compensated(&unwinding, Service::Billing, how, at(2), uncalled)
    };
    assert_eq!(apply(&unwinding, &undo(true)), None, "somebody has set out to charge");
    let undone = apply(&unwinding, &undo(false)).unwrap();
    assert_eq!(apply(&undone, &undo(false)), None, "it is undone already");
    assert_eq!(apply(&undone, &saga::cancel(&undone, at(3), None)), None);
}

#[test]
fn a_history_of_failures_stays_bounded_and_keeps_its_beginning() {
    let mut order = order(&[1], 1);
    let accepted = order.history[0].clone();
    for _ in 0..3 * HISTORY_ENTRIES_MAX {
        let claim = begin(&order, Service::Inventory);
        let fail = claim.fail(at(1), "error", NoSuccess::DeadLettered);
        order = apply(&claim.order, &fail).unwrap();
        assert_eq!(order.status.inventory, Status::DeadLettered);
        assert!(order.history.len() <= HISTORY_ENTRIES_MAX);
    }
    assert_eq!(order.history[0], accepted);
    assert_eq!(order.history.last().unwrap().attempt, Some(order.stage.inventory.attempt));
}

#[test]
fn the_roll_up_happens_once_and_only_when_all_are_done() {
    let mut order = order(&[1], 1);
    assert_eq!(saga::close(&order, at(0), None), None);
    for service in Service::ALL {
        let claim = begin(&order, service);
        order = apply(&claim.order, &claim.complete(at(1))).unwrap();
    }
    let closing = saga::close(&order, at(2), None).expect("all are done");
    assert_eq!(closing.guard, Guard::AllDone);
    let closed = apply(&order, &closing).unwrap();
    assert_eq!(closed.overall, Overall::Completed);
    assert_eq!(apply(&closed, &closing), None, "nobody can close it twice");
    assert_eq!(saga::close(&closed, at(3), None), None);
}

#[test]
fn only_what_was_given_up_on_is_reopened_and_the_fault_goes_with_it() {
    use orders::submission::Fault;
    let mut order = order(&[1], 1);
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
