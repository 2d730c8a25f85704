//! Endpoints and credentials, from the same settings that the Functions host uses.
//!
//! A binding names a *connection*, say `OrdersStore`. The host looks that name up in the
//! application settings, first as `AzureWebJobsOrdersStore`, then as `OrdersStore`: either one
//! setting that holds a connection string, or a section of settings that name an endpoint and an
//! identity (`OrdersStore__accountEndpoint`, `OrdersStore__credential`, …). Reading the same
//! settings means that a function and its trigger can never talk to two different services:
//! <https://learn.microsoft.com/azure/azure-functions/functions-reference#configure-an-identity-based-connection>.
//!
//! This module reads settings through a closure and opens nothing. Everything that is wrong with
//! a connection is reported together, with an example; values are never repeated, since any of
//! them may hold a key.

use std::fmt;

use azure_core::credentials::Secret;
use base64::Engine as _;
use url::Url;

/// Names that mean "this machine": plain-text endpoints are accepted for these alone.
const LOOPBACK_HOSTS: [&str; 4] = ["localhost", "127.0.0.1", "::1", "[::1]"];

/// AMQP over TLS.
const AMQPS_PORT: u16 = 5671;

/// AMQP without TLS, as the Service Bus emulator serves it.
const AMQP_PORT: u16 = 5672;

/// Set by App Service and Functions when the app has a managed identity.
const MANAGED_IDENTITY_ENDPOINT: &str = "IDENTITY_ENDPOINT";

/// Host name that the Cosmos client accepts without TLS besides the loopback names.
const COSMOS_EMULATOR_HOST: &str = "AZURE_COSMOS_EMULATOR_HOST";

/// Who to be when asking for a token.
#[derive(Clone, Debug, PartialEq)]
pub enum Identity {
    /// The managed identity that was created with the app.
    SystemAssigned,
    /// A managed identity of its own, attached to the app (`__clientId`).
    UserAssigned {
        /// Client id of the identity.
        client_id: String,
    },
    /// An app registration (`__tenantId`, `__clientId`, `__clientSecret`).
    ClientSecret {
        /// Tenant of the registration.
        tenant_id: String,
        /// Client id of the registration.
        client_id: String,
        /// Its secret.
        secret: Secret,
    },
    /// Whoever is signed in to the Azure CLI or the Azure Developer CLI.
    Developer,
}

/// How to prove who we are.
#[derive(Clone, Debug, PartialEq)]
pub enum Credential {
    /// An account key (Cosmos DB) or an access key (Event Grid).
    Key(Secret),
    /// A named shared access key (Service Bus), from which signatures are made.
    SharedAccessKey {
        /// Name of the authorisation rule.
        name: String,
        /// The key, taken as raw bytes.
        key: Secret,
    },
    /// A ready-made shared access signature (Service Bus). It cannot be renewed.
    SharedAccessSignature(Secret),
    /// Entra tokens.
    Token(Identity),
}

/// Where a Cosmos DB account is and how to enter it.
#[derive(Clone, Debug, PartialEq)]
pub struct CosmosConnection {
    /// Account endpoint, e.g. `https://example.documents.azure.com:443/`.
    pub endpoint: Url,
    /// [`Credential::Key`] or [`Credential::Token`].
    pub credential: Credential,
    /// `DisableServerCertificateValidation=True` in the connection string: accept the emulator's
    /// self-signed certificate. Has no effect on hosts other than the emulator's.
    pub accept_emulator_certificate: bool,
}

/// Where a Service Bus namespace is and how to enter it.
#[derive(Clone, Debug, PartialEq)]
pub struct BusConnection {
    /// Fully qualified host name, e.g. `example.servicebus.windows.net`.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// Whether the connection is encrypted. Only an emulator is spoken to without.
    pub tls: bool,
    /// Any credential but [`Credential::Key`].
    pub credential: Credential,
}

