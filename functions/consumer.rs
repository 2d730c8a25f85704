//! What every consumer of the topic does around its own work: read the event, claim the order,
//! act, complete. Which step may follow which is decided in `orders::automaton`; this module
//! carries the decisions out and answers the host.
//!
//! The answer is 2xx only when the outcome is stored. Everything else is a failure, after which
//! the host abandons the message and the broker delivers it again, or dead-letters it after the
//! last delivery.

use std::future::Future;
use std::time::Duration;

use azure::cosmos::StoreError;
use handler::{Context, Failure, Reply, ServiceBusMessage};
use orders::automaton::{self, Claim, Standing};
use orders::event::SCHEMA_VERSION;
use orders::submission::Fault;
use orders::{CloudEvent, Move, Order, OrderId, Service};
use tokio::time::Instant;
use tracing::{info, warn};

use crate::chain::chain;
use crate::clock;
use crate::store::{Moved, OrderStore};
use crate::topology::TOPOLOGY;

/// How long one attempt owns its part of an order. Shorter than the message lock (one minute), so
/// that after a crash the redelivery finds the lease over and need not burn a delivery on waiting.
const LEASE_MS: i64 = 45_000;

/// How long one invocation may take: shorter than its lease, so that an attempt that is still
/// running is still the owner.
pub const INVOCATION_DEADLINE: Duration = Duration::from_secs(40);

/// Time that is kept back at the end of an invocation to store its outcome.
const OUTCOME_RESERVE: Duration = Duration::from_secs(5);

/// Claims of one invocation: each refusal but a busy one means that somebody else has just moved,
/// and that cannot go on for long.
const CLAIMS_MAX: u32 = 10;

/// Pause between two tries of a store that does not answer.
const STORE_RETRY_PAUSE: Duration = Duration::from_millis(500);

/// A consumer of the topic for one service.
#[derive(Clone, Debug)]
pub struct Consumer {
    service: Service,
    store: OrderStore,
    max_delivery_count: u32,
}

/// Why an attempt failed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct AttemptError(pub String);

impl Consumer {
    /// The consumer of subscription `<service>-sub`.
    #[must_use]
    pub fn new(service: Service, store: OrderStore) -> Self {
        let subscription = format!("{service}-sub");
        // A subscription that the topology does not know never marks a part dead-lettered.
        let max_delivery_count = TOPOLOGY.max_delivery_count(&subscription).unwrap_or(u32::MAX);
        Self { service, store, max_delivery_count }
    }

    /// Handles one message: `act` does the service's own work on the claimed order.
    ///
    /// # Errors
    /// The message is no event that we know, the order does not exist or is held by another
    /// attempt, the store does not answer, or `act` failed.
    pub async fn handle<F, Fut>(
        &self,
        message: ServiceBusMessage,
        context: Context,
        act: F,
    ) -> Result<Reply, Failure>
    where
        F: FnOnce(Order) -> Fut,
        Fut: Future<Output = Result<(), AttemptError>>,
    {
        let event = read_event(&message)?;
        let order_id = event
            .subject
            .parse::<OrderId>()
            .map_err(|_| Failure::new("poison-message", "the event's subject is no order id"))?;
        let delivery = message.delivery_count();
        let deadline = Instant::now() + context.remaining().saturating_sub(OUTCOME_RESERVE);
        let owner = context.invocation_id().unwrap_or("unknown");
        let service = self.service;

        let Some(claim) = self.claim(order_id, owner, deadline).await? else {
            info!(order.id = %order_id, service = %service, event.id, "already done");
            return Ok(Reply::done());
        };
        let attempt = claim.attempt;
        let worked = match claim.order.faults.get(&service) {
            Some(Fault::Fail) => Err(AttemptError("the order asks this service to fail".into())),
            None => match tokio::time::timeout_at(deadline, act(claim.order.clone())).await {
                Ok(worked) => worked,
                Err(_) => Err(AttemptError("the attempt ran out of time".into())),
            },
        };
        match worked {
            Ok(()) => {
                let change = claim.complete(service, clock::now());
                let order = self.complete(order_id, &change).await?;
                self.close(&order).await?;
                info!(order.id = %order_id, service = %service, event.id, attempt, "done");
                Ok(Reply::done())
            }
            Err(error) => {
                let last = delivery.is_some_and(|count| count >= self.max_delivery_count);
                self.record_failure(order_id, &claim, &error, last).await;
                warn!(order.id = %order_id, service = %service, event.id, attempt, last,
                    error = %error, "attempt failed");
                Err(Failure::new("attempt-failed", error.to_string()))
            }
        }
    }

