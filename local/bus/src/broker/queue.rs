//! Messages kept in one place, with the indices that make each question cheap.
//!
//! The state behind a queue, a subscription, a dead-letter sub-queue, or a topic's scheduled
//! messages. It changes only by applying records; deciding is the broker's part.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use uuid::Uuid;

use super::body::{Body, Shelf, Stored};
use super::duplicates::Duplicates;
use super::receive::{Delivery, MessageState, ReceiverId};
use super::record::{Arrival, QueueId};
use super::rule::Rule;
use super::sessions::Sessions;
use super::time::Timestamp;
use crate::message::Message;
use crate::topology::EntityStatus;

/// What was declared about a place.
#[derive(Debug, Clone)]
pub(super) struct Settings {
    pub(super) lock_ms: i64,
    /// Failed deliveries after which a message is dead-lettered; `None` never.
    pub(super) max_delivery_count: Option<u32>,
    /// Upper bound of a message's time to live; `None` is unlimited.
    pub(super) ttl_ms: Option<i64>,
    pub(super) dead_letter_expired: bool,
    pub(super) dead_letter_filter_errors: bool,
    pub(super) max_bytes: u64,
    pub(super) requires_session: bool,
    pub(super) status: EntityStatus,
    /// Lower-case path of the entity that arriving messages are moved to.
    pub(super) forward_to: Option<Arc<str>>,
    /// The same for dead-lettered ones.
    pub(super) forward_dead: Option<Arc<str>>,
    /// Without use for this long, the entity goes.
    pub(super) idle_ms: Option<i64>,
}

/// Where a message is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Available,
    Locked { token: Uuid, until: Timestamp },
    Deferred,
    Scheduled { due: Timestamp },
}

/// One message with what happened to it here.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Entry {
    pub(super) message: Body,
    pub(super) original_sequence: i64,
    pub(super) enqueued_at: Timestamp,
    pub(super) expires_at: Option<Timestamp>,
    /// Failed deliveries so far.
    pub(super) delivery_count: u32,
    /// Whether it goes back to deferred, not available, when its lock ends.
    pub(super) deferred: bool,
    pub(super) state: State,
}

/// The place itself.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) path: Arc<str>,
    pub(super) settings: Settings,
    pub(super) dead_letter: Option<QueueId>,
    /// Takes what could not be forwarded.
    pub(super) transfer_dead_letter: Option<QueueId>,
    /// The place of the topic that a subscription belongs to.
    pub(super) shelf: Option<QueueId>,
    /// Present where messages are handed out by session.
    pub(super) sessions: Option<Sessions>,
    /// Receivers there are.
    pub(super) attached: usize,
    pub(super) last_used: Timestamp,
    /// The entity was deleted; the number is not used again.
    pub(super) gone: bool,
    pub(super) rules: Vec<Arc<Rule>>,
    /// The rules it was declared with.
    pub(super) declared_rules: Vec<Arc<Rule>>,
    pub(super) duplicates: Option<Duplicates>,
    /// Receivers with unused credit, first come first served.
    pub(super) waiting: VecDeque<ReceiverId>,
    next_sequence: i64,
    entries: BTreeMap<i64, Entry>,
    available: BTreeSet<i64>,
    locks: HashMap<Uuid, i64>,
    lock_ends: BTreeSet<(Timestamp, i64)>,
    /// Ends of life of messages that may be available; others are put back when they become so.
    life_ends: BTreeSet<(Timestamp, i64)>,
    due: BTreeSet<(Timestamp, i64)>,
    deferred: usize,
    bytes: u64,
    /// Of these, bytes in memory.
    resident: u64,
}

