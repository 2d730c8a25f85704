//! Keeping what can be read of a log that is damaged.

use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::directory::{Directory, file_error};
use crate::error::OpenError;
use crate::format::{
    FILE_HEADER_BYTES, FRAME_HEADER_BYTES, FileId, FrameHeader, Kind, find_marker,
};

/// Bytes of a file that are lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The file; its damaged form is kept beside it under this name with `.damaged` added.
    pub path: PathBuf,
    /// Where the lost bytes begin.
    pub offset: u64,
    /// How many there are; 0 for a file that is missing.
    pub bytes: u64,
}

/// What a repair did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repaired {
    /// Frames that could be read.
    pub frames_kept: u64,
    /// What could not.
    pub losses: Vec<Loss>,
}

/// Rewrites every damaged file of the log in `directory` with the frames that can still be read,
/// and keeps the damaged one beside it. The records in a lost frame did not happen, as far as the
/// next start knows: what they added is gone, what they took away is back.
///
/// # Errors
/// Somebody has the log open, or a file cannot be read or written.
pub fn repair(directory: &Path) -> Result<Repaired, OpenError> {
    if !directory.is_dir() {
        let missing = std::io::Error::from(std::io::ErrorKind::NotFound);
        return Err(file_error(directory)(missing));
    }
    let directory = Directory::open(directory)?;
    let files = directory.files(true)?;
    let mut repaired = Repaired::default();
    let first = files.snapshot.unwrap_or(1);
    let last = files.segments.last().copied();
    let segments = last.map_or(first..first, |last| first..last + 1);
    let snapshot = files.snapshot.map(FileId::snapshot);
    for id in snapshot.into_iter().chain(segments.map(FileId::segment)) {
        repair_file(&directory, id, &mut repaired)?;
    }
    directory.sync().map_err(file_error(directory.path()))?;
    Ok(repaired)
}

fn repair_file(
    directory: &Directory,
    id: FileId,
    repaired: &mut Repaired,
) -> Result<(), OpenError> {
    let path = directory.file(id);
    if !path.exists() {
        File::create(&path)
            .and_then(|mut file| file.write_all(&id.header()))
            .map_err(file_error(&path))?;
        repaired.losses.push(Loss { path, offset: 0, bytes: 0 });
        return Ok(());
    }
    let bytes = fs::read(&path).map_err(file_error(&path))?;
    let mut frames = Vec::new();
    let mut losses = Vec::new();
    let mut at = FILE_HEADER_BYTES.min(bytes.len());
    if bytes[..at] != id.header() {
        losses.push((0, at));
    }
    while at < bytes.len() {
        if let Some(end) = frame_end(id, &bytes, at) {
            frames.push(at..end);
            at = end;
            continue;
        }
        let from = (at + 1).min(bytes.len());
        let next = find_marker(&bytes[from..]).map_or(bytes.len(), |found| from + found);
        match losses.last_mut() {
            Some((_, end)) if *end == at => *end = next,
            _ => losses.push((at, next)),
        }
        at = next;
    }
    let ended = frames.last().is_some_and(|frame| frame.len() == FRAME_HEADER_BYTES);
    let incomplete = id.kind == Kind::Snapshot && !ended;
    if incomplete && losses.is_empty() {
        losses.push((bytes.len(), bytes.len()));
    }
    repaired.frames_kept += frames.len() as u64;
    if losses.is_empty() {
        return Ok(());
    }
    let mut out = id.header().to_vec();
    let mut put = |entries: &[u8]| {
        let mut frame = vec![0; FRAME_HEADER_BYTES];
        frame.extend_from_slice(entries);
        id.finish(out.len() as u64, &mut frame);
        out.extend_from_slice(&frame);
    };
    for frame in &frames {
        put(&bytes[frame.start + FRAME_HEADER_BYTES..frame.end]);
    }
    if incomplete {
        put(&[]);
    }
    let unfinished = directory.unfinished(id);
    let write = |unfinished: &Path| {
        let mut file = File::create(unfinished)?;
        file.write_all(&out)?;
        file.sync_all()
    };
    write(&unfinished).map_err(file_error(&unfinished))?;
    let mut damaged = path.clone().into_os_string();
    damaged.push(".damaged");
    fs::rename(&path, &damaged).map_err(file_error(&path))?;
    fs::rename(&unfinished, &path).map_err(file_error(&path))?;
    repaired.losses.extend(losses.into_iter().map(|(from, to)| Loss {
        path: path.clone(),
        offset: from as u64,
        bytes: (to - from) as u64,
    }));
    Ok(())
}

/// Where the frame at `at` ends, if there is a whole one.
fn frame_end(id: FileId, bytes: &[u8], at: usize) -> Option<usize> {
    let (head, rest) = bytes[at..].split_first_chunk::<FRAME_HEADER_BYTES>()?;
    let header = FrameHeader::read(head).ok()?;
    let entries = rest.get(..header.length)?;
    id.check(at as u64, &header, entries).ok()?;
    Some(at + FRAME_HEADER_BYTES + header.length)
}
