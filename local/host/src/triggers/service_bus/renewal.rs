//! Keeping the lock of a message while its invocation runs, or of a session while it is held.
//!
//! Source: `ReceiverManager` of the .NET `ServiceBusProcessor`: renew when ten seconds are left,
//! or half of the rest when the lock is shorter than that, until `maxAutoLockRenewalDuration`.

use std::time::Duration;

use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::management::{LockError, Locked, Management};
use crate::log::{Level, Logger, category};

/// How long before its end a lock is renewed, if it is long enough.
const LEAD_MAX: Duration = Duration::from_secs(10);

/// A lock with less than this left is renewed at once.
const LEFT_MIN: Duration = Duration::from_millis(400);

/// Pause before another attempt when the broker could not be asked.
const RETRY_PAUSE: Duration = Duration::from_millis(500);

/// One lock, and the way to renew it.
pub(crate) struct Lock {
    pub(crate) on: Locked,
    pub(crate) until: OffsetDateTime,
    /// Which message or session it is, for the log.
    pub(crate) name: String,
    /// The management link of whatever connection there is at present.
    pub(crate) management: watch::Receiver<Option<Management>>,
    /// The known end of the lock, kept for whoever settles.
    pub(crate) known: watch::Sender<OffsetDateTime>,
}

/// Renews `lock` for at most `limit`. Never ends: what it runs beside does.
pub(crate) async fn keep(mut lock: Lock, limit: Duration, log: &Logger) {
    let end = Instant::now() + limit;
    loop {
        let pause = delay(lock.until - log.now());
        if Instant::now() + pause >= end {
            // From here on the message is delivered again if the invocation takes too long.
            return std::future::pending().await;
        }
        sleep(pause).await;
        let management = lock.management.borrow().clone();
        let renewed = match management {
            Some(management) => management.renew(lock.on.clone()).await,
            None => Err(LockError::Unavailable("the broker is not connected".to_owned())),
        };
        match renewed {
            Ok(until) => {
                lock.until = until;
                lock.known.send_replace(until);
            }
            Err(LockError::Lost(why)) => {
                log.line(
                    Level::Warning,
                    category::SERVICE_BUS,
                    format!(
                        "The lock of {} could not be renewed ({why}). What runs goes on, and what \
                         is not settled by now is delivered again.",
                        lock.name
                    ),
                );
                return std::future::pending().await;
            }
            Err(LockError::Unavailable(why)) => {
                log.line(
                    Level::Warning,
                    category::SERVICE_BUS,
                    format!("The lock of {} could not be renewed yet: {why}", lock.name),
                );
                sleep(RETRY_PAUSE).await;
            }
        }
    }
}

/// How long to wait before renewing a lock that has `left` to go.
fn delay(left: time::Duration) -> Duration {
    let left = Duration::try_from(left).unwrap_or_default();
    if left < LEFT_MIN {
        return Duration::ZERO;
    }
    left - LEAD_MAX.min(left / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn locks_are_renewed_ten_seconds_before_their_end_or_half_way() {
        for (left, expected) in [
            (60_000, 50_000),
            (30_000, 20_000),
            (20_000, 10_000),
            (5_000, 2_500),
            (399, 0),
            (-5, 0),
        ] {
            let delay = delay(time::Duration::milliseconds(left));
            assert_eq!(delay, Duration::from_millis(expected), "{left}");
        }
    }
}
