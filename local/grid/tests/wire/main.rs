//! The service on the wire: publishers on one side, subscribers on the other.

#![expect(clippy::unwrap_used, reason = "a helper that cannot go on fails the test that called it")]

mod delivery;
mod harness;
mod publish;
mod schema;
