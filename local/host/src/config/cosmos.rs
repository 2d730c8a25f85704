//! `cosmosDBTrigger`: its keys in `function.json`, and the connection they name.
//!
//! Reference: <https://learn.microsoft.com/azure/azure-functions/functions-bindings-cosmosdb-v2-trigger>
//! and `CosmosDBTriggerAttribute` of the extension, version 4.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use time::format_description::well_known::Iso8601;
use time::{OffsetDateTime, PrimitiveDateTime};

use super::Settings;
use super::json::Section;
use crate::error::Problem;

/// Names of version 3 of the extension. They have no effect in version 4, silently.
const RENAMED: [(&str, &str); 9] = [
    ("collectionName", "containerName"),
    ("connectionStringSetting", "connection"),
    ("leaseCollectionName", "leaseContainerName"),
    ("leaseCollectionPrefix", "leaseContainerPrefix"),
    ("leaseConnectionStringSetting", "leaseConnection"),
    ("createLeaseCollectionIfNotExists", "createLeaseContainerIfNotExists"),
    ("leasesCollectionThroughput", "leasesContainerThroughput"),
    ("checkpointInterval", "maxItemsPerInvocation"),
    ("checkpointDocumentCount", "maxItemsPerInvocation"),
];

/// `cosmosDBTrigger`.
#[derive(Debug, Clone)]
pub(crate) struct CosmosDbTrigger {
    /// Whose changes are read.
    pub(crate) monitored: ContainerAddress,
    /// Where the leases are.
    pub(crate) leases: ContainerAddress,
    /// Distinguishes functions that share the lease container.
    pub(crate) lease_prefix: String,
    pub(crate) create_leases: bool,
    /// Of the lease container, when it is created; in request units per second.
    pub(crate) lease_throughput: Option<u32>,
    pub(crate) poll_delay: Duration,
    pub(crate) acquire_interval: Duration,
    pub(crate) renew_interval: Duration,
    pub(crate) expiration: Duration,
    pub(crate) max_items: Option<u32>,
    /// Where to begin when there is no lease yet.
    pub(crate) start: FirstStart,
}

/// Where a function begins that has never run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstStart {
    Now,
    Beginning,
    Time(OffsetDateTime),
}

/// A container and the account it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerAddress {
    pub(crate) account: CosmosConnection,
    pub(crate) database: String,
    pub(crate) container: String,
}

impl fmt::Display for ContainerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.database, self.container)
    }
}

/// Where an account is and how to be let in. `Debug` leaves the key out.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct CosmosConnection {
    /// Name of the setting it came from.
    pub(crate) setting: String,
    /// `host:port`.
    pub(crate) authority: String,
    pub(crate) key: Vec<u8>,
}

impl CosmosConnection {
    /// Without the port.
    pub(crate) fn host(&self) -> &str {
        self.authority.rsplit_once(':').map_or(self.authority.as_str(), |(host, _)| host)
    }
}

impl fmt::Debug for CosmosConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CosmosConnection({} -> {})", self.setting, self.authority)
    }
}

