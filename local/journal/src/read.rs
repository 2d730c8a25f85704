//! Reading a file frame by frame.

use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use crate::directory::file_error;
use crate::error::{Damage, OpenError};
use crate::format::{
    FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FileId, FrameHeader, Kind, ends_in_zeros, entries,
};
use crate::log::Location;

/// Bytes read from the disk at once.
const READ_BYTES: usize = 1_048_576;

/// How a file ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// As it should.
    Whole,
    /// What begins at this offset was being written when the process ended.
    Torn { at: u64 },
}

/// Takes a record and where it is.
pub(crate) type Each<'a> =
    dyn FnMut(&[u8], Location) -> Result<(), Box<dyn std::error::Error + Send + Sync>> + 'a;

/// Hands every record of a file to `each`. Only the `last` file may be torn.
pub(crate) fn read(
    path: &Path,
    id: FileId,
    last: bool,
    each: &mut Each<'_>,
) -> Result<End, OpenError> {
    let mut reader = Reader::open(path, id)?;
    if let Some(damage) = reader.header()? {
        return reader.torn_or_damaged(0, damage, last);
    }
    let mut ended = false;
    loop {
        let at = reader.offset;
        match reader.frame()? {
            Next::Frame => {}
            Next::End if id.kind == Kind::Snapshot && !ended => {
                return Err(reader.damaged(at, Damage::Incomplete));
            }
            Next::End => return Ok(End::Whole),
            Next::Bad(damage) => return reader.torn_or_damaged(at, damage, last),
        }
        ended = reader.payload.is_empty();
        for entry in entries(&reader.payload) {
            let (start, record) = entry.map_err(|damage| reader.damaged(at, damage))?;
            let offset = at + (FRAME_HEADER_BYTES + start) as u64;
            each(record, Location { file: id, offset }).map_err(|source| OpenError::Record {
                path: path.to_owned(),
                offset,
                source,
            })?;
        }
    }
}

enum Next {
    Frame,
    End,
    Bad(Damage),
}

struct Reader {
    path: PathBuf,
    id: FileId,
    file: BufReader<File>,
    bytes: u64,
    /// Where the next frame starts.
    offset: u64,
    /// Entries of the last frame.
    payload: Vec<u8>,
}

impl Reader {
    fn open(path: &Path, id: FileId) -> Result<Reader, OpenError> {
        let file = File::open(path).map_err(file_error(path))?;
        let bytes = file.metadata().map_err(file_error(path))?.len();
        let file = BufReader::with_capacity(READ_BYTES, file);
        Ok(Reader { path: path.to_owned(), id, file, bytes, offset: 0, payload: Vec::new() })
    }

    fn header(&mut self) -> Result<Option<Damage>, OpenError> {
        let mut header = [0; FILE_HEADER_BYTES];
        if !self.fill(&mut header)? {
            return Ok(Some(Damage::CutShort));
        }
        self.offset = FILE_HEADER_BYTES as u64;
        Ok((header != self.id.header()).then_some(Damage::FileHeader))
    }

    fn frame(&mut self) -> Result<Next, OpenError> {
        if self.offset == self.bytes {
            return Ok(Next::End);
        }
        let mut header = [0; FRAME_HEADER_BYTES];
        if !self.fill(&mut header)? {
            return Ok(Next::Bad(Damage::CutShort));
        }
        let header = match FrameHeader::read(&header) {
            Ok(header) => header,
            Err(damage) => return Ok(Next::Bad(damage)),
        };
        let end = self.offset + (FRAME_HEADER_BYTES + header.length) as u64;
        if end > self.bytes {
            return Ok(Next::Bad(Damage::CutShort));
        }
        let mut payload = std::mem::take(&mut self.payload);
        payload.resize(header.length, 0);
        let whole = self.fill(&mut payload)?;
        self.payload = payload;
        if !whole {
            return Ok(Next::Bad(Damage::CutShort));
        }
        if let Err(damage) = self.id.check(self.offset, &header, &self.payload) {
            return Ok(Next::Bad(damage));
        }
        self.offset = end;
        Ok(Next::Frame)
    }

    /// Fills `buffer`; whether the file had enough.
    fn fill(&mut self, buffer: &mut [u8]) -> Result<bool, OpenError> {
        match self.file.read_exact(buffer) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
            Err(source) => Err(file_error(&self.path)(source)),
        }
    }

    fn damaged(&self, offset: u64, damage: Damage) -> OpenError {
        OpenError::Damaged { path: self.path.clone(), offset, damage }
    }

    /// A crash leaves a prefix of a frame, or space that was reserved for it. Anything else was
    /// whole once.
    fn torn_or_damaged(&self, at: u64, damage: Damage, last: bool) -> Result<End, OpenError> {
        let torn = last
            && self.id.kind == Kind::Segment
            && (damage == Damage::CutShort || self.tail_is_zeros(at)?);
        if torn { Ok(End::Torn { at }) } else { Err(self.damaged(at, damage)) }
    }

    fn tail_is_zeros(&self, at: u64) -> Result<bool, OpenError> {
        use std::io::{Seek as _, SeekFrom};
        let mut file = File::open(&self.path).map_err(file_error(&self.path))?;
        let from = at.max(self.bytes.saturating_sub(READ_BYTES as u64));
        let mut tail = Vec::new();
        file.seek(SeekFrom::Start(from))
            .and_then(|_| file.read_to_end(&mut tail))
            .map_err(file_error(&self.path))?;
        Ok(ends_in_zeros(&tail))
    }
}
