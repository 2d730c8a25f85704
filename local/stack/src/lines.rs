//! One merged stream of everything that the processes print: time, who, what.
//!
//! Handlers log JSON, one object per line; it is shown as people read it. What the hosts say about
//! their own routine is left out unless asked for.

use std::fmt::Write as _;

use serde_json::Value;

/// Members of a JSON log line that are shown elsewhere or tell nothing at a desk.
const HIDDEN: [&str; 6] = ["timestamp", "level", "message", "target", "span", "trace_id"];

/// The member that repeats what lies around a line.
const SPANS: &str = "spans";

/// What a host prints for every start and every invocation.
const ROUTINE: [&str; 9] = [
    "Executing 'Functions.",
    "Executed 'Functions.",
    "Trigger Details:",
    "Functions:",
    "\t",
    "Host started on",
    "Receiving from ",
    "Worker process started",
    "Response status code does not indicate success",
];

/// A line as a person sees it, or nothing if it is routine and `verbose` is off.
#[must_use]
pub fn render(line: &str, verbose: bool) -> Option<String> {
    if let Some(event) = event(line, verbose) {
        return Some(event);
    }
    let said = line.strip_prefix("error: ").unwrap_or(line);
    let routine = said.is_empty() || ROUTINE.iter().any(|start| said.starts_with(start));
    (verbose || !routine).then(|| line.to_owned())
}

/// A JSON log line as text: `message key=value …`, its level first if it is no routine.
/// The spans around it are for whoever asks for everything.
fn event(line: &str, verbose: bool) -> Option<String> {
    let Value::Object(members) = serde_json::from_str(line).ok()? else { return None };
    let mut text = match members.get("level")?.as_str()? {
        "ERROR" => "error: ".to_owned(),
        "WARN" => "warning: ".to_owned(),
        _ => String::new(),
    };
    text.push_str(members.get("message")?.as_str()?);
    let shown = |name: &str| !HIDDEN.contains(&name) && (verbose || name != SPANS);
    for (name, value) in members.iter().filter(|(name, _)| shown(name)) {
        // Writing to a String cannot fail.
        let _ = match value {
            Value::String(value) => write!(text, " {name}={value}"),
            value => write!(text, " {name}={value}"),
        };
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_see_what_happened_and_not_how_it_was_logged() {
        let json = r#"{"timestamp":"2026-11-21T07:17:47Z","level":"WARN","message":"attempt failed",
            "order.id":"o-1","attempt":2,"trace_id":"4bf9","target":"functions::consumer",
            "span":{"name":"invocation"}}"#;
        let shown = render(&json.replace('\n', ""), false).unwrap();
        assert_eq!(shown, "warning: attempt failed attempt=2 order.id=o-1");
        for routine in [
            "Executing 'Functions.charge' (Reason='(null)', Id=1)",
            "error: Executed 'Functions.charge' (Failed, Id=1, Duration=2ms)",
            "\tcharge: serviceBusTrigger",
            "",
        ] {
            assert_eq!(render(routine, false), None, "{routine}");
            assert!(render(routine, true).is_some());
        }
        for other in ["warning: the broker is away", "{\"a\":1}", "{not json", "plain"] {
            assert_eq!(render(other, false).as_deref(), Some(other));
        }
    }
}
