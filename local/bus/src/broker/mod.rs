//! The broker: Service Bus entities as a deterministic state machine.
//!
//! Synchronous, without I/O and without a clock: the time is an argument of every command, and the
//! same seed and commands lead to the same state, ids included. It knows messages and their format
//! but nothing of connections, sessions or links; a receiver is a number that has credit.
//! Semantics: <https://learn.microsoft.com/azure/service-bus-messaging/>.
//!
//! One file per concern: [`publish`] brings messages in, [`receive`] hands them out, [`settle`]
//! ends deliveries, [`browse`] looks and edits from the management side, [`queue`] is the state and
//! [`record`] the only way to change it.

mod address;
mod browse;
mod duplicates;
mod ids;
mod publish;
mod queue;
mod receive;
pub(crate) mod record;
pub(crate) mod recovery;
mod rule;
mod settle;
mod status;
#[cfg(test)]
mod tests;
mod time;

use std::collections::HashMap;
use std::sync::Arc;

pub(crate) use address::{Address, normalise};
pub(crate) use browse::RuleError;
pub(crate) use publish::PublishError;
pub(crate) use receive::{ConnectionId, Delivery, MessageState, ReceiveMode, ReceiverId};
pub(crate) use record::{Journal, NoJournal, QueueId};
pub(crate) use rule::Rule;
pub(crate) use settle::{SettleError, Settlement};
pub use status::{QueueStatus, Status, SubscriptionStatus, TopicStatus};
pub(crate) use time::Timestamp;

use duplicates::Duplicates;
use ids::Ids;
use queue::{Entry, Queue, Settings};
use receive::Receivers;
use record::Record;

use crate::topology::{Namespace, NamespaceError, Span};

/// What an address stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entity {
    Queue(QueueId),
    Topic(TopicId),
    Subscription(QueueId),
    DeadLetter(QueueId),
}

/// A topic, as an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TopicId(u32);

#[derive(Debug)]
struct Topic {
    path: Arc<str>,
    /// Keeps scheduled messages, the duplicate window and the sequence.
    shelf: QueueId,
    subscriptions: Vec<(Arc<str>, QueueId)>,
}

/// All entities of a namespace and their messages.
pub(crate) struct Broker {
    queues: Vec<Queue>,
    topics: Vec<Topic>,
    /// Lower-case path to entity.
    directory: HashMap<String, Entity>,
    receivers: Receivers,
    ids: Ids,
    journal: Box<dyn Journal>,
    /// The latest time any command has named; a clock that steps back does not take it along.
    now: Timestamp,
    /// No deadline is earlier. May itself be of something already settled.
    earliest: Timestamp,
}

impl Broker {
    /// A broker with the declared entities and no messages.
    ///
    /// # Errors
    /// Whatever [`Namespace::validate`] finds.
    pub(crate) fn new(
        namespace: &Namespace,
        journal: Box<dyn Journal>,
        seed: u64,
    ) -> Result<Broker, NamespaceError> {
        namespace.validate()?;
        let mut broker = Broker {
            queues: Vec::new(),
            topics: Vec::new(),
            directory: HashMap::new(),
            receivers: Receivers::default(),
            ids: Ids::new(seed),
            journal,
            now: Timestamp::from_millis(i64::MIN),
            earliest: Timestamp::NEVER,
        };
        for spec in &namespace.queues {
            let settings = Settings {
                lock_ms: spec.lock_duration.as_millis(),
                max_delivery_count: Some(spec.max_delivery_count),
                ttl_ms: limited(spec.default_message_time_to_live),
                dead_letter_expired: spec.dead_lettering_on_message_expiration,
                dead_letter_filter_errors: false,
                max_bytes: megabytes(spec.max_size_in_megabytes),
            };
            let id = broker.declare_with_dead_letter(&spec.name, settings, Entity::Queue);
            if spec.requires_duplicate_detection {
                let window_ms = spec.duplicate_detection_history_time_window.as_millis();
                broker.queue_mut(id).duplicates = Some(Duplicates::new(window_ms));
            }
        }
        for spec in &namespace.topics {
            broker.declare_topic(spec)?;
        }
        broker.journal.seal();
        Ok(broker)
    }

