//! Times as .NET writes them.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// RFC 3339, or the same without an offset, which means UTC: the host loses the zone of a
/// `DateTime` on the way. `None` for anything else, such as the form of promoted properties.
pub(crate) fn parse(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339)
        .or_else(|_| OffsetDateTime::parse(&format!("{text}Z"), &Rfc3339))
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_of_the_host() {
        for text in [
            "2026-03-01T10:00:00",
            "2026-03-01T10:00:00+00:00",
            "2026-03-01T10:00:00Z",
            "2026-03-01T11:00:00.000+01:00",
        ] {
            assert_eq!(parse(text).unwrap().unix_timestamp(), 1_772_359_200, "{text}");
        }
        assert_eq!(parse("0001-01-01T00:00:00").unwrap().year(), 1);
        assert_eq!(parse("03/01/2026 10:00:00"), None);
    }
}
