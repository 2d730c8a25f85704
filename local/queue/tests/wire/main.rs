//! The wire, as a client without an SDK sees it: real sockets, signed requests, a clock that only
//! the test moves.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not recognised as tests")]

mod access;
mod durable;
mod harness;
mod messages;
mod protocol;
mod queues;
