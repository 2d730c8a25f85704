//! The broker's journal on disk.

use std::sync::Arc;

use journal::{Log, Position};

use super::GROUP_BYTES;
use super::codec::Group;
use crate::broker::record::{Journal, Record};

/// Gathers a group and hands it to the log.
pub(super) struct Disk {
    log: Arc<Log>,
    group: Group,
    position: Position,
}

impl Disk {
    pub(super) fn new(log: Arc<Log>) -> Disk {
        Disk { log, group: Group::default(), position: 0 }
    }

    fn write(&mut self, continues: bool) {
        match self.log.append(self.group.finish(continues)) {
            Ok(appended) => self.position = appended.position,
            // One broker record beyond the limit of the log: larger than any message may be. What
            // waits for this position waits for ever, so that nobody is told of what is not kept.
            Err(error) => {
                tracing::error!(%error, "a change cannot be journaled");
                self.position = Position::MAX;
            }
        }
        self.group.clear();
    }
}

impl Journal for Disk {
    fn append(&mut self, record: &Record) {
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
}
