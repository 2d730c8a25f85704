//! A message at rest: what the sender wrote, byte for byte, and the few facts the broker acts on.
//!
//! The bare message (properties, application properties, body, footer) is one allocation of
//! exactly its size, so that one message left in a dead-letter queue does not hold on to the read
//! buffer it arrived in. Header and annotations are kept as values because they are rewritten for
//! every delivery. Knows the message format (AMQP 1.0 part 3) and nothing of connections or links.

mod delivery;
mod stored;
mod view;

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

pub(crate) use delivery::{DeliveryMode, put_message, put_prefix};
pub(crate) use view::View;

use crate::amqp::encode::put_value;
use crate::amqp::sections::{Header, Sections, map_section};
use crate::amqp::{DecodeError, Reader, Value};
use crate::broker::Timestamp;
use crate::filter::{Change, Scalar, Scope};
use crate::limits::{ID_CHARS_MAX, PROPERTIES_BYTES_MAX};

const PROPERTIES_CODE: u64 = 0x73;
const APPLICATION_PROPERTIES_CODE: u64 = 0x74;
const DATA_CODE: u64 = 0x75;

/// A properties section with a list of one field, a string of 32 bytes, without the string.
const ONLY_ID_HEAD: [u8; 8] = [0x00, 0x53, 0x73, 0xc0, 35, 1, 0xa1, 32];

/// Application properties under which a dead-letter queue says why a message is in it.
pub(crate) const DEAD_LETTER_REASON: &str = "DeadLetterReason";
pub(crate) const DEAD_LETTER_DESCRIPTION: &str = "DeadLetterErrorDescription";

/// Message annotations that only the broker sets; a sender's are dropped.
const BROKER_ANNOTATIONS: [&str; 6] = [
    "x-opt-enqueued-time",
    "x-opt-sequence-number",
    "x-opt-enqueue-sequence-number",
    "x-opt-locked-until",
    "x-opt-message-state",
    "x-opt-lock-token",
];

/// Index of each field in the properties section.
const MESSAGE_ID: usize = 0;
const TO: usize = 2;
const SUBJECT: usize = 3;
const REPLY_TO: usize = 4;
const CORRELATION_ID: usize = 5;
const CONTENT_TYPE: usize = 6;
const GROUP_ID: usize = 10;
const REPLY_TO_GROUP_ID: usize = 12;

/// Why bytes are not a message that can be stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum MessageError {
    #[error("the message cannot be decoded: {0}")]
    Decode(#[from] DecodeError),
    #[error("the {0} is longer than {ID_CHARS_MAX} characters")]
    LongId(&'static str),
    #[error("header, annotations and properties exceed {PROPERTIES_BYTES_MAX} bytes")]
    LargeProperties,
}

/// A message as it is stored.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Message {
    pub(crate) header: Header,
    /// The sender's message annotations, without those only the broker may set.
    pub(crate) annotations: Vec<(Value, Value)>,
    /// Properties, application properties, body and footer as the sender wrote them.
    bare: Bytes,
    /// Where application properties and body start in `bare`.
    application_at: usize,
    body_at: usize,
    /// The message-id as text; `None` until the broker has invented one.
    id: Option<Arc<str>>,
    pub(crate) session_id: Option<String>,
    pub(crate) partition_key: Option<String>,
    /// When it is to appear, if its sender asked for later than now.
    pub(crate) scheduled_for: Option<Timestamp>,
}

impl Message {
    /// Reads one encoded message, copying what is kept.
    pub(crate) fn parse(encoded: &Bytes) -> Result<Message, MessageError> {
        let sections = Sections::split(encoded)?;
        let body_bytes = sections.body.len();
        if encoded.len() - body_bytes > PROPERTIES_BYTES_MAX {
            return Err(MessageError::LargeProperties);
        }
        let mut bare =
            Vec::with_capacity(sections.properties.len() + sections.application.len() + body_bytes);
        bare.extend_from_slice(&sections.properties);
        let application_at = bare.len();
        bare.extend_from_slice(&sections.application);
        let body_at = bare.len();
        bare.extend_from_slice(&sections.body);

        let mut annotations = sections.annotations;
        let partition_key = annotation(&annotations, "x-opt-partition-key")
            .and_then(Value::as_text)
            .map(str::to_owned);
        let scheduled_for = annotation(&annotations, "x-opt-scheduled-enqueue-time")
            .and_then(Value::as_i64)
            .map(Timestamp::from_millis);
        annotations
            .retain(|(key, _)| key.as_text().is_none_or(|key| !BROKER_ANNOTATIONS.contains(&key)));
        let mut message = Message {
            header: sections.header,
            annotations,
            bare: bare.into(),
            application_at,
            body_at,
            id: None,
            session_id: None,
            partition_key,
            scheduled_for,
        };
        message.read_ids()?;
        check_id("partition-key", message.partition_key.as_deref())?;
        Ok(message)
    }

