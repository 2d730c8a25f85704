//! The state machine: what is delivered to whom and when, what is tried again, what is given up.
//! Pure: no clock, no network, no file. [`Store::advance`] hands out work, [`Store::agreed`],
//! [`Store::settle`] and [`Store::buried`] take in what came of it.

mod dead_letter;
pub mod outcome;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::event::{Event, Schema};
use crate::limits;
use crate::topology::{InvalidDeclaration, StorageQueue, Subscription, Topic};
use outcome::{Consequence, Outcome, delay};
use queue::{Agreement, Delivery, Queue};
pub use queue::{Counters, Reason};

/// Names one delivery, or one handshake, for as long as it is under way.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Ticket {
    /// Name of the topic.
    pub topic: Arc<str>,
    /// Name of the subscription.
    pub subscription: Arc<str>,
    number: u64,
}

/// Something that has to be done; whoever does it reports back under the ticket.
#[derive(Clone, Debug)]
pub enum Work {
    /// Ask the endpoint whether it wants events; report to [`Store::agreed`].
    Handshake {
        /// Which one.
        ticket: Ticket,
        /// Where.
        endpoint: String,
        /// Which of the two handshakes.
        schema: Schema,
        /// What proves consent, in the Event Grid schema and by hand.
        code: String,
    },
    /// Deliver an event; report to [`Store::settle`].
    Deliver {
        /// Which one.
        ticket: Ticket,
        /// Where.
        endpoint: String,
        /// Into this queue there, if it is a Storage account.
        queue: Option<StorageQueue>,
        /// How it is written.
        schema: Schema,
        /// The event.
        event: Arc<Event>,
        /// Attempts that were made before.
        attempts: u32,
    },
    /// Write a dead letter; report to [`Store::buried`].
    Bury {
        /// Which one.
        ticket: Ticket,
        /// The destination folder.
        destination: String,
        /// The dead letter, one line of JSON.
        line: String,
    },
}

/// Why something cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum StoreError {
    /// There is no such topic.
    #[error("there is no topic {0:?}")]
    NoTopic(String),
    /// There is no such subscription.
    #[error("there is no subscription {0:?}")]
    NoSubscription(String),
    /// Too much waits already: [`limits::WAITING_MAX`] or [`limits::WAITING_BYTES_MAX`].
    #[error("too many events wait for subscribers that do not take them")]
    Full,
    /// A topic has [`limits::SUBSCRIPTIONS_MAX`].
    #[error("the topic has as many subscriptions as it may")]
    TooMany,
    /// A declaration that cannot be used.
    #[error(transparent)]
    Invalid(#[from] InvalidDeclaration),
}

#[derive(Debug, Default)]
struct TopicState {
    schema: Schema,
    published: u64,
    refused: u64,
    unmatched: u64,
    queues: BTreeMap<Arc<str>, Queue>,
}

/// Everything that the service knows.
#[derive(Debug)]
pub struct Store {
    topics: BTreeMap<Arc<str>, TopicState>,
    time_scale: u32,
    random: u64,
    next_number: u64,
    /// Deliveries that wait or are under way, over all subscriptions, and their bytes.
    held: (usize, usize),
}

/// How a subscription stands, for people and tests.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionView {
    /// What was declared.
    #[serde(flatten)]
    pub declared: Subscription,
    /// Whether the endpoint has agreed to get events.
    pub validated: bool,
    /// Whether deliveries are held back because the endpoint keeps failing.
    pub unhealthy: bool,
    /// Events that wait.
    pub waiting: usize,
    /// Events that are being delivered or dead-lettered right now.
    pub in_flight: usize,
    /// When the next one is due, in epoch milliseconds.
    pub next_due_ms: Option<u64>,
    /// Counters.
    pub counters: Counters,
}

