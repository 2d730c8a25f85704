//! The message-ids an entity has seen lately.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::time::Timestamp;

/// A window over the past. Grows with the rate of messages times the window, as it must; ids leave
/// when the next one comes after their time.
#[derive(Debug)]
pub(crate) struct Duplicates {
    window_ms: i64,
    /// Until when each is remembered.
    known: HashMap<Arc<str>, Timestamp>,
    /// In the order in which they are forgotten.
    order: VecDeque<(Timestamp, Arc<str>)>,
}

impl Duplicates {
    pub(crate) fn new(window_ms: i64) -> Duplicates {
        Duplicates { window_ms, known: HashMap::new(), order: VecDeque::new() }
    }

    pub(crate) fn window_ms(&self) -> i64 {
        self.window_ms
    }

    /// Sets how long what comes from now on is remembered.
    pub(crate) fn set_window(&mut self, window_ms: i64) {
        self.window_ms = window_ms;
    }

    /// Whether `key` was remembered within the window that ends now.
    pub(crate) fn knows(&mut self, key: &str, now: Timestamp) -> bool {
        while self.order.front().is_some_and(|(until, _)| *until <= now) {
            if let Some((_, key)) = self.order.pop_front()
                // It may have been remembered anew.
                && self.known.get(&key).is_some_and(|until| *until <= now)
            {
                self.known.remove(&key);
            }
        }
        self.known.contains_key(key)
    }

    /// Remembers `key`, anew if it is known.
    pub(crate) fn remember(&mut self, key: Arc<str>, until: Timestamp) {
        let earlier = self.known.insert(Arc::clone(&key), until);
        if earlier != Some(until) {
            // The end, unless the window has become shorter.
            let at = self.order.partition_point(|(known, _)| *known <= until);
            self.order.insert(at, (until, key));
        }
    }

    /// Everything that is remembered at a moment.
    #[cfg(test)]
    pub(crate) fn known_at(
        &self,
        now: Timestamp,
    ) -> std::collections::BTreeMap<Arc<str>, Timestamp> {
        let known = self.known.iter().filter(|(_, until)| **until > now);
        known.map(|(key, until)| (Arc::clone(key), *until)).collect()
    }

    /// What is forgotten after a moment, in order: about `max`, and never only a part of what is
    /// forgotten at the same time.
    pub(crate) fn after(
        &self,
        after: Timestamp,
        max: usize,
    ) -> impl Iterator<Item = &(Timestamp, Arc<str>)> {
        let start = self.order.partition_point(|(until, _)| *until <= after);
        let last = self.order.get(start + max).or(self.order.back()).map(|(until, _)| *until);
        let rest = self.order.range(start..);
        rest.take_while(move |(until, _)| last.is_some_and(|last| *until <= last))
    }
}
