//! The host against real handler processes, over real sockets, on ports the system picks.
//!
//! The handler is this very test binary, started again with the arguments that select the test
//! `fixture::handler`: no second executable has to be built and found.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod admin;
mod app;
mod bad_input;
mod conformance;
mod cosmos_db;
mod edges;
mod faults;
mod fixture;
mod hostile;
mod http;
mod instances;
mod kills;
mod languages;
mod outputs;
mod process;
mod queue_trigger;
mod retry;
mod service_bus;
mod sessions;
mod stops;
mod storage;
mod timer;
mod wire;
