//! Dead letters on disk: `<root>/<destination>/<topic>/<subscription>.jsonl`, appended.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::fs::OpenOptions;
use tokio::io::AsyncWriteExt as _;
use tokio::sync::Mutex;

use crate::limits;
use crate::store::Ticket;

/// Writes dead letters. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Morgue {
    root: Arc<PathBuf>,
    /// One at a time, so that lines stay whole.
    one_at_a_time: Arc<Mutex<()>>,
}

impl Morgue {
    pub(super) fn new(root: PathBuf) -> Self {
        Self { root: Arc::new(root), one_at_a_time: Arc::default() }
    }

    /// Appends a line; names were checked when they were declared.
    pub(super) async fn bury(
        &self,
        ticket: &Ticket,
        destination: &str,
        line: &str,
    ) -> std::io::Result<()> {
        let folder = self.root.join(destination).join(&*ticket.topic);
        let path = folder.join(format!("{}.jsonl", ticket.subscription));
        let _one = self.one_at_a_time.lock().await;
        tokio::fs::create_dir_all(&folder).await?;
        let mut file = OpenOptions::new().create(true).append(true).open(&path).await?;
        let size = file.metadata().await?.len();
        if size + line.len() as u64 >= limits::DEAD_LETTER_FILE_BYTES_MAX {
            return Err(std::io::Error::other("the file of dead letters is as large as it may be"));
        }
        file.write_all(format!("{line}\n").as_bytes()).await?;
        // Tokio's files write behind.
        file.flush().await
    }
}
