//! A stored item: its text with the system properties, and what must be known without reading it.

use std::sync::Arc;

use bytes::Bytes;

use super::partition::Partition;

/// A committed item. Never changes; a write makes a new one.
#[derive(Debug, PartialEq, Eq)]
pub struct Document {
    /// The logical partition.
    pub partition: Arc<Partition>,
    /// The id, unique within the partition.
    pub id: Arc<str>,
    /// The number behind `_rid`; stays through replacements, grows with creation.
    pub number: u64,
    /// The commit that wrote this version.
    pub lsn: u64,
    /// Position among the writes of that commit.
    pub ordinal: u32,
    /// When it was written, epoch seconds: `_ts`.
    pub ts: u64,
    /// Its own `ttl`.
    pub ttl: Option<i64>,
    /// `_etag`, with its quotes.
    pub etag: Box<str>,
    /// The JSON text, system properties included.
    pub text: Bytes,
}

impl Document {
    /// The epoch second from which it no longer exists, given the container's default.
    /// `None` means never.
    pub fn deadline(&self, default_ttl: Option<i64>) -> Option<u64> {
        // Without a default the container ignores what items say.
        let ttl = self.ttl.unwrap_or(default_ttl?);
        default_ttl?;
        u64::try_from(ttl).ok().map(|ttl| self.ts.saturating_add(ttl))
    }

    /// Whether it still exists at `now_ms`.
    pub fn is_live(&self, default_ttl: Option<i64>, now_ms: u64) -> bool {
        self.deadline(default_ttl).is_none_or(|deadline| deadline.saturating_mul(1000) > now_ms)
    }

    /// Whether an `If-Match` or `If-None-Match` value names this version. Quotes are optional.
    pub fn matches(&self, etag: &str) -> bool {
        let bare = |text: &str| text.trim().trim_start_matches("W/").trim_matches('"').to_owned();
        etag.trim() == "*" || bare(etag) == bare(&self.etag)
    }
}
