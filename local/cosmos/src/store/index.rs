//! Ordered secondary indexes of a container.
//!
//! The service indexes every property. Here an index comes into being with the first query that can
//! use it: equality on some properties, then the order of one more. It answers "the newest twenty
//! of this kind" by looking at twenty documents, however many there are.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use serde_json::Value;

use super::document::Document;
use super::partition::{Partition, Path, lookup};
use crate::sql::{Needs, order};

/// What an index is about.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Shape {
    /// Entries are grouped by logical partition first.
    pub(crate) by_partition: bool,
    /// Properties compared for equality. Documents that lack one have no entry.
    pub(crate) equal: Vec<Path>,
    /// The property that orders the entries.
    pub(crate) ordered: Option<Path>,
}

/// An index with its entries.
#[derive(Debug)]
pub(crate) struct OrderedIndex {
    pub(crate) shape: Shape,
    needs: Needs,
    entries: BTreeMap<Vec<u8>, Arc<Document>>,
}

/// A stretch of an index in which to look.
#[derive(Debug, Clone)]
pub(crate) struct Stretch {
    pub(crate) shape: Shape,
    /// The encoded values before the order: partition, then equalities.
    pub(crate) prefix: Vec<u8>,
    /// Bounds on the encoded order.
    pub(crate) low: Bound<Vec<u8>>,
    pub(crate) high: Bound<Vec<u8>>,
    pub(crate) descending: bool,
    /// Whether everything in it passes the filter of the query.
    pub(crate) covers_filter: bool,
}

impl Shape {
    pub(crate) fn paths(&self) -> impl Iterator<Item = &Path> {
        self.equal.iter().chain(&self.ordered)
    }
}

impl OrderedIndex {
    pub(crate) fn new(shape: Shape) -> Self {
        let mut needs = Needs::none();
        for path in shape.paths() {
            path.first().into_iter().for_each(|name| needs.add_property(name));
        }
        Self { shape, needs, entries: BTreeMap::new() }
    }

    pub(crate) fn insert(&mut self, document: &Arc<Document>) {
        if let Some(key) = self.key(document) {
            self.entries.insert(key, document.clone());
        }
    }

    pub(crate) fn remove(&mut self, document: &Document) {
        if let Some(key) = self.key(document) {
            self.entries.remove(&key);
        }
    }

    /// Up to `limit` documents of `stretch` after the position `(order key, number)`.
    pub(crate) fn scan(
        &self,
        stretch: &Stretch,
        after: Option<(&[u8], u64)>,
        limit: usize,
    ) -> Vec<Arc<Document>> {
        let place = |order: &[u8], number: &[u8]| [&stretch.prefix, order, number].concat();
        // Numbers end every key, so 8 bytes of 0xFF and one more lie behind all of them.
        let behind = |order: &[u8]| place(order, &[0xFF; 9]);
        let mut low = match &stretch.low {
            Bound::Included(order) => Bound::Included(place(order, &[])),
            Bound::Excluded(order) => Bound::Excluded(behind(order)),
            Bound::Unbounded => Bound::Included(stretch.prefix.clone()),
        };
        let mut high = match &stretch.high {
            Bound::Included(order) => Bound::Excluded(behind(order)),
            Bound::Excluded(order) => Bound::Excluded(place(order, &[])),
            // No encoded value starts with 0xFF, and no number is the greatest.
            Bound::Unbounded => Bound::Excluded(place(&[0xFF; 9], &[])),
        };
        if let Some((order, number)) = after {
            let at = Bound::Excluded(place(order, &number.to_be_bytes()));
            if stretch.descending {
                high = tighter(high, at, true);
            } else {
                low = tighter(low, at, false);
            }
        }
        if is_empty(&low, &high) {
            return Vec::new();
        }
        let range = self.entries.range((low, high)).map(|(_, document)| document.clone());
        match stretch.descending {
            true => range.rev().take(limit).collect(),
            false => range.take(limit).collect(),
        }
    }

    fn key(&self, document: &Document) -> Option<Vec<u8>> {
        let item = match self.shape.paths().next() {
            Some(_) => self.needs.read(&document.text.read())?,
            None => Value::Null,
        };
        let mut key = Vec::with_capacity(64);
        if self.shape.by_partition {
            partition_prefix(&document.partition, &mut key);
        }
        for path in &self.shape.equal {
            order::encode(Some(lookup(&item, path)?), &mut key);
        }
        if let Some(path) = &self.shape.ordered {
            order::encode(lookup(&item, path), &mut key);
        }
        key.extend_from_slice(&document.number.to_be_bytes());
        Some(key)
    }
}

/// Appends what stands for a partition in a key. The hash alone is not unique, and need not be:
/// the query still checks the partition of what it finds.
pub(crate) fn partition_prefix(partition: &Partition, key: &mut Vec<u8>) {
    key.extend_from_slice(&(partition.epk.len() as u32).to_be_bytes());
    key.extend_from_slice(&partition.epk);
}

fn bytes(bound: &Bound<Vec<u8>>) -> Option<&Vec<u8>> {
    match bound {
        Bound::Included(bytes) | Bound::Excluded(bytes) => Some(bytes),
        Bound::Unbounded => None,
    }
}

fn tighter(a: Bound<Vec<u8>>, b: Bound<Vec<u8>>, lower: bool) -> Bound<Vec<u8>> {
    match (bytes(&a), bytes(&b)) {
        (Some(x), Some(y)) if (x < y) == lower && x != y => a,
        _ => b,
    }
}

/// `BTreeMap::range` panics on these.
fn is_empty(low: &Bound<Vec<u8>>, high: &Bound<Vec<u8>>) -> bool {
    match (low, high) {
        (Bound::Included(low), Bound::Included(high)) => low > high,
        (low, high) => bytes(low).zip(bytes(high)).is_some_and(|(low, high)| low >= high),
    }
}
