//! Faults on request, for tests of handlers: what a real host does rarely, done when asked.
//!
//! The Azure host has nothing like it. Nothing happens unless somebody adds a rule.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

use crate::clock::Clock;

/// Rules of one host: more than a test that a person can follow needs.
const RULES_MAX: usize = 256;

/// How long a process may take to stand still: it must only come to run once.
const STILL_WITHIN: Duration = Duration::from_secs(2);

/// Pause between two looks at a process that is to stand still.
const LOOK_AGAIN: Duration = Duration::from_millis(1);

/// Longest pause of a handler, in milliseconds. Ten minutes outlast every lock and time-out.
const PAUSE_MILLIS_MAX: u64 = 600_000;

/// Farthest jump of the clock, in seconds: a year, in either direction.
const JUMP_SECONDS_MAX: i64 = 366 * 24 * 60 * 60;

/// One kind of fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub enum Fault {
    /// The item is handed to the handler twice, as after a settlement that was lost. The first
    /// outcome is forgotten.
    Duplicate,
    /// The connection is closed once the head of the answer is there: the handler has done its
    /// work, and the invocation fails.
    Drop,
    /// The answer comes too late: the invocation times out, and the handler is killed.
    Timeout,
    /// The handler's process stands still for a while, beginning with this invocation.
    Pause {
        /// For how long.
        millis: u64,
    },
    /// The handler is killed and started again before it gets this invocation.
    Restart,
}

/// When a fault happens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FaultRule {
    /// The function, in any case; `None` for every function.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<String>,
    /// How often; `None` for always.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// What happens.
    #[serde(flatten)]
    pub fault: Fault,
}

/// Everything that is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FaultPlan {
    /// The first one that matches decides.
    #[serde(default)]
    pub rules: Vec<FaultRule>,
    /// How far the host's clock is ahead of the machine's, in seconds; negative if behind.
    #[serde(default)]
    pub clock_ahead_seconds: i64,
}

/// The faults of one host. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    rules: Arc<Mutex<Vec<FaultRule>>>,
    ahead_seconds: Arc<AtomicI64>,
}

impl Faults {
    /// Replaces all rules, and sets the clock.
    ///
    /// # Errors
    /// What is wrong with the plan, for a person.
    pub fn set(&self, plan: FaultPlan) -> Result<(), String> {
        if plan.rules.len() > RULES_MAX {
            return Err(format!("there are at most {RULES_MAX} rules"));
        }
        for rule in &plan.rules {
            if let Fault::Pause { millis } = rule.fault
                && millis > PAUSE_MILLIS_MAX
            {
                return Err(format!("a pause has at most {PAUSE_MILLIS_MAX} milliseconds"));
            }
        }
        if plan.clock_ahead_seconds.abs() > JUMP_SECONDS_MAX {
            return Err(format!("the clock jumps by at most {JUMP_SECONDS_MAX} seconds"));
        }
        *self.rules() = plan.rules;
        self.ahead_seconds.store(plan.clock_ahead_seconds, Ordering::Relaxed);
        Ok(())
    }

    /// What is left of the rules, and how far the clock is ahead.
    #[must_use]
    pub fn plan(&self) -> FaultPlan {
        FaultPlan {
            rules: self.rules().clone(),
            clock_ahead_seconds: self.ahead_seconds.load(Ordering::Relaxed),
        }
    }

    /// The same clock, ahead by as much as is asked for.
    pub(crate) fn over(&self, clock: Clock) -> Clock {
        let ahead = Arc::clone(&self.ahead_seconds);
        Arc::new(move || -> OffsetDateTime {
            let seconds = ahead.load(Ordering::Relaxed);
            clock().saturating_add(time::Duration::seconds(seconds))
        })
    }

    /// The fault that an invocation of `function` meets, if it is one of those `wanted`.
    pub(crate) fn take(&self, function: &str, wanted: fn(&Fault) -> bool) -> Option<Fault> {
        let mut rules = self.rules();
        let position = rules.iter().position(|rule| {
            let named = rule.function.as_deref();
            wanted(&rule.fault) && named.is_none_or(|name| name.eq_ignore_ascii_case(function))
        })?;
        let fault = rules[position].fault.clone();
        if let Some(times) = &mut rules[position].times {
            *times = times.saturating_sub(1);
            if *times == 0 {
                rules.remove(position);
            }
        }
        Some(fault)
    }

