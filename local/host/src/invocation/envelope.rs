//! `{"Data":{…},"Metadata":{…}}` and the rule by which each value is encoded in it.
//!
//! Source: `ScriptInvocationContextExtensions` of the Azure Functions host. Bytes become base64,
//! dates lose their sub-seconds, objects stay objects, and **everything else becomes its JSON text
//! as a JSON string**: `hi` is sent as `"\"hi\""` and 1 as `"1"`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use handler::envelope::InvocationRequest;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use uuid::Uuid;

const DATE_TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second]");

/// A value on its way into the envelope, typed as .NET would have it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum BindingValue {
    /// `byte[]`.
    Bytes(Vec<u8>),
    /// `DateTime` in UTC.
    DateTime(OffsetDateTime),
    /// `DateTimeOffset`.
    DateTimeOffset(OffsetDateTime),
    /// Anything that converts to a JSON object.
    Object(Map<String, Value>),
    /// Everything else: strings, numbers, booleans, lists.
    Other(Value),
}

impl BindingValue {
    pub(crate) fn text(text: impl Into<String>) -> Self {
        Self::Other(Value::String(text.into()))
    }

    /// Encodes the value for `Data` or `Metadata`.
    pub(crate) fn encode(self) -> Value {
        match self {
            Self::Bytes(bytes) => Value::String(BASE64.encode(bytes)),
            Self::DateTime(time) => Value::String(date_time(time)),
            Self::DateTimeOffset(time) => Value::String(format!("{}+00:00", date_time(time))),
            Self::Object(object) => Value::Object(object),
            Self::Other(value) => Value::String(value.to_string()),
        }
    }
}

/// Metadata under construction: names are unique in any case, and the first spelling stays, as in
/// a .NET dictionary that ignores case.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct BindingData {
    values: Vec<(String, BindingValue)>,
    forged: Vec<String>,
}

impl BindingData {
    pub(crate) fn set(&mut self, name: &str, value: BindingValue) {
        match self.values.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, old)) => *old = value,
            None => self.values.push((name.to_owned(), value)),
        }
    }

    /// Sets what a body says, and remembers where it overwrites what the trigger knows.
    pub(crate) fn promote(&mut self, name: &str, value: BindingValue) {
        let known = self.values.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        self.forged.extend(known.map(|(known, _)| known.clone()));
        self.set(name, value);
    }

    pub(crate) fn set_some(&mut self, name: &str, value: Option<BindingValue>) {
        if let Some(value) = value {
            self.set(name, value);
        }
    }
}

/// The body of a call to the handler.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Envelope {
    request: InvocationRequest,
    /// Names in Metadata whose values come from the body, and not from where they should.
    forged: Vec<String>,
}

impl Envelope {
    /// `binding` is the name of the trigger binding, `function` the function's.
    pub(crate) fn new(
        function: &str,
        binding: &str,
        data: Value,
        metadata: BindingData,
        now: OffsetDateTime,
    ) -> Self {
        let sys = sys(function, now);
        let mut encoded = Map::new();
        for (name, value) in metadata.values {
            // The trigger value is in `Data`; the host does not send it twice.
            if !name.to_ascii_lowercase().ends_with("trigger") {
                encoded.insert(name, value.encode());
            }
        }
        encoded.insert("sys".to_owned(), sys);
        let data = Map::from_iter([(binding.to_owned(), data)]);
        let request = InvocationRequest { data, metadata: encoded };
        Self { request, forged: metadata.forged }
    }

    /// Names in Metadata that the body has overwritten.
    pub(crate) fn forged(&self) -> &[String] {
        &self.forged
    }

    /// The same trigger item for another attempt, which knows of its `retry`.
    pub(crate) fn again(&self, function: &str, retry: BindingValue, now: OffsetDateTime) -> Self {
        let mut again = self.clone();
        let metadata = &mut again.request.metadata;
        metadata.insert("RetryContext".to_owned(), retry.encode());
        metadata.insert("sys".to_owned(), sys(function, now));
        again
    }

    pub(crate) fn to_json(&self) -> Vec<u8> {
        // Maps of JSON values can always be written.
        serde_json::to_vec(&self.request).unwrap_or_default()
    }

