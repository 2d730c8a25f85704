//! A container: its settings, its items, and everything that is kept in order about them.
//!
//! Readers get committed documents by reference count. Changes come in as finished writes; deciding
//! them is the business of [`super::transaction`].

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher as _, RandomState};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::StoreError;
use super::commit::Write;
use super::document::Document;
use super::epk::Scheme;
use super::history::{Event, History, Version};
use super::index::{OrderedIndex, Shape};
use super::partition::{Definition, Partition, PartitionKey, Path, lookup, parse_path};
use super::ranges::Ranges;
use super::rid::ContainerRid;
use crate::limits::{
    DEFAULT_RETENTION_MINUTES, MAX_FEED_SECONDS, MAX_INDEXES_PER_CONTAINER, MAX_RESOURCE_ID_BYTES,
    MAX_RETENTION_MINUTES, MAX_UNIQUE_KEY_PATHS, MAX_UNIQUE_KEYS,
};
use crate::sql::order;

/// What a container was declared to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Its id, unique within the database.
    pub id: String,
    /// Where the partition key of an item is.
    pub partition_key: Arc<Definition>,
    /// Seconds that items live; -1 for ever unless they say otherwise, `None` for ever.
    pub default_ttl: Option<i64>,
    /// For how long every version is kept for the change feed, in milliseconds.
    pub retention_ms: u64,
    /// Combinations of properties that must be unique within a partition.
    pub unique_keys: Vec<Vec<Path>>,
    /// The declaration, with defaults filled in and unknown properties kept.
    pub properties: Map<String, Value>,
}

/// A container with its items.
#[derive(Debug)]
pub struct Container {
    pub(crate) rid: ContainerRid,
    pub(crate) settings: Settings,
    pub(crate) changed_at_ms: u64,
    /// Sequence of the commit that last changed the settings; the ETag of the container.
    pub(crate) version: u64,
    /// The log sequence number of the latest change of items.
    pub(crate) lsn: u64,
    /// The number that the next created item gets.
    pub(crate) next_number: u64,
    /// Sequence of the latest commit that changed an item.
    pub(crate) sequence: u64,
    /// By hash of the partition key, hash of the id, and number: one map finds an item and lists a
    /// partition, and grows without ever being rebuilt.
    by_key: BTreeMap<(u64, u64, u64), Arc<Document>>,
    hashes: RandomState,
    /// Encoded partition key and unique key values, to the number of the item that has them.
    unique: HashMap<Vec<u8>, u64>,
    by_number: BTreeMap<u64, Arc<Document>>,
    /// Latest versions in the order in which they were written.
    pub(super) feed: BTreeMap<(u64, u32), Arc<Document>>,
    /// The first change of every second in which there was one.
    pub(super) seconds: BTreeMap<u64, u64>,
    /// Everything that happened for a while.
    pub(super) history: History,
    /// Deadlines of the items that have one.
    expiring: BTreeSet<(u64, u64)>,
    /// Newest first; the oldest goes when there are too many.
    indexes: Vec<OrderedIndex>,
}

