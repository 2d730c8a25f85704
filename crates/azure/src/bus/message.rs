//! Messages as callers see them, and as AMQP carries them.
//!
//! The mapping follows the official clients: body as one data section, broker properties in the
//! `properties` section, the scheduled time as an annotation, application properties with their
//! types. Formats:
//! <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-protocol-guide#messages>.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use fe2o3_amqp::Sendable;
use fe2o3_amqp_types::{
    messaging::{
        self as amqp, ApplicationProperties, Batch, Body, Data, Header, MESSAGE_FORMAT,
        MessageAnnotations, MessageId, Properties,
        annotations::OwnedKey,
        message::{__private, DecodeIntoMessage},
    },
    primitives::{Binary, SimpleValue, Symbol, Timestamp, Value},
};
use serde_amqp::read::SliceReader;
use time::OffsetDateTime;
use uuid::Uuid;

use super::error::BusError;

/// Message format of a transfer whose data sections are whole messages.
pub(crate) const BATCH_FORMAT: u32 = 0x8001_3700;

/// What a data section adds to an encoded message: descriptor, type code and a 4-byte length.
const SECTION_OVERHEAD_BYTES: usize = 8;

/// Kept free in every batch for what surrounds the messages.
const ENVELOPE_RESERVE_BYTES: usize = 512;

/// The broker takes no longer application-defined text with a dead letter.
const DEAD_LETTER_TEXT_MAX_CHARS: usize = 4096;

pub(crate) const DEAD_LETTER_REASON: &str = "DeadLetterReason";
pub(crate) const DEAD_LETTER_DESCRIPTION: &str = "DeadLetterErrorDescription";

const SCHEDULED_ENQUEUE_TIME: &str = "x-opt-scheduled-enqueue-time";
const ENQUEUED_TIME: &str = "x-opt-enqueued-time";
const SEQUENCE_NUMBER: &str = "x-opt-sequence-number";
const LOCKED_UNTIL: &str = "x-opt-locked-until";
const DEAD_LETTER_SOURCE: &str = "x-opt-deadletter-source";
const MESSAGE_STATE: &str = "x-opt-message-state";

/// A value of an application property, with its type: filters compare types too.
#[derive(Clone, Debug, PartialEq)]
pub enum PropertyValue {
    /// Nothing.
    Null,
    /// True or false.
    Bool(bool),
    /// Any whole number; sent as a 64-bit integer.
    Long(i64),
    /// Any other number; sent as a 64-bit float.
    Double(f64),
    /// Text.
    String(String),
    /// An identifier.
    Uuid(Uuid),
    /// A point in time, in milliseconds.
    Timestamp(OffsetDateTime),
    /// Bytes.
    Bytes(Bytes),
}

impl From<bool> for PropertyValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

impl From<i32> for PropertyValue {
    fn from(value: i32) -> Self {
        Self::Long(value.into())
    }
}

impl From<u32> for PropertyValue {
    fn from(value: u32) -> Self {
        Self::Long(value.into())
    }
}

impl From<i64> for PropertyValue {
    fn from(value: i64) -> Self {
        Self::Long(value)
    }
}

