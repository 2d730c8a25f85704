//! The protocol as the host sees it: fixtures of its envelopes, and a server over real sockets.
//!
//! Limits are shortened through `Config`, never waited out at their defaults. A test waits for the
//! event itself, with a deadline that is far longer than the event should take.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests, too")]

mod client;
mod fixtures;
mod invocations;
mod limits;
mod process;
mod proxied;
mod shutdown;
mod totality;
