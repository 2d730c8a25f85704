//! Function `sweep`: every minute, what the feed may have missed, and what does not get on.

use handler::{Context, Failure, Reply};
use orders::{EventType, Order, Service, Status, event, saga};
use tracing::{info, warn};

use crate::clock;
use crate::publisher::{BATCH_EVENTS_MAX, Channel};
use crate::store::Moved;
use crate::telemetry;

/// Age at which a pending event was missed by the feed, in milliseconds.
const PENDING_AGE_MS: i64 = 30_000;

/// Batches of one run: what is left then comes a minute later.
const BATCHES_MAX: usize = 100;

/// Age at which an open order is late, in milliseconds. Retries of a dependency that is away take
/// longer, and then somebody should know.
pub const STUCK_AGE_MS: i64 = 5 * 60_000;

/// Late orders that one run reports: more say nothing new.
pub const STUCK_ORDERS_MAX: usize = 100;

/// Late orders that the log names: the oldest; the API shows the others.
const STUCK_ORDERS_NAMED: usize = 5;

/// Publishes old pending events, closes what nobody closed, and reports what is late.
pub(super) async fn sweep(channel: &Channel, context: &Context) -> Result<Reply, Failure> {
    let mut published = 0;
    for batch in 0..BATCHES_MAX {
        if context.remaining().is_zero() {
            break;
        }
        let before = clock::now().plus_ms(-PENDING_AGE_MS);
        let events = channel.store().pending_events(before, BATCH_EVENTS_MAX).await?;
        if batch == 0 {
            let oldest = events.first().map(|event| telemetry::seconds_since(event.created_at));
            telemetry::OUTBOX_OLDEST_AGE.set(oldest.unwrap_or(0.0), &[]);
        }
        channel.publish(&events).await?;
        published += events.len();
        if events.len() < BATCH_EVENTS_MAX {
            break;
        }
    }
    if published > 0 {
        info!(events = published, "published events that the feed had missed");
    }
    let before = clock::now().plus_ms(-STUCK_AGE_MS);
    let mut stuck = Vec::new();
    for order in channel.store().open_orders(before, STUCK_ORDERS_MAX).await? {
        if !close(channel, &order).await? {
            stuck.push(format!("{} waits for {}", order.order_id, stuck_at(&order).join(", ")));
        }
    }
    if !stuck.is_empty() {
        let orders = stuck.len();
        stuck.truncate(STUCK_ORDERS_NAMED);
        warn!(orders, oldest = stuck.join("; "), "orders are stuck: see GET /api/ops/attention");
    }
    Ok(Reply::done())
}

/// Closes an order that only needs closing; whether it did.
async fn close(channel: &Channel, order: &Order) -> Result<bool, Failure> {
    if saga::close(order, clock::now(), None).is_none() {
        return Ok(false);
    }
    // In the trace that it began in, as if nobody had missed to close it.
    let first = event::event_id(order.order_id, EventType::OrderCreated.sequence());
    let first = channel.store().event(order.order_id, &first).await?;
    let trace = first.and_then(|first| first.event.traceparent);
    let closing = saga::close(order, clock::now(), trace.as_deref());
    let Some(closing) = closing else { return Ok(false) };
    if let Moved::Applied(order) = channel.store().apply(order.order_id, &closing).await? {
        telemetry::applied(&closing, &order);
        info!(order.id = %order.order_id, "closed an order that nobody had closed");
    }
    Ok(true)
}

/// The services that an open order waits for, with their status: `billing (processing)`.
pub fn stuck_at(order: &Order) -> Vec<String> {
    let open = |service: &Service| {
        let status = order.status[*service];
        if order.is_unwinding() && service.compensates() {
            status.is_compensable() || (status == Status::Failed && !order.stage[*service].unwound)
        } else {
            !status.is_finished()
        }
    };
    let waits = Service::ALL.into_iter().filter(open);
    waits.map(|service| format!("{service} ({})", order.status[service].as_str())).collect()
}