/// Where an Event Grid topic is and how to enter it.
#[derive(Clone, Debug, PartialEq)]
pub struct GridConnection {
    /// Topic endpoint, e.g. `https://<topic>.<region>-1.eventgrid.azure.net/api/events`.
    pub endpoint: Url,
    /// [`Credential::Key`] or [`Credential::Token`].
    pub credential: Credential,
}

/// One thing that is wrong with a setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Name of the setting.
    pub setting: String,
    /// What is wrong with it. Never contains the value.
    pub reason: String,
    /// A value that would do.
    pub example: &'static str,
}

/// Everything that is wrong with one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionError {
    /// Name of the connection, as bindings use it.
    pub connection: String,
    /// At least one problem.
    pub problems: Vec<Problem>,
}

impl std::error::Error for ConnectionError {}

impl fmt::Display for ConnectionError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "connection {:?} is not usable:", self.connection)?;
        for Problem { setting, reason, example } in &self.problems {
            write!(f, "\n  {setting}: {reason} (example: {example})")?;
        }
        Ok(())
    }
}

const COSMOS_EXAMPLE: &str =
    "AccountEndpoint=https://<account>.documents.azure.com:443/;AccountKey=<base64>";
const COSMOS_ENDPOINT_EXAMPLE: &str = "https://<account>.documents.azure.com:443/";
const BUS_EXAMPLE: &str = "Endpoint=sb://<namespace>.servicebus.windows.net/;SharedAccessKeyName=<rule>;SharedAccessKey=<key>";
const BUS_NAMESPACE_EXAMPLE: &str = "<namespace>.servicebus.windows.net";
const GRID_EXAMPLE: &str = "https://<topic>.<region>-1.eventgrid.azure.net/api/events";
const GUID_EXAMPLE: &str = "00000000-0000-0000-0000-000000000000";

impl CosmosConnection {
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
        settings.resolve(name, "accountEndpoint", COSMOS_ENDPOINT_EXAMPLE, |found, problems| {
            match found {
                Found::Text { setting, value } => {
                    let host = settings.get(COSMOS_EMULATOR_HOST);
                    Self::from_text(&setting, &value, host.as_deref(), problems)
                }
                Found::Section { prefix, endpoint } => {
                    let setting = format!("{prefix}__accountEndpoint");
                    let host = settings.get(COSMOS_EMULATOR_HOST);
                    let endpoint = cosmos_endpoint(&setting, &endpoint, host.as_deref(), problems);
                    let credential = settings.identity(&prefix, problems).map(Credential::Token);
                    Some(Self {
                        endpoint: endpoint?,
                        credential: credential?,
                        accept_emulator_certificate: false,
                    })
                }
            }
        })
    }

    /// Parses a connection string, e.g. `AccountEndpoint=https://…;AccountKey=…`.
    ///
    /// # Errors
    ///
    /// All problems of the string at once.
    pub fn from_connection_string(text: &str) -> Result<Self, ConnectionError> {
        parse_text("connection string", |setting, problems| {
            Self::from_text(setting, text, None, problems)
        })
    }

    fn from_text(
        setting: &str,
        text: &str,
        emulator_host: Option<&str>,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let parts = Parts::parse(setting, text, COSMOS_EXAMPLE, problems)?;
        let endpoint = parts
            .required("AccountEndpoint", COSMOS_EXAMPLE, problems)
            .and_then(|value| cosmos_endpoint(setting, value, emulator_host, problems));
        let key = parts.required("AccountKey", COSMOS_EXAMPLE, problems).and_then(|value| {
            if base64::engine::general_purpose::STANDARD.decode(value).is_err() {
                problems.push(problem(setting, "AccountKey is not base64", COSMOS_EXAMPLE));
                return None;
            }
            Some(Credential::Key(Secret::new(value.to_owned())))
        });
        let accept_emulator_certificate = parts
            .get("DisableServerCertificateValidation")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"));
        Some(Self { endpoint: endpoint?, credential: key?, accept_emulator_certificate })
    }
}

