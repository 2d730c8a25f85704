//! Who may do what: shared access signatures, and the paths a connection has shown a token for.
//!
//! <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-sas>. There is one key,
//! with all rights; Entra tokens are refused because nothing here could verify them.

use std::hint::black_box;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use percent_encoding::percent_decode_str;
use sha2::Sha256;

use crate::broker::{Timestamp, normalise};
use crate::limits::{TOKEN_CHARS_MAX, TOKENS_PER_CONNECTION_MAX};

/// Why a token is not good. The texts do not say which part of a signature was expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    #[error("only shared access signatures are accepted here, not tokens of this type")]
    Type,
    #[error("the token is not a shared access signature with sr, sig, se and skn")]
    Malformed,
    #[error("the key name or the signature of the token is wrong")]
    Signature,
    #[error("the token has expired")]
    Expired,
    #[error("the token is for another resource")]
    Audience,
}

/// The key that signs tokens.
pub(super) struct SharedAccessKey {
    name: String,
    key: String,
}

impl SharedAccessKey {
    pub(super) fn new(name: String, key: String) -> SharedAccessKey {
        SharedAccessKey { name, key }
    }

    /// Whether these are the name and the key, as SASL PLAIN gives them.
    pub(super) fn is(&self, name: &[u8], key: &[u8]) -> bool {
        same(self.name.as_bytes(), name) & same(self.key.as_bytes(), key)
    }

    /// Checks a token for `audience` and returns when it expires.
    pub(super) fn verify(
        &self,
        token: &str,
        audience: &str,
        now: Timestamp,
    ) -> Result<Timestamp, TokenError> {
        let fields = token.strip_prefix("SharedAccessSignature ").ok_or(TokenError::Type)?;
        if token.len() > TOKEN_CHARS_MAX {
            return Err(TokenError::Malformed);
        }
        let field = |name: &str| {
            let pair = |pair: &&str| pair.split_once('=').is_some_and(|(key, _)| key == name);
            let found = fields.split('&').find(pair).and_then(|pair| pair.split_once('='));
            found.map(|(_, value)| value.trim()).ok_or(TokenError::Malformed)
        };
        let (resource, signature) = (field("sr")?, field("sig")?);
        let (expiry, name) = (field("se")?, field("skn")?);
        let signature = percent_decode_str(signature).decode_utf8_lossy();
        let signature = STANDARD.decode(&*signature).map_err(|_| TokenError::Malformed)?;
        let mut mac = Hmac::<Sha256>::new_from_slice(self.key.as_bytes())
            .map_err(|_| TokenError::Signature)?;
        mac.update(resource.as_bytes());
        mac.update(b"\n");
        mac.update(expiry.as_bytes());
        let name = percent_decode_str(name).decode_utf8_lossy();
        // Compares in constant time.
        if mac.verify_slice(&signature).is_err() | !same(name.as_bytes(), self.name.as_bytes()) {
            return Err(TokenError::Signature);
        }
        let seconds: i64 = expiry.parse().map_err(|_| TokenError::Malformed)?;
        let expires_at = Timestamp::from_millis(seconds.saturating_mul(1_000));
        if expires_at <= now {
            return Err(TokenError::Expired);
        }
        if !covers(&normalise(resource), &normalise(audience)) {
            return Err(TokenError::Audience);
        }
        Ok(expires_at)
    }
}

/// Compares in a time that depends on the lengths alone.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0_u8, |sum, (a, b)| black_box(sum | (a ^ b)));
    (a.len() == b.len()) & (differences == 0)
}

/// Whether rights on `granted` include rights on `path`: the same, or below it.
fn covers(granted: &str, path: &str) -> bool {
    let below = |rest: &str| rest.is_empty() || rest.starts_with('/');
    granted.is_empty() || path.strip_prefix(granted).is_some_and(below)
}

/// The paths one connection may use, each until its token expires.
#[derive(Debug, Default)]
pub(super) struct Grants {
    grants: Vec<(String, Timestamp)>,
}

