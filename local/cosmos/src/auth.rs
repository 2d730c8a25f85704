//! Master-key signatures, made and checked.
//!
//! Specified by <https://learn.microsoft.com/rest/api/cosmos-db/access-control-on-cosmosdb-resources>.
//! Knows verbs, paths and dates; what a path means is not its business.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac as _};
use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use sha2::Sha256;
use thiserror::Error;
use time::{Date, Month, OffsetDateTime, Time};

use crate::limits::MAX_CLOCK_SKEW_SECONDS;

/// The key of every Cosmos DB emulator, published by Microsoft and therefore no secret.
pub const EMULATOR_KEY: &str =
    "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw==";

/// A decoded account key.
#[derive(Clone)]
pub struct Key {
    bytes: Vec<u8>,
    /// Has taken the key in already, which is half of the work of a short signature.
    mac: Hmac<Sha256>,
}

/// The key is not Base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the account key is not valid Base64")]
pub struct InvalidKey;

/// Why a request is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Denied {
    /// No `authorization` header.
    #[error("required header 'authorization' is missing")]
    MissingToken,
    /// The header cannot be read.
    #[error("the authorization token is malformed")]
    MalformedToken,
    /// A resource token, or an Entra ID token where no tenant is configured.
    #[error(
        "this service accepts master-key signatures only (type=master); connect with the account key"
    )]
    UnsupportedToken,
    /// The key or the token does not permit what was asked for.
    #[error(
        "insufficient permissions provided in the authorization header for the corresponding \
         request; please retry with another authorization header"
    )]
    ReadOnly,
    /// Databases, containers and offers take a key.
    #[error("the request cannot be authorized by an Entra ID token in the data plane")]
    ControlPlane,
    /// Neither `x-ms-date` nor `date` can be read.
    #[error("the x-ms-date header is missing or malformed")]
    MissingDate,
    /// The signature is not that of this request under this key.
    #[error(
        "the input authorization token can't serve the request: the signature does not match; \
         check the account key, the verb, the resource link and the date"
    )]
    WrongSignature,
    /// The clocks are too far apart.
    #[error("the authorization token is not valid at the current time: the date is too far off")]
    ClockSkew,
}

/// Who may do what.
#[derive(Clone)]
pub(crate) struct Access {
    /// The account key and its text.
    key: (Key, String),
    read_only: Option<Key>,
    tenant: Option<String>,
}

/// What a request may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grant {
    /// Everything.
    Full,
    /// Looking.
    ReadOnly,
    /// Everything with items, nothing with what holds them.
    Data,
}

/// What a request wants to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Look at anything.
    Read,
    /// Change items.
    WriteItems,
    /// Change databases, containers or offers.
    WriteControl,
}

impl Access {
    /// The full key, a key that only reads, and the tenant whose development tokens are taken.
    ///
    /// # Errors
    /// [`InvalidKey`].
    pub(crate) fn new(
        key: &str,
        read_only: Option<&str>,
        tenant: Option<String>,
    ) -> Result<Self, InvalidKey> {
        let read_only = read_only.map(Key::parse).transpose()?;
        Ok(Self { key: (Key::parse(key)?, key.trim().to_owned()), read_only, tenant })
    }

    /// Checks who sent a request. `path` is the path of the request target, still encoded.
    ///
    /// # Errors
    /// [`Denied`].
    pub(crate) fn admit(
        &self,
        authorization: Option<&str>,
        verb: &str,
        path: &str,
        date: Option<&str>,
        now_ms: u64,
    ) -> Result<Grant, Denied> {
        let (key, key_text) = &self.key;
        if let (Some(tenant), Some(token)) = (&self.tenant, authorization.and_then(entra_token)) {
            return crate::entra::verify(&token, tenant, &key.bytes, key_text, now_ms)
                .map(|()| Grant::Data);
        }
        match (verify(key, authorization, verb, path, date, now_ms), &self.read_only) {
            (Ok(()), _) => Ok(Grant::Full),
            (Err(Denied::WrongSignature), Some(read_only)) => {
                verify(read_only, authorization, verb, path, date, now_ms).map(|()| Grant::ReadOnly)
            }
            (Err(denied), _) => Err(denied),
        }
    }
}

impl Grant {
    /// Whether it covers `intent`.
    ///
    /// # Errors
    /// [`Denied`].
    pub(crate) fn permit(self, intent: Intent) -> Result<(), Denied> {
        match (self, intent) {
            (Self::Full, _) | (_, Intent::Read) | (Self::Data, Intent::WriteItems) => Ok(()),
            (Self::ReadOnly, _) => Err(Denied::ReadOnly),
            (Self::Data, Intent::WriteControl) => Err(Denied::ControlPlane),
        }
    }
}