impl BusConnection {
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
        settings.resolve(
            name,
            "fullyQualifiedNamespace",
            BUS_NAMESPACE_EXAMPLE,
            |found, problems| match found {
                Found::Text { setting, value } => Self::from_text(&setting, &value, problems),
                Found::Section { prefix, endpoint } => {
                    let setting = format!("{prefix}__fullyQualifiedNamespace");
                    let host = namespace(&setting, &endpoint, problems);
                    let credential = settings.identity(&prefix, problems).map(Credential::Token);
                    Some(Self { host: host?, port: AMQPS_PORT, tls: true, credential: credential? })
                }
            },
        )
    }

    /// Parses a connection string, e.g. `Endpoint=sb://…/;SharedAccessKeyName=…;SharedAccessKey=…`.
    ///
    /// `UseDevelopmentEmulator=true` switches TLS off; a port in the endpoint is kept.
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
        let parts = Parts::parse(setting, text, BUS_EXAMPLE, problems)?;
        let emulator = parts
            .get("UseDevelopmentEmulator")
            .is_some_and(|value| value.eq_ignore_ascii_case("true"));
        if parts.get("TransportType").is_some_and(|value| !value.eq_ignore_ascii_case("Amqp")) {
            let reason = "TransportType must be Amqp: AMQP over WebSockets is not supported";
            problems.push(problem(setting, reason, BUS_EXAMPLE));
        }
        let address = parts
            .required("Endpoint", BUS_EXAMPLE, problems)
            .and_then(|value| bus_endpoint(setting, value, problems));
        let credential = match parts.get("SharedAccessSignature") {
            Some(signature) => {
                Some(Credential::SharedAccessSignature(Secret::new(signature.to_owned())))
            }
            None => {
                let name = parts.required("SharedAccessKeyName", BUS_EXAMPLE, problems);
                let key = parts.required("SharedAccessKey", BUS_EXAMPLE, problems);
                name.zip(key).map(|(name, key)| Credential::SharedAccessKey {
                    name: name.to_owned(),
                    key: Secret::new(key.to_owned()),
                })
            }
        };
        let (host, port) = address?;
        let default_port = if emulator { AMQP_PORT } else { AMQPS_PORT };
        Some(Self {
            host,
            port: port.unwrap_or(default_port),
            tls: !emulator,
            credential: credential?,
        })
    }
}

impl GridConnection {
    /// Resolves the connection `name` through `lookup`, which answers application settings:
    /// `<name>__topicEndpointUri`, as the Event Grid output binding has it, and either
    /// `<name>__key` or an identity. `None` if no endpoint is set.
    ///
    /// # Errors
    ///
    /// All problems of the connection at once.
    pub fn resolve(
        name: &str,
        lookup: impl Fn(&str) -> Option<String>,
    ) -> Result<Option<Self>, ConnectionError> {
        let settings = Settings { lookup: &lookup };
        let prefixes = [format!("AzureWebJobs{name}"), name.to_owned()];
        let found = prefixes.into_iter().find_map(|prefix| {
            let setting = format!("{prefix}__topicEndpointUri");
            let value = settings.get(&setting)?;
            Some((prefix, setting, value))
        });
        let Some((prefix, setting, value)) = found else { return Ok(None) };
        let mut problems = Vec::new();
        let endpoint = grid_endpoint(&setting, &value, &mut problems);
        let credential = match settings.get(&format!("{prefix}__key")) {
            Some(key) => Some(Credential::Key(Secret::new(key))),
            None => settings.identity(&prefix, &mut problems).map(Credential::Token),
        };
        match (endpoint, credential) {
            (Some(endpoint), Some(credential)) if problems.is_empty() => {
                Ok(Some(Self { endpoint, credential }))
            }
            _ => Err(ConnectionError { connection: name.to_owned(), problems }),
        }
    }
}

/// What a connection name led to.
pub(crate) enum Found {
    Text { setting: String, value: String },
    Section { prefix: String, endpoint: String },
}

