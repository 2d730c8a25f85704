//! How long to wait before an empty queue is asked again.
//!
//! Source: `RandomizedExponentialBackoffStrategy` of the Storage extension.

use std::time::Duration;

use crate::config::POLLING_MIN;

/// How far a pause may be off, up or down, so that hosts do not poll in step.
const JITTER: f64 = 0.2;

/// Pauses that double from a tenth of a second up to a limit.
#[derive(Debug)]
pub(super) struct Polling {
    most: Duration,
    current: Duration,
    exponent: i32,
}

impl Polling {
    pub(super) fn new(most: Duration) -> Self {
        Self { most, current: Duration::ZERO, exponent: 0 }
    }

    /// The next pause. `found` says whether there was a message since the last one; `chance` is in
    /// `[0, 1)`.
    pub(super) fn pause(&mut self, found: bool, chance: f64) -> Duration {
        if found {
            self.current = POLLING_MIN;
            self.exponent = 1;
        } else if self.current != self.most {
            let mut next = POLLING_MIN;
            if self.exponent > 0 {
                let factor = (1.0 - JITTER + 2.0 * JITTER * chance) * 2_f64.powi(self.exponent - 1);
                next += POLLING_MIN.mul_f64(factor);
            }
            if next < self.most {
                self.current = next;
                self.exponent += 1;
            } else {
                self.current = self.most;
            }
        }
        self.current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_limit_and_start_anew_with_a_message() {
        let millis = |polling: &mut Polling, found| {
            u64::try_from(polling.pause(found, 0.5).as_millis()).unwrap()
        };
        let mut polling = Polling::new(Duration::from_secs(2));
        let pauses: Vec<u64> = (0..8).map(|_| millis(&mut polling, false)).collect();
        assert_eq!(pauses, [100, 200, 300, 500, 900, 1_700, 2_000, 2_000]);
        let pauses: Vec<u64> =
            [true, false, false].into_iter().map(|found| millis(&mut polling, found)).collect();
        assert_eq!(pauses, [100, 200, 300]);
        let mut low = Polling::new(Duration::from_secs(2));
        low.pause(true, 0.0);
        assert_eq!(low.pause(false, 0.0), Duration::from_millis(180));
        assert!(low.pause(false, 0.999) > Duration::from_millis(339));
        let mut short = Polling::new(POLLING_MIN);
        assert_eq!((short.pause(false, 0.5), short.pause(true, 0.5)), (POLLING_MIN, POLLING_MIN));
    }
}
