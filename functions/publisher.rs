//! From the outbox to the topic: publish, then mark. In that order a crash in between publishes
//! twice, which consumers absorb; in the other order it would lose an event.
//!
//! Events are offered right after their commit and published in micro-batches. Whatever does not
//! make it (a full queue, the bus down, a crash) is still `pending` in the store, where app
//! `outbox` finds it. Nothing that commits ever waits for any of this.

use azure::bus::{BusError, Message, Sender};
use futures::StreamExt as _;
use orders::{OrderId, OutboxEvent, event};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::chain::chain;
use crate::crash;
use crate::store::OrderStore;

/// Events that wait in memory for the publisher, about 1 KB each. Beyond this they wait in the
/// store instead, where app `outbox` finds them: memory stays bounded while the bus is down.
const QUEUE_EVENTS_MAX: usize = 2_048;

/// Events of one send. A hundred fit the 256 KB of a message on the Standard tier many times over
/// unless they are large, and the sender splits by size.
pub const BATCH_EVENTS_MAX: usize = 100;

/// Marks in flight at once: the store is the slowest part of publishing, and each mark is a
/// request of its own because every order is its own partition.
const MARKS_IN_FLIGHT_MAX: usize = 8;

/// An event on its way: what is sent, and what is marked afterwards.
#[derive(Debug)]
struct Departure {
    message: Message,
    order_id: OrderId,
}

/// Offers committed events to the publisher. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Outbox {
    queue: mpsc::Sender<Departure>,
}

/// Publishes what is offered.
#[derive(Debug)]
pub struct Publisher {
    channel: Channel,
    queue: mpsc::Receiver<Departure>,
}

/// The topic and the store, as publishing needs them. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Channel {
    store: OrderStore,
    topic: Sender,
}

impl Outbox {
    /// An outbox in front of a channel, and the publisher that has to run for it.
    #[must_use]
    pub fn new(channel: Channel) -> (Self, Publisher) {
        let (sender, queue) = mpsc::channel(QUEUE_EVENTS_MAX);
        (Self { queue: sender }, Publisher { channel, queue })
    }

    /// Offers a committed event; never waits.
    pub fn offer(&self, event: &OutboxEvent) {
        if let Ok(place) = self.queue.try_reserve() {
            place.send(departure(event));
        }
    }
}

impl Publisher {
    /// Publishes until `shutdown`. What is queued then is found in the store.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { channel, mut queue } = self;
        let publish_offered = async {
            // The first event should not pay for the connection; if it fails, it does.
            let _ = channel.topic.warm_up().await;
            let mut departures = Vec::with_capacity(BATCH_EVENTS_MAX);
            loop {
                let events = queue.recv_many(&mut departures, BATCH_EVENTS_MAX).await;
                if events == 0 {
                    break;
                }
                if let Err(error) = channel.dispatch(departures.drain(..)).await {
                    warn!(events, error = %chain(&error),
                        "events stay in the outbox until the topic takes them");
                }
            }
        };
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = publish_offered => {}
        }
    }
}

impl Channel {
    /// The channel from `store` to `topic`.
    #[must_use]
    pub fn new(store: OrderStore, topic: Sender) -> Self {
        Self { store, topic }
    }

    /// The store end.
    #[must_use]
    pub fn store(&self) -> &OrderStore {
        &self.store
    }

    /// Publishes pending events and marks them.
    ///
    /// # Errors
    /// The topic does not take them for now. An event that it can never take is parked instead,
    /// and is no error.
    pub async fn publish(&self, events: &[OutboxEvent]) -> Result<(), BusError> {
        self.dispatch(events.iter().map(departure)).await
    }

    async fn dispatch(&self, departures: impl Iterator<Item = Departure>) -> Result<(), BusError> {
        let (messages, order_ids): (Vec<Message>, Vec<OrderId>) =
            departures.map(|Departure { message, order_id }| (message, order_id)).unzip();
        crash::point("publish.before-send").await;
        match self.topic.send_batch(&messages).await {
            Ok(()) => {}
            // One of them spoils the batch: find out which.
            Err(error) if is_about_the_message(&error) => {
                return self.dispatch_singly(&messages, &order_ids).await;
            }
            Err(error) => return Err(error),
        }
        crash::point("publish.after-send").await;
        let events = messages.iter().filter_map(|message| message.message_id.as_deref());
        let marks: Vec<_> =
            order_ids.iter().zip(events).map(|(id, event)| self.mark(*id, event)).collect();
        futures::stream::iter(marks).buffer_unordered(MARKS_IN_FLIGHT_MAX).collect::<()>().await;
        crash::point("publish.after-mark").await;
        Ok(())
    }

    async fn dispatch_singly(
        &self,
        messages: &[Message],
        order_ids: &[OrderId],
    ) -> Result<(), BusError> {
        for (message, order_id) in messages.iter().zip(order_ids) {
            let event_id = message.message_id.as_deref().unwrap_or_default();
            match self.topic.send(message).await {
                Ok(()) => self.mark(*order_id, event_id).await,
                Err(refused) if is_about_the_message(&refused) => {
                    let reason = chain(&refused);
                    error!(order.id = %order_id, event.id = event_id, reason,
                        "parked: the topic can never take this event");
                    if let Err(error) = self.store.park(*order_id, event_id, &reason).await {
                        warn!(event.id = event_id, error = %chain(&error), "not parked yet");
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A mark that fails costs a duplicate later, so it is no error of the batch.
    async fn mark(&self, order_id: OrderId, event_id: &str) {
        if let Err(error) = self.store.mark_published(order_id, event_id).await {
            warn!(event.id = event_id, error = %chain(&error), "published but not marked");
        }
    }
}

/// Whether the broker objects to the message itself, so that it would do so each time. Anything
/// else (no such topic, disabled, full) is mended without touching the message.
fn is_about_the_message(error: &BusError) -> bool {
    match error {
        BusError::MessageTooLarge | BusError::Protocol { .. } => true,
        BusError::Rejected { condition, .. } => matches!(
            condition.as_str(),
            "amqp:decode-error"
                | "amqp:invalid-field"
                | "amqp:not-implemented"
                | "com.microsoft:argument-error"
                | "com.microsoft:argument-out-of-range"
        ),
        _ => false,
    }
}

/// An event as a message of the topic: see "Message contract" in `ARCHITECTURE.md`.
pub(crate) fn message(cloud_event: &orders::CloudEvent, message_id: &str) -> Message {
    // A struct of strings and a JSON value always serialises.
    let body = serde_json::to_vec(cloud_event).unwrap_or_default();
    let mut message = Message {
        message_id: Some(message_id.to_owned()),
        content_type: Some(event::CONTENT_TYPE.to_owned()),
        subject: Some(cloud_event.event_type.to_string()),
        correlation_id: Some(cloud_event.correlationid.clone()),
        ..Message::new(body)
    }
    .with_property("event_type", cloud_event.event_type.as_str())
    .with_property("order_id", cloud_event.subject.as_str())
    .with_property("correlation_id", cloud_event.correlationid.as_str())
    .with_property("schema_version", i64::from(cloud_event.schemaversion));
    if let Some(traceparent) = &cloud_event.traceparent {
        message = message.with_property("traceparent", traceparent.as_str());
    }
    message
}

fn departure(outbox_event: &OutboxEvent) -> Departure {
    let message = message(&outbox_event.event, &outbox_event.message_id);
    Departure { message, order_id: outbox_event.order_id }
}
