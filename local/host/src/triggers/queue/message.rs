//! A queue message, decoded, and what an invocation gets to see of it.
//!
//! Source: `QueueTriggerBinding` of the Storage extension.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::json;
use time::OffsetDateTime;
use time::macros::datetime;

use crate::bindings::DataType;
use crate::config::MessageEncoding;
use crate::invocation::envelope::{BindingData, date_time};
use crate::invocation::promotion::{Nested, promote};
use crate::invocation::{BindingValue, Envelope};
use crate::storage::Received;

/// `DateTimeOffset.MaxValue`, in whole seconds.
const NEVER: OffsetDateTime = datetime!(9999-12-31 23:59:59 UTC);

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) body: Vec<u8>,
    /// The id and the pop receipt; a message that never was in a queue has none.
    pub(super) held: Option<(String, String)>,
    pub(super) dequeue_count: u64,
    pub(super) inserted: OffsetDateTime,
    pub(super) expires: OffsetDateTime,
    pub(super) next_visible: OffsetDateTime,
}

impl Message {
    /// What the admin endpoint makes of a text.
    pub(super) fn untouched(text: String, now: OffsetDateTime) -> Self {
        Self {
            body: text.into_bytes(),
            held: None,
            dequeue_count: 0,
            inserted: now,
            expires: NEVER,
            next_visible: NEVER,
        }
    }

    /// Decodes what was received. The error says why it is no message in this encoding.
    pub(super) fn decode(received: &Received, encoding: MessageEncoding) -> Result<Self, String> {
        let body = match encoding {
            MessageEncoding::None => received.text.clone().into_bytes(),
            MessageEncoding::Base64 => {
                BASE64.decode(received.text.trim()).map_err(|error| error.to_string())?
            }
        };
        Ok(Self {
            body,
            held: Some((received.id.clone(), received.pop_receipt.clone())),
            dequeue_count: received.dequeue_count,
            inserted: received.inserted,
            expires: received.expires,
            next_visible: received.next_visible,
        })
    }

    /// The `Trigger Details` line.
    pub(super) fn details(&self) -> String {
        format!(
            "MessageId: {}, DequeueCount: {}, InsertedOn: {}.000+00:00",
            self.held.as_ref().map_or("(null)", |(id, _)| id),
            self.dequeue_count,
            date_time(self.inserted)
        )
    }
}