impl Store {
    /// An empty store. `time_scale` says how many times faster than in Azure delays and times to
    /// live pass; `seed` decides the jitter.
    #[must_use]
    pub fn new(time_scale: u32, seed: u64) -> Self {
        let time_scale = time_scale.clamp(*limits::TIME_SCALE.start(), *limits::TIME_SCALE.end());
        let (topics, held) = (BTreeMap::new(), (0, 0));
        Self { topics, time_scale, random: seed, next_number: 1, held }
    }

    /// Adds a topic with its subscriptions; they have been checked.
    ///
    /// # Errors
    /// A subscription that cannot be used.
    pub fn declare(&mut self, topic: &Topic, now_ms: u64) -> Result<(), StoreError> {
        let state = self.topics.entry(topic.name.as_str().into()).or_default();
        state.schema = topic.input_schema;
        for subscription in &topic.subscriptions {
            self.subscribe(&topic.name, subscription.clone(), now_ms)?;
        }
        Ok(())
    }

    /// Creates a subscription, or changes one; whether it is new. What waits keeps waiting. A new
    /// endpoint is asked whether it wants events.
    ///
    /// # Errors
    /// The topic does not exist or is full, or the subscription cannot be used.
    pub fn subscribe(
        &mut self,
        topic: &str,
        subscription: Subscription,
        now_ms: u64,
    ) -> Result<bool, StoreError> {
        subscription.check().map_err(|why| {
            StoreError::Invalid(InvalidDeclaration { what: subscription.name.clone(), why })
        })?;
        let code = format!("{:08X}-{:08X}", self.random(), self.random());
        let state = self.topic(topic)?;
        let of_topic =
            Topic { name: topic.to_owned(), input_schema: state.schema, subscriptions: Vec::new() };
        subscription.check_in(&of_topic).map_err(|why| {
            StoreError::Invalid(InvalidDeclaration { what: subscription.name.clone(), why })
        })?;
        let name: Arc<str> = subscription.name.as_str().into();
        if let Some(queue) = state.queues.get_mut(&name) {
            let before = &queue.declared;
            if before.endpoint != subscription.endpoint
                || before.storage_queue.is_some() != subscription.storage_queue.is_some()
            {
                queue.agreement = Agreement::first(&subscription, now_ms);
                queue.code = code;
                queue.health.answered();
            }
            queue.declared = subscription;
            return Ok(false);
        }
        if state.queues.len() >= limits::SUBSCRIPTIONS_MAX {
            return Err(StoreError::TooMany);
        }
        state.queues.insert(name, Queue::new(subscription, code, now_ms));
        Ok(true)
    }

    /// Removes a subscription and all that waits for it.
    ///
    /// # Errors
    /// There is none.
    pub fn unsubscribe(&mut self, topic: &str, subscription: &str) -> Result<(), StoreError> {
        let removed = self.topic(topic)?.queues.remove(subscription);
        let queue = removed.ok_or_else(|| StoreError::NoSubscription(subscription.to_owned()))?;
        let (count, bytes) = queue.held();
        self.held = (self.held.0 - count, self.held.1 - bytes);
        Ok(())
    }

    /// Takes events for every subscription that wants them: all or none.
    ///
    /// # Errors
    /// The topic does not exist, or too much waits already.
    pub fn publish(
        &mut self,
        topic: &str,
        events: Vec<Event>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let (held, time_scale) = (self.held, self.time_scale);
        let state = self.topic(topic)?;
        let mut more = (0_usize, 0_usize);
        for event in &events {
            let wanted = state.queues.values().filter(|queue| queue.declared.wants(event)).count();
            more = (more.0 + wanted, more.1 + wanted * event.body.len());
        }
        let held = (held.0 + more.0, held.1 + more.1);
        if held.0 > limits::WAITING_MAX || held.1 > limits::WAITING_BYTES_MAX {
            return Err(StoreError::Full);
        }
        let mut number = self.next_number;
        let state = self.topic(topic)?;
        for event in events {
            let event = Arc::new(event);
            let before = number;
            for queue in state.queues.values_mut().filter(|queue| queue.declared.wants(&event)) {
                let event = Arc::clone(&event);
                let delivery =
                    Delivery { event, published_ms: now_ms, attempts: 0, last: None, doomed: None };
                let expires_ms = expiry(&queue.declared, now_ms, time_scale);
                queue.counters.matched += 1;
                queue.wait(number, delivery, now_ms, expires_ms);
                number += 1;
            }
            state.published += 1;
            state.unmatched += u64::from(before == number);
        }
        (self.next_number, self.held) = (number, held);
        Ok(())
    }