pub(crate) struct Settings<'a> {
    pub(crate) lookup: &'a dyn Fn(&str) -> Option<String>,
}

impl Settings<'_> {
    /// An empty setting is one that is not set: that is how the portal clears a value.
    fn get(&self, setting: &str) -> Option<String> {
        (self.lookup)(setting).filter(|value| !value.trim().is_empty())
    }

    pub(crate) fn resolve<T>(
        &self,
        name: &str,
        endpoint_key: &str,
        endpoint_example: &'static str,
        build: impl FnOnce(Found, &mut Vec<Problem>) -> Option<T>,
    ) -> Result<T, ConnectionError> {
        let mut problems = Vec::new();
        for prefix in [format!("AzureWebJobs{name}"), name.to_owned()] {
            let endpoint = self.get(&format!("{prefix}__{endpoint_key}"));
            let found = match (self.get(&prefix), endpoint) {
                (Some(_), Some(_)) => {
                    let reason =
                        format!("a connection string and {prefix}__{endpoint_key} are both set");
                    problems.push(Problem {
                        setting: prefix,
                        reason,
                        example: "set one of the two",
                    });
                    break;
                }
                (Some(value), None) => Found::Text { setting: prefix, value },
                (None, Some(endpoint)) => Found::Section { prefix, endpoint },
                (None, None) => continue,
            };
            if let Some(built) = build(found, &mut problems)
                && problems.is_empty()
            {
                return Ok(built);
            }
            break;
        }
        if problems.is_empty() {
            problems.push(Problem {
                setting: format!("{name}__{endpoint_key}"),
                reason: format!("not set, and neither is a connection string {name}"),
                example: endpoint_example,
            });
        }
        Err(ConnectionError { connection: name.to_owned(), problems })
    }

    pub(crate) fn identity(&self, prefix: &str, problems: &mut Vec<Problem>) -> Option<Identity> {
        let key = |suffix: &str| format!("{prefix}__{suffix}");
        let client_id = self.get(&key("clientId"));
        let tenant_id = self.get(&key("tenantId"));
        let secret = self.get(&key("clientSecret"));
        match self.get(&key("credential")) {
            Some(kind) if kind.eq_ignore_ascii_case("managedidentity") => {
                return Some(match client_id {
                    Some(client_id) => Identity::UserAssigned { client_id },
                    None => Identity::SystemAssigned,
                });
            }
            Some(_) => {
                let reason = "the only supported value is managedidentity; leave it out otherwise";
                problems.push(problem(&key("credential"), reason, "managedidentity"));
                return None;
            }
            None => {}
        }
        match (tenant_id, client_id, secret) {
            (Some(tenant_id), Some(client_id), Some(secret)) => {
                Some(Identity::ClientSecret { tenant_id, client_id, secret: Secret::new(secret) })
            }
            (tenant_id, client_id, Some(_)) => {
                for (suffix, value) in [("tenantId", tenant_id), ("clientId", client_id)] {
                    if value.is_none() {
                        let reason = "needed together with clientSecret";
                        problems.push(problem(&key(suffix), reason, GUID_EXAMPLE));
                    }
                }
                None
            }
            (_, client_id, None) => Some(match (self.get(MANAGED_IDENTITY_ENDPOINT), client_id) {
                // The host asks the app's managed identity first when it runs in Azure and
                // nothing else is said.
                (Some(_), Some(client_id)) => Identity::UserAssigned { client_id },
                (Some(_), None) => Identity::SystemAssigned,
                (None, _) => Identity::Developer,
            }),
        }
    }
}

pub(crate) fn parse_text<T>(
    setting: &str,
    build: impl FnOnce(&str, &mut Vec<Problem>) -> Option<T>,
) -> Result<T, ConnectionError> {
    let mut problems = Vec::new();
    match build(setting, &mut problems) {
        Some(built) if problems.is_empty() => Ok(built),
        _ => Err(ConnectionError { connection: setting.to_owned(), problems }),
    }
}

