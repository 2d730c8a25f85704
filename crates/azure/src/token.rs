//! Entra tokens for a service that another crate speaks to, e.g. the ingestion of telemetry.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::{Secret, TokenCredential};
use azure_core::error::ErrorKind;
use azure_core::time::OffsetDateTime;

use crate::connection::Identity;
use crate::credential::token_credential;

/// Why there is no token: the kind of failure alone. What the identity service has said stays out of
/// logs, whatever it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The identity cannot be used here.
    #[error("this identity cannot be used here")]
    Identity,
    /// The identity service answered with this status.
    #[error("the identity service answered {0}")]
    Refused(u16),
    /// The identity service did not answer, or nothing that can be read.
    #[error("the identity service gave no answer that can be read")]
    Unavailable,
}

/// Tokens of one identity for one service. Held by the credential until shortly before they expire.
#[derive(Clone)]
pub struct Tokens {
    credential: Arc<dyn TokenCredential>,
    scope: &'static str,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("scope", &self.scope).finish_non_exhaustive()
    }
}

impl Tokens {
    /// Tokens for `scope`, e.g. `https://monitor.azure.com/.default`. Nobody is asked yet.
    ///
    /// # Errors
    /// [`TokenError::Identity`].
    pub fn new(identity: &Identity, scope: &'static str) -> Result<Self, TokenError> {
        let credential = token_credential(identity).map_err(|_| TokenError::Identity)?;
        Ok(Self { credential, scope })
    }

    /// A token, and how long it is good for.
    ///
    /// # Errors
    /// [`TokenError`]
    pub async fn token(&self) -> Result<(Secret, Duration), TokenError> {
        let answer = self.credential.get_token(&[self.scope], None).await;
        let token = answer.map_err(|error| match error.kind() {
            ErrorKind::HttpResponse { status, .. } => TokenError::Refused((*status).into()),
            _ => TokenError::Unavailable,
        })?;
        let left = token.expires_on - now();
        Ok((token.token, left.try_into().unwrap_or_default()))
    }
}

#[expect(clippy::disallowed_methods, reason = "the expiry of a token is a wall-clock date")]
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
