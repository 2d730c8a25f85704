//! Connections to Cosmos DB accounts.
//!
//! Reference: <https://learn.microsoft.com/azure/azure-functions/functions-bindings-cosmosdb-v2-output>.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::Settings;
use super::lookup::{Endpoint, NotUsable, find, part};
use crate::error::Problem;

/// The setting a binding without a `connection` uses.
const DEFAULT: &str = "CosmosDB";

const EXAMPLE: &str = "AccountEndpoint=http://127.0.0.1:8081/;AccountKey=…";

/// Where an account is and how to be let in. `Debug` leaves the key out.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct CosmosConnection {
    /// Name of the setting it came from.
    pub(crate) setting: String,
    pub(crate) endpoint: Endpoint,
    pub(crate) key: Vec<u8>,
}

impl fmt::Debug for CosmosConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CosmosConnection({} -> {})", self.setting, self.endpoint.authority)
    }
}

/// Finds the connection `name` of a Cosmos DB binding.
pub(crate) fn account(name: &str, settings: &Settings) -> Result<CosmosConnection, Problem> {
    let name = if name.is_empty() { DEFAULT } else { name };
    let found = find(name, &["accountEndpoint"], "account", EXAMPLE, settings)?;
    let setting = found.setting;
    // The value is a secret: none of it may appear in a message.
    let broken = |why: &str| {
        Problem::new(
            format!("setting {setting} is not a Cosmos DB connection string"),
            why.to_owned(),
            format!("write {EXAMPLE}"),
        )
    };
    let url = part(found.text, "AccountEndpoint");
    let endpoint = match Endpoint::parse(url.ok_or_else(|| broken("it has no AccountEndpoint"))?) {
        Ok(endpoint) => endpoint,
        Err(NotUsable::NoUrl) => return Err(broken("its AccountEndpoint is not a URL")),
        Err(NotUsable::Tls) => {
            return Err(Problem::new(
                format!("setting {setting} points to an account that needs TLS"),
                "this local host speaks plain HTTP to a local account only",
                format!("write {EXAMPLE}; for an account in Azure run the app with func"),
            ));
        }
    };
    let key = part(found.text, "AccountKey").ok_or_else(|| broken("it has no AccountKey"))?;
    let key = BASE64.decode(key).map_err(|_| broken("its AccountKey is not base64"))?;
    Ok(CosmosConnection { setting, endpoint, key })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn local_accounts_only_and_no_secret_in_messages() {
        let find = |text: &str| {
            let values = [("Store".to_owned(), text.to_owned())];
            account("Store", &Settings::new(values.into_iter().collect()))
        };
        let found = find("AccountEndpoint=http://127.0.0.1:8081/;AccountKey=a2V5;").unwrap();
        assert_eq!(
            (found.endpoint.authority.as_str(), found.key.as_slice()),
            ("127.0.0.1:8081", &b"key"[..])
        );
        for (text, what) in [
            ("AccountEndpoint=https://x.documents.azure.com:443/;AccountKey=c2VjcmV0", "TLS"),
            ("AccountEndpoint=http://h:1/;AccountKey=%c2VjcmV0", "not a Cosmos DB"),
            ("AccountEndpoint=http://h:1/", "not a Cosmos DB"),
            ("AccountKey=c2VjcmV0", "not a Cosmos DB"),
        ] {
            let problem = find(text).unwrap_err();
            assert!(problem.what.contains(what), "{problem}");
            assert!(!problem.to_string().contains("c2VjcmV0"), "{problem}");
        }
    }
}
