//! Settings: environment variables to typed values, every problem reported at once.
//!
//! | setting | apps | meaning |
//! | --- | --- | --- |
//! | `OrdersStore` or `OrdersStore__accountEndpoint` | all | Cosmos DB account |
//! | `OrdersBus` or `OrdersBus__fullyQualifiedNamespace` | all | Service Bus |
//! | `OrdersGrid__topicEndpointUri`, `OrdersGrid__key` or an identity | notification | Event Grid topic; none: nothing is published |
//! | `PaymentsQueue` or `PaymentsQueue__queueServiceUri` | order-api, outbox | Storage queues, for the poison queue |
//! | `BANK_URL` | payments, outbox | where the bank's API is |
//! | `FAULTS_ALLOWED` | order-api | whether an order may ask for failures |
//! | `CUSTOMER_ORDERS_PER_SECOND` | order-api | rate limit of one customer; 0 for none |
//! | `AUTH_…` | order-api | who is let in; see [`crate::access::settings`] |
//! | `CRASH_POINTS` | all | directory of armed crash points; for tests |
//! | `FEED_SESSION_SECONDS` | order-api | how long a stream of `/api/feed` lasts, 1 to 220; 110 unless set |
//! | `STACK_URL` | order-api | the local stack, for what only it knows; not in Azure |
//! | `LOG_FORMAT` | all | `text` or `json` |
//! | `RUST_LOG` | all | log filter |
//! | `OTEL_EXPORTER_OTLP_ENDPOINT` | all | where traces and metrics go; nowhere without it |
//! | `OTEL_EXPORTER_OTLP_HEADERS` | all | headers for that, `name=value,…` |
//! | `APPLICATIONINSIGHTS_CONNECTION_STRING` | all | where they go instead, if there is no collector |
//! | `APPLICATIONINSIGHTS_AUTHENTICATION_STRING` | all | as whom: `Authorization=AAD;ClientId=…`; by the key alone without it |
//!
//! The same names serve the Functions host for its trigger connections. Variables that belong to
//! the host are read by the `handler` crate.

use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use azure::connection::{BusConnection, CosmosConnection, GridConnection};
use azure::queue::QueueConnection;
use handler::logging::Format;
use handler::telemetry::Destination;
use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};

use crate::access::settings::AccessSettings;
use crate::staging::Function;
use crate::topology::TOPOLOGY;

/// Log filter where the settings have none. The store's driver reports each connection at `info`.
const LOG_FILTER_DEFAULT: &str = "info,azure_data_cosmos_driver=warn";

/// Every setting that this package reads itself; connections are listed by their base name.
/// `local.settings.json.example` is held to this list by a test.
pub const NAMES: [&str; 22] = [
    "OrdersStore",
    "OrdersBus",
    "OrdersGrid__topicEndpointUri",
    "OrdersGrid__key",
    "PaymentsQueue",
    "BANK_URL",
    "FAULTS_ALLOWED",
    "CUSTOMER_ORDERS_PER_SECOND",
    "FEED_SESSION_SECONDS",
    "STACK_URL",
    "LOG_FORMAT",
    "RUST_LOG",
    "CRASH_POINTS",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
    "OTEL_EXPORTER_OTLP_HEADERS",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
    "AUTH_MODE",
    "AUTH_ISSUER",
    "AUTH_AUDIENCE",
    "AUTH_JWKS_URL",
    "AUTH_CUSTOMER_CLAIM",
];

/// Orders per second of one customer where the settings have none: far more than a person or a
/// shop sends, and a small part of what one instance takes.
const CUSTOMER_ORDERS_PER_SECOND_DEFAULT: u32 = 200;

/// Seconds that a stream of the feed lasts where the settings have none: well below the 230 s after
/// which Azure's front end cuts an idle one, and long enough that connecting again costs nothing.
const FEED_SESSION_SECONDS_DEFAULT: u64 = 110;

/// The longest stream of the feed, in seconds: it ends before that front end ends it.
const FEED_SESSION_SECONDS_MAX: u64 = 220;

/// Typed settings.
#[derive(Debug)]
pub struct Settings {
    /// The account that holds the orders.
    pub store: CosmosConnection,
    /// The namespace that events are published to and messages are settled in.
    pub bus: BusConnection,
    /// The topic that tells the world outside; `None` if there is none.
    pub grid: Option<GridConnection>,
    /// The account with the poison queue; without it operators see no dead letters of payments, and
    /// nobody measures them.
    pub queues: Option<QueueConnection>,
    /// Who is let in; only for the app that serves HTTP routes.
    pub access: Option<AccessSettings>,
    /// The bank; only for the apps that speak to it.
    pub bank: Option<Url>,
    /// Orders per second that one customer may send; `None` for any number.
    pub customer_orders_per_second: Option<NonZeroU32>,
    /// How long one stream of the feed lasts.
    pub feed_session: Duration,
    /// The local stack's own address; only beside one.
    pub stack: Option<Url>,
    /// Where armed crash points lie; for tests only.
    pub crash_points: Option<PathBuf>,
    /// Whether an order may ask for failures.
    pub faults_allowed: bool,
    /// How log lines look.
    pub log_format: Format,
    /// Log filter, as `tracing` reads it.
    pub log_filter: String,
    /// Where traces and metrics go; `None` for nowhere.
    pub telemetry: Option<Destination>,
}

