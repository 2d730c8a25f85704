//! The ledger on the disk: JSON lines, only ever added to.
//!
//! A line that was cut off at the end of the file is what an interrupted write leaves. The request
//! that it belongs to was never answered, so the line is dropped and reported. Any other line that
//! cannot be read, or that no bank could have written, means that the file is not what it should
//! be, and nobody starts on top of it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::book::{Book, Contradiction, Entry};
use super::limits;

/// A ledger that cannot be used.
#[derive(Debug, Error)]
pub enum LedgerError {
    /// The file cannot be opened, read or mended.
    #[error("the ledger {path} cannot be used")]
    File {
        /// The file.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Another process writes it.
    #[error("another bank writes the ledger {0}")]
    Locked(PathBuf),
    /// A line is not JSON of the expected shape, or too long.
    #[error("line {line} of the ledger {path} cannot be read: {why}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: u64,
        /// The reason.
        why: String,
    },
    /// A line cannot follow the ones before it.
    #[error("line {line} of the ledger {path} cannot be true")]
    Contradiction {
        /// The file.
        path: PathBuf,
        /// Line number, from 1.
        line: u64,
        /// The reason.
        source: Contradiction,
    },
}

/// An open ledger. Nobody else can open it meanwhile.
#[derive(Debug)]
pub struct Ledger {
    file: File,
    path: PathBuf,
    /// Whole lines that are safely on the disk.
    bytes: u64,
    /// Lines that wait for [`Ledger::commit`].
    waiting: Vec<u8>,
}

impl Ledger {
    /// Opens or creates a ledger and reads it back: the ledger, the book that wrote it, and how
    /// many bytes of a torn last line were dropped.
    ///
    /// # Errors
    /// [`LedgerError`].
    pub fn open(path: &Path) -> Result<(Self, Book, u64), LedgerError> {
        let failed = |source| LedgerError::File { path: path.to_owned(), source };
        let is_new = !path.exists();
        let file = OpenOptions::new().read(true).append(true).create(true).open(path);
        let file = file.map_err(failed)?;
        file.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => LedgerError::Locked(path.to_owned()),
            TryLockError::Error(source) => failed(source),
        })?;
        if is_new {
            // Else a crash of the machine could take the name away from the synced file.
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let folder = File::open(folder.unwrap_or(Path::new(".")));
            folder.and_then(|folder| folder.sync_all()).map_err(failed)?;
        }
        let (book, bytes) = read_back(&file, path)?;
        let torn = file.metadata().map_err(failed)?.len().saturating_sub(bytes);
        if torn > 0 {
            file.set_len(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
        }
        Ok((Self { file, path: path.to_owned(), bytes, waiting: Vec::new() }, book, torn))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Length of the part that is safely on the disk; always whole lines.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Adds a line to the next commit.
    ///
    /// # Errors
    /// The line cannot be written as JSON.
    pub fn add(&mut self, entry: &Entry) -> io::Result<()> {
        serde_json::to_writer(&mut self.waiting, entry)?;
        self.waiting.push(b'\n');
        Ok(())
    }

    /// Writes what was added and waits until it is on the disk; whether there was anything.
    ///
    /// # Errors
    /// It may be in the file in part. The ledger must not be used any more: what a second try would
    /// add after half a line could never be read back.
    pub fn commit(&mut self) -> io::Result<bool> {
        if self.waiting.is_empty() {
            return Ok(false);
        }
        self.file.write_all(&self.waiting)?;
        self.file.sync_data()?;
        self.bytes += u64::try_from(self.waiting.len()).map_err(io::Error::other)?;
        self.waiting.clear();
        Ok(true)
    }
}

/// The book that wrote the file, and the length of its whole lines.
fn read_back(file: &File, path: &Path) -> Result<(Book, u64), LedgerError> {
    let failed = |source| LedgerError::File { path: path.to_owned(), source };
    let mut reader = BufReader::new(file);
    let (mut book, mut bytes, mut text) = (Book::default(), 0, Vec::new());
    loop {
        text.clear();
        let line = book.lines() + 1;
        let unreadable = |why: String| LedgerError::Unreadable { path: path.to_owned(), line, why };
        let length = read_line(&mut reader, &mut text).map_err(failed)?;
        if text.last() != Some(&b'\n') {
            if text.len() > limits::LEDGER_LINE_BYTES_MAX {
                let limit = limits::LEDGER_LINE_BYTES_MAX;
                return Err(unreadable(format!("it is longer than {limit} bytes")));
            }
            return Ok((book, bytes));
        }
        if line > limits::LEDGER_LINES_MAX {
            let limit = limits::LEDGER_LINES_MAX;
            return Err(unreadable(format!("the ledger is longer than {limit} lines")));
        }
        let entry: Entry =
            serde_json::from_slice(&text).map_err(|error| unreadable(error.to_string()))?;
        book.apply(&entry).map_err(|source| LedgerError::Contradiction {
            path: path.to_owned(),
            line,
            source,
        })?;
        bytes += length;
    }
}

