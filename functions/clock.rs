//! The one place where this package reads the clock.

use orders::Timestamp;

/// Now.
#[expect(clippy::disallowed_methods, reason = "the shell: decisions get the time as an argument")]
pub(crate) fn now() -> Timestamp {
    Timestamp::new(time::OffsetDateTime::now_utc())
}
