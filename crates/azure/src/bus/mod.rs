//! A message broker: Azure Service Bus over AMQP 1.0.
//!
//! Shaped like the official client that is not published yet (client, sender, receiver, message),
//! so that it can take this module's place. Underneath is `fe2o3-amqp`, the engine the official
//! client wraps too; this module adds what Service Bus asks for beyond AMQP: claims-based security
//! with tokens that are renewed before they expire, batches, scheduling, settlement by lock token,
//! and what a long-lived process asks for: one connection, pooled links, reconnecting with
//! back-off, a deadline on every wait.
//!
//! * [`BusClient`] owns the connection. Everything else is made by it and cheap to clone.
//! * [`Sender`] returns when the broker has accepted a message, never before.
//! * [`Receiver`] takes messages under a peek lock and settles them.
//! * [`Management`] schedules, peeks, renews, and settles what somebody else received.
//!
//! Protocol: <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-protocol-guide>
//! and, for the management node,
//! <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-request-response>.

mod client;
mod connection;
mod error;
mod management;
mod message;
mod receiver;
mod request;
mod sender;
mod slot;
mod token;

pub use client::{BusClient, BusOptions};
pub use error::BusError;
pub use management::{Disposition, Management};
pub use message::{Message, MessageState, PropertyValue, Received};
pub use receiver::{Receiver, ReceiverOptions, SubQueue};
pub use sender::Sender;