/// The JSON web token of `type=aad`, if it is one.
fn entra_token(authorization: &str) -> Option<String> {
    let token = percent_decode_str(authorization).decode_utf8().ok()?;
    let is_entra = token.split('&').any(|part| part == "type=aad");
    is_entra
        .then(|| token.split('&').find_map(|part| part.strip_prefix("sig=")).map(str::to_owned))?
}

impl Key {
    /// Decodes a Base64 account key.
    ///
    /// # Errors
    /// [`InvalidKey`].
    pub fn parse(text: &str) -> Result<Self, InvalidKey> {
        let bytes = STANDARD.decode(text.trim()).map_err(|_| InvalidKey)?;
        if bytes.is_empty() {
            return Err(InvalidKey);
        }
        let mac = Hmac::new_from_slice(&bytes).map_err(|_| InvalidKey)?;
        Ok(Self { bytes, mac })
    }

    fn mac(&self, verb: &str, kind: &str, link: &str, date: &str) -> Hmac<Sha256> {
        let mut text = String::with_capacity(verb.len() + kind.len() + link.len() + date.len() + 5);
        for part in [verb, kind, link, date, ""] {
            text.push_str(part);
            text.push('\n');
        }
        let (dated, verbed) = (text.len() - date.len() - 2, verb.len());
        text[..verbed].make_ascii_lowercase();
        text[dated..].make_ascii_lowercase();
        let mut mac = self.mac.clone();
        mac.update(text.as_bytes());
        mac
    }
}

/// The value of the `authorization` header for a request with the Base64 `key`. `path` is the
/// request path as the client thinks of it, not percent-encoded; `x_ms_date` is the value of that
/// header (see [`http_date`]). An invalid key makes a token that no server accepts.
pub fn sign(key: &str, verb: &str, path: &str, x_ms_date: &str) -> String {
    let (kind, link) = resource(path);
    let signature = match Key::parse(key) {
        Ok(key) => STANDARD.encode(key.mac(verb, kind, &link, x_ms_date).finalize().into_bytes()),
        Err(InvalidKey) => String::new(),
    };
    utf8_percent_encode(&format!("type=master&ver=1.0&sig={signature}"), NON_ALPHANUMERIC)
        .to_string()
}

/// `epoch_seconds` as the dates of HTTP are written, for `x-ms-date`.
pub fn http_date(epoch_seconds: u64) -> String {
    let seconds = i64::try_from(epoch_seconds).unwrap_or(i64::MAX);
    let at = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    let (weekday, month) = (at.weekday().to_string(), at.month().to_string());
    format!(
        "{}, {:02} {} {:04} {:02}:{:02}:{:02} GMT",
        &weekday[..3],
        at.day(),
        &month[..3],
        at.year(),
        at.hour(),
        at.minute(),
        at.second()
    )
}

/// The epoch second of an HTTP date, in any letter case.
pub fn parse_http_date(text: &str) -> Option<i64> {
    let (_, rest) = text.split_once(',')?;
    let mut parts = rest.split_ascii_whitespace();
    let day: u8 = parts.next()?.parse().ok()?;
    let month = match parts.next()?.to_ascii_lowercase().as_str() {
        "jan" => Month::January,
        "feb" => Month::February,
        "mar" => Month::March,
        "apr" => Month::April,
        "may" => Month::May,
        "jun" => Month::June,
        "jul" => Month::July,
        "aug" => Month::August,
        "sep" => Month::September,
        "oct" => Month::October,
        "nov" => Month::November,
        "dec" => Month::December,
        _ => return None,
    };
    let date = Date::from_calendar_date(parts.next()?.parse().ok()?, month, day).ok()?;
    let mut clock = parts.next()?.splitn(3, ':').map(|part| part.parse::<u8>().ok());
    let time = Time::from_hms(clock.next()??, clock.next()??, clock.next()??).ok()?;
    Some(date.with_time(time).assume_utc().unix_timestamp())
}

