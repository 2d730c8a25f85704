//! `retry` in `function.json`, and in `host.json` for the whole app.
//!
//! Reference:
//! <https://learn.microsoft.com/azure/azure-functions/functions-bindings-error-pages#retry-policies>.

use std::time::Duration;

use serde_json::Value;

use super::json::Section;
use crate::error::Problem;
use crate::invocation::{Pause, RetryPolicy};

/// The policy in `retry` of `file`; `None` when there is none, or when `problems` says why not.
pub(super) fn read(
    file: &str,
    root: &Section<'_>,
    problems: &mut Vec<Problem>,
) -> Option<RetryPolicy> {
    let section = root.child("retry", "retry", problems);
    if !section.exists() {
        return None;
    }
    let before = problems.len();
    let most = match section.get("maxRetryCount") {
        Some(Value::Number(number)) if number.as_i64() == Some(-1) => None,
        Some(Value::String(text)) if text == "-1" => None,
        Some(Value::Number(_) | Value::String(_)) => {
            Some(section.count("maxRetryCount", 0, 0, problems))
        }
        _ => {
            problems.push(Problem::new(
                format!("{file}: retry.maxRetryCount is missing"),
                "a retry policy says how often a failed invocation is tried again",
                "write a number, or -1 for no end",
            ));
            None
        }
    };
    let mut span = |name: &str| {
        if section.get(name).is_none_or(Value::is_null) {
            problems.push(Problem::new(
                format!("{file}: retry.{name} is missing"),
                "the strategy needs it",
                format!("write e.g. \"{name}\": \"00:00:05\""),
            ));
        }
        section.duration(name, Duration::ZERO, problems)
    };
    let strategy = section.text("strategy", &mut Vec::new()).unwrap_or_default();
    let pause = match strategy.to_ascii_lowercase().as_str() {
        "fixeddelay" => Pause::Fixed(span("delayInterval")),
        "exponentialbackoff" => {
            let (least, longest) = (span("minimumInterval"), span("maximumInterval"));
            if least > longest {
                problems.push(Problem::new(
                    format!("{file}: retry.minimumInterval is above retry.maximumInterval"),
                    "pauses grow from the one to the other",
                    "swap them",
                ));
            }
            Pause::Exponential(least, longest)
        }
        _ => {
            problems.push(Problem::new(
                format!("{file}: retry.strategy is \"{strategy}\""),
                "it says how the pause between two attempts is chosen",
                "write \"fixedDelay\" with \"delayInterval\", or \"exponentialBackoff\" with \
                 \"minimumInterval\" and \"maximumInterval\"",
            ));
            return None;
        }
    };
    (problems.len() == before).then_some(RetryPolicy { most, pause })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(retry: &Value) -> (Option<RetryPolicy>, Vec<String>) {
        let file = json!({ "retry": retry });
        let mut problems = Vec::new();
        let root = Section::root("f", file.as_object().unwrap());
        let policy = read("f", &root, &mut problems);
        (policy, problems.into_iter().map(|problem| problem.what).collect())
    }

    #[test]
    fn both_strategies_are_read() {
        let fixed =
            json!({ "strategy": "fixedDelay", "maxRetryCount": 3, "delayInterval": "00:00:05" });
        let pause = Pause::Fixed(Duration::from_secs(5));
        assert_eq!(parse(&fixed), (Some(RetryPolicy { most: Some(3), pause }), vec![]));
        let endless = json!({ "strategy": "ExponentialBackoff", "maxRetryCount": "-1",
            "minimumInterval": "00:00:00.5", "maximumInterval": "00:01:00" });
        let pause = Pause::Exponential(Duration::from_millis(500), Duration::from_mins(1));
        assert_eq!(parse(&endless), (Some(RetryPolicy { most: None, pause }), vec![]));
        assert_eq!(parse(&Value::Null), (None, vec![]));
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        for (retry, whats) in [
            (json!(3), vec!["f: retry is 3"]),
            (
                json!({ "strategy": "fixedDelay" }),
                vec!["f: retry.maxRetryCount is missing", "f: retry.delayInterval is missing"],
            ),
            (
                json!({ "strategy": "fixedDelay", "maxRetryCount": -2, "delayInterval": "5" }),
                vec!["f: retry.maxRetryCount is -2", "f: retry.delayInterval is \"5\""],
            ),
            (
                json!({ "strategy": "exponentialBackoff", "maxRetryCount": 1,
                    "minimumInterval": "00:02:00", "maximumInterval": "00:01:00" }),
                vec!["f: retry.minimumInterval is above retry.maximumInterval"],
            ),
            (
                json!({ "strategy": "sometimes", "maxRetryCount": 1 }),
                vec!["f: retry.strategy is \"sometimes\""],
            ),
        ] {
            assert_eq!(parse(&retry), (None, whats.into_iter().map(str::to_owned).collect()));
        }
    }
}
