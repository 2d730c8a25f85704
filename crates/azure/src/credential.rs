//! From a parsed [`Identity`] to something that can fetch Entra tokens.
//!
//! Knows which `azure_identity` credential belongs to which setting; knows neither the settings
//! themselves nor what the tokens are for.

use std::sync::Arc;

use azure_core::credentials::TokenCredential;
use azure_identity::{
    ClientSecretCredential, DeveloperToolsCredential, ManagedIdentityCredential,
    ManagedIdentityCredentialOptions, UserAssignedId,
};

use crate::connection::Identity;

/// Builds the credential. No network is touched before the first token is asked for.
pub(crate) fn token_credential(
    identity: &Identity,
) -> Result<Arc<dyn TokenCredential>, azure_core::Error> {
    Ok(match identity {
        Identity::SystemAssigned => ManagedIdentityCredential::new(None)?,
        Identity::UserAssigned { client_id } => {
            ManagedIdentityCredential::new(Some(ManagedIdentityCredentialOptions {
                user_assigned_id: Some(UserAssignedId::ClientId(client_id.clone())),
                ..Default::default()
            }))?
        }
        Identity::ClientSecret { tenant_id, client_id, secret } => {
            ClientSecretCredential::new(tenant_id, client_id.clone(), secret.clone(), None)?
        }
        Identity::Developer => DeveloperToolsCredential::new(None)?,
    })
}

#[cfg(test)]
mod tests {
    use azure_core::credentials::Secret;

    use super::*;

    #[test]
    fn every_identity_has_a_credential_and_none_shows_its_secret() {
        let secret = "s3cr3t-value";
        for identity in [
            Identity::SystemAssigned,
            Identity::UserAssigned { client_id: "11111111-2222-3333-4444-555555555555".into() },
            Identity::ClientSecret {
                tenant_id: "11111111-2222-3333-4444-555555555555".into(),
                client_id: "client".into(),
                secret: Secret::new(secret),
            },
            Identity::Developer,
        ] {
            let credential = token_credential(&identity).unwrap();
            assert!(!format!("{credential:?} {identity:?}").contains(secret));
        }
    }
}
