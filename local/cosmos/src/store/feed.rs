//! The change feed: the latest version of every item, in the order of their last writes.
//!
//! Specified by <https://learn.microsoft.com/azure/cosmos-db/nosql/change-feed-modes> (latest
//! version mode). Deleted and expired items are absent. A commit is never split over two pages, so
//! that a position is just a log sequence number.

use std::sync::Arc;

use super::StoreError;
use super::container::Container;
use super::document::Document;
use super::epk;
use super::history;
use super::partition::{Partition, PartitionKey};
use crate::limits::MAX_PAGE_BYTES;

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With the oldest change.
    Beginning,
    /// With the first change after now.
    Now,
    /// With changes at or after this epoch second.
    Time(u64),
    /// After this log sequence number.
    After(u64),
}

/// Which items to look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All of them.
    All,
    /// Those of one logical partition.
    Partition(PartitionKey),
    /// Those of a hierarchical key's leading components.
    Prefix(PartitionKey),
    /// Those whose effective partition key lies in `[min, max)`.
    Range {
        /// First key in the range.
        min: Vec<u8>,
        /// First key after the range.
        max: Vec<u8>,
    },
}

/// Some changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The changed items, oldest change first. Empty when there is nothing new.
    pub documents: Vec<Arc<Document>>,
    /// The position after these changes.
    pub position: u64,
}

impl Scope {
    /// Whether `document` is in it.
    pub(crate) fn contains(&self, document: &Document) -> bool {
        self.covers(&document.partition)
    }

    /// Whether the items of this partition are in it.
    pub(super) fn covers(&self, own: &Partition) -> bool {
        match self {
            Self::All => true,
            Self::Partition(key) => own.key == *key,
            Self::Prefix(key) => own.key.0.starts_with(&key.0),
            Self::Range { min, max } => epk::contains(min, max, &own.epk),
        }
    }
}

/// Up to about `limit` changes, more if a single commit has more.
pub fn read(container: &Container, scope: &Scope, start: Start, limit: usize, now_ms: u64) -> Page {
    let after = match start {
        Start::Beginning => 0,
        Start::Now => return Page { documents: Vec::new(), position: container.lsn() },
        Start::After(lsn) => lsn,
        Start::Time(second) => {
            let first = container.seconds.range(second..).next();
            first.map_or(container.lsn(), |(_, lsn)| lsn - 1)
        }
    };
    if let Scope::Partition(key) = scope {
        let newer = container.partition_items(key).filter(|document| document.lsn > after);
        let mut newer: Vec<_> = newer.collect();
        newer.sort_unstable_by_key(|document| (document.lsn, document.ordinal));
        return page(container, newer.into_iter(), scope, after, limit, now_ms);
    }
    let newer = container.feed.range((after.saturating_add(1), 0)..).map(|(_, document)| document);
    page(container, newer, scope, after, limit, now_ms)
}

/// Up to about `limit` changes of every kind, more if a single commit has more.
///
/// # Errors
/// [`StoreError::BadRequest`] when it should begin with what is not kept.
pub(crate) fn read_all_versions(
    container: &Container,
    scope: &Scope,
    start: Start,
    limit: usize,
    now_ms: u64,
) -> Result<history::Page, StoreError> {
    let after = match start {
        Start::Now => container.lsn(),
        Start::After(lsn) => lsn,
        Start::Beginning | Start::Time(_) => {
            return Err(StoreError::bad(
                "the change feed of all versions and deletes starts from now or from a \
                 continuation, not from the beginning or from a time",
            ));
        }
    };
    let oldest_ms = now_ms.saturating_sub(container.settings().retention_ms);
    container.history.read(scope, after, limit, oldest_ms, container.lsn())
}

fn page<'a>(
    container: &Container,
    newer: impl Iterator<Item = &'a Arc<Document>>,
    scope: &Scope,
    after: u64,
    limit: usize,
    now_ms: u64,
) -> Page {
    let mut page = Page { documents: Vec::new(), position: after };
    let mut bytes = 0;
    for document in newer {
        let full = page.documents.len() >= limit || bytes >= MAX_PAGE_BYTES;
        if full && document.lsn != page.position {
            return page;
        }
        page.position = document.lsn;
        if scope.contains(document) && container.is_live(document, now_ms) {
            bytes += document.text.len();
            page.documents.push(document.clone());
        }
    }
    // Everything up to now has been seen, deletions included. A position from the future (of a
    // container that was recreated) stays where it is.
    page.position = after.max(container.lsn());
    page
}