    /// Reads the two ids the broker acts on, passing over the fields between them.
    fn read_ids(&mut self) -> Result<(), MessageError> {
        let section = self.properties();
        if section.is_empty() {
            return Ok(());
        }
        let mut reader = Reader::new(&section);
        let (_, mut fields) = reader.composite(&[])?;
        self.id = fields.next::<Value>()?.as_ref().and_then(id_text).map(Arc::from);
        for _ in MESSAGE_ID + 1..GROUP_ID {
            fields.skip()?;
        }
        self.session_id = fields.next::<String>()?;
        check_id("message-id", self.id.as_deref())?;
        check_id("session-id", self.session_id.as_deref())
    }

    /// The message-id as text, empty while there is none.
    #[cfg(test)]
    pub(crate) fn id(&self) -> &str {
        self.id.as_deref().unwrap_or_default()
    }

    /// What duplicates have in common: the message-id, within its partition key if it has one.
    pub(crate) fn duplicate_key(&self) -> Arc<str> {
        match (&self.partition_key, &self.id) {
            (Some(key), id) => format!("{key}\0{}", id.as_deref().unwrap_or_default()).into(),
            (None, Some(id)) => Arc::clone(id),
            (None, None) => Arc::from(""),
        }
    }

    /// Whether the sender left out the message-id. Some clients cannot work with a message that
    /// has none (the JavaScript lock renewer throws), so the broker gives it one.
    pub(crate) fn lacks_id(&self) -> bool {
        self.id.is_none()
    }

    /// Gives the message an id of 32 hexadecimal digits.
    pub(crate) fn invent_id(&mut self, id: Uuid) {
        let mut digits = uuid::Uuid::encode_buffer();
        let text = &*id.simple().encode_lower(&mut digits);
        self.id = Some(Arc::from(text));
        if self.application_at > 0 {
            self.set_property(MESSAGE_ID, Value::string(text));
            return;
        }
        // What a sender leaves out with all the other properties is most often the case, and needs
        // no decoding: a list of one string.
        let mut bare = Vec::with_capacity(ONLY_ID_HEAD.len() + text.len() + self.bare.len());
        bare.extend_from_slice(&ONLY_ID_HEAD);
        bare.extend_from_slice(text.as_bytes());
        self.application_at = bare.len();
        self.body_at += bare.len();
        bare.extend_from_slice(&self.bare);
        self.bare = bare.into();
    }

    fn properties(&self) -> Bytes {
        self.bare.slice(..self.application_at)
    }

    fn application(&self) -> Bytes {
        self.bare.slice(self.application_at..self.body_at)
    }

    /// Body sections and footer.
    #[cfg(test)]
    pub(crate) fn body(&self) -> Bytes {
        self.bare.slice(self.body_at..)
    }

    /// Properties, application properties, body and footer, encoded.
    pub(crate) fn bare(&self) -> &[u8] {
        &self.bare
    }

    /// Properties and application properties followed by an empty body.
    pub(crate) fn bare_without_body(&self) -> Bytes {
        let mut out = BytesMut::from(&self.bare[..self.body_at]);
        put_value(&mut out, &Value::described(DATA_CODE, Value::Binary(Bytes::new())));
        out.freeze()
    }

    /// Bytes this message occupies, for quotas.
    pub(crate) fn size(&self) -> u64 {
        // Annotations are few; what they and the bookkeeping take is estimated.
        self.bare.len() as u64 + 64 + self.annotations.len() as u64 * 32
    }

