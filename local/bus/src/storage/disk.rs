//! The broker's journal on disk.

use std::sync::{Arc, OnceLock};

use journal::{Location, Log, Position};

use super::GROUP_BYTES;
use super::codec::Group;
use super::input::Input;
use crate::broker::body::{Shelf, Stored};
use crate::broker::record::{Journal, QueueId, Record};
use crate::message::Message;

/// Gathers a group and hands it to the log.
pub(super) struct Disk {
    log: Arc<Log>,
    shelf: Arc<dyn Shelf>,
    group: Group,
    position: Position,
    /// Where the messages of the last group are.
    stored: Vec<(QueueId, i64, Stored)>,
}

/// Messages on disk. Empty until the log is open, which is when nobody reads yet.
#[derive(Debug, Default)]
pub(super) struct Bookshelf(OnceLock<Arc<Log>>);

impl Bookshelf {
    pub(super) fn open(&self, log: &Arc<Log>) {
        // There is one log, and it is opened once.
        let _ = self.0.set(Arc::clone(log));
    }
}

impl Shelf for Bookshelf {
    fn load(&self, at: Location, length: usize) -> Message {
        let Some(log) = self.0.get() else { return Message::default() };
        let read = log.read(at, length).and_then(|bytes| {
            Message::restore(&mut Input::new(&bytes)).map_err(std::io::Error::other)
        });
        read.unwrap_or_else(|error| {
            // From here on nothing becomes durable, so nobody is told of what goes on.
            log.fail(error);
            Message::default()
        })
    }
}

impl Disk {
    pub(super) fn new(log: Arc<Log>, shelf: Arc<dyn Shelf>) -> Disk {
        Disk { log, shelf, group: Group::default(), position: 0, stored: Vec::new() }
    }

    fn write(&mut self, continues: bool) {
        match self.log.append(self.group.finish(continues)) {
            Ok(appended) => {
                self.position = appended.position;
                for &(queue, sequence, (start, length)) in self.group.stored() {
                    let at = appended.location.plus(start);
                    self.stored.push((queue, sequence, Stored { at, length }));
                }
            }
            // One broker record beyond the limit of the log: larger than any message may be.
            Err(error) => self.log.fail(std::io::Error::other(error)),
        }
        self.group.clear();
    }
}

impl Journal for Disk {
    fn append(&mut self, record: &Record) {
        if !self.group.is_unfinished() {
            self.stored.clear();
        }
        self.group.put(record);
        if self.group.len() >= GROUP_BYTES {
            self.write(true);
        }
    }

    fn seal(&mut self) -> Position {
        if self.group.is_unfinished() {
            self.write(false);
        }
        self.position
    }

    fn stored(&mut self) -> Vec<(QueueId, i64, Stored)> {
        std::mem::take(&mut self.stored)
    }

    fn shelf(&self) -> Option<Arc<dyn Shelf>> {
        Some(Arc::clone(&self.shelf))
    }
}
