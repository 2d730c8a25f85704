//! The sessions of one entity: who holds which, what each has to receive, and its state.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::receive::ReceiverId;
use super::time::Timestamp;

/// One session. It exists while it has a message, a state or a holder.
#[derive(Debug, Default)]
struct Session {
    available: BTreeSet<i64>,
    locked: BTreeSet<i64>,
    /// Messages in whatever condition.
    messages: usize,
    state: Option<Bytes>,
    state_set_at: Option<Timestamp>,
    holder: Option<(ReceiverId, Timestamp)>,
    /// The number under which it stands in `free`.
    free_at: Option<i64>,
}

/// All sessions of one entity.
#[derive(Debug, Default)]
pub(super) struct Sessions {
    sessions: HashMap<Arc<str>, Session>,
    /// Sessions that nobody holds and that have a message, the oldest message first.
    free: BTreeSet<(i64, Arc<str>)>,
    lock_ends: BTreeSet<(Timestamp, Arc<str>)>,
    /// Receivers that take any session, first come first served.
    pub(super) waiting: VecDeque<ReceiverId>,
    /// Sessions that got a message to hand out since [`take_touched`](Sessions::take_touched).
    touched: Vec<Arc<str>>,
}

impl Sessions {
    fn with(&mut self, id: &str, change: impl FnOnce(&mut Session)) {
        let (id, session) = match self.sessions.get_key_value(id) {
            Some((known, _)) => {
                let known = Arc::clone(known);
                let Some(session) = self.sessions.get_mut(&known) else { return };
                (known, session)
            }
            None => {
                let id: Arc<str> = Arc::from(id);
                (Arc::clone(&id), self.sessions.entry(id).or_default())
            }
        };
        let held_before = session.holder;
        change(session);
        let free_at = match session.holder {
            None => session.available.first().copied(),
            Some(_) => None,
        };
        if free_at != session.free_at {
            if let Some(at) = session.free_at.take() {
                self.free.remove(&(at, Arc::clone(&id)));
            }
            if let Some(at) = free_at {
                self.free.insert((at, Arc::clone(&id)));
            }
            session.free_at = free_at;
        }
        if session.holder != held_before {
            if let Some((_, until)) = held_before {
                self.lock_ends.remove(&(until, Arc::clone(&id)));
            }
            if let Some((_, until)) = session.holder {
                self.lock_ends.insert((until, Arc::clone(&id)));
            }
        }
        if session.messages == 0 && session.state.is_none() && session.holder.is_none() {
            self.sessions.remove(&id);
        } else if session.holder.is_some() && !session.available.is_empty() {
            self.touched.push(id);
        }
    }

    pub(super) fn message_came(&mut self, id: &str) {
        self.with(id, |session| session.messages += 1);
    }

    pub(super) fn message_gone(&mut self, id: &str, sequence: i64) {
        self.with(id, |session| {
            session.messages = session.messages.saturating_sub(1);
            session.available.remove(&sequence);
            session.locked.remove(&sequence);
        });
    }

    pub(super) fn message_available(&mut self, id: &str, sequence: i64) {
        self.with(id, |session| {
            session.locked.remove(&sequence);
            session.available.insert(sequence);
        });
    }

    pub(super) fn message_locked(&mut self, id: &str, sequence: i64) {
        self.with(id, |session| {
            session.available.remove(&sequence);
            session.locked.insert(sequence);
        });
    }

    pub(super) fn message_deferred(&mut self, id: &str, sequence: i64) {
        self.with(id, |session| {
            session.available.remove(&sequence);
            session.locked.remove(&sequence);
        });
    }

    /// Gives a session to a receiver until a moment, or prolongs what it has.
    pub(super) fn hold(&mut self, id: &str, receiver: ReceiverId, until: Timestamp) {
        self.with(id, |session| session.holder = Some((receiver, until)));
    }

    pub(super) fn release(&mut self, id: &str) {
        self.with(id, |session| session.holder = None);
    }

    pub(super) fn holder(&self, id: &str) -> Option<(ReceiverId, Timestamp)> {
        self.sessions.get(id)?.holder
    }

    /// The session with the oldest message that nobody holds.
    pub(super) fn first_free(&self) -> Option<Arc<str>> {
        self.free.first().map(|(_, id)| Arc::clone(id))
    }

    pub(super) fn first_available(&self, id: &str) -> Option<i64> {
        self.sessions.get(id)?.available.first().copied()
    }

    /// The messages its holder has.
    pub(super) fn locked(&self, id: &str) -> Vec<i64> {
        self.sessions
            .get(id)
            .map(|session| session.locked.iter().copied().collect())
            .unwrap_or_default()
    }

    /// A session whose lock is over.
    pub(super) fn lock_over(&self, now: Timestamp) -> Option<Arc<str>> {
        self.lock_ends.first().filter(|(at, _)| *at <= now).map(|(_, id)| Arc::clone(id))
    }

    pub(super) fn next_deadline(&self) -> Timestamp {
        self.lock_ends.first().map_or(Timestamp::NEVER, |(at, _)| *at)
    }

    pub(super) fn take_touched(&mut self) -> Vec<Arc<str>> {
        std::mem::take(&mut self.touched)
    }

    pub(super) fn state(&self, id: &str) -> Option<Bytes> {
        self.sessions.get(id)?.state.clone()
    }

    /// Sessions with a state, and since when it is so.
    pub(super) fn states(&self) -> impl Iterator<Item = (Arc<str>, Bytes, Timestamp)> {
        self.sessions.iter().filter_map(|(id, session)| {
            Some((Arc::clone(id), session.state.clone()?, session.state_set_at?))
        })
    }

    pub(super) fn set_state(&mut self, id: &str, state: Option<Bytes>, at: Timestamp) {
        self.with(id, |session| {
            session.state = state;
            session.state_set_at = Some(at);
        });
    }

    /// Names in alphabetical order: those with messages, or those whose state was set after a
    /// moment.
    pub(super) fn names(&self, state_set_after: Option<Timestamp>) -> Vec<Arc<str>> {
        let wanted = |session: &Session| match state_set_after {
            None => session.messages > 0,
            Some(after) => session.state_set_at.is_some_and(|at| at > after),
        };
        let mut names: Vec<_> = self
            .sessions
            .iter()
            .filter(|(_, session)| wanted(session))
            .map(|(id, _)| Arc::clone(id))
            .collect();
        names.sort();
        names
    }

    /// Every index says the same as the sessions do.
    #[cfg(test)]
    pub(super) fn check(&self) {
        for (id, session) in &self.sessions {
            let free = session.holder.is_none().then(|| session.available.first()).flatten();
            assert_eq!(free, session.free_at.as_ref(), "{id}");
            if let Some((_, until)) = session.holder {
                assert!(self.lock_ends.contains(&(until, Arc::clone(id))));
            }
            assert!(session.messages >= session.available.len() + session.locked.len());
            assert!(session.messages > 0 || session.state.is_some() || session.holder.is_some());
        }
        let free = self.sessions.values().filter(|session| session.free_at.is_some()).count();
        assert_eq!(free, self.free.len());
        let held = self.sessions.values().filter(|session| session.holder.is_some()).count();
        assert_eq!(held, self.lock_ends.len());
    }
}