    /// The fields of the properties section, as many as there are.
    pub(crate) fn property_fields(&self) -> Vec<Value> {
        match Reader::new(&self.properties()).value() {
            Ok(Value::Described(section)) => match section.1 {
                Value::List(fields) => fields,
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    /// The application properties.
    pub(crate) fn application_properties(&self) -> Vec<(Value, Value)> {
        // What does not decode was refused at the door.
        map_section(&self.application()).unwrap_or_default()
    }

    fn set_property(&mut self, index: usize, value: Value) {
        let mut fields = self.property_fields();
        if fields.len() <= index {
            fields.resize(index + 1, Value::Null);
        }
        fields[index] = value;
        let mut out = BytesMut::with_capacity(self.bare.len() + 64);
        put_value(&mut out, &Value::described(PROPERTIES_CODE, Value::List(fields)));
        let application_at = out.len();
        out.put_slice(&self.bare[self.application_at..]);
        self.body_at = self.body_at - self.application_at + application_at;
        self.application_at = application_at;
        self.bare = out.freeze();
    }

    /// The message with application properties set (or, with null, set to null). Keys may come as
    /// symbols, which is how clients name properties to modify.
    pub(crate) fn with_application_properties(&self, changes: &[(Value, Value)]) -> Message {
        let mut pairs = self.application_properties();
        for (key, value) in changes {
            let Some(key) = key.as_text() else { continue };
            match pairs.iter_mut().find(|(k, _)| k.as_text() == Some(key)) {
                Some(pair) => pair.1 = value.clone(),
                None => pairs.push((Value::string(key), value.clone())),
            }
        }
        self.with_application(pairs)
    }

    /// The message with one more annotation, in place of the sender's.
    pub(crate) fn with_annotation(&self, key: &str, text: &str) -> Message {
        let mut annotations = self.annotations.clone();
        annotations.retain(|(known, _)| known.as_text() != Some(key));
        annotations.push((Value::symbol(key), Value::string(text)));
        Message { annotations, ..self.clone() }
    }

    fn with_application(&self, pairs: Vec<(Value, Value)>) -> Message {
        let mut out = BytesMut::with_capacity(self.bare.len() + 256);
        out.put_slice(&self.bare[..self.application_at]);
        put_value(&mut out, &Value::described(APPLICATION_PROPERTIES_CODE, Value::Map(pairs)));
        let body_at = out.len();
        out.put_slice(&self.bare[self.body_at..]);
        Message { bare: out.freeze(), body_at, ..self.clone() }
    }

    /// The message as a rule's action leaves it.
    pub(crate) fn with_changes(&self, changes: &[Change], rule: &str) -> Message {
        let mut pairs = self.application_properties();
        let mut system = Vec::new();
        for change in changes {
            match change.scope {
                Scope::User => {
                    let same = |(k, _): &(Value, Value)| {
                        k.as_text().is_some_and(|k| k.eq_ignore_ascii_case(&change.name))
                    };
                    match (&change.value, pairs.iter().position(same)) {
                        (Some(value), Some(at)) => pairs[at].1 = from_scalar(value),
                        (Some(value), None) => {
                            pairs.push((Value::string(&change.name), from_scalar(value)));
                        }
                        (None, Some(at)) => drop(pairs.remove(at)),
                        (None, None) => {}
                    }
                }
                Scope::System => {
                    if let Some(index) = settable(&change.name) {
                        let value = change.value.as_ref().map_or(Value::Null, from_scalar);
                        system.push((index, value));
                    }
                }
            }
        }
        pairs.push((Value::string("RuleName"), Value::string(rule)));
        let mut message = self.with_application(pairs);
        let rereads = system.iter().any(|(index, _)| matches!(*index, MESSAGE_ID | GROUP_ID));
        for (index, value) in system {
            message.set_property(index, value);
        }
        if rereads {
            // An id that is too long stays what it was: there is nobody to refuse it to.
            let _ = message.read_ids();
        }
        message
    }
}

/// The system properties a rule action may set, with their index in the properties section.
fn settable(name: &str) -> Option<usize> {
    const SETTABLE: [(&str, usize); 9] = [
        ("MessageId", MESSAGE_ID),
        ("SessionId", GROUP_ID),
        ("To", TO),
        ("Label", SUBJECT),
        ("Subject", SUBJECT),
        ("ReplyTo", REPLY_TO),
        ("CorrelationId", CORRELATION_ID),
        ("ContentType", CONTENT_TYPE),
        ("ReplyToSessionId", REPLY_TO_GROUP_ID),
    ];
    SETTABLE.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, index)| *index)
}

/// A value under an annotation key.
fn annotation<'a>(pairs: &'a [(Value, Value)], key: &str) -> Option<&'a Value> {
    crate::amqp::value::get(pairs, key)
}

