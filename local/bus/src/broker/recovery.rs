//! Rebuilding the state from a journal, and capturing it for a snapshot.
//!
//! A snapshot is captured piece by piece while commands go on, and the records since its start are
//! applied on top of it. That gives the state of the end because every record says what is, not
//! what changes, and because one for a message that is not there is passed over.

use std::sync::Arc;

use super::body::{Shelf, Stored};
use super::queue::State;
use super::record::{Arrival, Journal, QueueId, Record};
use super::sessions::Sessions;
use super::time::Timestamp;
use super::{Broker, index, normalise};
use crate::limits::{CAPTURE_BYTES, CAPTURE_ITEMS};

/// How far a capture has come.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Cursor {
    queue: usize,
    /// Places that were there at the start; the records of later ones are all in the journal.
    queues: usize,
    part: Part,
}

#[derive(Debug, Clone, Copy, Default)]
enum Part {
    #[default]
    Head,
    /// The duplicate window after this time.
    Window(Timestamp),
    /// Messages from this number on.
    Messages(i64),
}

impl Cursor {
    pub(crate) fn is_at_end(&self) -> bool {
        self.queue >= self.queues
    }
}

impl Broker {
    /// The place with this path.
    pub(crate) fn place_of(&self, path: &str) -> Option<QueueId> {
        self.resolve(&normalise(path)).map(|entity| self.place(entity))
    }

    /// Messages in all places.
    pub(crate) fn message_count(&self) -> usize {
        self.queues.iter().map(|queue| queue.counts().0).sum()
    }

    /// Bytes of the messages in all places.
    pub(crate) fn message_bytes(&self) -> u64 {
        self.queues.iter().map(super::Queue::bytes).sum()
    }

    /// Applies a record of an earlier run.
    pub(crate) fn restore(&mut self, record: Record) {
        self.apply(record);
    }

    /// Leaves messages where the journal has them, as long as too many are in memory.
    pub(super) fn put_away(&mut self, stored: Vec<(QueueId, i64, Stored)>) {
        let Some(shelf) = self.journal.shelf() else { return };
        self.put_away_on(&shelf, stored);
    }

    /// The same while a journal is read back.
    pub(crate) fn put_away_on(
        &mut self,
        shelf: &Arc<dyn Shelf>,
        stored: impl IntoIterator<Item = (QueueId, i64, Stored)>,
    ) {
        for (queue, sequence, stored) in stored {
            if self.resident <= self.resident_max {
                return;
            }
            let place = self.queue_mut(queue);
            let before = place.resident();
            place.put_away(sequence, shelf, stored);
            let after = place.resident();
            self.resident = self.resident - before + after;
        }
    }

    /// Bytes of messages in memory.
    #[cfg(test)]
    pub(crate) fn memory_bytes(&self) -> u64 {
        self.resident
    }

    /// Sets how many bytes of messages are kept in memory.
    pub(crate) fn limit_memory(&mut self, bytes: u64) {
        self.resident_max = bytes;
    }

    /// Where a message is, if it is not in memory.
    pub(crate) fn stored(&self, queue: QueueId, sequence: i64) -> Option<Stored> {
        self.queue(queue).get(sequence)?.message.stored()
    }

    /// The same message is somewhere else now.
    pub(crate) fn move_stored(&mut self, queue: QueueId, sequence: i64, stored: Stored) {
        if let Some(shelf) = self.journal.shelf() {
            self.queue_mut(queue).put_away(sequence, &shelf, stored);
        }
    }

    /// From now on every change goes into `journal`, the places first. Up to where they are written.
    pub(crate) fn adopt(&mut self, journal: Box<dyn Journal>) -> u64 {
        self.journal = journal;
        self.declare_places()
    }

    /// Writes down which places there are. Without that nothing else in a journal can be read, so
    /// it is there twice.
    pub(crate) fn declare_places(&mut self) -> u64 {
        for at in 0..self.queues.len() {
            if !self.queues[at].gone {
                let record = self.declaration(at);
                self.journal.append(&record);
            }
        }
        self.journal.seal()
    }

