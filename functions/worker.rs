//! One service's hands on the orders in the store: claim, finish, give back, compensate, close.
//! Which step may follow which is decided in the `orders` crate; this module carries the decisions
//! out, with patience for a store that does not answer.

use std::future::Future;
use std::time::Duration;

use azure::cosmos::StoreError;
use orders::submission::Fault;
use orders::{Claim, Move, Order, OrderId, Service, Standing, Status, claim, saga};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::breaker::Breaker;
use crate::chain::chain;
use crate::clock;
use crate::courier::Occasion;
use crate::crash;
use crate::delivery::Delivery;
use crate::publisher::Outbox;
use crate::store::{Moved, OrderStore};
use crate::telemetry;
use crate::verdict::{Trouble, Verdict};

/// How long one attempt owns its part of an order. After a crash nobody else may begin before it
/// is over, so it is short; an invocation is shorter still, so that an attempt that is running is
/// the owner. Below the message lock (one minute), so that the lock outlives it.
pub const LEASE_MS: i64 = 20_000;

/// How long one invocation of a consumer may take.
pub const INVOCATION_DEADLINE: Duration = Duration::from_secs(15);

/// Time that is kept back at the end of an invocation to store its outcome.
const OUTCOME_RESERVE: Duration = Duration::from_secs(4);

/// Claims of one invocation: each refusal but a busy one means that somebody else has just moved,
/// and that cannot go on for long.
const CLAIMS_MAX: u32 = 10;

/// How long a delivery waits for another one of the same order that is at work right now: most
/// are done in milliseconds, and then this one has nothing left to do.
const BUSY_WAIT: Duration = Duration::from_millis(1_500);

/// The first pause between two looks at a busy order; it doubles.
const BUSY_PAUSE_MIN: Duration = Duration::from_millis(25);

/// Pause between two tries of a store that does not answer.
const STORE_RETRY_PAUSE: Duration = Duration::from_millis(500);

/// How long an order that does not exist is looked for: its event can overtake the replication of
/// its document, by milliseconds.
const MISSING_GRACE: Duration = Duration::from_secs(1);

/// Attempts that `Fault::Flaky` lets fail.
pub const FLAKY_ATTEMPTS: u32 = 2;

/// A service at work on orders. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Worker {
    service: Service,
    store: OrderStore,
    outbox: Outbox,
    breaker: Breaker,
}

/// What an attempt found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The work is done.
    Done,
    /// No, for a business reason.
    Rejected(&'static str),
    /// The order was taken back in the meantime; somebody else writes that down.
    Withdrawn,
}

/// How a claim went.
enum Claimed {
    Mine(Box<Claim>),
    /// Nothing is left to do.
    Nothing(Box<Order>),
}

impl Worker {
    /// The worker of a service. Workers of one process share the breaker of their store.
    #[must_use]
    pub fn new(service: Service, store: OrderStore, outbox: Outbox) -> Self {
        Self { service, store, outbox, breaker: Breaker::new("store") }
    }

    /// The store.
    #[must_use]
    pub fn store(&self) -> &OrderStore {
        &self.store
    }

    /// One attempt: claim the order, `act` on it, store the outcome, close the order if that was
    /// the last part; the order as far as this attempt has seen it. `calls_out` says that `act` calls the world outside of the store.
    ///
    /// # Errors
    /// What becomes of the message. The order has a note of it.
    pub async fn attempt(
        &self,
        delivery: &Delivery,
        occasion: &Occasion,
        calls_out: bool,
        act: impl AsyncFnOnce(&Claim, Instant) -> Result<Answer, Trouble>,
    ) -> Result<Order, Verdict> {
        let deadline = Instant::now() + occasion.remaining.saturating_sub(OUTCOME_RESERVE);
        let trace = delivery.event.traceparent.as_deref();
        self.point("before-claim").await;
        let claimed = self.claim(delivery, &occasion.owner, deadline, calls_out).await;
        let claim = match claimed.map_err(|trouble| occasion.judge(trouble))? {
            Claimed::Mine(claim) => claim,
            Claimed::Nothing(order) => return Ok(*order),
        };
        let (order_id, service, attempt) = (delivery.order_id, self.service, claim.attempt);
        self.point("after-claim").await;
        let working = telemetry::attempt(&delivery.event, service, attempt);
        let worked = match requested_fault(&claim) {
            Some(trouble) => Err(trouble),
            None => match tokio::time::timeout_at(deadline, act(&claim, deadline)).await {
                Ok(worked) => worked,
                Err(_) => Err(Trouble::Unavailable("the attempt ran out of time".into())),
            },
        };
        drop(working);
        self.point("after-act").await;
        let finish = match worked {
            Ok(Answer::Done) => claim.complete(clock::now()),
            Ok(Answer::Rejected(reason)) => claim.reject(clock::now(), reason, trace),
            Ok(Answer::Withdrawn) => {
                info!(order.id = %order_id, service = %service, attempt, "withdrawn");
                return Ok(claim.order);
            }
            Err(trouble) => {
                let verdict = occasion.judge(trouble);
                self.note(&claim, &verdict).await;
                return Err(verdict);
            }
        };
        let order = self.finish(&claim, &finish).await.map_err(|t| occasion.judge(t))?;
        telemetry::finished(&delivery.event, &order, service);
        self.point("after-complete").await;
        info!(order.id = %order_id, service = %service, event.id = delivery.event.id, attempt,
            status = order.status[service].as_str(), "finished");
        self.close(&order, trace).await.map_err(|t| occasion.judge(t))?;
        Ok(order)
    }

