//! A stored item: its text with the system properties, and what must be known without reading it.

use std::sync::Arc;

use super::partition::Partition;
use super::text::Text;

/// A committed item. Never changes; a write makes a new one.
#[derive(Debug, PartialEq, Eq)]
pub struct Document {
    /// The logical partition.
    pub partition: Arc<Partition>,
    /// The id, unique within the partition.
    pub id: Arc<str>,
    /// The number behind `_rid`; stays through replacements, grows with creation.
    pub number: u64,
    /// The commit of the container that wrote this version.
    pub lsn: u64,
    /// The commit of the account that wrote it; what its durability is measured by.
    pub sequence: u64,
    /// That of the store; keeps its ETags apart from those of other stores.
    pub incarnation: u64,
    /// Position among the writes of that commit.
    pub ordinal: u32,
    /// When it was written, epoch seconds: `_ts`.
    pub ts: u64,
    /// Its own `ttl`.
    pub ttl: Option<i32>,
    /// Whether this version is the item's first.
    pub created: bool,
    /// The JSON text, system properties included.
    pub text: Text,
}

impl Document {
    /// `_etag`, with its quotes.
    pub fn etag(&self) -> String {
        etag(self.incarnation, self.lsn, self.ordinal)
    }

    /// The epoch second from which it no longer exists, given the container's default.
    /// `None` means never.
    pub fn deadline(&self, default_ttl: Option<i64>) -> Option<u64> {
        // Without a default the container ignores what items say.
        let ttl = self.ttl.map_or(default_ttl?, i64::from);
        u64::try_from(ttl).ok().map(|ttl| self.ts.saturating_add(ttl))
    }

    /// Whether it still exists at `now_ms`.
    pub fn is_live(&self, default_ttl: Option<i64>, now_ms: u64) -> bool {
        self.deadline(default_ttl).is_none_or(|deadline| deadline.saturating_mul(1000) > now_ms)
    }

    /// Whether an `If-Match` or `If-None-Match` value names this version. Quotes are optional.
    pub fn matches(&self, etag: &str) -> bool {
        let bare = |text: &str| text.trim().trim_start_matches("W/").trim_matches('"').to_owned();
        etag.trim() == "*" || bare(etag) == bare(&self.etag())
    }
}

/// The ETag of the version that write `ordinal` of commit `lsn` made.
pub(super) fn etag(incarnation: u64, lsn: u64, ordinal: u32) -> String {
    format!(
        "\"{:08x}-{:04x}-{:04x}-{:04x}-{:012x}\"",
        incarnation as u32,
        (incarnation >> 32) as u16,
        (incarnation >> 48) as u16,
        ordinal as u16,
        lsn & 0xFFFF_FFFF_FFFF,
    )
}
