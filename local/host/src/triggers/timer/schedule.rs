//! When a timer is due: NCRONTAB expressions and time spans, in UTC.
//!
//! Specified by <https://learn.microsoft.com/azure/azure-functions/functions-bindings-timer#ncrontab-expressions>
//! and the NCrontab library behind it, which is why no general cron crate is used: day of month
//! and day of week must **both** fit (a Unix cron takes either), `a/n` means from `a` to the end,
//! a range that runs backwards is turned around, and names match by prefix.

use std::time::Duration;

use time::{Date, OffsetDateTime, Time, UtcOffset};

use crate::config::parse_time_span;

/// Days searched for the next occurrence: 29 February on a given weekday comes back after 40 years
/// at most (28, and 12 more over a year like 2100).
const SEARCH_DAYS: u32 = 41 * 366;

const SECONDS: Field = Field { name: "second", least: 0, most: 59, names: &[] };
const MINUTES: Field = Field { name: "minute", least: 0, most: 59, names: &[] };
const HOURS: Field = Field { name: "hour", least: 0, most: 23, names: &[] };
const DAYS: Field = Field { name: "day", least: 1, most: 31, names: &[] };
const MONTHS: Field = Field {
    name: "month",
    least: 1,
    most: 12,
    names: &[
        "january",
        "february",
        "march",
        "april",
        "may",
        "june",
        "july",
        "august",
        "september",
        "october",
        "november",
        "december",
    ],
};
const WEEKDAYS: Field = Field {
    name: "day of week",
    least: 0,
    most: 6,
    names: &["sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday"],
};

/// A schedule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Schedule {
    Cron(Cron),
    /// This long after the last time.
    Every(Duration),
}

/// An NCRONTAB expression: for each field a set of numbers, as bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cron {
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
}

impl Schedule {
    /// Reads six fields, five (the second is 0), or a time span. The error says what is wrong.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.contains(':') {
            let span = parse_time_span(text)
                .ok_or_else(|| format!("\"{text}\" is no time span (hh:mm:ss)"))?;
            return match span.is_zero() {
                true => Err("a time span of zero has no next occurrence".to_owned()),
                false => Ok(Self::Every(span)),
            };
        }
        Cron::parse(text).map(Self::Cron)
    }

    /// The first occurrence after `time`; `None` if there is none.
    pub(crate) fn next_after(&self, time: OffsetDateTime) -> Option<OffsetDateTime> {
        match self {
            Self::Cron(cron) => cron.next_after(time),
            Self::Every(span) => time.checked_add(time::Duration::try_from(*span).ok()?),
        }
    }

    /// Whether two occurrences can be less than a minute apart.
    pub(crate) fn is_frequent(&self) -> bool {
        match self {
            Self::Cron(cron) => cron.seconds.count_ones() > 1,
            Self::Every(span) => *span < Duration::from_mins(1),
        }
    }

    /// `AdjustForDST` in the envelope.
    pub(crate) fn adjusts_for_dst(&self) -> bool {
        matches!(self, Self::Cron(_))
    }
}

impl Cron {
    fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let (second, rest) = match fields.as_slice() {
            [second, rest @ ..] if rest.len() == 5 => (*second, rest),
            rest if rest.len() == 5 => ("0", rest),
            other => {
                return Err(format!("{} fields, and six are expected (or five)", other.len()));
            }
        };
        let [minute, hour, day, month, weekday] = rest else {
            return Err("six fields are expected".to_owned());
        };
        let cron = Self {
            seconds: SECONDS.parse(second)?,
            minutes: MINUTES.parse(minute)?,
            hours: HOURS.parse(hour)?,
            days: DAYS.parse(day)?,
            months: MONTHS.parse(month)?,
            weekdays: WEEKDAYS.parse(weekday)?,
        };
        // Any time will do: the search covers all there is.
        match cron.next_after(OffsetDateTime::UNIX_EPOCH) {
            Some(_) => Ok(cron),
            None => Err("no such day exists".to_owned()),
        }
    }

    fn next_after(&self, time: OffsetDateTime) -> Option<OffsetDateTime> {
        let time = time.to_offset(UtcOffset::UTC).replace_nanosecond(0).ok()?;
        let from = time.checked_add(time::Duration::SECOND)?;
        let mut date = from.date();
        let mut earliest = from.to_hms();
        for _ in 0..SEARCH_DAYS {
            if self.has_day(date)
                && let Some((hour, minute, second)) = self.time_from(earliest)
            {
                return Some(
                    date.with_time(Time::from_hms(hour, minute, second).ok()?).assume_utc(),
                );
            }
            (date, earliest) = (date.next_day()?, (0, 0, 0));
        }
        None
    }

    fn has_day(&self, date: Date) -> bool {
        has(self.months, date.month().into())
            && has(self.days, date.day())
            && has(self.weekdays, date.weekday().number_days_from_sunday())
    }

    /// The first time of day at or after `from`.
    fn time_from(&self, from: (u8, u8, u8)) -> Option<(u8, u8, u8)> {
        let mut hour = first(self.hours, from.0)?;
        let (mut minute, mut second) = if hour == from.0 { (from.1, from.2) } else { (0, 0) };
        loop {
            if let Some(found) = first(self.minutes, minute) {
                if found != minute {
                    second = 0;
                }
                match first(self.seconds, second) {
                    Some(second) => return Some((hour, found, second)),
                    None => (minute, second) = (found + 1, 0),
                }
            } else {
                hour = first(self.hours, hour + 1)?;
                (minute, second) = (0, 0);
            }
        }
    }
}