    fn declare_topic(&mut self, spec: &crate::topology::Topic) -> Result<(), NamespaceError> {
        let ttl_ms = limited(spec.default_message_time_to_live);
        let settings = Settings {
            lock_ms: 0,
            max_delivery_count: None,
            ttl_ms,
            dead_letter_expired: false,
            dead_letter_filter_errors: false,
            max_bytes: megabytes(spec.max_size_in_megabytes),
        };
        let shelf = self.declare(&spec.name, settings);
        if spec.requires_duplicate_detection {
            let window_ms = spec.duplicate_detection_history_time_window.as_millis();
            self.queue_mut(shelf).duplicates = Some(Duplicates::new(window_ms));
        }
        let topic = TopicId(index(self.topics.len()));
        self.directory.insert(spec.name.to_lowercase(), Entity::Topic(topic));
        let mut subscriptions = Vec::new();
        for subscription in &spec.subscriptions {
            let own_ttl_ms = limited(subscription.default_message_time_to_live);
            let settings = Settings {
                lock_ms: subscription.lock_duration.as_millis(),
                max_delivery_count: Some(subscription.max_delivery_count),
                ttl_ms: own_ttl_ms.into_iter().chain(ttl_ms).min(),
                dead_letter_expired: subscription.dead_lettering_on_message_expiration,
                dead_letter_filter_errors: subscription
                    .dead_lettering_on_filter_evaluation_exceptions,
                max_bytes: u64::MAX,
            };
            let path = format!("{}/Subscriptions/{}", spec.name, subscription.name);
            let id = self.declare_with_dead_letter(&path, settings, Entity::Subscription);
            let mut rules = Vec::new();
            for rule in &subscription.rules {
                let compiled = rule.compile();
                rules.push(Arc::new(compiled.map_err(|problem| NamespaceError {
                    problems: vec![format!(
                        "subscription `{path}`, rule `{}`: {problem}",
                        rule.name
                    )],
                })?));
            }
            if rules.is_empty() {
                rules.push(Arc::new(Rule::default_rule()));
            }
            self.queue_mut(id).declared_rules.clone_from(&rules);
            self.queue_mut(id).rules = rules;
            subscriptions.push((Arc::from(subscription.name.as_str()), id));
        }
        self.topics.push(Topic { path: Arc::from(spec.name.as_str()), shelf, subscriptions });
        Ok(())
    }

    fn declare(&mut self, path: &str, settings: Settings) -> QueueId {
        let id = QueueId(index(self.queues.len()));
        let path: Arc<str> = Arc::from(path);
        self.queues.push(Queue::new(Arc::clone(&path), settings));
        self.commit(Record::Declared { queue: id, path });
        id
    }

    fn declare_with_dead_letter(
        &mut self,
        path: &str,
        settings: Settings,
        entity: fn(QueueId) -> Entity,
    ) -> QueueId {
        let dead_letter_settings = Settings {
            max_delivery_count: None,
            ttl_ms: None,
            dead_letter_expired: false,
            max_bytes: u64::MAX,
            ..settings.clone()
        };
        let id = self.declare(path, settings);
        let dead_letter_path = format!("{path}/$DeadLetterQueue");
        let dead_letter = self.declare(&dead_letter_path, dead_letter_settings);
        self.queue_mut(id).dead_letter = Some(dead_letter);
        self.directory.insert(path.to_lowercase(), entity(id));
        self.directory.insert(dead_letter_path.to_lowercase(), Entity::DeadLetter(dead_letter));
        id
    }

    /// The entity with this normalised path.
    pub(crate) fn resolve(&self, path: &str) -> Option<Entity> {
        self.directory.get(path).copied()
    }

    /// The place an entity's messages are in; for a topic, the scheduled ones.
    pub(crate) fn place(&self, entity: Entity) -> QueueId {
        match entity {
            Entity::Queue(id) | Entity::Subscription(id) | Entity::DeadLetter(id) => id,
            Entity::Topic(topic) => self.topic(topic).shelf,
        }
    }

    /// Ends the atomic group of records that began with the last call. The shell calls this before
    /// it tells anybody of the change, and waits until the journal is durable up to the result.
    pub(crate) fn seal(&mut self) -> u64 {
        self.journal.seal()
    }

