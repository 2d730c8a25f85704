//! Who may publish: an access key, or a signature made from it.
//!
//! Format of a signature:
//! <https://learn.microsoft.com/azure/event-grid/authenticate-with-access-keys-shared-access-signatures>.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use http::HeaderMap;
use percent_encoding::percent_decode_str;
use sha2::Sha256;
use thiserror::Error;
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime};

/// Header, and query parameter, of the key.
pub const KEY: &str = "aeg-sas-key";

/// Header of the signature.
pub const TOKEN: &str = "aeg-sas-token";

/// The other way to send a signature.
const SCHEME: &str = "SharedAccessSignature ";

/// An expiry as the SDK for .NET writes it.
const AMERICAN: &[BorrowedFormatItem<'_>] = format_description!(
    "[month padding:none]/[day padding:none]/[year] [hour repr:12 padding:none]:[minute]:[second] [period]"
);

/// An expiry as `isoformat` of Python writes it, with and without a fraction.
const ISO: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second][optional [.[subsecond]]]");

/// The key of the topics.
#[derive(Clone)]
pub struct Key {
    text: String,
    bytes: Vec<u8>,
}

/// A key that is not base64.
#[derive(Debug, Error)]
#[error("the access key is not base64")]
pub struct InvalidKey(#[source] base64::DecodeError);

/// Why a publisher is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum Denied {
    /// Nothing was shown.
    #[error("the request has none of {KEY}, {TOKEN} and Authorization")]
    Nothing,
    /// The wrong key.
    #[error("the {KEY} is not the key of this topic")]
    WrongKey,
    /// A signature that cannot be read.
    #[error("the shared access signature is not of the form r=<resource>&e=<expiry>&s=<signature>")]
    Malformed,
    /// A signature that somebody else made.
    #[error("the shared access signature was not made with the key of this topic")]
    WrongSignature,
    /// A signature for something else.
    #[error("the shared access signature is for another resource")]
    WrongResource,
    /// A signature that is over.
    #[error("the shared access signature has expired")]
    Expired,
    /// A token of Entra ID.
    #[error("Entra tokens are not checked here; use {KEY} or {TOKEN} locally")]
    Bearer,
    /// Another scheme.
    #[error("the Authorization header must be a SharedAccessSignature")]
    Scheme,
}

impl Key {
    /// A key in base64.
    ///
    /// # Errors
    /// It is not base64.
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let bytes = STANDARD.decode(text).map_err(InvalidKey)?;
        Ok(Self { text: text.to_owned(), bytes })
    }

    /// Checks what a publisher shows. `resource` is `host/path` of the request.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn admit(
        &self,
        headers: &HeaderMap,
        query_key: Option<&str>,
        resource: &str,
        now_ms: u64,
    ) -> Result<(), Denied> {
        let header = |name: &str| headers.get(name).map(|value| value.to_str().unwrap_or_default());
        if let Some(key) = header(KEY).or(query_key) {
            return self.is(key).then_some(()).ok_or(Denied::WrongKey);
        }
        if let Some(token) = header(TOKEN) {
            return self.verify(token, resource, now_ms);
        }
        let authorization = header("authorization").ok_or(Denied::Nothing)?;
        let scheme = authorization.get(..SCHEME.len()).unwrap_or_default();
        if scheme.eq_ignore_ascii_case(SCHEME) {
            return self.verify(&authorization[SCHEME.len()..], resource, now_ms);
        }
        let bearer = authorization.get(..7).is_some_and(|s| s.eq_ignore_ascii_case("bearer "));
        Err(if bearer { Denied::Bearer } else { Denied::Scheme })
    }

    /// Compares in a time that does not depend on where the two differ.
    fn is(&self, key: &str) -> bool {
        let same = |text: &str| {
            let mut mac = self.mac();
            mac.update(text.as_bytes());
            mac.finalize()
        };
        same(key) == same(&self.text)
    }

    fn verify(&self, token: &str, resource: &str, now_ms: u64) -> Result<(), Denied> {
        let (signed, signature) = token.rsplit_once("&s=").ok_or(Denied::Malformed)?;
        let (signed_resource, expiry) = signed
            .strip_prefix("r=")
            .and_then(|rest| rest.split_once("&e="))
            .ok_or(Denied::Malformed)?;
        let signature = STANDARD.decode(decode(signature)).map_err(|_| Denied::Malformed)?;
        let mut mac = self.mac();
        mac.update(signed.as_bytes());
        mac.verify_slice(&signature).map_err(|_| Denied::WrongSignature)?;
        // A signature is good for everything below its resource.
        let signed_resource = decode(signed_resource).to_ascii_lowercase();
        let bare = signed_resource.split_once("://").map_or("", |(_, rest)| rest);
        let bare = bare.split('?').next().unwrap_or_default();
        if bare.is_empty() || !resource.to_ascii_lowercase().starts_with(bare) {
            return Err(Denied::WrongResource);
        }
        let expires_at = expiry_ms(&decode(expiry)).ok_or(Denied::Malformed)?;
        if expires_at > i128::from(now_ms) { Ok(()) } else { Err(Denied::Expired) }
    }

    /// A signature as a publisher would make it. `expiry` is in one of the known forms.
    #[must_use]
    pub fn sign(&self, resource: &str, expiry: &str) -> String {
        let encode = |text: &str| {
            percent_encoding::utf8_percent_encode(text, percent_encoding::NON_ALPHANUMERIC)
                .to_string()
        };
        let signed = format!("r={}&e={}", encode(resource), encode(expiry));
        let mut mac = self.mac();
        mac.update(signed.as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        format!("{signed}&s={}", encode(&signature))
    }

    fn mac(&self) -> Hmac<Sha256> {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of every length")]
        Hmac::new_from_slice(&self.bytes).expect("any length will do")
    }
}

