//! The only place where a stand-in asks what time it is.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// A source of time, in epoch milliseconds, that never goes back.
#[derive(Clone)]
pub struct Clock {
    source: Arc<dyn Fn() -> u64 + Send + Sync>,
    latest: Arc<AtomicU64>,
}

impl Clock {
    /// The time of this machine.
    #[must_use]
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the shell's one reading of the clock")]
        Self::from_fn(|| {
            let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
        })
    }

    /// Any other source of epoch milliseconds, for tests and simulation.
    #[must_use]
    pub fn from_fn(source: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { source: Arc::new(source), latest: Arc::default() }
    }

    /// Now, in epoch milliseconds. A source that goes back stands still instead: times to live,
    /// visibility and the order of change feeds rely on it.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        let now = (self.source)();
        self.latest.fetch_max(now, Ordering::Relaxed).max(now)
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Clock")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_set_back_stands_still() {
        let source = Arc::new(AtomicU64::new(1_000));
        let set = source.clone();
        let clock = Clock::from_fn(move || source.load(Ordering::Relaxed));
        assert_eq!(clock.now_ms(), 1_000);
        set.store(400, Ordering::Relaxed);
        assert_eq!(clock.clone().now_ms(), 1_000);
        set.store(1_001, Ordering::Relaxed);
        assert_eq!(clock.now_ms(), 1_001);
    }
}
