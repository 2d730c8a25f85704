//! From an AMQP delivery to a [`Message`].
//!
//! Reference: <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-protocol-guide>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use fe2o3_amqp::Delivery;
use fe2o3_amqp::types::messaging::annotations::{AnnotationKey, OwnedKey};
use fe2o3_amqp::types::messaging::{AmqpValue, Annotations, Body, MessageId};
use fe2o3_amqp::types::primitives::{SimpleValue, Symbol, Timestamp, Value};
use serde_json::json;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use super::message::Message;
use crate::invocation::envelope::date_time_with_fraction;

/// Reads everything a function may see. What is missing or of another type is left out.
pub(crate) fn message(delivery: &Delivery<Body<Value>>) -> Message {
    let source = delivery.message();
    let properties = source.properties.clone().unwrap_or_default();
    let annotations = source.message_annotations.as_ref().map(|annotations| &annotations.0);
    let delivery_annotations = source.delivery_annotations.as_ref().map(|map| &map.0);
    let header = source.header.clone().unwrap_or_default();
    let time = |name| timestamp(annotation(annotations, name)?);
    let text = |name| match annotation(annotations, name)? {
        Value::String(text) => Some(text.clone()),
        Value::Symbol(text) => Some(text.to_string()),
        _ => None,
    };
    let enqueued = time("x-opt-enqueued-time").unwrap_or(OffsetDateTime::UNIX_EPOCH);
    // A span beyond what the header can say is given as two absolute times.
    let absolute = match (properties.absolute_expiry_time, properties.creation_time) {
        (Some(expiry), Some(created)) => {
            Some(Duration::milliseconds(expiry.into_inner().saturating_sub(created.into_inner())))
        }
        _ => None,
    };
    let in_header = header.ttl.map(|ms| Duration::milliseconds(i64::from(ms)));
    Message {
        body: body(&source.body),
        message_id: properties.message_id.as_ref().map(id),
        content_type: properties.content_type.map(Symbol::into_inner),
        subject: properties.subject,
        correlation_id: properties.correlation_id.as_ref().map(id),
        reply_to: properties.reply_to,
        to: properties.to,
        session_id: properties.group_id,
        session_locked_until: None,
        reply_to_session_id: properties.reply_to_group_id,
        partition_key: text("x-opt-partition-key"),
        transaction_partition_key: text("x-opt-via-partition-key"),
        dead_letter_source: text("x-opt-deadletter-source"),
        // The wire counts the failed deliveries before this one.
        delivery_count: header.delivery_count.saturating_add(1),
        lock_token: lock_token(delivery.delivery_tag(), delivery_annotations),
        locked_until: time("x-opt-locked-until"),
        sequence_number: match annotation(annotations, "x-opt-sequence-number") {
            Some(Value::Long(number)) => *number,
            _ => -1,
        },
        enqueued,
        expires: Message::expiry(enqueued, absolute.or(in_header)),
        application_properties: source
            .application_properties
            .as_ref()
            .map(|properties| properties.0.iter().map(|(k, v)| (k.clone(), simple(v))).collect())
            .unwrap_or_default(),
    }
}

/// The delivery tag is the lock token in the byte order of a .NET Guid; the annotation, where a
/// broker sends it, has it as an AMQP uuid.
fn lock_token(tag: &[u8], annotations: Option<&Annotations>) -> Uuid {
    match (<[u8; 16]>::try_from(tag), annotation(annotations, "x-opt-lock-token")) {
        (Ok(tag), _) => Uuid::from_bytes_le(tag),
        (Err(_), Some(Value::Uuid(uuid))) => Uuid::from_bytes(*uuid.as_inner()),
        (Err(_), _) => Uuid::nil(),
    }
}

fn annotation<'a>(annotations: Option<&'a Annotations>, name: &str) -> Option<&'a Value> {
    let key = OwnedKey::from(name);
    annotations?.get(&key as &dyn AnnotationKey)
}

fn timestamp(value: &Value) -> Option<OffsetDateTime> {
    match value {
        Value::Timestamp(timestamp) => utc(timestamp),
        _ => None,
    }
}

/// .NET ticks, 100 ns each since the year 1, as some answers of the broker have them.
pub(crate) fn ticks(value: &Value) -> Option<OffsetDateTime> {
    /// From the year 1 to 1970.
    const EPOCH: i128 = 621_355_968_000_000_000;
    let Value::Long(ticks) = value else { return None };
    OffsetDateTime::from_unix_timestamp_nanos((i128::from(*ticks) - EPOCH) * 100).ok()
}

fn utc(timestamp: &Timestamp) -> Option<OffsetDateTime> {
    let nanoseconds = i128::from(timestamp.milliseconds()) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok()
}

