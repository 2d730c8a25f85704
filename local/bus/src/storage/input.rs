//! Numbers and texts as the journal writes them: little-endian, lengths in four bytes.

use bytes::{BufMut as _, BytesMut};
use uuid::Uuid;

use crate::broker::Timestamp;

/// Why a record cannot be read. Its checksum was right, so somebody else wrote it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodecError {
    #[error("it ends too early")]
    Short,
    #[error("it is of version {0}, which this program does not know")]
    Version(u8),
    #[error("it is of a kind ({0}) that this program does not know")]
    Kind(u8),
    #[error("its {0} cannot be read")]
    Field(&'static str),
}

/// Reads from the front of a record.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Input<'a> {
    rest: &'a [u8],
    bytes: usize,
}

impl<'a> Input<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Input<'a> {
        Input { rest: bytes, bytes: bytes.len() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> usize {
        self.bytes - self.rest.len()
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(CodecError::Short)?;
        self.rest = rest;
        Ok(*head)
    }

    pub(crate) fn u8(&mut self) -> Result<u8, CodecError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    pub(crate) fn u32(&mut self) -> Result<u32, CodecError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(crate) fn i64(&mut self) -> Result<i64, CodecError> {
        Ok(i64::from_le_bytes(self.array()?))
    }

    pub(crate) fn uuid(&mut self) -> Result<Uuid, CodecError> {
        Ok(Uuid::from_bytes(self.array()?))
    }

    pub(crate) fn time(&mut self) -> Result<Timestamp, CodecError> {
        Ok(Timestamp::from_millis(self.i64()?))
    }

    /// A time or never.
    pub(crate) fn some_time(&mut self) -> Result<Option<Timestamp>, CodecError> {
        match self.u8()? {
            0 => Ok(None),
            _ => self.time().map(Some),
        }
    }

    pub(crate) fn bytes(&mut self) -> Result<&'a [u8], CodecError> {
        let length = self.u32()? as usize;
        let (head, rest) = self.rest.split_at_checked(length).ok_or(CodecError::Short)?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn text(&mut self, name: &'static str) -> Result<&'a str, CodecError> {
        std::str::from_utf8(self.bytes()?).map_err(|_| CodecError::Field(name))
    }
}

pub(crate) fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    // Bounded by the largest message, far below four gigabytes.
    out.put_u32_le(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
}

pub(crate) fn put_time(out: &mut BytesMut, at: Timestamp) {
    out.put_i64_le(at.as_millis());
}

pub(crate) fn put_some_time(out: &mut BytesMut, at: Option<Timestamp>) {
    out.put_u8(u8::from(at.is_some()));
    if let Some(at) = at {
        put_time(out, at);
    }
}
