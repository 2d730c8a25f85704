//! Bringing messages in: quota, duplicates, schedule, fan-out.

use std::sync::Arc;

use uuid::Uuid;

use super::record::{Arrival, QueueId, Record, Removal};
use super::rule::judge;
use super::time::Timestamp;
use super::{Broker, Entity, TopicId};
use crate::amqp::Value;
use crate::message::{DEAD_LETTER_DESCRIPTION, DEAD_LETTER_REASON, Message, View};

/// Why messages were not accepted; none of a batch is then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PublishError {
    #[error("messages cannot be sent to a subscription or a dead-letter queue")]
    NotAllowed,
    #[error("the messaging entity '{0}' could not be found; it was deleted")]
    Deleted(Arc<str>),
    #[error("the messaging entity '{0}' is disabled for sending")]
    Disabled(Arc<str>),
    #[error(
        "the SessionId was not set on a message, and it cannot be sent to the entity. Entities \
         that have session support enabled can only receive messages that have the SessionId set \
         to a valid value."
    )]
    NoSession,
    /// Without a journal there is no other place for a message.
    #[error("the messages in memory have reached their maximum size of {0} bytes")]
    NoMemory(u64),
    #[error("the entity `{path}` has reached its maximum size of {max_bytes} bytes")]
    Full { path: Arc<str>, max_bytes: u64 },
}

impl Broker {
    /// Accepts messages, all or none. One that asks for a later time is scheduled.
    pub(crate) fn publish(
        &mut self,
        now: Timestamp,
        to: Entity,
        messages: Vec<Message>,
    ) -> Result<(), PublishError> {
        self.advance(now);
        self.check(to, &messages)?;
        for message in messages {
            self.accept(to, message);
        }
        Ok(())
    }

    /// Accepts messages and answers with the number each got, by which it can be cancelled as
    /// long as its time has not come.
    pub(crate) fn schedule(
        &mut self,
        now: Timestamp,
        to: Entity,
        messages: Vec<Message>,
    ) -> Result<Vec<i64>, PublishError> {
        self.advance(now);
        self.check(to, &messages)?;
        Ok(messages.into_iter().map(|message| self.accept(to, message)).collect())
    }

    /// Takes back scheduled messages; `false`, and nothing is taken back, if one is not there.
    pub(crate) fn cancel(&mut self, now: Timestamp, of: Entity, sequences: &[i64]) -> bool {
        self.advance(now);
        let queue = self.place(of);
        let scheduled = |sequence: &i64| {
            let entry = self.queue(queue).get(*sequence);
            entry.is_some_and(|entry| matches!(entry.state, super::queue::State::Scheduled { .. }))
        };
        if !sequences.iter().all(scheduled) {
            return false;
        }
        for &sequence in sequences {
            self.commit(Record::Removed { queue, sequence, removal: Removal::Cancelled });
        }
        true
    }

    /// Whether an entity takes these messages.
    pub(super) fn check(&self, to: Entity, messages: &[Message]) -> Result<(), PublishError> {
        let mut bytes = 0;
        let mut without_session = false;
        for message in messages {
            bytes += message.size();
            without_session |= message.session_id.is_none();
        }
        self.check_total(to, bytes, without_session)
    }

    pub(super) fn check_total(
        &self,
        to: Entity,
        more_bytes: u64,
        without_session: bool,
    ) -> Result<(), PublishError> {
        let bytes = match to {
            Entity::Queue(id) => self.queue(id).bytes(),
            Entity::Topic(topic) => {
                let topic = self.topic(topic);
                let copies = topic.subscriptions.iter().map(|(_, id)| self.queue(*id));
                let dead = copies.clone().filter_map(|queue| queue.dead_letter);
                self.queue(topic.shelf).bytes()
                    + copies.map(super::Queue::bytes).sum::<u64>()
                    + dead.map(|id| self.queue(id).bytes()).sum::<u64>()
            }
            Entity::Subscription(_) | Entity::DeadLetter(_) => {
                return Err(PublishError::NotAllowed);
            }
        };
        let inlet = self.queue(self.place(to));
        if inlet.gone {
            return Err(PublishError::Deleted(Arc::clone(&inlet.path)));
        }
        if !inlet.settings.status.can_send() {
            return Err(PublishError::Disabled(Arc::clone(&inlet.path)));
        }
        if inlet.sessions.is_some() && without_session {
            return Err(PublishError::NoSession);
        }
        let max_bytes = inlet.settings.max_bytes;
        let in_memory = self.journal.shelf().is_none();
        if in_memory && self.resident + more_bytes > self.resident_max {
            return Err(PublishError::NoMemory(self.resident_max));
        }
        if bytes + more_bytes > max_bytes {
            return Err(PublishError::Full { path: Arc::clone(&inlet.path), max_bytes });
        }
        Ok(())
    }

