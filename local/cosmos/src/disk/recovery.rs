//! Reading everything back.

use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};

use super::catalogue::{Catalogue, sync_directory};
use super::codec::{self, Record, Stored, StoredItem};
use super::frame::{self, HEADER_BYTES, Next};
use super::health::Health;
use super::segment::{HEAD_BYTES, Segment, head, number};
use super::writer::Shared;
use super::{Sizes, StorageError};
use crate::store::{
    Change, Commit, ContainerRid, DatabaseRid, Document, Partition, Place, Store, Text, Volatile,
    Write,
};

/// Files read ahead of the one that is being applied.
const READ_AHEAD_FILES: usize = 1;

/// The store as the directory has it, and the log to go on with.
pub(super) fn recover(
    directory: &Path,
    incarnation: u64,
    sizes: Sizes,
) -> Result<(Store, Shared), StorageError> {
    let io = |error| StorageError::io(directory, error);
    let health = Arc::new(Health::new());
    let catalogue = match Catalogue::load(directory)? {
        Some(catalogue) => catalogue,
        None => {
            if let Some(orphan) = files(directory)?.first() {
                let what = format!("there is a log ({orphan:012}.log) but no catalogue");
                return Err(StorageError::Corrupt { path: directory.to_owned(), offset: 0, what });
            }
            let catalogue = Catalogue::new(incarnation);
            catalogue.save(directory).map_err(io)?;
            catalogue
        }
    };
    let mut store = Store::new(catalogue.incarnation, Box::new(Volatile));
    restore_catalogue(&mut store, &catalogue);
    let segments = open_files(directory, &catalogue, &health)?;
    let end = replay(&mut store, &segments, catalogue.incarnation)?;
    let (mut segments, mut end) = (segments, end);
    if segments.is_empty() {
        let first = Segment::create(directory, catalogue.first_segment, health.clone());
        segments.push(Arc::new(first.map_err(io)?));
        end = HEAD_BYTES as u64;
    }
    sync_directory(directory).map_err(io)?;
    health.advance(store.sequence());
    let Some(current) = segments.last().cloned() else {
        return Err(io(std::io::Error::other("no file to write to")));
    };
    let shared =
        Shared::new(directory.to_owned(), sizes, health, catalogue, segments, current, end);
    Ok((store, shared))
}

/// The numbers of the files of the log, in order.
fn files(directory: &Path) -> Result<Vec<u64>, StorageError> {
    let io = |error| StorageError::io(directory, error);
    let mut numbers = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        numbers.extend(name.to_str().and_then(number));
    }
    numbers.sort_unstable();
    Ok(numbers)
}

fn open_files(
    directory: &Path,
    catalogue: &Catalogue,
    health: &Arc<Health>,
) -> Result<Vec<Arc<Segment>>, StorageError> {
    let mut expected = catalogue.first_segment;
    let mut segments = Vec::new();
    for number in files(directory)? {
        let opened = Segment::open(directory, number, health.clone());
        let segment = opened.map_err(|error| StorageError::io(directory, error))?;
        if number < catalogue.first_segment {
            // Given up already; the process ended before the file was gone.
            std::fs::remove_file(&segment.path)
                .map_err(|error| StorageError::io(&segment.path, error))?;
            continue;
        }
        if number != expected {
            return Err(StorageError::Corrupt {
                path: directory.to_owned(),
                offset: 0,
                what: format!("{expected:012}.log is missing"),
            });
        }
        expected += 1;
        segments.push(Arc::new(segment));
    }
    Ok(segments)
}

fn restore_catalogue(store: &mut Store, catalogue: &Catalogue) {
    let mut changes = Vec::new();
    for entry in &catalogue.databases {
        let change = Change::CreateDatabase { rid: DatabaseRid(entry.rid), id: entry.id.clone() };
        changes.push((entry.version, entry.created_at_ms, change));
    }
    for entry in &catalogue.containers {
        let (rid, properties) = (entry.rid(), entry.properties.clone());
        let change = Change::PutContainer { rid, properties };
        changes.push((entry.version, entry.changed_at_ms, change));
        let offer = entry.offer.clone().map(|content| Change::PutOffer { rid, content });
        changes.extend(offer.map(|change| (entry.version, entry.changed_at_ms, change)));
    }
    for (sequence, at_ms, change) in changes {
        store.apply(&Commit { sequence, at_ms, change });
    }
    store.raise(catalogue.sequence, catalogue.next_database, catalogue.next_container);
}

/// Applies every record. Returns where the last file ends.
fn replay(
    store: &mut Store,
    segments: &[Arc<Segment>],
    incarnation: u64,
) -> Result<u64, StorageError> {
    std::thread::scope(|scope| {
        let (sender, receiver) = sync_channel(READ_AHEAD_FILES);
        // Reading and checking on one core, applying on the other.
        scope.spawn(move || {
            for (index, segment) in segments.iter().enumerate() {
                let read = check(segment, index + 1 == segments.len());
                let failed = read.is_err();
                if sender.send(read).is_err() || failed {
                    return;
                }
            }
        });
        apply_all(store, segments, &receiver, incarnation)
    })
}