    /// The binding data at `path`, a name and then names inside of objects, joined by dots. `None`
    /// unless it leads to a scalar.
    pub(crate) fn property(&self, path: &str) -> Option<String> {
        let (first, rest) = path.split_once('.').map_or((path, ""), |(first, rest)| (first, rest));
        // The trigger item is in `Data` only, but goes by this name in expressions.
        let value = if first.to_ascii_lowercase().ends_with("trigger") {
            self.request.data.values().next()?
        } else {
            named(&self.request.metadata, first)?
        };
        let mut value = match value {
            Value::String(encoded) => {
                serde_json::from_str(encoded).unwrap_or_else(|_| value.clone())
            }
            other => other.clone(),
        };
        for name in rest.split('.').filter(|name| !name.is_empty()) {
            value = named(value.as_object()?, name)?.clone();
        }
        match value {
            Value::String(text) => Some(text),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(if flag { "True" } else { "False" }.to_owned()),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }

    /// The names [`Self::property`] knows, for messages.
    pub(crate) fn properties(&self) -> Vec<&str> {
        self.request.metadata.keys().map(String::as_str).filter(|name| *name != "sys").collect()
    }

    #[cfg(test)]
    pub(crate) fn to_value(&self) -> Value {
        serde_json::to_value(&self.request).unwrap()
    }
}

fn named<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn sys(function: &str, now: OffsetDateTime) -> Value {
    json!({
        "MethodName": function,
        "UtcNow": date_time_with_fraction(now),
        "RandGuid": Uuid::new_v4().to_string(),
    })
}

/// Without zone and sub-seconds.
pub(crate) fn date_time(time: OffsetDateTime) -> String {
    // The format has no component that can fail.
    time.to_offset(time::UtcOffset::UTC).format(DATE_TIME).unwrap_or_default()
}

/// As .NET's JSON writer does it: up to seven digits, trailing zeros left out, `Z`.
pub(crate) fn date_time_with_fraction(time: OffsetDateTime) -> String {
    let ticks = time.nanosecond() / 100;
    let fraction = format!("{ticks:07}");
    match fraction.trim_end_matches('0') {
        "" => format!("{}Z", date_time(time)),
        digits => format!("{}.{digits}Z", date_time(time)),
    }
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn every_kind_of_value_has_its_encoding() {
        let time = datetime!(2026-03-01 10:00:00.5127 UTC);
        for (value, expected) in [
            (BindingValue::text("hi"), json!("\"hi\"")),
            (BindingValue::Other(json!(1)), json!("1")),
            (BindingValue::Other(json!(true)), json!("true")),
            (BindingValue::Other(json!([1, 2])), json!("[1,2]")),
            (BindingValue::Object(Map::from_iter([("a".into(), json!(1))])), json!({"a": 1})),
            (BindingValue::Bytes(vec![0, 255]), json!("AP8=")),
            (BindingValue::DateTime(time), json!("2026-03-01T10:00:00")),
            (BindingValue::DateTimeOffset(time), json!("2026-03-01T10:00:00+00:00")),
        ] {
            assert_eq!(value.clone().encode(), expected, "{value:?}");
        }
        assert_eq!(date_time_with_fraction(time), "2026-03-01T10:00:00.5127Z");
    }

    #[test]
    fn the_trigger_itself_is_not_in_metadata_and_names_ignore_case() {
        let mut metadata = BindingData::default();
        metadata.set("MessageId", BindingValue::text("m-1"));
        metadata.set("messageid", BindingValue::text("forged"));
        metadata.set("QueueTrigger", BindingValue::text("left out"));
        let now = datetime!(2026-03-01 10:00:00 UTC);
        let envelope = Envelope::new("Work", "job", json!("x"), metadata, now).to_value();
        assert_eq!(envelope["Data"], json!({"job": "x"}));
        let metadata = envelope["Metadata"].as_object().unwrap();
        assert_eq!(metadata.keys().collect::<Vec<_>>(), ["MessageId", "sys"]);
        assert_eq!(metadata["MessageId"], json!("\"forged\""));
        assert_eq!(metadata["sys"]["MethodName"], "Work");
        assert_eq!(metadata["sys"]["UtcNow"], "2026-03-01T10:00:00Z");
    }
}
