//! A Service Bus stand-in: AMQP 1.0 on the wire, a deterministic broker inside.
//!
//! Serves the unmodified SDKs on a laptop: queues, topics with SQL rules, peek-lock, sessions,
//! forwarding, dead-letter queues, scheduling, deferral, duplicate detection, over AMQP, TLS and
//! WebSockets, and the administration API; all of it kept in a journal on disk. It has never heard
//! of what the messages are about.
//!
//! From the wire inwards: `amqp` turns bytes into values, `server` keeps connections, sessions and
//! links, `message` is a message at rest, `broker` decides (no I/O, no clock), `storage` keeps what
//! it decided, `filter` is the rule language. Protocol: the AMQP 1.0 specification and
//! <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-protocol-guide>.

mod amqp;
mod broker;
mod filter;
#[cfg(test)]
mod fuzz;
mod limits;
mod message;
mod server;
mod storage;
mod topology;

pub use broker::{QueueStatus, Status, SubscriptionStatus, TopicStatus};
pub use filter::SyntaxError;
pub use journal::{Loss, OpenError, Repaired, repair};
pub use limits::{FRAME_BYTES_MIN, MESSAGE_BYTES_LIMIT};
pub use server::{BindError, CertificateError, Handle, Options, ServeError, Server};
pub use storage::Recovered;
pub use topology::{
    AuthorizationRule, CorrelationSpec, EntityStatus, Namespace, NamespaceError, Queue, Right,
    RuleSpec, Span, Subscription, Topic,
};
