//! The rule by which the `connection` of a binding is looked up in the settings.
//!
//! Reference: <https://learn.microsoft.com/azure/azure-functions/functions-reference#connections>.

use http::Uri;

use super::Settings;
use crate::error::Problem;

/// What was found for a connection.
pub(crate) struct Found<'a> {
    /// The name of the setting.
    pub(crate) setting: String,
    /// Its value, a connection string.
    pub(crate) text: &'a str,
}

/// Looks for `AzureWebJobs<name>`, then `<name>`, each as a string and then as a section with one
/// of `section_keys`, the way an identity is configured. `service` is for messages, and `example`
/// is the connection string to write instead.
pub(crate) fn find<'a>(
    name: &str,
    section_keys: &[&str],
    service: &str,
    example: &str,
    settings: &'a Settings,
) -> Result<Found<'a>, Problem> {
    for setting in [format!("AzureWebJobs{name}"), name.to_owned()] {
        if let Some(text) = settings.get(&setting).filter(|text| !text.trim().is_empty()) {
            return Ok(Found { setting, text });
        }
        for key in section_keys {
            for separator in ["__", ":"] {
                let key = format!("{setting}{separator}{key}");
                if settings.get(&key).is_some() {
                    return Err(Problem::new(
                        format!("connection '{name}' is identity based ({key})"),
                        "this local host has no identity to sign in with",
                        format!(
                            "set {setting} to the connection string of the local {service} \
                             ({example}) and remove {key} here"
                        ),
                    ));
                }
            }
        }
    }
    Err(Problem::new(
        format!("connection '{name}' has no setting"),
        format!("neither AzureWebJobs{name} nor {name} is set, and no section {name}__… either"),
        format!("add {name} to local.settings.json (Values) or to the environment, e.g. {example}"),
    ))
}

/// The value of `wanted` in a connection string; empty counts as missing.
pub(crate) fn part<'a>(text: &'a str, wanted: &str) -> Option<&'a str> {
    text.split(';')
        .filter_map(|pair| pair.split_once('='))
        .find(|(key, _)| key.trim().eq_ignore_ascii_case(wanted))
        .map(|(_, value)| value.trim())
        .filter(|value| !value.is_empty())
}

/// Where a service listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// `host:port`.
    pub(crate) authority: String,
    /// What every path starts with, without a trailing slash; may be empty.
    pub(crate) path: String,
}

impl Endpoint {
    /// Reads a URL without TLS; the error says what is wrong with it.
    pub(crate) fn parse(url: &str) -> Result<Self, NotUsable> {
        let uri: Uri = url.parse().map_err(|_| NotUsable::NoUrl)?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => return Err(NotUsable::Tls),
            _ => return Err(NotUsable::NoUrl),
        }
        let authority = uri.authority().ok_or(NotUsable::NoUrl)?.to_string();
        Ok(Self { authority, path: uri.path().trim_end_matches('/').to_owned() })
    }
}

/// Why an endpoint cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotUsable {
    NoUrl,
    Tls,
}