/// What is wrong with the settings, all of it.
#[derive(Debug, thiserror::Error)]
#[error("the settings cannot be used:{}", .0.iter().map(|p| format!("\n  - {p}")).collect::<String>())]
pub struct SettingsError(pub Vec<String>);

impl Settings {
    /// Reads the settings of this process, which serves `functions`.
    ///
    /// # Errors
    /// At least one is missing or unusable; the error names each with what would be usable.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn from_env(functions: &[Function]) -> Result<Self, SettingsError> {
        Self::resolve(functions, |name| std::env::var(name).ok())
    }

    /// Reads settings through `look_up`: those of every app, and those that `functions` need.
    ///
    /// # Errors
    /// At least one is missing or unusable.
    pub fn resolve(
        functions: &[Function],
        look_up: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, SettingsError> {
        let mut problems = Vec::new();
        let pays = functions.iter().any(|function| function.asks_the_bank());
        let serves = functions.contains(&Function::Http);
        let access = serves.then(|| AccessSettings::resolve(&look_up, &mut problems)).flatten();
        let store = CosmosConnection::resolve(&TOPOLOGY.cosmos.connection, &look_up)
            .map_err(|error| problems.push(error.to_string()))
            .ok();
        let bus = BusConnection::resolve(&TOPOLOGY.service_bus.connection, &look_up)
            .map_err(|error| problems.push(error.to_string()))
            .ok();
        let grid = GridConnection::resolve(&TOPOLOGY.event_grid.connection, &look_up)
            .map_err(|error| problems.push(error.to_string()))
            .ok()
            .flatten();
        let queues = queues(&look_up).map_err(|problem| problems.push(problem)).ok().flatten();
        let bank = pays
            .then(|| bank_url(look_up("BANK_URL")))
            .transpose()
            .map_err(|problem| problems.push(problem))
            .ok()
            .flatten();
        let customer_orders_per_second = match look_up("CUSTOMER_ORDERS_PER_SECOND").as_deref() {
            None | Some("") => NonZeroU32::new(CUSTOMER_ORDERS_PER_SECOND_DEFAULT),
            Some(text) => match text.parse() {
                Ok(rate) => NonZeroU32::new(rate),
                Err(_) => {
                    let why = "CUSTOMER_ORDERS_PER_SECOND must be a whole number, 0 for no limit";
                    problems.push(why.to_owned());
                    None
                }
            },
        };
        let feed_session = feed_session(look_up("FEED_SESSION_SECONDS"))
            .map_err(|problem| problems.push(problem))
            .unwrap_or_default();
        let stack = stack_url(look_up("STACK_URL"))
            .map_err(|problem| problems.push(problem))
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
        let telemetry =
            telemetry(&look_up).map_err(|problem| problems.push(problem)).ok().flatten();
        match (store, bus) {
            (Some(store), Some(bus)) if problems.is_empty() => {
                let log_filter = look_up("RUST_LOG").filter(|filter| !filter.is_empty());
                let log_filter = log_filter.unwrap_or_else(|| LOG_FILTER_DEFAULT.to_owned());
                let crash_points = look_up("CRASH_POINTS").filter(|path| !path.is_empty());
                Ok(Self {
                    store,
                    bus,
                    grid,
                    queues,
                    access,
                    bank,
                    customer_orders_per_second,
                    feed_session,
                    stack,
                    crash_points: crash_points.map(PathBuf::from),
                    faults_allowed,
                    log_format,
                    log_filter,
                    telemetry,
                })
            }
            _ => Err(SettingsError(problems)),
        }
    }
}

/// A collector that is named goes before Application Insights, whose setting the platform makes for
/// the host's own sake.
fn telemetry(look_up: impl Fn(&str) -> Option<String>) -> Result<Option<Destination>, String> {
    match otlp(&look_up)? {
        Some(otlp) => Ok(Some(otlp)),
        None => azure_monitor(look_up),
    }
}

#[cfg(feature = "azure-monitor")]
fn azure_monitor(look_up: impl Fn(&str) -> Option<String>) -> Result<Option<Destination>, String> {
    crate::insights::destination(look_up)
}

