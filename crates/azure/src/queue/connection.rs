//! Where a queue service is and how to enter it, from the setting that the host's binding uses.
//!
//! Forms: <https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string>.

use azure_core::credentials::Secret;
use base64::Engine as _;
use url::Url;

use crate::connection::{
    ConnectionError, Credential, Found, Parts, Problem, Settings, is_loopback, parse_text, problem,
};

/// Account and key of every Storage emulator, published by Microsoft and therefore no secret.
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";
const EMULATOR_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";

/// Where the emulator's queue service listens.
const EMULATOR_ENDPOINT: &str = "http://127.0.0.1:10001/devstoreaccount1";

/// Host names of Azure's public cloud, where a connection string names no other.
const ENDPOINT_SUFFIX: &str = "core.windows.net";

const EXAMPLE: &str = "AccountName=<account>;AccountKey=<base64>;\
    QueueEndpoint=https://<account>.queue.core.windows.net";
const URI_EXAMPLE: &str = "https://<account>.queue.core.windows.net";

/// Where a queue service is and how to enter it.
#[derive(Clone, Debug, PartialEq)]
pub struct QueueConnection {
    /// Endpoint of the queue service, the account included where it is part of the path.
    pub endpoint: Url,
    /// The account.
    pub account: String,
    /// [`Credential::Key`] or [`Credential::Token`].
    pub credential: Credential,
}

impl QueueConnection {
    /// Resolves the connection `name` through `lookup`, which answers application settings.
    ///
    /// # Errors
    ///
    /// All problems of the connection at once.
    pub fn resolve(
        name: &str,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, ConnectionError> {
        let settings = Settings { lookup: &lookup };
        settings.resolve(name, "queueServiceUri", URI_EXAMPLE, |found, problems| match found {
            Found::Text { setting, value } => Self::from_text(&setting, &value, problems),
            Found::Section { prefix, endpoint } => {
                let setting = format!("{prefix}__queueServiceUri");
                let endpoint = endpoint_url(&setting, &endpoint, problems);
                let credential = settings.identity(&prefix, problems).map(Credential::Token);
                let endpoint = endpoint?;
                let account = account_of(&endpoint);
                Some(Self { endpoint, account, credential: credential? })
            }
        })
    }

    /// Parses a connection string, e.g. `UseDevelopmentStorage=true`.
    ///
    /// # Errors
    ///
    /// All problems of the string at once.
    pub fn from_connection_string(text: &str) -> Result<Self, ConnectionError> {
        parse_text("connection string", |setting, problems| {
            Self::from_text(setting, text, problems)
        })
    }

    fn from_text(setting: &str, text: &str, problems: &mut Vec<Problem>) -> Option<Self> {
        let parts = Parts::parse(setting, text, EXAMPLE, problems)?;
        let emulator = parts
            .get("UseDevelopmentStorage")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"));
        let account = match parts.get("AccountName").or(emulator.then_some(EMULATOR_ACCOUNT)) {
            Some(account) => Some(account),
            None => parts.required("AccountName", EXAMPLE, problems),
        };
        let key = match parts.get("AccountKey").or(emulator.then_some(EMULATOR_KEY)) {
            Some(key) => Some(key),
            None => parts.required("AccountKey", EXAMPLE, problems),
        };
        if key.is_some_and(|key| base64::engine::general_purpose::STANDARD.decode(key).is_err()) {
            problems.push(problem(setting, "AccountKey is not base64", EXAMPLE));
        }
        let endpoint = match parts.get("QueueEndpoint").or(emulator.then_some(EMULATOR_ENDPOINT)) {
            Some(endpoint) => endpoint.to_owned(),
            None => {
                let suffix = parts.get("EndpointSuffix").unwrap_or(ENDPOINT_SUFFIX);
                format!("https://{}.queue.{suffix}", account?)
            }
        };
        let endpoint = endpoint_url(setting, &endpoint, problems);
        Some(Self {
            endpoint: endpoint?,
            account: account?.to_owned(),
            credential: Credential::Key(Secret::new(key?.to_owned())),
        })
    }
}

fn endpoint_url(setting: &str, value: &str, problems: &mut Vec<Problem>) -> Option<Url> {
    let reason = match Url::parse(value.trim_end_matches('/')) {
        Ok(url) if url.scheme() == "https" && url.has_host() => return Some(url),
        Ok(url) if url.scheme() == "http" && is_loopback(url.host_str().unwrap_or_default()) => {
            return Some(url);
        }
        Ok(url) if url.scheme() == "http" => {
            "http:// is accepted for an emulator on this machine only"
        }
        _ => "the queue endpoint is not an https:// URL",
    };
    problems.push(problem(setting, reason, URI_EXAMPLE));
    None
}

/// The account in a host name such as `<account>.queue.core.windows.net`.
fn account_of(endpoint: &Url) -> String {
    let host = endpoint.host_str().unwrap_or_default();
    host.split('.').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::connection::Identity;

    #[test]
    fn emulators_accounts_and_identities_are_found_and_no_key_is_shown() {
        let found = QueueConnection::from_connection_string("UseDevelopmentStorage=true").unwrap();
        assert_eq!(found.endpoint.as_str(), EMULATOR_ENDPOINT);
        assert_eq!(found.account, EMULATOR_ACCOUNT);
        let text = "DefaultEndpointsProtocol=http;AccountName=acc;AccountKey=a2V5LWJ5dGU=;\
                    QueueEndpoint=http://localhost:4321/acc/;";
        let found = QueueConnection::from_connection_string(text).unwrap();
        assert_eq!(found.endpoint.as_str(), "http://localhost:4321/acc");
        assert!(!format!("{found:?}").contains("a2V5"), "{found:?}");
        let cloud = "AccountName=acc;AccountKey=a2V5;EndpointSuffix=core.chinacloudapi.cn";
        let found = QueueConnection::from_connection_string(cloud).unwrap();
        assert_eq!(found.endpoint.as_str(), "https://acc.queue.core.chinacloudapi.cn/");
        let section = |name: &str| match name {
            "Pay__queueServiceUri" => Some("https://acc.queue.core.windows.net".to_owned()),
            "Pay__credential" => Some("managedidentity".to_owned()),
            _ => None,
        };
        let found = QueueConnection::resolve("Pay", section).unwrap();
        assert_eq!(found.account, "acc");
        assert_eq!(found.credential, Credential::Token(Identity::SystemAssigned));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_key() {
        for (text, why) in [
            ("AccountName=a;AccountKey=***;QueueEndpoint=https://h/", "not base64"),
            ("AccountKey=c2VjcmV0", "AccountName is missing"),
            ("AccountName=a", "AccountKey is missing"),
            ("AccountName=a;AccountKey=c2VjcmV0;QueueEndpoint=http://example.com/", "emulator"),
            ("AccountName=a;AccountKey=c2VjcmV0;QueueEndpoint=nowhere", "not an https"),
        ] {
            let error = QueueConnection::from_connection_string(text).unwrap_err().to_string();
            assert!(error.contains(why) && !error.contains("c2VjcmV0"), "{error}");
        }
    }
}
