//! A Cosmos DB (NoSQL) stand-in: REST on the wire, a deterministic store inside.
//!
//! Reading order: [`store`] is the state machine, [`sql`] the query language, `rest` the wire.
//! The official SDKs for Rust, Python and JavaScript use it unmodified. It speaks HTTP/1.1
//! and HTTP/2, plain or with a development certificate, keeps what it acknowledges in a directory
//! (`disk`), and leaves out stored procedures, triggers and users.

pub mod auth;
mod binary;
mod disk;
mod entra;
#[cfg(test)]
mod fuzz;
pub mod limits;
mod rest;
pub mod sql;
pub mod store;
mod tls;

pub use auth::EMULATOR_KEY;
pub use disk::StorageError;
pub use listener::Clock;
pub use rest::{Account, BindError, DatabaseDeclaration, Options, ServeError, Server};
pub use tls::CertificateError;