impl Queue {
    pub(super) fn new(path: Arc<str>, settings: Settings) -> Queue {
        Queue {
            path,
            settings,
            dead_letter: None,
            transfer_dead_letter: None,
            shelf: None,
            sessions: None,
            attached: 0,
            last_used: Timestamp::from_millis(i64::MIN),
            gone: false,
            rules: Vec::new(),
            declared_rules: Vec::new(),
            duplicates: None,
            waiting: VecDeque::new(),
            next_sequence: 1,
            entries: BTreeMap::new(),
            available: BTreeSet::new(),
            locks: HashMap::new(),
            lock_ends: BTreeSet::new(),
            life_ends: BTreeSet::new(),
            due: BTreeSet::new(),
            deferred: 0,
            bytes: 0,
            resident: 0,
        }
    }

    /// The sequence number the next message gets.
    pub(super) fn next_sequence(&self) -> i64 {
        self.next_sequence
    }

    /// Numbers up to and including `sequence` are used.
    pub(super) fn use_sequence(&mut self, sequence: i64) {
        self.next_sequence = self.next_sequence.max(sequence.saturating_add(1));
    }

    pub(super) fn get(&self, sequence: i64) -> Option<&Entry> {
        self.entries.get(&sequence)
    }

    /// The message locked under `token`.
    pub(super) fn locked(&self, token: Uuid) -> Option<i64> {
        self.locks.get(&token).copied()
    }

    pub(super) fn first_available(&self) -> Option<i64> {
        self.available.first().copied()
    }

    pub(super) fn available(&self) -> impl Iterator<Item = i64> {
        self.available.iter().copied()
    }

    /// Messages from a sequence number on, in whatever state.
    pub(super) fn from(&self, sequence: i64) -> impl Iterator<Item = (i64, &Entry)> {
        self.entries.range(sequence..).map(|(sequence, entry)| (*sequence, entry))
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Messages in total, locked, deferred and scheduled.
    pub(super) fn counts(&self) -> (usize, usize, usize, usize) {
        (self.entries.len(), self.locks.len(), self.deferred, self.due.len())
    }

    /// When the oldest message that is available or locked came.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        let first = self.available.first().copied();
        let sequence = self.locks.values().copied().chain(first).min()?;
        self.entries.get(&sequence).map(|entry| entry.enqueued_at)
    }

    /// The first moment at which something happens by itself.
    pub(super) fn next_deadline(&self) -> Timestamp {
        [&self.lock_ends, &self.life_ends, &self.due]
            .iter()
            .filter_map(|set| set.first().map(|(at, _)| *at))
            .chain(self.sessions.as_ref().map(Sessions::next_deadline))
            .chain(self.idle_deadline())
            .min()
            .unwrap_or(Timestamp::NEVER)
    }

    fn idle_deadline(&self) -> Option<Timestamp> {
        let idle_ms = self.settings.idle_ms.filter(|_| !self.gone)?;
        Some(self.last_used.plus(idle_ms))
    }

    /// Whether it was left alone for as long as it may be.
    pub(super) fn idle_over(&self, now: Timestamp) -> bool {
        self.idle_deadline().is_some_and(|at| at <= now)
    }

    /// A message whose lock is over.
    pub(super) fn lock_over(&self, now: Timestamp) -> Option<i64> {
        self.lock_ends.first().filter(|(at, _)| *at <= now).map(|(_, sequence)| *sequence)
    }

    /// A scheduled message whose time has come.
    pub(super) fn fallen_due(&self, now: Timestamp) -> Option<i64> {
        self.due.first().filter(|(at, _)| *at <= now).map(|(_, sequence)| *sequence)
    }

    /// An available message whose life is over. Locked ones are not expired under their receiver,
    /// deferred ones are kept for whoever deferred them.
    pub(super) fn expired(&mut self, now: Timestamp) -> Option<i64> {
        while let Some((at, sequence)) = self.life_ends.first().copied() {
            if at > now {
                return None;
            }
            if self.available.contains(&sequence) {
                return Some(sequence);
            }
            self.life_ends.remove(&(at, sequence));
        }
        None
    }

