//! The sections of a message (part 3, section 3.2), found but not decoded.
//!
//! What the sender wrote stays as it is: properties, application properties and body are handed on
//! as slices, so that types a decoder might normalise reach the receiver unchanged.

use bytes::Bytes;

use super::decode::{Composite, DecodeError, FromAmqp, Reader};
use super::value::Value;

const HEADER: u64 = 0x70;
const DELIVERY_ANNOTATIONS: u64 = 0x71;
const MESSAGE_ANNOTATIONS: u64 = 0x72;
const PROPERTIES: u64 = 0x73;
const APPLICATION_PROPERTIES: u64 = 0x74;
const DATA: u64 = 0x75;
const SEQUENCE: u64 = 0x76;
const VALUE: u64 = 0x77;
const FOOTER: u64 = 0x78;
const NAMES: &[(u64, &str)] = &[
    (HEADER, "amqp:header:list"),
    (DELIVERY_ANNOTATIONS, "amqp:delivery-annotations:map"),
    (MESSAGE_ANNOTATIONS, "amqp:message-annotations:map"),
    (PROPERTIES, "amqp:properties:list"),
    (APPLICATION_PROPERTIES, "amqp:application-properties:map"),
    (DATA, "amqp:data:binary"),
    (SEQUENCE, "amqp:amqp-sequence:list"),
    (VALUE, "amqp:amqp-value:*"),
    (FOOTER, "amqp:footer:map"),
];

/// The header section's fields that are kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) durable: Option<bool>,
    pub(crate) priority: Option<u8>,
    /// Milliseconds.
    pub(crate) ttl: Option<u32>,
}

/// A message cut into its sections. Each slice includes the section's descriptor.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sections {
    pub(crate) header: Header,
    pub(crate) annotations: Vec<(Value, Value)>,
    pub(crate) properties: Bytes,
    pub(crate) application: Bytes,
    /// Body sections and footer.
    pub(crate) body: Bytes,
}

impl Sections {
    /// Cuts `message`. Every section must be whole, at most once (data and sequences aside) and in
    /// the order of the specification.
    pub(crate) fn split(message: &Bytes) -> Result<Sections, DecodeError> {
        let mut sections = Sections::default();
        let mut reader = Reader::new(message);
        let mut last = 0;
        while !reader.is_empty() {
            let start = reader.position();
            let mut ahead = reader.clone();
            if ahead.u8()? != 0 {
                return Err(DecodeError::Misplaced("a value outside of a section"));
            }
            let code = ahead.descriptor(NAMES)?;
            if !(HEADER..=FOOTER).contains(&code) || code <= last {
                return Err(DecodeError::Misplaced("this section"));
            }
            last = code;
            reader.check()?;
            let whole = message.slice(start..reader.position());
            match code {
                HEADER => sections.header = header(&whole)?,
                DELIVERY_ANNOTATIONS => {}
                MESSAGE_ANNOTATIONS => match ahead.value()? {
                    Value::Map(pairs) => sections.annotations = pairs,
                    _ => return Err(DecodeError::Misplaced("an annotation section without a map")),
                },
                PROPERTIES => sections.properties = whole,
                APPLICATION_PROPERTIES => sections.application = whole,
                _ => {
                    sections.body = message.slice(start..);
                    while !reader.is_empty() {
                        let mut ahead = reader.clone();
                        ahead.u8()?;
                        let next = ahead.descriptor(NAMES)?;
                        if next != code && next != FOOTER || next == code && code == VALUE {
                            return Err(DecodeError::Misplaced("this section"));
                        }
                        reader.check()?;
                    }
                }
            }
        }
        Ok(sections)
    }
}

fn header(section: &Bytes) -> Result<Header, DecodeError> {
    let mut reader = Reader::new(section);
    let code = reader.u8()?;
    let mut fields = Composite::from_amqp(code, &mut reader)?.fields;
    Ok(Header { durable: fields.next()?, priority: fields.next()?, ttl: fields.next()? })
}

