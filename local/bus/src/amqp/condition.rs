//! Error conditions and the `error` composite (part 2, section 2.8.14, and the Service Bus ones).
//!
//! An error is always written with all three fields: a client that indexes into the list without
//! looking at its length (pyamqp does) otherwise dies instead of failing.

use std::borrow::Cow;

use bytes::BytesMut;

use super::decode::{Composite, DecodeError, FromAmqp, Reader};
use super::encode::{ListWriter, MapWriter, Put, Symbol};
use super::value::Value;

pub(crate) const SERVER_BUSY: &str = "com.microsoft:server-busy";
pub(crate) const DETACH_FORCED: &str = "amqp:link:detach-forced";
pub(crate) const NOT_FOUND: &str = "amqp:not-found";
pub(crate) const UNAUTHORIZED: &str = "amqp:unauthorized-access";
pub(crate) const NOT_ALLOWED: &str = "amqp:not-allowed";
pub(crate) const NOT_IMPLEMENTED: &str = "amqp:not-implemented";
pub(crate) const DECODE_ERROR: &str = "amqp:decode-error";
pub(crate) const INTERNAL_ERROR: &str = "amqp:internal-error";
pub(crate) const INVALID_FIELD: &str = "amqp:invalid-field";
pub(crate) const ILLEGAL_STATE: &str = "amqp:illegal-state";
pub(crate) const RESOURCE_LIMIT: &str = "amqp:resource-limit-exceeded";
pub(crate) const MESSAGE_SIZE_EXCEEDED: &str = "amqp:link:message-size-exceeded";
pub(crate) const TRANSFER_LIMIT_EXCEEDED: &str = "amqp:link:transfer-limit-exceeded";
pub(crate) const CONNECTION_FORCED: &str = "amqp:connection:forced";
pub(crate) const FRAMING_ERROR: &str = "amqp:connection:framing-error";
pub(crate) const WINDOW_VIOLATION: &str = "amqp:session:window-violation";
pub(crate) const UNATTACHED_HANDLE: &str = "amqp:session:unattached-handle";
pub(crate) const HANDLE_IN_USE: &str = "amqp:session:handle-in-use";
pub(crate) const DEAD_LETTER: &str = "com.microsoft:dead-letter";
pub(crate) const MESSAGE_LOCK_LOST: &str = "com.microsoft:message-lock-lost";
pub(crate) const MESSAGE_NOT_FOUND: &str = "com.microsoft:message-not-found";
pub(crate) const SESSION_LOCK_LOST: &str = "com.microsoft:session-lock-lost";
pub(crate) const SESSION_CANNOT_BE_LOCKED: &str = "com.microsoft:session-cannot-be-locked";
pub(crate) const SESSION_NOT_FOUND: &str = "com.microsoft:session-not-found";
pub(crate) const ENTITY_DISABLED: &str = "com.microsoft:entity-disabled";
pub(crate) const TIMEOUT: &str = "com.microsoft:timeout";
pub(crate) const ENTITY_ALREADY_EXISTS: &str = "com.microsoft:entity-already-exists";
pub(crate) const ARGUMENT_ERROR: &str = "com.microsoft:argument-error";

/// The `error` composite.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct AmqpError {
    pub(crate) condition: Cow<'static, str>,
    pub(crate) description: String,
    pub(crate) info: Vec<(Value, Value)>,
}

impl AmqpError {
    pub(crate) fn new(condition: &'static str, description: impl Into<String>) -> AmqpError {
        AmqpError { condition: condition.into(), description: description.into(), info: Vec::new() }
    }
}

impl Put for &AmqpError {
    fn put(self, out: &mut BytesMut) {
        let mut list = ListWriter::composite(out, 0x1d);
        list.field(Symbol(&self.condition)).field(self.description.as_str()).place(|out| {
            let mut map = MapWriter::begin(out);
            for (key, value) in &self.info {
                map.pair(key, value);
            }
            map.end();
        });
        list.end();
    }
}

impl<'a> FromAmqp<'a> for AmqpError {
    fn from_amqp(code: u8, reader: &mut Reader<'a>) -> Result<AmqpError, DecodeError> {
        let mut error = Composite::from_amqp(code, reader)?.fields;
        let condition = error.must::<String>("condition")?.into();
        let description = error.next::<String>()?.unwrap_or_default();
        let info = match error.next::<Value>()? {
            Some(Value::Map(pairs)) => pairs,
            _ => Vec::new(),
        };
        Ok(AmqpError { condition, description, info })
    }
}