/// Checks the signature of a request. `path` is the path of the request target, still encoded.
///
/// # Errors
/// [`Denied`].
pub fn verify(
    key: &Key,
    authorization: Option<&str>,
    verb: &str,
    path: &str,
    date: Option<&str>,
    now_ms: u64,
) -> Result<(), Denied> {
    let token = percent_decode_str(authorization.ok_or(Denied::MissingToken)?)
        .decode_utf8()
        .map_err(|_| Denied::MalformedToken)?;
    let field = |name: &str| token.split('&').find_map(|part| part.strip_prefix(name));
    match field("type=") {
        Some("master") => {}
        Some(_) => return Err(Denied::UnsupportedToken),
        None => return Err(Denied::MalformedToken),
    }
    let signature = field("sig=").and_then(|signature| STANDARD.decode(signature).ok());
    let signature = signature.ok_or(Denied::MalformedToken)?;
    let date = date.ok_or(Denied::MissingDate)?;
    let at = parse_http_date(date).ok_or(Denied::MissingDate)?;
    // `verify_slice` compares in constant time.
    let accepts =
        |kind, link: &str| key.mac(verb, kind, link, date).verify_slice(&signature).is_ok();
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    let (kind, link) = resource(&decoded);
    // SDKs sign names as they are, some sign them encoded, resource ids in lower case, and of an
    // offer the resource id alone.
    let otherwise = || {
        let lower = link.to_lowercase();
        let last = lower.rsplit('/').next().unwrap_or_default();
        accepts(kind, &resource(path).1)
            || accepts(kind, &lower)
            || (kind == "offers" && accepts(kind, last))
    };
    if !(accepts(kind, &link) || otherwise()) {
        return Err(Denied::WrongSignature);
    }
    let now = i64::try_from(now_ms / 1000).unwrap_or(i64::MAX);
    if now.abs_diff(at) > MAX_CLOCK_SKEW_SECONDS.unsigned_abs() {
        return Err(Denied::ClockSkew);
    }
    Ok(())
}

/// The resource type and the resource link that a signature covers.
fn resource(path: &str) -> (&str, String) {
    let segments: Vec<&str> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    match segments.split_last() {
        None => ("", String::new()),
        Some((_, parents)) if segments.len().is_multiple_of(2) => {
            (parents.last().copied().unwrap_or(""), segments.join("/"))
        }
        Some((last, parents)) => (last, parents.join("/")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATE: &str = "Thu, 27 Apr 2017 00:51:12 GMT";

    /// The worked example of the REST reference.
    #[test]
    fn matches_the_documented_example() {
        let key = "dsZQi3KtZmCv1ljt3VNWNm7sQUF1y5rJfC6kv5JiwvW0EndXdDku/dkKBp8/ufDToSxLzR4y+O/0H/t4bQtVNw==";
        let token = sign(key, "GET", "/dbs/ToDoList", DATE);
        let plain = percent_decode_str(&token).decode_utf8().unwrap().into_owned();
        assert_eq!(plain, "type=master&ver=1.0&sig=c09PEVJrgp2uQRkr934kFbTqhByc7TVr3OHyqlu+c+c=");
        assert_eq!(parse_http_date(DATE), Some(1_493_254_272));
        assert_eq!(http_date(1_493_254_272), DATE);
    }

    #[test]
    fn only_the_right_request_at_the_right_time_gets_in() {
        let key = Key::parse(EMULATOR_KEY).unwrap();
        let now = 1_493_254_272_000;
        let check =
            |token: Option<&str>, verb, path, date, now| verify(&key, token, verb, path, date, now);
        let token = sign(EMULATOR_KEY, "post", "dbs/a b/colls/c/docs", DATE);
        let token = Some(token.as_str());
        let lower = DATE.to_lowercase();
        assert_eq!(check(token, "POST", "//dbs/a%20b/colls/c/docs/", Some(&lower), now), Ok(()));
        assert_eq!(
            check(token, "GET", "/dbs/a%20b/colls/c/docs", Some(DATE), now),
            Err(Denied::WrongSignature)
        );
        assert_eq!(
            check(token, "POST", "/dbs/a/colls/c/docs", Some(DATE), now),
            Err(Denied::WrongSignature)
        );
        assert_eq!(check(None, "POST", "/", Some(DATE), now), Err(Denied::MissingToken));
        assert_eq!(
            check(Some("type%3Daad%26sig%3Dx"), "GET", "/", Some(DATE), now),
            Err(Denied::UnsupportedToken)
        );
        assert_eq!(
            check(Some("garbage"), "GET", "/", Some(DATE), now),
            Err(Denied::MalformedToken)
        );
        assert_eq!(
            check(token, "POST", "/dbs/a b/colls/c/docs", Some("yesterday"), now),
            Err(Denied::MissingDate)
        );
        let late = now + 16 * 60 * 1000;
        assert_eq!(
            check(token, "POST", "/dbs/a b/colls/c/docs", Some(DATE), late),
            Err(Denied::ClockSkew)
        );
        let wrong = sign(&STANDARD.encode("another key"), "post", "dbs/a b/colls/c/docs", DATE);
        assert_eq!(
            check(Some(&wrong), "POST", "/dbs/a b/colls/c/docs", Some(DATE), now),
            Err(Denied::WrongSignature)
        );
    }
}
