//! A bank that is not ours: charges, cancellations, and a ledger that tells the truth.
//!
//! It stands for an external payment provider. It knows references, keys and money, has never
//! heard of what is paid for, and is not reached by any fault that the system under test injects;
//! only a script of its own makes it slow, silent or absent. What it did is in its **ledger**, an
//! append-only file of JSON lines. A line is on the disk before the request that caused it is
//! answered, so whatever a caller was told survives the end of the process.
//!
//! Reading order: [`book`] decides, [`ledger`] keeps, `keeper` joins the two, [`script`] misbehaves,
//! `routes` and `server` speak HTTP.

pub mod book;
mod keeper;
pub mod ledger;
pub mod limits;
mod problem;
mod routes;
pub mod script;
mod server;

pub use listener::Clock;
pub use server::{BindError, Options, ServeError, Server};
