//! Reading everything back.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use super::catalogue::{Catalogue, sync_directory};
use super::codec::{self, Record, Stored, StoredItem};
use super::frame::{self, HEADER_BYTES, Next};
use super::health::Health;
use super::segment::{HEAD_BYTES, Segment, head, number};
use super::writer::Shared;
use super::{Settings, StorageError};
use crate::store::{
    Change, Commit, Container, ContainerRid, DatabaseRid, Definition, Document, Partition,
    PartitionKey, Place, Store, Text, Volatile, Write,
};

/// Files that each reader has ready before they are applied. A file takes some tens of megabytes.
const READ_AHEAD_FILES: usize = 1;

/// Threads that read files back. More would only wait for the one that applies them.
const MAX_READERS: usize = 4;

/// The store as the directory has it, and the log to go on with.
pub(super) fn recover(
    directory: &Path,
    incarnation: u64,
    settings: Settings,
) -> Result<(Store, Shared), StorageError> {
    let io = |error| StorageError::io(directory, error);
    let health = Arc::new(Health::default());
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
    health.progress().advance(store.sequence());
    let Some(current) = segments.last().cloned() else {
        return Err(io(std::io::Error::other("no file to write to")));
    };
    let shared =
        Shared::new(directory.to_owned(), settings, health, catalogue, segments, current, end);
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

/// How the partition keys of each container are hashed. Of others, which were dropped, nothing is
/// left.
type Definitions = HashMap<ContainerRid, Arc<Definition>>;

/// Applies every record. Returns where the last file ends.
fn replay(
    store: &mut Store,
    segments: &[Arc<Segment>],
    incarnation: u64,
) -> Result<u64, StorageError> {
    let definitions: Definitions = store
        .all_containers()
        .map(|container| (container.rid(), container.settings().partition_key.clone()))
        .collect();
    let readers = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let readers = readers.clamp(1, MAX_READERS);
    std::thread::scope(|scope| {
        // Reading, checking and decoding take as long as applying, and files are independent; only
        // applying has an order.
        let definitions = &definitions;
        let all: Vec<_> = (0..readers)
            .map(|reader| {
                let (sender, receiver) = sync_channel(READ_AHEAD_FILES);
                scope.spawn(move || {
                    for index in (reader..segments.len()).step_by(readers) {
                        let last = index + 1 == segments.len();
                        let read = read(&segments[index], last, incarnation, definitions);
                        let failed = read.is_err();
                        if sender.send(read).is_err() || failed {
                            return;
                        }
                    }
                });
                receiver
            })
            .collect();
        let mut end = 0;
        for (index, segment) in segments.iter().enumerate() {
            let file = all[index % readers].recv().map_err(|_| {
                StorageError::io(&segment.path, std::io::Error::other("the reader ended early"))
            })??;
            file.records.into_iter().for_each(|record| apply(store, record));
            end = file.end;
        }
        Ok(end)
    })
}

/// A file, decoded.
struct Decoded {
    records: Vec<Prepared>,
    end: u64,
}

/// A record, ready to be applied.
enum Prepared {
    Change(Commit),
    Kept { container: ContainerRid, documents: Vec<Arc<Document>> },
    Floors { sequence: u64, containers: Vec<(ContainerRid, u64, u64)> },
}

fn read(
    segment: &Arc<Segment>,
    last: bool,
    incarnation: u64,
    definitions: &Definitions,
) -> Result<Decoded, StorageError> {
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
        return Ok(Decoded { records: Vec::new(), end: HEAD_BYTES as u64 });
    }
    if !bytes.starts_with(&head(segment.number)) {
        return Err(corrupt(0, "this is not a file of this log"));
    }
    let (mut at, mut records) = (HEAD_BYTES, Vec::new());
    loop {
        match frame::next(&bytes, at) {
            Next::Frame(payload) => {
                let base = at + HEADER_BYTES;
                let record = codec::read(payload)
                    .ok_or_else(|| corrupt(base, "a record of an unknown form"))?;
                let source = Source { segment, base, incarnation, definitions };
                records.push(source.prepare(record));
                at = base + payload.len();
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
    Ok(Decoded { records, end: at as u64 })
}

/// Where a record was found.
struct Source<'a> {
    segment: &'a Arc<Segment>,
    base: usize,
    incarnation: u64,
    definitions: &'a Definitions,
}

impl Source<'_> {
    fn prepare(&self, record: Record<'_>) -> Prepared {
        match record {
            Record::Commit { sequence, at_ms, container, lsn, writes } => {
                let mut partition = None;
                let writes = match self.definitions.get(&container) {
                    Some(definition) => writes
                        .into_iter()
                        .map(|stored| self.write(stored, definition, &mut partition, lsn, sequence))
                        .collect(),
                    None => Vec::new(),
                };
                let change = Change::Items { container, lsn, writes };
                Prepared::Change(Commit { sequence, at_ms, change })
            }
            Record::Expire { sequence, at_ms, container, default_ttl } => {
                let change = Change::Expire { container, default_ttl };
                Prepared::Change(Commit { sequence, at_ms, change })
            }
            Record::Kept { container, versions } => {
                let mut partition = None;
                let document = |version: codec::StoredVersion<'_>| {
                    let definition = self.definitions.get(&container)?;
                    let partition = shared(&mut partition, version.item.key.clone(), definition);
                    let (lsn, sequence) = (version.lsn, version.sequence);
                    Some(self.document(&version.item, partition, lsn, sequence))
                };
                let documents = versions.into_iter().filter_map(document).collect();
                Prepared::Kept { container, documents }
            }
            Record::Floors { sequence, containers } => Prepared::Floors { sequence, containers },
        }
    }

    fn write(
        &self,
        stored: Stored<'_>,
        definition: &Definition,
        partition: &mut Option<Arc<Partition>>,
        lsn: u64,
        sequence: u64,
    ) -> Write {
        match stored {
            Stored::Put(item) => {
                let partition = shared(partition, item.key.clone(), definition);
                Write::Put(self.document(&item, partition, lsn, sequence))
            }
            Stored::Remove { key, id } => {
                Write::Remove { partition: shared(partition, key, definition), id: id.into() }
            }
        }
    }

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
            created: item.created,
            text: Text::stored(place, item.text_len),
        })
    }
}

/// The partition of `key`: the one of the item before if it is the same.
fn shared(
    latest: &mut Option<Arc<Partition>>,
    key: PartitionKey,
    definition: &Definition,
) -> Arc<Partition> {
    match latest {
        Some(known) if known.key == key => known.clone(),
        _ => latest.insert(definition.partition(key)).clone(),
    }
}

/// Lets an item that nobody else has yet share the partition of those that are there.
fn settle(target: &Container, document: &mut Arc<Document>) {
    if let Some(own) = Arc::get_mut(document)
        && let Some(known) = target.partition(&own.partition.key)
    {
        own.partition = known.clone();
    }
}

fn apply(store: &mut Store, record: Prepared) {
    match record {
        Prepared::Change(mut commit) => {
            if let Change::Items { container, writes, .. } = &mut commit.change
                && let Some(target) = store.container_mut(*container)
            {
                for write in writes {
                    if let Write::Put(document) = write {
                        settle(target, document);
                    }
                }
            }
            store.apply(&commit);
        }
        Prepared::Kept { container, documents } => {
            let Some(target) = store.container_mut(container) else { return };
            for mut document in documents {
                settle(target, &mut document);
                target.restore(document);
            }
        }
        Prepared::Floors { sequence, containers } => {
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