    fn rules(&self) -> MutexGuard<'_, Vec<FaultRule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fault {
    /// Happens to the process before the call is made.
    pub(crate) fn is_before_the_call(&self) -> bool {
        matches!(self, Self::Pause { .. } | Self::Restart)
    }

    /// Happens to the call.
    pub(crate) fn is_of_the_call(&self) -> bool {
        !self.is_before_the_call()
    }

    /// Happens to the answer, whatever way it takes to the caller.
    pub(crate) fn is_of_the_answer(&self) -> bool {
        matches!(self, Self::Drop | Self::Timeout)
    }
}

/// Makes a process stand still; it goes on with the end of what is returned, after `pause`.
pub(crate) async fn stand_still(pid: u32, pause: Duration) -> impl Future<Output = ()> + Send {
    signal("-STOP", pid).await;
    // One thread takes the signal and stops the others. On a busy machine it may take a while until
    // it runs, and another one could answer a call until then.
    let until = tokio::time::Instant::now() + STILL_WITHIN;
    while !is_still(pid) && tokio::time::Instant::now() < until {
        tokio::time::sleep(LOOK_AGAIN).await;
    }
    async move {
        tokio::time::sleep(pause).await;
        signal("-CONT", pid).await;
    }
}

/// Whether no thread of a process runs, as far as the system tells: see `proc(5)`, `stat`.
fn is_still(pid: u32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    threads.flatten().all(|thread| {
        let Ok(stat) = std::fs::read_to_string(thread.path().join("stat")) else { return true };
        // The name before the state is in parentheses, and may contain some.
        let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
        state.is_none_or(|state| "TtZX".contains(state))
    })
}

async fn signal(name: &str, pid: u32) {
    // A process that is gone by now has nothing to stop.
    let _ = tokio::process::Command::new("kill")
        .args([name, &pid.to_string()])
        .stdin(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .status()
        .await;
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_first_rule_that_fits_is_taken_as_often_as_it_says() {
        let faults = Faults::default();
        let plan = json!({"rules": [
            {"function": "Work", "times": 2, "kind": "duplicate"},
            {"kind": "pause", "millis": 5},
            {"function": "work", "kind": "drop"},
        ], "clockAheadSeconds": 60});
        faults.set(serde_json::from_value(plan).unwrap()).unwrap();
        assert_eq!(faults.take("Other", Fault::is_of_the_call), None);
        assert_eq!(
            faults.take("Other", Fault::is_before_the_call),
            Some(Fault::Pause { millis: 5 })
        );
        for expected in [Fault::Duplicate, Fault::Duplicate, Fault::Drop, Fault::Drop] {
            assert_eq!(faults.take("WORK", Fault::is_of_the_call), Some(expected));
        }
        assert_eq!(faults.plan().rules.len(), 2, "what is used up is gone");
        let at = OffsetDateTime::UNIX_EPOCH;
        assert_eq!(faults.over(Arc::new(move || at))(), at + time::Duration::MINUTE);
    }

    #[test]
    fn a_plan_that_is_none_changes_nothing() {
        let faults = Faults::default();
        let rule = FaultRule { function: None, times: None, fault: Fault::Restart };
        let many = FaultPlan { rules: vec![rule.clone(); 257], clock_ahead_seconds: 0 };
        let long = Fault::Pause { millis: 600_001 };
        let long =
            FaultPlan { rules: vec![FaultRule { fault: long, ..rule }], ..FaultPlan::default() };
        let far = FaultPlan { rules: Vec::new(), clock_ahead_seconds: i64::from(i32::MAX) };
        for plan in [many, long, far] {
            assert!(faults.set(plan).is_err());
            assert_eq!(faults.plan(), FaultPlan::default());
        }
        for text in [r#"{"rules":[{"kind":"explode"}]}"#, r#"{"rule":[]}"#] {
            assert!(serde_json::from_str::<FaultPlan>(text).is_err(), "{text}");
        }
    }
}
