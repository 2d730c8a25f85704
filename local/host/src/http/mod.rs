//! HTTP on both sides: the server callers see, and the client that speaks to the handler.
//!
//! It knows functions as routes only. Three ways lead to the handler, as in the Azure host:
//! proxying (streaming), forwarding (buffered, with its losses) and the JSON envelope.

pub(crate) mod admin;
mod admin_keys;
pub(crate) mod client;
pub(crate) mod cors;
mod envelope;
mod exchange;
mod forward;
pub(crate) mod keys;
mod limits;
mod output;
mod proxy;
pub(crate) mod route;
pub(crate) mod server;
mod torn;

pub(crate) use limits::BODY_MAX_BYTES;
pub(crate) use server::{Mode, Server, ServerOptions};