    /// Hands out everything that has to be done now.
    pub fn advance(&mut self, now_ms: u64) -> Vec<Work> {
        let mut work = Vec::new();
        let time_scale = self.time_scale;
        for (topic, state) in &mut self.topics {
            let of_topic = state.schema;
            for (name, queue) in &mut state.queues {
                let ticket = |number| Ticket {
                    topic: Arc::clone(topic),
                    subscription: Arc::clone(name),
                    number,
                };
                if let Agreement::Wanted { due_ms, tries } = queue.agreement
                    && due_ms <= now_ms
                {
                    queue.agreement = Agreement::Asking { tries };
                    let endpoint = queue.declared.endpoint.clone();
                    let schema = queue.declared.event_delivery_schema.unwrap_or(of_topic);
                    let (ticket, code) = (ticket(0), queue.code.clone());
                    work.push(Work::Handshake { ticket, endpoint, schema, code });
                }
                while let Some((number, mut delivery)) = queue.take_expired(now_ms) {
                    delivery.doomed = Some((Reason::TimeToLive, now_ms));
                    let expires_ms = expiry(&queue.declared, delivery.published_ms, time_scale);
                    queue.wait(number, delivery, now_ms, expires_ms);
                }
                while let Some((number, delivery)) = queue.take_due(now_ms) {
                    match bury(&delivery, &queue.declared) {
                        None => {
                            let endpoint = queue.declared.endpoint.clone();
                            let (event, attempts) =
                                (Arc::clone(&delivery.event), delivery.attempts);
                            let ticket = ticket(number);
                            let schema = queue.declared.event_delivery_schema.unwrap_or(of_topic);
                            let queue = queue.declared.storage_queue.clone();
                            work.push(Work::Deliver {
                                ticket,
                                endpoint,
                                queue,
                                schema,
                                event,
                                attempts,
                            });
                        }
                        Some(Some((destination, line))) => {
                            work.push(Work::Bury { ticket: ticket(number), destination, line });
                        }
                        Some(None) => {
                            queue.counters.dropped += 1;
                            let bytes = delivery.event.body.len();
                            self.held = (self.held.0 - 1, self.held.1 - bytes);
                            continue;
                        }
                    }
                    queue.in_flight.insert(number, delivery);
                }
            }
        }
        work
    }

    /// When [`Store::advance`] may have something to do; `None` if only an answer or a new event
    /// can change that.
    #[must_use]
    pub fn next_ms(&self) -> Option<u64> {
        let queues = self.topics.values().flat_map(|state| state.queues.values());
        queues.filter_map(Queue::next_ms).min()
    }

    /// Notes whether an endpoint wants events.
    pub fn agreed(&mut self, ticket: &Ticket, endpoint: &str, wants: bool, now_ms: u64) {
        let time_scale = self.time_scale;
        let Some(queue) = self.queue(ticket) else { return };
        let Agreement::Asking { tries } = queue.agreement else { return };
        queue.agreement = if wants && queue.declared.endpoint == endpoint {
            Agreement::Given
        } else {
            let pause = limits::HANDSHAKE_PAUSE_MIN.saturating_mul(1 << tries.min(16));
            let pause = scale(pause.min(limits::HANDSHAKE_PAUSE_MAX), time_scale);
            Agreement::Wanted { due_ms: now_ms + pause, tries: tries + 1 }
        };
    }

