//! What a subscriber's answer means, and how long to wait before the next attempt.
//!
//! Source: <https://learn.microsoft.com/azure/event-grid/delivery-and-retry>, webhooks.

use std::time::Duration;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

/// Delay after the first failure, the second, …; the last one from then on.
pub const SCHEDULE: [Duration; 10] = [
    Duration::from_secs(10),
    Duration::from_secs(30),
    Duration::from_secs(MINUTE),
    Duration::from_secs(5 * MINUTE),
    Duration::from_secs(10 * MINUTE),
    Duration::from_secs(30 * MINUTE),
    Duration::from_secs(HOUR),
    Duration::from_secs(3 * HOUR),
    Duration::from_secs(6 * HOUR),
    Duration::from_secs(12 * HOUR),
];

/// The random part of a delay, at most, as a fraction of the delay: Azure says "small".
const JITTER: f64 = 0.1;

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The subscriber answered with this status.
    Status(u16),
    /// It did not answer in time.
    TimedOut,
    /// It could not be reached, or hung up.
    Unreachable,
}

/// What follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Consequence {
    /// The event is delivered.
    Delivered,
    /// Another attempt, not before this delay.
    Retry(Duration),
    /// No attempt will ever succeed.
    Rejected,
}

impl Outcome {
    /// What follows.
    #[must_use]
    pub fn consequence(self) -> Consequence {
        match self {
            Self::Status(200..=204) => Consequence::Delivered,
            Self::Status(400 | 401 | 403 | 413) => Consequence::Rejected,
            Self::Status(404) => Consequence::Retry(Duration::from_secs(5 * MINUTE)),
            Self::Status(408) => Consequence::Retry(Duration::from_secs(2 * MINUTE)),
            Self::Status(503) => Consequence::Retry(Duration::from_secs(30)),
            // Redirects are failures like any other: nobody follows them.
            Self::Status(_) | Self::TimedOut | Self::Unreachable => Consequence::Retry(SCHEDULE[0]),
        }
    }

    /// The name in a dead letter.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Status(400) => "BadRequest",
            Self::Status(401) => "Unauthorized",
            Self::Status(403) => "Forbidden",
            Self::Status(404) => "NotFound",
            Self::Status(413) => "PayloadTooLarge",
            Self::Status(429 | 503) => "Busy",
            Self::Status(408) | Self::TimedOut => "TimedOut",
            Self::Unreachable => "SocketError",
            Self::Status(_) => "GenericError",
        }
    }

    /// The status, if there was an answer.
    #[must_use]
    pub fn status(self) -> Option<u16> {
        match self {
            Self::Status(status) => Some(status),
            Self::TimedOut | Self::Unreachable => None,
        }
    }
}

/// The delay after `attempts` failed attempts of which the last asks for `least`. `random` is any
/// 32 random bits.
#[must_use]
pub fn delay(attempts: u32, least: Duration, random: u32) -> Duration {
    let step = usize::try_from(attempts.saturating_sub(1)).unwrap_or(usize::MAX);
    let scheduled = SCHEDULE[step.min(SCHEDULE.len() - 1)].max(least);
    scheduled + scheduled.mul_f64(JITTER * f64::from(random) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_the_published_consequences() {
        let of = |status| Outcome::Status(status).consequence();
        for status in 100..600 {
            let expected = match status {
                200..=204 => Consequence::Delivered,
                400 | 401 | 403 | 413 => Consequence::Rejected,
                404 => Consequence::Retry(Duration::from_secs(300)),
                408 => Consequence::Retry(Duration::from_secs(120)),
                503 => Consequence::Retry(Duration::from_secs(30)),
                _ => Consequence::Retry(Duration::from_secs(10)),
            };
            assert_eq!(of(status), expected, "{status}");
        }
        assert!(matches!(Outcome::TimedOut.consequence(), Consequence::Retry(_)));
        assert_eq!(Outcome::Status(301).name(), "GenericError");
    }

    #[test]
    fn delays_follow_the_schedule_with_a_little_jitter() {
        for attempts in 1..40 {
            let [least, most] = [0, u32::MAX].map(|r| delay(attempts, Duration::ZERO, r));
            let scheduled = SCHEDULE[(attempts as usize - 1).min(9)];
            assert_eq!(least, scheduled);
            assert!(most > scheduled && most <= scheduled.mul_f64(1.1001), "{most:?}");
        }
        let five = Duration::from_secs(300);
        assert_eq!(delay(1, five, 0), five, "what the status asks for counts");
        assert_eq!(delay(5, five, 0), Duration::from_secs(600), "unless the schedule says more");
    }
}
