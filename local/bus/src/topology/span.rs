//! ISO 8601 durations of days and smaller: `P14D`, `PT1M`, `PT0.5S`.

use serde::de::{Deserialize, Deserializer, Error};
use serde::ser::{Serialize, Serializer};

/// A length of time in whole milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    millis: i64,
}

/// The service writes "unlimited" as the largest .NET `TimeSpan`, a little above this many days.
const UNLIMITED_DAYS: i64 = 10_675_199;

impl Span {
    /// A span of `millis` milliseconds.
    #[must_use]
    pub const fn from_millis(millis: i64) -> Span {
        Span { millis }
    }

    /// Its length in milliseconds.
    #[must_use]
    pub const fn as_millis(self) -> i64 {
        self.millis
    }

    /// Whether this is how the service writes "for ever".
    pub(crate) const fn is_unlimited(self) -> bool {
        self.millis >= UNLIMITED_DAYS * 86_400_000
    }

    /// Parses `P[nW][nD][T[nH][nM][nS]]`. Years and months have no fixed length and are refused.
    pub(crate) fn parse(text: &str) -> Option<Span> {
        let mut rest = text.strip_prefix('P')?;
        let mut units: &[(char, i64)] = &[('W', 604_800_000), ('D', 86_400_000)];
        let mut millis: i64 = 0;
        let mut parts = 0;
        let mut in_time = false;
        while !rest.is_empty() {
            if let (false, Some(time)) = (in_time, rest.strip_prefix('T')) {
                in_time = true;
                units = &[('H', 3_600_000), ('M', 60_000), ('S', 1_000)];
                rest = time;
                parts = 0;
                continue;
            }
            let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let (number, tail) = rest.split_at(end);
            let unit = tail.chars().next()?;
            let at = units.iter().position(|(name, _)| *name == unit)?;
            millis = millis.checked_add(scaled(number, units[at].1, unit == 'S')?)?;
            units = &units[at + 1..];
            rest = &tail[1..];
            parts += 1;
        }
        (parts > 0).then_some(Span { millis })
    }
}

/// `number` times `unit`; only seconds may have a fraction, cut to milliseconds.
fn scaled(number: &str, unit: i64, fraction_allowed: bool) -> Option<i64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if fraction.is_empty() == number.contains('.') || !fraction.is_empty() && !fraction_allowed {
        return None;
    }
    let whole = whole.parse::<i64>().ok()?.checked_mul(unit)?;
    let millis: String = fraction.chars().chain("000".chars()).take(3).collect();
    whole.checked_add(millis.parse().ok()?)
}

impl<'de> Deserialize<'de> for Span {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Span, D::Error> {
        let text = String::deserialize(deserializer)?;
        Span::parse(&text).ok_or_else(|| {
            D::Error::custom(format!("`{text}` is not an ISO 8601 duration such as PT1M or P14D"))
        })
    }
}

impl Serialize for Span {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// As the service writes durations: days, then a time, no unit that is zero.
impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.is_unlimited() {
            return f.write_str("P10675199DT2H48M5.4775807S");
        }
        let (days, rest) = (self.millis / 86_400_000, self.millis % 86_400_000);
        f.write_str("P")?;
        if days > 0 {
            write!(f, "{days}D")?;
        }
        if rest == 0 {
            return f.write_str(if days > 0 { "" } else { "T0S" });
        }
        f.write_str("T")?;
        for (unit, name) in [(3_600_000, 'H'), (60_000, 'M')] {
            let count = rest % (unit * 60) / unit;
            let count = if name == 'H' { rest / unit } else { count };
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
        }
        let (seconds, millis) = (rest % 60_000 / 1_000, rest % 1_000);
        match (seconds, millis) {
            (0, 0) => Ok(()),
            (_, 0) => write!(f, "{seconds}S"),
            _ => write!(f, "{}S", format!("{seconds}.{millis:03}").trim_end_matches('0')),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_of_the_service_are_read() {
        let millis = |text| Span::parse(text).map(Span::as_millis);
        assert_eq!(millis("PT1M"), Some(60_000));
        assert_eq!(millis("P14D"), Some(14 * 86_400_000));
        assert_eq!(millis("P1DT2H3M4.5S"), Some(93_784_500));
        assert_eq!(millis("PT0.0625S"), Some(62));
        assert!(Span::parse("P10675199DT2H48M5.4775807S").unwrap().is_unlimited());
        assert!(!Span::parse("P7D").unwrap().is_unlimited());
        for bad in [
            "",
            "P",
            "PT",
            "P1DT",
            "1M",
            "PM",
            "P1M",
            "P1Y",
            "PT1",
            "PT1S1M",
            "PT1.M",
            "PT.S",
            "PT-1S",
            "PTS",
            "P99999999999999999999D",
            "PT1H1H",
            "PT1M ",
        ] {
            assert_eq!(millis(bad), None, "{bad}");
        }
    }

    #[test]
    fn what_is_written_is_read_as_the_same() {
        for (millis, text) in [
            (0, "PT0S"),
            (60_000, "PT1M"),
            (14 * 86_400_000, "P14D"),
            (93_784_500, "P1DT2H3M4.5S"),
            (3_600_000, "PT1H"),
            (62, "PT0.062S"),
            (i64::MAX, "P10675199DT2H48M5.4775807S"),
        ] {
            assert_eq!(Span::from_millis(millis).to_string(), text);
            if millis < i64::MAX {
                assert_eq!(Span::parse(text), Some(Span::from_millis(millis)));
            }
        }
    }
}
