//! Deciding writes: one operation or a hundred, all or nothing, against one partition.
//!
//! A transaction looks at the committed items through its own pending writes and ends in a list of
//! writes or in the index of the operation that failed. It changes nothing itself.

use std::collections::HashMap;
use std::sync::Arc;

use super::StoreError;
use super::charge;
use super::commit::Write;
use super::container::Container;
use super::document::{Document, etag};
use super::item::{ItemBody, SystemProperties};
use super::partition::{Partition, PartitionKey};
use super::patch::Patch;
use super::text::Text;
use crate::limits::{MAX_BATCH_BYTES, MAX_ITEM_BYTES};

/// What to do with an item.
#[derive(Debug, Clone)]
pub enum Action {
    /// Create it; it must not exist.
    Create(ItemBody),
    /// Create or replace it.
    Upsert(ItemBody),
    /// Replace it; it must exist.
    Replace {
        /// The id in the address.
        id: String,
        /// The new body, whose id must be the same.
        body: ItemBody,
    },
    /// Change parts of it.
    Patch {
        /// Its id.
        id: String,
        /// The changes.
        patch: Patch,
    },
    /// Read it.
    Read {
        /// Its id.
        id: String,
    },
    /// Delete it.
    Delete {
        /// Its id.
        id: String,
    },
}

/// An action and its ETag preconditions.
#[derive(Debug, Clone)]
pub struct Operation {
    /// What to do.
    pub action: Action,
    /// Must name the stored version.
    pub if_match: Option<String>,
    /// Must not name the stored version.
    pub if_none_match: Option<String>,
}

/// What came of an operation.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// What happened.
    pub kind: OutcomeKind,
    /// The item after the operation; `None` when it was deleted.
    pub document: Option<Arc<Document>>,
    /// What it cost, in request units.
    pub charge: f64,
}

/// What happened to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutcomeKind {
    /// It is new.
    Created,
    /// It has a new version.
    Replaced,
    /// It was read.
    Read,
    /// It was read, and is the version that the client has already.
    NotModified,
    /// It is gone.
    Deleted,
}

/// An operation that failed, and with it the transaction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Position of the operation.
    pub index: usize,
    /// Why.
    pub error: StoreError,
}

/// What gives the transaction its identity.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp {
    pub(super) now_ms: u64,
    pub(super) lsn: u64,
    /// Position of the commit in the account.
    pub(super) sequence: u64,
    /// Distinguishes the ETags of this run of the store from those of another.
    pub(super) incarnation: u64,
}

/// Decides all of `operations`, in order, each seeing the effects of those before it.
pub(super) fn decide(
    container: &Container,
    key: &PartitionKey,
    operations: &[Operation],
    stamp: Stamp,
) -> Result<(Vec<Outcome>, Vec<Write>), Failure> {
    let partition = container.partition_of(key);
    let mut pending = Pending {
        container,
        partition,
        stamp,
        items: HashMap::new(),
        order: Vec::new(),
        unique: HashMap::new(),
        next_number: container.next_number,
        versions: 0,
        written_bytes: 0,
    };
    let mut outcomes = Vec::with_capacity(operations.len());
    for (index, operation) in operations.iter().enumerate() {
        let outcome = pending.run(operation).map_err(|error| Failure { index, error })?;
        outcomes.push(outcome);
    }
    Ok((outcomes, pending.finish()))
}

struct Pending<'a> {
    container: &'a Container,
    partition: Arc<Partition>,
    stamp: Stamp,
    /// Items written so far; `None` is deleted.
    items: HashMap<Arc<str>, Option<Arc<Document>>>,
    /// Their ids, in the order of the first write.
    order: Vec<Arc<str>>,
    /// Unique key values taken (`Some`) or given up (`None`) so far.
    unique: HashMap<Vec<u8>, Option<u64>>,
    next_number: u64,
    versions: u32,
    written_bytes: usize,
}

