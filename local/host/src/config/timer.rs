//! `timerTrigger`: its keys in `function.json`.
//!
//! Reference: <https://learn.microsoft.com/azure/azure-functions/functions-bindings-timer>.

use serde_json::Value;

use super::json::Section;
use crate::error::Problem;
use crate::triggers::timer::{Schedule, TimerTrigger};

/// Reads the binding. `None` when `problems` says why it is not usable.
pub(super) fn trigger(
    path: &str,
    section: &Section<'_>,
    problems: &mut Vec<Problem>,
) -> Option<TimerTrigger> {
    let run_on_startup = section.flag("runOnStartup", false, problems);
    let text = section.text("schedule", problems).unwrap_or_default().trim().to_owned();
    let schedule = match Schedule::parse(&text) {
        Ok(schedule) => schedule,
        Err(why) => {
            problems.push(Problem::new(
                format!("{path}: the schedule \"{text}\" is not usable"),
                why,
                "write second, minute, hour, day, month and day of week, e.g. \"0 */5 * * * *\" \
                 for every five minutes, or a time span, e.g. \"00:05:00\"",
            ));
            return None;
        }
    };
    let monitored = match section.get("useMonitor") {
        None | Some(Value::Null) => !schedule.is_frequent(),
        Some(_) => section.flag("useMonitor", true, problems),
    };
    Some(TimerTrigger { schedule, text, run_on_startup, monitored })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_comes_often_is_not_monitored_unless_asked() {
        for (binding, expected) in [
            (json!({ "schedule": "0 */5 * * * *" }), (true, false)),
            (json!({ "schedule": "*/5 * * * * *" }), (false, false)),
            (json!({ "schedule": " */5 * * * * * ", "useMonitor": true }), (true, false)),
            (json!({ "schedule": "0 */5 * * * *", "useMonitor": "false" }), (false, false)),
            (json!({ "schedule": "01:00:00", "runOnStartup": true }), (true, true)),
        ] {
            let mut problems = Vec::new();
            let section = Section::root("f", binding.as_object().unwrap());
            let read = trigger("f", &section, &mut problems).unwrap();
            assert_eq!((read.monitored, read.run_on_startup), expected, "{binding}");
            assert_eq!(problems, []);
        }
        for (binding, part) in [
            (json!({}), "the schedule \"\""),
            (json!({ "schedule": "0 0 30 * * *" }), "hour 30"),
            (json!({ "schedule": "0 * * * * *", "useMonitor": 1 }), "useMonitor is 1"),
        ] {
            let mut problems = Vec::new();
            let _ = trigger("f", &Section::root("f", binding.as_object().unwrap()), &mut problems);
            assert!(problems.iter().any(|p| p.to_string().contains(part)), "{problems:?}");
        }
    }
}
