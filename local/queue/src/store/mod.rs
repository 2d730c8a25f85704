//! The account: queues, messages, and the rules that hold between them.
//!
//! A state machine without a clock, a socket or a file. Time is an argument, in epoch milliseconds;
//! ids and receipts are counted from the `incarnation` it is given; changes leave through a
//! [`CommitLog`]. The same calls in the same order make the same store.
//! Semantics: <https://learn.microsoft.com/rest/api/storageservices/queue-service-rest-api>.

mod commit;
mod error;
mod message;
mod queue;
mod snapshot;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use uuid::Uuid;

pub use commit::{Change, Commit, CommitLog, LogError, Taken, Volatile};
pub use error::StoreError;
pub use message::{InvalidReceipt, Message, Receipt};
pub use queue::{AccessPolicy, Metadata, Queue, check_name};
pub use snapshot::Record;

use crate::limits::SWEEP_STEP_MESSAGES;

/// What became of a request to create a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Creation {
    /// It is there now.
    Created,
    /// It was there before, with the same metadata.
    Unchanged,
}

/// All queues of the account.
pub struct Store {
    incarnation: u64,
    /// How long the name of a deleted queue cannot be used again, milliseconds.
    deletion_ms: u64,
    log: Box<dyn CommitLog>,
    sequence: u64,
    next_message: u64,
    queues: BTreeMap<String, Queue>,
    /// Names of deleted queues and when they can be used again, epoch milliseconds.
    deleted: BTreeMap<String, u64>,
    properties: BTreeMap<String, String>,
}

impl Store {
    /// An empty account. `incarnation` makes its ids and receipts differ from those of other
    /// accounts; the same one gives the same ids. The name of a deleted queue stays taken for
    /// `deletion_ms` milliseconds.
    pub fn new(incarnation: u64, deletion_ms: u64, log: Box<dyn CommitLog>) -> Self {
        Self {
            incarnation,
            deletion_ms,
            log,
            sequence: 0,
            next_message: 1,
            queues: BTreeMap::new(),
            deleted: BTreeMap::new(),
            properties: BTreeMap::new(),
        }
    }

    /// Gives every further commit to `log`.
    pub fn set_log(&mut self, log: Box<dyn CommitLog>) {
        self.log = log;
    }

    /// Sequence of the latest commit.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Settings of the account that were changed, each as the text of an XML element, by name.
    pub fn properties(&self) -> &BTreeMap<String, String> {
        &self.properties
    }

    /// The queue of this name.
    ///
    /// # Errors
    /// [`StoreError::QueueNotFound`], or [`StoreError::QueueBeingDeleted`] soon after it was
    /// deleted.
    pub fn queue(&self, name: &str, now_ms: u64) -> Result<&Queue, StoreError> {
        self.queues.get(name).ok_or_else(|| {
            if self.is_being_deleted(name, now_ms) {
                StoreError::QueueBeingDeleted
            } else {
                StoreError::QueueNotFound
            }
        })
    }

    /// At most `limit` queues whose names begin with `prefix`, by name, from `marker` on; and the
    /// marker of the next page, if there is one.
    pub fn list(
        &self,
        prefix: &str,
        marker: &str,
        limit: usize,
    ) -> (Vec<(&str, &Queue)>, Option<&str>) {
        let from = prefix.max(marker);
        let mut found = self
            .queues
            .range::<str, _>((Bound::Included(from), Bound::Unbounded))
            .take_while(|(name, _)| name.starts_with(prefix))
            .map(|(name, queue)| (name.as_str(), queue));
        let page = found.by_ref().take(limit).collect();
        (page, found.next().map(|(name, _)| name))
    }

    /// Creates a queue.
    ///
    /// # Errors
    /// [`StoreError::InvalidName`], [`StoreError::NameLength`], [`StoreError::QueueAlreadyExists`],
    /// [`StoreError::QueueBeingDeleted`] or [`StoreError::LogUnavailable`].
    pub fn create_queue(
        &mut self,
        name: &str,
        metadata: Metadata,
        now_ms: u64,
    ) -> Result<Creation, StoreError> {
        check_name(name)?;
        match self.queue(name, now_ms) {
            Ok(queue) if *queue.metadata() == metadata => return Ok(Creation::Unchanged),
            Ok(_) => return Err(StoreError::QueueAlreadyExists),
            Err(StoreError::QueueNotFound) => {}
            Err(error) => return Err(error),
        }
        self.commit(Change::CreateQueue { queue: name.to_owned(), metadata }, now_ms)?;
        Ok(Creation::Created)
    }

    /// Deletes a queue and everything in it.
    ///
    /// # Errors
    /// As [`Store::queue`], or [`StoreError::LogUnavailable`].
    pub fn drop_queue(&mut self, name: &str, now_ms: u64) -> Result<(), StoreError> {
        self.queue(name, now_ms)?;
        let free_at_ms = now_ms.saturating_add(self.deletion_ms);
        self.commit(Change::DropQueue { queue: name.to_owned(), free_at_ms }, now_ms)
    }

