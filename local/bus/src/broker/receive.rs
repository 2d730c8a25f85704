//! Handing messages out: receivers, their credit, and who gets what.
//!
//! A receiver states how many messages it could take right now. Credits of an entity are served in
//! the order in which they came, whichever connection they came from, and a message is locked the
//! moment it is assigned. The shell is told which connections have something to fetch.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use uuid::Uuid;

use super::Broker;
use super::queue::State;
use super::record::{QueueId, Record, Removal};
use super::settle::Settlement;
use super::time::Timestamp;
use crate::limits::{CONNECTION_DEMAND_BYTES_MAX, RECEIVER_DEMAND_BYTES_MAX};
use crate::message::Message;

/// A receiver, unique for the life of the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ReceiverId(u64);

/// Whom to tell that a receiver has something to fetch; the shell's own number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ConnectionId(pub(crate) u64);

/// What happens to a message when it is handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReceiveMode {
    /// It is locked until settled.
    PeekLock,
    /// It is gone.
    ReceiveAndDelete,
}

/// As a peek reports it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MessageState {
    Active,
    Deferred,
    Scheduled,
}

/// Why a receiver is of no use any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lost {
    /// The lock of its session is over.
    SessionLock,
    /// Its entity was deleted.
    Deleted,
    /// Its entity hands out nothing any more.
    Disabled,
}

/// What happened to a receiver by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Event {
    /// The session it waited for is its own.
    Accepted {
        session: Arc<str>,
        until: Timestamp,
    },
    Lost(Lost),
}

/// A message handed to a receiver, or shown to a peeking one.
#[derive(Debug, Clone)]
pub(crate) struct Delivery {
    pub(crate) message: Arc<Message>,
    pub(crate) sequence: i64,
    pub(crate) original_sequence: i64,
    pub(crate) enqueued_at: Timestamp,
    pub(crate) expires_at: Option<Timestamp>,
    /// Earlier failed deliveries.
    pub(crate) delivery_count: u32,
    /// Nil unless locked.
    pub(crate) token: Uuid,
    pub(crate) locked_until: Timestamp,
    pub(crate) state: MessageState,
}

impl Delivery {
    /// The time to live in force, the least of the sender's and the entities'.
    pub(crate) fn ttl_ms(&self) -> Option<u32> {
        let ms = self.expires_at?.since(self.enqueued_at);
        Some(u32::try_from(ms).unwrap_or(u32::MAX))
    }
}

#[derive(Debug)]
struct Receiver {
    queue: QueueId,
    connection: ConnectionId,
    mode: ReceiveMode,
    /// Messages it can still be assigned.
    credit: u32,
    /// Whether it stands in its queue's line.
    in_line: bool,
    /// Assigned but not fetched.
    outbox: VecDeque<Delivery>,
    /// Bytes of the messages in `outbox`.
    outbox_bytes: u64,
    /// The session it holds.
    session: Option<Arc<str>>,
    event: Option<Event>,
    /// Whether its connection was told.
    told: bool,
}

/// All receivers, and which connections have something to fetch.
#[derive(Debug, Default)]
pub(super) struct Receivers {
    last_id: u64,
    receivers: HashMap<ReceiverId, Receiver>,
    connections: HashMap<ConnectionId, Outbox>,
    woken: Vec<ConnectionId>,
}

/// What waits for a connection to fetch it.
#[derive(Debug, Default)]
struct Outbox {
    /// Receivers that have something to fetch.
    ready: Vec<ReceiverId>,
    /// Bytes of the messages that they were assigned.
    bytes: u64,
}

impl Broker {
    /// A receiver without credit.
    pub(crate) fn open_receiver(
        &mut self,
        connection: ConnectionId,
        queue: QueueId,
        mode: ReceiveMode,
    ) -> ReceiverId {
        self.queue_mut(queue).attached += 1;
        self.receivers.last_id += 1;
        let id = ReceiverId(self.receivers.last_id);
        let receiver = Receiver {
            queue,
            connection,
            mode,
            credit: 0,
            in_line: false,
            outbox: VecDeque::new(),
            outbox_bytes: 0,
            session: None,
            event: None,
            told: false,
        };
        self.receivers.receivers.insert(id, receiver);
        id
    }

