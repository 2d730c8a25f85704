//! The message-ids an entity has seen lately.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use super::time::Timestamp;

/// A window over the past. Grows with the rate of messages times the window, as it must; ids leave
/// when the next one comes after their time.
#[derive(Debug)]
pub(crate) struct Duplicates {
    window_ms: i64,
    known: HashSet<Arc<str>>,
    /// In the order in which they are forgotten, which is the order in which they came.
    order: VecDeque<(Timestamp, Arc<str>)>,
}

impl Duplicates {
    pub(crate) fn new(window_ms: i64) -> Duplicates {
        Duplicates { window_ms, known: HashSet::new(), order: VecDeque::new() }
    }

    pub(crate) fn window_ms(&self) -> i64 {
        self.window_ms
    }

    /// Whether `key` was remembered within the window that ends now.
    pub(crate) fn knows(&mut self, key: &str, now: Timestamp) -> bool {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            if let Some((_, key)) = self.order.pop_front() {
                self.known.remove(&key);
            }
        }
        self.known.contains(key)
    }

    /// Remembers `key`, which is not known.
    pub(crate) fn remember(&mut self, key: Arc<str>, until: Timestamp) {
        if self.known.insert(Arc::clone(&key)) {
            self.order.push_back((until, key));
        }
    }
}
