//! Who may do what: Shared Key signatures, made and checked, and shared access signatures.
//!
//! Specified by <https://learn.microsoft.com/rest/api/storageservices/authorize-with-shared-key>
//! and <https://learn.microsoft.com/rest/api/storageservices/delegate-access-with-shared-access-signature>.
//! Knows verbs, addresses, headers and dates; what happens to queues is not its business.

mod canonical;
mod sas;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use http::HeaderMap;
use sha2::Sha256;
use thiserror::Error;

use crate::date;
use crate::limits::MAX_CLOCK_SKEW_SECONDS;
pub(crate) use canonical::parameters_of;
use canonical::{Order, Scheme, Signed};
pub(crate) use sas::{Grant, Need, Resource};

/// The account of every storage emulator.
pub const EMULATOR_ACCOUNT: &str = "devstoreaccount1";

/// The key of every storage emulator, published by Microsoft and therefore no secret.
pub const EMULATOR_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// A decoded account key.
#[derive(Clone)]
pub struct Key(Vec<u8>);

/// The key is not Base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the account key is not valid Base64")]
pub struct InvalidKey;

/// Why a request is not let in. None of them says what would have been right.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Denied {
    /// Neither an `Authorization` header nor a signature in the query.
    #[error("no credentials were given")]
    Missing,
    /// The `Authorization` header cannot be read.
    #[error("the Authorization header is malformed")]
    Malformed,
    /// An Entra ID token.
    #[error("this service accepts Shared Key and shared access signatures, no bearer tokens")]
    Unsupported,
    /// Neither `x-ms-date` nor `Date` can be read, or it is too far off.
    #[error("the date of the request is missing, malformed or too far off")]
    Date,
    /// The signature is not that of this request under this account and key.
    #[error("the signature does not match")]
    Signature,
    /// A shared access signature that is over or has not begun, or lacks a part.
    #[error("the shared access signature is not valid now")]
    SasNotValid,
    /// A shared access signature for other addresses.
    #[error("the shared access signature is for other source addresses")]
    SourceAddress,
    /// A shared access signature for HTTPS only.
    #[error("the shared access signature is for another protocol")]
    Protocol,
    /// An account signature for other services.
    #[error("the shared access signature is for another service")]
    Service,
    /// An account signature for other kinds of resources.
    #[error("the shared access signature is for other types of resources")]
    ResourceType,
    /// A signature for other operations.
    #[error("the shared access signature does not permit this operation")]
    Permission,
}

impl Key {
    /// Decodes a Base64 account key.
    ///
    /// # Errors
    /// [`InvalidKey`].
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| InvalidKey)?;
        if bytes.is_empty() { Err(InvalidKey) } else { Ok(Self(bytes)) }
    }

    fn mac(&self, text: &str) -> Hmac<Sha256> {
        // HMAC takes keys of any length: the error type is there for other algorithms.
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0)
            .unwrap_or_else(|_| unreachable!("HMAC accepts every key length"));
        mac.update(text.as_bytes());
        mac
    }

    fn sign(&self, text: &str) -> String {
        STANDARD.encode(self.mac(text).finalize().into_bytes())
    }

    /// Whether `signature` is the Base64 signature of `text`, in constant time.
    fn accepts(&self, text: &str, signature: &str) -> bool {
        let signature = STANDARD.decode(signature);
        signature.is_ok_and(|signature| self.mac(text).verify_slice(&signature).is_ok())
    }
}

/// The value of the `Authorization` header (scheme `SharedKey`) for a request.
///
/// `path_and_query` is the request target as it is sent, percent-encoded, for instance
/// `/devstoreaccount1/payments/messages?numofmessages=16`. `headers` are those that are sent,
/// `x-ms-date` (see [`http_date`]) and `x-ms-version` among them; `content_length` is that of the
/// body. An invalid key makes a value that no server accepts.
pub fn sign(
    account: &str,
    key: &str,
    method: &str,
    path_and_query: &str,
    headers: &HeaderMap,
    content_length: usize,
) -> String {
    let signed = Signed { account, method, path_and_query, headers, content_length };
    let text = signed.text(Scheme::SharedKey, Order::Service);
    let signature = Key::parse(key).map(|key| key.sign(&text)).unwrap_or_default();
    format!("SharedKey {account}:{signature}")
}

/// `epoch_ms` as `x-ms-date` wants it.
pub fn http_date(epoch_ms: u64) -> String {
    date::rfc1123(epoch_ms)
}