    /// What a receiver of this message is told.
    pub(super) fn delivery(&self, sequence: i64) -> Option<Delivery> {
        let entry = self.entries.get(&sequence)?;
        let (token, locked_until) = match entry.state {
            State::Locked { token, until } => (token, until),
            _ => (Uuid::nil(), Timestamp::NEVER),
        };
        let state = match entry.state {
            State::Scheduled { .. } => MessageState::Scheduled,
            _ if entry.deferred => MessageState::Deferred,
            _ => MessageState::Active,
        };
        Some(Delivery {
            message: entry.message.load(),
            sequence,
            original_sequence: entry.original_sequence,
            enqueued_at: entry.enqueued_at,
            expires_at: entry.expires_at,
            delivery_count: entry.delivery_count,
            token,
            locked_until,
            state,
        })
    }

    /// Bytes of the messages that are in memory.
    pub(super) fn resident(&self) -> u64 {
        self.resident
    }

    /// Leaves a message where the journal has it.
    pub(super) fn put_away(&mut self, sequence: i64, shelf: &Arc<dyn Shelf>, stored: Stored) {
        let Some(entry) = self.entries.get_mut(&sequence) else { return };
        self.resident -= entry.message.resident();
        entry.message.put_away(shelf, stored);
    }

    pub(super) fn insert(&mut self, sequence: i64, entry: Entry) {
        self.use_sequence(sequence);
        self.bytes += entry.message.size();
        self.resident += entry.message.resident();
        let session = self.in_session(&entry);
        if let (Some(sessions), Some(session)) = (&mut self.sessions, &session) {
            sessions.message_came(session);
        }
        match entry.state {
            State::Scheduled { due } => {
                self.due.insert((due, sequence));
            }
            _ => self.make_available(sequence, entry.expires_at, session.as_deref()),
        }
        self.entries.insert(sequence, entry);
    }

    pub(super) fn remove(&mut self, sequence: i64) {
        let Some(entry) = self.entries.remove(&sequence) else { return };
        self.bytes = self.bytes.saturating_sub(entry.message.size());
        self.resident -= entry.message.resident();
        if let Some(at) = entry.expires_at {
            self.life_ends.remove(&(at, sequence));
        }
        match entry.state {
            State::Available => drop(self.available.remove(&sequence)),
            State::Locked { token, until } => {
                self.locks.remove(&token);
                self.lock_ends.remove(&(until, sequence));
            }
            State::Deferred => {}
            State::Scheduled { due } => drop(self.due.remove(&(due, sequence))),
        }
        self.deferred -= usize::from(entry.deferred);
        if let (Some(session), Some(sessions)) = (self.in_session(&entry), &mut self.sessions) {
            sessions.message_gone(&session, sequence);
        }
    }

    pub(super) fn lock(&mut self, sequence: i64, token: Uuid, until: Timestamp) {
        let Some(entry) = self.entries.get_mut(&sequence) else { return };
        let before = std::mem::replace(&mut entry.state, State::Locked { token, until });
        // Only when records are applied to a snapshot that has seen later ones.
        if let State::Locked { token, until } = before {
            self.locks.remove(&token);
            self.lock_ends.remove(&(until, sequence));
        }
        self.available.remove(&sequence);
        self.locks.insert(token, sequence);
        self.lock_ends.insert((until, sequence));
        if let Some(sessions) = &mut self.sessions
            && let Some(session) = entry.message.session_id()
        {
            sessions.message_locked(session, sequence);
        }
    }

    pub(super) fn renew(&mut self, sequence: i64, renewed: Timestamp) {
        let Some(entry) = self.entries.get_mut(&sequence) else { return };
        if let State::Locked { until, .. } = &mut entry.state {
            self.lock_ends.remove(&(*until, sequence));
            self.lock_ends.insert((renewed, sequence));
            *until = renewed;
        }
    }

