//! A directory of its own for every test, gone with it.

use std::path::{Path, PathBuf};

use journal::{Location, Log, Opened, Options};

pub(crate) struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

impl Scratch {
    pub(crate) fn new() -> Scratch {
        Scratch(std::env::temp_dir().join(format!("journal-{}", uuid::Uuid::new_v4())))
    }

    /// A copy, as a crash would leave it.
    pub(crate) fn copy(&self) -> Scratch {
        let copy = Scratch::new();
        std::fs::create_dir(&copy.0).unwrap();
        for entry in std::fs::read_dir(&self.0).unwrap() {
            let path = entry.unwrap().path();
            std::fs::copy(&path, copy.0.join(path.file_name().unwrap())).unwrap();
        }
        copy
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn open(&self) -> (Log, Vec<(Vec<u8>, Location)>, Opened) {
        self.open_with(Options::default())
    }

    pub(crate) fn open_with(&self, options: Options) -> (Log, Vec<(Vec<u8>, Location)>, Opened) {
        let mut seen = Vec::new();
        let (log, opened) = Log::open(&self.0, options, |record, at| {
            seen.push((record.to_vec(), at));
            Ok(())
        })
        .unwrap();
        (log, seen, opened)
    }

    /// The files with this extension, in order.
    pub(crate) fn files(&self, extension: &str) -> Vec<PathBuf> {
        let mut found: Vec<_> = std::fs::read_dir(&self.0)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .collect();
        found.sort();
        found
    }

    /// Frames in all segments.
    pub(crate) fn frames(&self) -> u64 {
        let marker = [0xb5, 0x4a, 0x46, 0x1e];
        let count = |path: &PathBuf| {
            let bytes = std::fs::read(path).unwrap();
            bytes.windows(4).filter(|window| *window == marker).count() as u64
        };
        self.files("log").iter().map(count).sum()
    }
}