impl From<f64> for PropertyValue {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

impl From<&str> for PropertyValue {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl From<String> for PropertyValue {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl From<Uuid> for PropertyValue {
    fn from(value: Uuid) -> Self {
        Self::Uuid(value)
    }
}

impl From<OffsetDateTime> for PropertyValue {
    fn from(value: OffsetDateTime) -> Self {
        Self::Timestamp(value)
    }
}

/// A message to send.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// The payload.
    pub body: Bytes,
    /// Identifies the message for duplicate detection.
    pub message_id: Option<String>,
    /// Media type of the body.
    pub content_type: Option<String>,
    /// What this message belongs to.
    pub correlation_id: Option<String>,
    /// What this message is about; the label of older clients.
    pub subject: Option<String>,
    /// The caller's own properties; subscription rules see them.
    pub application_properties: BTreeMap<String, PropertyValue>,
    /// When the message becomes visible; at once when absent.
    pub scheduled_enqueue_time: Option<OffsetDateTime>,
    /// How long the message is worth delivering; the entity's default when absent.
    pub time_to_live: Option<Duration>,
}

impl Message {
    /// A message that is all body.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// Sets an application property.
    #[must_use]
    pub fn with_property(
        mut self,
        name: impl Into<String>,
        value: impl Into<PropertyValue>,
    ) -> Self {
        self.application_properties.insert(name.into(), value.into());
        self
    }
}

/// Where a message is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MessageState {
    /// Waiting to be received, or received and locked.
    #[default]
    Active,
    /// Put aside by a receiver; only its sequence number leads to it.
    Deferred,
    /// Not visible yet.
    Scheduled,
}

/// A message as the broker delivered or showed it.
#[derive(Clone, Debug, PartialEq)]
pub struct Received {
    /// What was sent. Dead-letter properties are not in here but below, so that this can be sent
    /// again as it is.
    pub message: Message,
    /// Number that the broker gave the message; unique within the entity.
    pub sequence_number: i64,
    /// When the broker accepted it.
    pub enqueued_at: Option<OffsetDateTime>,
    /// Deliveries that ended without settling the message, before this one.
    pub delivery_count: u32,
    /// Proof of the peek lock; absent on a message that was only peeked at.
    pub lock_token: Option<Uuid>,
    /// When the lock ends unless renewed.
    pub locked_until: Option<OffsetDateTime>,
    /// Where the message is in its life.
    pub state: MessageState,
    /// Why it was dead-lettered.
    pub dead_letter_reason: Option<String>,
    /// What was said about it.
    pub dead_letter_description: Option<String>,
    /// The entity it was dead-lettered in, when it was forwarded from there.
    pub dead_letter_source: Option<String>,
}

pub(crate) fn to_amqp(message: &Message) -> amqp::Message<Data> {
    let header = message.time_to_live.map(|ttl| {
        let millis = u32::try_from(ttl.as_millis()).unwrap_or(u32::MAX);
        Header::builder().ttl(millis).build()
    });
    let message_annotations = message.scheduled_enqueue_time.map(|at| {
        MessageAnnotations::builder()
            .insert(SCHEDULED_ENQUEUE_TIME, Value::Timestamp(timestamp(at)))
            .build()
    });
    let properties = Properties {
        message_id: message.message_id.clone().map(MessageId::String),
        correlation_id: message.correlation_id.clone().map(MessageId::String),
        content_type: message.content_type.clone().map(Symbol::from),
        subject: message.subject.clone(),
        ..Properties::default()
    };
    let application_properties = (!message.application_properties.is_empty()).then(|| {
        let mut builder = ApplicationProperties::builder();
        for (name, value) in &message.application_properties {
            builder = builder.insert(name.clone(), simple(value));
        }
        builder.build()
    });
    amqp::Message {
        header,
        delivery_annotations: None,
        message_annotations,
        properties: Some(properties),
        application_properties,
        body: Data(Binary::from(message.body.to_vec())),
        footer: None,
    }
}

/// The bytes of one message, as a batch or a schedule request carries them.
pub(crate) fn encode(message: &Message) -> Result<Vec<u8>, BusError> {
    serde_amqp::to_vec(&__private::Serializable(to_amqp(message)))
        .map_err(|error| BusError::protocol(format!("a message could not be encoded: {error}")))
}

/// What one transfer carries.
pub(crate) enum Packet {
    One(Sendable<Data>),
    Many(Sendable<Batch<Data>>),
}

impl Packet {
    pub(crate) fn one(message: &Message) -> Self {
        Self::One(Sendable {
            message: to_amqp(message),
            message_format: MESSAGE_FORMAT,
            settled: None,
        })
    }

