//! The account: databases, containers, items, and the rules that hold between them.
//!
//! A state machine without a clock, a socket or a file. Time is an argument, in epoch milliseconds;
//! ids and ETags are counted from the `incarnation` it is given; changes leave through a
//! [`CommitLog`]. The same calls in the same order make the same store.

mod charge;
mod commit;
mod container;
mod document;
mod durability;
#[cfg(test)]
mod durability_tests;
mod epk;
mod error;
pub mod feed;
mod history;
mod index;
mod item;
mod partition;
mod patch;
pub mod query;
mod ranges;
mod rid;
#[cfg(test)]
mod tests;
mod text;
mod transaction;
mod tree;

use std::collections::BTreeMap;

use serde_json::{Map, Value};

pub use commit::{Change, Commit, CommitLog, LogError, Volatile, Write};
pub use container::{Container, Settings};
pub use document::Document;
pub use durability::Durability;
pub use error::StoreError;
pub use item::{ItemBody, check_id};
pub use partition::{Component, Definition, Partition, PartitionKey};
pub use patch::Patch;
pub use ranges::Ranges;
pub use rid::{ContainerRid, DatabaseRid, item_number};
pub use text::Text;
pub use transaction::{Action, Failure, Operation, Outcome, OutcomeKind};

pub(crate) use charge::{query as query_charge, read as read_charge};
pub(crate) use durability::{Flush, Progress};
pub(crate) use epk::from_hex as epk_from_hex;
pub(crate) use history::{Event, Version};
pub(crate) use ranges::hex as epk_to_hex;
pub(crate) use text::Place;

/// Expired items removed in one step of the sweeper, so that it never holds the store for long.
const SWEEP_STEP_ITEMS: usize = 1000;

/// A database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Database {
    /// Its number.
    pub rid: DatabaseRid,
    /// Its id.
    pub id: String,
    /// Sequence of the commit that created it; its ETag.
    pub version: u64,
    /// When it was created, epoch milliseconds.
    pub created_at_ms: u64,
}

/// All databases of the account.
pub struct Store {
    incarnation: u64,
    log: Box<dyn CommitLog>,
    sequence: u64,
    next_database: u32,
    next_container: u32,
    databases: BTreeMap<DatabaseRid, Database>,
    containers: BTreeMap<ContainerRid, Container>,
    database_ids: BTreeMap<String, DatabaseRid>,
    container_ids: BTreeMap<(DatabaseRid, String), ContainerRid>,
    offers: BTreeMap<ContainerRid, Value>,
}

impl Store {
    /// An empty account. `incarnation` makes its ETags and resource ids differ from those of other
    /// accounts; the same one gives the same ids.
    pub fn new(incarnation: u64, log: Box<dyn CommitLog>) -> Self {
        Self {
            incarnation,
            log,
            sequence: 0,
            // Clients cache resource ids by name: those of an earlier, forgotten store must not
            // come back with other contents.
            next_database: ((incarnation as u32) & 0x3FFF_FF00) + 1,
            next_container: 1,
            databases: BTreeMap::new(),
            containers: BTreeMap::new(),
            database_ids: BTreeMap::new(),
            container_ids: BTreeMap::new(),
            offers: BTreeMap::new(),
        }
    }

    /// Sequence of the latest commit.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// How far the log has come.
    pub fn durability(&self) -> Durability {
        self.log.durability()
    }

    /// Gives the store another log, as recovery does once everything is read back.
    pub(crate) fn set_log(&mut self, log: Box<dyn CommitLog>) {
        self.log = log;
    }

    /// Makes sure that no number that was given out before is given out again.
    pub(crate) fn raise(&mut self, sequence: u64, next_database: u32, next_container: u32) {
        self.sequence = self.sequence.max(sequence);
        self.next_database = self.next_database.max(next_database);
        self.next_container = self.next_container.max(next_container);
    }

    /// The container with this number, to restore items into.
    pub(crate) fn container_mut(&mut self, rid: ContainerRid) -> Option<&mut Container> {
        self.containers.get_mut(&rid)
    }

    /// Every container of the account.
    pub(crate) fn all_containers(&self) -> impl Iterator<Item = &Container> {
        self.containers.values()
    }