    /// When [`advance`](Broker::advance) next has something to do; may be earlier, never later.
    pub(crate) fn next_deadline(&self) -> Timestamp {
        self.earliest
    }

    /// Lets time pass: locks end, scheduled messages appear, lives end. Every command does this
    /// first, so that what is over by the clock is over for the command too.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        self.now = self.now.max(now);
        while self.earliest <= self.now {
            for at in 0..self.queues.len() {
                let id = QueueId(index(at));
                while let Some(sequence) = self.queue(id).lock_over(self.now) {
                    self.fail_delivery(id, sequence, None);
                }
                while let Some(sequence) = self.queue(id).fallen_due(self.now) {
                    self.activate(id, sequence);
                }
                let now = self.now;
                while let Some(sequence) = self.queue_mut(id).expired(now) {
                    self.expire(id, sequence);
                }
                self.feed(id);
            }
            let deadlines = self.queues.iter().map(Queue::next_deadline);
            self.earliest = deadlines.min().unwrap_or(Timestamp::NEVER);
        }
    }

    fn queue(&self, id: QueueId) -> &Queue {
        &self.queues[id.0 as usize]
    }

    fn queue_mut(&mut self, id: QueueId) -> &mut Queue {
        &mut self.queues[id.0 as usize]
    }

    fn topic(&self, id: TopicId) -> &Topic {
        &self.topics[id.0 as usize]
    }

    /// Journals and applies one change.
    fn commit(&mut self, record: Record) {
        self.journal.append(&record);
        self.apply(record);
    }

    /// Applies one change: a new one, or one read back from a journal.
    fn apply(&mut self, record: Record) {
        match record {
            Record::Declared { .. } => {}
            Record::Enqueued {
                queue,
                sequence,
                original_sequence,
                enqueued_at,
                expires_at,
                delivery_count,
                arrival,
                message,
            } => {
                let state = Queue::state_of(arrival);
                if let record::Arrival::At(due) = arrival {
                    self.wake_at(due);
                } else if let Some(at) = expires_at {
                    self.wake_at(at);
                }
                let entry = Entry {
                    message,
                    original_sequence,
                    enqueued_at,
                    expires_at,
                    delivery_count,
                    deferred: false,
                    state,
                };
                let queue = self.queue_mut(queue);
                // A snapshot may have it already.
                queue.remove(sequence);
                queue.insert(sequence, entry);
            }
            Record::Removed { queue, sequence, .. } => self.queue_mut(queue).remove(sequence),
            Record::Locked { queue, sequence, token, until } => {
                self.wake_at(until);
                self.queue_mut(queue).lock(sequence, token, until);
            }
            Record::Renewed { queue, sequence, until } => {
                self.wake_at(until);
                self.queue_mut(queue).renew(sequence, until);
            }
            Record::Unlocked { queue, sequence, delivery_count, deferred, changed } => {
                let queue = self.queue_mut(queue);
                queue.unlock(sequence, delivery_count, deferred, changed);
                let expires_at = queue.get(sequence).and_then(|entry| entry.expires_at);
                if let Some(at) = expires_at {
                    self.wake_at(at);
                }
            }
            Record::Remembered { queue, key, until } => {
                if let Some(duplicates) = &mut self.queue_mut(queue).duplicates {
                    duplicates.remember(key, until);
                }
            }
            Record::RuleAdded { queue, rule } => {
                let rules = &mut self.queue_mut(queue).rules;
                rules.retain(|known| known.name != rule.name);
                rules.push(rule);
            }
            Record::RuleRemoved { queue, name } => {
                self.queue_mut(queue).rules.retain(|rule| rule.name != name);
            }
            Record::Numbered { queue, sequence } => self.queue_mut(queue).use_sequence(sequence),
        }
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.earliest = self.earliest.min(at);
    }
}

fn limited(span: Option<Span>) -> Option<i64> {
    span.filter(|span| !span.is_unlimited()).map(Span::as_millis)
}

fn megabytes(n: u32) -> u64 {
    u64::from(n) * 1_048_576
}

/// Entities are declared by hand; there are never four billion.
fn index(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