impl Settings {
    /// Reads a declaration and fills in the defaults of the service.
    ///
    /// # Errors
    /// [`StoreError::BadRequest`].
    pub fn parse(declared: &Map<String, Value>) -> Result<Self, StoreError> {
        let id = super::resource_id(declared)?;
        let partition_key = Arc::new(Definition::parse(declared.get("partitionKey"))?);
        let default_ttl = match declared.get("defaultTtl") {
            None | Some(Value::Null) => None,
            Some(ttl) => Some(
                ttl.as_i64()
                    .filter(|ttl| *ttl == -1 || (1..=i64::from(i32::MAX)).contains(ttl))
                    .ok_or_else(|| StoreError::bad("defaultTtl must be -1 or positive"))?,
            ),
        };
        let unique_keys = unique_keys(declared)?;
        let retention_ms = retention_minutes(declared)? * 60_000;
        let mut properties = declared.clone();
        for name in super::item::SYSTEM_PROPERTIES {
            properties.remove(name);
        }
        if default_ttl.is_none() {
            properties.remove("defaultTtl");
        }
        if let Some(Value::Object(key)) = properties.get_mut("partitionKey") {
            key.entry("kind").or_insert_with(|| "Hash".into());
            key.entry("version").or_insert_with(|| 2.into());
        }
        let defaults = [
            (
                "indexingPolicy",
                json!({
                    "indexingMode": "consistent",
                    "automatic": true,
                    "includedPaths": [{"path": "/*"}],
                    "excludedPaths": [{"path": "/\"_etag\"/?"}],
                }),
            ),
            (
                "conflictResolutionPolicy",
                json!({
                    "mode": "LastWriterWins",
                    "conflictResolutionPath": "/_ts",
                    "conflictResolutionProcedure": "",
                }),
            ),
            ("geospatialConfig", json!({"type": "Geography"})),
        ];
        for (name, default) in defaults {
            let slot = properties.entry(name).or_insert(Value::Null);
            if slot.is_null() {
                *slot = default;
            }
        }
        Ok(Self { id, partition_key, default_ttl, retention_ms, unique_keys, properties })
    }
}

fn retention_minutes(declared: &Map<String, Value>) -> Result<u64, StoreError> {
    let policy =
        declared.get("changeFeedPolicy").and_then(|policy| policy.get("retentionDuration"));
    match policy {
        None | Some(Value::Null) => Ok(DEFAULT_RETENTION_MINUTES),
        Some(minutes) => {
            // Zero means that none was asked for.
            let minutes = minutes.as_u64().filter(|minutes| *minutes <= MAX_RETENTION_MINUTES);
            minutes.map(|minutes| if minutes == 0 { DEFAULT_RETENTION_MINUTES } else { minutes })
        }
        .ok_or_else(|| {
            StoreError::bad(format!(
                "changeFeedPolicy.retentionDuration must be 0 to {MAX_RETENTION_MINUTES} minutes"
            ))
        }),
    }
}

fn unique_keys(declared: &Map<String, Value>) -> Result<Vec<Vec<Path>>, StoreError> {
    let policy = declared.get("uniqueKeyPolicy").and_then(|policy| policy.get("uniqueKeys"));
    let Some(keys) = policy.and_then(Value::as_array) else { return Ok(Vec::new()) };
    let keys = keys
        .iter()
        .map(|key| {
            let paths = key.get("paths")?.as_array().filter(|paths| !paths.is_empty())?;
            paths.iter().map(|path| path.as_str().and_then(parse_path)).collect()
        })
        .collect::<Option<Vec<Vec<Path>>>>()
        .ok_or_else(|| StoreError::bad("a unique key needs paths that look like /a/b"))?;
    if keys.len() > MAX_UNIQUE_KEYS
        || keys.iter().map(Vec::len).sum::<usize>() > MAX_UNIQUE_KEY_PATHS
    {
        return Err(StoreError::bad("at most 10 unique keys with 16 paths in all"));
    }
    Ok(keys)
}

impl Container {
    pub(crate) fn new(rid: ContainerRid, settings: Settings, version: u64, now_ms: u64) -> Self {
        Self {
            rid,
            settings,
            changed_at_ms: now_ms,
            version,
            lsn: 0,
            next_number: 1,
            sequence: 0,
            by_key: BTreeMap::new(),
            hashes: RandomState::new(),
            unique: HashMap::new(),
            by_number: BTreeMap::new(),
            feed: BTreeMap::new(),
            seconds: BTreeMap::new(),
            history: History::default(),
            expiring: BTreeSet::new(),
            indexes: Vec::new(),
        }
    }

    /// Its number.
    pub fn rid(&self) -> ContainerRid {
        self.rid
    }