/// Checks the `Authorization` header of a request.
///
/// # Errors
/// [`Denied`].
pub fn verify(
    account: &str,
    key: &Key,
    method: &str,
    path_and_query: &str,
    headers: &HeaderMap,
    now_ms: u64,
) -> Result<(), Denied> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let authorization = header("authorization").ok_or(Denied::Missing)?;
    let (scheme, credentials) = authorization.trim().split_once(' ').ok_or(Denied::Malformed)?;
    let scheme = match scheme {
        "SharedKey" => Scheme::SharedKey,
        "SharedKeyLite" => Scheme::SharedKeyLite,
        "Bearer" => return Err(Denied::Unsupported),
        _ => return Err(Denied::Malformed),
    };
    let (name, signature) = credentials.trim().split_once(':').ok_or(Denied::Malformed)?;
    let content_length = header("content-length").and_then(|n| n.parse().ok()).unwrap_or(0);
    let signed = Signed { account, method, path_and_query, headers, content_length };
    // Clients disagree about where a dash sorts, which matters for metadata only.
    let matches = name == account
        && [Order::Service, Order::Bytes]
            .into_iter()
            .any(|order| key.accepts(&signed.text(scheme, order), signature));
    if !matches {
        return Err(Denied::Signature);
    }
    let at = header("x-ms-date").or_else(|| header("date")).and_then(date::parse_rfc1123);
    let at = at.ok_or(Denied::Date)?;
    let now = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
    if now.abs_diff(at) > MAX_CLOCK_SKEW_SECONDS { Err(Denied::Date) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    const NOW_MS: u64 = 1_767_225_600_000;
    const PATH: &str = "/devstoreaccount1/payments/messages?popreceipt=a%2Bb%3D&numofmessages=2";

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        all.iter()
            .map(|(name, value)| {
                (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
            })
            .collect()
    }

    fn check(method: &str, path: &str, headers: &HeaderMap, now_ms: u64) -> Result<(), Denied> {
        let key = Key::parse(EMULATOR_KEY).unwrap();
        verify(EMULATOR_ACCOUNT, &key, method, path, headers, now_ms)
    }

    #[test]
    fn only_the_right_request_at_the_right_time_gets_in() {
        let date = http_date(NOW_MS);
        let mut sent = headers(&[("x-ms-date", &date), ("x-ms-version", "2024-11-04")]);
        assert_eq!(check("GET", PATH, &sent, NOW_MS), Err(Denied::Missing));
        let token = sign(EMULATOR_ACCOUNT, EMULATOR_KEY, "GET", PATH, &sent, 0);
        sent.insert("authorization", token.parse().unwrap());
        assert_eq!(check("GET", PATH, &sent, NOW_MS), Ok(()));
        let other_order = "/devstoreaccount1/payments/messages?numofmessages=2&popreceipt=a%2Bb%3D";
        assert_eq!(check("GET", other_order, &sent, NOW_MS), Ok(()));
        for (method, path) in
            [("PUT", PATH), ("GET", "/devstoreaccount1/payments/messages?numofmessages=2")]
        {
            assert_eq!(check(method, path, &sent, NOW_MS), Err(Denied::Signature));
        }
        for off in [NOW_MS + 901_000, NOW_MS - 901_000] {
            assert_eq!(check("GET", PATH, &sent, off), Err(Denied::Date));
        }
        let mut changed = sent.clone();
        changed.insert("x-ms-version", HeaderValue::from_static("2020-01-01"));
        assert_eq!(check("GET", PATH, &changed, NOW_MS), Err(Denied::Signature));
        changed = sent.clone();
        changed.insert("content-length", HeaderValue::from_static("5"));
        assert_eq!(check("GET", PATH, &changed, NOW_MS), Err(Denied::Signature));
        for (value, denied) in [
            ("Bearer x", Denied::Unsupported),
            ("Basic x:y", Denied::Malformed),
            ("SharedKey", Denied::Malformed),
            ("SharedKey nobody", Denied::Malformed),
            ("SharedKey devstoreaccount1:!!", Denied::Signature),
        ] {
            sent.insert("authorization", HeaderValue::from_static(value));
            assert_eq!(check("GET", PATH, &sent, NOW_MS), Err(denied), "{value}");
        }
        let wrong = sign(EMULATOR_ACCOUNT, &STANDARD.encode("other"), "GET", PATH, &sent, 0);
        sent.insert("authorization", wrong.parse().unwrap());
        assert_eq!(check("GET", PATH, &sent, NOW_MS), Err(Denied::Signature));
    }

    #[test]
    fn a_request_without_a_date_is_not_let_in() {
        let mut sent = headers(&[("x-ms-version", "2024-11-04")]);
        let token = sign(EMULATOR_ACCOUNT, EMULATOR_KEY, "GET", PATH, &sent, 0);
        sent.insert("authorization", token.parse().unwrap());
        assert_eq!(check("GET", PATH, &sent, NOW_MS), Err(Denied::Date));
    }

    #[test]
    fn the_lite_scheme_signs_less() {
        let date = http_date(NOW_MS);
        let mut sent = headers(&[("x-ms-date", &date), ("content-length", "7")]);
        let text = format!("POST\n\n\n\nx-ms-date:{date}\n/devstoreaccount1/devstoreaccount1/q/m");
        let signature = Key::parse(EMULATOR_KEY).unwrap().sign(&text);
        let token = format!("SharedKeyLite devstoreaccount1:{signature}");
        sent.insert("authorization", token.parse().unwrap());
        assert_eq!(check("POST", "/devstoreaccount1/q/m?timeout=9", &sent, NOW_MS), Ok(()));
        assert_eq!(
            check("POST", "/devstoreaccount1/q/m?comp=acl", &sent, NOW_MS),
            Err(Denied::Signature)
        );
    }
}
