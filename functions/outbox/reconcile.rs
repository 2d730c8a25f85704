//! Function `reconcile`: every hour, whether bank, stock and orders tell the same story. It
//! reports what does not fit, in the log and in metric `reconcile.mismatches`, and repairs
//! nothing: what went wrong in a way that nobody foresaw is not undone by a guess.
//!
//! It looks at the orders that changed since its last run and asks the bank about each, and then at
//! the charges in the bank's ledger since then: each must be for an order that exists. What does
//! not fit is looked at a second time, a little later, because three places are never read at the
//! same moment.

mod check;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use azure::cosmos::StoreError;
use futures::StreamExt as _;
use handler::{Context, Failure, Reply, TimerTick};
use orders::{Order, OrderId, Sku, Timestamp};
use serde_json::Value;
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::clock;
use crate::payments::bank::Bank;
use crate::store::OrderStore;
use crate::store::changed::StockLevel;
use crate::store::stock::ReservationState;
use crate::telemetry;
use crate::verdict::Trouble;
use check::Mismatch;

/// How far back the first run looks, and one whose last run is unknown.
const PERIOD_MS: i64 = 60 * 60 * 1_000;

/// How far back any run looks: an outage of a day is noticed by other means.
const PERIOD_MAX_MS: i64 = 24 * 60 * 60 * 1_000;

/// Age that an order's last change must have: what is closed right after it is closed by then, and
/// the next run has what is younger.
const SETTLED_MS: i64 = 5_000;

/// How far two runs overlap, for clocks that differ and for what was too young.
const OVERLAP_MS: i64 = 120_000;

/// Orders of one page of the store.
const PAGE_ORDERS: usize = 100;

/// Pages of one run: at the pace below, about as many as fit the time of an invocation.
const PAGES_MAX: usize = 50;

/// Orders that are looked at at once: gentle to the bank, which has paying customers.
const ORDERS_IN_FLIGHT_MAX: usize = 4;

/// Time that is kept back for the ledger and the stock, which are looked at last.
const REST_RESERVE: Duration = Duration::from_secs(60);

/// How long the bank may take to hand out its ledger.
const LEDGER_WITHIN: Duration = Duration::from_secs(20);

/// Before what does not fit is looked at again.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// Characters of a reference in the log: our own are ids of orders, a stranger's may be anything.
const REFERENCE_CHARS_MAX: usize = 64;

/// How long the bank may take over one question.
const BANK_WITHIN: Duration = Duration::from_secs(5);

/// What a run has seen.
#[derive(Debug, Default)]
struct Tally {
    orders: u64,
    /// Orders about which the bank or the store did not answer.
    unanswered: u64,
    mismatches: u64,
}

/// Why an order was not compared.
#[derive(Debug)]
struct Unanswered(String);

impl From<StoreError> for Unanswered {
    fn from(error: StoreError) -> Self {
        Self(crate::chain::chain(&error))
    }
}

impl From<Trouble> for Unanswered {
    fn from(trouble: Trouble) -> Self {
        Self(trouble.text().to_owned())
    }
}

/// Compares everything that changed since the last run.
pub(super) async fn reconcile(
    store: &OrderStore,
    bank: &Bank,
    tick: &TimerTick,
    context: &Context,
) -> Result<Reply, Failure> {
    let now = clock::now();
    let last = tick.schedule_status.and_then(|status| status.last).map(Timestamp::new);
    let (since, until) = period(last, now);
    let mut tally = Tally::default();
    let mut known = BTreeSet::new();
    let mut continuation: Option<String> = None;
    let mut pages = 0;
    loop {
        let from = continuation.as_deref();
        let page = store.changed_orders(since, until, PAGE_ORDERS, from).await?;
        pages += 1;
        let looks = page.items.iter().map(|document| look(store, bank, document));
        let looks: Vec<_> = looks.collect();
        let mut looks = futures::stream::iter(looks).buffer_unordered(ORDERS_IN_FLIGHT_MAX);
        while let Some((order_id, found)) = looks.next().await {
            tally.orders += 1;
            known.insert(order_id.to_owned());
            match found {
                Ok(found) => tally.report(&found, order_id),
                Err(Unanswered(why)) => {
                    tally.unanswered += 1;
                    warn!(order.id = order_id, why, "order not reconciled");
                }
            }
        }
        continuation = page.continuation;
        if continuation.is_none() {
            break;
        }
        if pages == PAGES_MAX || context.remaining() < REST_RESERVE {
            warn!(orders = tally.orders, "more orders changed than one run compares");
            break;
        }
    }
    if let Err(Unanswered(why)) = strays(store, bank, (since, until), &known, &mut tally).await {
        tally.unanswered += 1;
        warn!(why, "the bank's ledger is not reconciled");
    }
    for level in store.stock_levels().await? {
        let found: Vec<Mismatch> = product(store, level).await?.into_iter().collect();
        tally.report(&found, "");
    }
    telemetry::RECONCILE_ORDERS.add(tally.orders, &[]);
    info!(orders = tally.orders, unanswered = tally.unanswered, mismatches = tally.mismatches,
        %since, %until, "reconciled");
    Ok(Reply::done())
}

impl Tally {
    fn report(&mut self, found: &[Mismatch], order_id: &str) {
        for Mismatch { kind, what } in found {
            self.mismatches += 1;
            telemetry::RECONCILE_MISMATCHES.add(1, &[("kind", kind)]);
            error!(order.id = order_id, kind, what, "mismatch");
        }
    }
}