/// Reads the binding. `None` when `problems` says why it is not usable.
pub(super) fn trigger(
    path: &str,
    section: &Section<'_>,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Option<CosmosDbTrigger> {
    for (old, new) in RENAMED {
        if section.get(old).is_some() {
            problems.push(Problem::new(
                format!("{path}: {old} is a name of version 3 of the extension"),
                "version 4, which the bundle [4.*, 5.0.0) brings, ignores it",
                format!("write \"{new}\""),
            ));
        }
    }
    let mode = section.text("changeFeedMode", problems).unwrap_or_default();
    if !mode.is_empty() && !mode.eq_ignore_ascii_case("LatestVersion") {
        problems.push(Problem::new(
            format!("{path}: changeFeedMode is \"{mode}\""),
            "this host reads the latest version of each document only",
            "remove it, or run the app with func",
        ));
    }
    let mut required = |name: &str| {
        let text = section.text(name, problems).filter(|text| !text.trim().is_empty());
        if text.is_none() {
            problems.push(Problem::new(
                format!("{path}: {name} is missing"),
                "a cosmosDBTrigger reads the changes of one container",
                format!("write \"{name}\": \"…\""),
            ));
        }
        text
    };
    let (database, container) = (required("databaseName"), required("containerName"));
    let names = ["connection", "leaseConnection"].map(|name| section.text(name, problems));
    let mut connection = |name: &str| match find(name, settings) {
        Ok(connection) => Some(connection),
        Err(mut problem) => {
            problem.what = format!("{path}: {}", problem.what);
            problems.push(problem);
            None
        }
    };
    let [name, lease_name] = names.map(Option::unwrap_or_default);
    let account = connection(&name);
    let lease_account = match lease_name.is_empty() {
        true => account.clone(),
        false => connection(&lease_name),
    };
    let millis = |name: &str, default: u32, problems: &mut Vec<Problem>| {
        Duration::from_millis(section.count(name, default, 1, problems).into())
    };
    let (renew_interval, expiration) = (
        millis("leaseRenewInterval", 17_000, problems),
        millis("leaseExpirationInterval", 60_000, problems),
    );
    if renew_interval >= expiration {
        problems.push(Problem::new(
            format!("{path}: leaseRenewInterval is not below leaseExpirationInterval"),
            "a lease would expire before it is renewed, and two hosts would do the same work",
            "keep the interval at a third of the expiration or less",
        ));
    }
    let some = |name: &str, problems: &mut Vec<Problem>| {
        Some(section.count(name, 0, 0, problems)).filter(|count| *count > 0)
    };
    let poll_delay = millis("feedPollDelay", 5_000, problems);
    let acquire_interval = millis("leaseAcquireInterval", 13_000, problems);
    let (max_items, lease_throughput) =
        (some("maxItemsPerInvocation", problems), some("leasesContainerThroughput", problems));
    let create_leases = section.flag("createLeaseContainerIfNotExists", false, problems);
    let start = first_start(path, section, problems);
    let mut optional = |name: &str| section.text(name, problems).filter(|text| !text.is_empty());
    let (lease_database, lease_container) =
        (optional("leaseDatabaseName"), optional("leaseContainerName"));
    let lease_prefix = optional("leaseContainerPrefix").unwrap_or_default();
    let monitored =
        ContainerAddress { account: account?, database: database?, container: container? };
    let leases = ContainerAddress {
        account: lease_account?,
        database: lease_database.unwrap_or_else(|| monitored.database.clone()),
        container: lease_container.unwrap_or_else(|| "leases".to_owned()),
    };
    if monitored.account.authority == leases.account.authority
        && (&monitored.database, &monitored.container) == (&leases.database, &leases.container)
    {
        problems.push(Problem::new(
            format!("{path}: {monitored} is to hold its own leases"),
            "every lease that is written would be a change, and every change writes a lease",
            "name another container in \"leaseContainerName\"",
        ));
    }
    Some(CosmosDbTrigger {
        monitored,
        leases,
        lease_prefix,
        create_leases,
        lease_throughput,
        poll_delay,
        acquire_interval,
        renew_interval,
        expiration,
        max_items,
        start,
    })
}

fn first_start(path: &str, section: &Section<'_>, problems: &mut Vec<Problem>) -> FirstStart {
    let beginning = section.flag("startFromBeginning", false, problems);
    let time = section.text("startFromTime", problems).filter(|text| !text.trim().is_empty());
    let Some(text) = time else {
        return if beginning { FirstStart::Beginning } else { FirstStart::Now };
    };
    if beginning {
        problems.push(Problem::new(
            format!("{path}: startFromBeginning and startFromTime are both given"),
            "a function begins at one place",
            "remove one of them",
        ));
    }
    let parsed = OffsetDateTime::parse(&text, &Iso8601::DEFAULT).or_else(|_| {
        PrimitiveDateTime::parse(&text, &Iso8601::DEFAULT).map(PrimitiveDateTime::assume_utc)
    });
    match parsed {
        Ok(time) => FirstStart::Time(time),
        Err(_) => {
            problems.push(Problem::new(
                format!("{path}: startFromTime is \"{text}\""),
                "it is a date and time of ISO 8601",
                "write e.g. \"2026-03-01T10:00:00Z\"",
            ));
            FirstStart::Now
        }
    }
}

