//! One queue: its messages, in the order in which they can be taken and in which they expire.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::commit::Taken;
use super::error::StoreError;
use super::message::{Message, Receipt};
use crate::limits::QUEUE_NAME_LENGTH;

/// What an owner says about a queue: values by name. Names differ in more than letter case.
pub type Metadata = BTreeMap<String, String>;

/// A stored access policy, which shared access signatures may refer to.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AccessPolicy {
    /// Its id, chosen by the owner.
    pub id: String,
    /// From when on it permits anything, ISO 8601; empty if the signature says.
    pub start: String,
    /// Until when, ISO 8601; empty if the signature says.
    pub expiry: String,
    /// What it permits, as letters; empty if the signature says.
    pub permission: String,
}

/// A queue.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Queue {
    metadata: Metadata,
    policies: Vec<AccessPolicy>,
    messages: BTreeMap<Uuid, Message>,
    /// Every message by the time from which it can be taken, then by age.
    by_visibility: BTreeSet<(u64, u64, Uuid)>,
    /// Every message that expires, by when.
    by_expiry: BTreeSet<(u64, Uuid)>,
}

impl Queue {
    pub(super) fn new(metadata: Metadata) -> Self {
        Self { metadata, ..Self::default() }
    }

    /// What its owner says about it.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Its stored access policies.
    pub fn policies(&self) -> &[AccessPolicy] {
        &self.policies
    }

    /// Messages in it, visible or not.
    pub fn approximate_count(&self, now_ms: u64) -> usize {
        let expired = self.by_expiry.iter().take_while(|(at_ms, _)| *at_ms <= now_ms);
        self.messages.len() - expired.count()
    }

    /// All messages that have not expired, in no useful order.
    pub fn messages(&self, now_ms: u64) -> impl Iterator<Item = &Message> {
        self.messages.values().filter(move |message| !message.is_expired(now_ms))
    }

    /// The message with this id.
    ///
    /// # Errors
    /// [`StoreError::MessageNotFound`], also for one that has expired.
    pub fn message(&self, id: Uuid, now_ms: u64) -> Result<&Message, StoreError> {
        let found = self.messages.get(&id).filter(|message| !message.is_expired(now_ms));
        found.ok_or(StoreError::MessageNotFound)
    }

    /// Messages that can be taken, the one first that has been waiting longest.
    pub fn visible(&self, now_ms: u64) -> impl Iterator<Item = &Message> {
        self.by_visibility
            .iter()
            .take_while(move |(visible_at_ms, _, _)| *visible_at_ms <= now_ms)
            .filter_map(|(_, _, id)| self.messages.get(id))
            .filter(move |message| !message.is_expired(now_ms))
    }

    /// At most `limit` messages that have expired, the earliest first.
    pub(super) fn expired(&self, now_ms: u64, limit: usize) -> Vec<Uuid> {
        let over = self.by_expiry.iter().take_while(|(at_ms, _)| *at_ms <= now_ms);
        over.take(limit).map(|(_, id)| *id).collect()
    }

    /// Every message, those that have expired included.
    pub(super) fn all(&self) -> impl Iterator<Item = &Message> {
        self.messages.values()
    }

    pub(super) fn set_metadata(&mut self, metadata: Metadata) {
        self.metadata = metadata;
    }

    pub(super) fn set_policies(&mut self, policies: Vec<AccessPolicy>) {
        self.policies = policies;
    }

    pub(super) fn insert(&mut self, message: Message) {
        self.by_visibility.insert((message.visible_at_ms, message.number, message.id));
        if let Some(at_ms) = message.expires_at_ms {
            self.by_expiry.insert((at_ms, message.id));
        }
        self.messages.insert(message.id, message);
    }

    pub(super) fn remove(&mut self, id: Uuid) {
        if let Some(message) = self.messages.remove(&id) {
            self.by_visibility.remove(&(message.visible_at_ms, message.number, id));
            if let Some(at_ms) = message.expires_at_ms {
                self.by_expiry.remove(&(at_ms, id));
            }
        }
    }

    pub(super) fn clear(&mut self) {
        self.messages.clear();
        self.by_visibility.clear();
        self.by_expiry.clear();
    }

    pub(super) fn take(&mut self, taken: &Taken) {
        if let Some(message) = self.messages.get_mut(&taken.id) {
            message.dequeue_count = taken.dequeue_count;
        }
        self.hold(taken.id, taken.receipt, taken.visible_at_ms);
    }

    pub(super) fn update(
        &mut self,
        id: Uuid,
        receipt: Receipt,
        visible_at_ms: u64,
        text: Option<Arc<str>>,
    ) {
        if let (Some(message), Some(text)) = (self.messages.get_mut(&id), text) {
            message.text = text;
        }
        self.hold(id, receipt, visible_at_ms);
    }

    fn hold(&mut self, id: Uuid, receipt: Receipt, visible_at_ms: u64) {
        let Some(message) = self.messages.get_mut(&id) else { return };
        self.by_visibility.remove(&(message.visible_at_ms, message.number, id));
        message.visible_at_ms = visible_at_ms;
        message.receipt = receipt;
        self.by_visibility.insert((visible_at_ms, message.number, id));
    }
}

/// Checks the name of a queue.
///
/// Specified by
/// <https://learn.microsoft.com/rest/api/storageservices/naming-queues-and-metadata#queue-names>.
///
/// # Errors
/// [`StoreError::NameLength`] or [`StoreError::InvalidName`].
pub fn check_name(name: &str) -> Result<(), StoreError> {
    if !QUEUE_NAME_LENGTH.contains(&name.chars().count()) {
        return Err(StoreError::NameLength);
    }
    let characters = name.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'));
    let dashes = name.starts_with('-') || name.ends_with('-') || name.contains("--");
    if characters && !dashes { Ok(()) } else { Err(StoreError::InvalidName) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_queues() {
        for name in ["abc", "payments-poison", "0a9", &"q".repeat(63)] {
            assert_eq!(check_name(name), Ok(()), "{name}");
        }
        for name in ["ab", &"q".repeat(64), ""] {
            assert_eq!(check_name(name), Err(StoreError::NameLength), "{name}");
        }
        for name in ["Payments", "a_b", "-abc", "abc-", "a--b", "a.b", "äbc"] {
            assert_eq!(check_name(name), Err(StoreError::InvalidName), "{name}");
        }
    }
}