    /// Ends a receiver. Messages it was assigned but did not fetch are available again as if they
    /// had never been; those it fetched stay locked until settled or their time is over.
    pub(crate) fn close_receiver(&mut self, now: Timestamp, id: ReceiverId) {
        self.advance(now);
        let Some(receiver) = self.receivers.receivers.remove(&id) else { return };
        self.touch(receiver.queue);
        let queue = self.queue_mut(receiver.queue);
        queue.attached = queue.attached.saturating_sub(1);
        if receiver.in_line {
            queue.waiting.retain(|waiting| *waiting != id);
        }
        if let Some(sessions) = &mut queue.sessions {
            sessions.waiting.retain(|waiting| *waiting != id);
        }
        if let Some(outbox) = self.receivers.connections.get_mut(&receiver.connection) {
            outbox.ready.retain(|ready| *ready != id);
            outbox.bytes = outbox.bytes.saturating_sub(receiver.outbox_bytes);
        }
        for delivery in receiver.outbox {
            // A lock that has ended meanwhile needs no release.
            let _ = self.settle(now, receiver.queue, delivery.token, Settlement::Release);
        }
        if let Some(session) = receiver.session
            && self.holder(receiver.queue, &session).is_ok_and(|(holder, _)| holder == id)
        {
            self.give_back(receiver.queue, &session);
        }
    }

    /// What happened to a receiver since this was last asked.
    pub(crate) fn take_event(&mut self, id: ReceiverId) -> Option<Event> {
        self.receivers.receivers.get_mut(&id)?.event.take()
    }

    pub(super) fn is_open(&self, id: ReceiverId) -> bool {
        self.receivers.receivers.contains_key(&id)
    }

    pub(super) fn has_credit(&self, id: ReceiverId) -> bool {
        self.receivers.receivers.get(&id).is_some_and(|receiver| receiver.credit > 0)
    }

    pub(super) fn set_receivers_session(&mut self, id: ReceiverId, session: Arc<str>) {
        if let Some(receiver) = self.receivers.receivers.get_mut(&id) {
            receiver.session = Some(session);
        }
    }

    /// Whether `connection` holds a session.
    pub(crate) fn holds(&self, connection: ConnectionId, queue: QueueId, session: &str) -> bool {
        let holder = self.holder(queue, session).ok();
        let holder = holder.and_then(|(id, _)| self.receivers.receivers.get(&id));
        holder.is_some_and(|receiver| receiver.connection == connection)
    }

    /// Lets a receiver's connection know of something.
    pub(super) fn tell(&mut self, id: ReceiverId, event: Event) {
        if let Some(receiver) = self.receivers.receivers.get_mut(&id) {
            receiver.event = Some(event);
        }
        self.receivers.call(id);
    }

    /// Tells every receiver of a place that it is of no use any more.
    pub(super) fn lose_receivers(&mut self, queue: QueueId, why: Lost) {
        let all = self.receivers.receivers.iter();
        let of_queue = all.filter(|(_, receiver)| receiver.queue == queue).map(|(id, _)| *id);
        let ids: Vec<ReceiverId> = of_queue.collect();
        for id in ids {
            self.tell(id, Event::Lost(why));
        }
    }

    /// Forgets what a connection was to be told; its receivers are closed one by one.
    pub(crate) fn close_connection(&mut self, connection: ConnectionId) {
        self.receivers.connections.remove(&connection);
    }

