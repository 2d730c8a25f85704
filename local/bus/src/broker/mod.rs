//! The broker: Service Bus entities as a deterministic state machine.
//!
//! Synchronous, without I/O and without a clock: the time is an argument of every command, and the
//! same seed and commands lead to the same state, ids included. It knows messages and their format
//! but nothing of connections, sessions or links; a receiver is a number that has credit.
//! Semantics: <https://learn.microsoft.com/azure/service-bus-messaging/>.
//!
//! One file per concern: [`publish`] brings messages in, [`forward`] moves them on, [`receive`]
//! hands them out, [`held`] does so by session, [`settle`] ends deliveries, [`browse`] looks and
//! edits from the management side, [`entities`] come and go, [`queue`] and [`sessions`] are the
//! state and [`record`] the only way to change it.

mod address;
pub(crate) mod body;
mod browse;
mod duplicates;
mod entities;
mod forward;
mod held;
mod ids;
mod publish;
mod queue;
mod receive;
pub(crate) mod record;
pub(crate) mod recovery;
mod rule;
mod sessions;
mod settle;
mod status;
#[cfg(test)]
mod tests;
mod time;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

pub(crate) use address::{Address, normalise};
pub(crate) use browse::RuleError;
pub(crate) use entities::{EntityError, Registered, Runtime};
pub(crate) use held::SessionOffer;
pub(crate) use publish::PublishError;
pub(crate) use receive::{
    ConnectionId, Delivery, Event, Lost, MessageState, ReceiveMode, ReceiverId,
};
pub(crate) use record::{Journal, NoJournal, QueueId};
pub(crate) use rule::Rule;
pub(crate) use settle::{SettleError, Settlement};
pub use status::{QueueStatus, Status, SubscriptionStatus, TopicStatus};
pub(crate) use time::Timestamp;

use body::Body;
use entities::Registry;
use ids::Ids;
use queue::{Entry, Queue};
use receive::Receivers;
use record::Record;

use crate::topology::{Definition, Namespace, NamespaceError};

/// What an address stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entity {
    Queue(QueueId),
    Topic(TopicId),
    Subscription(QueueId),
    /// A dead-letter or transfer dead-letter sub-queue.
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
    registry: Registry,
    /// Keys of the entities that a topology file declares: the file is where they last.
    declared: BTreeSet<String>,
    receivers: Receivers,
    ids: Ids,
    journal: Box<dyn Journal>,
    /// Bytes of messages in memory.
    resident: u64,
    /// Above this, messages that come are left where the journal has them.
    resident_max: u64,
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
            registry: Registry::new(),
            declared: BTreeSet::new(),
            receivers: Receivers::default(),
            ids: Ids::new(seed),
            journal,
            resident: 0,
            resident_max: u64::MAX,
            now: Timestamp::from_millis(i64::MIN),
            earliest: Timestamp::NEVER,
        };
        broker.declare_all(namespace);
        broker.journal.seal();
        Ok(broker)
    }

    /// Defines what a topology file declares; what exists already is changed accordingly, its
    /// rules and messages are left alone. Not journaled: the file lasts by itself.
    pub(crate) fn declare_all(&mut self, namespace: &Namespace) {
        let at = self.now;
        for queue in &namespace.queues {
            self.declared.insert(normalise(&queue.name));
            self.define(&Arc::new(Definition::Queue(queue.clone())), at);
        }
        for topic in &namespace.topics {
            self.declared.insert(normalise(&topic.name));
            let alone = crate::topology::Topic { subscriptions: Vec::new(), ..topic.clone() };
            self.define(&Arc::new(Definition::Topic(alone)), at);
            for subscription in &topic.subscriptions {
                let (topic, subscription) = (topic.name.clone(), subscription.clone());
                let definition = Definition::Subscription { topic, subscription };
                self.declared.insert(normalise(&definition.path()));
                self.define(&Arc::new(definition), at);
            }
        }
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
        let position = self.journal.seal();
        if self.resident > self.resident_max {
            let stored = self.journal.stored();
            self.put_away(stored);
        }
        position
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
                self.end_session_locks(id);
                while let Some(sequence) = self.queue(id).fallen_due(self.now) {
                    self.activate(id, sequence);
                }
                let now = self.now;
                while let Some(sequence) = self.queue_mut(id).expired(now) {
                    self.expire(id, sequence);
                }
                self.feed(id);
                if self.queue(id).idle_over(now) {
                    self.end_idle(id);
                }
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
    fn apply(&mut self, mut record: Record) {
        let place = record.queue_mut().copied();
        let before = place.map_or(0, |place| self.queue(place).resident());
        self.change(record);
        self.resident = match place {
            Some(place) => self.resident - before + self.queue(place).resident(),
            None => self.queues.iter().map(Queue::resident).sum(),
        };
    }

    fn change(&mut self, record: Record) {
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
                    message: Body::Here(message),
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
            Record::SessionState { queue, session, state, at } => {
                if let Some(sessions) = &mut self.queue_mut(queue).sessions {
                    sessions.set_state(&session, state, at);
                }
            }
            Record::Defined { definition, at } => self.define(&definition, at),
            Record::Dropped { path } => self.undefine(&path),
        }
    }

    fn wake_at(&mut self, at: Timestamp) {
        self.earliest = self.earliest.min(at);
    }
}

/// Entities are declared by hand; there are never four billion.
fn index(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}
