//! Records: what is in the payload of a frame.
//!
//! | first byte | what | when |
//! | --- | --- | --- |
//! | 1 | the writes of one commit | an operation or a batch |
//! | 2 | versions that are still current | copied out of the oldest file before it goes |
//! | 3 | the highest numbers given out | written along with those |
//! | 4 | that whatever has expired by now is gone | before a container's lifetimes change |
//!
//! Databases, containers and offers are not here but in the catalogue.

use std::sync::Arc;

use crate::store::{Commit, Component, ContainerRid, DatabaseRid, Document, PartitionKey, Write};

const COMMIT: u8 = 1;
const KEPT: u8 = 2;
const FLOORS: u8 = 3;
const EXPIRE: u8 = 4;

const PUT: u8 = 1;
const REMOVE: u8 = 2;
const PUT_CREATED: u8 = 3;

/// Where a text came to lie: its position in the buffer and its checksum.
pub(super) struct Written {
    pub(super) position: usize,
    pub(super) checksum: u32,
}

/// A record as it is read back.
pub(super) enum Record<'a> {
    Commit { sequence: u64, at_ms: u64, container: ContainerRid, lsn: u64, writes: Vec<Stored<'a>> },
    Kept { container: ContainerRid, versions: Vec<StoredVersion<'a>> },
    Floors { sequence: u64, containers: Vec<(ContainerRid, u64, u64)> },
    Expire { sequence: u64, at_ms: u64, container: ContainerRid, default_ttl: Option<i64> },
}

/// One write of a commit.
pub(super) enum Stored<'a> {
    Put(StoredItem<'a>),
    Remove { key: PartitionKey, id: &'a str },
}

/// An item, its text by position in the payload.
pub(super) struct StoredItem<'a> {
    pub(super) key: PartitionKey,
    pub(super) id: &'a str,
    pub(super) number: u64,
    pub(super) ordinal: u32,
    pub(super) ts: u64,
    pub(super) ttl: Option<i32>,
    pub(super) created: bool,
    pub(super) checksum: u32,
    pub(super) text_at: usize,
    pub(super) text_len: u32,
}

/// An item with the commit that wrote it.
pub(super) struct StoredVersion<'a> {
    pub(super) lsn: u64,
    pub(super) sequence: u64,
    pub(super) item: StoredItem<'a>,
}

/// Appends a commit of items. Returns where the texts of the items that were put are in `out`.
pub(super) fn write_commit(
    commit: &Commit,
    container: ContainerRid,
    lsn: u64,
    writes: &[Write],
    out: &mut Vec<u8>,
) -> Vec<Written> {
    let mut written = Vec::with_capacity(writes.len());
    out.push(COMMIT);
    out.extend_from_slice(&commit.sequence.to_le_bytes());
    out.extend_from_slice(&commit.at_ms.to_le_bytes());
    write_rid(container, out);
    out.extend_from_slice(&lsn.to_le_bytes());
    out.extend_from_slice(&(writes.len() as u32).to_le_bytes());
    for write in writes {
        match write {
            Write::Put(document) => {
                out.push(if document.created { PUT_CREATED } else { PUT });
                written.push(write_item(document, out));
            }
            Write::Remove { partition, id } => {
                out.push(REMOVE);
                partition.key.encode(out);
                write_text(id, out);
            }
        }
    }
    written
}

/// Appends versions that stay current. Returns where their texts are in `out`.
pub(super) fn write_kept(
    container: ContainerRid,
    documents: &[Arc<Document>],
    out: &mut Vec<u8>,
) -> Vec<Written> {
    out.push(KEPT);
    write_rid(container, out);
    out.extend_from_slice(&(documents.len() as u32).to_le_bytes());
    let write = |document: &Arc<Document>| {
        out.extend_from_slice(&document.lsn.to_le_bytes());
        out.extend_from_slice(&document.sequence.to_le_bytes());
        write_item(document, out)
    };
    documents.iter().map(write).collect()
}

/// Appends the numbers below which nothing new is made.
pub(super) fn write_floors(
    sequence: u64,
    containers: &[(ContainerRid, u64, u64)],
    out: &mut Vec<u8>,
) {
    out.push(FLOORS);
    out.extend_from_slice(&sequence.to_le_bytes());
    out.extend_from_slice(&(containers.len() as u32).to_le_bytes());
    for (rid, lsn, next_number) in containers {
        write_rid(*rid, out);
        out.extend_from_slice(&lsn.to_le_bytes());
        out.extend_from_slice(&next_number.to_le_bytes());
    }
}

/// Appends that what has expired is gone.
pub(super) fn write_expire(
    commit: &Commit,
    container: ContainerRid,
    default_ttl: Option<i64>,
    out: &mut Vec<u8>,
) {
    out.push(EXPIRE);
    out.extend_from_slice(&commit.sequence.to_le_bytes());
    out.extend_from_slice(&commit.at_ms.to_le_bytes());
    write_rid(container, out);
    // As with items, zero is no time to live.
    out.extend_from_slice(&default_ttl.unwrap_or(0).to_le_bytes());
}