    /// The `content` of a container's throughput offer, if one was made.
    pub fn offer(&self, rid: ContainerRid) -> Option<&Value> {
        self.offers.get(&rid)
    }

    /// Makes an offer of throughput for a container.
    ///
    /// # Errors
    /// [`StoreError::ContainerMissing`] or [`StoreError::LogUnavailable`].
    pub fn put_offer(
        &mut self,
        rid: ContainerRid,
        content: Value,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        self.container_at(rid)?;
        self.commit(Change::PutOffer { rid, content }, now_ms)
    }

    /// All databases, oldest first.
    pub fn databases(&self) -> impl Iterator<Item = &Database> {
        self.databases.values()
    }

    /// The database with this id, or with this printed resource id.
    ///
    /// # Errors
    /// [`StoreError::DatabaseMissing`].
    pub fn database(&self, name: &str) -> Result<&Database, StoreError> {
        let by_id = self.database_ids.get(name).and_then(|rid| self.databases.get(rid));
        by_id
            .or_else(|| self.databases.values().find(|database| database.rid.text() == name))
            .ok_or(StoreError::DatabaseMissing)
    }

    /// The containers of a database, oldest first.
    pub fn containers(&self, database: DatabaseRid) -> impl Iterator<Item = &Container> {
        let range = ContainerRid(database, 0)..=ContainerRid(database, u32::MAX);
        self.containers.range(range).map(|(_, container)| container)
    }

    /// The container with this id or printed resource id, in a database named either way.
    ///
    /// # Errors
    /// [`StoreError::DatabaseMissing`] or [`StoreError::ContainerMissing`].
    pub fn container(&self, database: &str, name: &str) -> Result<&Container, StoreError> {
        let rid = self.container_rid(database, name)?;
        self.containers.get(&rid).ok_or(StoreError::ContainerMissing)
    }

    /// The container with this number.
    ///
    /// # Errors
    /// [`StoreError::ContainerMissing`].
    pub fn container_at(&self, rid: ContainerRid) -> Result<&Container, StoreError> {
        self.containers.get(&rid).ok_or(StoreError::ContainerMissing)
    }

    /// Creates a database.
    ///
    /// # Errors
    /// [`StoreError::AlreadyExists`], [`StoreError::BadRequest`] or [`StoreError::LogUnavailable`].
    pub fn create_database(&mut self, id: &str, now_ms: u64) -> Result<&Database, StoreError> {
        let id = container::checked_resource_id(id)?;
        if self.database_ids.contains_key(&id) {
            return Err(StoreError::AlreadyExists);
        }
        let rid = DatabaseRid(self.next_database);
        self.commit(Change::CreateDatabase { rid, id }, now_ms)?;
        self.databases.get(&rid).ok_or(StoreError::DatabaseMissing)
    }

    /// Deletes a database and everything in it.
    ///
    /// # Errors
    /// [`StoreError::DatabaseMissing`] or [`StoreError::LogUnavailable`].
    pub fn drop_database(&mut self, name: &str, now_ms: u64) -> Result<(), StoreError> {
        let rid = self.database(name)?.rid;
        self.commit(Change::DropDatabase { rid }, now_ms)
    }

    /// Creates a container from its declaration.
    ///
    /// # Errors
    /// [`StoreError::DatabaseMissing`], [`StoreError::AlreadyExists`], [`StoreError::BadRequest`]
    /// or [`StoreError::LogUnavailable`].
    pub fn create_container(
        &mut self,
        database: &str,
        declared: &Map<String, Value>,
        now_ms: u64,
    ) -> Result<&Container, StoreError> {
        let database = self.database(database)?.rid;
        let settings = Settings::parse(declared)?;
        if self.container_ids.contains_key(&(database, settings.id)) {
            return Err(StoreError::AlreadyExists);
        }
        let rid = ContainerRid(database, self.next_container);
        self.commit(Change::PutContainer { rid, properties: settings.properties }, now_ms)?;
        self.containers.get(&rid).ok_or(StoreError::ContainerMissing)
    }

