//! An Event Grid topic stand-in: publish over HTTP, deliver to webhooks, retry, dead-letter.
//!
//! Reading order: [`topology`] says what is declared, [`event`] what may be published, [`store`] is
//! the state machine that decides about deliveries, `server` is the wire in both directions. It
//! speaks plain HTTP/1.1, takes CloudEvents 1.0 or the Event Grid schema, and delivers to webhooks and
//! Storage queues of this machine alone. What it holds is in memory; dead letters are files.
//!
//! It leaves out: custom input schemas, batched delivery, domains, namespaces, TLS and Entra tokens. A dead letter is written at once, not after five
//! minutes, and as a line of a file, not as a blob.

pub mod access;
pub mod event;
pub mod filter;
pub mod limits;
mod server;
pub mod store;
pub mod topology;

pub use listener::{Clock, ServeError};
pub use server::{BindError, Options, Server};

/// The access key of the stand-in, base64; public, and good for nothing else.
pub const LOCAL_KEY: &str = "bG9jYWwtZXZlbnQtZ3JpZC1rZXktZ29vZC1mb3Itbm8=";