    pub(super) fn unlock(
        &mut self,
        sequence: i64,
        delivery_count: u32,
        deferred: bool,
        changed: Option<Arc<Message>>,
    ) {
        let Some(entry) = self.entries.get_mut(&sequence) else { return };
        if let State::Locked { token, until } = entry.state {
            self.locks.remove(&token);
            self.lock_ends.remove(&(until, sequence));
        }
        if let Some(message) = changed {
            self.bytes = self.bytes.saturating_sub(entry.message.size()) + message.size();
            self.resident -= entry.message.resident();
            entry.message = Body::Here(message);
            self.resident += entry.message.resident();
        }
        entry.delivery_count = delivery_count;
        self.deferred = self.deferred - usize::from(entry.deferred) + usize::from(deferred);
        entry.deferred = deferred;
        let expires_at = entry.expires_at;
        entry.state = if deferred { State::Deferred } else { State::Available };
        let session =
            self.sessions.as_ref().and_then(|_| entry.message.session_id().map(str::to_owned));
        if !deferred {
            self.make_available(sequence, expires_at, session.as_deref());
            return;
        }
        // A snapshot has it as enqueued and then as deferred, never locked in between.
        self.available.remove(&sequence);
        if let (Some(sessions), Some(session)) = (&mut self.sessions, session) {
            sessions.message_deferred(&session, sequence);
        }
    }

    /// The session of a message where sessions count.
    fn in_session(&self, entry: &Entry) -> Option<String> {
        self.sessions.as_ref().and_then(|_| entry.message.session_id().map(str::to_owned))
    }

    fn make_available(
        &mut self,
        sequence: i64,
        expires_at: Option<Timestamp>,
        session: Option<&str>,
    ) {
        self.available.insert(sequence);
        if let (Some(sessions), Some(session)) = (&mut self.sessions, session) {
            sessions.message_available(session, sequence);
        }
        if let Some(at) = expires_at {
            self.life_ends.insert((at, sequence));
        }
    }

    /// The initial state of an arriving message.
    pub(super) fn state_of(arrival: Arrival) -> State {
        match arrival {
            Arrival::Now => State::Available,
            Arrival::At(due) => State::Scheduled { due },
        }
    }

    /// Every index says the same as the entries do.
    #[cfg(test)]
    pub(super) fn check(&self) {
        let of = |wanted: fn(&Entry) -> bool| {
            self.entries.iter().filter(|(_, e)| wanted(e)).map(|(s, _)| *s).collect::<Vec<_>>()
        };
        let available = of(|entry| entry.state == State::Available);
        assert_eq!(available, self.available.iter().copied().collect::<Vec<_>>());
        let locked = of(|entry| matches!(entry.state, State::Locked { .. }));
        assert_eq!(locked.len(), self.locks.len());
        assert_eq!(locked.len(), self.lock_ends.len());
        for (token, sequence) in &self.locks {
            let State::Locked { token: held, until } = self.entries[sequence].state else {
                panic!("{sequence} is indexed as locked");
            };
            assert_eq!(held, *token);
            assert!(self.lock_ends.contains(&(until, *sequence)));
        }
        assert_eq!(
            of(|entry| matches!(entry.state, State::Scheduled { .. })).len(),
            self.due.len()
        );
        assert_eq!(of(|entry| entry.deferred).len(), self.deferred);
        for sequence in available {
            if let Some(at) = self.entries[&sequence].expires_at {
                assert!(self.life_ends.contains(&(at, sequence)));
            }
        }
        assert_eq!(
            self.entries.values().map(|entry| entry.message.size()).sum::<u64>(),
            self.bytes
        );
        assert_eq!(
            self.entries.values().map(|entry| entry.message.resident()).sum::<u64>(),
            self.resident
        );
        assert!(self.entries.keys().all(|sequence| *sequence < self.next_sequence));
        if let Some(sessions) = &self.sessions {
            sessions.check();
        }
    }

    /// What a restart must bring back.
    #[cfg(test)]
    pub(super) fn lasting(&self) -> Vec<(i64, Entry)> {
        self.entries.iter().map(|(sequence, entry)| (*sequence, entry.clone())).collect()
    }
}
