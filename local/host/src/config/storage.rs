//! Connections to Storage queues: connection strings, and the emulator's short form.
//!
//! Reference: <https://learn.microsoft.com/azure/storage/common/storage-configure-connection-string>.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::Settings;
use super::lookup::{Endpoint, NotUsable, find, part};
use crate::error::Problem;

/// The setting a binding without a `connection` uses.
const DEFAULT: &str = "AzureWebJobsStorage";

/// Account and key of every Storage emulator, published by Microsoft and therefore no secret.
const EMULATOR_ACCOUNT: &str = "devstoreaccount1";
const EMULATOR_KEY: &str =
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==";
/// Where the emulator's queue service listens.
const EMULATOR_QUEUES: &str = "http://127.0.0.1:10001/devstoreaccount1";

const EXAMPLE: &str = "UseDevelopmentStorage=true";

/// Where a queue service is and how to be let in. `Debug` leaves the key out.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct StorageConnection {
    /// Name of the setting it came from.
    pub(crate) setting: String,
    pub(crate) endpoint: Endpoint,
    pub(crate) account: String,
    pub(crate) key: Vec<u8>,
}

impl fmt::Debug for StorageConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StorageConnection({} -> {})", self.setting, self.endpoint.authority)
    }
}

/// Finds the connection `name` of a queue binding.
pub(crate) fn queues(name: &str, settings: &Settings) -> Result<StorageConnection, Problem> {
    let name = if name.is_empty() { DEFAULT } else { name };
    let keys = ["queueServiceUri", "serviceUri", "accountName"];
    let found = find(name, &keys, "queue service", EXAMPLE, settings)?;
    parse(found.setting, found.text)
}

fn parse(setting: String, text: &str) -> Result<StorageConnection, Problem> {
    // The value is a secret: none of it may appear in a message.
    let broken = |why: &str| {
        Problem::new(
            format!("setting {setting} is not a connection string for queues"),
            why.to_owned(),
            format!(
                "write {EXAMPLE}, or AccountName=…;AccountKey=…;\
                 QueueEndpoint=http://127.0.0.1:10001/<account>"
            ),
        )
    };
    let emulator =
        part(text, "UseDevelopmentStorage").is_some_and(|flag| flag.eq_ignore_ascii_case("true"));
    let url = part(text, "QueueEndpoint").or(emulator.then_some(EMULATOR_QUEUES));
    let endpoint = match url.map(Endpoint::parse) {
        Some(Ok(endpoint)) => endpoint,
        Some(Err(NotUsable::NoUrl)) => return Err(broken("its QueueEndpoint is not a URL")),
        None if part(text, "AccountName").is_none() => {
            return Err(broken("it has neither QueueEndpoint nor AccountName"));
        }
        None | Some(Err(NotUsable::Tls)) => {
            return Err(Problem::new(
                format!("setting {setting} points to a queue service that needs TLS"),
                "this local host speaks plain HTTP to a local queue service only",
                format!(
                    "write {EXAMPLE} or give QueueEndpoint=http://127.0.0.1:<port>/<account>; for \
                     queues in Azure run the app with func or deploy it"
                ),
            ));
        }
    };
    let account = part(text, "AccountName")
        .or(emulator.then_some(EMULATOR_ACCOUNT))
        .ok_or_else(|| broken("it has no AccountName"))?;
    let key = part(text, "AccountKey").or(emulator.then_some(EMULATOR_KEY));
    let key = key.ok_or_else(|| broken("it has no AccountKey (SAS tokens are not supported)"))?;
    let key = BASE64.decode(key).map_err(|_| broken("its AccountKey is not base64"))?;
    Ok(StorageConnection { setting, endpoint, account: account.to_owned(), key })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(name: &str, pairs: &[(&str, &str)]) -> Result<StorageConnection, Problem> {
        let values = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        queues(name, &Settings::new(values))
    }

    #[test]
    fn the_emulator_and_any_local_endpoint_are_found() {
        let found = find("", &[("AzureWebJobsStorage", "UseDevelopmentStorage=true")]).unwrap();
        assert_eq!(found.endpoint.authority, "127.0.0.1:10001");
        assert_eq!((found.endpoint.path.as_str(), found.key.len()), ("/devstoreaccount1", 64));
        let text = "DefaultEndpointsProtocol=http;AccountName=acc;AccountKey=a2V5LWJ5dGU=;\
                    QueueEndpoint=http://localhost:4321/acc/;";
        let found = find("Pay", &[("AzureWebJobsPay", text), ("Pay", "x")]).unwrap();
        assert_eq!(found.setting, "AzureWebJobsPay");
        assert_eq!((found.endpoint.path.as_str(), found.account.as_str()), ("/acc", "acc"));
        assert_eq!(found.key, b"key-byte");
        assert!(!format!("{found:?}").contains("a2V5"), "a key must not be printed");
    }

    #[test]
    fn what_cannot_work_here_says_why_and_what_to_do_without_the_secret() {
        let remote = "DefaultEndpointsProtocol=https;AccountName=acc;AccountKey=c2VjcmV0";
        let no_key = "AccountName=acc;QueueEndpoint=http://h:1/acc";
        let bad_key = "AccountName=acc;AccountKey=***;QueueEndpoint=http://h:1/acc";
        for (pairs, what, fix) in [
            (vec![], "has no setting", "local.settings.json"),
            (vec![("Pay__queueServiceUri", "https://x")], "identity based", "remove"),
            (vec![("Pay__accountName", "x")], "Pay__accountName", "UseDevelopmentStorage"),
            (vec![("Pay", remote)], "TLS", "QueueEndpoint"),
            (vec![("Pay", "nonsense")], "not a connection string", "AccountName"),
            (vec![("Pay", no_key)], "not a connection string", "AccountKey"),
            (vec![("Pay", bad_key)], "not a connection string", "AccountKey"),
        ] {
            let problem = find("Pay", &pairs).unwrap_err();
            assert!(problem.what.contains(what) && problem.fix.contains(fix), "{problem}");
            assert!(!problem.to_string().contains("c2VjcmV0"), "{problem}");
        }
    }
}