    /// Gives a container a new declaration. Id, partition key and unique keys cannot change.
    ///
    /// # Errors
    /// [`StoreError::DatabaseMissing`], [`StoreError::ContainerMissing`],
    /// [`StoreError::BadRequest`] or [`StoreError::LogUnavailable`].
    pub fn replace_container(
        &mut self,
        database: &str,
        name: &str,
        declared: &Map<String, Value>,
        now_ms: u64,
    ) -> Result<&Container, StoreError> {
        let rid = self.container_rid(database, name)?;
        let current = self.containers.get(&rid).ok_or(StoreError::ContainerMissing)?.settings();
        let settings = Settings::parse(declared)?;
        if settings.id != current.id
            || settings.partition_key != current.partition_key
            || settings.unique_keys != current.unique_keys
        {
            return Err(StoreError::bad(
                "id, partitionKey and uniqueKeyPolicy of a container cannot be changed",
            ));
        }
        let default_ttl = current.default_ttl;
        if settings.default_ttl != default_ttl {
            self.remove_expired(rid, now_ms, usize::MAX)?;
            // Under new settings what has expired would otherwise come back to life.
            self.commit(Change::Expire { container: rid, default_ttl }, now_ms)?;
        }
        self.commit(Change::PutContainer { rid, properties: settings.properties }, now_ms)?;
        self.containers.get(&rid).ok_or(StoreError::ContainerMissing)
    }

    /// Deletes a container and everything in it.
    ///
    /// # Errors
    /// [`StoreError::DatabaseMissing`], [`StoreError::ContainerMissing`] or
    /// [`StoreError::LogUnavailable`].
    pub fn drop_container(
        &mut self,
        database: &str,
        name: &str,
        now_ms: u64,
    ) -> Result<(), StoreError> {
        let rid = self.container_rid(database, name)?;
        self.commit(Change::DropContainer { rid }, now_ms)
    }

    /// Runs operations on one partition: all of them, or none.
    ///
    /// # Errors
    /// The [`Failure`] of the first operation that failed; position 0 when the container is
    /// missing, the key is incomplete or the log refused the commit.
    pub fn execute(
        &mut self,
        rid: ContainerRid,
        key: &PartitionKey,
        operations: &[Operation],
        now_ms: u64,
    ) -> Result<Vec<Outcome>, Failure> {
        let whole = |error| Failure { index: 0, error };
        let incarnation = self.incarnation;
        let container =
            self.containers.get(&rid).ok_or_else(|| whole(StoreError::ContainerMissing))?;
        let definition = &container.settings().partition_key;
        if !definition.is_complete(key) {
            return Err(whole(StoreError::bad("the partition key has the wrong number of values")));
        }
        for operation in operations {
            let body = match &operation.action {
                Action::Create(body) | Action::Upsert(body) | Action::Replace { body, .. } => body,
                Action::Patch { .. } | Action::Read { .. } | Action::Delete { .. } => continue,
            };
            if definition.extract(&body.value).map_err(whole)? != *key {
                return Err(whole(StoreError::PartitionKeyMismatch));
            }
        }
        // What has expired holds neither its id nor its unique keys any longer.
        self.remove_expired(rid, now_ms, usize::MAX).map_err(whole)?;
        let container =
            self.containers.get(&rid).ok_or_else(|| whole(StoreError::ContainerMissing))?;
        let (lsn, sequence) = (container.lsn() + 1, self.sequence + 1);
        let stamp = transaction::Stamp { now_ms, lsn, sequence, incarnation };
        let (outcomes, writes) = transaction::decide(container, key, operations, stamp)?;
        if !writes.is_empty() {
            let change = Change::Items { container: rid, lsn: stamp.lsn, writes };
            self.commit(change, now_ms).map_err(whole)?;
        }
        Ok(outcomes)
    }

    /// Prepares the index that a query asked for (see [`query::Fetched::IndexMissing`]).
    pub(crate) fn prepare(&mut self, rid: ContainerRid, shape: &index::Shape) {
        if let Some(container) = self.containers.get_mut(&rid) {
            container.ensure_index(shape);
        }
    }

    /// Removes some expired items for good; returns whether there may be more.
    pub fn sweep(&mut self, now_ms: u64) -> bool {
        let mut budget = SWEEP_STEP_ITEMS;
        let all: Vec<_> = self.containers.keys().copied().collect();
        for rid in all {
            match self.remove_expired(rid, now_ms, budget) {
                Ok(removed) => budget -= removed,
                // They stay invisible; the log that failed ends the service.
                Err(_) => return false,
            }
            if budget == 0 {
                return true;
            }
        }
        self.containers.values_mut().for_each(|container| container.trim_history(now_ms));
        false
    }

