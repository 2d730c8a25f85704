//! The dates of the protocol: RFC 1123 in headers and bodies, ISO 8601 in signatures and policies.

use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, PrimitiveDateTime};

const RFC_1123: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// What a message without an end to its life says about it.
const NEVER: &str = "Fri, 31 Dec 9999 23:59:59 GMT";

/// `epoch_ms` as RFC 1123 writes it, rounded down to the second.
pub(crate) fn rfc1123(epoch_ms: u64) -> String {
    let seconds = i64::try_from(epoch_ms / 1000).unwrap_or(i64::MAX);
    OffsetDateTime::from_unix_timestamp(seconds)
        .ok()
        .and_then(|at| at.format(RFC_1123).ok())
        .unwrap_or_else(|| NEVER.to_owned())
}

/// The epoch second of an RFC 1123 date.
pub(crate) fn parse_rfc1123(text: &str) -> Option<i64> {
    let at = PrimitiveDateTime::parse(text.trim(), RFC_1123).ok()?;
    Some(at.assume_utc().unix_timestamp())
}

/// The epoch millisecond of an ISO 8601 date in one of the forms that signatures have: a day, a
/// minute, a second or a fraction of one, in UTC.
pub(crate) fn parse_iso8601(text: &str) -> Option<i64> {
    let day = format_description!("[year]-[month]-[day]");
    let minute = format_description!("[year]-[month]-[day]T[hour]:[minute]Z");
    let at = OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| PrimitiveDateTime::parse(text, minute).map(PrimitiveDateTime::assume_utc))
        .or_else(|_| Date::parse(text, day).map(|day| day.midnight().assume_utc()))
        .ok()?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_of_all_forms() {
        assert_eq!(rfc1123(1_493_254_272_999), "Thu, 27 Apr 2017 00:51:12 GMT");
        assert_eq!(parse_rfc1123("Thu, 27 Apr 2017 00:51:12 GMT"), Some(1_493_254_272));
        assert_eq!(parse_rfc1123("27 Apr 2017"), None);
        assert_eq!(rfc1123(u64::MAX), NEVER);
        for (text, expected) in [
            ("2017-04-27", Some(1_493_251_200_000)),
            ("2017-04-27T00:51Z", Some(1_493_254_260_000)),
            ("2017-04-27T00:51:12Z", Some(1_493_254_272_000)),
            ("2017-04-27T00:51:12.5000000Z", Some(1_493_254_272_500)),
            ("yesterday", None),
        ] {
            assert_eq!(parse_iso8601(text), expected, "{text}");
        }
    }
}