    fn many(sections: Vec<Data>) -> Self {
        let message = amqp::Message {
            header: None,
            delivery_annotations: None,
            message_annotations: None,
            properties: None,
            application_properties: None,
            body: Batch::new(sections),
            footer: None,
        };
        Self::Many(Sendable { message, message_format: BATCH_FORMAT, settled: None })
    }
}

/// Packs messages, in order, into as few transfers as the broker's limit allows.
///
/// A message alone in its packet is sent plainly, whatever its size: the broker is the judge of
/// that.
pub(crate) fn pack(messages: &[Message], max_bytes: usize) -> Result<Vec<Packet>, BusError> {
    let room = max_bytes.saturating_sub(ENVELOPE_RESERVE_BYTES);
    let mut packets = Vec::new();
    let mut sections: Vec<Data> = Vec::new();
    let mut first = 0;
    let mut used = 0;
    for (index, message) in messages.iter().enumerate() {
        let encoded = encode(message)?;
        let size = encoded.len() + SECTION_OVERHEAD_BYTES;
        if !sections.is_empty() && used + size > room {
            packets.push(close(&messages[first], std::mem::take(&mut sections)));
            first = index;
            used = 0;
        }
        used += size;
        sections.push(Data(Binary::from(encoded)));
    }
    if !sections.is_empty() {
        packets.push(close(&messages[first], sections));
    }
    Ok(packets)
}

fn close(first: &Message, sections: Vec<Data>) -> Packet {
    match sections.len() {
        1 => Packet::one(first),
        _ => Packet::many(sections),
    }
}

/// Reads the bytes of one message, as a peek answer carries them.
pub(crate) fn decode(bytes: &[u8]) -> Result<Received, BusError> {
    let message = Body::<Value>::decode_message_from_reader(SliceReader::new(bytes))
        .map_err(|error| BusError::protocol(format!("a message could not be decoded: {error}")))?;
    Ok(from_amqp(message, None))
}

pub(crate) fn from_amqp(message: amqp::Message<Body<Value>>, lock_token: Option<Uuid>) -> Received {
    let properties = message.properties.unwrap_or_default();
    let annotations = message.message_annotations.unwrap_or_default();
    let annotation = |name: &'static str| annotations.0.get(&OwnedKey::Symbol(Symbol::from(name)));
    let time = |name| match annotation(name) {
        Some(Value::Timestamp(at)) => instant(at.milliseconds()),
        _ => None,
    };
    let mut application_properties: BTreeMap<String, PropertyValue> = message
        .application_properties
        .unwrap_or_default()
        .0
        .into_inner()
        .into_iter()
        .map(|(name, value)| (name, property(value)))
        .collect();
    let mut text = |name| match application_properties.remove(name) {
        Some(PropertyValue::String(text)) => Some(text),
        _ => None,
    };
    let dead_letter_reason = text(DEAD_LETTER_REASON);
    let dead_letter_description = text(DEAD_LETTER_DESCRIPTION);
    let header = message.header.unwrap_or_default();
    Received {
        sequence_number: match annotation(SEQUENCE_NUMBER) {
            Some(Value::Long(number)) => *number,
            _ => 0,
        },
        enqueued_at: time(ENQUEUED_TIME),
        delivery_count: header.delivery_count,
        lock_token,
        locked_until: time(LOCKED_UNTIL),
        state: match annotation(MESSAGE_STATE) {
            Some(Value::Int(1)) => MessageState::Deferred,
            Some(Value::Int(2)) => MessageState::Scheduled,
            _ => MessageState::Active,
        },
        dead_letter_source: match annotation(DEAD_LETTER_SOURCE) {
            Some(Value::String(entity)) => Some(entity.clone()),
            _ => None,
        },
        message: Message {
            body: body(message.body),
            message_id: properties.message_id.map(id),
            content_type: properties.content_type.map(|symbol| symbol.0),
            correlation_id: properties.correlation_id.map(id),
            subject: properties.subject,
            application_properties,
            scheduled_enqueue_time: time(SCHEDULED_ENQUEUE_TIME),
            time_to_live: header.ttl.map(|millis| Duration::from_millis(millis.into())),
        },
        dead_letter_reason,
        dead_letter_description,
    }
}

/// Cuts a dead-letter text to what the broker takes, at a character boundary.
pub(crate) fn dead_letter_text(text: &str) -> String {
    text.chars().take(DEAD_LETTER_TEXT_MAX_CHARS).collect()
}

/// The lock token in a delivery tag: a GUID in the byte order of .NET.
pub(crate) fn lock_token(delivery_tag: &[u8]) -> Option<Uuid> {
    delivery_tag.try_into().ok().map(Uuid::from_bytes_le)
}

pub(crate) fn timestamp(at: OffsetDateTime) -> Timestamp {
    let millis = at.unix_timestamp_nanos() / 1_000_000;
    Timestamp::from_milliseconds(i64::try_from(millis).unwrap_or(i64::MAX))
}

pub(crate) fn instant(millis: i64) -> Option<OffsetDateTime> {
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000).ok()
}