    /// Into how many ranges it is cut when others are cut into `wanted`. The keys of version 1 are
    /// laid out in another way; those containers stay whole.
    pub fn ranges(&self, wanted: Ranges) -> Ranges {
        match self.settings.partition_key.scheme {
            Scheme::HashV1 => Ranges::ONE,
            Scheme::HashV2 | Scheme::MultiHash => wanted,
        }
    }

    /// Its declaration.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The log sequence number of the latest change of items; 0 before the first.
    pub fn lsn(&self) -> u64 {
        self.lsn
    }

    /// Number of items, expired ones that were not swept yet included.
    pub fn len(&self) -> usize {
        self.by_number.len()
    }

    /// Whether it holds no item.
    pub fn is_empty(&self) -> bool {
        self.by_number.is_empty()
    }

    /// The item with this id, if it exists at `now_ms`.
    pub fn get(&self, key: &PartitionKey, id: &str, now_ms: u64) -> Option<&Arc<Document>> {
        let document = self.find(key, id)?;
        self.is_live(document, now_ms).then_some(document)
    }

    /// The item with this number, if it exists at `now_ms`.
    pub fn get_by_number(&self, number: u64, now_ms: u64) -> Option<&Arc<Document>> {
        self.by_number.get(&number).filter(|document| self.is_live(document, now_ms))
    }

    pub(crate) fn is_live(&self, document: &Document, now_ms: u64) -> bool {
        document.is_live(self.settings.default_ttl, now_ms)
    }

    /// The partition of this key that the items share, if there are any.
    pub(crate) fn partition(&self, key: &PartitionKey) -> Option<&Arc<Partition>> {
        self.partition_items(key).next().map(|document| &document.partition)
    }

    /// The logical partition of a complete key, shared with the items that are in it.
    pub(super) fn partition_of(&self, key: &PartitionKey) -> Arc<Partition> {
        let known = self.partition(key).cloned();
        known.unwrap_or_else(|| self.settings.partition_key.partition(key.clone()))
    }

    /// Number of items in a partition, counted up to `limit`.
    pub(super) fn partition_len(&self, key: &PartitionKey, limit: usize) -> usize {
        self.partition_items(key).take(limit).count()
    }