/// Built without it: the setting is for the host then.
#[cfg(not(feature = "azure-monitor"))]
fn azure_monitor(_: impl Fn(&str) -> Option<String>) -> Result<Option<Destination>, String> {
    Ok(None)
}

/// The standard settings of an OpenTelemetry exporter, as far as they are understood here.
fn otlp(look_up: impl Fn(&str) -> Option<String>) -> Result<Option<Destination>, String> {
    let [endpoint, headers] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_HEADERS"]
        .map(|name| look_up(name).filter(|value| !value.trim().is_empty()));
    let Some(endpoint) = endpoint else { return Ok(None) };
    let endpoint = Url::parse(endpoint.trim()).ok();
    let endpoint = endpoint.filter(|url| matches!(url.scheme(), "http" | "https")).ok_or(
        "OTEL_EXPORTER_OTLP_ENDPOINT must be the address of a collector that takes OTLP over \
         HTTP, e.g. http://127.0.0.1:4318",
    )?;
    let headers = otlp_headers(headers.as_deref().unwrap_or_default())
        .ok_or("OTEL_EXPORTER_OTLP_HEADERS must be name=value,name=value with encoded values")?;
    Ok(Some(Destination::Otlp { endpoint, headers }))
}

/// `name=value,name=value`, values percent-encoded.
fn otlp_headers(text: &str) -> Option<HeaderMap> {
    let mut headers = HeaderMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=')?;
        let value = percent_decode_str(value.trim()).decode_utf8().ok()?;
        let mut value = HeaderValue::from_str(&value).ok()?;
        value.set_sensitive(true);
        headers.append(name.trim().parse::<HeaderName>().ok()?, value);
    }
    Some(headers)
}

/// The queues' connection, if any setting of that name is there: most apps need none.
fn queues(look_up: impl Fn(&str) -> Option<String>) -> Result<Option<QueueConnection>, String> {
    let name = &TOPOLOGY.storage.connection;
    let set = |setting: String| look_up(&setting).is_some_and(|value| !value.is_empty());
    let known = [name.clone(), format!("AzureWebJobs{name}")];
    if !known.into_iter().any(|base| set(format!("{base}__queueServiceUri")) || set(base)) {
        return Ok(None);
    }
    QueueConnection::resolve(name, &look_up).map(Some).map_err(|error| error.to_string())
}

fn bank_url(value: Option<String>) -> Result<Url, String> {
    let expected = "BANK_URL must be the address of the bank's API, e.g. http://127.0.0.1:7075/";
    let url = value.and_then(|text| Url::parse(&text).ok());
    url.filter(|url| matches!(url.scheme(), "http" | "https")).ok_or_else(|| expected.to_owned())
}

fn feed_session(value: Option<String>) -> Result<Duration, String> {
    let text = value.filter(|text| !text.is_empty());
    let seconds = text.map_or(Ok(FEED_SESSION_SECONDS_DEFAULT), |text| text.parse());
    let seconds = seconds.ok().filter(|found| (1..=FEED_SESSION_SECONDS_MAX).contains(found));
    seconds.map(Duration::from_secs).ok_or_else(|| {
        format!("FEED_SESSION_SECONDS must be a whole number from 1 to {FEED_SESSION_SECONDS_MAX}")
    })
}

