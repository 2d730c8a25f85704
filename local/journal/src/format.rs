//! Headers, frames and checksums as bytes. No I/O.

use crate::error::Damage;
use crate::limits::{FRAME_BYTES_MAX, ZEROS_BYTES_MIN};

const MAGIC: [u8; 8] = *b"BHJRNL\x00\x01";
const MARKER: [u8; 4] = [0xb5, 0x4a, 0x46, 0x1e];

/// Bytes before the first frame.
pub(crate) const FILE_HEADER_BYTES: usize = 20;

/// Bytes before the entries of a frame.
pub(crate) const FRAME_HEADER_BYTES: usize = 16;

/// Bytes before a record.
pub(crate) const ENTRY_HEADER_BYTES: usize = 4;

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Segment,
    Snapshot,
}

/// A file of the log. Its identity goes into every checksum, so that a frame in the wrong file or
/// at the wrong place is not taken for a right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileId {
    pub(crate) number: u32,
    pub(crate) kind: Kind,
}

impl FileId {
    pub(crate) const fn segment(number: u32) -> FileId {
        FileId { number, kind: Kind::Segment }
    }

    pub(crate) const fn snapshot(number: u32) -> FileId {
        FileId { number, kind: Kind::Snapshot }
    }

    fn kind_code(self) -> u32 {
        match self.kind {
            Kind::Segment => 0,
            Kind::Snapshot => 1,
        }
    }

    /// The first bytes of the file.
    pub(crate) fn header(self) -> [u8; FILE_HEADER_BYTES] {
        let mut header = [0; FILE_HEADER_BYTES];
        header[..8].copy_from_slice(&MAGIC);
        header[8..12].copy_from_slice(&self.kind_code().to_le_bytes());
        header[12..16].copy_from_slice(&self.number.to_le_bytes());
        let crc = crc32fast::hash(&header[..16]);
        header[16..].copy_from_slice(&crc.to_le_bytes());
        header
    }

    fn checksum(self, offset: u64, entries: &[u8]) -> u32 {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&self.kind_code().to_le_bytes());
        hasher.update(&self.number.to_le_bytes());
        hasher.update(&offset.to_le_bytes());
        hasher.update(entries);
        hasher.finalize()
    }

    /// Fills in the header of a frame that will be at `offset`; the entries are already there.
    ///
    /// # Panics
    /// `frame` has no room for the header, or more entries than the appender allows.
    pub(crate) fn finish(self, offset: u64, frame: &mut [u8]) {
        let (header, entries) = frame.split_at_mut(FRAME_HEADER_BYTES);
        header[..4].copy_from_slice(&MARKER);
        header[4..8].copy_from_slice(&length(entries.len()).to_le_bytes());
        header[8..12].copy_from_slice(&self.checksum(offset, entries).to_le_bytes());
        let crc = crc32fast::hash(&header[..12]);
        header[12..].copy_from_slice(&crc.to_le_bytes());
    }

    /// Whether these are the entries of the frame.
    pub(crate) fn check(
        self,
        offset: u64,
        header: &FrameHeader,
        entries: &[u8],
    ) -> Result<(), Damage> {
        let same = self.checksum(offset, entries) == header.checksum;
        if same { Ok(()) } else { Err(Damage::Checksum) }
    }
}

/// A length that its bound keeps below four gigabytes.
pub(crate) fn length(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}

/// What the header of a frame says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    /// Bytes of the entries.
    pub(crate) length: usize,
    checksum: u32,
}

impl FrameHeader {
    pub(crate) fn read(bytes: &[u8; FRAME_HEADER_BYTES]) -> Result<FrameHeader, Damage> {
        let word = |at: usize| {
            u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
        };
        let length = word(4) as usize;
        let whole = bytes[..4] == MARKER && word(12) == crc32fast::hash(&bytes[..12]);
        if !whole || length > FRAME_BYTES_MAX {
            return Err(Damage::FrameHeader);
        }
        Ok(FrameHeader { length, checksum: word(8) })
    }
}

/// Where in `bytes` the next frame might start.
pub(crate) fn find_marker(bytes: &[u8]) -> Option<usize> {
    bytes.windows(MARKER.len()).position(|window| window == MARKER)
}

/// Adds an entry to a frame.
pub(crate) fn put_entry(frame: &mut Vec<u8>, record: &[u8]) {
    frame.extend_from_slice(&length(record.len()).to_le_bytes());
    frame.extend_from_slice(record);
}

/// The records of a frame, each with its distance from the start of the entries.
pub(crate) fn entries(bytes: &[u8]) -> impl Iterator<Item = Result<(usize, &[u8]), Damage>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let record = rest.split_first_chunk::<ENTRY_HEADER_BYTES>().and_then(|(head, rest)| {
            let length = u32::from_le_bytes(*head) as usize;
            rest.get(..length)
        });
        let Some(record) = record else {
            at = bytes.len();
            return Some(Err(Damage::Checksum));
        };
        let start = at + ENTRY_HEADER_BYTES;
        at = start + record.len();
        Some(Ok((start, record)))
    })
}

/// Whether the end of a file was reserved and never written.
pub(crate) fn ends_in_zeros(bytes: &[u8]) -> bool {
    let end = bytes.len().saturating_sub(ZEROS_BYTES_MIN);
    bytes[end..].iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_belongs_to_its_file_and_place() {
        let id = FileId::segment(7);
        let mut frame = vec![0; FRAME_HEADER_BYTES];
        put_entry(&mut frame, b"one");
        put_entry(&mut frame, b"");
        id.finish(100, &mut frame);
        let (head, rest) = frame.split_first_chunk().unwrap();
        let header = FrameHeader::read(head).unwrap();
        assert_eq!(header.length, rest.len());
        assert_eq!(id.check(100, &header, rest), Ok(()));
        for (other, offset) in [(id, 101), (FileId::segment(8), 100), (FileId::snapshot(7), 100)] {
            assert_eq!(other.check(offset, &header, rest), Err(Damage::Checksum));
        }
        let records: Vec<_> = entries(rest).map(Result::unwrap).collect();
        assert_eq!(records, [(4, &b"one"[..]), (11, &b""[..])]);
        assert!(entries(&rest[..6]).any(|entry| entry.is_err()));
        for at in 0..FRAME_HEADER_BYTES {
            let mut damaged = *head;
            damaged[at] ^= 1;
            assert_eq!(FrameHeader::read(&damaged), Err(Damage::FrameHeader), "byte {at}");
        }
    }
}
