//! Moving messages on: from an entity that forwards to the one it names.
//!
//! <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-auto-forwarding>

use std::sync::Arc;

use super::record::{QueueId, Record};
use super::settle::{changed, reason};
use super::{Broker, Entity, PublishError};
use crate::amqp::Value;
use crate::limits::FORWARD_HOPS_MAX;
use crate::message::Message;

/// Why a message stays behind: the reason and the description of its transfer dead letter.
type Refusal = (&'static str, String);

impl Broker {
    /// A message arrives at a queue or subscription after `hops` moves: it stays or moves on.
    pub(super) fn arrive(
        &mut self,
        id: QueueId,
        sequence: i64,
        original: i64,
        message: Arc<Message>,
        hops: u32,
    ) {
        if let Some(target) = self.queue(id).settings.forward_to.clone() {
            self.commit(Record::Numbered { queue: id, sequence });
            if let Err(refusal) = self.forward(&target, &message, original, hops + 1) {
                self.leave_behind(id, &message, original, &refusal);
            }
            return;
        }
        if self.has_sessions(id) && message.session_id.is_none() {
            self.commit(Record::Numbered { queue: id, sequence });
            let Some(dead) = self.queue(id).dead_letter else { return };
            let why = reason(
                "Session ID is null.",
                "Session enabled entity doesn't allow a message whose session identifier is null.",
            );
            self.put(dead, original, changed(&message, &why).unwrap_or(message));
            return;
        }
        self.enqueue(id, sequence, original, message);
    }

    /// Moves a dead letter to where its entity wants it.
    pub(super) fn forward_dead_letter(
        &mut self,
        from: QueueId,
        target: &str,
        message: &Arc<Message>,
        original: i64,
    ) {
        let source = Arc::clone(&self.queue(from).path);
        let message = Arc::new(message.with_annotation("x-opt-deadletter-source", &source));
        if let Err(refusal) = self.forward(target, &message, original, 1) {
            self.leave_behind(from, &message, original, &refusal);
        }
    }

    fn forward(
        &mut self,
        target: &str,
        message: &Arc<Message>,
        original: i64,
        hops: u32,
    ) -> Result<(), Refusal> {
        if hops > FORWARD_HOPS_MAX {
            let text = format!("The message was forwarded more than {FORWARD_HOPS_MAX} times.");
            return Err(("MaxTransferHopCountExceeded", text));
        }
        let entity = self.resolve(target).ok_or_else(|| {
            ("MessagingEntityNotFound", format!("The messaging entity '{target}' is not there."))
        })?;
        self.check_total(entity, message.size(), message.session_id.is_none()).map_err(
            |error| {
                let name = match error {
                    PublishError::Full { .. } | PublishError::NoMemory(_) => "QuotaExceeded",
                    PublishError::Disabled(_) => "MessagingEntityDisabled",
                    PublishError::Deleted(_) => "MessagingEntityNotFound",
                    PublishError::NoSession => "Session ID is null.",
                    PublishError::NotAllowed => "NotAllowed",
                };
                (name, error.to_string())
            },
        )?;
        let inlet = self.place(entity);
        let now = self.now;
        self.queue_mut(inlet).last_used = now;
        let sequence = self.queue(inlet).next_sequence();
        if let Some(duplicates) = &mut self.queue_mut(inlet).duplicates {
            let key = message.duplicate_key();
            if duplicates.knows(&key, now) {
                return Ok(());
            }
            let until = now.plus(duplicates.window_ms());
            self.commit(Record::Remembered { queue: inlet, key, until });
        }
        match entity {
            Entity::Topic(topic) => {
                self.commit(Record::Numbered { queue: inlet, sequence });
                self.fan_out(topic, message, original, hops);
            }
            _ => self.arrive(inlet, sequence, original, Arc::clone(message), hops),
        }
        Ok(())
    }

    /// Puts what could not be moved into the transfer dead-letter sub-queue of where it was.
    fn leave_behind(&mut self, id: QueueId, message: &Arc<Message>, original: i64, why: &Refusal) {
        let Some(transfer) = self.queue(id).transfer_dead_letter else { return };
        let changes: Vec<(Value, Value)> = reason(why.0, &why.1);
        self.put(transfer, original, changed(message, &changes).unwrap_or(Arc::clone(message)));
    }

    fn put(&mut self, id: QueueId, original: i64, message: Arc<Message>) {
        let sequence = self.queue(id).next_sequence();
        self.enqueue(id, sequence, original, message);
    }
}
