//! Ending deliveries: complete, abandon, defer, dead-letter, renew, and what happens by itself.

use std::sync::Arc;

use uuid::Uuid;

use super::Broker;
use super::body::Body;
use super::queue::State;
use super::record::{Arrival, QueueId, Record, Removal};
use super::time::Timestamp;
use crate::amqp::Value;
use crate::limits::DEAD_LETTER_TEXT_CHARS_MAX;
use crate::message::{DEAD_LETTER_DESCRIPTION, DEAD_LETTER_REASON, Message};

/// What a receiver wants done with a message it has locked. Properties to change become
/// application properties.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Settlement {
    Complete,
    /// Available again, one failed delivery more.
    Abandon {
        changes: Vec<(Value, Value)>,
    },
    /// Set aside until asked for by number.
    Defer {
        changes: Vec<(Value, Value)>,
    },
    DeadLetter {
        changes: Vec<(Value, Value)>,
    },
    /// Available again as if it had not been received.
    Release,
}

impl Settlement {
    /// Dead-lettering for the given reason, beside other properties to change.
    pub(crate) fn dead_letter(
        reason: Option<&str>,
        description: Option<&str>,
        mut changes: Vec<(Value, Value)>,
    ) -> Settlement {
        for (key, text) in [(DEAD_LETTER_REASON, reason), (DEAD_LETTER_DESCRIPTION, description)] {
            if let Some(text) = text {
                changes.push((Value::string(key), Value::string(text)));
            }
        }
        Settlement::DeadLetter { changes }
    }
}

/// Why nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SettleError {
    #[error(
        "The lock supplied is invalid. Either the lock expired, or the message has already been \
         removed from the queue."
    )]
    LockLost,
    #[error(
        "The session lock has expired on the MessageSession, or nobody holds it. Accept a new \
         MessageSession."
    )]
    SessionLost,
    #[error("A message in a dead-letter queue cannot be dead-lettered again.")]
    AlreadyDead,
}

impl Broker {
    /// Settles the message locked under `token`.
    pub(crate) fn settle(
        &mut self,
        now: Timestamp,
        queue: QueueId,
        token: Uuid,
        settlement: Settlement,
    ) -> Result<(), SettleError> {
        self.advance(now);
        let lost = self.lock_lost(queue);
        let sequence = self.queue(queue).locked(token).ok_or(lost)?;
        self.touch(queue);
        match settlement {
            Settlement::Complete => {
                let removal = Removal::Completed;
                self.commit(Record::Removed { queue, sequence, removal });
            }
            Settlement::Abandon { changes } => {
                self.fail_delivery(queue, sequence, Some(&changes));
                // Its time may have ended under the lock.
                self.advance(now);
                self.feed(queue);
            }
            Settlement::Defer { changes } => {
                if let Some((count, message)) = self.failed(queue, sequence) {
                    let changed = change(&message, &changes);
                    let (delivery_count, deferred) = (count, true);
                    self.commit(Record::Unlocked {
                        queue,
                        sequence,
                        delivery_count,
                        deferred,
                        changed,
                    });
                }
            }
            Settlement::DeadLetter { changes } => {
                if self.queue(queue).dead_letter.is_none() {
                    return Err(SettleError::AlreadyDead);
                }
                self.dead_letter(queue, sequence, &changes, 0);
            }
            Settlement::Release => {
                if let Some(entry) = self.queue(queue).get(sequence) {
                    let (delivery_count, deferred) = (entry.delivery_count, entry.deferred);
                    let changed = None;
                    self.commit(Record::Unlocked {
                        queue,
                        sequence,
                        delivery_count,
                        deferred,
                        changed,
                    });
                    self.move_on(queue, sequence);
                    self.advance(now);
                    self.feed(queue);
                }
            }
        }
        Ok(())
    }

    /// How a lock that is over is called: with sessions, it is the session that was lost.
    pub(crate) fn lock_lost(&self, queue: QueueId) -> SettleError {
        match self.has_sessions(queue) {
            true => SettleError::SessionLost,
            false => SettleError::LockLost,
        }
    }

    /// Whether a lock is still held.
    pub(crate) fn is_locked(&self, queue: QueueId, token: Uuid) -> bool {
        self.queue(queue).locked(token).is_some()
    }

    /// Starts the lock duration anew for every token, or for none if one lock is lost.
    pub(crate) fn renew(
        &mut self,
        now: Timestamp,
        queue: QueueId,
        tokens: &[Uuid],
    ) -> Result<Vec<Timestamp>, SettleError> {
        self.advance(now);
        self.touch(queue);
        let locked = tokens.iter().map(|token| self.queue(queue).locked(*token));
        let sequences: Vec<i64> = locked.collect::<Option<_>>().ok_or(SettleError::LockLost)?;
        let until = self.now.plus(self.queue(queue).settings.lock_ms);
        for &sequence in &sequences {
            self.commit(Record::Renewed { queue, sequence, until });
        }
        Ok(vec![until; sequences.len()])
    }