    /// Gives a queue other metadata.
    ///
    /// # Errors
    /// As [`Store::queue`], or [`StoreError::LogUnavailable`].
    pub fn set_metadata(
        &mut self,
        name: &str,
        metadata: Metadata,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        self.queue(name, now_ms)?;
        self.commit(Change::SetMetadata { queue: name.to_owned(), metadata }, now_ms)
    }

    /// Gives a queue other stored access policies.
    ///
    /// # Errors
    /// As [`Store::queue`], or [`StoreError::LogUnavailable`].
    pub fn set_access_policies(
        &mut self,
        name: &str,
        policies: Vec<AccessPolicy>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        self.queue(name, now_ms)?;
        self.commit(Change::SetAccessPolicies { queue: name.to_owned(), policies }, now_ms)
    }

    /// Changes settings of the account; those that are not named stay.
    ///
    /// # Errors
    /// [`StoreError::LogUnavailable`].
    pub fn set_properties(
        &mut self,
        properties: BTreeMap<String, String>,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        self.commit(Change::SetProperties { properties }, now_ms)
    }

    /// Puts a message that can be taken after `visibility_seconds` and lives for `ttl_seconds`,
    /// or for ever.
    ///
    /// # Errors
    /// As [`Store::queue`]; [`StoreError::VisibilityBeyondExpiry`] or
    /// [`StoreError::LogUnavailable`].
    pub fn put(
        &mut self,
        name: &str,
        text: &str,
        visibility_seconds: u64,
        ttl_seconds: Option<u64>,
        now_ms: u64,
    ) -> Result<Message, StoreError> {
        self.queue(name, now_ms)?;
        if ttl_seconds.is_some_and(|ttl| visibility_seconds >= ttl) {
            return Err(StoreError::VisibilityBeyondExpiry);
        }
        let number = self.next_message;
        let namespace = Uuid::from_u64_pair(self.incarnation, 0);
        let message = Message {
            id: Uuid::new_v5(&namespace, &number.to_be_bytes()),
            number,
            text: Arc::from(text),
            inserted_at_ms: now_ms,
            expires_at_ms: ttl_seconds.map(|ttl| after(now_ms, ttl)),
            visible_at_ms: after(now_ms, visibility_seconds),
            dequeue_count: 0,
            receipt: self.receipt(0),
        };
        self.commit(Change::Put { queue: name.to_owned(), message: message.clone() }, now_ms)?;
        Ok(message)
    }

    /// Hands out at most `limit` messages; nobody else gets them for `visibility_seconds`.
    ///
    /// # Errors
    /// As [`Store::queue`], or [`StoreError::LogUnavailable`].
    pub fn take(
        &mut self,
        name: &str,
        limit: usize,
        visibility_seconds: u64,
        now_ms: u64,
    ) -> Result<Vec<Message>, StoreError> {
        let visible_at_ms = after(now_ms, visibility_seconds);
        let mut messages: Vec<Message> =
            self.queue(name, now_ms)?.visible(now_ms).take(limit).cloned().collect();
        if messages.is_empty() {
            return Ok(messages);
        }
        for (index, message) in (0..).zip(&mut messages) {
            message.receipt = self.receipt(index);
            message.visible_at_ms = visible_at_ms;
            message.dequeue_count += 1;
        }
        let taken = messages.iter().map(|message| Taken {
            id: message.id,
            receipt: message.receipt,
            visible_at_ms,
            dequeue_count: message.dequeue_count,
        });
        let change = Change::Take { queue: name.to_owned(), taken: taken.collect() };
        self.commit(change, now_ms)?;
        Ok(messages)
    }

    /// Changes when a message can be taken again, and its text if there is a new one. The receipt
    /// that is shown stops counting; the answer has the next one.
    ///
    /// # Errors
    /// As [`Store::queue`]; [`StoreError::MessageNotFound`], [`StoreError::PopReceiptMismatch`],
    /// [`StoreError::VisibilityBeyondExpiry`] or [`StoreError::LogUnavailable`].
    pub fn update(
        &mut self,
        name: &str,
        held: (Uuid, Receipt),
        visibility_seconds: u64,
        text: Option<&str>,
        now_ms: u64,
    ) -> Result<Message, StoreError> {
        let mut message = self.held(name, held, now_ms)?.clone();
        let visible_at_ms = after(now_ms, visibility_seconds);
        if message.expires_at_ms.is_some_and(|at| visible_at_ms > at) {
            return Err(StoreError::VisibilityBeyondExpiry);
        }
        let text: Option<Arc<str>> = text.map(Arc::from);
        message.receipt = self.receipt(0);
        message.visible_at_ms = visible_at_ms;
        message.text = text.clone().unwrap_or(message.text);
        let change = Change::Update {
            queue: name.to_owned(),
            id: message.id,
            receipt: message.receipt,
            visible_at_ms,
            text,
        };
        self.commit(change, now_ms)?;
        Ok(message)
    }

