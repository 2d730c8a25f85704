//! The one place where the broker's time comes from the system.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::broker::Timestamp;

/// The current time.
#[expect(
    clippy::disallowed_methods,
    reason = "the outermost shell; everything within takes the time as an argument"
)]
pub(super) fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_millis(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
}