/// Finds the connection `name`: the setting `AzureWebJobs<name>`, then `<name>`, as a string or as
/// a section.
pub(super) fn find(name: &str, settings: &Settings) -> Result<CosmosConnection, Problem> {
    let name = if name.is_empty() { "CosmosDB" } else { name };
    for setting in [format!("AzureWebJobs{name}"), name.to_owned()] {
        if let Some(text) = settings.get(&setting).filter(|text| !text.trim().is_empty()) {
            return parse(&setting, text);
        }
        for separator in ["__", ":"] {
            let part = |part: &str| settings.get(&format!("{setting}{separator}{part}"));
            let Some(endpoint) = part("accountEndpoint") else { continue };
            return match part("accountKey") {
                Some(key) => connection(&format!("{setting}{separator}…"), endpoint, key),
                None => Err(Problem::new(
                    format!("connection '{name}' is identity based ({setting}{separator}…)"),
                    "this local host has no identity to sign in with, and there is no \
                     accountKey beside the accountEndpoint",
                    format!(
                        "set {setting} to the connection string of the local account \
                         (AccountEndpoint=http://127.0.0.1:<port>/;AccountKey=…), and keep the \
                         section for Azure"
                    ),
                )),
            };
        }
    }
    Err(Problem::new(
        format!("connection '{name}' has no setting"),
        format!("neither AzureWebJobs{name} nor {name} is set, and no section {name}__… either"),
        format!("add {name} to local.settings.json (Values) or to the environment"),
    ))
}

fn parse(setting: &str, text: &str) -> Result<CosmosConnection, Problem> {
    let part = |wanted: &str| {
        text.split(';')
            .filter_map(|pair| pair.split_once('='))
            .find(|(key, _)| key.trim().eq_ignore_ascii_case(wanted))
            .map(|(_, value)| value.trim())
    };
    let endpoint = part("AccountEndpoint").ok_or_else(|| broken(setting, "no AccountEndpoint"))?;
    let key = part("AccountKey").ok_or_else(|| broken(setting, "no AccountKey"))?;
    connection(setting, endpoint, key)
}

fn connection(setting: &str, endpoint: &str, key: &str) -> Result<CosmosConnection, Problem> {
    let (scheme, rest) =
        endpoint.split_once("://").ok_or_else(|| broken(setting, "no URL as its endpoint"))?;
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(Problem::new(
            format!("setting {setting} points to an account that needs TLS"),
            "this local host speaks plain HTTP to a local account only",
            "write http:// if the account is local; for an account in Azure run the app with \
             func or deploy it",
        ));
    }
    let authority = rest.trim_end_matches('/');
    if authority.is_empty() || authority.contains(['/', '@', '?', '#']) {
        return Err(broken(setting, "no host and port as its endpoint"));
    }
    let key = BASE64.decode(key.trim()).ok().filter(|key| !key.is_empty());
    Ok(CosmosConnection {
        setting: setting.to_owned(),
        authority: authority.to_owned(),
        key: key.ok_or_else(|| broken(setting, "no Base64 as its key"))?,
    })
}

