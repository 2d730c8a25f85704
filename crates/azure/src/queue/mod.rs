//! A Storage queue, as an operator needs it: count, peek, take, give back, delete.
//!
//! Functions put messages into queues through bindings of their host and are triggered by them; no
//! code of theirs speaks to a queue. This client is for the queue that nobody is triggered by: the
//! poison queue. Opened with the account key (emulators) or with Entra tokens.
//!
//! Protocol: <https://learn.microsoft.com/rest/api/storageservices/queue-service-rest-api>.

mod client;
mod connection;
mod error;
mod sign;
mod xml;

pub use client::{QueueClient, QueueMessage, Shown};
pub use connection::QueueConnection;
pub use error::QueueError;
