//! Put Message of a Storage queue, signed with the key that all emulators have.
//!
//! Source: <https://learn.microsoft.com/rest/api/storageservices/put-message> and
//! <https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hmac::{Hmac, Mac as _};
use http::header::{AUTHORIZATION, CONTENT_TYPE};
use http::{Method, Request, Uri};
use http_body_util::Full;
use sha2::Sha256;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

use crate::topology::StorageQueue;

/// Published by Microsoft for every emulator, and therefore no secret.
const EMULATOR_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

const VERSION: &str = "2021-12-02";
const MEDIA_TYPE: &str = "application/xml";

const RFC_1123: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// The request that puts `event` into a queue of the account at `endpoint`. The error is that
/// there can be none.
pub(super) fn put(
    endpoint: &str,
    queue: &StorageQueue,
    event: &[u8],
    now_ms: u64,
) -> Result<Request<Full<Bytes>>, http::Error> {
    let ttl = queue.message_time_to_live_in_seconds;
    let query = ttl.map(|seconds| format!("?messagettl={seconds}")).unwrap_or_default();
    let target = format!("{}/{}/messages", endpoint.trim_end_matches('/'), queue.queue_name);
    let uri: Uri = format!("{target}{query}").parse()?;
    let text = BASE64.encode(event);
    let body = format!("<QueueMessage><MessageText>{text}</MessageText></QueueMessage>");
    let nanos = i128::from(now_ms) * 1_000_000;
    let now =
        OffsetDateTime::from_unix_timestamp_nanos(nanos).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    // The format has no component that can fail.
    let date = now.format(RFC_1123).unwrap_or_default();
    let account = uri.path().split('/').nth(1).unwrap_or_default();
    let parameters = ttl.map(|seconds| format!("\nmessagettl:{seconds}")).unwrap_or_default();
    let signed = format!(
        "POST\n\n\n{}\n\n{MEDIA_TYPE}\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{VERSION}\n\
         /{account}{}{parameters}",
        body.len(),
        uri.path()
    );
    let signature = sign(&signed);
    Request::builder()
        .method(Method::POST)
        .header(AUTHORIZATION, format!("SharedKey {account}:{signature}"))
        .header(CONTENT_TYPE, MEDIA_TYPE)
        .header("x-ms-date", date)
        .header("x-ms-version", VERSION)
        .uri(uri)
        .body(Full::from(body))
}

fn sign(text: &str) -> String {
    // A constant that decodes, and a key of any length will do.
    let key = BASE64.decode(EMULATOR_KEY).unwrap_or_default();
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else { return String::new() };
    mac.update(text.as_bytes());
    BASE64.encode(mac.finalize().into_bytes())
}