    /// Sets how many more messages a receiver can be assigned. What it has not used of an earlier
    /// credit is replaced; its place in line is not lost.
    pub(crate) fn grant(&mut self, now: Timestamp, id: ReceiverId, credit: u32) {
        self.advance(now);
        let Some(receiver) = self.receivers.receivers.get_mut(&id) else { return };
        let queue = receiver.queue;
        receiver.credit = credit;
        if let Some(session) = receiver.session.clone() {
            self.touch(queue);
            self.feed_session(queue, &session);
            return;
        }
        let joins = credit > 0 && !receiver.in_line;
        let leaves = credit == 0 && receiver.in_line;
        receiver.in_line = credit > 0;
        if joins {
            self.queue_mut(queue).waiting.push_back(id);
            self.feed(queue);
        } else if leaves {
            self.queue_mut(queue).waiting.retain(|waiting| *waiting != id);
        }
    }

    /// Takes what a receiver was assigned. `max` is all the credit it has: what is beyond, assigned
    /// before the credit was reduced, is available again. Also the credit that is left to be
    /// assigned, which may be less than was granted: see [`assign`](Broker::assign).
    pub(crate) fn fetch(
        &mut self,
        now: Timestamp,
        id: ReceiverId,
        max: u32,
    ) -> (VecDeque<Delivery>, u32) {
        self.advance(now);
        let Some(receiver) = self.receivers.receivers.get_mut(&id) else {
            return (VecDeque::new(), 0);
        };
        receiver.told = false;
        let queue = receiver.queue;
        let mode = receiver.mode;
        let mut fetched = std::mem::take(&mut receiver.outbox);
        let bytes = std::mem::take(&mut receiver.outbox_bytes);
        if let Some(outbox) = self.receivers.connections.get_mut(&receiver.connection) {
            outbox.bytes = outbox.bytes.saturating_sub(bytes);
        }
        self.touch(queue);
        // A lock may have ended while the message waited to be fetched.
        fetched.retain(|delivery| self.queue(queue).locked(delivery.token).is_some());
        let beyond = fetched.split_off(fetched.len().min(max as usize));
        let left = max.saturating_sub(u32::try_from(fetched.len()).unwrap_or(u32::MAX));
        let left = self.limit_credit(id, left);
        for delivery in beyond {
            // A lock that has ended meanwhile needs no release.
            let _ = self.settle(now, queue, delivery.token, Settlement::Release);
        }
        if mode == ReceiveMode::ReceiveAndDelete {
            for delivery in &fetched {
                let removal = Removal::Completed;
                self.commit(Record::Removed { queue, sequence: delivery.sequence, removal });
            }
        }
        (fetched, left)
    }

    /// The receivers of a connection that have something to fetch, each once.
    pub(crate) fn ready(&mut self, connection: ConnectionId) -> Vec<ReceiverId> {
        let outbox = self.receivers.connections.get_mut(&connection);
        outbox.map(|outbox| std::mem::take(&mut outbox.ready)).unwrap_or_default()
    }

