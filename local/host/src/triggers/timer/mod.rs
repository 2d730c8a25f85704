//! `timerTrigger`: wait for the next occurrence, invoke, remember, and again.
//!
//! Modelled on `TimerListener` of the timer extension. One run of a timer at a time; what became
//! due while it ran, or while the host was down, is made up for once, as past due. Schedules are
//! in UTC, whatever `WEBSITE_TIME_ZONE` says. Of several hosts that share a state directory one runs
//! a timer, and another takes over when it ends; Azure has a lease on a blob for that.

mod schedule;
mod status;

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::bindings::Function;
use crate::invocation::envelope::BindingData;
use crate::invocation::record::reason;
use crate::invocation::{BindingValue, Call, Envelope};
use crate::log::{Level, category};
pub(crate) use schedule::Schedule;
pub(crate) use status::Monitor;
use status::{Status, Turn, round_trip};

/// The clock is looked at this often: one that was set, or a machine that slept, must not keep a
/// timer waiting for what has passed.
const CLOCK_CHECK: Duration = Duration::from_millis(500);

/// A timer that another host runs is looked at this often.
const TURN_CHECK: Duration = Duration::from_secs(1);

/// Occurrences told when the host starts, as in Azure.
const TOLD: usize = 5;

/// `timerTrigger`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TimerTrigger {
    pub(crate) schedule: Schedule,
    /// The schedule as it is written.
    pub(crate) text: String,
    pub(crate) run_on_startup: bool,
    /// `useMonitor`.
    pub(crate) monitored: bool,
}

/// Why a timer fires.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Occasion {
    OnTime,
    Startup,
    /// It should have, at that time.
    PastDue(OffsetDateTime),
}

impl Occasion {
    fn details(self) -> Option<String> {
        match self {
            Self::OnTime => None,
            Self::Startup => Some("UnscheduledInvocationReason: RunOnStartup".to_owned()),
            Self::PastDue(time) => Some(format!(
                "UnscheduledInvocationReason: IsPastDue, OriginalSchedule: {}",
                round_trip(time)
            )),
        }
    }
}

/// Fires until `stop`, then waits for what is in flight.
pub(crate) async fn listen(
    shared: Shared,
    function: Arc<Function>,
    trigger: TimerTrigger,
    stop: CancellationToken,
) {
    Timer { shared, function, trigger, unsaved: false }.run(stop).await;
}

/// Runs the function once, out of turn.
pub(crate) async fn run_once(shared: &Shared, function: &Arc<Function>, trigger: &TimerTrigger) {
    let status = shared.timers.known(&function.name).filter(|_| trigger.monitored);
    let envelope = envelope(function, trigger, status, false, shared.invoker.log.now());
    let call = Call { function, reason: reason::HOST_API, details: None, traceparent: None };
    // Success and failure are in the log.
    drop(shared.invoker.invoke(call, envelope).await);
}

struct Timer {
    shared: Shared,
    function: Arc<Function>,
    trigger: TimerTrigger,
    /// Whether it was said that the status is not written.
    unsaved: bool,
}

impl Timer {
    async fn run(mut self, stop: CancellationToken) {
        let _turn = tokio::select! {
            () = stop.cancelled() => return,
            turn = self.turn() => turn,
        };
        let now = self.now();
        let (mut status, missed) = match self.load().await {
            Some(status) => status.resumed(&self.trigger.schedule, now),
            None => (Status::first(&self.trigger.schedule, now), None),
        };
        self.save(status).await;
        self.tell(now);
        let name = Arc::clone(&self.function.name);
        if let Some(time) = missed {
            let text = format!("Function '{name}' is past due on startup. Executing now.");
            self.line(Level::Information, text);
            status = self.fire(status, Occasion::PastDue(time)).await;
        } else if self.trigger.run_on_startup {
            let text = format!("Function '{name}' is configured to run on startup. Executing now.");
            self.line(Level::Information, text);
            status = self.fire(status, Occasion::Startup).await;
        }
        loop {
            let Some(next) = status.next else { return stop.cancelled().await };
            // Due already: it was missed while the function ran.
            let occasion = match next < self.now() {
                true => Occasion::PastDue(next),
                false => Occasion::OnTime,
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.until(next) => {}
            }
            status = self.fire(status, occasion).await;
        }
    }

    /// Waits until no other host runs this timer. It stays this host's for as long as what is
    /// returned lives; `None` if nobody can tell.
    async fn turn(&self) -> Option<Turn> {
        let mut waiting = false;
        loop {
            match self.shared.timers.turn(&self.function.name) {
                Ok(Some(turn)) => return Some(turn),
                Ok(None) => {
                    if !std::mem::replace(&mut waiting, true) {
                        let name = &self.function.name;
                        let text = format!("Function '{name}' is run by another host for now.");
                        self.line(Level::Information, text);
                    }
                    sleep(TURN_CHECK).await;
                }
                Err(why) => {
                    let name = &self.function.name;
                    let text = format!("Other hosts may run function '{name}' as well: {why}.");
                    self.line(Level::Warning, text);
                    return None;
                }
            }
        }
    }

