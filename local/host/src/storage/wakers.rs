//! Wakes the listener of a queue when this very host has put a message into it, so that nobody
//! waits for a poll (`SharedQueueWatcher` of the Storage extension).

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// By queue name. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Wakers(Arc<Mutex<HashMap<String, Arc<Notify>>>>);

impl Wakers {
    /// What the listener of `queue` waits on. Two listeners of one queue share it.
    pub(crate) fn listener(&self, queue: &str) -> Arc<Notify> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(known.entry(queue.to_owned()).or_default())
    }

    /// Says that there is a message in `queue`.
    pub(crate) fn wake(&self, queue: &str) {
        if let Some(listener) = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(queue) {
            listener.notify_one();
        }
    }
}
