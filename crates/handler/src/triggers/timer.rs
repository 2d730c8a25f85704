//! `timerTrigger`.
//!
//! <https://learn.microsoft.com/azure/azure-functions/functions-bindings-timer>

use serde_json::Value;
use time::OffsetDateTime;

use crate::envelope;
use crate::invocation::{DecodeError, Invocation, RetryContext, Trigger};
use crate::timestamp;

/// A tick of a schedule. One runs at a time over all instances of the app.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TimerTick {
    /// Whether the tick comes later than planned: the app was down when it was due.
    pub is_past_due: bool,
    /// What the host remembers about the schedule; `None` when `useMonitor` is off.
    pub schedule_status: Option<ScheduleStatus>,
    /// Where the tick stands in the retry policy.
    pub retry: Option<RetryContext>,
}

/// What the host remembers about a schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScheduleStatus {
    /// The tick before this one; in the year 1 when there was none.
    pub last: Option<OffsetDateTime>,
    /// The tick after the last one.
    pub next: Option<OffsetDateTime>,
    /// When this was written.
    pub last_updated: Option<OffsetDateTime>,
}

impl TimerTick {
    /// A tick of no schedule: for tests of a function.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

impl Trigger for TimerTick {
    fn from_invocation(invocation: Invocation) -> Result<Self, DecodeError> {
        let retry = invocation.retry();
        let (value, _) = invocation.into_single()?;
        let Value::Object(timer) = envelope::open(&value) else {
            return Err(DecodeError::Shape("a timer"));
        };
        let time = |status: &Value, name| timestamp::parse(status.get(name)?.as_str()?);
        Ok(Self {
            is_past_due: timer.get("IsPastDue").and_then(Value::as_bool).unwrap_or_default(),
            schedule_status: timer.get("ScheduleStatus").filter(|status| status.is_object()).map(
                |status| ScheduleStatus {
                    last: time(status, "Last"),
                    next: time(status, "Next"),
                    last_updated: time(status, "LastUpdated"),
                },
            ),
            retry,
        })
    }
}