fn check_id(what: &'static str, id: Option<&str>) -> Result<(), MessageError> {
    match id {
        Some(id) if id.chars().count() > ID_CHARS_MAX => Err(MessageError::LongId(what)),
        _ => Ok(()),
    }
}

/// A message-id or correlation-id as text: ulong, uuid and binary ids have one too.
fn id_text(id: &Value) -> Option<String> {
    match id {
        Value::String(text) => Some(text.clone()),
        Value::Ulong(n) => Some(n.to_string()),
        Value::Uuid(uuid) => Some(uuid.to_string()),
        Value::Binary(bytes) => Some(bytes.iter().map(|byte| format!("{byte:02x}")).collect()),
        _ => None,
    }
}

/// A filter value as an AMQP value.
pub(crate) fn from_scalar(scalar: &Scalar<'_>) -> Value {
    match scalar {
        Scalar::Null | Scalar::Bytes(_) => Value::Null,
        Scalar::Bool(v) => Value::Bool(*v),
        Scalar::Int(v) => Value::Long(*v),
        Scalar::Float(v) => Value::Double(*v),
        Scalar::Text(v) => Value::string(v),
        Scalar::Time(v) => Value::Timestamp(*v),
        Scalar::Uuid(v) => Value::Uuid(*v),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An encoded message with the given id, application properties and one data section.
    pub(crate) fn encoded(id: Option<&str>, user: &[(&str, Value)], body: &[u8]) -> Bytes {
        let mut out = BytesMut::new();
        if let Some(id) = id {
            let fields = vec![Value::string(id)];
            put_value(&mut out, &Value::described(PROPERTIES_CODE, Value::List(fields)));
        }
        if !user.is_empty() {
            let pairs = user.iter().map(|(k, v)| (Value::string(k), v.clone())).collect();
            put_value(&mut out, &Value::described(APPLICATION_PROPERTIES_CODE, Value::Map(pairs)));
        }
        let body = Value::Binary(Bytes::copy_from_slice(body));
        put_value(&mut out, &Value::described(DATA_CODE, body));
        out.freeze()
    }

    #[test]
    fn an_invented_id_leaves_everything_else_alone() {
        let user = [("n", Value::Short(7))];
        let mut message = Message::parse(&encoded(None, &user, b"body")).unwrap();
        assert!(message.lacks_id());
        message.invent_id(Uuid::from_u128(0xab));
        assert_eq!(message.id(), "000000000000000000000000000000ab");
        assert_eq!(message.application_properties(), [(Value::string("n"), Value::Short(7))]);
        assert!(message.body().ends_with(b"body"));
        let again = Message::parse(&Bytes::copy_from_slice(message.bare())).unwrap();
        assert_eq!(again.id(), message.id());
        assert_eq!(again.bare(), message.bare());
    }

    #[test]
    fn properties_to_modify_replace_and_add() {
        let user = [("kept", Value::Int(1)), ("changed", Value::Int(2))];
        let message = Message::parse(&encoded(Some("id"), &user, b"body")).unwrap();
        let changed = message.with_application_properties(&[
            (Value::symbol("changed"), Value::string("x")),
            (Value::symbol("added"), Value::Bool(true)),
        ]);
        assert_eq!(
            changed.application_properties(),
            [
                (Value::string("kept"), Value::Int(1)),
                (Value::string("changed"), Value::string("x")),
                (Value::string("added"), Value::Bool(true)),
            ]
        );
        assert_eq!((changed.id(), changed.body()), ("id", message.body()));
    }

    #[test]
    fn ids_are_text_whatever_their_type_and_limited() {
        for (id, text) in [
            (Value::Ulong(7), "7"),
            (Value::Uuid(Uuid::nil()), "00000000-0000-0000-0000-000000000000"),
            (Value::Binary(Bytes::from_static(&[0xa, 0xbc])), "0abc"),
        ] {
            let mut out = BytesMut::new();
            put_value(&mut out, &Value::described(PROPERTIES_CODE, Value::List(vec![id])));
            assert_eq!(Message::parse(&out.freeze()).unwrap().id(), text);
        }
        let long = "x".repeat(ID_CHARS_MAX + 1);
        assert_eq!(
            Message::parse(&encoded(Some(&long), &[], b"")),
            Err(MessageError::LongId("message-id"))
        );
        let large = Value::Binary(vec![0; PROPERTIES_BYTES_MAX].into());
        assert_eq!(
            Message::parse(&encoded(None, &[("p", large)], b"")),
            Err(MessageError::LargeProperties)
        );
    }
}