impl Pending<'_> {
    fn run(&mut self, operation: &Operation) -> Result<Outcome, StoreError> {
        let if_match = operation.if_match.as_deref();
        let if_none_match = operation.if_none_match.as_deref();
        let check = |stored: &Document| {
            let mismatch = if_match.is_some_and(|etag| !stored.matches(etag));
            match mismatch || if_none_match.is_some_and(|etag| stored.matches(etag)) {
                true => Err(StoreError::EtagMismatch),
                false => Ok(()),
            }
        };
        match &operation.action {
            Action::Create(body) => {
                if self.get(&body.id).is_some() {
                    return Err(StoreError::AlreadyExists);
                }
                self.create(body)
            }
            Action::Upsert(body) => match self.get(&body.id) {
                None => self.create(body),
                Some(stored) => {
                    check(&stored)?;
                    self.replace(body, &stored)
                }
            },
            Action::Replace { id, body } => {
                let stored = self.get(id).ok_or(StoreError::ItemMissing)?;
                check(&stored)?;
                if body.id != *id {
                    return Err(StoreError::bad(
                        "the id in the body is not the one in the address",
                    ));
                }
                self.replace(body, &stored)
            }
            Action::Patch { id, patch } => {
                let stored = self.get(id).ok_or(StoreError::ItemMissing)?;
                check(&stored)?;
                let text = stored.text.read();
                if let Some(condition) = &patch.condition
                    && !condition.holds(&text)?
                {
                    return Err(StoreError::ConditionNotMet);
                }
                // Items are written from JSON text, which is UTF-8.
                let text = String::from_utf8_lossy(&text);
                let body = ItemBody::parse(&patch.apply(&text)?)?;
                self.replace(&body, &stored)
            }
            Action::Read { id } => {
                let stored = self.get(id).ok_or(StoreError::ItemMissing)?;
                let unchanged = if_none_match.is_some_and(|etag| stored.matches(etag));
                Ok(Outcome {
                    kind: if unchanged { OutcomeKind::NotModified } else { OutcomeKind::Read },
                    charge: charge::read(stored.text.len()),
                    document: Some(stored),
                })
            }
            Action::Delete { id } => {
                let stored = self.get(id).ok_or(StoreError::ItemMissing)?;
                check(&stored)?;
                self.give_up_unique(&stored);
                self.record(stored.id.clone(), None);
                let charge = charge::delete();
                Ok(Outcome { kind: OutcomeKind::Deleted, document: None, charge })
            }
        }
    }

    fn get(&self, id: &str) -> Option<Arc<Document>> {
        match self.items.get(id) {
            Some(pending) => pending.clone(),
            None => self.container.get(&self.partition.key, id, self.stamp.now_ms).cloned(),
        }
    }

    fn create(&mut self, body: &ItemBody) -> Result<Outcome, StoreError> {
        let number = self.next_number;
        self.take_unique(body, number)?;
        self.next_number += 1;
        let document = self.write(body, body.id.as_str().into(), number, true)?;
        let charge = charge::create(document.text.len());
        Ok(Outcome { kind: OutcomeKind::Created, document: Some(document), charge })
    }

    fn replace(&mut self, body: &ItemBody, stored: &Document) -> Result<Outcome, StoreError> {
        self.give_up_unique(stored);
        self.take_unique(body, stored.number)?;
        let created = stored.created && stored.lsn == self.stamp.lsn;
        let document = self.write(body, stored.id.clone(), stored.number, created)?;
        let charge = charge::replace(document.text.len());
        Ok(Outcome { kind: OutcomeKind::Replaced, document: Some(document), charge })
    }

    fn write(
        &mut self,
        body: &ItemBody,
        id: Arc<str>,
        number: u64,
        created: bool,
    ) -> Result<Arc<Document>, StoreError> {
        let Stamp { now_ms, lsn, sequence, incarnation } = self.stamp;
        // Counts versions, not items: a batch may write the same item twice.
        let ordinal = self.versions;
        self.versions += 1;
        let etag = etag(incarnation, lsn, ordinal);
        let rid = self.container.rid().item(number);
        let (database, container) = (self.container.rid().0.text(), self.container.rid().text());
        let self_link = format!("dbs/{database}/colls/{container}/docs/{rid}/");
        let ts = now_ms / 1000;
        let system = SystemProperties { rid: &rid, self_link: &self_link, etag: &etag, ts };
        let text = body.compose(system);
        if text.len() > MAX_ITEM_BYTES {
            return Err(StoreError::TooLarge { actual: text.len(), limit: MAX_ITEM_BYTES });
        }
        self.written_bytes += text.len();
        // Patches can grow items beyond what the request carried.
        if self.written_bytes > 2 * MAX_BATCH_BYTES {
            return Err(StoreError::TooLarge {
                actual: self.written_bytes,
                limit: MAX_BATCH_BYTES,
            });
        }
        let document = Arc::new(Document {
            partition: self.partition.clone(),
            id: id.clone(),
            number,
            lsn,
            sequence,
            incarnation,
            ordinal,
            ts,
            ttl: body.ttl,
            created,
            text: Text::new(text),
        });
        self.record(id, Some(document.clone()));
        Ok(document)
    }

    fn record(&mut self, id: Arc<str>, state: Option<Arc<Document>>) {
        if self.items.insert(id.clone(), state).is_none() {
            self.order.push(id);
        }
    }

    fn take_unique(&mut self, body: &ItemBody, number: u64) -> Result<(), StoreError> {
        for values in self.container.unique_values(&body.value) {
            let owner = match self.unique.get(&values) {
                Some(pending) => *pending,
                None => self.container.unique_owner(&self.partition.key, &values),
            };
            if owner.is_some_and(|owner| owner != number) {
                return Err(StoreError::UniqueKeyViolation);
            }
            self.unique.insert(values, Some(number));
        }
        Ok(())
    }

    fn give_up_unique(&mut self, stored: &Document) {
        if self.container.settings().unique_keys.is_empty() {
            return;
        }
        if let Ok(item) = serde_json::from_slice(&stored.text.read()) {
            for values in self.container.unique_values(&item) {
                self.unique.insert(values, None);
            }
        }
    }

    fn finish(mut self) -> Vec<Write> {
        let mut writes = Vec::with_capacity(self.order.len());
        for id in std::mem::take(&mut self.order) {
            match self.items.remove(&id).flatten() {
                Some(document) => writes.push(Write::Put(document)),
                // Created and deleted within the transaction leaves nothing to remove.
                None => writes.push(Write::Remove { partition: self.partition.clone(), id }),
            }
        }
        writes
    }
}