fn body(body: Body<Value>) -> Bytes {
    match body {
        Body::Data(sections) => {
            let mut sections = sections.into_iter().map(|data| data.0.into_vec());
            let mut first = sections.next().unwrap_or_default();
            sections.for_each(|section| first.extend(section));
            first.into()
        }
        // Senders of other languages may put text into a value section.
        Body::Value(amqp::AmqpValue(Value::String(text))) => text.into(),
        Body::Value(amqp::AmqpValue(Value::Binary(bytes))) => bytes.into_vec().into(),
        _ => Bytes::new(),
    }
}

fn id(id: MessageId) -> String {
    match id {
        MessageId::String(text) => text,
        MessageId::Ulong(number) => number.to_string(),
        MessageId::Uuid(uuid) => Uuid::from_bytes(uuid.into_inner()).to_string(),
        MessageId::Binary(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
    }
}

fn simple(value: &PropertyValue) -> SimpleValue {
    match value {
        PropertyValue::Null => SimpleValue::Null,
        PropertyValue::Bool(value) => SimpleValue::Bool(*value),
        PropertyValue::Long(value) => SimpleValue::Long(*value),
        PropertyValue::Double(value) => SimpleValue::Double((*value).into()),
        PropertyValue::String(value) => SimpleValue::String(value.clone()),
        PropertyValue::Uuid(value) => SimpleValue::Uuid((*value.as_bytes()).into()),
        PropertyValue::Timestamp(value) => SimpleValue::Timestamp(timestamp(*value)),
        PropertyValue::Bytes(value) => SimpleValue::Binary(Binary::from(value.to_vec())),
    }
}

fn property(value: SimpleValue) -> PropertyValue {
    match value {
        SimpleValue::Bool(value) => PropertyValue::Bool(value),
        SimpleValue::Byte(value) => PropertyValue::Long(value.into()),
        SimpleValue::Short(value) => PropertyValue::Long(value.into()),
        SimpleValue::Int(value) => PropertyValue::Long(value.into()),
        SimpleValue::Long(value) => PropertyValue::Long(value),
        SimpleValue::Ubyte(value) => PropertyValue::Long(value.into()),
        SimpleValue::Ushort(value) => PropertyValue::Long(value.into()),
        SimpleValue::Uint(value) => PropertyValue::Long(value.into()),
        SimpleValue::Ulong(value) => match i64::try_from(value) {
            Ok(value) => PropertyValue::Long(value),
            Err(_) => PropertyValue::Double(value as f64),
        },
        SimpleValue::Float(value) => PropertyValue::Double(value.into_inner().into()),
        SimpleValue::Double(value) => PropertyValue::Double(value.into_inner()),
        SimpleValue::String(value) => PropertyValue::String(value),
        SimpleValue::Symbol(value) => PropertyValue::String(value.0),
        SimpleValue::Char(value) => PropertyValue::String(value.into()),
        SimpleValue::Uuid(value) => PropertyValue::Uuid(Uuid::from_bytes(value.into_inner())),
        SimpleValue::Binary(value) => PropertyValue::Bytes(value.into_vec().into()),
        SimpleValue::Timestamp(value) => match instant(value.milliseconds()) {
            Some(at) => PropertyValue::Timestamp(at),
            None => PropertyValue::Null,
        },
        _ => PropertyValue::Null,
    }
}

#[cfg(test)]
#[path = "message_tests.rs"]
mod tests;
