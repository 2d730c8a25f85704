//! Sessions as their holders see them: accept, renew, state, and how a hold ends.

use std::sync::Arc;

use bytes::Bytes;

use super::receive::{ConnectionId, Event, Lost, ReceiveMode, ReceiverId};
use super::record::{QueueId, Record};
use super::settle::SettleError;
use super::time::Timestamp;
use super::{Broker, Entity};

/// What somebody who asks for a session gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum SessionOffer {
    /// It is theirs.
    Accepted { receiver: ReceiverId, session: Arc<str>, until: Timestamp },
    /// None is free; the receiver is told when one is.
    Waiting(ReceiverId),
    /// The one they named is somebody else's.
    Taken,
}

impl Broker {
    /// Whether messages of a place are handed out by session.
    pub(crate) fn has_sessions(&self, queue: QueueId) -> bool {
        self.queue(queue).sessions.is_some()
    }

    /// Whether an entity takes messages at the moment.
    pub(crate) fn can_send(&self, to: Entity) -> bool {
        self.queue(self.place(to)).settings.status.can_send()
    }

    /// Whether a place hands out messages at the moment.
    pub(crate) fn can_receive(&self, queue: QueueId) -> bool {
        self.queue(queue).settings.status.can_receive()
    }

    /// Whether a place moves what arrives to another one.
    pub(crate) fn forwards(&self, queue: QueueId) -> bool {
        self.queue(queue).settings.forward_to.is_some()
    }

    /// A receiver for a session: the named one, or whichever is free and has a message.
    pub(crate) fn open_session(
        &mut self,
        now: Timestamp,
        connection: ConnectionId,
        queue: QueueId,
        mode: ReceiveMode,
        wanted: Option<&str>,
    ) -> SessionOffer {
        self.advance(now);
        let sessions = self.queue(queue).sessions.as_ref();
        let session = match wanted {
            Some(name) if sessions.is_some_and(|all| all.holder(name).is_some()) => {
                return SessionOffer::Taken;
            }
            Some(name) => Some(Arc::from(name)),
            None => sessions.and_then(super::sessions::Sessions::first_free),
        };
        let receiver = self.open_receiver(connection, queue, mode);
        let Some(session) = session else {
            if let Some(sessions) = &mut self.queue_mut(queue).sessions {
                sessions.waiting.push_back(receiver);
            }
            return SessionOffer::Waiting(receiver);
        };
        let until = self.hold(queue, receiver, &session);
        SessionOffer::Accepted { receiver, session, until }
    }

    /// Starts the lock of a session anew, with those of its messages.
    pub(crate) fn renew_session(
        &mut self,
        now: Timestamp,
        queue: QueueId,
        session: &str,
    ) -> Result<Timestamp, SettleError> {
        self.advance(now);
        self.touch(queue);
        let (receiver, _) = self.holder(queue, session)?;
        let until = self.now.plus(self.queue(queue).settings.lock_ms);
        if let Some(sessions) = &mut self.queue_mut(queue).sessions {
            sessions.hold(session, receiver, until);
        }
        for sequence in self.locked_in(queue, session) {
            self.commit(Record::Renewed { queue, sequence, until });
        }
        self.wake_at(until);
        Ok(until)
    }

    /// What its holders have noted about a session.
    pub(crate) fn session_state(
        &mut self,
        now: Timestamp,
        queue: QueueId,
        session: &str,
    ) -> Result<Option<Bytes>, SettleError> {
        self.advance(now);
        self.touch(queue);
        self.holder(queue, session)?;
        Ok(self.queue(queue).sessions.as_ref().and_then(|sessions| sessions.state(session)))
    }

    /// Notes something about a session, or nothing any more.
    pub(crate) fn set_session_state(
        &mut self,
        now: Timestamp,
        queue: QueueId,
        session: &str,
        state: Option<Bytes>,
    ) -> Result<(), SettleError> {
        self.advance(now);
        self.touch(queue);
        self.holder(queue, session)?;
        let (session, at) = (Arc::from(session), self.now);
        self.commit(Record::SessionState { queue, session, state, at });
        Ok(())
    }

