//! Application Insights as a destination of telemetry: where it is, and as whom it is told.
//!
//! | setting | meaning |
//! | --- | --- |
//! | `APPLICATIONINSIGHTS_CONNECTION_STRING` | where |
//! | `APPLICATIONINSIGHTS_AUTHENTICATION_STRING` | as whom, as the Functions host reads it: `Authorization=AAD` for the identity of the app, `Authorization=AAD;ClientId=<guid>` for one that is attached to it; without it the instrumentation key is all that is sent |

use std::sync::Arc;

use azure::connection::Identity;
use azure::token::{TokenError, Tokens};
use futures::future::BoxFuture;
use handler::telemetry::{self, ConnectionString, Destination, TokenSource};

const CONNECTION: &str = "APPLICATIONINSIGHTS_CONNECTION_STRING";
const AUTHENTICATION: &str = "APPLICATIONINSIGHTS_AUTHENTICATION_STRING";

/// What the token is for:
/// <https://learn.microsoft.com/azure/azure-monitor/app/azure-ad-authentication>.
const SCOPE: &str = "https://monitor.azure.com/.default";

/// Where telemetry goes, if the settings name Application Insights.
pub(crate) fn destination(
    look_up: impl Fn(&str) -> Option<String>,
) -> Result<Option<Destination>, String> {
    let [connection, authentication] = [CONNECTION, AUTHENTICATION]
        .map(|name| look_up(name).filter(|text| !text.trim().is_empty()));
    let Some(connection) = connection else { return Ok(None) };
    let connection = ConnectionString::parse(&connection)
        .map_err(|error| format!("{CONNECTION} cannot be used: {error}"))?;
    let tokens = authentication.map(|text| tokens(&text)).transpose()?;
    Ok(Some(Destination::AzureMonitor { connection, tokens }))
}

fn tokens(text: &str) -> Result<Arc<dyn TokenSource>, String> {
    let identity = identity(text).ok_or_else(|| {
        format!("{AUTHENTICATION} must be Authorization=AAD or Authorization=AAD;ClientId=<guid>")
    })?;
    let tokens = Tokens::new(&identity, SCOPE);
    let tokens = tokens.map_err(|error| format!("{AUTHENTICATION} cannot be used: {error}"))?;
    Ok(Arc::new(Entra(tokens)))
}

/// Whom the text means: members in any order and case. Anything unknown is refused, lest telemetry
/// is sent as somebody else.
fn identity(text: &str) -> Option<Identity> {
    let (mut authorised, mut identity) = (false, Identity::SystemAssigned);
    for member in text.split(';').map(str::trim).filter(|member| !member.is_empty()) {
        let (name, value) = member.split_once('=')?;
        let value = value.trim();
        match name.trim().to_ascii_lowercase().as_str() {
            "authorization" if value.eq_ignore_ascii_case("aad") => authorised = true,
            "clientid" => {
                let client_id = value.parse::<uuid::Uuid>().ok()?.to_string();
                identity = Identity::UserAssigned { client_id };
            }
            _ => return None,
        }
    }
    authorised.then_some(identity)
}

/// Entra tokens as telemetry takes them.
#[derive(Debug)]
struct Entra(Tokens);

impl TokenSource for Entra {
    fn token(&self) -> BoxFuture<'_, Result<telemetry::Token, telemetry::TokenError>> {
        Box::pin(async {
            let (token, valid_for) = self.0.token().await?;
            let token = telemetry::Token::new(token.secret(), valid_for);
            Ok(token.ok_or(TokenError::Unavailable)?)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authentication_string_is_read_as_the_host_reads_it() {
        let id = "11111111-2222-3333-4444-555555555555";
        let attached = Some(Identity::UserAssigned { client_id: id.to_owned() });
        for (text, whom) in [
            ("Authorization=AAD".to_owned(), Some(Identity::SystemAssigned)),
            (format!("Authorization=AAD;ClientId={id}"), attached.clone()),
            (format!(" clientid = {id} ; authorization = aad ;"), attached),
            ("Authorization=Key".to_owned(), None),
            (format!("ClientId={id}"), None),
            ("Authorization=AAD;ClientId=me".to_owned(), None),
            ("Authorization=AAD;TenantId=t".to_owned(), None),
            ("AAD".to_owned(), None),
        ] {
            assert_eq!(identity(&text), whom, "{text}");
        }
    }

    #[test]
    fn insights_is_used_as_the_settings_say_and_what_is_wrong_is_named_without_its_value() {
        let key = "InstrumentationKey=11111111-2222-3333-4444-555555555555";
        let read = |connection: &str, authentication: &str| {
            destination(|name| {
                Some(if name == CONNECTION { connection } else { authentication }.to_owned())
            })
        };
        assert!(read("", "Authorization=AAD").unwrap().is_none());
        let keyed = read(key, " ").unwrap();
        assert!(matches!(keyed, Some(Destination::AzureMonitor { tokens: None, .. })));
        let known = read(key, "Authorization=AAD").unwrap();
        assert!(matches!(known, Some(Destination::AzureMonitor { tokens: Some(_), .. })));
        let error = read(key, "s3cr3t").unwrap_err();
        assert!(error.starts_with(AUTHENTICATION) && !error.contains("s3cr3t"), "{error}");
    }
}