    /// The items of one partition, in no particular order.
    pub(super) fn partition_items<'a, 'k>(
        &'a self,
        key: &'k PartitionKey,
    ) -> impl Iterator<Item = &'a Arc<Document>> + use<'a, 'k> {
        let hash = self.hashes.hash_one(key);
        let same_hash = self.by_key.range((hash, 0, 0)..=(hash, u64::MAX, u64::MAX));
        same_hash.map(|(_, document)| document).filter(|document| document.partition.key == *key)
    }

    fn find(&self, key: &PartitionKey, id: &str) -> Option<&Arc<Document>> {
        self.find_at((self.hashes.hash_one(key), self.hashes.hash_one(id)), key, id)
    }

    /// [`Container::find`] with the hashes of key and id.
    fn find_at(
        &self,
        (key_hash, id_hash): (u64, u64),
        key: &PartitionKey,
        id: &str,
    ) -> Option<&Arc<Document>> {
        let same_hash = self.by_key.range((key_hash, id_hash, 0)..=(key_hash, id_hash, u64::MAX));
        same_hash
            .map(|(_, document)| document)
            .find(|document| *document.id == *id && document.partition.key == *key)
    }

    fn place(&self, document: &Document) -> (u64, u64, u64) {
        let key_hash = self.hashes.hash_one(&document.partition.key);
        (key_hash, self.hashes.hash_one(&*document.id), document.number)
    }

    /// All items created after `number`, in the order of their creation.
    pub(super) fn items_after(&self, number: u64) -> impl Iterator<Item = &Arc<Document>> {
        self.by_number.range(number.saturating_add(1)..).map(|(_, document)| document)
    }

    /// The number of the item that has these unique key values.
    pub(super) fn unique_owner(&self, key: &PartitionKey, values: &[u8]) -> Option<u64> {
        self.unique.get(&unique_place(key, values)).copied()
    }

    /// The encoded values that `item` has under each unique key; a missing one counts as null.
    pub(super) fn unique_values(&self, item: &Value) -> Vec<Vec<u8>> {
        let keys = self.settings.unique_keys.iter().enumerate();
        keys.map(|(index, paths)| {
            let mut values = vec![index as u8];
            for path in paths {
                order::encode(Some(lookup(item, path).unwrap_or(&Value::Null)), &mut values);
            }
            values
        })
        .collect()
    }

    /// Applies the writes of one commit.
    pub(super) fn apply(&mut self, lsn: u64, sequence: u64, at_ms: u64, writes: &[Write]) {
        self.raise(lsn, sequence);
        self.note_second(at_ms / 1000, lsn);
        self.history.begin(lsn);
        for write in writes {
            let version = match write {
                Write::Put(document) => {
                    let previous = self.put(document.clone());
                    // A log that was cut off in front may not have the version before.
                    let event = match previous.is_none() && document.created {
                        true => Event::Created,
                        false => Event::Replaced,
                    };
                    Version {
                        event,
                        lsn,
                        at_ms,
                        partition: document.partition.clone(),
                        id: document.id.clone(),
                        document: Some(document.clone()),
                        previous_lsn: previous.map(|previous| previous.lsn),
                    }
                }
                Write::Remove { partition, id } => {
                    let document = self.find(&partition.key, id).cloned();
                    document.iter().for_each(|document| self.take(document));
                    let expired = document.as_ref().is_some_and(|d| !self.is_live(d, at_ms));
                    Version {
                        event: Event::Deleted { expired },
                        lsn,
                        at_ms,
                        partition: partition.clone(),
                        id: id.clone(),
                        previous_lsn: document.as_ref().map(|document| document.lsn),
                        document,
                    }
                }
            };
            self.history.push(version);
        }
        self.trim_history(at_ms);
    }

    /// Gives up what the change feed need not keep any longer.
    pub(super) fn trim_history(&mut self, now_ms: u64) {
        self.history.trim(now_ms.saturating_sub(self.settings.retention_ms));
    }

    /// Takes back a version that the log had kept by itself, unless a newer one is there.
    pub(crate) fn restore(&mut self, document: Arc<Document>) {
        let known = self.by_number.get(&document.number);
        if known.is_some_and(|known| (known.lsn, known.ordinal) > (document.lsn, document.ordinal))
        {
            return;
        }
        self.raise(document.lsn, document.sequence);
        self.note_second(document.ts, document.lsn);
        drop(self.put(document));
    }

    /// Makes sure that no number that was given out before is given out again.
    pub(crate) fn raise(&mut self, lsn: u64, sequence: u64) {
        self.lsn = self.lsn.max(lsn);
        self.sequence = self.sequence.max(sequence);
    }

    fn note_second(&mut self, second: u64, lsn: u64) {
        let first = self.seconds.entry(second).or_insert(lsn);
        *first = lsn.min(*first);
        if self.seconds.len() > MAX_FEED_SECONDS {
            self.seconds.pop_first();
        }
    }

    /// Removes everything that has expired by `now_ms` under this default.
    pub(super) fn expire(&mut self, default_ttl: Option<i64>, now_ms: u64) {
        let all = self.by_number.values();
        let expired = all.filter(|document| !document.is_live(default_ttl, now_ms));
        let expired: Vec<_> = expired.cloned().collect();
        expired.iter().for_each(|document| self.take(document));
    }

    /// The removal of what has expired by `now_ms`, at most `limit` items.
    pub(super) fn expired(&self, now_ms: u64, limit: usize) -> Vec<Write> {
        let due = self.expiring.iter().take_while(|due| due.0.saturating_mul(1000) <= now_ms);
        due.filter_map(|(_, number)| self.by_number.get(number))
            .take(limit)
            .map(|document| Write::Remove {
                partition: document.partition.clone(),
                id: document.id.clone(),
            })
            .collect()
    }

    /// Takes new settings over. Lifetimes may change with them.
    pub(super) fn reconfigure(&mut self, settings: Settings, version: u64, now_ms: u64) {
        let lifetimes_change = settings.default_ttl != self.settings.default_ttl;
        self.settings = settings;
        self.version = version;
        self.changed_at_ms = now_ms;
        if lifetimes_change {
            let default_ttl = self.settings.default_ttl;
            let deadline = |d: &Arc<Document>| Some((d.deadline(default_ttl)?, d.number));
            self.expiring = self.by_number.values().filter_map(deadline).collect();
        }
    }

    /// The index of this shape, if there is one.
    pub(crate) fn index(&self, shape: &Shape) -> Option<&OrderedIndex> {
        self.indexes.iter().find(|index| index.shape == *shape)
    }

    /// Builds the index of this shape if there is none.
    pub(crate) fn ensure_index(&mut self, shape: &Shape) {
        if self.index(shape).is_some() {
            return;
        }
        let mut index = OrderedIndex::new(shape.clone());
        self.by_number.values().for_each(|document| index.insert(document));
        self.indexes.insert(0, index);
        self.indexes.truncate(MAX_INDEXES_PER_CONTAINER);
    }

    /// Puts an item in place of the one that has its id; returns that one.
    fn put(&mut self, document: Arc<Document>) -> Option<Arc<Document>> {
        let place = self.place(&document);
        let at = (place.0, place.1);
        let old = self.find_at(at, &document.partition.key, &document.id).cloned();
        old.iter().for_each(|old| self.take(old));
        self.next_number = self.next_number.max(document.number + 1);
        for values in self.stored_unique_values(&document) {
            self.unique.insert(unique_place(&document.partition.key, &values), document.number);
        }
        if let Some(deadline) = document.deadline(self.settings.default_ttl) {
            self.expiring.insert((deadline, document.number));
        }
        self.indexes.iter_mut().for_each(|index| index.insert(&document));
        self.by_key.insert(place, document.clone());
        self.by_number.insert(document.number, document.clone());
        self.feed.insert((document.lsn, document.ordinal), document);
        old
    }

    fn take(&mut self, document: &Document) {
        document.text.supersede();
        self.indexes.iter_mut().for_each(|index| index.remove(document));
        self.by_key.remove(&self.place(document));
        self.by_number.remove(&document.number);
        self.feed.remove(&(document.lsn, document.ordinal));
        if let Some(deadline) = document.deadline(self.settings.default_ttl) {
            self.expiring.remove(&(deadline, document.number));
        }
        for values in self.stored_unique_values(document) {
            // Within one batch another item may have taken the values over already.
            let place = unique_place(&document.partition.key, &values);
            if let Entry::Occupied(owner) = self.unique.entry(place)
                && *owner.get() == document.number
            {
                owner.remove();
            }
        }
    }

    fn stored_unique_values(&self, document: &Document) -> Vec<Vec<u8>> {
        if self.settings.unique_keys.is_empty() {
            return Vec::new();
        }
        let item = serde_json::from_slice(&document.text.read()).unwrap_or(Value::Null);
        self.unique_values(&item)
    }
}

/// What unique key values are known by: they are unique within a partition only.
fn unique_place(key: &PartitionKey, values: &[u8]) -> Vec<u8> {
    let mut place = Vec::with_capacity(values.len() + 32);
    key.encode(&mut place);
    place.extend_from_slice(values);
    place
}

/// Checks the id of a database or container.
pub(super) fn checked_resource_id(id: &str) -> Result<String, StoreError> {
    if id.is_empty()
        || id.len() > MAX_RESOURCE_ID_BYTES
        || id.contains(['/', '\\', '?', '#'])
        || id.ends_with(' ')
    {
        return Err(StoreError::bad(
            "an id must have 1 to 255 bytes, none of / \\ ? # and no space at the end",
        ));
    }
    Ok(id.to_owned())
}