    /// The connections that have something to fetch and were not named before.
    pub(crate) fn woken(&mut self) -> std::vec::Drain<'_, ConnectionId> {
        self.receivers.woken.drain(..)
    }

    /// Deferred messages by number: all of them, or `None` if one is not there or not of the
    /// session that was named.
    pub(crate) fn receive_deferred(
        &mut self,
        now: Timestamp,
        queue: QueueId,
        sequences: &[i64],
        mode: ReceiveMode,
        session: Option<&str>,
    ) -> Option<Vec<Delivery>> {
        self.advance(now);
        self.touch(queue);
        let deferred = |sequence: &i64| {
            let entry = self.queue(queue).get(*sequence);
            entry.is_some_and(|entry| {
                let same = session.is_none() || entry.message.session_id() == session;
                entry.state == State::Deferred && same
            })
        };
        if !sequences.iter().all(deferred) {
            return None;
        }
        let mut deliveries = Vec::with_capacity(sequences.len());
        for &sequence in sequences {
            // A number given twice is delivered once.
            if self.queue(queue).get(sequence).is_none_or(|entry| entry.state != State::Deferred) {
                continue;
            }
            if mode == ReceiveMode::PeekLock {
                self.lock(queue, sequence);
            }
            deliveries.extend(self.queue(queue).delivery(sequence));
            if mode == ReceiveMode::ReceiveAndDelete {
                self.commit(Record::Removed { queue, sequence, removal: Removal::Completed });
            }
        }
        Some(deliveries)
    }

    /// Takes back credit above `max`; what is left.
    fn limit_credit(&mut self, id: ReceiverId, max: u32) -> u32 {
        let Some(receiver) = self.receivers.receivers.get_mut(&id) else { return 0 };
        receiver.credit = receiver.credit.min(max);
        let credit = receiver.credit;
        if credit == 0 && receiver.in_line {
            receiver.in_line = false;
            let queue = receiver.queue;
            self.queue_mut(queue).waiting.retain(|waiting| *waiting != id);
        }
        credit
    }

    fn lock(&mut self, queue: QueueId, sequence: i64) {
        let token = self.ids.next();
        let entry = self.queue(queue).get(sequence);
        let session = entry.and_then(|entry| entry.message.session_id());
        let held = session.and_then(|session| self.holder(queue, session).ok());
        // A message lives as long as its session's lock.
        let until = match held {
            Some((_, until)) => until,
            None => self.now.plus(self.queue(queue).settings.lock_ms),
        };
        self.commit(Record::Locked { queue, sequence, token, until });
    }

    /// Assigns available messages to waiting receivers until one or the other runs out.
    pub(super) fn feed(&mut self, queue: QueueId) {
        if self.queue(queue).sessions.is_some() {
            return self.feed_sessions(queue);
        }
        while let Some(&id) = self.queue(queue).waiting.front() {
            let Some(sequence) = self.queue(queue).first_available() else { return };
            if !self.is_open(id) {
                self.queue_mut(queue).waiting.pop_front();
                continue;
            }
            self.assign(queue, sequence, id);
            if !self.has_credit(id) {
                if let Some(receiver) = self.receivers.receivers.get_mut(&id) {
                    receiver.in_line = false;
                }
                self.queue_mut(queue).waiting.pop_front();
            }
        }
    }

    /// Locks a message for a receiver that has credit, and calls its connection. Once it has been
    /// assigned as many bytes as it may be, its credit ends: a connection that cannot write asks
    /// for no more.
    pub(super) fn assign(&mut self, queue: QueueId, sequence: i64, id: ReceiverId) {
        self.lock(queue, sequence);
        let delivery = self.queue(queue).delivery(sequence);
        self.receivers.hand_over(id, delivery);
    }
}

impl Receivers {
    /// Puts a message where its receiver fetches it.
    fn hand_over(&mut self, id: ReceiverId, delivery: Option<Delivery>) {
        let Some(receiver) = self.receivers.get_mut(&id) else { return };
        let outbox = self.connections.entry(receiver.connection).or_default();
        let bytes = delivery.as_ref().map_or(0, |delivery| delivery.message.size());
        receiver.outbox.extend(delivery);
        receiver.outbox_bytes += bytes;
        outbox.bytes += bytes;
        let room = receiver.outbox_bytes < RECEIVER_DEMAND_BYTES_MAX
            && outbox.bytes < CONNECTION_DEMAND_BYTES_MAX;
        receiver.credit = if room { receiver.credit - 1 } else { 0 };
        if outbox.call(id, receiver) {
            self.woken.push(receiver.connection);
        }
    }

    /// Notes that a receiver has something to fetch.
    fn call(&mut self, id: ReceiverId) {
        let Some(receiver) = self.receivers.get_mut(&id) else { return };
        if self.connections.entry(receiver.connection).or_default().call(id, receiver) {
            self.woken.push(receiver.connection);
        }
    }
}

impl Outbox {
    /// Notes that a receiver has something to fetch, once until it does; whether it is the first.
    fn call(&mut self, id: ReceiverId, receiver: &mut Receiver) -> bool {
        if std::mem::replace(&mut receiver.told, true) {
            return false;
        }
        self.ready.push(id);
        self.ready.len() == 1
    }
}