    /// Takes consent that is given by hand, with the code of the handshake.
    ///
    /// # Errors
    /// There is no such topic or subscription, or it has another code.
    pub fn consent(&mut self, topic: &str, name: &str, code: &str) -> Result<(), StoreError> {
        let unknown = || StoreError::NoSubscription(name.to_owned());
        let queue = self.topic(topic)?.queues.get_mut(name).ok_or_else(unknown)?;
        if queue.code != code {
            return Err(unknown());
        }
        queue.agreement = Agreement::Given;
        Ok(())
    }

    /// Counts a request to publish that was refused.
    pub fn refused(&mut self, topic: &str) {
        if let Ok(state) = self.topic(topic) {
            state.refused += 1;
        }
    }

    /// What a topic takes.
    ///
    /// # Errors
    /// There is none.
    pub fn schema_of(&self, topic: &str) -> Result<Schema, StoreError> {
        let state = self.topics.get(topic);
        state.map(|state| state.schema).ok_or_else(|| StoreError::NoTopic(topic.to_owned()))
    }

    /// Counters under the names that Azure Monitor has for them
    /// (<https://learn.microsoft.com/azure/event-grid/monitor-event-delivery>): per topic, and per
    /// subscription.
    #[must_use]
    pub fn metrics(&self) -> Value {
        let topic = |(name, state): (&Arc<str>, &TopicState)| {
            let subscriptions: Map<String, Value> = state
                .queues
                .iter()
                .map(|(name, queue)| (name.to_string(), queue.counters.metrics()))
                .collect();
            let metrics = json!({
                "PublishSuccessCount": state.published,
                "PublishFailCount": state.refused,
                "UnmatchedEventCount": state.unmatched,
                "subscriptions": subscriptions,
            });
            (name.to_string(), metrics)
        };
        Value::Object(self.topics.iter().map(topic).collect())
    }

    /// Notes what came of an attempt that was begun at `begun_ms`.
    pub fn settle(&mut self, ticket: &Ticket, outcome: Outcome, begun_ms: u64, now_ms: u64) {
        let (time_scale, random) = (self.time_scale, self.random());
        // The subscription may be gone, or another one of its name in its place.
        let Some(queue) = self.queue(ticket) else { return };
        let Some(mut delivery) = queue.in_flight.remove(&ticket.number) else { return };
        delivery.attempts += 1;
        delivery.last = Some((outcome, begun_ms));
        let consequence = outcome.consequence();
        match consequence {
            Consequence::Delivered | Consequence::Rejected => queue.health.answered(),
            Consequence::Retry(_) => {
                queue.health.failed(now_ms, |pause| scale(pause, time_scale));
            }
        }
        let took_ms = now_ms.saturating_sub(begun_ms);
        queue.counters.processing_ms = queue.counters.processing_ms.saturating_add(took_ms);
        if consequence == Consequence::Delivered {
            queue.counters.delivered += 1;
            let bytes = delivery.event.body.len();
            self.held = (self.held.0 - 1, self.held.1 - bytes);
            return;
        }
        queue.counters.failed_attempts += 1;
        let expires_ms = expiry(&queue.declared, delivery.published_ms, time_scale);
        let due_ms = match consequence {
            Consequence::Retry(least)
                if delivery.attempts < queue.declared.max_delivery_attempts =>
            {
                now_ms + scale(delay(delivery.attempts, least, random), time_scale)
            }
            Consequence::Rejected => {
                delivery.doomed = Some((Reason::Rejected(outcome), now_ms));
                now_ms
            }
            Consequence::Retry(_) | Consequence::Delivered => {
                delivery.doomed = Some((Reason::Attempts, now_ms));
                now_ms
            }
        };
        queue.wait(ticket.number, delivery, due_ms, expires_ms);
    }

