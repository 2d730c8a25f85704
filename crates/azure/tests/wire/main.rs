//! What this crate puts on the wire, and what it makes of the answers, against servers that are
//! scripted byte by byte. The services' own behaviour is not tested here.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper that cannot go on fails the test that called it"
)]

mod bus;
mod cosmos;
mod grid;
mod stub;
