//! The wall clock as a value, so that everything that prints or compares times can be tested.
//!
//! Durations and deadlines use tokio's monotonic clock, which tests can pause.

use std::sync::Arc;

use time::OffsetDateTime;

/// Answers the present moment in UTC.
pub type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// The clock of the machine.
#[must_use]
#[expect(clippy::disallowed_methods, reason = "this is the one place that reads the clock")]
pub fn system_clock() -> Clock {
    Arc::new(OffsetDateTime::now_utc)
}