/// The value holds a secret: none of it may appear in a message.
fn broken(setting: &str, has: &str) -> Problem {
    Problem::new(
        format!("setting {setting} is not a Cosmos DB connection string"),
        format!("it has {has}"),
        "write AccountEndpoint=http://127.0.0.1:8081/;AccountKey=…",
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const LOCAL: &str = "AccountEndpoint=http://127.0.0.1:8081/;AccountKey=c2VjcmV0PT0=;";

    fn read(binding: &Value, pairs: &[(&str, &str)]) -> (Option<CosmosDbTrigger>, String) {
        let values = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let section = Section::root("f", binding.as_object().unwrap());
        let mut problems = Vec::new();
        let trigger = trigger("f", &section, &Settings::new(values), &mut problems);
        (trigger, problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    }

    #[test]
    fn defaults_are_those_of_the_extension() {
        let binding = json!({ "databaseName": "shop", "containerName": "orders" });
        let (found, problems) = read(&binding, &[("AzureWebJobsCosmosDB", LOCAL)]);
        assert_eq!(problems, "");
        let found = found.unwrap();
        assert_eq!(found.monitored.to_string(), "shop/orders");
        assert_eq!(found.leases.to_string(), "shop/leases");
        assert_eq!(found.leases.account, found.monitored.account);
        assert_eq!(found.monitored.account.authority, "127.0.0.1:8081");
        assert_eq!(found.monitored.account.host(), "127.0.0.1");
        assert_eq!(found.monitored.account.key, b"secret==");
        assert!(!format!("{found:?}").contains("secret") && found.lease_prefix.is_empty());
        let millis =
            [found.poll_delay, found.acquire_interval, found.renew_interval, found.expiration]
                .map(|interval| interval.as_millis());
        assert_eq!(millis, [5_000, 13_000, 17_000, 60_000]);
        assert_eq!(
            (found.max_items, found.lease_throughput, found.start),
            (None, None, FirstStart::Now)
        );
        assert!(!found.create_leases);
    }

    #[test]
    fn every_key_is_read() {
        let binding = json!({
            "databaseName": "shop", "containerName": "orders", "connection": "A",
            "leaseConnection": "B", "leaseDatabaseName": "work", "leaseContainerName": "held",
            "createLeaseContainerIfNotExists": true, "leasesContainerThroughput": 400,
            "leaseContainerPrefix": "relay", "feedPollDelay": 100, "leaseAcquireInterval": 1,
            "leaseExpirationInterval": 30, "leaseRenewInterval": "10",
            "maxItemsPerInvocation": 25, "startFromTime": "2026-03-01T10:00:00+02:00",
            "preferredLocations": "West Europe"
        });
        let other = "AccountEndpoint=http://localhost:9/;AccountKey=YQ==";
        let (found, problems) = read(&binding, &[("A", LOCAL), ("B", other)]);
        assert_eq!(problems, "");
        let found = found.unwrap();
        assert_eq!(found.leases.to_string(), "work/held");
        assert_eq!(
            (found.leases.account.setting.as_str(), found.leases.account.host()),
            ("B", "localhost")
        );
        assert_eq!((found.lease_prefix.as_str(), found.create_leases), ("relay", true));
        assert_eq!((found.max_items, found.lease_throughput), (Some(25), Some(400)));
        let start = time::macros::datetime!(2026-03-01 08:00 UTC);
        assert_eq!(found.start, FirstStart::Time(start));
    }

    #[test]
    fn what_cannot_work_says_why_without_the_secret() {
        let orders = json!({ "databaseName": "shop", "containerName": "orders" });
        let with = |more: Value| {
            let mut binding = orders.clone();
            binding.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            binding
        };
        let https = LOCAL.replace("http:", "https:");
        for (binding, pairs, parts) in [
            (
                json!({}),
                vec![("CosmosDB", LOCAL)],
                vec!["databaseName is missing", "containerName is missing"],
            ),
            (orders.clone(), vec![], vec!["has no setting", "local.settings.json"]),
            (
                orders.clone(),
                vec![("CosmosDB__accountEndpoint", "https://x.documents.azure.com:443/")],
                vec!["identity", "no accountKey", "AccountEndpoint=http://"],
            ),
            (orders.clone(), vec![("CosmosDB", https.as_str())], vec!["TLS"]),
            (orders.clone(), vec![("CosmosDB", "x")], vec!["no AccountEndpoint"]),
            (
                orders.clone(),
                vec![("CosmosDB", "AccountEndpoint=http://h/;AccountKey=%")],
                vec!["no Base64"],
            ),
            (
                with(json!({ "collectionName": "c" })),
                vec![("CosmosDB", LOCAL)],
                vec!["write \"containerName\""],
            ),
            (
                with(json!({ "changeFeedMode": "AllVersionsAndDeletes" })),
                vec![("CosmosDB", LOCAL)],
                vec!["latest version"],
            ),
            (
                with(json!({ "leaseContainerName": "orders" })),
                vec![("CosmosDB", LOCAL)],
                vec!["its own leases"],
            ),
            (
                with(json!({ "leaseRenewInterval": 60_000 })),
                vec![("CosmosDB", LOCAL)],
                vec!["expire before"],
            ),
            (
                with(json!({ "startFromBeginning": true, "startFromTime": "soon" })),
                vec![("CosmosDB", LOCAL)],
                vec!["both given", "startFromTime is \"soon\""],
            ),
            (
                with(json!({ "feedPollDelay": 0 })),
                vec![("CosmosDB", LOCAL)],
                vec!["feedPollDelay is 0"],
            ),
        ] {
            let (_, problems) = read(&binding, &pairs);
            for part in parts {
                assert!(problems.contains(part), "{part} in {problems}");
            }
            assert!(!problems.contains("c2Vj"), "{problems}");
        }
        let section =
            [("CosmosDB__accountEndpoint", "http://h:1"), ("CosmosDB__accountKey", "YQ==")];
        let (found, problems) = read(&orders, &section);
        assert_eq!(
            (found.unwrap().monitored.account.authority.as_str(), problems.as_str()),
            ("h:1", "")
        );
    }
}
