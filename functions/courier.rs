//! What becomes of a message of the topic, carried out: acknowledge, redeliver, send a copy for
//! later, or dead-letter with the reason.
//!
//! The Functions host can only complete or abandon. A copy for later is sent by this app itself,
//! scheduled, before the original is acknowledged; dead-lettering settles the host's delivery by
//! its lock token over the management node of the subscription, after which the host's own
//! settlement finds the lock gone, which is harmless.

use std::time::Duration;

use azure::bus::{BusClient, Disposition, Management, Sender};
use handler::{Context, Failure, Reply, ServiceBusMessage};
use orders::CloudEvent;
use tracing::{info, warn};

use crate::chain::chain;
use crate::clock;
use crate::crash;
use crate::delivery::{ATTEMPT, Delivery, ORIGINAL_MESSAGE_ID, TARGET};
use crate::publisher;
use crate::topology::TOPOLOGY;
use crate::verdict::{Circumstances, Trouble, Verdict, judge};

/// Settles the messages of one subscription.
#[derive(Clone, Debug)]
pub struct Courier {
    subscription: String,
    max_delivery_count: u32,
    topic: Sender,
    management: Management,
}

impl Courier {
    /// The courier of `subscription` of the topic.
    #[must_use]
    pub fn new(bus: &BusClient, subscription: &str) -> Self {
        let topic = &TOPOLOGY.topic().name;
        Self {
            subscription: subscription.to_owned(),
            // A subscription that the topology does not know never marks a part dead-lettered.
            max_delivery_count: TOPOLOGY.max_delivery_count(subscription).unwrap_or(u32::MAX),
            topic: bus.sender(topic),
            management: bus.management(&format!("{topic}/Subscriptions/{subscription}")),
        }
    }

    /// Reads and handles one message, then settles it as the outcome asks for.
    ///
    /// # Errors
    /// The message is to be delivered again.
    pub async fn handle<F>(
        &self,
        message: ServiceBusMessage,
        context: &Context,
        work: impl FnOnce(Delivery, Occasion) -> F,
    ) -> Result<Reply, Failure>
    where
        F: Future<Output = Result<Reply, Verdict>>,
    {
        let delivery_count = message.delivery_count();
        let last_delivery = delivery_count.is_some_and(|count| count >= self.max_delivery_count);
        let delivery = match Delivery::of_message(&message) {
            Ok(delivery) => delivery,
            Err(trouble) => {
                let verdict = judge(trouble, circumstances(0, last_delivery, None));
                return self.settle(&message, None, verdict).await;
            }
        };
        let occasion = Occasion::new(&delivery, last_delivery, context);
        match work(delivery.clone(), occasion).await {
            Ok(reply) => Ok(reply),
            Err(verdict) => self.settle(&message, Some(&delivery), verdict).await,
        }
    }

    async fn settle(
        &self,
        message: &ServiceBusMessage,
        delivery: Option<&Delivery>,
        verdict: Verdict,
    ) -> Result<Reply, Failure> {
        match (verdict, delivery) {
            (Verdict::Delay { after, why }, Some(delivery)) => {
                self.send_later(delivery, after).await?;
                info!(order.id = %delivery.order_id, attempt = delivery.attempt + 1,
                    after_ms = u64::try_from(after.as_millis()).unwrap_or(u64::MAX), why,
                    "a copy comes back later");
                Ok(Reply::done())
            }
            (Verdict::DeadLetter { reason, description }, _) => {
                self.dead_letter(message, reason, description).await
            }
            (Verdict::Redeliver { why, .. } | Verdict::Delay { why, .. }, _) => {
                Err(Failure::new("attempt-failed", why))
            }
        }
    }

    /// Schedules the copy that takes the message's place. Its id is the same for whoever sends it,
    /// so two overlapping deliveries leave one copy where duplicates are detected.
    async fn send_later(&self, delivery: &Delivery, after: Duration) -> Result<(), Failure> {
        send_later(&self.topic, &self.subscription, delivery, after).await?;
        Ok(())
    }

    async fn dead_letter(
        &self,
        message: &ServiceBusMessage,
        reason: &'static str,
        description: String,
    ) -> Result<Reply, Failure> {
        // Without the token the broker dead-letters the message after the last delivery, with a
        // reason of its own; the log has ours.
        let Some(lock_token) = message.lock_token() else {
            return Err(Failure::new(reason, description));
        };
        crash::point("consumer.before-dead-letter").await;
        let disposition = Disposition::DeadLettered {
            reason: reason.to_owned(),
            description: description.clone(),
        };
        match self.management.update_disposition(&[lock_token], &disposition).await {
            Ok(()) => {
                warn!(message.id = message.message_id(), reason, description, "dead-lettered");
                crash::point("consumer.after-dead-letter").await;
                Ok(Reply::done())
            }
            Err(error) => {
                warn!(reason, description, error = %chain(&error),
                    "not dead-lettered by lock token; failing instead");
                Err(Failure::new(reason, description))
            }
        }
    }
}

/// Schedules a copy of a delivery for one subscription.
///
/// # Errors
/// The topic does not take it.
pub async fn send_later(
    topic: &Sender,
    subscription: &str,
    delivery: &Delivery,
    after: Duration,
) -> Result<(), azure::bus::BusError> {
    let attempt = delivery.attempt + 1;
    let Delivery { event, origin, .. } = delivery;
    let mut copy = copy_of(event, origin, subscription, attempt);
    copy.scheduled_enqueue_time = Some(clock::now().to_offset_date_time() + after);
    crash::point("consumer.before-retry").await;
    topic.send(&copy).await?;
    crash::point("consumer.after-retry").await;
    Ok(())
}

fn copy_of(
    event: &CloudEvent,
    origin: &str,
    subscription: &str,
    attempt: u32,
) -> azure::bus::Message {
    publisher::message(event, &format!("{origin}~{subscription}~{attempt}"))
        .with_property(TARGET, subscription)
        .with_property(ATTEMPT, i64::from(attempt))
        .with_property(ORIGINAL_MESSAGE_ID, origin)
}

/// The occasion of an attempt: how long it may take, who makes it, what happens if it fails.
#[derive(Clone, Debug)]
pub struct Occasion {
    /// Unique to this invocation.
    pub owner: String,
    /// Time that the invocation has left.
    pub remaining: Duration,
    copies: u32,
    last_delivery: bool,
    event_time: orders::Timestamp,
}

impl Occasion {
    /// The occasion of a delivery.
    #[must_use]
    pub fn new(delivery: &Delivery, last_delivery: bool, context: &Context) -> Self {
        // The host's id is the better one, as it stands in the host's log too.
        let owner =
            context.invocation_id().map_or_else(|| uuid::Uuid::new_v4().to_string(), str::to_owned);
        Self {
            owner,
            remaining: context.remaining(),
            copies: delivery.attempt,
            last_delivery,
            event_time: delivery.event.time,
        }
    }

    /// Judges an attempt that failed on this occasion.
    #[must_use]
    pub fn judge(&self, trouble: Trouble) -> Verdict {
        judge(trouble, circumstances(self.copies, self.last_delivery, Some(self.event_time)))
    }
}

fn circumstances(
    copies: u32,
    last_delivery: bool,
    event_time: Option<orders::Timestamp>,
) -> Circumstances {
    let now = clock::now();
    Circumstances { copies, last_delivery, event_time: event_time.unwrap_or(now), now }
}
