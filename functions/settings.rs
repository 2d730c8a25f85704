//! Settings: environment variables to typed values, every problem reported at once.
//!
//! | setting | apps | meaning |
//! | --- | --- | --- |
//! | `OrdersStore` or `OrdersStore__accountEndpoint` | all | Cosmos DB account |
//! | `OrdersBus` or `OrdersBus__fullyQualifiedNamespace` | order-api; triggers | Service Bus |
//! | `FAULTS_ALLOWED` | order-api | whether an order may ask for failures |
//! | `LOG_FORMAT` | all | `text` or `json` |
//! | `RUST_LOG` | all | log filter |
//!
//! The same names serve the Functions host for its trigger connections. Variables that belong to
//! the host are read by the `handler` crate.

use azure::connection::{BusConnection, CosmosConnection};
use handler::logging::Format;

use crate::topology::TOPOLOGY;

/// Log filter where the settings have none. The store's driver reports each connection at `info`.
const LOG_FILTER_DEFAULT: &str = "info,azure_data_cosmos_driver=warn";

/// Every setting that this package reads itself; connections are listed by their base name.
/// `local.settings.json.example` is held to this list by a test.
pub const NAMES: [&str; 5] =
    ["OrdersStore", "OrdersBus", "FAULTS_ALLOWED", "LOG_FORMAT", "RUST_LOG"];

/// Typed settings.
#[derive(Debug)]
pub struct Settings {
    /// The account that holds the orders.
    pub store: CosmosConnection,
    /// The namespace that events are published to; only for an app that publishes.
    pub bus: Option<BusConnection>,
    /// Whether an order may ask for failures.
    pub faults_allowed: bool,
    /// How log lines look.
    pub log_format: Format,
    /// Log filter, as `tracing` reads it.
    pub log_filter: String,
}

/// What is wrong with the settings, all of it.
#[derive(Debug, thiserror::Error)]
#[error("the settings cannot be used:{}", .0.iter().map(|p| format!("\n  - {p}")).collect::<String>())]
pub struct SettingsError(pub Vec<String>);

impl Settings {
    /// Reads the settings of this process.
    ///
    /// # Errors
    /// At least one is missing or unusable; the error names each with what would be usable.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn from_env(publishes: bool) -> Result<Self, SettingsError> {
        Self::resolve(publishes, |name| std::env::var(name).ok())
    }

    /// Reads settings through `look_up`; `publishes` says whether the app needs the bus itself.
    ///
    /// # Errors
    /// At least one is missing or unusable.
    pub fn resolve(
        publishes: bool,
        look_up: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let mut problems = Vec::new();
        let store = CosmosConnection::resolve(&TOPOLOGY.cosmos.connection, &look_up)
            .map_err(|error| problems.push(error.to_string()))
            .ok();
        let bus = publishes
            .then(|| BusConnection::resolve(&TOPOLOGY.service_bus.connection, &look_up))
            .transpose()
            .map_err(|error| problems.push(error.to_string()))
            .ok()
            .flatten();
        let faults_allowed = match look_up("FAULTS_ALLOWED").as_deref() {
            None | Some("" | "false" | "0") => false,
            Some("true" | "1") => true,
            Some(_) => {
                problems.push("FAULTS_ALLOWED must be true or false".to_owned());
                false
            }
        };
        let log_format = match look_up("LOG_FORMAT").as_deref() {
            None | Some("" | "text") => Format::Text,
            Some("json") => Format::Json,
            Some(_) => {
                problems.push("LOG_FORMAT must be text or json".to_owned());
                Format::Text
            }
        };
        match store {
            Some(store) if problems.is_empty() => {
                let log_filter = look_up("RUST_LOG").filter(|filter| !filter.is_empty());
                let log_filter = log_filter.unwrap_or_else(|| LOG_FILTER_DEFAULT.to_owned());
                Ok(Self { store, bus, faults_allowed, log_format, log_filter })
            }
            _ => Err(SettingsError(problems)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: &str = "AccountEndpoint=http://127.0.0.1:8081/;AccountKey=a2V5;";
    const BUS: &str = "Endpoint=sb://127.0.0.1:5672;SharedAccessKeyName=k;SharedAccessKey=s;\
        UseDevelopmentEmulator=true;";

    fn resolve(publishes: bool, set: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::resolve(publishes, |name| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_problem_is_reported_at_once_and_no_secret_with_it() {
        let error = resolve(true, &[("FAULTS_ALLOWED", "maybe"), ("LOG_FORMAT", "xml")]);
        let text = error.unwrap_err().to_string();
        for name in ["OrdersStore", "OrdersBus", "FAULTS_ALLOWED", "LOG_FORMAT"] {
            assert!(text.contains(name), "{name} in {text}");
        }
        let settings = resolve(true, &[("OrdersStore", STORE), ("OrdersBus", BUS)]).unwrap();
        assert!(!settings.faults_allowed, "faults are off unless somebody switches them on");
        assert!(!format!("{settings:?}").contains("a2V5"), "{settings:?}");
    }

    #[test]
    fn the_example_explains_every_setting_and_no_other() {
        let example = include_str!("../local.settings.json.example");
        let mut names = Vec::new();
        let mut explained = false;
        for line in example.lines().map(str::trim).skip_while(|line| !line.contains("Values")) {
            if line.starts_with("//") {
                explained = true;
            } else if let Some((name, _)) = line.split_once("\": ") {
                let name = name.trim_start_matches('"');
                if name != "Values" {
                    assert!(explained, "{name} has no comment above it");
                    names.push(name.to_owned());
                }
                explained = false;
            }
        }
        // The host's own setting, which this package never reads.
        names.retain(|name| name != "FUNCTIONS_WORKER_RUNTIME");
        assert_eq!(names, NAMES);
        let json: String = example.lines().filter(|line| !line.trim().starts_with("//")).collect();
        let values: serde_json::Value = serde_json::from_str(&json).unwrap();
        let settings =
            Settings::resolve(true, |name| values["Values"][name].as_str().map(str::to_owned));
        assert!(settings.unwrap().faults_allowed);
    }

    #[test]
    fn a_consumer_needs_no_bus_of_its_own() {
        let settings = resolve(false, &[("OrdersStore", STORE)]).unwrap();
        assert!(settings.bus.is_none());
        assert!(resolve(true, &[("OrdersStore", STORE)]).is_err());
    }
}