/// From when to when the changes lie that a run compares.
fn period(last: Option<Timestamp>, now: Timestamp) -> (Timestamp, Timestamp) {
    let since_ms = last.map_or(PERIOD_MS, |last| now.epoch_ms() - last.epoch_ms());
    // Before the first run of a schedule the host says that the last one was in the year 1.
    let since_ms = if (0..=PERIOD_MAX_MS).contains(&since_ms) { since_ms } else { PERIOD_MS };
    (now.plus_ms(-since_ms - OVERLAP_MS), now.plus_ms(-SETTLED_MS))
}

/// What does not fit about the order in a document, both times.
async fn look<'a>(
    store: &OrderStore,
    bank: &Bank,
    document: &'a Value,
) -> (&'a str, Result<Vec<Mismatch>, Unanswered>) {
    let id = document["orderId"].as_str().unwrap_or_default();
    let Ok(order) = serde_json::from_value::<Order>(document.clone()) else {
        let what = "the document cannot be read as an order".to_owned();
        return (id, Ok(vec![Mismatch { kind: "unreadable", what }]));
    };
    (id, twice(store, bank, &order).await)
}

async fn twice(
    store: &OrderStore,
    bank: &Bank,
    order: &Order,
) -> Result<Vec<Mismatch>, Unanswered> {
    let first = compare(store, bank, order).await?;
    if first.is_empty() {
        return Ok(first);
    }
    tokio::time::sleep(SECOND_LOOK).await;
    let Some(order) = store.read(order.order_id).await? else { return Ok(Vec::new()) };
    let second = compare(store, bank, &order.value).await?;
    Ok(second.into_iter().filter(|mismatch| first.contains(mismatch)).collect())
}

async fn compare(
    store: &OrderStore,
    bank: &Bank,
    order: &Order,
) -> Result<Vec<Mismatch>, Unanswered> {
    let payment = bank.look(order.order_id, Instant::now() + BANK_WITHIN).await?;
    let held = held(store, order.order_id, order.quantities().into_keys()).await?;
    Ok(check::order(order, payment.as_ref(), &held, clock::now()))
}

/// Charges of a period that are for no order. An order is committed long before it is charged for,
/// so one look is enough.
async fn strays(
    store: &OrderStore,
    bank: &Bank,
    (since, until): (Timestamp, Timestamp),
    known: &BTreeSet<String>,
    tally: &mut Tally,
) -> Result<(), Unanswered> {
    let (charged, whole) = bank.charged(since, until, Instant::now() + LEDGER_WITHIN).await?;
    if !whole {
        warn!(charges = charged.len(), "the bank has charged more than one run compares");
    }
    let unknown: Vec<&String> = charged.difference(known).collect();
    let looks = unknown.into_iter().map(|reference| async move {
        let exists = match reference.parse::<OrderId>() {
            Ok(order_id) => store.read(order_id).await?.is_some(),
            Err(_) => false,
        };
        Ok::<_, Unanswered>((reference, exists))
    });
    let looks: Vec<_> = looks.collect();
    let mut looks = futures::stream::iter(looks).buffer_unordered(ORDERS_IN_FLIGHT_MAX);
    while let Some(look) = looks.next().await {
        let (reference, exists) = look?;
        if !exists {
            let reference: String = reference.chars().take(REFERENCE_CHARS_MAX).collect();
            let what = format!("charged for {reference:?}, and there is no such order");
            tally.report(&[Mismatch { kind: "charge-stray", what }], &reference);
        }
    }
    Ok(())
}

/// Units per SKU that an order holds.
async fn held(
    store: &OrderStore,
    order_id: OrderId,
    skus: impl Iterator<Item = Sku>,
) -> Result<BTreeMap<Sku, u64>, StoreError> {
    let mut held = BTreeMap::new();
    for sku in skus {
        let reservation = store.reservation(order_id, &sku).await?;
        if let Some(reservation) = reservation
            && reservation.value.state == ReservationState::Reserved
        {
            held.insert(sku, reservation.value.quantity);
        }
    }
    Ok(held)
}

/// What does not fit about a product. A level and its reservations are two reads, and orders go on
/// in between; so only what is off by as much a second time counts.
async fn product(store: &OrderStore, level: StockLevel) -> Result<Option<Mismatch>, StoreError> {
    let off = |level: &StockLevel, units: i64| level.reserved - units;
    let units = store.reserved_units(&level.sku).await?;
    if check::product(&level, units).is_none() {
        return Ok(None);
    }
    let first = off(&level, units);
    tokio::time::sleep(SECOND_LOOK).await;
    let Some(level) = store.stock_level(&level.sku).await? else { return Ok(None) };
    let units = store.reserved_units(&level.sku).await?;
    Ok(check::product(&level, units).filter(|_| off(&level, units) == first))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_period_begins_where_the_last_one_ended_and_is_bounded() {
        let now = Timestamp::parse("2026-03-01T10:00:00Z").unwrap();
        let from = |last: &str| period(Some(Timestamp::parse(last).unwrap()), now).0.to_string();
        assert!(from("2026-03-01T07:30:00Z").starts_with("2026-03-01T07:28:00"));
        for unknown in ["0001-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-03-01T10:00:01Z"] {
            assert!(from(unknown).starts_with("2026-03-01T08:58:00"), "{unknown}");
        }
        assert_eq!(period(None, now).1, now.plus_ms(-SETTLED_MS));
    }
}
