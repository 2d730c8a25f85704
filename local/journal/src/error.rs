//! What can go wrong.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use thiserror::Error;

/// A log that cannot be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The directory or a file in it cannot be used.
    #[error("{path} cannot be used")]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has it open.
    #[error("another process uses {0}")]
    Locked(PathBuf),
    /// Something that was durable cannot be read any more.
    #[error("{path} is damaged at byte {offset}: {damage}")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// How it shows.
        damage: Damage,
    },
    /// The owner does not understand a record, or it contradicts the ones before it.
    #[error("the record at byte {offset} of {path} cannot be used")]
    Record {
        /// The file.
        path: PathBuf,
        /// Where in it.
        offset: u64,
        /// What the owner said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// How damage shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Damage {
    /// The file does not start as one of this kind and number does.
    #[error("the file header is not that of this file, or of another version")]
    FileHeader,
    /// There should be a frame.
    #[error("a frame header is wrong")]
    FrameHeader,
    /// The bytes of a frame are not those that were written.
    #[error("the checksum of a frame does not match")]
    Checksum,
    /// The frame ends before it should.
    #[error("the file ends within a frame")]
    CutShort,
    /// A snapshot has no last frame.
    #[error("the snapshot is not complete")]
    Incomplete,
    /// A file between others is gone.
    #[error("the file is missing")]
    Missing,
}

/// A record that was not appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a record of {bytes} bytes is larger than {max} bytes", max = crate::limits::RECORD_BYTES_MAX)]
pub struct AppendError {
    /// Its size.
    pub bytes: usize,
}

/// The disk did not take what was appended. Nothing that came since will ever be durable, and the
/// log must be opened anew.
#[derive(Debug, Clone, Error)]
#[error("the journal cannot be written")]
pub struct Failed(#[source] pub Arc<io::Error>);