/// The pairs of an application-properties section; empty for an absent one.
pub(crate) fn map_section(section: &Bytes) -> Result<Vec<(Value, Value)>, DecodeError> {
    if section.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = Reader::new(section);
    match reader.value()? {
        Value::Described(described) => match described.1 {
            Value::Map(pairs) => Ok(pairs),
            _ => Err(DecodeError::Misplaced("a properties section without a map")),
        },
        _ => Err(DecodeError::Misplaced("a value outside of a section")),
    }
}

/// The data sections of a batch envelope: each is one encoded message.
pub(crate) fn data_sections(body: &Bytes, max: usize) -> Result<Vec<Bytes>, DecodeError> {
    let mut messages = Vec::new();
    let mut reader = Reader::new(body);
    while !reader.is_empty() {
        reader.u8()?;
        if reader.descriptor(NAMES)? != DATA {
            return Err(DecodeError::Misplaced("anything but data in a batch"));
        }
        if messages.len() == max {
            return Err(DecodeError::TooMany);
        }
        let code = reader.u8()?;
        messages.push(Bytes::from_amqp(code, &mut reader)?);
    }
    Ok(messages)
}

/// The value of an amqp-value body, if that is what the body is.
pub(crate) fn value_body(body: &Bytes) -> Result<Option<Value>, DecodeError> {
    let mut reader = Reader::new(body);
    if reader.is_empty() || reader.u8()? != 0 || reader.descriptor(NAMES)? != VALUE {
        return Ok(None);
    }
    reader.value().map(Some)
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use proptest::prelude::*;

    use super::*;
    use crate::amqp::encode::put_value;

    fn encode(sections: &[(u64, Value)]) -> Bytes {
        let mut out = BytesMut::new();
        for (code, value) in sections {
            put_value(&mut out, &Value::described(*code, value.clone()));
        }
        out.freeze()
    }

    fn data(bytes: &'static [u8]) -> (u64, Value) {
        (DATA, Value::Binary(Bytes::from_static(bytes)))
    }

    #[test]
    fn sections_are_found_in_order_and_kept_raw() {
        let map = Value::Map(vec![(Value::string("k"), Value::Int(1))]);
        let message = encode(&[
            (HEADER, Value::List(vec![Value::Bool(true), Value::Ubyte(4), Value::Uint(9)])),
            (APPLICATION_PROPERTIES, map.clone()),
            data(b"one"),
            data(b"two"),
            (FOOTER, Value::Map(vec![])),
        ]);
        let sections = Sections::split(&message).unwrap();
        assert_eq!(
            sections.header,
            Header { durable: Some(true), priority: Some(4), ttl: Some(9) }
        );
        assert_eq!(Value::Map(map_section(&sections.application).unwrap()), map);
        assert!(sections.properties.is_empty());
        assert!(message.ends_with(&sections.body) && sections.body.len() < message.len());

        let disordered = encode(&[data(b"one"), (HEADER, Value::List(vec![]))]);
        assert!(Sections::split(&disordered).is_err());
        let mixed = encode(&[data(b"one"), (VALUE, Value::Null)]);
        assert!(Sections::split(&mixed).is_err());
        let truncated = message.slice(..message.len() - 1);
        assert!(Sections::split(&truncated).is_err());
        assert!(Sections::split(&Bytes::from_static(&[0x40])).is_err());
    }

    #[test]
    fn batches_hold_messages_in_data_sections_only() {
        let batch = encode(&[data(b"one"), data(b"two")]);
        assert_eq!(data_sections(&batch, 2).unwrap(), [&b"one"[..], &b"two"[..]]);
        assert_eq!(data_sections(&batch, 1), Err(DecodeError::TooMany));
        assert!(data_sections(&encode(&[(VALUE, Value::Null)]), 9).is_err());
    }

    proptest! {
        #[test]
        fn arbitrary_messages_never_panic(
            code in 0x6f_u8..0x7a,
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut body = vec![0x00, 0x53, code];
            body.extend_from_slice(&bytes);
            let body = Bytes::from(body);
            let _ = Sections::split(&body);
            let _ = map_section(&body);
            let _ = data_sections(&body, 10);
            let _ = value_body(&body);
        }
    }
}