    /// Claims the order.
    async fn claim(
        &self,
        delivery: &Delivery,
        owner: &str,
        deadline: Instant,
        calls_out: bool,
    ) -> Result<Claimed, Trouble> {
        let (order_id, service) = (delivery.order_id, self.service);
        let busy_until = Instant::now() + BUSY_WAIT;
        let mut pause = BUSY_PAUSE_MIN;
        let mut claims = 0;
        loop {
            let change = claim::claim(service, owner, clock::now(), LEASE_MS, calls_out);
            match self.patiently(deadline, || self.store.apply(order_id, &change)).await? {
                Moved::Applied(order) => {
                    return Ok(Claimed::Mine(Box::new(claim::claimed(*order, service))));
                }
                Moved::Missing | Moved::Refused => {}
            }
            let order = self.order(order_id, deadline).await?;
            let now = clock::now();
            match claim::standing(&order, service, owner, now) {
                Standing::Ours => {
                    return Ok(Claimed::Mine(Box::new(claim::claimed(order, service))));
                }
                Standing::Finished | Standing::Withdrawn => {
                    info!(order.id = %order_id, service = %service,
                        event.id = delivery.event.id, "nothing left to do");
                    self.close(&order, delivery.event.traceparent.as_deref()).await?;
                    return Ok(Claimed::Nothing(Box::new(order)));
                }
                Standing::Free => {
                    claims += 1;
                    if claims == CLAIMS_MAX {
                        let what = "the order could not be claimed".to_owned();
                        return Err(Trouble::Transient { what, after: None });
                    }
                }
                Standing::Busy { until_ms } => {
                    if Instant::now() + pause >= busy_until.min(deadline) {
                        let left = u64::try_from(until_ms - now.epoch_ms()).unwrap_or(0);
                        return Err(Trouble::Transient {
                            what: "another attempt is at work on the order".to_owned(),
                            // The lease must be over: the guard asks for more than its end.
                            after: Some(Duration::from_millis(left + 1) + pause),
                        });
                    }
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
    }

    /// The order of an event. An event of an order that does not exist is poison.
    ///
    /// # Errors
    /// There is none, or the store does not answer before `deadline`.
    pub async fn order(&self, order_id: OrderId, deadline: Instant) -> Result<Order, Trouble> {
        let give_up = Instant::now() + MISSING_GRACE;
        let mut pause = BUSY_PAUSE_MIN;
        loop {
            let document = self.patiently(deadline, || self.store.read(order_id)).await?;
            if let Some(document) = document {
                return Ok(document.value);
            }
            if Instant::now() + pause >= give_up {
                return Err(Trouble::poison(
                    "order-missing",
                    format!("no order {order_id} exists"),
                ));
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
    }

    /// Stores the end of the work; the order after it.
    async fn finish(&self, claim: &Claim, change: &Move) -> Result<Order, Trouble> {
        // A fresh allowance: this is what the reserve was kept for.
        let deadline = Instant::now() + OUTCOME_RESERVE;
        let order_id = claim.order.order_id;
        match self.applied(order_id, change, deadline).await? {
            Ok(order) => Ok(order),
            // Either our own patch came through and its answer did not, or another attempt took
            // over, or the order was taken back. All are fine if nothing is left to do.
            Err(order) => match order.status[self.service].is_finished() {
                true => {
                    if let Some(event) = &change.event {
                        // Offered again at worst.
                        self.outbox.offer(event);
                    }
                    Ok(order)
                }
                false => Err(Trouble::Transient {
                    what: "another attempt took the order over before this one was done".into(),
                    after: None,
                }),
            },
        }
    }

    /// Applies a move; the order after it, or the order as it is when the move was refused.
    async fn applied(
        &self,
        order_id: OrderId,
        change: &Move,
        deadline: Instant,
    ) -> Result<Result<Order, Order>, Trouble> {
        match self.patiently(deadline, || self.store.apply(order_id, change)).await? {
            Moved::Applied(order) => {
                if let Some(event) = &change.event {
                    self.outbox.offer(event);
                }
                telemetry::applied(change, &order);
                Ok(Ok(*order))
            }
            Moved::Refused | Moved::Missing => Ok(Err(self.order(order_id, deadline).await?)),
        }
    }

    /// Applies a move that need not be the first of its kind: the order after it, or as it is.
    ///
    /// # Errors
    /// The order does not exist, or the store does not answer.
    pub async fn apply(&self, order_id: OrderId, change: &Move) -> Result<Order, Trouble> {
        let deadline = Instant::now() + OUTCOME_RESERVE;
        Ok(self.applied(order_id, change, deadline).await?.unwrap_or_else(|order| order))
    }

    /// Notes that this service's part is undone, after its effect is, and closes the order if
    /// that was the last part; the order then. With `uncalled` the part is left alone once
    /// somebody has set out to call the world outside.
    ///
    /// # Errors
    /// The store does not answer, or the part keeps changing.
    pub async fn compensated(
        &self,
        order: &Order,
        how: Status,
        uncalled: bool,
        trace: Option<&str>,
    ) -> Result<Order, Trouble> {
        let mut order = order.clone();
        self.point("before-compensated").await;
        for _ in 0..CLAIMS_MAX {
            if self.is_undone(&order) {
                self.point("after-compensated").await;
                self.close(&order, trace).await?;
                return Ok(order);
            }
            if uncalled && order.stage[self.service].calls > 0 {
                return Ok(order);
            }
            // What was read may be behind what the store has: a refused move is no proof of
            // anything, so the next one is chosen from what is there now.
            let change = match order.status[self.service] {
                Status::Failed => saga::unwound(self.service, clock::now()),
                _ => saga::compensated(&order, self.service, how, clock::now(), uncalled),
            };
            order = self.apply(order.order_id, &change).await?;
        }
        let what = "the order could not be compensated".to_owned();
        Err(Trouble::Transient { what, after: None })
    }

    /// Whether nothing of this service's part is left.
    fn is_undone(&self, order: &Order) -> bool {
        match order.status[self.service] {
            Status::Released | Status::Refunded => true,
            Status::Failed => order.stage[self.service].unwound,
            _ => false,
        }
    }

    /// The order of an event that makes it unwind.
    ///
    /// # Errors
    /// There is none, the store does not answer, or the order does not unwind: what was read may
    /// be behind, so the event is looked at again later; one that lies is dead-lettered in the end.
    pub async fn unwinding_order(
        &self,
        order_id: OrderId,
        deadline: Instant,
    ) -> Result<Order, Trouble> {
        let order = self.order(order_id, deadline).await?;
        if order.is_unwinding() {
            return Ok(order);
        }
        let what = "the order does not unwind, as far as the store says".to_owned();
        Err(Trouble::Transient { what, after: None })
    }

    /// Writes the roll-up if this order is ready for it. Who makes the last move does so; after a
    /// crash in between, whoever meets the finished part again.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn close(&self, order: &Order, trace: Option<&str>) -> Result<(), Trouble> {
        let Some(closing) = saga::close(order, clock::now(), trace) else { return Ok(()) };
        self.point("before-close").await;
        let order = self.apply(order.order_id, &closing).await?;
        self.point("after-close").await;
        info!(order.id = %order.order_id, overall = order.overall.as_str(), "order closed");
        Ok(())
    }

    /// Gives the lease back and keeps the reason for people. If that cannot be stored the lease
    /// runs out by itself, so it is no failure of its own.
    async fn note(&self, claim: &Claim, verdict: &Verdict) {
        let (why, then) = verdict.noted();
        let order_id = claim.order.order_id;
        warn!(order.id = %order_id, service = %self.service, attempt = claim.attempt, error = why,
            "attempt failed");
        let change = claim.fail(clock::now(), why, then);
        if let Err(error) = self.store.apply(order_id, &change).await {
            warn!(order.id = %order_id, error = %chain(&error),
                "the failed attempt could not be recorded");
        }
    }

    /// Asks the store until it answers or the deadline is near.
    ///
    /// # Errors
    /// The store does not answer, or refuses.
    pub async fn patiently<T, Fut>(
        &self,
        deadline: Instant,
        ask: impl Fn() -> Fut,
    ) -> Result<T, Trouble>
    where
        Fut: Future<Output = Result<T, StoreError>>,
    {
        loop {
            if self.breaker.admit(deadline).await.is_err() {
                return Err(Trouble::Unavailable("the store does not answer".to_owned()));
            }
            match ask().await {
                Ok(answer) => {
                    self.breaker.succeeded();
                    return Ok(answer);
                }
                Err(error) if error.is_transient() => {
                    if matches!(error, StoreError::Contended) {
                        self.breaker.succeeded();
                    } else {
                        self.breaker.failed();
                    }
                    let pause = error.retry_after().unwrap_or(STORE_RETRY_PAUSE);
                    if Instant::now() + pause >= deadline {
                        return Err(error.into());
                    }
                    tokio::time::sleep(pause).await;
                }
                Err(error) => {
                    // It answered, though not as we would like.
                    self.breaker.succeeded();
                    return Err(error.into());
                }
            }
        }
    }

    async fn point(&self, place: &str) {
        crash::point_of(self.service.as_str(), place).await;
    }
}

/// The failure that the order asks this service for, if any. The bank's are the bank's business.
fn requested_fault(claim: &Claim) -> Option<Trouble> {
    match claim.order.faults.get(&claim.service)? {
        Fault::Fail => Some(Trouble::Crash("the order asks this service to fail".into())),
        Fault::Flaky if claim.attempt <= FLAKY_ATTEMPTS => Some(Trouble::Unavailable(
            "the order asks this service to find its dependency away".into(),
        )),
        Fault::Flaky | Fault::Decline | Fault::Late | Fault::Lost => None,
    }
}
