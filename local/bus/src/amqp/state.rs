//! Delivery states (part 3, section 3.4): what became of a message.

use bytes::BytesMut;

use super::condition::AmqpError;
use super::decode::{Composite, DecodeError, FromAmqp, Reader};
use super::encode::{ListWriter, Put};
use super::value::Value;

/// Symbolic names of the described types that occur inside fields.
pub(crate) const DESCRIPTORS: &[(u64, &str)] = &[
    (0x1d, "amqp:error:list"),
    (0x23, "amqp:received:list"),
    (0x24, "amqp:accepted:list"),
    (0x25, "amqp:rejected:list"),
    (0x26, "amqp:released:list"),
    (0x27, "amqp:modified:list"),
    (0x28, "amqp:source:list"),
    (0x29, "amqp:target:list"),
    (0x30, "amqp:coordinator:list"),
];

/// A delivery state.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum DeliveryState {
    /// Some of the message arrived; not an outcome.
    Received,
    Accepted,
    Rejected(Option<AmqpError>),
    Released,
    Modified {
        undeliverable_here: bool,
        annotations: Vec<(Value, Value)>,
    },
    /// A state of another specification part, such as a transactional one.
    Other(u64),
}

impl<'a> FromAmqp<'a> for DeliveryState {
    fn from_amqp(code: u8, reader: &mut Reader<'a>) -> Result<DeliveryState, DecodeError> {
        let Composite { code, mut fields } = Composite::from_amqp(code, reader)?;
        Ok(match code {
            0x23 => DeliveryState::Received,
            0x24 => DeliveryState::Accepted,
            0x25 => DeliveryState::Rejected(fields.next()?),
            0x26 => DeliveryState::Released,
            0x27 => {
                fields.skip()?; // delivery-failed: the service counts every abandon
                let undeliverable_here = fields.next()?.unwrap_or(false);
                let annotations = match fields.next::<Value>()? {
                    Some(Value::Map(pairs)) => pairs,
                    _ => Vec::new(),
                };
                DeliveryState::Modified { undeliverable_here, annotations }
            }
            other => DeliveryState::Other(other),
        })
    }
}

impl Put for &DeliveryState {
    fn put(self, out: &mut BytesMut) {
        match self {
            DeliveryState::Accepted => ListWriter::composite(out, 0x24).end(),
            DeliveryState::Rejected(error) => {
                let mut list = ListWriter::composite(out, 0x25);
                if let Some(error) = error {
                    list.field(error);
                }
                list.end();
            }
            DeliveryState::Received | DeliveryState::Released | DeliveryState::Other(_) => {
                ListWriter::composite(out, 0x26).end();
            }
            DeliveryState::Modified { .. } => ListWriter::composite(out, 0x27).end(),
        }
    }
}