    /// Removes what has expired in a container, at most `limit` items, by a commit like any other:
    /// the change feed tells of it. Returns how many.
    fn remove_expired(
        &mut self,
        rid: ContainerRid,
        now_ms: u64,
        limit: usize,
    ) -> Result<usize, StoreError> {
        let container = self.containers.get(&rid).ok_or(StoreError::ContainerMissing)?;
        let writes = container.expired(now_ms, limit);
        let (count, lsn) = (writes.len(), container.lsn() + 1);
        if count > 0 {
            self.commit(Change::Items { container: rid, lsn, writes }, now_ms)?;
        }
        Ok(count)
    }

    /// Applies a commit that was decided earlier, as recovery does. Commits must come in the order
    /// of their sequences.
    pub fn apply(&mut self, commit: &Commit) {
        self.sequence = self.sequence.max(commit.sequence);
        match &commit.change {
            Change::CreateDatabase { rid, id } => {
                self.next_database = self.next_database.max(rid.0 + 1);
                self.database_ids.insert(id.clone(), *rid);
                let (id, version) = (id.clone(), commit.sequence);
                let created_at_ms = commit.at_ms;
                self.databases.insert(*rid, Database { rid: *rid, id, version, created_at_ms });
            }
            Change::DropDatabase { rid } => {
                self.databases.remove(rid);
                self.database_ids.retain(|_, known| known != rid);
                self.containers.retain(|known, _| known.0 != *rid);
                self.offers.retain(|known, _| known.0 != *rid);
                self.container_ids.retain(|(known, _), _| known != rid);
            }
            Change::PutContainer { rid, properties } => {
                // Committed declarations have been parsed once already.
                let Ok(settings) = Settings::parse(properties) else { return };
                self.next_container = self.next_container.max(rid.1 + 1);
                self.container_ids.insert((rid.0, settings.id.clone()), *rid);
                let (version, at_ms) = (commit.sequence, commit.at_ms);
                match self.containers.get_mut(rid) {
                    Some(container) => container.reconfigure(settings, version, at_ms),
                    None => {
                        let container = Container::new(*rid, settings, version, at_ms);
                        self.containers.insert(*rid, container);
                    }
                }
            }
            Change::DropContainer { rid } => {
                self.containers.remove(rid);
                self.offers.remove(rid);
                self.container_ids.retain(|_, known| known != rid);
            }
            Change::PutOffer { rid, content } => {
                self.offers.insert(*rid, content.clone());
            }
            Change::Expire { container, default_ttl } => {
                if let Some(container) = self.containers.get_mut(container) {
                    container.expire(*default_ttl, commit.at_ms);
                }
            }
            Change::Items { container, lsn, writes } => {
                if let Some(container) = self.containers.get_mut(container) {
                    container.apply(*lsn, commit.sequence, commit.at_ms, writes);
                }
            }
        }
    }

    fn commit(&mut self, change: Change, now_ms: u64) -> Result<(), StoreError> {
        let commit = Commit { sequence: self.sequence + 1, at_ms: now_ms, change };
        self.log.append(&commit).map_err(|_| StoreError::LogUnavailable)?;
        self.apply(&commit);
        Ok(())
    }

    fn container_rid(&self, database: &str, name: &str) -> Result<ContainerRid, StoreError> {
        let database = self.database(database)?.rid;
        let by_id = self.container_ids.get(&(database, name.to_owned())).copied();
        by_id
            .or_else(|| self.containers(database).map(Container::rid).find(|r| r.text() == name))
            .ok_or(StoreError::ContainerMissing)
    }
}

/// The `id` of a declared database or container.
///
/// # Errors
/// [`StoreError::BadRequest`].
pub fn resource_id(declared: &Map<String, Value>) -> Result<String, StoreError> {
    match declared.get("id") {
        Some(Value::String(id)) => container::checked_resource_id(id),
        _ => Err(StoreError::bad("an 'id' that is a string is required")),
    }
}