/// The envelope of `message`. The error says why the function cannot have it.
pub(super) fn envelope(
    function: &str,
    binding: &str,
    data_type: DataType,
    message: &Message,
    now: OffsetDateTime,
) -> Result<Envelope, String> {
    let mut metadata = BindingData::default();
    metadata.set("DequeueCount", BindingValue::Other(json!(message.dequeue_count)));
    metadata.set("ExpirationTime", BindingValue::DateTimeOffset(message.expires));
    let held = message.held.as_ref();
    metadata.set_some("Id", held.map(|(id, _)| BindingValue::text(id)));
    metadata.set("InsertionTime", BindingValue::DateTimeOffset(message.inserted));
    metadata.set("NextVisibleTime", BindingValue::DateTimeOffset(message.next_visible));
    metadata.set_some("PopReceipt", held.map(|(_, receipt)| BindingValue::text(receipt)));
    let data = if data_type == DataType::Binary {
        BindingValue::Bytes(message.body.clone())
    } else {
        let text = String::from_utf8(message.body.clone()).map_err(|_| {
            "the message is no UTF-8 text; a function that wants bytes has \"dataType\": \
             \"binary\" in its binding"
        })?;
        promote(&text, Nested::Promoted, &mut metadata);
        BindingValue::text(text)
    };
    Ok(Envelope::new(function, binding, data.encode(), metadata, now))
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn received(text: &str) -> Received {
        Received {
            id: "5b9f".to_owned(),
            inserted: datetime!(2026-03-01 10:00 UTC),
            expires: datetime!(2026-03-08 10:00 UTC),
            pop_receipt: "AgAAAAMAAA".to_owned(),
            next_visible: datetime!(2026-03-01 10:10 UTC),
            dequeue_count: 1,
            text: text.to_owned(),
        }
    }

    fn sent(body: &[u8], data_type: DataType) -> Result<Value, String> {
        let message = Message::decode(&received(&BASE64.encode(body)), MessageEncoding::Base64)?;
        let now = datetime!(2026-03-01 10:00:01 UTC);
        let mut sent = envelope("Work", "job", data_type, &message, now)?.to_value();
        let sys = sent["Metadata"].as_object_mut().unwrap().remove("sys").unwrap();
        assert_eq!(sys["MethodName"], "Work");
        assert_eq!(sys["UtcNow"], "2026-03-01T10:00:01Z");
        Ok(sent)
    }

    #[test]
    fn golden_queue_message() {
        assert_eq!(
            sent(br#"{"job":"j-1"}"#, DataType::Undefined).unwrap(),
            json!({
                "Data": { "job": "\"{\\\"job\\\":\\\"j-1\\\"}\"" },
                "Metadata": {
                    "DequeueCount": "1", "Id": "\"5b9f\"", "PopReceipt": "\"AgAAAAMAAA\"",
                    "InsertionTime": "2026-03-01T10:00:00+00:00",
                    "ExpirationTime": "2026-03-08T10:00:00+00:00",
                    "NextVisibleTime": "2026-03-01T10:10:00+00:00",
                    "job": "\"j-1\""
                }
            })
        );
    }

    #[test]
    fn an_id_in_the_body_hides_that_of_the_message() {
        let text = br#"{"id":"o-7","DEQUEUECOUNT":99,"queueTrigger":"gone"}"#;
        let metadata = &sent(text, DataType::String).unwrap()["Metadata"];
        assert_eq!(metadata["Id"], "\"o-7\"", "the first spelling stays");
        assert_eq!(metadata["DequeueCount"], "\"99\"");
        assert!(metadata.get("id").is_none() && metadata.get("queueTrigger").is_none());
        let sent = sent(text, DataType::Binary).unwrap();
        assert_eq!(sent["Metadata"]["Id"], "\"5b9f\"", "no promotion of binary");
        assert_eq!(sent["Data"]["job"], BASE64.encode(text), "one level, plain base64");
    }

    #[test]
    fn encodings_and_texts() {
        assert_eq!(sent(b"hello", DataType::Undefined).unwrap()["Data"]["job"], "\"hello\"");
        assert_eq!(sent(&[b'a', 0xff], DataType::Binary).unwrap()["Data"]["job"], "Yf8=");
        let error = sent(&[b'a', 0xff], DataType::Undefined).unwrap_err();
        assert!(error.contains("dataType"), "{error}");
        let plain = received("plain text");
        assert!(Message::decode(&plain, MessageEncoding::Base64).is_err());
        let plain = Message::decode(&plain, MessageEncoding::None).unwrap();
        assert_eq!(plain.body, b"plain text");
        assert_eq!(
            plain.details(),
            "MessageId: 5b9f, DequeueCount: 1, InsertedOn: 2026-03-01T10:00:00.000+00:00"
        );
    }

    #[test]
    fn a_message_no_queue_has_seen_has_no_id() {
        let now = datetime!(2026-03-01 10:00:01 UTC);
        let message = Message::untouched("hi".to_owned(), now);
        let sent = envelope("Work", "job", DataType::Undefined, &message, now).unwrap().to_value();
        let metadata = sent["Metadata"].as_object().unwrap();
        assert_eq!(metadata["ExpirationTime"], "9999-12-31T23:59:59+00:00");
        assert_eq!(metadata["InsertionTime"], "2026-03-01T10:00:01+00:00");
        assert!(!metadata.contains_key("Id") && !metadata.contains_key("PopReceipt"));
    }
}