    async fn until(&self, time: OffsetDateTime) {
        loop {
            let Ok(left) = Duration::try_from(time - self.now()) else { return };
            if left.is_zero() {
                return;
            }
            sleep(left.min(CLOCK_CHECK)).await;
        }
    }

    /// Invokes the function; answers what to go on with.
    async fn fire(&mut self, status: Status, occasion: Occasion) -> Status {
        let now = self.now();
        let (function, trigger) = (&self.function, &self.trigger);
        let past_due = matches!(occasion, Occasion::PastDue(_));
        let shown = Some(status).filter(|_| trigger.monitored);
        let envelope = envelope(function, trigger, shown, past_due, now);
        let reason = format!("Timer fired at {}", round_trip(now));
        let call =
            Call { function, reason: &reason, details: occasion.details(), traceparent: None };
        // A failure is in the log, and does not change the schedule.
        drop(self.shared.invoker.invoke(call, envelope).await);
        // The clock may be behind the occurrence by a hair, which must not come twice.
        let time = match (occasion, status.next) {
            (Occasion::OnTime, Some(next)) => next.max(now),
            _ => now,
        };
        let status = Status::after(&self.trigger.schedule, time, self.now());
        self.save(status).await;
        status
    }

    async fn load(&self) -> Option<Status> {
        if !self.trigger.monitored {
            return None;
        }
        self.shared.timers.load(&self.function.name).await.unwrap_or_else(|why| {
            let text = format!(
                "Whether function '{}' is past due is not known: {why}.",
                self.function.name
            );
            self.line(Level::Warning, text);
            None
        })
    }

    async fn save(&mut self, status: Status) {
        if !self.trigger.monitored {
            return;
        }
        let saved = self.shared.timers.save(&self.function.name, status).await;
        if let Err(why) = saved
            && !std::mem::replace(&mut self.unsaved, true)
        {
            let text = format!(
                "What function '{}' misses while the host is down will not be noticed: {why}.",
                self.function.name
            );
            self.line(Level::Warning, text);
        }
    }

    /// Says when it will fire.
    fn tell(&self, now: OffsetDateTime) {
        let schedule = &self.trigger.schedule;
        let first = schedule.next_after(now);
        let times: Vec<String> = std::iter::successors(first, |time| schedule.next_after(*time))
            .take(TOLD)
            .map(round_trip)
            .collect();
        let text = format!(
            "The next {} occurrences of the '{}' schedule ({}) will be:\n{}",
            times.len(),
            self.function.name,
            self.trigger.text,
            times.join("\n")
        );
        self.line(Level::Information, text);
    }

    fn now(&self) -> OffsetDateTime {
        self.shared.invoker.log.now()
    }

    fn line(&self, level: Level, text: String) {
        self.shared.invoker.log.line(level, category::TIMER, text);
    }
}

fn envelope(
    function: &Function,
    trigger: &TimerTrigger,
    status: Option<Status>,
    past_due: bool,
    now: OffsetDateTime,
) -> Envelope {
    let data = BindingValue::Object(Map::from_iter([
        ("Schedule".to_owned(), json!({ "AdjustForDST": trigger.schedule.adjusts_for_dst() })),
        ("ScheduleStatus".to_owned(), status.map_or(Value::Null, Status::to_json)),
        ("IsPastDue".to_owned(), json!(past_due)),
    ]));
    Envelope::new(&function.name, &function.binding, data.encode(), BindingData::default(), now)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;
    use crate::bindings::Trigger;

    #[test]
    fn a_timer_is_sent_as_a_native_object() {
        let trigger = TimerTrigger {
            schedule: Schedule::parse("0 */5 * * * *").unwrap(),
            text: "0 */5 * * * *".to_owned(),
            run_on_startup: false,
            monitored: true,
        };
        let function = Function {
            name: "Tick".into(),
            binding: "tick".to_owned(),
            trigger: Trigger::Timer(trigger.clone()),
            retry: None,
            outputs: vec![],
            http_in_and_out: false,
        };
        let before = datetime!(2026-03-01 09:55 UTC);
        let status = Status::after(&trigger.schedule, before, before);
        let now = datetime!(2026-03-01 10:00 UTC);
        let mut sent = envelope(&function, &trigger, Some(status), false, now).to_value();
        sent["Metadata"]["sys"].as_object_mut().unwrap().remove("RandGuid");
        assert_eq!(
            sent,
            json!({
                "Data": { "tick": { "Schedule": { "AdjustForDST": true }, "ScheduleStatus": {
                    "Last": "2026-03-01T09:55:00+00:00", "Next": "2026-03-01T10:00:00+00:00",
                    "LastUpdated": "2026-03-01T09:55:00+00:00" }, "IsPastDue": false } },
                "Metadata": { "sys": { "MethodName": "Tick", "UtcNow": "2026-03-01T10:00:00Z" } }
            })
        );
        let sent = envelope(&function, &trigger, None, true, now).to_value();
        assert_eq!(sent["Data"]["tick"]["ScheduleStatus"], Value::Null);
        assert_eq!(sent["Data"]["tick"]["IsPastDue"], true);
        let late = Occasion::PastDue(now).details().unwrap();
        assert!(late.ends_with("OriginalSchedule: 2026-03-01T10:00:00.0000000+00:00"), "{late}");
    }
}
