//! The services of this package as their callers meet them: over real sockets, on ports that the
//! system picks.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod bank;
mod bus;
mod declare;
mod grid;
mod package;
mod queue;
mod role;
mod store;
mod terminal;
