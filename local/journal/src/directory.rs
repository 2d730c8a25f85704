//! The files of a log: names, which of them count, and who may use them.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Damage, OpenError};
use crate::format::{FileId, Kind};

const LOCK: &str = "LOCK";

/// A directory that this process alone uses.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Held, not read: the lock ends with it.
    _lock: File,
}

/// The files that make up the state.
#[derive(Debug, Default)]
pub(crate) struct Files {
    /// The last finished snapshot.
    pub(crate) snapshot: Option<u32>,
    /// The segments after it, without a gap.
    pub(crate) segments: Vec<u32>,
}

pub(crate) fn file_error(path: &Path) -> impl FnOnce(io::Error) -> OpenError + use<> {
    let path = path.to_owned();
    move |source| OpenError::File { path, source }
}

impl Directory {
    /// Creates the directory if there is none, and locks it.
    pub(crate) fn open(path: &Path) -> Result<Directory, OpenError> {
        fs::create_dir_all(path).map_err(file_error(path))?;
        let lock = File::create(path.join(LOCK)).map_err(file_error(path))?;
        lock.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::Locked(path.to_owned()),
            TryLockError::Error(source) => file_error(path)(source),
        })?;
        Ok(Directory { path: path.to_owned(), _lock: lock })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn file(&self, id: FileId) -> PathBuf {
        self.path.join(name(id))
    }

    /// A file that is not finished.
    pub(crate) fn unfinished(&self, id: FileId) -> PathBuf {
        self.path.join(format!("{}.tmp", name(id)))
    }

    /// Makes names that were added or taken away durable.
    pub(crate) fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }

    fn list(&self) -> Result<Vec<(FileId, PathBuf)>, OpenError> {
        let mut found = Vec::new();
        for entry in fs::read_dir(&self.path).map_err(file_error(&self.path))? {
            let path = entry.map_err(file_error(&self.path))?.path();
            if path.extension().is_some_and(|extension| extension == "tmp") {
                fs::remove_file(&path).map_err(file_error(&path))?;
            } else if let Some(id) = parse(&path) {
                found.push((id, path));
            }
        }
        found.sort();
        Ok(found)
    }

    /// The files that count. What a snapshot has made superfluous is deleted: the process died
    /// before it could.
    ///
    /// # Errors
    /// [`Damage::Missing`] for a gap, unless `gaps` says that they may be.
    pub(crate) fn files(&self, gaps: bool) -> Result<Files, OpenError> {
        let listed = self.list()?;
        let snapshot = listed.iter().filter(|(id, _)| id.kind == Kind::Snapshot);
        let snapshot = snapshot.map(|(id, _)| id.number).max();
        let first = snapshot.unwrap_or(1);
        let mut segments = Vec::new();
        for (id, path) in listed {
            if id.number < first {
                fs::remove_file(&path).map_err(file_error(&path))?;
            } else if id.kind == Kind::Segment {
                segments.push(id.number);
            }
        }
        for (expected, found) in (first..).zip(&segments) {
            if expected != *found && !gaps {
                return Err(OpenError::Damaged {
                    path: self.file(FileId::segment(expected)),
                    offset: 0,
                    damage: Damage::Missing,
                });
            }
        }
        Ok(Files { snapshot, segments })
    }

    /// The files that snapshot `number` stands for.
    pub(crate) fn before(&self, number: u32) -> Result<Vec<PathBuf>, OpenError> {
        let finished = self.list_finished()?.into_iter();
        Ok(finished.filter(|(id, _)| id.number < number).map(|(_, path)| path).collect())
    }

    fn list_finished(&self) -> Result<Vec<(FileId, PathBuf)>, OpenError> {
        let entries = fs::read_dir(&self.path).map_err(file_error(&self.path))?;
        let paths = entries.flatten().map(|entry| entry.path());
        Ok(paths.filter_map(|path| Some((parse(&path)?, path))).collect())
    }
}

fn name(id: FileId) -> String {
    let extension = match id.kind {
        Kind::Segment => "log",
        Kind::Snapshot => "snapshot",
    };
    format!("{:010}.{extension}", id.number)
}

fn parse(path: &Path) -> Option<FileId> {
    let number = path.file_stem()?.to_str()?.parse().ok()?;
    let id = match path.extension()?.to_str()? {
        "log" => FileId::segment(number),
        "snapshot" => FileId::snapshot(number),
        _ => return None,
    };
    (path.file_name()?.to_str()? == name(id)).then_some(id)
}