    /// Claims the order, or `None` when there is nothing left to do.
    async fn claim(
        &self,
        order_id: OrderId,
        owner: &str,
        deadline: Instant,
    ) -> Result<Option<Claim>, Failure> {
        for _ in 0..CLAIMS_MAX {
            let change = automaton::claim(self.service, owner, clock::now(), LEASE_MS);
            match self.patiently(deadline, || self.store.apply(order_id, &change)).await? {
                Moved::Applied(order) => {
                    return Ok(Some(automaton::claimed(*order, self.service)));
                }
                Moved::Missing => return Err(missing(order_id)),
                Moved::Refused => {}
            }
            let document = self.patiently(deadline, || self.store.read(order_id)).await?;
            let order = document.ok_or_else(|| missing(order_id))?.value;
            let now = clock::now();
            match automaton::standing(&order, self.service, now) {
                Standing::Finished => {
                    self.close(&order).await?;
                    return Ok(None);
                }
                Standing::Free => {}
                Standing::Busy { until_ms } => {
                    // Past the end by a millisecond: the guard asks for a lease that is over.
                    let left = u64::try_from(until_ms - now.epoch_ms()).unwrap_or(0) + 1;
                    let over = Instant::now() + Duration::from_millis(left);
                    if over >= deadline {
                        return Err(Failure::new(
                            "order-busy",
                            "another attempt holds the order; its lease outlasts this invocation",
                        ));
                    }
                    tokio::time::sleep_until(over).await;
                }
            }
        }
        Err(Failure::new("order-contended", "the order could not be claimed"))
    }

    /// Stores the end of the work; the order after it.
    async fn complete(&self, order_id: OrderId, change: &Move) -> Result<Order, Failure> {
        // A fresh allowance: this is what the reserve was kept for.
        let deadline = Instant::now() + OUTCOME_RESERVE;
        match self.patiently(deadline, || self.store.apply(order_id, change)).await? {
            Moved::Applied(order) => Ok(*order),
            Moved::Missing => Err(missing(order_id)),
            Moved::Refused => {
                // Either our own patch came through and its answer did not, or another attempt
                // took over. Both are fine if the work is done.
                let document = self.patiently(deadline, || self.store.read(order_id)).await?;
                let order = document.ok_or_else(|| missing(order_id))?.value;
                match automaton::standing(&order, self.service, clock::now()) {
                    Standing::Finished => Ok(order),
                    Standing::Busy { .. } | Standing::Free => Err(Failure::new(
                        "attempt-fenced",
                        "another attempt took the order over before this one was done",
                    )),
                }
            }
        }
    }

    /// Writes the roll-up if this order is ready for it. Who finishes last does so; after a crash
    /// in between, whoever meets the finished part again.
    async fn close(&self, order: &Order) -> Result<(), Failure> {
        let Some(closing) = automaton::roll_up(order, clock::now()) else { return Ok(()) };
        let deadline = Instant::now() + OUTCOME_RESERVE;
        let order_id = order.order_id;
        match self.patiently(deadline, || self.store.apply(order_id, &closing)).await? {
            Moved::Applied(_) => info!(order.id = %order_id, "order completed"),
            Moved::Refused | Moved::Missing => {}
        }
        Ok(())
    }

    /// Gives the lease back and keeps the reason for people. If that cannot be stored the lease
    /// runs out by itself, so it is no failure of its own.
    async fn record_failure(
        &self,
        order_id: OrderId,
        claim: &Claim,
        error: &AttemptError,
        last: bool,
    ) {
        let change = claim.fail(self.service, clock::now(), &error.to_string(), last);
        if let Err(error) = self.store.apply(order_id, &change).await {
            warn!(order.id = %order_id, error = %chain(&error),
                "the failed attempt could not be recorded");
        }
    }

    /// Asks the store until it answers or the deadline is near. An outage of the store must not
    /// burn the deliveries of healthy messages.
    async fn patiently<T, Fut>(
        &self,
        deadline: Instant,
        ask: impl Fn() -> Fut,
    ) -> Result<T, Failure>
    where
        Fut: Future<Output = Result<T, StoreError>>,
    {
        loop {
            match ask().await {
                Ok(answer) => return Ok(answer),
                Err(error) if error.is_transient() => {
                    let pause = error.retry_after().unwrap_or(STORE_RETRY_PAUSE);
                    if Instant::now() + pause >= deadline {
                        return Err(Failure::from(error));
                    }
                    tokio::time::sleep(pause).await;
                }
                Err(error) => return Err(Failure::from(error)),
            }
        }
    }
}

fn missing(order_id: OrderId) -> Failure {
    Failure::new("order-missing", format!("there is no order {order_id}"))
}

/// The event in a message. Only the body counts: metadata can be forged by a property of the body
/// with the same name.
fn read_event(message: &ServiceBusMessage) -> Result<CloudEvent, Failure> {
    let poison = |why: String| Failure::new("poison-message", why);
    let event: CloudEvent = serde_json::from_slice(message.body())
        .map_err(|error| poison(format!("the body is no event that we know: {error}")))?;
    if event.specversion != "1.0" {
        return Err(poison("the CloudEvents version is not 1.0".into()));
    }
    if event.schemaversion != SCHEMA_VERSION {
        let version = event.schemaversion;
        return Err(poison(format!("schema version {version} is not known here")));
    }
    Ok(event)
}
