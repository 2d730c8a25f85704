//! Every version of a container's items and every deletion, for a while: what the change feed reads
//! in the mode of all versions and deletes
//! (<https://learn.microsoft.com/azure/cosmos-db/nosql/change-feed-modes>).
//!
//! It has no record of its own in the log: replaying commits makes it again, as far back as commits
//! are there. Where it does not reach it says so, and never leaves anything out.

use std::collections::VecDeque;
use std::sync::Arc;

use super::StoreError;
use super::document::Document;
use super::feed::Scope;
use super::partition::Partition;
use crate::limits::{MAX_HISTORY_BYTES, MAX_HISTORY_VERSIONS, MAX_PAGE_BYTES};

/// What happened to an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// It came into being.
    Created,
    /// It has another version.
    Replaced,
    /// It is gone: somebody deleted it, or it has expired.
    Deleted {
        /// Its time to live was over.
        expired: bool,
    },
}

/// One change of one item.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) event: Event,
    /// The commit of the container.
    pub(crate) lsn: u64,
    /// When, epoch milliseconds.
    pub(crate) at_ms: u64,
    pub(crate) partition: Arc<Partition>,
    pub(crate) id: Arc<str>,
    /// The new version, or the one that was deleted; the latter may not be known any more.
    pub(crate) document: Option<Arc<Document>>,
    /// The commit of the version before.
    pub(crate) previous_lsn: Option<u64>,
}

/// Some changes.
#[derive(Debug)]
pub(crate) struct Page {
    /// Oldest first.
    pub(crate) versions: Vec<Version>,
    /// The position after these changes.
    pub(crate) position: u64,
}

/// The changes of a container that are kept.
#[derive(Debug, Default)]
pub(super) struct History {
    versions: VecDeque<Version>,
    /// Everything after this commit is there.
    floor: u64,
    /// The last commit that was taken in.
    reached: u64,
    /// Bytes of the texts of [`History::versions`].
    bytes: usize,
}

impl History {
    /// Begins with the changes of commit `lsn`. If it does not follow the last one, something is
    /// missing in between, and what was before is of no use.
    pub(super) fn begin(&mut self, lsn: u64) {
        if lsn != self.reached + 1 {
            self.versions.clear();
            (self.bytes, self.floor) = (0, lsn.saturating_sub(1));
        }
        self.reached = lsn;
    }

    /// Takes in one change of the commit that was begun.
    pub(super) fn push(&mut self, version: Version) {
        self.bytes += text_bytes(&version);
        self.versions.push_back(version);
    }

    /// Gives up what is older than `oldest_ms`, and what is too much, by whole commits.
    pub(super) fn trim(&mut self, oldest_ms: u64) {
        while let Some(first) = self.versions.front()
            && (first.at_ms < oldest_ms
                || self.versions.len() > MAX_HISTORY_VERSIONS
                || self.bytes > MAX_HISTORY_BYTES)
        {
            self.floor = first.lsn;
            while let Some(gone) = self.versions.pop_front_if(|version| version.lsn == self.floor) {
                self.bytes -= text_bytes(&gone);
            }
        }
    }

    /// Up to about `limit` changes after commit `after` that are not older than `oldest_ms`, more
    /// if a single commit has more. `lsn` is the latest commit of the container.
    ///
    /// # Errors
    /// [`StoreError::BadRequest`] when changes after `after` are not kept any more.
    pub(super) fn read(
        &self,
        scope: &Scope,
        after: u64,
        limit: usize,
        oldest_ms: u64,
        lsn: u64,
    ) -> Result<Page, StoreError> {
        let outdated = self.versions.partition_point(|version| version.at_ms < oldest_ms);
        let floor = match outdated.checked_sub(1).and_then(|last| self.versions.get(last)) {
            Some(last) => last.lsn,
            None if self.reached < lsn => lsn,
            None => self.floor,
        };
        if after < floor {
            return Err(StoreError::bad(
                "the position lies before what the change feed keeps of all versions and deletes; \
                 start from now",
            ));
        }
        let (mut page, mut bytes) = (Page { versions: Vec::new(), position: after }, 0);
        let start = self.versions.partition_point(|version| version.lsn <= after);
        for version in self.versions.range(start..) {
            let full = page.versions.len() >= limit || bytes >= MAX_PAGE_BYTES;
            if full && version.lsn != page.position {
                return Ok(page);
            }
            page.position = version.lsn;
            if scope.covers(&version.partition) {
                bytes += text_bytes(version);
                page.versions.push(version.clone());
            }
        }
        page.position = after.max(lsn);
        Ok(page)
    }
}

fn text_bytes(version: &Version) -> usize {
    version.document.as_ref().map_or(0, |document| document.text.len())
}
