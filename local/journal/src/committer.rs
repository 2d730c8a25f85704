//! The thread that writes: one frame after another, each durable before the next is begun.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::sync::{Arc, PoisonError};

use crate::error::Failed;
use crate::format::FileId;
use crate::limits::BUFFER_BYTES_KEPT_MAX;
use crate::log::{Batch, Shared};

pub(crate) struct Committer {
    shared: Arc<Shared>,
    /// The segment being written.
    segment: Option<(u32, File)>,
}

impl Committer {
    pub(crate) fn new(shared: Arc<Shared>) -> Committer {
        Committer { shared, segment: None }
    }

    /// Writes until the log is closed or the disk fails.
    pub(crate) fn run(mut self) {
        while let Some(batch) = self.next() {
            let result = self.write(&batch);
            let failed = result.err().map(|error| Failed(Arc::new(error)));
            let position = batch.last;
            let mut waiting = self.shared.waiting();
            waiting.writing = None;
            if let Some(Batch { frame, .. }) = Arc::into_inner(batch)
                && frame.capacity() <= BUFFER_BYTES_KEPT_MAX
            {
                waiting.spare = frame;
            }
            if let Some(failed) = failed {
                tracing::error!(error = %failed.0, "the journal cannot be written");
                self.shared.durable.send_modify(|durable| durable.failed = Some(failed));
                self.shared.progress.notify_all();
                return;
            }
            self.shared.durable.send_modify(|durable| durable.position = position);
            self.shared.progress.notify_all();
        }
    }

    /// The next batch, once there is one; `None` when the log is closed and all is written.
    fn next(&self) -> Option<Arc<Batch>> {
        let mut waiting = self.shared.waiting();
        loop {
            if self.shared.durable.borrow().failed.is_some() {
                return None;
            }
            if waiting.full.is_empty() && !waiting.open.is_empty() {
                waiting.close_batch(self.shared.options.segment_bytes, false);
            }
            if let Some(mut batch) = waiting.full.pop_front() {
                FileId::segment(batch.segment).finish(batch.start, &mut batch.frame);
                let batch = Arc::new(batch);
                waiting.writing = Some(Arc::clone(&batch));
                return Some(batch);
            }
            if waiting.closing {
                return None;
            }
            waiting.idle = true;
            waiting = self.shared.work.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write(&mut self, batch: &Batch) -> io::Result<()> {
        let sync = self.shared.options.fsync;
        let file = match &mut self.segment {
            Some((number, file)) if *number == batch.segment => file,
            other => {
                let id = FileId::segment(batch.segment);
                let path = self.shared.directory.file(id);
                let mut file = OpenOptions::new().create_new(true).append(true).open(path)?;
                file.write_all(&id.header())?;
                if sync {
                    file.sync_all()?;
                    self.shared.directory.sync()?;
                }
                &mut other.insert((batch.segment, file)).1
            }
        };
        file.write_all(&batch.frame)?;
        if sync {
            file.sync_data()?;
        }
        Ok(())
    }
}
