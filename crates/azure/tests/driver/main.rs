//! The official Rust driver (`azure_data_cosmos_driver`) as a client of the Cosmos DB stand-in, over
//! http and over https.
//!
//! What the SDK crate `azure_data_cosmos` adds to it is types; every request goes through here.
//! `docs/decisions/0001-one-cosmos-client.md` says why the project has the driver alone.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper that cannot go on fails the test that called it"
)]

mod feeds;
mod harness;
mod items;
mod rules;
mod trouble;