fn has(bits: u64, value: u8) -> bool {
    bits & (1 << value) != 0
}

/// The lowest value in `bits` that is at least `least`.
fn first(bits: u64, least: u8) -> Option<u8> {
    let rest = bits.checked_shr(least.into())?;
    (rest != 0).then(|| least + u8::try_from(rest.trailing_zeros()).unwrap_or(u8::MAX))
}

/// One field of an expression.
struct Field {
    name: &'static str,
    least: u8,
    most: u8,
    /// Of the values from `least` on.
    names: &'static [&'static str],
}

impl Field {
    fn parse(&self, text: &str) -> Result<u64, String> {
        let mut bits = 0;
        for part in text.split(',') {
            let (range, step) = match part.split_once('/') {
                Some((range, step)) => (range, Some(step)),
                None => (part, None),
            };
            let (from, to) = if range == "*" {
                (self.least, self.most)
            } else if let Some((from, to)) = range.split_once('-') {
                (self.value(from)?, self.value(to)?)
            } else {
                let value = self.value(range)?;
                (value, if step.is_some() { self.most } else { value })
            };
            let step = match step.map(str::parse::<usize>) {
                None => 1,
                Some(Ok(step @ 1..)) => step,
                Some(_) => return Err(format!("\"{part}\" has no step above zero")),
            };
            for value in (from.min(to)..=from.max(to)).step_by(step) {
                bits |= 1 << value;
            }
        }
        Ok(bits)
    }

