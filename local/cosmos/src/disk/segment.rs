//! One file of the log.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::health::Health;

/// What every file begins with, its number in the last eight bytes.
const MAGIC: &[u8; 8] = b"cosmos1\n";

/// Bytes before the first record.
pub(super) const HEAD_BYTES: usize = 16;

/// A file of the log; texts are read back from it while it is still being written.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    file: File,
    /// Bytes of texts in it that are still current.
    live_bytes: AtomicU64,
    health: Arc<Health>,
}

impl Segment {
    /// Creates the file. Nothing is durable before [`Segment::sync`] and a sync of the directory.
    pub(super) fn create(directory: &Path, number: u64, health: Arc<Health>) -> io::Result<Self> {
        let path = path(directory, number);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path)?;
        let segment = Self { number, path, file, live_bytes: AtomicU64::new(0), health };
        segment.write(0, &head(number))?;
        Ok(segment)
    }

    /// Opens an existing file.
    pub(super) fn open(directory: &Path, number: u64, health: Arc<Health>) -> io::Result<Self> {
        let path = path(directory, number);
        let file = OpenOptions::new().read(true).write(true).open(&path)?;
        Ok(Self { number, path, file, live_bytes: AtomicU64::new(0), health })
    }

    /// Everything in the file.
    pub(super) fn read_all(&self) -> io::Result<Vec<u8>> {
        let length = self.file.metadata()?.len();
        let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Cuts off what a crash left at the end.
    pub(super) fn truncate(&self, length: u64) -> io::Result<()> {
        self.file.set_len(length)?;
        self.file.sync_all()
    }

    pub(super) fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    /// Reads a text back. A failure ends the service; what is returned then is of no consequence.
    pub(crate) fn read_text(&self, offset: u32, length: u32, checksum: u32) -> Bytes {
        let mut bytes = vec![0; length as usize];
        let problem = match self.file.read_exact_at(&mut bytes, u64::from(offset)) {
            Ok(()) if crc32fast::hash(&bytes) == checksum => return bytes.into(),
            Ok(()) => "an item does not match its checksum".to_owned(),
            Err(error) => error.to_string(),
        };
        let path = self.path.display();
        self.health.fail(&format!("{path}: reading at byte {offset}: {problem}"));
        Bytes::from_static(b"{}")
    }

    pub(super) fn live_bytes(&self) -> u64 {
        self.live_bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn add_live(&self, bytes: u32) {
        self.live_bytes.fetch_add(u64::from(bytes), Ordering::Relaxed);
    }

    pub(crate) fn remove_live(&self, bytes: u32) {
        self.live_bytes.fetch_sub(u64::from(bytes), Ordering::Relaxed);
    }
}

/// The first bytes of file `number`.
pub(super) fn head(number: u64) -> [u8; HEAD_BYTES] {
    let mut head = [0; HEAD_BYTES];
    head[..8].copy_from_slice(MAGIC);
    head[8..].copy_from_slice(&number.to_le_bytes());
    head
}

fn path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:012}.log"))
}

/// The number of the segment that a file is, by its name.
pub(super) fn number(name: &str) -> Option<u64> {
    name.strip_suffix(".log").filter(|digits| digits.len() == 12)?.parse().ok()
}