pub(crate) fn problem(setting: &str, reason: &str, example: &'static str) -> Problem {
    Problem { setting: setting.to_owned(), reason: reason.to_owned(), example }
}

/// `Key=value;Key=value`. Keys are case-insensitive, values may contain `=`.
pub(crate) struct Parts<'a> {
    setting: &'a str,
    parts: Vec<(&'a str, &'a str)>,
}

impl<'a> Parts<'a> {
    pub(crate) fn parse(
        setting: &'a str,
        text: &'a str,
        example: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<Self> {
        let mut parts = Vec::new();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let Some((key, value)) = part.split_once('=') else {
                let reason = "not a connection string: a part has no '='";
                problems.push(problem(setting, reason, example));
                return None;
            };
            parts.push((key.trim(), value.trim()));
        }
        Some(Self { setting, parts })
    }

    pub(crate) fn get(&self, key: &str) -> Option<&'a str> {
        let found = self.parts.iter().find(|(k, _)| k.eq_ignore_ascii_case(key));
        found.map(|(_, value)| *value).filter(|value| !value.is_empty())
    }

    pub(crate) fn required(
        &self,
        key: &str,
        example: &'static str,
        problems: &mut Vec<Problem>,
    ) -> Option<&'a str> {
        let value = self.get(key);
        if value.is_none() {
            problems.push(problem(self.setting, &format!("{key} is missing"), example));
        }
        value
    }
}

fn cosmos_endpoint(
    setting: &str,
    value: &str,
    emulator_host: Option<&str>,
    problems: &mut Vec<Problem>,
) -> Option<Url> {
    let reason = match Url::parse(value) {
        Ok(url) if url.scheme() == "https" && url.has_host() => return Some(url),
        Ok(url) if url.scheme() == "http" && url.has_host() => {
            let host = url.host_str().unwrap_or_default();
            let emulator = emulator_host.is_some_and(|name| name.eq_ignore_ascii_case(host));
            if emulator || is_loopback(host) {
                return Some(url);
            }
            "http:// is accepted for an emulator on this machine only"
        }
        _ => "the account endpoint is not an https:// URL",
    };
    problems.push(problem(setting, reason, COSMOS_ENDPOINT_EXAMPLE));
    None
}

fn grid_endpoint(setting: &str, value: &str, problems: &mut Vec<Problem>) -> Option<Url> {
    let reason = match Url::parse(value) {
        Ok(url) if url.scheme() == "https" && url.has_host() => return Some(url),
        Ok(url) if url.scheme() == "http" => {
            if url.host_str().is_some_and(is_loopback) {
                return Some(url);
            }
            "http:// is accepted for a stand-in on this machine only"
        }
        _ => "the topic endpoint is not an https:// URL",
    };
    problems.push(problem(setting, reason, GRID_EXAMPLE));
    None
}

fn bus_endpoint(
    setting: &str,
    value: &str,
    problems: &mut Vec<Problem>,
) -> Option<(String, Option<u16>)> {
    if let Ok(url) = Url::parse(value)
        && matches!(url.scheme(), "sb" | "amqp" | "amqps")
        && let Some(host) = url.host_str().filter(|host| !host.is_empty())
    {
        return Some((host.to_owned(), url.port()));
    }
    problems.push(problem(setting, "Endpoint is not an sb:// URL", BUS_EXAMPLE));
    None
}

fn namespace(setting: &str, value: &str, problems: &mut Vec<Problem>) -> Option<String> {
    let value = value.trim();
    let valid = value.contains('.')
        && value.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'));
    if valid {
        return Some(value.to_owned());
    }
    let reason = "not a host name: no scheme, port or path belongs here";
    problems.push(problem(setting, reason, BUS_NAMESPACE_EXAMPLE));
    None
}

pub(crate) fn is_loopback(host: &str) -> bool {
    LOOPBACK_HOSTS.iter().any(|name| name.eq_ignore_ascii_case(host))
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
