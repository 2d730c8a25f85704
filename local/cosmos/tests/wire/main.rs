//! The wire, as a client without an SDK sees it: real sockets, signed requests, a clock that only
//! the test moves.

mod conditions;
mod feed;
mod harness;
mod protocol;
mod queries;
