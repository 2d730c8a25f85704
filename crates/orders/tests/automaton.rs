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
use orders::{Guard, Overall, Service, Standing, Status, claim, saga};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

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
}

proptest! {
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

/// One fault of each kind at most, in budgets that take a few seconds together.
const BUDGETS: [Budget; 4] = [
    Budget { duplicates: 0, faults: 0, thefts: 0, cancels: 1 },
    Budget { duplicates: 1, faults: 0, thefts: 0, cancels: 0 },
    Budget { duplicates: 0, faults: 1, thefts: 0, cancels: 0 },
    Budget { duplicates: 0, faults: 0, thefts: 1, cancels: 0 },
];

/// Several at once, for an order that is in stock.
const MIXED_BUDGETS: [Budget; 4] = [
    Budget { duplicates: 1, faults: 1, thefts: 0, cancels: 0 },
    Budget { duplicates: 1, faults: 0, thefts: 0, cancels: 1 },
    Budget { duplicates: 0, faults: 1, thefts: 0, cancels: 1 },
    Budget { duplicates: 1, faults: 0, thefts: 1, cancels: 0 },
];

/// The same for an order that is out of stock, and more: minutes in an unoptimised build.
const DEEP_BUDGETS: [Budget; 4] = [
    Budget { duplicates: 1, faults: 1, thefts: 0, cancels: 0 },
    Budget { duplicates: 1, faults: 1, thefts: 1, cancels: 0 },
    Budget { duplicates: 1, faults: 0, thefts: 1, cancels: 1 },
    Budget { duplicates: 0, faults: 2, thefts: 0, cancels: 1 },
];

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
    let in_stock = [BUDGETS, MIXED_BUDGETS].concat();
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
            BUDGETS.iter().any(|&budget| explore(&setting, budget).is_err())
        });
        assert!(found, "{flaw:?} goes unnoticed");
    }
}

#[test]
fn a_busy_order_is_never_called_finished() {
    let order = order(&[1], 1);
    let service = Service::Inventory;
    assert_eq!(claim::standing(&order, service, "x", at(0)), Standing::Free);
    let held = apply(&order, &claim::claim(service, "w", at(0), LEASE_MS, false)).unwrap();
    let until_ms = at(LEASE_MS).epoch_ms();
    assert_eq!(claim::standing(&held, service, "x", at(1)), Standing::Busy { until_ms });
    assert_eq!(claim::standing(&held, service, "w", at(1)), Standing::Ours);
    assert_eq!(claim::standing(&held, service, "x", at(LEASE_MS + 1)), Standing::Free);
    let claim = claim::claimed(held, service);
    let done = apply(&claim.order, &claim.complete(at(2))).unwrap();
    assert_eq!(claim::standing(&done, service, "x", at(3)), Standing::Finished);
    let last = done.history.last().unwrap();
    assert_eq!((last.since, last.at, last.attempt), (Some(at(0)), at(2), Some(1)));
}

#[test]
fn the_roll_up_happens_once_and_only_when_all_are_done() {
    let mut order = order(&[1], 1);
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
}