/// Reads one line, or one byte more than a line may have.
fn read_line(reader: &mut impl io::BufRead, text: &mut Vec<u8>) -> io::Result<u64> {
    let limit = u64::try_from(limits::LEDGER_LINE_BYTES_MAX).map_err(io::Error::other)?;
    let read = io::Read::take(reader, limit + 1).read_until(b'\n', text)?;
    u64::try_from(read).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use time::macros::datetime;

    use super::*;
    use crate::bank::book::{Charge, Effect};

    /// A file of its own, gone with the test.
    struct Scratch(PathBuf);

    impl Scratch {
        fn new() -> Self {
            Self(std::env::temp_dir().join(format!("ledger-{}", uuid::Uuid::new_v4())))
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_file(&self.0);
        }
    }

    fn entry(sequence: u64) -> Entry {
        let charge = Charge {
            reference: "r-1".to_owned(),
            amount_minor: 1250,
            currency: "EUR".to_owned(),
            customer: "c-1".to_owned(),
            instrument: (sequence == 2).then(|| "card".to_owned()),
        };
        Entry {
            sequence,
            at: datetime!(2026-11-21 07:17:47.123 UTC),
            key: format!("k-{sequence}"),
            effect: Effect::Captured { charge },
        }
    }

    fn write(path: &Path, entries: impl IntoIterator<Item = Entry>) -> Book {
        let (mut ledger, mut book, torn) = Ledger::open(path).unwrap();
        assert_eq!(torn, 0);
        for entry in entries {
            book.apply(&entry).unwrap();
            ledger.add(&entry).unwrap();
        }
        ledger.commit().unwrap();
        assert_eq!(ledger.bytes(), fs::metadata(path).unwrap().len());
        book
    }

    #[test]
    fn what_was_committed_is_read_back_and_added_to() {
        let scratch = Scratch::new();
        let written = write(&scratch.0, (1..=2).map(entry));
        let (ledger, book, torn) = Ledger::open(&scratch.0).unwrap();
        assert_eq!((&book, torn), (&written, 0));
        let locked = Ledger::open(&scratch.0).unwrap_err();
        assert!(matches!(locked, LedgerError::Locked(_)), "{locked}");
        drop(ledger);
        let longer = write(&scratch.0, [entry(3)]);
        assert_eq!(longer.summary().captured, 3);
        let text = fs::read_to_string(&scratch.0).unwrap();
        assert_eq!(
            text.lines().next().unwrap(),
            r#"{"sequence":1,"at":"2026-11-21T07:17:47.123Z","key":"k-1","effect":"captured","reference":"r-1","amountMinor":1250,"currency":"EUR","customer":"c-1"}"#
        );
    }

    #[test]
    fn a_torn_last_line_is_dropped_wherever_it_was_torn() {
        let scratch = Scratch::new();
        write(&scratch.0, (1..=2).map(entry));
        let whole = fs::read(&scratch.0).unwrap();
        let first = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
        for cut in [first + 1, first + 40, whole.len() - 1] {
            fs::write(&scratch.0, &whole[..cut]).unwrap();
            let (ledger, book, torn) = Ledger::open(&scratch.0).unwrap();
            assert_eq!((book.lines(), torn), (1, u64::try_from(cut - first).unwrap()));
            drop(ledger);
            assert_eq!(fs::read(&scratch.0).unwrap(), whole[..first]);
            write(&scratch.0, [entry(2)]);
            assert_eq!(fs::read(&scratch.0).unwrap(), whole);
        }
    }

    #[test]
    fn any_other_bad_line_is_refused_and_left_alone() {
        let scratch = Scratch::new();
        write(&scratch.0, (1..=3).map(entry));
        let whole = fs::read_to_string(&scratch.0).unwrap();
        let long = format!("{}{whole}", " ".repeat(limits::LEDGER_LINE_BYTES_MAX + 1));
        let refund = r#"{"sequence":4,"at":"2026-11-21T07:17:47Z","key":"k-4","effect":"refunded","reference":"r-1","charge":9,"amountMinor":1250,"currency":"EUR","part":1,"parts":1}"#;
        for (bad, line) in [
            (whole.replacen("k-2", "k-1", 1), 2),
            (whole.replacen("\"captured\"", "\"stolen\"", 1), 1),
            (whole.lines().skip(1).collect::<Vec<_>>().join("\n") + "\n", 1),
            (whole.replacen(":1250,", ":0,", 1), 1),
            (whole.replacen("{\"sequence\":3", "\n{\"sequence\":3", 1), 3),
            (format!("{whole}garbage\n"), 4),
            (format!("{whole}{refund}\n"), 4),
            (long, 1),
        ] {
            fs::write(&scratch.0, &bad).unwrap();
            let error = Ledger::open(&scratch.0).unwrap_err();
            assert!(error.to_string().contains(&format!("line {line} of")), "{error}");
            assert_eq!(fs::read_to_string(&scratch.0).unwrap(), bad);
        }
    }
}