    /// Removes a message for good.
    ///
    /// # Errors
    /// As [`Store::queue`]; [`StoreError::MessageNotFound`], [`StoreError::PopReceiptMismatch`] or
    /// [`StoreError::LogUnavailable`].
    pub fn delete(
        &mut self,
        name: &str,
        held: (Uuid, Receipt),
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let id = self.held(name, held, now_ms)?.id;
        self.commit(Change::Delete { queue: name.to_owned(), id }, now_ms)
    }

    /// Removes all messages of a queue.
    ///
    /// # Errors
    /// As [`Store::queue`], or [`StoreError::LogUnavailable`].
    pub fn clear(&mut self, name: &str, now_ms: u64) -> Result<(), StoreError> {
        self.queue(name, now_ms)?;
        self.commit(Change::Clear { queue: name.to_owned() }, now_ms)
    }

    /// Forgets some of what has expired, and says whether there may be more.
    pub fn sweep(&mut self, now_ms: u64) -> bool {
        self.deleted.retain(|_, free_at_ms| *free_at_ms > now_ms);
        let found = self.queues.iter().find_map(|(name, queue)| {
            let ids = queue.expired(now_ms, SWEEP_STEP_MESSAGES);
            (!ids.is_empty()).then(|| Change::Expire { queue: name.clone(), ids })
        });
        // A log that takes nothing now may take it at the next sweep.
        found.is_some_and(|change| self.commit(change, now_ms).is_ok())
    }

    /// Applies a commit that a log kept. Commits are replayed in order, from the first.
    pub fn replay(&mut self, commit: Commit) {
        self.sequence = commit.sequence;
        self.apply(commit.change);
    }

    fn held(
        &self,
        name: &str,
        (id, receipt): (Uuid, Receipt),
        now_ms: u64,
    ) -> Result<&Message, StoreError> {
        let message = self.queue(name, now_ms)?.message(id, now_ms)?;
        if message.receipt == receipt { Ok(message) } else { Err(StoreError::PopReceiptMismatch) }
    }

    fn is_being_deleted(&self, name: &str, now_ms: u64) -> bool {
        self.deleted.get(name).is_some_and(|free_at_ms| *free_at_ms > now_ms)
    }

    /// A receipt that the next commit gives.
    fn receipt(&self, index: u32) -> Receipt {
        Receipt { incarnation: self.incarnation, commit: self.sequence + 1, index }
    }

    /// Logs and applies one change.
    fn commit(&mut self, change: Change, now_ms: u64) -> Result<(), StoreError> {
        let commit = Commit { sequence: self.sequence + 1, at_ms: now_ms, change };
        if let Err(error) = self.log.append(&commit) {
            tracing::error!(commit = commit.sequence, error = %error, "commit refused");
            return Err(StoreError::LogUnavailable);
        }
        self.replay(commit);
        Ok(())
    }

    fn apply(&mut self, change: Change) {
        let name = match &change {
            Change::SetProperties { .. } => "",
            Change::CreateQueue { queue, .. }
            | Change::DropQueue { queue, .. }
            | Change::SetMetadata { queue, .. }
            | Change::SetAccessPolicies { queue, .. }
            | Change::Put { queue, .. }
            | Change::Take { queue, .. }
            | Change::Update { queue, .. }
            | Change::Delete { queue, .. }
            | Change::Expire { queue, .. }
            | Change::Clear { queue } => queue,
        };
        let queue = self.queues.get_mut(name);
        match (change, queue) {
            (Change::CreateQueue { queue, metadata }, _) => {
                self.deleted.remove(&queue);
                self.queues.insert(queue, Queue::new(metadata));
            }
            (Change::DropQueue { queue, free_at_ms }, _) => {
                self.queues.remove(&queue);
                self.deleted.insert(queue, free_at_ms);
            }
            (Change::SetProperties { properties }, _) => self.properties.extend(properties),
            (Change::SetMetadata { metadata, .. }, Some(queue)) => queue.set_metadata(metadata),
            (Change::SetAccessPolicies { policies, .. }, Some(queue)) => {
                queue.set_policies(policies);
            }
            (Change::Put { message, .. }, Some(queue)) => {
                self.next_message = message.number + 1;
                queue.insert(message);
            }
            (Change::Take { taken, .. }, Some(queue)) => {
                for taken in &taken {
                    queue.take(taken);
                }
            }
            (Change::Update { id, receipt, visible_at_ms, text, .. }, Some(queue)) => {
                queue.update(id, receipt, visible_at_ms, text);
            }
            (Change::Delete { id, .. }, Some(queue)) => queue.remove(id),
            (Change::Expire { ids, .. }, Some(queue)) => {
                for id in ids {
                    queue.remove(id);
                }
            }
            (Change::Clear { .. }, Some(queue)) => queue.clear(),
            // Every change of a queue is decided while the queue is there.
            (_, None) => {}
        }
    }
}

fn after(now_ms: u64, seconds: u64) -> u64 {
    now_ms.saturating_add(seconds.saturating_mul(1000))
}
