//! What may be published: CloudEvents 1.0 in structured JSON, one or a batch. An event keeps its
//! bytes, so that subscribers get what the publisher wrote.
//!
//! Formats: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>.

use bytes::Bytes;
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use thiserror::Error;

use crate::limits;

/// Media type of one event.
pub const SINGLE: &str = "application/cloudevents+json";

/// Media type of an array of events.
pub const BATCH: &str = "application/cloudevents-batch+json";

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// `id`, unique within the source.
    pub id: String,
    /// `source`.
    pub source: String,
    /// `type`.
    pub kind: String,
    /// `subject`; empty if there is none.
    pub subject: String,
    /// The event as it was published.
    pub body: Bytes,
}

/// Why a request is not taken.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Invalid {
    /// Neither of the two media types.
    #[error(
        "the Content-Type header must be {SINGLE}; charset=utf-8 or {BATCH}; charset=utf-8: this \
         topic takes CloudEvents 1.0 in structured mode"
    )]
    MediaType,
    /// No JSON, or not of the shape that the media type promises.
    #[error("the request body cannot be read as CloudEvents: {0}")]
    Body(String),
    /// An event that is none.
    #[error("event {index} is no CloudEvent 1.0: {why}")]
    Event {
        /// Its place in the batch, from 0.
        index: usize,
        /// The rule it breaks.
        why: String,
    },
    /// Over [`limits::EVENT_BYTES_MAX`] or [`limits::EVENTS_PER_REQUEST_MAX`].
    #[error("{0}")]
    TooLarge(String),
}

/// Reads a request.
///
/// # Errors
/// [`Invalid`]; then none of the events is taken.
pub fn parse(content_type: &str, body: &[u8]) -> Result<Vec<Event>, Invalid> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let unreadable = |error: serde_json::Error| Invalid::Body(error.to_string());
    let events: Vec<&RawValue> = if media_type.eq_ignore_ascii_case(BATCH) {
        serde_json::from_slice(body).map_err(unreadable)?
    } else if media_type.eq_ignore_ascii_case(SINGLE) {
        vec![serde_json::from_slice(body).map_err(unreadable)?]
    } else {
        return Err(Invalid::MediaType);
    };
    if events.len() > limits::EVENTS_PER_REQUEST_MAX {
        let most = limits::EVENTS_PER_REQUEST_MAX;
        return Err(Invalid::TooLarge(format!("a request has {most} events at most")));
    }
    let read = |(index, event): (usize, &&RawValue)| {
        if event.get().len() > limits::EVENT_BYTES_MAX {
            let most = limits::EVENT_BYTES_MAX;
            return Err(Invalid::TooLarge(format!("event {index} has more than {most} bytes")));
        }
        Event::parse(event.get()).map_err(|why| Invalid::Event { index, why })
    };
    events.iter().enumerate().map(read).collect()
}

impl Event {
    /// Reads one event.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse(text: &str) -> Result<Self, String> {
        let attributes: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        if attributes.get("specversion").and_then(Value::as_str) != Some("1.0") {
            return Err("specversion is not \"1.0\"".to_owned());
        }
        let required = |name: &str| match attributes.get(name).and_then(Value::as_str) {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(format!("{name} is required, and a text that is not empty")),
        };
        let (id, source, kind) = (required("id")?, required("source")?, required("type")?);
        for name in ["subject", "datacontenttype", "dataschema"] {
            if attributes.get(name).is_some_and(|value| !value.is_string() && !value.is_null()) {
                return Err(format!("{name} is no text"));
            }
        }
        match attributes.get("time") {
            None | Some(Value::Null) => {}
            Some(Value::String(text)) if is_rfc3339(text) => {}
            Some(_) => return Err("time is no RFC 3339 timestamp".to_owned()),
        }
        if attributes.contains_key("data") && attributes.contains_key("data_base64") {
            return Err("data and data_base64 exclude each other".to_owned());
        }
        for (name, value) in &attributes {
            if name != "data" && name != "data_base64" {
                check_attribute(name, value)?;
            }
        }
        let subject = attributes.get("subject").and_then(Value::as_str).unwrap_or_default();
        let subject = subject.to_owned();
        Ok(Self { id, source, kind, subject, body: Bytes::copy_from_slice(text.as_bytes()) })
    }
}