    /// Takes one message and answers with its number. A duplicate gets one too, and is dropped.
    fn accept(&mut self, to: Entity, mut message: Message) -> i64 {
        if message.lacks_id() {
            message.invent_id(self.ids.next());
        }
        let inlet = self.place(to);
        self.queue_mut(inlet).last_used = self.now;
        let now = self.now;
        let sequence = self.queue(inlet).next_sequence();
        if let Some(duplicates) = &mut self.queue_mut(inlet).duplicates {
            let key = message.duplicate_key();
            if duplicates.knows(&key, now) {
                self.commit(Record::Numbered { queue: inlet, sequence });
                return sequence;
            }
            let until = now.plus(duplicates.window_ms());
            self.commit(Record::Remembered { queue: inlet, key, until });
        }
        match message.scheduled_for {
            Some(due) if due > now => self.commit(Record::Enqueued {
                queue: inlet,
                sequence,
                original_sequence: sequence,
                enqueued_at: now,
                expires_at: None,
                delivery_count: 0,
                arrival: Arrival::At(due),
                message: Arc::new(message),
            }),
            _ => match to {
                Entity::Topic(topic) => {
                    self.commit(Record::Numbered { queue: inlet, sequence });
                    self.fan_out(topic, &Arc::new(message), sequence, 0);
                }
                _ => self.arrive(inlet, sequence, sequence, Arc::new(message), 0),
            },
        }
        sequence
    }

    /// The time of a scheduled message has come, or the way it is forwarded has changed. It joins
    /// the others as if it were sent now, so it gets a new number; the old one stays as its
    /// original.
    pub(super) fn activate(&mut self, queue: QueueId, sequence: i64) {
        let Some(entry) = self.queue(queue).get(sequence) else { return };
        let (message, original) = (entry.message.load(), entry.original_sequence);
        self.commit(Record::Removed { queue, sequence, removal: Removal::Activated });
        match self.topics.iter().position(|topic| topic.shelf == queue) {
            Some(at) => self.fan_out(TopicId(super::index(at)), &message, original, 0),
            None => {
                let next = self.queue(queue).next_sequence();
                self.arrive(queue, next, original, message, 0);
            }
        }
    }

    /// Puts a copy into each subscription whose rules the message passes. `hops` is how often it
    /// was forwarded.
    pub(super) fn fan_out(
        &mut self,
        topic: TopicId,
        message: &Arc<Message>,
        original: i64,
        hops: u32,
    ) {
        let mut view = None;
        for at in 0..self.topic(topic).subscriptions.len() {
            let id = self.topic(topic).subscriptions[at].1;
            self.route_to_subscription(id, message, original, &mut view, hops);
        }
    }

    fn route_to_subscription(
        &mut self,
        id: QueueId,
        message: &Arc<Message>,
        original: i64,
        view: &mut Option<View>,
        hops: u32,
    ) {
        if view.is_none() && self.queue(id).rules.iter().any(|rule| rule.reads_message()) {
            let seed = self.ids.next();
            *view = Some(View::of(message, original, self.now, seed));
        }
        let rules = self.queue(id).rules.iter().map(|rule| &**rule);
        let verdict = match view {
            Some(view) => judge(rules, view),
            // Every rule is constant, so any view will do.
            None => judge(rules, &View::of(&Message::default(), 0, self.now, Uuid::nil())),
        };
        match verdict {
            Ok(verdict) => {
                if verdict.plain {
                    let sequence = self.queue(id).next_sequence();
                    self.arrive(id, sequence, original, Arc::clone(message), hops);
                }
                for (changes, rule) in &verdict.changed {
                    let sequence = self.queue(id).next_sequence();
                    let copy = Arc::new(message.with_changes(changes, rule));
                    self.arrive(id, sequence, original, copy, hops);
                }
            }
            Err(error) => {
                let queue = self.queue(id);
                let dead_letter =
                    queue.dead_letter.filter(|_| queue.settings.dead_letter_filter_errors);
                let Some(dead_letter) = dead_letter else { return };
                let copy = message.with_application_properties(&[
                    (Value::string(DEAD_LETTER_REASON), Value::string("FilterEvaluationException")),
                    (Value::string(DEAD_LETTER_DESCRIPTION), Value::String(error.to_string())),
                ]);
                let sequence = self.queue(dead_letter).next_sequence();
                self.enqueue(dead_letter, sequence, original, Arc::new(copy));
            }
        }
    }

    pub(super) fn enqueue(
        &mut self,
        id: QueueId,
        sequence: i64,
        original: i64,
        message: Arc<Message>,
    ) {
        let own_ms = message.header.ttl.map(i64::from);
        let ttl_ms = match id {
            // In a dead-letter queue nothing expires.
            _ if self.queue(id).dead_letter.is_none() => None,
            _ => own_ms.into_iter().chain(self.queue(id).settings.ttl_ms).min(),
        };
        self.commit(Record::Enqueued {
            queue: id,
            sequence,
            original_sequence: original,
            enqueued_at: self.now,
            expires_at: ttl_ms.map(|ttl_ms| self.now.plus(ttl_ms)),
            delivery_count: 0,
            arrival: Arrival::Now,
            message,
        });
        self.feed(id);
    }
}
