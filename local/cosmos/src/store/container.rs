//! A container: its settings, its items, and everything that is kept in order about them.
//!
//! Readers get committed documents by reference count. Changes come in as finished writes; deciding
//! them is the business of [`super::transaction`].

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::StoreError;
use super::commit::Write;
use super::document::Document;
use super::index::{OrderedIndex, Shape};
use super::partition::{Definition, Partition, PartitionKey, Path, lookup, parse_path};
use super::rid::ContainerRid;
use crate::limits::{
    MAX_FEED_SECONDS, MAX_INDEXES_PER_CONTAINER, MAX_RESOURCE_ID_BYTES, MAX_UNIQUE_KEY_PATHS,
    MAX_UNIQUE_KEYS,
};
use crate::sql::order;

/// What a container was declared to be.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Its id, unique within the database.
    pub id: String,
    /// Where the partition key of an item is.
    pub partition_key: Definition,
    /// Seconds that items live; -1 for ever unless they say otherwise, `None` for ever.
    pub default_ttl: Option<i64>,
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
    partitions: HashMap<PartitionKey, Contents>,
    by_number: BTreeMap<u64, Arc<Document>>,
    /// Latest versions in the order in which they were written.
    pub(super) feed: BTreeMap<(u64, u32), Arc<Document>>,
    /// The first change of every second in which there was one.
    pub(super) seconds: BTreeMap<u64, u64>,
    /// Deadlines of the items that have one.
    expiring: BTreeSet<(u64, u64)>,
    /// Newest first; the oldest goes when there are too many.
    indexes: Vec<OrderedIndex>,
}

/// What one logical partition holds.
#[derive(Debug)]
struct Contents {
    partition: Arc<Partition>,
    items: BTreeMap<Arc<str>, Arc<Document>>,
    /// Encoded unique key values, to the number of the item that has them.
    unique: HashMap<Vec<u8>, u64>,
}

