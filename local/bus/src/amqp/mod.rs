//! AMQP 1.0: types, frames and performatives, as bytes to values and back.
//!
//! Knows nothing of sockets, queues or Service Bus. Written for input from anybody: every length
//! is checked against what is there, depth and counts are limited, nothing panics. Specification:
//! OASIS AMQP 1.0, <https://docs.oasis-open.org/amqp/core/v1.0/os/amqp-core-overview-v1.0-os.html>.

pub(crate) mod condition;
pub(crate) mod decode;
pub(crate) mod encode;
pub(crate) mod frame;
pub(crate) mod performative;
pub(crate) mod sasl;
pub(crate) mod sections;
pub(crate) mod state;
pub(crate) mod value;

pub(crate) use condition::AmqpError;
pub(crate) use decode::{DecodeError, Reader};
pub(crate) use value::Value;
