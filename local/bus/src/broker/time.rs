//! Points in time, as an argument: nothing in the broker reads a clock.

/// Milliseconds since the Unix epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Timestamp(i64);

impl Timestamp {
    /// Later than anything that happens.
    pub(crate) const NEVER: Timestamp = Timestamp(i64::MAX);

    pub(crate) const fn from_millis(millis: i64) -> Timestamp {
        Timestamp(millis)
    }

    pub(crate) const fn as_millis(self) -> i64 {
        self.0
    }

    /// The point `millis` later.
    pub(crate) const fn plus(self, millis: i64) -> Timestamp {
        Timestamp(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this point; zero if it is not earlier.
    pub(crate) const fn since(self, earlier: Timestamp) -> i64 {
        let millis = self.0.saturating_sub(earlier.0);
        if millis > 0 { millis } else { 0 }
    }
}