    /// Notes whether a dead letter could be written.
    pub fn buried(&mut self, ticket: &Ticket, written: bool, now_ms: u64) {
        let time_scale = self.time_scale;
        let Some(queue) = self.queue(ticket) else { return };
        let Some(delivery) = queue.in_flight.remove(&ticket.number) else { return };
        let since_ms = delivery.doomed.map_or(now_ms, |(_, since_ms)| since_ms);
        if written {
            queue.counters.dead_lettered += 1;
        } else if now_ms.saturating_sub(since_ms) < scale(limits::DEAD_LETTER_WITHIN, time_scale) {
            let due_ms = now_ms + scale(limits::DEAD_LETTER_PAUSE, time_scale);
            return queue.wait(ticket.number, delivery, due_ms, u64::MAX);
        } else {
            queue.counters.dropped += 1;
        }
        let bytes = delivery.event.body.len();
        self.held = (self.held.0 - 1, self.held.1 - bytes);
    }

    /// How everything stands: `{topics: [{name, published, unmatched, subscriptions: […]}], held}`.
    #[must_use]
    pub fn view(&self) -> Value {
        let topic = |(name, state): (&Arc<str>, &TopicState)| {
            let subscriptions: Vec<_> = state.queues.values().map(view).collect();
            json!({"name": &**name, "published": state.published, "unmatched": state.unmatched,
                "subscriptions": subscriptions})
        };
        let topics: Vec<Value> = self.topics.iter().map(topic).collect();
        json!({"topics": topics, "held": self.held.0, "heldBytes": self.held.1,
            "timeScale": self.time_scale})
    }

    /// How one subscription stands.
    ///
    /// # Errors
    /// There is none.
    pub fn view_of(&self, topic: &str, name: &str) -> Result<SubscriptionView, StoreError> {
        let state = self.topics.get(topic).ok_or_else(|| StoreError::NoTopic(topic.to_owned()))?;
        let queue = state.queues.get(name);
        queue.map(view).ok_or_else(|| StoreError::NoSubscription(name.to_owned()))
    }

    /// Whether there is such a topic.
    #[must_use]
    pub fn has_topic(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    fn topic(&mut self, name: &str) -> Result<&mut TopicState, StoreError> {
        self.topics.get_mut(name).ok_or_else(|| StoreError::NoTopic(name.to_owned()))
    }

    fn queue(&mut self, ticket: &Ticket) -> Option<&mut Queue> {
        self.topics.get_mut(&ticket.topic)?.queues.get_mut(&ticket.subscription)
    }

    /// SplitMix64: delays have to differ, not to be unpredictable.
    fn random(&mut self) -> u32 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.random;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        u32::try_from((bits ^ (bits >> 31)) >> 32).unwrap_or_default()
    }
}

/// What to do about a delivery that is doomed: `Some(None)` if nobody wants to keep it.
fn bury(delivery: &Delivery, declared: &Subscription) -> Option<Option<(String, String)>> {
    let (reason, _) = delivery.doomed?;
    let destination = declared.dead_letter_destination.clone();
    Some(destination.map(|destination| (destination, dead_letter::line(delivery, reason))))
}

fn view(queue: &Queue) -> SubscriptionView {
    SubscriptionView {
        declared: queue.declared.clone(),
        validated: queue.agreement == Agreement::Given,
        unhealthy: queue.health.is_unhealthy(),
        waiting: queue.waiting(),
        in_flight: queue.in_flight.len(),
        next_due_ms: queue.next_due_ms(),
        counters: queue.counters,
    }
}

fn expiry(declared: &Subscription, published_ms: u64, time_scale: u32) -> u64 {
    let minutes = u64::from(declared.event_time_to_live_in_minutes);
    published_ms + scale(Duration::from_secs(60 * minutes), time_scale)
}

/// A delay in scaled milliseconds, at least one.
fn scale(delay: Duration, time_scale: u32) -> u64 {
    let scaled = delay / time_scale.max(1);
    u64::try_from(scaled.as_millis()).unwrap_or(u64::MAX).max(1)
}
