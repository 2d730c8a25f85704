//! The only place that asks what time it is.

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
    pub fn system() -> Self {
        #[expect(clippy::disallowed_methods, reason = "the shell's one reading of the clock")]
        Self::from_fn(|| {
            let elapsed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX)
        })
    }

    /// Any other source of epoch milliseconds, for tests and simulation.
    pub fn from_fn(source: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self { source: Arc::new(source), latest: Arc::default() }
    }

    /// Now, in epoch milliseconds. A source that goes back stands still instead: delays and
    /// times to live rely on it.
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