impl Settings {
    /// Reads a declaration and fills in the defaults of the service.
    ///
    /// # Errors
    /// [`StoreError::BadRequest`].
    pub fn parse(declared: &Map<String, Value>) -> Result<Self, StoreError> {
        let id = super::resource_id(declared)?;
        let partition_key = Definition::parse(declared.get("partitionKey"))?;
        let default_ttl = match declared.get("defaultTtl") {
            None | Some(Value::Null) => None,
            Some(ttl) => Some(
                ttl.as_i64()
                    .filter(|ttl| *ttl == -1 || (1..=i64::from(i32::MAX)).contains(ttl))
                    .ok_or_else(|| StoreError::bad("defaultTtl must be -1 or positive"))?,
            ),
        };
        let unique_keys = unique_keys(declared)?;
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
        Ok(Self { id, partition_key, default_ttl, unique_keys, properties })
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
            partitions: HashMap::new(),
            by_number: BTreeMap::new(),
            feed: BTreeMap::new(),
            seconds: BTreeMap::new(),
            expiring: BTreeSet::new(),
            indexes: Vec::new(),
        }
    }

    /// Its number.
    pub fn rid(&self) -> ContainerRid {
        self.rid
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
        let document = self.partitions.get(key)?.items.get(id)?;
        self.is_live(document, now_ms).then_some(document)
    }

    /// The item with this number, if it exists at `now_ms`.
    pub fn get_by_number(&self, number: u64, now_ms: u64) -> Option<&Arc<Document>> {
        self.by_number.get(&number).filter(|document| self.is_live(document, now_ms))
    }

    pub(crate) fn is_live(&self, document: &Document, now_ms: u64) -> bool {
        document.is_live(self.settings.default_ttl, now_ms)
    }

    pub(super) fn partition(&self, key: &PartitionKey) -> Option<&Arc<Partition>> {
        self.partitions.get(key).map(|contents| &contents.partition)
    }

    pub(super) fn partition_len(&self, key: &PartitionKey) -> usize {
        self.partitions.get(key).map_or(0, |contents| contents.items.len())
    }

    /// The items of one partition, in no particular order.
    pub(super) fn partition_items(
        &self,
        key: &PartitionKey,
    ) -> impl Iterator<Item = &Arc<Document>> {
        self.partitions.get(key).into_iter().flat_map(|contents| contents.items.values())
    }

    /// All items created after `number`, in the order of their creation.
    pub(super) fn items_after(&self, number: u64) -> impl Iterator<Item = &Arc<Document>> {
        self.by_number.range(number.saturating_add(1)..).map(|(_, document)| document)
    }

    /// The number of the item that has these unique key values.
    pub(super) fn unique_owner(&self, key: &PartitionKey, values: &[u8]) -> Option<u64> {
        self.partitions.get(key)?.unique.get(values).copied()
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
    pub(super) fn apply(&mut self, lsn: u64, at_ms: u64, writes: &[Write]) {
        self.lsn = lsn;
        self.seconds.entry(at_ms / 1000).or_insert(lsn);
        if self.seconds.len() > MAX_FEED_SECONDS {
            self.seconds.pop_first();
        }
        for write in writes {
            match write {
                Write::Put(document) => self.put(document.clone()),
                Write::Remove { partition, id } => {
                    let found = self.partitions.get(&partition.key);
                    if let Some(document) = found.and_then(|p| p.items.get(id)).cloned() {
                        self.take(&document);
                    }
                }
            }
        }
    }

    /// Removes what has expired by `now_ms`, at most `limit` items; returns how many.
    pub(super) fn sweep(&mut self, now_ms: u64, limit: usize) -> usize {
        let mut swept = 0;
        while swept < limit
            && let Some((deadline, number)) = self.expiring.first().copied()
            && deadline.saturating_mul(1000) <= now_ms
        {
            match self.by_number.get(&number).cloned() {
                Some(document) => self.take(&document),
                None => drop(self.expiring.pop_first()),
            }
            swept += 1;
        }
        swept
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

    fn put(&mut self, document: Arc<Document>) {
        let key = &document.partition.key;
        let old = self.partitions.get(key).and_then(|p| p.items.get(&document.id)).cloned();
        if let Some(old) = old {
            self.take(&old);
        }
        self.next_number = self.next_number.max(document.number + 1);
        let unique = match self.settings.unique_keys.is_empty() {
            true => Vec::new(),
            false => self.stored_unique_values(&document),
        };
        let contents = self.partitions.entry(key.clone()).or_insert_with(|| Contents {
            partition: document.partition.clone(),
            items: BTreeMap::new(),
            unique: HashMap::new(),
        });
        contents.items.insert(document.id.clone(), document.clone());
        contents.unique.extend(unique.into_iter().map(|values| (values, document.number)));
        if let Some(deadline) = document.deadline(self.settings.default_ttl) {
            self.expiring.insert((deadline, document.number));
        }
        self.indexes.iter_mut().for_each(|index| index.insert(&document));
        self.by_number.insert(document.number, document.clone());
        self.feed.insert((document.lsn, document.ordinal), document);
    }

    fn take(&mut self, document: &Document) {
        self.indexes.iter_mut().for_each(|index| index.remove(document));
        self.by_number.remove(&document.number);
        self.feed.remove(&(document.lsn, document.ordinal));
        if let Some(deadline) = document.deadline(self.settings.default_ttl) {
            self.expiring.remove(&(deadline, document.number));
        }
        let unique = match self.settings.unique_keys.is_empty() {
            true => Vec::new(),
            false => self.stored_unique_values(document),
        };
        let key = &document.partition.key;
        let Some(contents) = self.partitions.get_mut(key) else { return };
        contents.items.remove(&document.id);
        for values in unique {
            // Within one batch another item may have taken the values over already.
            if let Entry::Occupied(owner) = contents.unique.entry(values)
                && *owner.get() == document.number
            {
                owner.remove();
            }
        }
        if contents.items.is_empty() {
            self.partitions.remove(key);
        }
    }

    fn stored_unique_values(&self, document: &Document) -> Vec<Vec<u8>> {
        let item = serde_json::from_slice(&document.text).unwrap_or(Value::Null);
        self.unique_values(&item)
    }
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