fn write_item(document: &Document, out: &mut Vec<u8>) -> Written {
    document.partition.key.encode(out);
    write_text(&document.id, out);
    out.extend_from_slice(&document.number.to_le_bytes());
    out.extend_from_slice(&document.ordinal.to_le_bytes());
    out.extend_from_slice(&document.ts.to_le_bytes());
    // No item lives for zero seconds.
    out.extend_from_slice(&document.ttl.unwrap_or(0).to_le_bytes());
    let text = document.text.read();
    let checksum = crc32fast::hash(&text);
    out.extend_from_slice(&checksum.to_le_bytes());
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    let position = out.len();
    out.extend_from_slice(&text);
    Written { position, checksum }
}

fn write_rid(rid: ContainerRid, out: &mut Vec<u8>) {
    out.extend_from_slice(&rid.0.0.to_le_bytes());
    out.extend_from_slice(&rid.1.to_le_bytes());
}

fn write_text(text: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
}

/// Reads a payload; `None` when it is not a record.
pub(super) fn read(payload: &[u8]) -> Option<Record<'_>> {
    let mut from = Reader { payload, at: 0 };
    let record = match from.byte()? {
        COMMIT => {
            let (sequence, at_ms) = (from.u64()?, from.u64()?);
            let (container, lsn, count) = (from.rid()?, from.u64()?, from.u32()?);
            let writes = (0..count).map(|_| from.write()).collect::<Option<_>>()?;
            Record::Commit { sequence, at_ms, container, lsn, writes }
        }
        KEPT => {
            let (container, count) = (from.rid()?, from.u32()?);
            let versions = (0..count).map(|_| from.version()).collect::<Option<_>>()?;
            Record::Kept { container, versions }
        }
        FLOORS => {
            let (sequence, count) = (from.u64()?, from.u32()?);
            let floor = |_| Some((from.rid()?, from.u64()?, from.u64()?));
            Record::Floors { sequence, containers: (0..count).map(floor).collect::<Option<_>>()? }
        }
        EXPIRE => {
            let (sequence, at_ms, container) = (from.u64()?, from.u64()?, from.rid()?);
            let default_ttl = Some(from.u64()?.cast_signed()).filter(|ttl| *ttl != 0);
            Record::Expire { sequence, at_ms, container, default_ttl }
        }
        _ => return None,
    };
    (from.at == payload.len()).then_some(record)
}

struct Reader<'a> {
    payload: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn bytes(&mut self, count: usize) -> Option<&'a [u8]> {
        let bytes = self.payload.get(self.at..self.at.checked_add(count)?)?;
        self.at += count;
        Some(bytes)
    }

    fn byte(&mut self) -> Option<u8> {
        self.bytes(1).map(|bytes| bytes[0])
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(8)?.try_into().ok()?))
    }

    fn rid(&mut self) -> Option<ContainerRid> {
        Some(ContainerRid(DatabaseRid(self.u32()?), self.u32()?))
    }

    fn text(&mut self) -> Option<&'a str> {
        let length = self.u32()?;
        std::str::from_utf8(self.bytes(length as usize)?).ok()
    }

    fn key(&mut self) -> Option<PartitionKey> {
        let count = self.byte()?;
        let component = |_| {
            Some(match self.byte()? {
                0 => Component::Undefined,
                1 => Component::Null,
                2 => Component::Bool(false),
                3 => Component::Bool(true),
                4 => Component::Number(self.u64()?),
                5 => Component::String(self.text()?.into()),
                _ => return None,
            })
        };
        (0..count).map(component).collect::<Option<_>>().map(PartitionKey)
    }

    fn item(&mut self) -> Option<StoredItem<'a>> {
        let (key, id) = (self.key()?, self.text()?);
        let (number, ordinal, ts) = (self.u64()?, self.u32()?, self.u64()?);
        let ttl = self.u32()?.cast_signed();
        let (checksum, text_len) = (self.u32()?, self.u32()?);
        let text_at = self.at;
        self.bytes(text_len as usize)?;
        let ttl = (ttl != 0).then_some(ttl);
        let created = false;
        Some(StoredItem { key, id, number, ordinal, ts, ttl, created, checksum, text_at, text_len })
    }

    fn write(&mut self) -> Option<Stored<'a>> {
        match self.byte()? {
            PUT => self.item().map(Stored::Put),
            PUT_CREATED => {
                self.item().map(|item| Stored::Put(StoredItem { created: true, ..item }))
            }
            REMOVE => Some(Stored::Remove { key: self.key()?, id: self.text()? }),
            _ => None,
        }
    }

    fn version(&mut self) -> Option<StoredVersion<'a>> {
        let (lsn, sequence) = (self.u64()?, self.u64()?);
        Some(StoredVersion { lsn, sequence, item: self.item()? })
    }
}
