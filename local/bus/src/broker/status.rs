//! Runtime counts, as an operator wants to see them.

use serde::Serialize;

use super::Broker;
use super::record::QueueId;
use super::time::Timestamp;

/// Counts of every entity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// Connections being served.
    pub connections: usize,
    /// Bytes of messages in memory; the others are on disk.
    pub memory_bytes: u64,
    /// Bytes of journal since the last snapshot.
    pub journal_bytes: u64,
    /// Queues in the order declared.
    pub queues: Vec<QueueStatus>,
    /// Topics in the order declared.
    pub topics: Vec<TopicStatus>,
}

/// Counts of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct QueueStatus {
    /// Path of the queue.
    pub name: String,
    /// Messages to be received, including the locked ones.
    pub active: usize,
    /// Of these, messages that some receiver has at the moment.
    pub locked: usize,
    /// Messages set aside by their receivers.
    pub deferred: usize,
    /// Messages whose time has not come.
    pub scheduled: usize,
    /// Messages in the dead-letter sub-queue.
    pub dead_letter: usize,
    /// Messages in the transfer dead-letter sub-queue.
    pub transfer: usize,
    /// Bytes of all messages, without the dead-letter sub-queue.
    pub size_bytes: u64,
    /// Milliseconds since the oldest message to be received came.
    pub oldest_age_ms: Option<i64>,
}

/// Counts of a subscription.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SubscriptionStatus {
    /// Name within its topic.
    pub name: String,
    /// Messages to be received, including the locked ones.
    pub active: usize,
    /// Of these, messages that some receiver has at the moment.
    pub locked: usize,
    /// Messages set aside by their receivers.
    pub deferred: usize,
    /// Messages in the dead-letter sub-queue.
    pub dead_letter: usize,
    /// Messages in the transfer dead-letter sub-queue.
    pub transfer: usize,
    /// Bytes of all messages, without the dead-letter sub-queue.
    pub size_bytes: u64,
    /// Milliseconds since the oldest message to be received came.
    pub oldest_age_ms: Option<i64>,
}

/// Counts of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TopicStatus {
    /// Path of the topic.
    pub name: String,
    /// Messages whose time has not come.
    pub scheduled: usize,
    /// Its subscriptions in the order declared.
    pub subscriptions: Vec<SubscriptionStatus>,
}

impl Broker {
    /// Counts of every entity; connections and the length of the journal are the shell's to know.
    pub(crate) fn status(&self, now: Timestamp, connections: usize, journal_bytes: u64) -> Status {
        let queues = self.queues.iter().enumerate().filter_map(|(at, queue)| {
            let id = QueueId(super::index(at));
            let is_queue =
                self.directory.get(&queue.path.to_lowercase()) == Some(&super::Entity::Queue(id));
            is_queue.then(|| self.queue_status(id, now))
        });
        let alive = self.topics.iter().filter(|topic| !self.queue(topic.shelf).gone);
        let topics = alive.map(|topic| TopicStatus {
            name: (*topic.path).to_owned(),
            scheduled: self.queue(topic.shelf).counts().3,
            subscriptions: topic
                .subscriptions
                .iter()
                .map(|(name, id)| {
                    let counts = self.queue_status(*id, now);
                    SubscriptionStatus {
                        name: (**name).to_owned(),
                        active: counts.active,
                        locked: counts.locked,
                        deferred: counts.deferred,
                        dead_letter: counts.dead_letter,
                        transfer: counts.transfer,
                        size_bytes: counts.size_bytes,
                        oldest_age_ms: counts.oldest_age_ms,
                    }
                })
                .collect(),
        });
        let memory_bytes = self.resident;
        let (queues, topics) = (queues.collect(), topics.collect());
        Status { connections, memory_bytes, journal_bytes, queues, topics }
    }

    fn queue_status(&self, id: QueueId, now: Timestamp) -> QueueStatus {
        let queue = self.queue(id);
        let (total, locked, deferred, scheduled) = queue.counts();
        QueueStatus {
            name: (*queue.path).to_owned(),
            active: total - deferred - scheduled,
            locked,
            deferred,
            scheduled,
            dead_letter: queue.dead_letter.map_or(0, |dead| self.queue(dead).counts().0),
            transfer: queue.transfer_dead_letter.map_or(0, |dead| self.queue(dead).counts().0),
            size_bytes: queue.bytes(),
            oldest_age_ms: queue.oldest().map(|at| now.since(at)),
        }
    }
}
