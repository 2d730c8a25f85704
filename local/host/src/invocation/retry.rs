//! Retry policies: how often and after which pause a failed invocation is tried again.
//!
//! The retries run in the host, with the trigger item in its hands: nothing is given back to where
//! the item came from, and everything is lost with the process. Source: `ExecuteWithRetries` and
//! `RetryContext` of the `WebJobs` SDK; the policies are described at
//! <https://learn.microsoft.com/azure/azure-functions/functions-bindings-error-pages#retry-policies>.

use std::time::Duration;

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::envelope::BindingValue;

/// How far an exponential pause may be off, up or down, so that hosts do not retry in step.
const JITTER: f64 = 0.2;

/// `retry` of a function or of the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RetryPolicy {
    /// Retries after the first attempt; `None` means that there is no end.
    pub(crate) most: Option<u32>,
    pub(crate) pause: Pause,
}

/// The time between two attempts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pause {
    /// `fixedDelay`.
    Fixed(Duration),
    /// `exponentialBackoff`: doubles from the first to the second.
    Exponential(Duration, Duration),
}

impl RetryPolicy {
    /// Whether another attempt follows after `retries` retries.
    pub(crate) fn allows(&self, retries: u32) -> bool {
        self.most.is_none_or(|most| retries < most)
    }

    /// The pause before the retry after `retries` retries. `chance` is in `[0, 1)`.
    pub(crate) fn pause(&self, retries: u32, chance: f64) -> Duration {
        match self.pause {
            Pause::Fixed(pause) => pause,
            Pause::Exponential(least, most) => {
                let factor = 2_u32.checked_pow(retries).unwrap_or(u32::MAX);
                let doubled = least.saturating_mul(factor).min(most);
                let off = 1.0 - JITTER + 2.0 * JITTER * chance;
                Duration::try_from_secs_f64(doubled.as_secs_f64() * off)
                    .unwrap_or(most)
                    .clamp(least.min(most), most)
            }
        }
    }

    /// `RetryContext` of an invocation after `retries` retries, the last of which failed for `why`.
    pub(crate) fn context(&self, retries: u32, why: Option<&str>) -> BindingValue {
        let exception = match why {
            Some(why) => json!({ "ClassName": "System.Exception", "Message": why }),
            None => Value::Null,
        };
        BindingValue::Object(Map::from_iter([
            ("RetryCount".to_owned(), json!(retries)),
            ("MaxRetryCount".to_owned(), json!(self.most.map_or(-1, i64::from))),
            ("Exception".to_owned(), exception),
        ]))
    }
}

/// A number in `[0, 1)` for [`RetryPolicy::pause`].
pub(crate) fn chance() -> f64 {
    f64::from(Uuid::new_v4().as_fields().0) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn pauses_double_up_to_the_longest_and_never_leave_their_bounds() {
        let policy =
            RetryPolicy { most: None, pause: Pause::Exponential(SECOND, Duration::from_mins(1)) };
        // In the middle of the jitter.
        let pauses: Vec<u64> = (0..9).map(|n| policy.pause(n, 0.5).as_secs()).collect();
        assert_eq!(pauses, [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        for (retries, chance) in [(0, 0.0), (3, 0.999), (31, 0.0), (32, 0.5), (u32::MAX, 0.999)] {
            let pause = policy.pause(retries, chance);
            assert!((SECOND..=SECOND * 60).contains(&pause), "{retries} {chance}: {pause:?}");
        }
        assert!(policy.pause(3, 0.0) < policy.pause(3, 0.9));
        let fixed = RetryPolicy { most: Some(2), pause: Pause::Fixed(SECOND) };
        assert_eq!(fixed.pause(7, 0.9), SECOND);
    }

    #[test]
    fn the_count_is_that_of_retries_and_may_have_no_end() {
        let policy = RetryPolicy { most: Some(2), pause: Pause::Fixed(SECOND) };
        assert_eq!([0, 1, 2, 3].map(|n| policy.allows(n)), [true, true, false, false]);
        let endless = RetryPolicy { most: None, ..policy };
        assert!(endless.allows(u32::MAX));
        assert!(!RetryPolicy { most: Some(0), ..policy }.allows(0));

        assert_eq!(
            policy.context(0, None).encode(),
            json!({ "RetryCount": 0, "MaxRetryCount": 2, "Exception": null })
        );
        assert_eq!(
            endless.context(3, Some("no")).encode(),
            json!({
                "RetryCount": 3, "MaxRetryCount": -1,
                "Exception": { "ClassName": "System.Exception", "Message": "no" }
            })
        );
        let chances = [chance(), chance()];
        assert!(chances.iter().all(|c| (0.0..1.0).contains(c)) && chances[0] != chances[1]);
    }
}
