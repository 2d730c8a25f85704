//! A lenient view on a JSON object: names in any case, scalars as themselves or as text (an
//! override from a setting is always text), and one problem per value that does not fit.
//!
//! It knows neither `host.json` nor `function.json`.

use std::time::Duration;

use serde_json::{Map, Value};

use crate::error::Problem;

/// A JSON object at a named place of a named file.
#[derive(Clone, Copy)]
pub(crate) struct Section<'a> {
    file: &'a str,
    path: &'a str,
    object: Option<&'a Map<String, Value>>,
}

impl<'a> Section<'a> {
    pub(crate) fn root(file: &'a str, object: &'a Map<String, Value>) -> Self {
        Self { file, path: "", object: Some(object) }
    }

    /// The object named `name`, or an empty section if there is none.
    pub(crate) fn child(
        &self,
        name: &'a str,
        path: &'a str,
        problems: &mut Vec<Problem>,
    ) -> Section<'a> {
        let object = match self.get(name) {
            None | Some(Value::Null) => None,
            Some(Value::Object(object)) => Some(object),
            Some(other) => {
                problems.push(self.mismatch(name, other, "an object", "{ }"));
                None
            }
        };
        Section { file: self.file, path, object }
    }

    pub(crate) fn exists(&self) -> bool {
        self.object.is_some()
    }

    /// Where it is in its file, for messages.
    pub(crate) fn path(&self) -> &'a str {
        self.path
    }

    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        let object = self.object?;
        object
            .get(name)
            .or_else(|| object.iter().find(|(k, _)| k.eq_ignore_ascii_case(name)).map(|(_, v)| v))
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &'a str> {
        self.object.into_iter().flat_map(|object| object.keys().map(String::as_str))
    }

    pub(crate) fn text(&self, name: &str, problems: &mut Vec<Problem>) -> Option<String> {
        match self.get(name)? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            other => {
                problems.push(self.mismatch(name, other, "a string", "\"…\""));
                None
            }
        }
    }

    pub(crate) fn texts(&self, name: &str, problems: &mut Vec<Problem>) -> Vec<String> {
        let value = match self.get(name) {
            None | Some(Value::Null) => return Vec::new(),
            Some(value) => value,
        };
        // A setting can carry the whole list as the text of a JSON array.
        let parsed = value.as_str().and_then(|text| serde_json::from_str::<Value>(text).ok());
        let list = match parsed.as_ref().unwrap_or(value) {
            Value::Array(list) => list.clone(),
            // An override of single elements turns the list into an object keyed by index.
            Value::Object(by_index) => by_index.values().cloned().collect(),
            other => {
                problems.push(self.mismatch(name, other, "a list of strings", "[\"…\"]"));
                return Vec::new();
            }
        };
        list.iter()
            .map(|item| match item {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            })
            .collect()
    }

    pub(crate) fn flag(&self, name: &str, default: bool, problems: &mut Vec<Problem>) -> bool {
        match self.get(name) {
            None | Some(Value::Null) => default,
            Some(Value::Bool(flag)) => *flag,
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => true,
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => false,
            Some(other) => {
                problems.push(self.mismatch(name, other, "true or false", "true"));
                default
            }
        }
    }

    pub(crate) fn count(
        &self,
        name: &str,
        default: u32,
        least: u32,
        problems: &mut Vec<Problem>,
    ) -> u32 {
        let number = match self.get(name) {
            None | Some(Value::Null) => return default,
            Some(Value::Number(number)) => number.as_u64(),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        match number.and_then(|n| u32::try_from(n).ok()).filter(|n| *n >= least) {
            Some(number) => number,
            None => {
                let value = self.get(name).unwrap_or(&Value::Null);
                let wanted = format!("a whole number of at least {least}");
                problems.push(self.mismatch(name, value, &wanted, &default.to_string()));
                default
            }
        }
    }

    /// A .NET TimeSpan, `[d.]hh:mm:ss[.fff]`.
    pub(crate) fn duration(
        &self,
        name: &str,
        default: Duration,
        problems: &mut Vec<Problem>,
    ) -> Duration {
        match self.get(name) {
            None | Some(Value::Null) => default,
            Some(value) => match value.as_str().and_then(parse_time_span) {
                Some(duration) => duration,
                None => {
                    problems.push(self.mismatch(name, value, "a time span", "\"00:00:30\""));
                    default
                }
            },
        }
    }

    fn mismatch(&self, name: &str, value: &Value, wanted: &str, example: &str) -> Problem {
        let place =
            if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) };
        Problem::new(
            format!("{}: {place} is {value}", self.file),
            format!("it has to be {wanted}"),
            format!("write e.g. \"{name}\": {example}"),
        )
    }
}

