//! A moment as the documents carry it: RFC 3339, UTC, always six fractional digits, so that text
//! order is time order.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;

/// A moment in UTC with microsecond precision.
///
/// Text form: `2026-03-01T10:00:00.000000Z`. The width is fixed, therefore comparing two texts
/// compares the two moments, which is what `ORDER BY` over stored documents relies on.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(OffsetDateTime);

impl Timestamp {
    /// The moment, cut to microseconds and moved to UTC.
    #[must_use]
    pub fn new(at: OffsetDateTime) -> Self {
        let utc = at.to_offset(time::UtcOffset::UTC);
        // A nanosecond value whose sub-microsecond part is cleared stays in range.
        Self(utc.replace_nanosecond(utc.microsecond() * 1_000).unwrap_or(utc))
    }

    /// The moment, for libraries that know only the common type.
    #[must_use]
    pub fn to_offset_date_time(self) -> OffsetDateTime {
        self.0
    }

    /// Milliseconds since the Unix epoch, for leases that a query compares as numbers.
    #[must_use]
    pub fn epoch_ms(self) -> i64 {
        (self.0.unix_timestamp_nanos() / 1_000_000) as i64
    }

    /// The moment `milliseconds` later.
    #[must_use]
    pub fn plus_ms(self, milliseconds: i64) -> Self {
        Self(self.0 + time::Duration::milliseconds(milliseconds))
    }

    /// Reads the text form, or any other RFC 3339 text.
    ///
    /// # Errors
    /// The text is not RFC 3339.
    pub fn parse(text: &str) -> Result<Self, time::error::Parse> {
        OffsetDateTime::parse(text, &Rfc3339).map(Self::new)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let form = format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z"
        );
        f.write_str(&self.0.format(&form).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use time::macros::datetime;

    #[test]
    fn text_has_a_fixed_width_and_orders_as_time_does() {
        let whole = Timestamp::new(datetime!(2026-03-01 10:00 UTC));
        let later = Timestamp::new(datetime!(2026-03-01 10:00:00.000_001_999 UTC));
        assert_eq!(whole.to_string(), "2026-03-01T10:00:00.000000Z");
        assert_eq!(later.to_string(), "2026-03-01T10:00:00.000001Z");
        assert!(whole.to_string() < later.to_string() && whole < later);
        let elsewhere = Timestamp::new(datetime!(2026-03-01 12:00 +2));
        assert_eq!(elsewhere, whole);
        assert_eq!(Timestamp::parse("2026-03-01T10:00:00Z").unwrap(), whole);
        assert_eq!(whole.plus_ms(1_500).epoch_ms() - whole.epoch_ms(), 1_500);
    }
}
