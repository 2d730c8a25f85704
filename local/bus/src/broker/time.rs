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

/// As `2026-01-31T12:00:00.000Z`.
impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let at = time::OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000);
        let at = at.unwrap_or(time::OffsetDateTime::UNIX_EPOCH);
        let (hour, minute, second, ms) = (at.hour(), at.minute(), at.second(), at.millisecond());
        write!(f, "{}T{hour:02}:{minute:02}:{second:02}.{ms:03}Z", at.date())
    }
}