impl std::fmt::Debug for Key {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Key")
    }
}

/// Form encoding: a space may be a plus sign.
fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

fn expiry_ms(text: &str) -> Option<i128> {
    // Python writes an aware time with a blank in between.
    let text = text.trim().replace('\u{202f}', " ");
    let joined = text.replacen(' ', "T", 1);
    let date = OffsetDateTime::parse(&joined, &Rfc3339)
        .ok()
        .or_else(|| PrimitiveDateTime::parse(&joined, ISO).ok().map(PrimitiveDateTime::assume_utc))
        .or_else(|| {
            PrimitiveDateTime::parse(&text, AMERICAN).ok().map(PrimitiveDateTime::assume_utc)
        })?;
    Some(date.unix_timestamp_nanos() / 1_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESOURCE: &str = "127.0.0.1:6500/orders/api/events";
    const URL: &str = "http://127.0.0.1:6500/orders/api/events";
    /// 2026-01-01T00:00:00Z.
    const NOW_MS: u64 = 1_767_225_600_000;

    fn admit(name: &'static str, value: &str) -> Result<(), Denied> {
        let key = Key::parse(crate::LOCAL_KEY).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        key.admit(&headers, None, RESOURCE, NOW_MS)
    }

    fn sign(resource: &str, expiry: &str) -> String {
        Key::parse(crate::LOCAL_KEY).unwrap().sign(resource, expiry)
    }

    #[test]
    fn the_key_opens_and_nothing_else_does() {
        let key = Key::parse(crate::LOCAL_KEY).unwrap();
        assert_eq!(admit(KEY, crate::LOCAL_KEY), Ok(()));
        assert_eq!(admit(KEY, "bm8="), Err(Denied::WrongKey));
        let none = HeaderMap::new();
        assert_eq!(key.admit(&none, None, RESOURCE, NOW_MS), Err(Denied::Nothing));
        assert_eq!(key.admit(&none, Some(crate::LOCAL_KEY), RESOURCE, NOW_MS), Ok(()));
        assert_eq!(admit("authorization", "Bearer x.y.z"), Err(Denied::Bearer));
        assert_eq!(admit("authorization", "Basic eA=="), Err(Denied::Scheme));
        assert!(!format!("{key:?}").contains(crate::LOCAL_KEY));
        assert!(Key::parse("not base64!").is_err());
    }

    #[test]
    fn signatures_are_for_a_resource_and_a_time() {
        for expiry in [
            "1/1/2026 1:00:00 AM",
            "12/31/2027 11:00:00 PM",
            "2026-01-01T00:00:01",
            "2026-01-01T00:00:01.250000",
            "2026-01-01T00:00:01Z",
            "2026-01-01 00:00:01+00:00",
        ] {
            assert_eq!(admit(TOKEN, &sign(URL, expiry)), Ok(()), "{expiry}");
        }
        let authorization = format!("SharedAccessSignature {}", sign(URL, "2026-01-01T01:00:00"));
        assert_eq!(admit("authorization", &authorization), Ok(()));
        let whole = sign("http://127.0.0.1:6500/", "2026-01-01T01:00:00");
        assert_eq!(admit(TOKEN, &whole), Ok(()), "a prefix of the resource");
        let of_python = sign(&format!("{URL}?apiVersion=2018-01-01"), "2026-01-01 01:00:00+00:00");
        assert_eq!(admit(TOKEN, &of_python), Ok(()), "as the SDK for Python signs");

        let denied = |token: &str| admit(TOKEN, token).unwrap_err();
        assert_eq!(denied(&sign(URL, "12/31/2025 11:59:59 PM")), Denied::Expired);
        assert_eq!(denied(&sign(URL, "soon")), Denied::Malformed);
        let other = URL.replace("/orders/", "/other/");
        assert_eq!(denied(&sign(&other, "2026-01-01T01:00:00")), Denied::WrongResource);
        assert_eq!(denied(&sign("", "2026-01-01T01:00:00")), Denied::WrongResource);
        let longer = sign(URL, "2026-01-01T01:00:00").replace("2026", "2027");
        assert_eq!(denied(&longer), Denied::WrongSignature);
        assert_eq!(denied("r=x"), Denied::Malformed);
    }

    #[test]
    fn a_signature_that_somebody_else_computed_is_taken() {
        // Python, as the documentation has it: quote_plus, HMAC over `r=…&e=…`, base64.
        let token = "r=http%3A%2F%2F127.0.0.1%3A6500%2Forders%2Fapi%2Fevents&e=2026-01-01T00%3A00%3A01.250000\
            &s=JSkLuKPCQZhAgtAwy6bphE9o5vWXXxBoBGZR034%2Ff4A%3D";
        assert_eq!(admit(TOKEN, token), Ok(()));
    }
}