    /// A delivery failed: abandoned with properties to change, or its lock is over.
    pub(super) fn fail_delivery(
        &mut self,
        queue: QueueId,
        sequence: i64,
        changes: Option<&[(Value, Value)]>,
    ) {
        let Some((delivery_count, message)) = self.failed(queue, sequence) else { return };
        let settings = &self.queue(queue).settings;
        if settings.max_delivery_count.is_some_and(|max| delivery_count >= max) {
            let mut changes = changes.unwrap_or_default().to_vec();
            changes.extend(reason(
                "MaxDeliveryCountExceeded",
                &format!("Message could not be consumed after {delivery_count} delivery attempts."),
            ));
            self.dead_letter(queue, sequence, &changes, 1);
            return;
        }
        let deferred = self.queue(queue).get(sequence).is_some_and(|entry| entry.deferred);
        let changed = changes.and_then(|changes| change(&message, changes));
        self.commit(Record::Unlocked { queue, sequence, delivery_count, deferred, changed });
        self.move_on(queue, sequence);
    }

    /// A message is available again where the entity came to forward meanwhile: it follows those
    /// that were there.
    fn move_on(&mut self, queue: QueueId, sequence: i64) {
        let entry = self.queue(queue).get(sequence);
        if self.forwards(queue) && entry.is_some_and(|entry| entry.state == State::Available) {
            self.activate(queue, sequence);
        }
    }

    /// A message outlived its time to live.
    pub(super) fn expire(&mut self, queue: QueueId, sequence: i64) {
        if self.queue(queue).settings.dead_letter_expired {
            let changes =
                reason("TTLExpiredException", "The message expired and was dead lettered.");
            self.dead_letter(queue, sequence, &changes, 0);
        } else {
            self.commit(Record::Removed { queue, sequence, removal: Removal::Expired });
        }
    }

    /// The delivery count after one more failure, and the message.
    fn failed(&self, queue: QueueId, sequence: i64) -> Option<(u32, Body)> {
        let entry = self.queue(queue).get(sequence)?;
        Some((entry.delivery_count.saturating_add(1), entry.message.clone()))
    }

    /// Moves a message to the dead-letter sub-queue under a new number, or to where the entity
    /// forwards its dead letters.
    fn dead_letter(
        &mut self,
        queue: QueueId,
        sequence: i64,
        changes: &[(Value, Value)],
        more_failures: u32,
    ) {
        let Some(to) = self.queue(queue).dead_letter else { return };
        let Some(entry) = self.queue(queue).get(sequence).cloned() else { return };
        let changes: Vec<_> =
            changes.iter().map(|(key, value)| (key.clone(), cut(key, value))).collect();
        let message = entry.message.load();
        let message = changed(&message, &changes).unwrap_or(message);
        if let Some(target) = self.queue(queue).settings.forward_dead.clone() {
            self.commit(Record::Removed { queue, sequence, removal: Removal::Forwarded });
            self.forward_dead_letter(queue, &target, &message, entry.original_sequence);
            return;
        }
        self.commit(Record::Removed { queue, sequence, removal: Removal::DeadLettered });
        self.commit(Record::Enqueued {
            queue: to,
            sequence: self.queue(to).next_sequence(),
            original_sequence: entry.original_sequence,
            enqueued_at: entry.enqueued_at,
            expires_at: None,
            delivery_count: entry.delivery_count + more_failures,
            arrival: Arrival::Now,
            message,
        });
        self.feed(to);
    }
}

pub(super) fn reason(reason: &str, description: &str) -> Vec<(Value, Value)> {
    vec![
        (Value::string(DEAD_LETTER_REASON), Value::string(reason)),
        (Value::string(DEAD_LETTER_DESCRIPTION), Value::string(description)),
    ]
}

/// The changed message, read only if there is something to change.
fn change(message: &Body, changes: &[(Value, Value)]) -> Option<Arc<Message>> {
    if changes.is_empty() { None } else { changed(&message.load(), changes) }
}

pub(super) fn changed(message: &Message, changes: &[(Value, Value)]) -> Option<Arc<Message>> {
    (!changes.is_empty()).then(|| Arc::new(message.with_application_properties(changes)))
}

/// Reason and description have a limited length; what is beyond it is cut.
fn cut(key: &Value, value: &Value) -> Value {
    let limited = matches!(key.as_text(), Some(DEAD_LETTER_REASON | DEAD_LETTER_DESCRIPTION));
    match value {
        Value::String(text) if limited && text.len() > DEAD_LETTER_TEXT_CHARS_MAX => {
            Value::String(text.chars().take(DEAD_LETTER_TEXT_CHARS_MAX).collect())
        }
        other => other.clone(),
    }
}