    fn declaration(&self, at: usize) -> Record {
        Record::Declared { queue: QueueId(index(at)), path: Arc::clone(&self.queues[at].path) }
    }

    /// The first piece of a capture, to be taken where nothing can come in between: which places
    /// there are.
    pub(crate) fn capture_entities(&self, put: &mut dyn FnMut(&Record)) -> Cursor {
        for (key, known) in &self.registry {
            // The others are in the topology file.
            if !self.declared.contains(key) {
                let (definition, at) = (Arc::clone(&known.definition), known.created_at);
                put(&Record::Defined { definition, at });
            }
        }
        for (at, queue) in self.queues.iter().enumerate() {
            if !queue.gone {
                put(&self.declaration(at));
            }
        }
        Cursor { queues: self.queues.len(), ..Cursor::default() }
    }

    /// The next piece, as records that lead to what is there now.
    pub(crate) fn capture(&self, cursor: &mut Cursor, put: &mut dyn FnMut(&Record)) {
        let queue = QueueId(index(cursor.queue));
        let place = self.queue(queue);
        match cursor.part {
            Part::Head => {
                let sequence = place.next_sequence() - 1;
                put(&Record::Numbered { queue, sequence });
                self.capture_rules(queue, put);
                for (session, state, at) in place.sessions.iter().flat_map(Sessions::states) {
                    put(&Record::SessionState { queue, session, state: Some(state), at });
                }
                cursor.part = Part::Window(Timestamp::from_millis(i64::MIN));
            }
            Part::Window(after) => {
                let duplicates = place.duplicates.as_ref();
                let piece = duplicates.map(|all| all.after(after, CAPTURE_ITEMS));
                let mut next = Part::Messages(0);
                for (until, key) in piece.into_iter().flatten() {
                    put(&Record::Remembered { queue, key: Arc::clone(key), until: *until });
                    next = Part::Window(*until);
                }
                cursor.part = next;
            }
            Part::Messages(from) => {
                let mut bytes = 0;
                let mut next = None;
                for (items, (sequence, entry)) in place.from(from).enumerate() {
                    if items >= CAPTURE_ITEMS || bytes >= CAPTURE_BYTES {
                        next = Some(sequence);
                        break;
                    }
                    bytes += entry.message.size();
                    self.capture_message(queue, sequence, put);
                }
                match next {
                    Some(sequence) => cursor.part = Part::Messages(sequence),
                    None => {
                        *cursor = Cursor { queue: cursor.queue + 1, part: Part::Head, ..*cursor }
                    }
                }
            }
        }
    }

    /// What is different from the rules that were declared.
    fn capture_rules(&self, queue: QueueId, put: &mut dyn FnMut(&Record)) {
        let place = self.queue(queue);
        for rule in &place.declared_rules {
            if !place.rules.contains(rule) {
                put(&Record::RuleRemoved { queue, name: rule.name.clone() });
            }
        }
        for rule in &place.rules {
            if !place.declared_rules.contains(rule) {
                put(&Record::RuleAdded { queue, rule: Arc::clone(rule) });
            }
        }
    }

    fn capture_message(&self, queue: QueueId, sequence: i64, put: &mut dyn FnMut(&Record)) {
        let Some(entry) = self.queue(queue).get(sequence) else { return };
        let arrival = match entry.state {
            State::Scheduled { due } => Arrival::At(due),
            _ => Arrival::Now,
        };
        put(&Record::Enqueued {
            queue,
            sequence,
            original_sequence: entry.original_sequence,
            enqueued_at: entry.enqueued_at,
            expires_at: entry.expires_at,
            delivery_count: entry.delivery_count,
            arrival,
            message: entry.message.load(),
        });
        if entry.deferred {
            put(&Record::Unlocked {
                queue,
                sequence,
                delivery_count: entry.delivery_count,
                deferred: true,
                changed: None,
            });
        }
        if let State::Locked { token, until } = entry.state {
            put(&Record::Locked { queue, sequence, token, until });
        }
    }
}
