//! Getting rid of the oldest file.
//!
//! Only ever the oldest: then a removal can be forgotten as soon as its file goes, because no older
//! file is left that could hold what it removed.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use super::codec::{self, Record, Stored};
use super::frame::{self, HEADER_BYTES, Next};
use super::segment::{HEAD_BYTES, Segment};
use super::writer::{Shared, lock};
use super::{StorageError, catalogue, place};
use crate::limits::MAX_KEPT_BYTES;
use crate::store::{Container, ContainerRid, Document, LogError, Store};

/// Gives up old files of a log.
pub(crate) struct Compactor {
    shared: Arc<Shared>,
}

/// How large a log is and how much it did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LogStats {
    pub(crate) files: usize,
    pub(crate) bytes: u64,
    /// Bytes of texts that are current.
    pub(crate) live_bytes: u64,
    /// Records synced since the start, and the groups that they were synced in.
    pub(crate) records: u64,
    pub(crate) syncs: u64,
}

/// An item of the oldest file, by where it was found.
struct Candidate {
    container: ContainerRid,
    number: u64,
    text_at: u32,
    text_len: u32,
}

impl Compactor {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// How the log stands.
    pub(crate) fn stats(&self) -> LogStats {
        let (records, syncs) = self.shared.synced();
        let segments = lock(&self.shared.segments);
        let length = |s: &Arc<Segment>| std::fs::metadata(&s.path).map_or(0, |m| m.len());
        LogStats {
            files: segments.len(),
            bytes: segments.iter().map(length).sum(),
            live_bytes: segments.iter().map(|segment| segment.live_bytes()).sum(),
            records,
            syncs,
        }
    }

    /// Whether so much is out of date that the oldest file should go.
    pub(crate) fn is_wanted(&self) -> bool {
        let stats = self.stats();
        stats.files > 1
            && stats.bytes > 2 * stats.live_bytes + self.shared.settings.sizes.outdated_bytes
    }

    /// Appends again what is current in the oldest file, then deletes the file. Blocks.
    ///
    /// # Errors
    /// [`StorageError`]; the file is then still there.
    pub(crate) fn run(&self, store: &RwLock<Store>, now_ms: u64) -> Result<(), StorageError> {
        let oldest = {
            let segments = lock(&self.shared.segments);
            match segments.as_slice() {
                [oldest, _, ..] => oldest.clone(),
                _ => return Ok(()),
            }
        };
        let io = |error| StorageError::io(&oldest.path, error);
        let refused = |error: LogError| io(std::io::Error::other(error));
        // A file that has just been filled may not have been written yet.
        self.shared.flushed().map_err(refused)?;
        let candidates = candidates(&oldest)?;
        let mut rest = candidates.as_slice();
        while !rest.is_empty() {
            let store = store.read().unwrap_or_else(PoisonError::into_inner);
            rest = self.keep_some(&store, &oldest, rest, now_ms).map_err(refused)?;
        }
        {
            let store = store.read().unwrap_or_else(PoisonError::into_inner);
            let sequence = store.sequence();
            let floor = |c: &Container| (c.rid(), c.lsn(), c.next_number);
            let floors: Vec<_> = store.all_containers().map(floor).collect();
            self.shared
                .append(sequence, |out| codec::write_floors(sequence, &floors, out))
                .map_err(refused)?;
        }
        self.shared.flushed().map_err(refused)?;
        {
            let mut known = lock(&self.shared.catalogue);
            known.first_segment = oldest.number + 1;
            known.save(&self.shared.directory).map_err(io)?;
        }
        lock(&self.shared.segments).retain(|segment| segment.number != oldest.number);
        std::fs::remove_file(&oldest.path).map_err(io)?;
        catalogue::sync_directory(&self.shared.directory).map_err(io)?;
        tracing::debug!(path = %oldest.path.display(), "gave up the oldest file of the log");
        Ok(())
    }

    /// Appends what is current among the first of `candidates`; returns the others. No write can
    /// come between looking and appending: `store` is locked.
    fn keep_some<'a>(
        &self,
        store: &Store,
        oldest: &Arc<Segment>,
        candidates: &'a [Candidate],
        now_ms: u64,
    ) -> Result<&'a [Candidate], LogError> {
        let (mut bytes, mut taken) = (0, 0);
        let mut kept: BTreeMap<ContainerRid, Vec<Arc<Document>>> = BTreeMap::new();
        for candidate in candidates {
            if bytes >= MAX_KEPT_BYTES {
                break;
            }
            taken += 1;
            let Ok(container) = store.container_at(candidate.container) else { continue };
            let found = container.get_by_number(candidate.number, now_ms);
            let current = found.filter(|d| d.text.is_at(oldest, candidate.text_at));
            if let Some(document) = current {
                bytes += candidate.text_len as usize;
                kept.entry(candidate.container).or_default().push(document.clone());
            }
        }
        for (rid, documents) in kept {
            let (position, texts) =
                self.shared.append(0, |out| codec::write_kept(rid, &documents, out))?;
            for (document, text) in documents.iter().zip(texts) {
                document.text.set_place(place(&position, &text));
            }
        }
        Ok(&candidates[taken..])
    }
}

/// Every item that was put in a file, whether current or not.
fn candidates(segment: &Segment) -> Result<Vec<Candidate>, StorageError> {
    let corrupt = |at: usize, what: &str| StorageError::Corrupt {
        path: segment.path.clone(),
        offset: at as u64,
        what: what.to_owned(),
    };
    let bytes = segment.read_all().map_err(|error| StorageError::io(&segment.path, error))?;
    let (mut at, mut found) = (HEAD_BYTES, Vec::new());
    loop {
        let payload = match frame::next(&bytes, at) {
            Next::Frame(payload) => payload,
            Next::End => return Ok(found),
            Next::Torn => return Err(corrupt(at, "a record is cut off")),
            Next::Damaged(what) => return Err(corrupt(at, what)),
        };
        let base = at + HEADER_BYTES;
        let mut add = |container, item: codec::StoredItem<'_>| {
            found.push(Candidate {
                container,
                number: item.number,
                text_at: (base + item.text_at) as u32,
                text_len: item.text_len,
            });
        };
        match codec::read(payload) {
            Some(Record::Commit { container, writes, .. }) => {
                for write in writes {
                    if let Stored::Put(item) = write {
                        add(container, item);
                    }
                }
            }
            Some(Record::Kept { container, versions }) => {
                versions.into_iter().for_each(|version| add(container, version.item));
            }
            Some(Record::Floors { .. } | Record::Expire { .. }) => {}
            None => return Err(corrupt(at, "a record of an unknown form")),
        }
        at = base + payload.len();
    }
}
