//! A message as filters see it, decoded once per message however many filters ask.

use std::borrow::Cow;
use std::cell::Cell;

use uuid::Uuid;

use super::{
    CONTENT_TYPE, CORRELATION_ID, GROUP_ID, MESSAGE_ID, Message, REPLY_TO, REPLY_TO_GROUP_ID,
    SUBJECT, TO, id_text,
};
use crate::amqp::Value;
use crate::broker::Timestamp;
use crate::filter::{Properties, Scalar};

/// The decoded properties of one message.
pub(crate) struct View {
    fields: Vec<Value>,
    user: Vec<(Value, Value)>,
    partition_key: Option<String>,
    scheduled_for: Option<Timestamp>,
    ttl_ms: Option<i64>,
    sequence: i64,
    enqueued_at: Timestamp,
    /// The next id `newid()` yields.
    next_id: Cell<u128>,
}

impl View {
    /// Decodes `message`, which got the number `sequence`. `seed` is an id nobody else got;
    /// `newid()` counts up from it.
    pub(crate) fn of(message: &Message, sequence: i64, enqueued_at: Timestamp, seed: Uuid) -> View {
        View {
            fields: message.property_fields(),
            user: message.application_properties(),
            partition_key: message.partition_key.clone(),
            scheduled_for: message.scheduled_for,
            ttl_ms: message.header.ttl.map(i64::from),
            sequence,
            enqueued_at,
            next_id: Cell::new(seed.as_u128()),
        }
    }

    fn field(&self, index: usize) -> Scalar<'_> {
        match self.fields.get(index) {
            Some(id) if matches!(index, MESSAGE_ID | CORRELATION_ID) => match id {
                Value::String(text) => Scalar::Text(Cow::Borrowed(text)),
                other => id_text(other).map_or(Scalar::Null, |text| Scalar::Text(text.into())),
            },
            Some(value) => scalar(value),
            None => Scalar::Null,
        }
    }

    fn find(&self, name: &str) -> Option<&Value> {
        self.user
            .iter()
            .find(|(key, _)| key.as_text().is_some_and(|key| key.eq_ignore_ascii_case(name)))
            .map(|(_, value)| value)
    }
}

impl Properties for View {
    fn user(&self, name: &str) -> Scalar<'_> {
        self.find(name).map_or(Scalar::Null, scalar)
    }

    fn system(&self, name: &str) -> Option<Scalar<'_>> {
        let index = match name.to_ascii_lowercase().as_str() {
            "messageid" => MESSAGE_ID,
            "to" => TO,
            "label" | "subject" => SUBJECT,
            "replyto" => REPLY_TO,
            "correlationid" => CORRELATION_ID,
            "contenttype" => CONTENT_TYPE,
            "sessionid" => GROUP_ID,
            "replytosessionid" => REPLY_TO_GROUP_ID,
            "sequencenumber" | "enqueuedsequencenumber" => return Some(Scalar::Int(self.sequence)),
            "partitionkey" => {
                let text = self.partition_key.as_deref();
                return Some(text.map_or(Scalar::Null, |text| Scalar::Text(text.into())));
            }
            "scheduledenqueuetimeutc" => return Some(time(self.scheduled_for)),
            "expiresatutc" => {
                return Some(time(self.ttl_ms.map(|ttl_ms| self.enqueued_at.plus(ttl_ms))));
            }
            // In milliseconds, as on the wire.
            "timetolive" => return Some(self.ttl_ms.map_or(Scalar::Null, Scalar::Int)),
            // Nobody has tried to receive it yet.
            "deliverycount" => return Some(Scalar::Int(0)),
            "enqueuedtimeutc" => return Some(Scalar::Time(self.enqueued_at.as_millis())),
            _ => return None,
        };
        Some(self.field(index))
    }

    fn has_user(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn new_id(&self) -> Uuid {
        let id = self.next_id.get();
        self.next_id.set(id.wrapping_add(1));
        Uuid::from_u128(id)
    }
}

fn time(at: Option<Timestamp>) -> Scalar<'static> {
    at.map_or(Scalar::Null, |at| Scalar::Time(at.as_millis()))
}

fn scalar(value: &Value) -> Scalar<'_> {
    match value {
        Value::Bool(v) => Scalar::Bool(*v),
        Value::Float(v) => Scalar::Float(f64::from(*v)),
        Value::Double(v) => Scalar::Float(*v),
        Value::String(v) | Value::Symbol(v) => Scalar::Text(Cow::Borrowed(v)),
        Value::Char(v) => Scalar::Text(v.to_string().into()),
        Value::Timestamp(v) => Scalar::Time(*v),
        Value::Uuid(v) => Scalar::Uuid(*v),
        Value::Binary(v) => Scalar::Bytes(v),
        Value::Ulong(v) => match i64::try_from(*v) {
            Ok(v) => Scalar::Int(v),
            Err(_) => Scalar::Null,
        },
        other => other.as_i64().map_or(Scalar::Null, Scalar::Int),
    }
}
