//! Counters of one store: what it cost, in requests and in request units.
//!
//! Plain atomics, so that counting costs nothing worth measuring. They know no time: whoever wants
//! a rate takes two snapshots.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// A snapshot of the counters since the store was made.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StoreStats {
    /// Operations asked for.
    pub operations: u64,
    /// HTTP requests sent for them; metadata look-ups at the first use are not included.
    pub requests: u64,
    /// Operations that were tried again.
    pub retries: u64,
    /// Answers that said "too many requests".
    pub throttled: u64,
    /// Operations that ended in an error.
    pub failures: u64,
    /// Request units charged.
    pub request_units: f64,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    operations: AtomicU64,
    requests: AtomicU64,
    retries: AtomicU64,
    throttled: AtomicU64,
    failures: AtomicU64,
    /// Hundredths of a request unit: the service charges with two decimals.
    centi_units: AtomicU64,
}

impl Counters {
    pub(crate) fn operation(&self) {
        self.operations.fetch_add(1, Relaxed);
    }

    pub(crate) fn requests(&self, count: usize, charge: f64) {
        self.requests.fetch_add(count as u64, Relaxed);
        self.centi_units.fetch_add((charge * 100.0).round() as u64, Relaxed);
    }

    pub(crate) fn retry(&self) {
        self.retries.fetch_add(1, Relaxed);
    }

    pub(crate) fn throttled(&self) {
        self.throttled.fetch_add(1, Relaxed);
    }

    pub(crate) fn failure(&self) {
        self.failures.fetch_add(1, Relaxed);
    }

    pub(crate) fn snapshot(&self) -> StoreStats {
        StoreStats {
            operations: self.operations.load(Relaxed),
            requests: self.requests.load(Relaxed),
            retries: self.retries.load(Relaxed),
            throttled: self.throttled.load(Relaxed),
            failures: self.failures.load(Relaxed),
            request_units: self.centi_units.load(Relaxed) as f64 / 100.0,
        }
    }
}