impl Grants {
    /// Adds rights on everything below `audience`, or prolongs them.
    pub(super) fn add(&mut self, audience: &str, expires_at: Timestamp) {
        let path = normalise(audience);
        self.grants.retain(|(known, _)| *known != path);
        if self.grants.len() >= TOKENS_PER_CONNECTION_MAX {
            let first = (0..self.grants.len()).min_by_key(|at| self.grants[*at].1);
            if let Some(first) = first {
                self.grants.swap_remove(first);
            }
        }
        self.grants.push((path, expires_at));
    }

    /// Whether a normalised path may be used at `now`.
    pub(super) fn allow(&self, path: &str, now: Timestamp) -> bool {
        self.grants.iter().any(|(granted, until)| *until > now && covers(granted, path))
    }

    /// When the next right ends.
    pub(super) fn next_expiry(&self) -> Timestamp {
        self.grants.iter().map(|(_, until)| *until).min().unwrap_or(Timestamp::NEVER)
    }

    /// Drops what is over, and says whether anything was.
    pub(super) fn expire(&mut self, now: Timestamp) -> bool {
        let before = self.grants.len();
        self.grants.retain(|(_, until)| *until > now);
        self.grants.len() < before
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A token as the SDKs make it.
    pub(in crate::server) fn sign(key: &str, name: &str, resource: &str, expiry: i64) -> String {
        let resource =
            percent_encoding::utf8_percent_encode(resource, percent_encoding::NON_ALPHANUMERIC);
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes()).unwrap();
        mac.update(format!("{resource}\n{expiry}").as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let signature =
            percent_encoding::utf8_percent_encode(&signature, percent_encoding::NON_ALPHANUMERIC);
        format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={name}")
    }

    #[test]
    fn tokens_are_good_for_their_key_resource_and_time_only() {
        let key = SharedAccessKey::new("Root".into(), "SAS_KEY_VALUE".into());
        let now = Timestamp::from_millis(1_000_000);
        let verify = |token: &str, audience| key.verify(token, audience, now);
        let good = sign("SAS_KEY_VALUE", "Root", "sb://localhost/orders", 2_000);
        let expiry = Timestamp::from_millis(2_000_000);
        assert_eq!(verify(&good, "sb://localhost/orders"), Ok(expiry));
        assert_eq!(verify(&good, "amqps://other/Orders/Subscriptions/s"), Ok(expiry));
        assert_eq!(verify(&good, "sb://localhost/ordersX"), Err(TokenError::Audience));
        assert_eq!(verify(&good, "sb://localhost/"), Err(TokenError::Audience));
        let of = |key, name, expiry| sign(key, name, "sb://localhost/orders", expiry);
        let audience = "sb://localhost/orders";
        let check = |token: String| verify(&token, audience);
        assert_eq!(check(of("other", "Root", 2_000)), Err(TokenError::Signature));
        assert_eq!(check(of("SAS_KEY_VALUE", "Other", 2_000)), Err(TokenError::Signature));
        assert_eq!(check(of("SAS_KEY_VALUE", "Root", 1_000)), Err(TokenError::Expired));
        assert_eq!(
            verify(&good.replace("se=2000", "se=3000"), audience),
            Err(TokenError::Signature)
        );
        assert_eq!(verify("eyJhbGciOiJSUzI1NiJ9", audience), Err(TokenError::Type));
        assert_eq!(verify("SharedAccessSignature sr=x", audience), Err(TokenError::Malformed));
    }

    #[test]
    fn grants_cover_what_is_below_them_until_they_expire() {
        let at = Timestamp::from_millis;
        let mut grants = Grants::default();
        grants.add("sb://h/orders", at(100));
        assert!(grants.allow("orders/subscriptions/a", at(99)));
        assert!(!grants.allow("orders", at(100)));
        assert!(!grants.allow("orders2", at(0)));
        grants.add("sb://h/Orders", at(200));
        assert_eq!(grants.next_expiry(), at(200));
        assert!(!grants.expire(at(199)));
        assert!(grants.expire(at(200)));
        assert!(!grants.allow("orders", at(0)));
    }
}