    fn value(&self, text: &str) -> Result<u8, String> {
        let Self { name, least, most, names } = self;
        if let Ok(value) = text.parse::<u8>() {
            return match (least..=most).contains(&&value) {
                true => Ok(value),
                false => Err(format!("{name} {value} is not from {least} to {most}")),
            };
        }
        let lower = text.to_ascii_lowercase();
        let named = names.iter().position(|name| !lower.is_empty() && name.starts_with(&lower));
        named
            .and_then(|index| u8::try_from(index).ok())
            .map(|index| least + index)
            .ok_or_else(|| format!("\"{text}\" is no {name}"))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::collection::btree_set;
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    fn after(text: &str, time: OffsetDateTime) -> OffsetDateTime {
        Schedule::parse(text).unwrap().next_after(time).unwrap()
    }

    #[test]
    fn the_examples_of_the_documentation() {
        // A Sunday.
        let time = datetime!(2026-03-01 09:58:30.25 UTC);
        for (text, next) in [
            ("0 5 * * * *", datetime!(2026-03-01 10:05 UTC)),
            ("0 */5 * * * *", datetime!(2026-03-01 10:00 UTC)),
            ("0 0 */2 * * *", datetime!(2026-03-01 10:00 UTC)),
            ("0 0 9-17 * * *", datetime!(2026-03-01 10:00 UTC)),
            ("0 30 9 * * *", datetime!(2026-03-02 09:30 UTC)),
            ("0 30 9 * * 1-5", datetime!(2026-03-02 09:30 UTC)),
            ("0 30 9 * Jan Mon", datetime!(2027-01-04 09:30 UTC)),
            ("5,8,10 * * * * *", datetime!(2026-03-01 09:59:05 UTC)),
            ("5-7 * * * * *", datetime!(2026-03-01 09:59:05 UTC)),
            ("* * * * * *", datetime!(2026-03-01 09:58:31 UTC)),
            // Five fields: the second is 0.
            ("*/5 * * * *", datetime!(2026-03-01 10:00 UTC)),
            ("00:01:30", datetime!(2026-03-01 10:00:00.25 UTC)),
            ("1.00:00:00", datetime!(2026-03-02 09:58:30.25 UTC)),
        ] {
            assert_eq!(after(text, time), next, "{text}");
        }
    }

    #[test]
    fn what_ncrontab_does_in_its_own_way() {
        let time = datetime!(2026-03-01 00:00 UTC);
        for (text, next) in [
            // Both the day of the month and the day of the week.
            ("0 0 0 13 * Fri", datetime!(2026-03-13 00:00 UTC)),
            ("0 0 0 13 * Sat", datetime!(2026-06-13 00:00 UTC)),
            // From a value on.
            ("0 40/10 * * * *", datetime!(2026-03-01 00:40 UTC)),
            // Backwards, names in full, in any case, and lists of everything.
            ("0 0 10-8 * * *", datetime!(2026-03-01 08:00 UTC)),
            ("0 0 0 * december saturday", datetime!(2026-12-05 00:00 UTC)),
            ("0 0 0 1 jun-AUG/2,nov *", datetime!(2026-06-01 00:00 UTC)),
            // The last second, and a leap day that is a Monday.
            ("59 59 23 31 12 *", datetime!(2026-12-31 23:59:59 UTC)),
            ("0 0 0 29 2 Mon", datetime!(2044-02-29 00:00 UTC)),
        ] {
            assert_eq!(after(text, time), next, "{text}");
        }
        // An occurrence is after the time, not at it.
        assert_eq!(after("0 0 0 * * *", time), datetime!(2026-03-02 00:00 UTC));
        assert_eq!(
            after("0 0 12 * * *", datetime!(2026-03-01 14:00 +02:00)),
            datetime!(2026-03-02 12:00 UTC)
        );
        // 2100 is no leap year.
        assert_eq!(
            after("0 0 0 29 2 *", datetime!(2096-03-01 00:00 UTC)),
            datetime!(2104-02-29 00:00 UTC)
        );
    }

    #[test]
    fn what_is_no_schedule_says_why() {
        for (text, why) in [
            ("", "0 fields"),
            ("* * * *", "4 fields"),
            ("* * * * * * *", "7 fields"),
            ("60 * * * * *", "second 60 is not from 0 to 59"),
            ("0 0 24 * * *", "hour 24"),
            ("0 0 0 0 * *", "day 0"),
            ("0 0 0 * 13 *", "month 13"),
            ("0 0 0 * * 7", "day of week 7"),
            ("0 0 0 * Foo *", "\"Foo\" is no month"),
            ("0 0 0 * * -", "\"\" is no day of week"),
            ("0 */0 * * * *", "no step"),
            ("0 */x * * * *", "no step"),
            ("0 , * * * *", "\"\" is no minute"),
            ("0 0 0 30 2 *", "no such day"),
            ("00:00:00", "zero"),
            ("24:00:00", "no time span"),
        ] {
            let problem = Schedule::parse(text).unwrap_err();
            assert!(problem.contains(why), "{text}: {problem}");
        }
    }

    #[test]
    fn what_comes_more_than_once_a_minute_is_frequent() {
        for (text, frequent) in [
            ("0 * * * * *", false),
            ("* * * * *", false),
            ("0,30 0 0 1 1 *", true),
            ("00:00:59", true),
            ("00:01:00", false),
        ] {
            assert_eq!(Schedule::parse(text).unwrap().is_frequent(), frequent, "{text}");
        }
    }

    fn listed(values: &BTreeSet<u8>) -> String {
        values.iter().map(u8::to_string).collect::<Vec<_>>().join(",")
    }

    proptest! {
        // A case looks at every second of a day.
        #![proptest_config(ProptestConfig::with_cases(48))]

        /// The next occurrence fits, and nothing before it does.
        #[test]
        fn the_next_occurrence_is_the_first_that_fits(
            seconds in btree_set(0_u8..60, 1..4), minutes in btree_set(0_u8..60, 1..5),
            hours in btree_set(0_u8..24, 1..6), days in btree_set(1_u8..29, 1..8),
            months in btree_set(1_u8..13, 1..6), weekdays in btree_set(0_u8..7, 1..5),
            start in 1_500_000_000_i64..2_500_000_000,
        ) {
            let sets = [&seconds, &minutes, &hours, &days, &months, &weekdays];
            let text = sets.map(listed).join(" ");
            let fits = |time: OffsetDateTime| {
                let has = [
                    time.second(), time.minute(), time.hour(), time.day(), time.month().into(),
                    time.weekday().number_days_from_sunday(),
                ];
                sets.iter().zip(has).all(|(set, value)| set.contains(&value))
            };
            let start = OffsetDateTime::from_unix_timestamp(start).unwrap();
            let next = after(&text, start);
            prop_assert!(next > start && fits(next), "{} after {}: {}", text, start, next);
            // Every second is too much for years, so: the last day by seconds, the rest by days.
            let second = time::Duration::SECOND;
            let mut time = (start + second).max(next - time::Duration::DAY);
            while time < next {
                prop_assert!(!fits(time), "{} after {}: {} is before {}", text, start, time, next);
                time += second;
            }
            let day_fits = |date: Date| {
                days.contains(&date.day()) && months.contains(&date.month().into())
                    && weekdays.contains(&date.weekday().number_days_from_sunday())
            };
            let mut date = start.date().next_day().unwrap();
            while date < next.date() {
                prop_assert!(!day_fits(date), "{} after {}: {} is before {}", text, start, date, next);
                date = date.next_day().unwrap();
            }
        }

        /// No text makes it panic.
        #[test]
        fn any_text_is_read_or_refused(text in "[ 0-9a-zA-Z*,/:.-]{0,30}") {
            let _ = Schedule::parse(&text);
        }
    }
}
