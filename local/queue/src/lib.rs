//! A Storage Queue service stand-in: REST on the wire, a deterministic store inside.
//!
//! Reading order: [`store`] is the state machine, [`auth`] decides who may do what, `rest` is the
//! wire. The official SDKs use it unmodified, with an account in the path as emulators have it
//! (`http://127.0.0.1:<port>/devstoreaccount1/<queue>`). It speaks plain HTTP/1.1 and leaves out
//! CORS preflights, user delegation keys and Entra tokens. With a directory to keep its data in, a
//! request is answered once what it changed is on the disk.

pub mod auth;
mod date;
mod durable;
pub mod limits;
mod rest;
pub mod store;

pub use auth::{EMULATOR_ACCOUNT, EMULATOR_KEY};
pub use listener::{Clock, ServeError};
pub use rest::{BindError, Options, Server, connection_string};