fn check_attribute(name: &str, value: &Value) -> Result<(), String> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    if name.is_empty() || !name.bytes().all(allowed) {
        let shown: String = name.chars().take(40).collect();
        return Err(format!("attribute {shown:?} is not named in lower-case letters and digits"));
    }
    if name.len() > limits::ATTRIBUTE_NAME_CHARS_MAX {
        return Err("the name of an attribute is too long".to_owned());
    }
    if value.is_object() || value.is_array() {
        return Err(format!("attribute {name:?} is no simple value"));
    }
    Ok(())
}

fn is_rfc3339(text: &str) -> bool {
    time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).is_ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn valid() -> Value {
        json!({"specversion": "1.0", "id": "1", "source": "/s", "type": "t"})
    }

    #[test]
    fn events_keep_their_bytes() {
        let text = "{ \"specversion\":\"1.0\", \"id\":\"1\",\"source\":\"/s\",\"type\":\"t\",
            \"data\": {\"n\": 1.10, \"big\": 12345678901234567890123} }";
        let body = format!(" [ {text} , {text} ] ");
        let events = parse("application/cloudevents-batch+json; charset=utf-8", body.as_bytes());
        let events = events.unwrap();
        assert_eq!(events.len(), 2);
        assert_eq!(events[0].body, text.as_bytes());
        assert_eq!(parse("Application/CloudEvents+JSON", text.as_bytes()).unwrap(), events[..1]);
        assert_eq!(parse(BATCH, b"[]").unwrap(), []);
    }

    #[test]
    fn what_is_no_cloud_event_is_refused_with_its_place() {
        for (name, value, why) in [
            ("specversion", json!("0.3"), "specversion"),
            ("id", json!(""), "id"),
            ("source", json!(7), "source"),
            ("type", Value::Null, "type"),
            ("subject", json!([]), "subject"),
            ("time", json!("yesterday"), "time"),
            ("data_base64", json!("YQ=="), "exclude"),
            ("Extension", json!("x"), "lower-case"),
            ("extension", json!({"a": 1}), "simple"),
        ] {
            let mut event = valid();
            event["data"] = json!(1);
            event[name] = value;
            let body = json!([valid(), event]).to_string();
            let error = parse(BATCH, body.as_bytes()).unwrap_err();
            assert!(matches!(error, Invalid::Event { index: 1, .. }), "{name}: {error}");
            assert!(error.to_string().contains(why), "{name}: {error}");
        }
        for (media_type, body) in [(BATCH, "{}"), (SINGLE, "[{]"), (BATCH, "")] {
            assert!(matches!(parse(media_type, body.as_bytes()), Err(Invalid::Body(_))), "{body}");
        }
        // An array where one event is announced.
        let batch = json!([valid()]).to_string();
        assert!(matches!(parse(SINGLE, batch.as_bytes()), Err(Invalid::Event { .. })));
        assert_eq!(parse("application/json", b"[]"), Err(Invalid::MediaType));
    }

    #[test]
    fn limits_are_kept() {
        let mut event = valid();
        event["data"] = json!("x".repeat(limits::EVENT_BYTES_MAX));
        assert!(matches!(parse(SINGLE, event.to_string().as_bytes()), Err(Invalid::TooLarge(_))));
        let many = json!(vec![valid(); limits::EVENTS_PER_REQUEST_MAX + 1]).to_string();
        assert!(matches!(parse(BATCH, many.as_bytes()), Err(Invalid::TooLarge(_))));
    }
}
