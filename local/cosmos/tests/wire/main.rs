//! The wire, as a client without an SDK sees it: real sockets, signed requests, a clock that only
//! the test moves.

#![expect(clippy::unwrap_used, reason = "helpers of tests are not recognised as tests")]

mod conditions;
mod feed;
mod harness;
mod protocol;
mod queries;
mod supported;
mod trigger;
