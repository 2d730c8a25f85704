//! Master-key signatures of the Cosmos DB REST API.
//!
//! Specified by <https://learn.microsoft.com/rest/api/cosmos-db/access-control-on-cosmosdb-resources>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use hmac::{Hmac, Mac};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use sha2::Sha256;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, UtcOffset};

const HTTP_DATE: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// `time` as HTTP writes it, for `x-ms-date` and `if-modified-since`.
pub(super) fn http_date(time: OffsetDateTime) -> String {
    // The format has no component that can fail.
    time.to_offset(UtcOffset::UTC).format(HTTP_DATE).unwrap_or_default()
}

/// The value of `authorization` for a request. `segments` is its path, not percent-encoded; `date`
/// is what `x-ms-date` says.
pub(super) fn authorization(key: &[u8], verb: &str, segments: &[&str], date: &str) -> String {
    // An even number of segments names a resource, an odd one the feed of its parent.
    let (kind, link) = match segments.split_last() {
        Some((_, parent)) if segments.len().is_multiple_of(2) => {
            (parent.last().copied().unwrap_or_default(), segments.join("/"))
        }
        Some((kind, parent)) => (*kind, parent.join("/")),
        None => ("", String::new()),
    };
    let text =
        format!("{}\n{kind}\n{link}\n{}\n\n", verb.to_ascii_lowercase(), date.to_ascii_lowercase());
    // An HMAC takes a key of any length.
    let signature = Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| BASE64.encode(mac.chain_update(text.as_bytes()).finalize().into_bytes()))
        .unwrap_or_default();
    let token = format!("type=master&ver=1.0&sig={signature}");
    utf8_percent_encode(&token, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn signatures_are_those_of_the_documentation() {
        // The example of the page named above, and its key.
        let key = BASE64
            .decode(
                "dsZQi3KtZmCv1ljt3VNWNm7sQUF1y5rJfC6kv5JiwvW0EndXdDku/dkKBp8/ufDToSxLzR4y+O/0H/t4bQ\
                 tVNw==",
            )
            .unwrap();
        let date = http_date(datetime!(2017-04-27 00:51:12 UTC));
        assert_eq!(date, "Thu, 27 Apr 2017 00:51:12 GMT");
        let token = authorization(&key, "GET", &["dbs", "ToDoList"], &date);
        assert_eq!(
            percent_encoding::percent_decode_str(&token).decode_utf8_lossy(),
            "type=master&ver=1.0&sig=c09PEVJrgp2uQRkr934kFbTqhByc7TVr3OHyqlu+c+c="
        );
    }

    #[test]
    fn a_feed_is_signed_for_its_parent() {
        // Computed independently, with Python's hmac and hashlib.
        let date = http_date(datetime!(2026-03-01 10:00 +02:00));
        let feed =
            authorization(b"key", "POST", &["dbs", "shop", "colls", "leases", "docs"], &date);
        let feed = percent_encoding::percent_decode_str(&feed).decode_utf8_lossy();
        assert_eq!(feed, "type=master&ver=1.0&sig=386SdVLaLDx8dPhve4yVtK03Q6c2bNjca0eaaraXiTs=");
    }
}
