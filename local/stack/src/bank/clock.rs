//! The only place where the bank asks what time it is.

use std::sync::Arc;

use time::OffsetDateTime;

/// A source of time.
pub type Clock = Arc<dyn Fn() -> OffsetDateTime + Send + Sync>;

/// The time of this machine, in whole milliseconds.
#[must_use]
pub fn system_clock() -> Clock {
    #[expect(clippy::disallowed_methods, reason = "the shell's one reading of the clock")]
    Arc::new(|| {
        let now = OffsetDateTime::now_utc();
        now.replace_millisecond(now.millisecond()).unwrap_or(now)
    })
}
