//! From the outbox to the topic: publish, then mark. In that order a crash in between publishes
//! twice, which consumers absorb; in the other order it would lose an event.
//!
//! Events are offered right after their commit and published in micro-batches. Whatever does not
//! make it (a full queue, the bus down, a crash) is still `pending` in the store, and a sweep
//! finds it there. Accepting an order never waits for any of this.

use std::sync::Arc;
use std::time::Duration;

use azure::bus::{BusError, Message, Sender};
use futures::StreamExt as _;
use orders::{OrderId, OutboxEvent, event};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::chain::chain;
use crate::clock;
use crate::store::OrderStore;

/// Events that wait in memory for the publisher, about 1 KB each. Beyond this they wait in the
/// store instead, where the sweep finds them: memory stays bounded while the bus is down.
const QUEUE_EVENTS_MAX: usize = 2_048;

/// Events of one send. A hundred fit the 256 KB of a message on the Standard tier many times over
/// unless they are large, and the sender splits by size.
const BATCH_EVENTS_MAX: usize = 100;

/// Marks in flight at once: the store is the slowest part of publishing, and each mark is a
/// request of its own because every order is its own partition.
const MARKS_IN_FLIGHT_MAX: usize = 8;

/// Age at which a pending event is no longer just on its way.
const SWEEP_AGE: Duration = Duration::from_secs(3);

/// An event left behind was committed a little before we were told.
const SWEEP_AGE_MARGIN: Duration = Duration::from_millis(100);

/// How often the store is asked for events left behind.
const SWEEP_INTERVAL: Duration = Duration::from_secs(30);

/// How soon the store is asked again while events are known to be left behind.
const SWEEP_RETRY_INTERVAL: Duration = Duration::from_secs(2);

/// An event on its way: what is sent, and what is marked afterwards.
#[derive(Debug)]
struct Departure {
    message: Message,
    order_id: OrderId,
}

/// Offers committed events to the publisher.
#[derive(Clone, Debug)]
pub struct Outbox {
    queue: mpsc::Sender<Departure>,
    left_behind: Arc<Notify>,
}

/// Publishes what is offered, and what is found in the store.
#[derive(Debug)]
pub struct Publisher {
    store: OrderStore,
    topic: Sender,
    queue: mpsc::Receiver<Departure>,
    left_behind: Arc<Notify>,
}

impl Outbox {
    /// An outbox in front of `topic`, and the publisher that has to run for it.
    #[must_use]
    pub fn new(store: OrderStore, topic: Sender) -> (Self, Publisher) {
        let (sender, receiver) = mpsc::channel(QUEUE_EVENTS_MAX);
        let left_behind = Arc::new(Notify::new());
        let outbox = Self { queue: sender, left_behind: Arc::clone(&left_behind) };
        (outbox, Publisher { store, topic, queue: receiver, left_behind })
    }

    /// Offers a committed event; never waits.
    pub fn offer(&self, event: &OutboxEvent) {
        match self.queue.try_reserve() {
            Ok(place) => place.send(departure(event)),
            Err(_) => self.left_behind.notify_one(),
        }
    }
}

impl Publisher {
    /// Publishes until `shutdown`. What is queued then is left to the sweep of the next process.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { store, topic, mut queue, left_behind } = self;
        // A predecessor may have died a moment ago with events in its hands.
        left_behind.notify_one();
        let publish_offered = async {
            // The first event should not pay for the connection; if it fails, it does.
            let _ = topic.warm_up().await;
            let mut departures = Vec::with_capacity(BATCH_EVENTS_MAX);
            loop {
                let events = queue.recv_many(&mut departures, BATCH_EVENTS_MAX).await;
                if events == 0 {
                    break;
                }
                if let Err(error) = publish(&store, &topic, departures.drain(..)).await {
                    warn!(events, error = %chain(&error),
                        "events stay in the outbox until the topic takes them");
                    left_behind.notify_one();
                }
            }
        };
        let sweep_store = async {
            let mut wait = Duration::ZERO;
            loop {
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    // The newest of them must have reached the age at which the sweep takes it.
                    () = left_behind.notified() => {
                        tokio::time::sleep(SWEEP_AGE + SWEEP_AGE_MARGIN).await;
                    }
                }
                wait = match sweep(&store, &topic).await {
                    Ok(Swept::Clean) => SWEEP_INTERVAL,
                    Ok(Swept::Published(events)) => {
                        info!(events, "published events that were left behind");
                        // A full batch has more behind it.
                        if events == BATCH_EVENTS_MAX {
                            Duration::ZERO
                        } else {
                            SWEEP_RETRY_INTERVAL
                        }
                    }
                    Err(error) => {
                        warn!(error = %chain(&*error), "the outbox cannot be swept yet");
                        SWEEP_RETRY_INTERVAL
                    }
                };
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = publish_offered => {}
            () = sweep_store => {}
        }
    }
}

/// What a sweep found.
enum Swept {
    /// Nothing.
    Clean,
    /// So many events, all on the topic now.
    Published(usize),
}

async fn sweep(
    store: &OrderStore,
    topic: &Sender,
) -> Result<Swept, Box<dyn std::error::Error + Send + Sync>> {
    let before = clock::now().plus_ms(-(SWEEP_AGE.as_millis() as i64));
    let events = store.pending_events(before, BATCH_EVENTS_MAX).await?;
    if events.is_empty() {
        return Ok(Swept::Clean);
    }
    publish(store, topic, events.iter().map(departure)).await?;
    Ok(Swept::Published(events.len()))
}

/// Sends events to the topic, then marks them. A mark that fails costs a duplicate later, so it is
/// no error of the batch.
async fn publish(
    store: &OrderStore,
    topic: &Sender,
    departures: impl Iterator<Item = Departure>,
) -> Result<(), BusError> {
    let (messages, order_ids): (Vec<Message>, Vec<OrderId>) =
        departures.map(|Departure { message, order_id }| (message, order_id)).unzip();
    topic.send_batch(&messages).await?;
    let events = messages.iter().filter_map(|message| message.message_id.as_deref());
    let marks: Vec<_> =
        order_ids.iter().zip(events).map(|(id, event)| mark(store, *id, event)).collect();
    futures::stream::iter(marks).buffer_unordered(MARKS_IN_FLIGHT_MAX).collect::<()>().await;
    Ok(())
}

async fn mark(store: &OrderStore, order_id: OrderId, event_id: &str) {
    if let Err(error) = store.mark_published(order_id, event_id).await {
        warn!(event.id = event_id, error = %chain(&error), "published but not marked");
    }
}

/// An event as a message of the topic: see "Message contract" in `ARCHITECTURE.md`.
fn departure(outbox_event: &OutboxEvent) -> Departure {
    let cloud_event = &outbox_event.event;
    // A struct of strings and a JSON value always serialises.
    let body = serde_json::to_vec(cloud_event).unwrap_or_default();
    let mut message = Message {
        message_id: Some(outbox_event.message_id.clone()),
        content_type: Some(event::CONTENT_TYPE.to_owned()),
        subject: Some(cloud_event.event_type.to_string()),
        correlation_id: Some(cloud_event.correlationid.clone()),
        ..Message::new(body)
    }
    .with_property("event_type", cloud_event.event_type.as_str())
    .with_property("order_id", outbox_event.order_id.to_string())
    .with_property("correlation_id", cloud_event.correlationid.as_str())
    .with_property("schema_version", i64::from(cloud_event.schemaversion));
    if let Some(traceparent) = &cloud_event.traceparent {
        message = message.with_property("traceparent", traceparent.as_str());
    }
    Departure { message, order_id: outbox_event.order_id }
}