fn stack_url(value: Option<String>) -> Result<Option<Url>, String> {
    let Some(text) = value.filter(|text| !text.is_empty()) else { return Ok(None) };
    let url = Url::parse(&text).ok().filter(|url| url.scheme() == "http");
    url.map(Some).ok_or_else(|| "STACK_URL must be an address, e.g. http://127.0.0.1:7070".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: &str = "AccountEndpoint=http://127.0.0.1:8081/;AccountKey=a2V5;";
    const BUS: &str = "Endpoint=sb://127.0.0.1:5672;SharedAccessKeyName=k;SharedAccessKey=s;\
        UseDevelopmentEmulator=true;";

    const PAYS: &[Function] = &[Function::Settle];

    fn resolve(functions: &[Function], set: &[(&str, &str)]) -> Result<Settings, SettingsError> {
        Settings::resolve(functions, |name| {
            set.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn every_problem_is_reported_at_once_and_no_secret_with_it() {
        let error = resolve(
            &[Function::Settle, Function::Http],
            &[
                ("AUTH_MODE", "off"),
                ("FAULTS_ALLOWED", "maybe"),
                ("LOG_FORMAT", "xml"),
                ("OrdersGrid__topicEndpointUri", "http://example.com/"),
                ("PaymentsQueue", "the queue"),
                ("BANK_URL", "the bank"),
                ("CUSTOMER_ORDERS_PER_SECOND", "-1"),
                ("FEED_SESSION_SECONDS", "0"),
                ("STACK_URL", "here"),
            ],
        );
        let text = error.unwrap_err().to_string();
        // A key alone is no connection, so it can be no problem.
        let named = NAMES[..11].iter().filter(|name| !name.ends_with("__key"));
        for name in named.chain(&["AUTH_MODE"]) {
            assert!(text.contains(name), "{name} in {text}");
        }
        let settings = resolve(&[], &[("OrdersStore", STORE), ("OrdersBus", BUS)]).unwrap();
        assert!(settings.customer_orders_per_second.is_some());
        assert!(settings.grid.is_none(), "Event Grid is optional");
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
        // The host's own settings, which this package never reads.
        let of_the_host = ["FUNCTIONS_WORKER_RUNTIME", "AzureWebJobsStorage"];
        names.retain(|name| !of_the_host.contains(&name.as_str()));
        assert_eq!(names, NAMES);
        let json: String = example.lines().filter(|line| !line.trim().starts_with("//")).collect();
        let values: serde_json::Value = serde_json::from_str(&json).unwrap();
        let settings = Settings::resolve(&[Function::Settle, Function::Http], |name| {
            values["Values"][name].as_str().map(str::to_owned)
        });
        let settings = settings.unwrap();
        assert!(settings.faults_allowed && settings.grid.is_some());
        assert_eq!(settings.access, Some(AccessSettings::Development));
    }

    #[test]
    fn telemetry_goes_nowhere_unless_asked_and_its_key_is_not_shown() {
        let both = [("OrdersStore", STORE), ("OrdersBus", BUS)];
        assert!(resolve(&[], &both).unwrap().telemetry.is_none());
        let empty = ("OTEL_EXPORTER_OTLP_ENDPOINT", "");
        assert!(resolve(&[], &[both[0], both[1], empty]).unwrap().telemetry.is_none());
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example:4318");
        let headers = ("OTEL_EXPORTER_OTLP_HEADERS", "Authorization=Basic%20c2VjcmV0, x-a=b");
        let settings = resolve(&[], &[both[0], both[1], endpoint, headers]).unwrap();
        let Some(Destination::Otlp { headers: sent, .. }) = &settings.telemetry else {
            panic!("{settings:?}")
        };
        assert_eq!(sent["authorization"], "Basic c2VjcmV0");
        assert_eq!(sent.len(), 2);
        assert!(!format!("{settings:?}").contains("c2VjcmV0"), "{settings:?}");
        for wrong in [
            ("OTEL_EXPORTER_OTLP_ENDPOINT", "127.0.0.1:4318"),
            ("OTEL_EXPORTER_OTLP_HEADERS", "novalue"),
        ] {
            let error = resolve(&[], &[both[0], both[1], wrong, endpoint]).unwrap_err();
            assert!(error.to_string().contains(wrong.0), "{error}");
        }
    }

    #[cfg(feature = "azure-monitor")]
    #[test]
    fn application_insights_is_used_where_no_collector_is_named() {
        let both = [("OrdersStore", STORE), ("OrdersBus", BUS)];
        let name = "APPLICATIONINSIGHTS_CONNECTION_STRING";
        let insights = (name, "InstrumentationKey=11111111-2222-3333-4444-555555555555");
        let settings = resolve(&[], &[both[0], both[1], insights]).unwrap();
        assert!(matches!(settings.telemetry, Some(Destination::AzureMonitor { .. })));
        let collector = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318");
        let settings = resolve(&[], &[both[0], both[1], insights, collector]).unwrap();
        assert!(matches!(settings.telemetry, Some(Destination::Otlp { .. })));
        let error = resolve(&[], &[both[0], both[1], (name, "s3cr3t")]).unwrap_err().to_string();
        assert!(error.contains(name) && !error.contains("s3cr3t"), "{error}");
    }

    #[test]
    fn an_app_needs_what_its_functions_do() {
        let both = [("OrdersStore", STORE), ("OrdersBus", BUS)];
        let azure = [both[0], both[1], ("WEBSITE_INSTANCE_ID", "i")];
        assert!(resolve(&[Function::Notify], &azure).unwrap().access.is_none());
        assert!(resolve(&[Function::Http], &azure).is_err(), "nobody said who is let in");
        let neither = resolve(&[Function::Http], &both).unwrap();
        assert!(neither.bank.is_none() && neither.queues.is_none());
        let queues = ("PaymentsQueue", "UseDevelopmentStorage=true");
        assert!(resolve(&[], &[both[0], both[1], queues]).unwrap().queues.is_some());
        assert!(resolve(PAYS, &both).is_err());
        let bank = ("BANK_URL", "http://127.0.0.1:7075/");
        assert!(resolve(PAYS, &[both[0], both[1], bank]).unwrap().bank.is_some());
    }
}
