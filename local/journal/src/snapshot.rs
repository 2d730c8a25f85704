//! A state written down, so that the records that led to it can be deleted.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::sync::Arc;

use crate::error::{AppendError, Failed};
use crate::format::{ENTRY_HEADER_BYTES, FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FileId, put_entry};
use crate::limits::{RECORD_BYTES_MAX, SNAPSHOT_FRAME_BYTES};
use crate::log::{Location, Shared};

/// A snapshot in the making. Dropped before [`commit`](Snapshot::commit), it never was.
#[derive(Debug)]
pub struct Snapshot {
    shared: Arc<Shared>,
    number: u32,
    file: File,
    /// Offset of the frame in the making.
    offset: u64,
    frame: Vec<u8>,
    committed: bool,
}

/// A finished snapshot; the files that it replaces are still there.
#[derive(Debug)]
pub struct Committed {
    shared: Arc<Shared>,
    number: u32,
}

impl Snapshot {
    pub(crate) fn create(shared: Arc<Shared>, number: u32) -> io::Result<Snapshot> {
        let id = FileId::snapshot(number);
        let mut file = File::create(shared.directory.unfinished(id))?;
        file.write_all(&id.header())?;
        let (offset, frame) = (FILE_HEADER_BYTES as u64, vec![0; FRAME_HEADER_BYTES]);
        Ok(Snapshot { shared, number, file, offset, frame, committed: false })
    }

    /// Adds a record; where it can be read from once the snapshot is committed.
    ///
    /// # Errors
    /// The disk does not take it, or it is larger than [`RECORD_BYTES_MAX`].
    pub fn append(&mut self, record: &[u8]) -> io::Result<Location> {
        if record.len() > RECORD_BYTES_MAX {
            return Err(io::Error::other(AppendError { bytes: record.len() }));
        }
        if self.frame.len() + record.len() > SNAPSHOT_FRAME_BYTES {
            self.write_frame()?;
        }
        let offset = self.offset + (self.frame.len() + ENTRY_HEADER_BYTES) as u64;
        put_entry(&mut self.frame, record);
        Ok(Location { file: FileId::snapshot(self.number), offset })
    }

    /// Ends the frame in the making: what comes next is not lost with what came so far if a part of
    /// the file is damaged.
    ///
    /// # Errors
    /// The disk does not take it.
    pub fn end_frame(&mut self) -> io::Result<()> {
        self.write_frame()
    }

    fn write_frame(&mut self) -> io::Result<()> {
        if self.frame.len() > FRAME_HEADER_BYTES {
            self.write_last()?;
        }
        Ok(())
    }

    fn write_last(&mut self) -> io::Result<()> {
        FileId::snapshot(self.number).finish(self.offset, &mut self.frame);
        self.file.write_all(&self.frame)?;
        self.offset += self.frame.len() as u64;
        self.frame.truncate(FRAME_HEADER_BYTES);
        Ok(())
    }

    /// Makes the snapshot what the next start begins with. Blocks until every record that was
    /// appended so far is durable: the snapshot may have seen a part of what it changed.
    ///
    /// # Errors
    /// The disk does not take it; the log goes on without it.
    pub fn commit(mut self) -> io::Result<Committed> {
        self.write_frame()?;
        self.write_last()?;
        if self.shared.options.fsync {
            self.file.sync_all()?;
        }
        let position = self.shared.waiting().position;
        self.shared.wait_blocking(position).map_err(|Failed(error)| io::Error::other(error))?;
        let id = FileId::snapshot(self.number);
        let directory = &self.shared.directory;
        fs::rename(directory.unfinished(id), directory.file(id))?;
        self.committed = true;
        self.shared.waiting().snapshot = Some(self.number);
        if self.shared.options.fsync {
            directory.sync()?;
        }
        Ok(Committed { shared: Arc::clone(&self.shared), number: self.number })
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if !self.committed {
            // If it stays, the next start deletes it.
            let _ =
                fs::remove_file(self.shared.directory.unfinished(FileId::snapshot(self.number)));
        }
    }
}

impl Committed {
    /// Whether a place is in a file that [`discard`](Committed::discard) deletes.
    #[must_use]
    pub fn replaces(&self, at: Location) -> bool {
        at.file.number < self.number
    }

    /// Deletes the files that the snapshot stands for; nothing in them can be read any more.
    ///
    /// # Errors
    /// A file cannot be deleted; the next start will try again.
    pub fn discard(self) -> io::Result<()> {
        self.shared.discard_before(self.number).map_err(io::Error::other)
    }
}