/// A file whose records are all whole.
struct Checked {
    bytes: Vec<u8>,
    /// Where each payload is.
    payloads: Vec<(usize, usize)>,
    end: usize,
}

fn check(segment: &Segment, last: bool) -> Result<Checked, StorageError> {
    let io = |error| StorageError::io(&segment.path, error);
    let corrupt = |offset: usize, what: &str| StorageError::Corrupt {
        path: segment.path.clone(),
        offset: offset as u64,
        what: what.to_owned(),
    };
    let bytes = segment.read_all().map_err(io)?;
    if last && bytes.len() < HEAD_BYTES && head(segment.number).starts_with(&bytes) {
        // The crash came while the file was made.
        segment.write(0, &head(segment.number)).map_err(io)?;
        segment.sync().map_err(io)?;
        return Ok(Checked { bytes, payloads: Vec::new(), end: HEAD_BYTES });
    }
    if !bytes.starts_with(&head(segment.number)) {
        return Err(corrupt(0, "this is not a file of this log"));
    }
    let (mut at, mut payloads) = (HEAD_BYTES, Vec::new());
    loop {
        match frame::next(&bytes, at) {
            Next::Frame(payload) => {
                payloads.push((at + HEADER_BYTES, payload.len()));
                at += HEADER_BYTES + payload.len();
            }
            Next::End => break,
            Next::Torn if last => {
                let torn_bytes = bytes.len() - at;
                let path = segment.path.display();
                tracing::warn!(%path, torn_bytes, "dropped a write that had not been completed");
                segment.truncate(at as u64).map_err(io)?;
                break;
            }
            Next::Torn => return Err(corrupt(at, "a record is cut off")),
            Next::Damaged(what) => return Err(corrupt(at, what)),
        }
    }
    Ok(Checked { bytes, payloads, end: at })
}

fn apply_all(
    store: &mut Store,
    segments: &[Arc<Segment>],
    checked: &Receiver<Result<Checked, StorageError>>,
    incarnation: u64,
) -> Result<u64, StorageError> {
    let mut end = 0;
    for segment in segments {
        let file = checked.recv().map_err(|_| {
            StorageError::io(&segment.path, std::io::Error::other("the reader ended early"))
        })??;
        for (at, length) in &file.payloads {
            let record = codec::read(&file.bytes[*at..at + length]);
            let record = record.ok_or_else(|| StorageError::Corrupt {
                path: segment.path.clone(),
                offset: *at as u64,
                what: "a record of an unknown form".to_owned(),
            })?;
            apply(store, &Source { segment, base: *at, incarnation }, record);
        }
        end = file.end as u64;
    }
    Ok(end)
}

/// Where a record was found.
struct Source<'a> {
    segment: &'a Arc<Segment>,
    base: usize,
    incarnation: u64,
}

impl Source<'_> {
    fn document(
        &self,
        item: &StoredItem<'_>,
        partition: Arc<Partition>,
        lsn: u64,
        sequence: u64,
    ) -> Arc<Document> {
        let place = Place {
            segment: self.segment.clone(),
            offset: (self.base + item.text_at) as u32,
            checksum: item.checksum,
        };
        Arc::new(Document {
            partition,
            id: item.id.into(),
            number: item.number,
            lsn,
            sequence,
            incarnation: self.incarnation,
            ordinal: item.ordinal,
            ts: item.ts,
            ttl: item.ttl,
            text: Text::stored(place, item.text_len),
        })
    }
}

fn apply(store: &mut Store, source: &Source<'_>, record: Record<'_>) {
    match record {
        Record::Commit { sequence, at_ms, container, lsn, writes } => {
            store.raise(sequence, 0, 0);
            // Of a container that was dropped since nothing is left.
            let Some(target) = store.container_mut(container) else { return };
            let write = |stored: Stored<'_>| match stored {
                Stored::Put(item) => {
                    let partition = target.partition_of(&item.key);
                    Write::Put(source.document(&item, partition, lsn, sequence))
                }
                Stored::Remove { key, id } => {
                    Write::Remove { partition: target.partition_of(&key), id: id.into() }
                }
            };
            let writes = writes.into_iter().map(write).collect();
            let change = Change::Items { container, lsn, writes };
            store.apply(&Commit { sequence, at_ms, change });
        }
        Record::Expire { sequence, at_ms, container, default_ttl } => {
            let change = Change::Expire { container, default_ttl };
            store.apply(&Commit { sequence, at_ms, change });
        }
        Record::Kept { container, versions } => {
            let Some(target) = store.container_mut(container) else { return };
            for version in versions {
                let partition = target.partition_of(&version.item.key);
                let (lsn, sequence) = (version.lsn, version.sequence);
                target.restore(source.document(&version.item, partition, lsn, sequence));
            }
        }
        Record::Floors { sequence, containers } => {
            store.raise(sequence, 0, 0);
            for (rid, lsn, next_number) in containers {
                raise(store, rid, lsn, next_number);
            }
        }
    }
}

fn raise(store: &mut Store, rid: ContainerRid, lsn: u64, next_number: u64) {
    if let Some(container) = store.container_mut(rid) {
        container.raise(lsn, 0);
        container.next_number = container.next_number.max(next_number);
    }
}
