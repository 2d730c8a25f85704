//! Tests of the whole. [`tidy`] holds the rules of the repository; everything else starts the real
//! stack, processes and all, on ports of its own.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs, reason = "a test binary")]
#![allow(unreachable_pub, reason = "the harness serves the benchmark as well")]

mod access;
mod chaos;
mod clients;
mod contracts;
mod crash;
mod faults;
mod feed;
mod grid;
mod harness;
mod input;
mod insights;
mod issuer;
mod messages;
mod ops;
mod order;
mod outage;
mod outbox;
mod proof;
mod saga;
mod subscribers;
mod telemetry;
mod terminal;
mod tidy;
mod trail;
mod twice;
