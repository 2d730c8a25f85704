//! What may be published: CloudEvents 1.0 in structured JSON, one or a batch, or lists of events in
//! the Event Grid schema. A CloudEvent keeps its bytes, so that subscribers get what the publisher
//! wrote; the service adds its part to the others.
//!
//! Formats: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>,
//! <https://learn.microsoft.com/azure/event-grid/event-schema>.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use thiserror::Error;

use crate::limits;

/// Media type of one event.
pub const SINGLE: &str = "application/cloudevents+json";

/// Media type of an array of events.
pub const BATCH: &str = "application/cloudevents-batch+json";

/// How events are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Schema {
    /// CloudEvents 1.0, JSON.
    #[default]
    #[serde(rename = "CloudEventSchemaV1_0")]
    CloudEvents,
    /// The service's own.
    #[serde(rename = "EventGridSchema")]
    EventGrid,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// How [`Event::body`] is written.
    pub schema: Schema,
    /// `id`, unique within the source.
    pub id: String,
    /// `source`; in the Event Grid schema `topic`.
    pub source: String,
    /// `type`, or `eventType`.
    pub kind: String,
    /// `subject`; empty if there is none.
    pub subject: String,
    /// The event as it is delivered in its own schema.
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
    #[error("the request body cannot be read as events: {0}")]
    Body(String),
    /// An event that is none.
    #[error("event {index} is none of this topic's schema: {why}")]
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

/// Reads a request to a topic of this schema; `topic` is how the topic calls itself.
///
/// # Errors
/// [`Invalid`]; then none of the events is taken.
pub fn parse(
    schema: Schema,
    topic: &str,
    content_type: &str,
    body: &[u8],
) -> Result<Vec<Event>, Invalid> {
    let media_type = content_type.split(';').next().unwrap_or_default().trim();
    let unreadable = |error: serde_json::Error| Invalid::Body(error.to_string());
    let events: Vec<&RawValue> = if schema == Schema::EventGrid {
        // Whatever the media type: the service looks at the body alone.
        serde_json::from_slice(body).map_err(unreadable)?
    } else if media_type.eq_ignore_ascii_case(BATCH) {
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
        let event = match schema {
            Schema::CloudEvents => Event::parse(event.get()),
            Schema::EventGrid => Event::parse_event_grid(event.get(), topic),
        };
        event.map_err(|why| Invalid::Event { index, why })
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
        let (schema, body) = (Schema::CloudEvents, Bytes::copy_from_slice(text.as_bytes()));
        Ok(Self { schema, id, source, kind, subject, body })
    }

    /// Reads one event in the Event Grid schema, and adds what the service adds.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub fn parse_event_grid(text: &str, topic: &str) -> Result<Self, String> {
        let mut members: Map<String, Value> =
            serde_json::from_str(text).map_err(|error| error.to_string())?;
        let required = |name: &str| match members.get(name).and_then(Value::as_str) {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(format!("{name} is required, and a text that is not empty")),
        };
        let (id, kind) = (required("id")?, required("eventType")?);
        let (subject, time) = (required("subject")?, required("eventTime")?);
        if !is_rfc3339(&time) && !is_rfc3339(&format!("{time}Z")) {
            return Err("eventTime is no ISO 8601 time".to_owned());
        }
        for (name, wanted) in [("topic", topic), ("metadataVersion", "1")] {
            match members.get(name) {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) if text.is_empty() || text == wanted => {}
                Some(_) => return Err(format!("{name} is set by the service: leave it out")),
            }
            members.insert(name.to_owned(), json!(wanted));
        }
        if !members.get("dataVersion").is_some_and(Value::is_string) {
            members.insert("dataVersion".to_owned(), json!(""));
        }
        let body = Bytes::from(Value::Object(members).to_string());
        let source = topic.to_owned();
        Ok(Self { schema: Schema::EventGrid, id, source, kind, subject, body })
    }

    /// Its attributes and data.
    #[must_use]
    pub fn members(&self) -> Map<String, Value> {
        // It was parsed when it was published.
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The body of a delivery in `schema`, which CloudEvents have only their own of.
    #[must_use]
    pub fn delivered_as(&self, schema: Schema) -> Bytes {
        match (self.schema, schema) {
            (Schema::CloudEvents, _) | (Schema::EventGrid, Schema::EventGrid) => self.body.clone(),
            (Schema::EventGrid, Schema::CloudEvents) => {
                let mut members = self.members();
                let mut cloud_event = json!({
                    "specversion": "1.0", "id": self.id, "source": self.source, "type": self.kind,
                    "subject": self.subject, "time": members.remove("eventTime"),
                });
                if let Some(data) = members.remove("data").filter(|data| !data.is_null()) {
                    cloud_event["data"] = data;
                }
                Bytes::from(cloud_event.to_string())
            }
        }
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

    fn parse(media_type: &str, body: &[u8]) -> Result<Vec<Event>, Invalid> {
        super::parse(Schema::CloudEvents, "/orders", media_type, body)
    }

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
    fn events_of_the_services_own_schema_get_what_the_service_adds() {
        let parse = |body: &Value| {
            let body = body.to_string();
            super::parse(Schema::EventGrid, "/orders", "application/json", body.as_bytes())
        };
        let valid = json!({"id": "1", "eventType": "order.created", "subject": "s",
            "eventTime": "2026-01-01T00:00:00Z", "data": {"n": 1}});
        let event = parse(&json!([valid])).unwrap().remove(0);
        let mut stamped = valid.clone();
        stamped["topic"] = json!("/orders");
        stamped["metadataVersion"] = json!("1");
        stamped["dataVersion"] = json!("");
        assert_eq!(Value::Object(event.members()), stamped);
        let cloud_event = event.delivered_as(Schema::CloudEvents);
        let cloud_event: Value = serde_json::from_slice(&cloud_event).unwrap();
        assert_eq!(
            cloud_event,
            json!({"specversion": "1.0", "id": "1", "source": "/orders", "type": "order.created",
                "subject": "s", "time": "2026-01-01T00:00:00Z", "data": {"n": 1}})
        );
        Event::parse(&cloud_event.to_string()).unwrap();
        for (name, value) in [
            ("id", json!("")),
            ("subject", Value::Null),
            ("eventType", json!(1)),
            ("eventTime", json!("soon")),
            ("topic", json!("/other")),
            ("metadataVersion", json!("2")),
        ] {
            let mut event = valid.clone();
            event[name] = value;
            let error = parse(&json!([valid, event])).unwrap_err();
            assert!(matches!(error, Invalid::Event { index: 1, .. }), "{name}: {error}");
            assert!(error.to_string().contains(name), "{name}: {error}");
        }
        assert!(matches!(parse(&valid), Err(Invalid::Body(_))), "a list is asked for");
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