    /// Sessions with messages, or those whose state was set after a moment.
    pub(crate) fn session_names(&self, queue: QueueId, after: Option<Timestamp>) -> Vec<Arc<str>> {
        let sessions = self.queue(queue).sessions.as_ref();
        sessions.map(|sessions| sessions.names(after)).unwrap_or_default()
    }

    /// Whoever holds a session.
    pub(super) fn holder(
        &self,
        queue: QueueId,
        session: &str,
    ) -> Result<(ReceiverId, Timestamp), SettleError> {
        let sessions = self.queue(queue).sessions.as_ref();
        sessions.and_then(|all| all.holder(session)).ok_or(SettleError::SessionLost)
    }

    fn locked_in(&self, queue: QueueId, session: &str) -> Vec<i64> {
        self.queue(queue).sessions.as_ref().map(|all| all.locked(session)).unwrap_or_default()
    }

    fn hold(&mut self, queue: QueueId, receiver: ReceiverId, session: &Arc<str>) -> Timestamp {
        let until = self.now.plus(self.queue(queue).settings.lock_ms);
        if let Some(sessions) = &mut self.queue_mut(queue).sessions {
            sessions.hold(session, receiver, until);
        }
        self.set_receivers_session(receiver, Arc::clone(session));
        self.wake_at(until);
        // What is still locked belonged to a holder before a restart; order demands it be first.
        self.unlock_all(queue, session);
        until
    }

    /// Makes a session's messages available as if they had not been handed out.
    fn unlock_all(&mut self, queue: QueueId, session: &str) {
        for sequence in self.locked_in(queue, session) {
            let Some(entry) = self.queue(queue).get(sequence) else { continue };
            let (delivery_count, deferred) = (entry.delivery_count, entry.deferred);
            let changed = None;
            self.commit(Record::Unlocked { queue, sequence, delivery_count, deferred, changed });
        }
    }

    /// A holder is done with its session.
    pub(super) fn give_back(&mut self, queue: QueueId, session: &str) {
        self.unlock_all(queue, session);
        if let Some(sessions) = &mut self.queue_mut(queue).sessions {
            sessions.release(session);
        }
        self.feed(queue);
    }

    /// The locks of sessions that are over; those of their messages ended with them.
    pub(super) fn end_session_locks(&mut self, queue: QueueId) {
        let now = self.now;
        while let Some(session) =
            self.queue(queue).sessions.as_ref().and_then(|sessions| sessions.lock_over(now))
        {
            let holder = self.holder(queue, &session);
            for sequence in self.locked_in(queue, &session) {
                self.fail_delivery(queue, sequence, None);
            }
            if let Some(sessions) = &mut self.queue_mut(queue).sessions {
                sessions.release(&session);
            }
            if let Ok((receiver, _)) = holder {
                self.tell(receiver, Event::Lost(Lost::SessionLock));
            }
        }
    }

    /// Gives free sessions to those who wait for one, and messages to the holders.
    pub(super) fn feed_sessions(&mut self, queue: QueueId) {
        while let Some(sessions) = &mut self.queue_mut(queue).sessions {
            let Some(session) = sessions.first_free() else { break };
            let Some(receiver) = sessions.waiting.pop_front() else { break };
            if self.is_open(receiver) {
                let until = self.hold(queue, receiver, &session);
                self.tell(receiver, Event::Accepted { session, until });
            }
        }
        let touched = self.queue_mut(queue).sessions.as_mut().map(|all| all.take_touched());
        for session in touched.unwrap_or_default() {
            self.feed_session(queue, &session);
        }
    }

    pub(super) fn feed_session(&mut self, queue: QueueId, session: &str) {
        while let Ok((receiver, _)) = self.holder(queue, session)
            && let Some(sequence) =
                self.queue(queue).sessions.as_ref().and_then(|all| all.first_available(session))
            && self.has_credit(receiver)
        {
            self.assign(queue, sequence, receiver);
        }
    }
}