/// Reads a JSON object as Newtonsoft does: a byte order mark and comments are allowed.
pub(crate) fn parse_object(text: &str) -> serde_json::Result<Map<String, Value>> {
    serde_json::from_str(&without_comments(text.trim_start_matches('\u{feff}')))
}

/// Blanks out comments, so that lines and columns in errors stay right.
fn without_comments(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    let mut in_string = false;
    while let Some(char) = chars.next() {
        match (char, chars.peek()) {
            ('\\', Some(_)) if in_string => {
                out.push(char);
                out.extend(chars.next());
            }
            ('"', _) => {
                in_string = !in_string;
                out.push(char);
            }
            ('/', Some('/')) if !in_string => {
                while chars.next_if(|next| *next != '\n').is_some() {}
            }
            ('/', Some('*')) if !in_string => {
                chars.next();
                let mut last = ' ';
                for next in chars.by_ref() {
                    if next == '\n' {
                        out.push(next);
                    }
                    if last == '*' && next == '/' {
                        break;
                    }
                    last = next;
                }
            }
            _ => out.push(char),
        }
    }
    out
}

/// Reads `[d.]hh:mm:ss[.fffffff]`; hours up to 23, as .NET does.
pub(crate) fn parse_time_span(text: &str) -> Option<Duration> {
    let mut parts = text.trim().split(':');
    let (first, minutes, seconds) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() {
        return None;
    }
    let (days, hours) = match first.split_once('.') {
        Some((days, hours)) => (days.parse::<u32>().ok()?, hours),
        None => (0, first),
    };
    let (whole, fraction) = seconds.split_once('.').unwrap_or((seconds, "0"));
    let (hours, minutes, whole) =
        (hours.parse::<u32>().ok()?, minutes.parse::<u32>().ok()?, whole.parse::<u32>().ok()?);
    if hours > 23 || minutes > 59 || whole > 59 || fraction.is_empty() || fraction.len() > 7 {
        return None;
    }
    let ticks = fraction.parse::<u32>().ok()? * 10_u32.pow(7 - u32::try_from(fraction.len()).ok()?);
    let seconds = u64::from(days) * 86_400
        + u64::from(hours) * 3_600
        + u64::from(minutes) * 60
        + u64::from(whole);
    Some(Duration::new(seconds, ticks * 100))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_no_content() {
        let text = "\u{feff}{ // one\n \"a\": \"http://x/*y*/\\\"//\", /* two\n * */ \"b\": 1 }";
        let object = parse_object(text).unwrap();
        assert_eq!(object["a"], "http://x/*y*/\"//");
        assert_eq!(object["b"], 1);
        let error = parse_object("{ // one\n /* two\n */ x }").unwrap_err();
        assert_eq!(error.line(), 3);
    }

    #[test]
    fn time_spans_are_read_as_dotnet_reads_them() {
        assert_eq!(parse_time_span("00:00:30"), Some(Duration::from_secs(30)));
        assert_eq!(parse_time_span("1.02:03:04"), Some(Duration::from_secs(93_784)));
        assert_eq!(parse_time_span("00:00:00.25"), Some(Duration::from_millis(250)));
        for wrong in
            ["", "30", "00:00", "00:61:00", "24:00:00", "00:00:30:00", "-00:00:01", "a:b:c"]
        {
            assert_eq!(parse_time_span(wrong), None, "{wrong}");
        }
    }
}
