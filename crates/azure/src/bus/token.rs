//! Tokens that open the broker: signatures made from a shared key, or Entra tokens.
//!
//! Format of a shared access signature:
//! <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-sas>. Knows nothing about
//! connections; [`super::connection`] presents the tokens and renews them.

use std::{sync::Arc, time::Duration};

use azure_core::{
    credentials::{Secret, TokenCredential},
    hmac::hmac_sha256,
};
use base64::Engine as _;
use time::OffsetDateTime;
use url::form_urlencoded::byte_serialize;

use super::error::BusError;
use crate::{connection::Credential, credential::token_credential};

/// Scope of Entra tokens for Service Bus.
const SCOPE: &str = "https://servicebus.azure.net/.default";

/// Life of a signature. Short enough that a stolen one is of little use, long enough that renewing
/// is rare.
const SIGNATURE_LIFE: Duration = Duration::from_secs(60 * 60);

/// A token is renewed this long before it expires, or after three quarters of its life when that
/// is later.
const RENEWAL_LEAD: Duration = Duration::from_secs(5 * 60);

/// A token for one audience.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    /// The token itself.
    pub(crate) value: Secret,
    /// Token type, as the security node calls it.
    pub(crate) kind: &'static str,
    /// When it stops working.
    pub(crate) expires_at: OffsetDateTime,
}

impl Token {
    /// How long to wait, from `now`, before asking for the next one.
    pub(crate) fn renewal_delay(&self, now: OffsetDateTime) -> Duration {
        let life = Duration::try_from(self.expires_at - now).unwrap_or_default();
        life.saturating_sub(RENEWAL_LEAD).max(life.mul_f64(0.75))
    }
}

/// Makes or fetches tokens.
#[derive(Debug)]
pub(crate) enum TokenSource {
    Key { name: String, key: Secret },
    Signature(Secret),
    Entra(Arc<dyn TokenCredential>),
}

impl TokenSource {
    pub(crate) fn new(credential: &Credential) -> Result<Self, BusError> {
        Ok(match credential {
            Credential::SharedAccessKey { name, key } => {
                Self::Key { name: name.clone(), key: key.clone() }
            }
            Credential::SharedAccessSignature(signature) => Self::Signature(signature.clone()),
            Credential::Token(identity) => {
                Self::Entra(token_credential(identity).map_err(credential_error)?)
            }
            Credential::Key(_) => {
                return Err(BusError::protocol("an account key does not open a Service Bus"));
            }
        })
    }

    /// A token for `audience`, e.g. `sb://host/entity`.
    pub(crate) async fn token(&self, audience: &str) -> Result<Token, BusError> {
        match self {
            Self::Key { name, key } => sign(audience, name, key, now() + SIGNATURE_LIFE),
            Self::Signature(signature) => Ok(Token {
                value: signature.clone(),
                kind: SIGNATURE_KIND,
                expires_at: signature_expiry(signature).unwrap_or(now() + SIGNATURE_LIFE),
            }),
            Self::Entra(credential) => {
                let token = credential.get_token(&[SCOPE], None).await.map_err(credential_error)?;
                Ok(Token { value: token.token, kind: "jwt", expires_at: token.expires_on })
            }
        }
    }
}

const SIGNATURE_KIND: &str = "servicebus.windows.net:sastoken";

fn sign(
    audience: &str,
    rule: &str,
    key: &Secret,
    expires_at: OffsetDateTime,
) -> Result<Token, BusError> {
    let resource: String = byte_serialize(audience.as_bytes()).collect();
    let expiry = expires_at.unix_timestamp();
    // Service Bus takes the characters of the key as they are, although they look like base64;
    // the signing function insists on decoding, so encode once more.
    let key = Secret::new(base64::engine::general_purpose::STANDARD.encode(key.secret()));
    let signature =
        hmac_sha256(&format!("{resource}\n{expiry}"), &key).map_err(credential_error)?;
    let signature: String = byte_serialize(signature.as_bytes()).collect();
    let rule: String = byte_serialize(rule.as_bytes()).collect();
    let value =
        format!("SharedAccessSignature sr={resource}&sig={signature}&se={expiry}&skn={rule}");
    Ok(Token { value: Secret::new(value), kind: SIGNATURE_KIND, expires_at })
}

/// The `se` field of a ready-made signature.
fn signature_expiry(signature: &Secret) -> Option<OffsetDateTime> {
    let fields = signature.secret().trim_start_matches("SharedAccessSignature").trim();
    let expiry = fields.split('&').find_map(|field| field.strip_prefix("se="))?;
    OffsetDateTime::from_unix_timestamp(expiry.parse().ok()?).ok()
}

fn credential_error(error: azure_core::Error) -> BusError {
    BusError::Credential { source: Arc::new(error) }
}

/// The wall clock. A token's expiry is a date, so there is no other clock to go by.
#[expect(clippy::disallowed_methods, reason = "the expiry of a token is a wall-clock date")]
pub(crate) fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn signatures_match_an_independent_computation() {
        // python3: base64(hmac_sha256(b"SAS_KEY_VALUE", b"<url-encoded audience>\n1700003600"))
        let token = sign(
            "sb://127.0.0.1/orders",
            "RootManageSharedAccessKey",
            &Secret::new("SAS_KEY_VALUE"),
            datetime!(2023-11-14 23:13:20 UTC),
        )
        .unwrap();
        assert_eq!(
            token.value.secret(),
            "SharedAccessSignature sr=sb%3A%2F%2F127.0.0.1%2Forders\
             &sig=xl9%2BWmqfhSAnR5ptEf3224TrbVac1hJhA%2FCL4bBQp4g%3D\
             &se=1700003600&skn=RootManageSharedAccessKey"
        );
        assert_eq!(token.kind, "servicebus.windows.net:sastoken");
        assert!(!format!("{token:?}").contains("SharedAccessSignature"));
    }

    #[test]
    fn tokens_are_renewed_before_they_expire() {
        let now = datetime!(2026-01-01 00:00 UTC);
        let delay = |seconds| {
            let expires_at = now + Duration::from_secs(seconds);
            Token { value: Secret::new("x"), kind: "jwt", expires_at }.renewal_delay(now).as_secs()
        };
        assert_eq!(delay(3600), 3300);
        assert_eq!(delay(60), 45);
        assert_eq!(delay(0), 0);
        let expired = Token { value: Secret::new("x"), kind: "jwt", expires_at: now };
        assert_eq!(expired.renewal_delay(now + Duration::from_secs(9)), Duration::ZERO);
    }

    #[tokio::test]
    async fn a_ready_made_signature_is_used_as_it_is() {
        let text = "SharedAccessSignature sr=sb%3a%2f%2fns&sig=abc&se=1700003600&skn=rule";
        let credential = Credential::SharedAccessSignature(Secret::new(text));
        let token = TokenSource::new(&credential).unwrap().token("sb://ns/q").await.unwrap();
        assert_eq!(token.value.secret(), text);
        assert_eq!(token.expires_at, datetime!(2023-11-14 23:13:20 UTC));
        let key = Credential::Key(Secret::new("YQ=="));
        assert!(matches!(TokenSource::new(&key), Err(BusError::Protocol { .. })));
    }
}
