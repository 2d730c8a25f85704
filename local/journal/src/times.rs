//! How long writes take: what an operator asks first when answers come late.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::limits::WRITE_TIMES_MS;

/// How long the writes since the log was opened took, each with its sync if there is one. That is
/// what whoever waited for them has waited for the disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct WriteTimes {
    /// Writes that took as long as each of [`WRITE_TIMES_MS`] at most, and not as long as the one
    /// before; in the end those that took longer than any.
    pub counts: [u64; WRITE_TIMES_MS.len() + 1],
    /// All of them together.
    pub total: Duration,
}

impl WriteTimes {
    /// How many there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }
}

/// The same while it is counted.
#[derive(Debug, Default)]
pub(crate) struct Counting {
    counts: [AtomicU64; WRITE_TIMES_MS.len() + 1],
    total_us: AtomicU64,
}

impl Counting {
    pub(crate) fn add(&self, took: Duration) {
        let at = WRITE_TIMES_MS.iter().position(|ms| took <= Duration::from_millis(*ms));
        self.counts[at.unwrap_or(WRITE_TIMES_MS.len())].fetch_add(1, Ordering::Relaxed);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.total_us.fetch_add(us, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> WriteTimes {
        WriteTimes {
            counts: self.counts.each_ref().map(|count| count.load(Ordering::Relaxed)),
            total: Duration::from_micros(self.total_us.load(Ordering::Relaxed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_write_is_in_the_first_that_it_fits() {
        let counting = Counting::default();
        for us in [10, 1_000, 1_001, 4_999_000] {
            counting.add(Duration::from_micros(us));
        }
        let times = counting.read();
        assert_eq!((times.counts[0], times.counts[1], times.count()), (2, 1, 4));
        assert_eq!(times.counts.last(), Some(&1));
        assert_eq!(times.total, Duration::from_micros(5_001_011));
    }
}