fn id(id: &MessageId) -> String {
    match id {
        MessageId::Ulong(number) => number.to_string(),
        MessageId::Uuid(uuid) => Uuid::from_bytes(*uuid.as_inner()).to_string(),
        MessageId::Binary(bytes) => BASE64.encode(bytes),
        MessageId::String(text) => text.clone(),
    }
}

fn body(body: &Body<Value>) -> Result<Vec<u8>, String> {
    match body {
        Body::Data(sections) => {
            Ok(sections.iter().flat_map(|section| section.0.to_vec()).collect())
        }
        Body::Value(AmqpValue(Value::String(text))) => Ok(text.clone().into_bytes()),
        Body::Value(AmqpValue(Value::Binary(bytes))) => Ok(bytes.to_vec()),
        Body::Value(AmqpValue(Value::Null)) | Body::Empty => Ok(Vec::new()),
        Body::Value(_) => {
            Err("the body is an AMQP value that is neither text nor bytes".to_owned())
        }
        Body::Sequence(_) => Err("the body is an AMQP sequence".to_owned()),
    }
}

/// An application property as JSON, in its own type.
fn simple(value: &SimpleValue) -> serde_json::Value {
    match value {
        SimpleValue::Null => serde_json::Value::Null,
        SimpleValue::Bool(flag) => json!(flag),
        SimpleValue::Ubyte(number) => json!(number),
        SimpleValue::Ushort(number) => json!(number),
        SimpleValue::Uint(number) => json!(number),
        SimpleValue::Ulong(number) => json!(number),
        SimpleValue::Byte(number) => json!(number),
        SimpleValue::Short(number) => json!(number),
        SimpleValue::Int(number) => json!(number),
        SimpleValue::Long(number) => json!(number),
        SimpleValue::Float(number) => json!(number.0),
        SimpleValue::Double(number) => json!(number.0),
        SimpleValue::Char(character) => json!(character),
        SimpleValue::Timestamp(time) => json!(utc(time).map(date_time_with_fraction)),
        SimpleValue::Uuid(uuid) => json!(Uuid::from_bytes(*uuid.as_inner()).to_string()),
        SimpleValue::Binary(bytes) => json!(BASE64.encode(bytes)),
        SimpleValue::String(text) => json!(text),
        SimpleValue::Symbol(text) => json!(text.as_str()),
        other => json!(format!("{other:?}")),
    }
}

#[cfg(test)]
mod tests {
    use fe2o3_amqp::types::messaging::{AmqpSequence, Batch, Data};
    use fe2o3_amqp::types::primitives::Binary;

    use super::*;

    #[test]
    fn the_delivery_tag_is_a_guid_in_dotnet_byte_order() {
        let tag = [
            0x2e, 0x5a, 0x9a, 0x0f, 0x5e, 0x8a, 0x0e, 0x4c, 0x9d, 0x6e, 0x0b, 0x5b, 0x7c, 0x1f,
            0x2a, 0x11,
        ];
        let token = lock_token(&tag, None);
        assert_eq!(token.to_string(), "0f9a5a2e-8a5e-4c0e-9d6e-0b5b7c1f2a11");
        assert_eq!(lock_token(&[1, 2, 3, 4], None), Uuid::nil());
    }

    #[test]
    fn ticks_count_from_the_year_one() {
        let at = time::macros::datetime!(2026-03-01 10:00:00.5 UTC);
        assert_eq!(ticks(&Value::Long(639_079_560_005_000_000)), Some(at));
        assert_eq!(ticks(&Value::Int(1)), None);
    }

    #[test]
    fn bodies_become_bytes_or_say_why_not() {
        let section = |bytes: &[u8]| Data(Binary::from(bytes.to_vec()));
        let data = Body::Data(Batch::new(vec![section(b"ab"), section(b"c")]));
        assert_eq!(body(&data), Ok(b"abc".to_vec()));
        assert_eq!(body(&Body::Value(AmqpValue(Value::String("x".into())))), Ok(b"x".to_vec()));
        assert_eq!(body(&Body::Empty), Ok(vec![]));
        assert!(body(&Body::Value(AmqpValue(Value::Int(1)))).is_err());
        let sequence = Body::Sequence(Batch::new(vec![AmqpSequence(vec![Value::Int(1)])]));
        assert!(body(&sequence).unwrap_err().contains("sequence"));
    }

    #[test]
    fn application_properties_keep_their_types() {
        for (value, expected) in [
            (SimpleValue::Bool(true), json!(true)),
            (SimpleValue::Long(-7), json!(-7)),
            (SimpleValue::Double(1.5.into()), json!(1.5)),
            (SimpleValue::String("eu".into()), json!("eu")),
            (SimpleValue::Timestamp(Timestamp::from(1_000)), json!("1970-01-01T00:00:01Z")),
        ] {
            assert_eq!(simple(&value), expected);
        }
    }
}
