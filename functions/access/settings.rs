//! The settings of access; see [`crate::settings`] for how they are read.
//!
//! | setting | in mode | meaning |
//! | --- | --- | --- |
//! | `AUTH_MODE` | | `development`, `easy-auth` or `bearer` |
//! | `AUTH_ISSUER` | `bearer` | claim `iss` of every token |
//! | `AUTH_AUDIENCE` | `bearer` | claim `aud` of every token |
//! | `AUTH_JWKS_URL` | `bearer` | where the issuer publishes its keys |
//! | `AUTH_CUSTOMER_CLAIM` | `easy-auth`, `bearer` | claim with the customer's id; `oid`, else `sub` |

use reqwest::Url;

/// Who vouches for principals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AccessSettings {
    /// Nobody.
    Development,
    /// App Service Authentication.
    EasyAuth {
        /// The claim that holds the customer's id, if not the principal's own.
        customer_claim: Option<String>,
    },
    /// An issuer, whose tokens the handler validates.
    Bearer(BearerSettings),
}

/// An issuer and what its tokens have to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BearerSettings {
    /// Claim `iss`.
    pub issuer: String,
    /// Claim `aud`.
    pub audience: String,
    /// Where the keys are.
    pub jwks: Url,
    /// The claim that holds the customer's id, if not the principal's own.
    pub customer_claim: Option<String>,
}

impl AccessSettings {
    /// Reads the settings through `look_up`; what is wrong with them goes to `problems`. On Azure
    /// the mode has to be chosen, and cannot be `development`.
    pub fn resolve(
        look_up: impl Fn(&str) -> Option<String>,
        problems: &mut Vec<String>,
    ) -> Option<Self> {
        let set = |name: &str| look_up(name).filter(|value| !value.is_empty());
        let known = problems.len();
        let customer_claim = set("AUTH_CUSTOMER_CLAIM");
        let mode = match set("AUTH_MODE").as_deref() {
            None | Some("development") if is_azure(set) => {
                let why = "AUTH_MODE must be easy-auth or bearer on Azure";
                problems.push(why.to_owned());
                return None;
            }
            None | Some("development") => Self::Development,
            Some("easy-auth") => Self::EasyAuth { customer_claim },
            Some("bearer") => {
                let mut required = |name: &str, example: &str| {
                    set(name).or_else(|| {
                        problems.push(format!("{name} is missing; e.g. {example}"));
                        None
                    })
                };
                let issuer =
                    required("AUTH_ISSUER", "https://login.microsoftonline.com/<tenant>/v2.0");
                let audience = required("AUTH_AUDIENCE", "api://<client id>");
                let jwks = set("AUTH_JWKS_URL").and_then(|text| jwks_url(&text));
                if jwks.is_none() {
                    let why = "AUTH_JWKS_URL must be an https address, or http on 127.0.0.1; e.g. \
                        https://login.microsoftonline.com/<tenant>/discovery/v2.0/keys";
                    problems.push(why.to_owned());
                }
                Self::Bearer(BearerSettings {
                    issuer: issuer?,
                    audience: audience?,
                    jwks: jwks?,
                    customer_claim,
                })
            }
            Some(_) => {
                problems.push("AUTH_MODE must be development, easy-auth or bearer".to_owned());
                return None;
            }
        };
        (problems.len() == known).then_some(mode)
    }
}

/// Keys that come over a line that others can write to are worth nothing.
fn jwks_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let safe = url.scheme() == "https"
        || url.scheme() == "http" && matches!(url.host_str(), Some("127.0.0.1" | "[::1]"));
    (safe && url.username().is_empty() && url.password().is_none()).then_some(url)
}

/// Whether the process runs on Azure, by the same variables as the Functions host: an instance id
/// on App Service plans, a container's name with a site's on the consumption plans.
fn is_azure(set: impl Fn(&str) -> Option<String>) -> bool {
    let has = |name| set(name).is_some();
    has("WEBSITE_INSTANCE_ID") || has("WEBSITE_SITE_NAME") && has("CONTAINER_NAME")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resolve(set: &[(&str, &str)]) -> Result<AccessSettings, Vec<String>> {
        let mut problems = Vec::new();
        let look_up = |name: &str| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let settings = AccessSettings::resolve(look_up, &mut problems);
        assert_eq!(settings.is_some(), problems.is_empty(), "{problems:?}");
        settings.ok_or(problems)
    }

    #[test]
    fn development_is_for_desks() {
        assert_eq!(resolve(&[]), Ok(AccessSettings::Development));
        assert_eq!(resolve(&[("AUTH_MODE", "development")]), Ok(AccessSettings::Development));
        for azure in [
            &[("WEBSITE_INSTANCE_ID", "i")][..],
            &[("WEBSITE_SITE_NAME", "s"), ("CONTAINER_NAME", "c")],
        ] {
            assert!(resolve(azure).is_err(), "an app nobody configured is closed");
            let chosen = [azure, &[("AUTH_MODE", "development")]].concat();
            assert!(resolve(&chosen).is_err());
            let closed = [azure, &[("AUTH_MODE", "easy-auth")]].concat();
            assert_eq!(resolve(&closed), Ok(AccessSettings::EasyAuth { customer_claim: None }));
        }
        assert!(resolve(&[("AUTH_MODE", "off")]).is_err());
    }

    #[test]
    fn an_issuer_is_named_whole_and_its_keys_come_over_a_safe_line() {
        assert_eq!(resolve(&[("AUTH_MODE", "bearer")]).unwrap_err().len(), 3, "all at once");
        let with = |url| {
            resolve(&[
                ("AUTH_MODE", "bearer"),
                ("AUTH_ISSUER", "https://issuer.example/"),
                ("AUTH_AUDIENCE", "api://bulkhead"),
                ("AUTH_JWKS_URL", url),
                ("AUTH_CUSTOMER_CLAIM", "customer"),
            ])
        };
        for url in ["https://issuer.example/keys", "http://127.0.0.1:9/keys", "http://[::1]:9/"] {
            assert!(matches!(with(url), Ok(AccessSettings::Bearer(_))), "{url}");
        }
        for url in [
            "",
            "keys",
            "http://issuer.example/keys",
            "http://127.0.0.1.example/keys",
            "http://localhost/keys",
            "https://user:secret@issuer.example/keys",
            "file:///keys",
        ] {
            assert!(with(url).is_err(), "{url}");
        }
    }
}
