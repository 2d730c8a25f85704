//! `host.json`, with the overrides from settings named `AzureFunctionsJobHost__a__b__c`.
//!
//! Reference: <https://learn.microsoft.com/azure/azure-functions/functions-host-json> and the
//! `CustomHandler` options of the Azure Functions host.

use std::path::Path;
use std::time::Duration;

use serde_json::{Map, Value};

use super::json::{Section, parse_object};
use super::queues::{self, QueueOptions};
use super::service_bus::{self, ServiceBusOptions};
use super::{Settings, retry};
use crate::error::Problem;
use crate::invocation::RetryPolicy;

/// The file at the root of every app.
pub(crate) const FILE: &str = "host.json";
const OVERRIDE_PREFIX: &str = "AzureFunctionsJobHost__";

/// Default of `functionTimeout` on every plan but Consumption.
const DEFAULT_FUNCTION_TIMEOUT: Duration = Duration::from_mins(30);
/// Default of `customHandler.initializationTimeout`, as in the host's code (its docs say 60 s).
const DEFAULT_INITIALIZATION_TIMEOUT: Duration = Duration::from_secs(30);

/// What `host.json` says, as far as this host acts on it.
#[derive(Debug, Clone)]
pub(crate) struct HostJson {
    /// Longest run of one invocation; `None` means no limit.
    pub(crate) function_timeout: Option<Duration>,
    /// First path segment(s) of every HTTP function, without slashes; may be empty.
    pub(crate) route_prefix: String,
    /// Whether triggers other than http and timer are known.
    pub(crate) has_extensions: bool,
    pub(crate) handler: HandlerConfig,
    pub(crate) service_bus: ServiceBusOptions,
    pub(crate) queues: QueueOptions,
    /// For functions without a policy of their own.
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) throttle: HttpThrottle,
    /// `customHandler.http.routes`: functions without a `function.json`, by route and `authLevel`.
    pub(crate) routes: Vec<(String, String)>,
    /// Settings of this file that this host does not act on, one sentence each.
    pub(crate) notes: Vec<String>,
}

/// `extensions.http`: calls beyond these wait, or are answered 429.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct HttpThrottle {
    /// `maxConcurrentRequests`.
    pub(crate) running: Option<usize>,
    /// `maxOutstandingRequests`: those that wait included.
    pub(crate) outstanding: Option<usize>,
}

/// `customHandler`.
#[derive(Debug, Clone)]
pub(crate) struct HandlerConfig {
    pub(crate) executable: String,
    pub(crate) working_directory: String,
    pub(crate) worker_directory: String,
    pub(crate) arguments: Vec<String>,
    pub(crate) worker_path: String,
    pub(crate) worker_arguments: Vec<String>,
    pub(crate) stderr_is_for_errors_only: bool,
    pub(crate) forwarding: bool,
    pub(crate) proxying: bool,
    /// Forwarded calls go to the name of the function: `httpWorker`, the name of `customHandler`
    /// before it was generally available.
    pub(crate) forwards_by_name: bool,
    /// Fixed port of the handler; the host picks a free one otherwise.
    pub(crate) port: Option<u16>,
    pub(crate) initialization_timeout: Duration,
}

/// Reads `host.json` in `root`. `None` when it cannot be read at all; `problems` says why.
pub(crate) fn load(
    root: &Path,
    settings: &Settings,
    problems: &mut Vec<Problem>,
) -> Option<HostJson> {
    let text = match std::fs::read_to_string(root.join(FILE)) {
        Ok(text) => text,
        Err(error) => {
            problems.push(Problem::new(
                format!("{} cannot be read", root.join(FILE).display()),
                error.to_string(),
                "point the host at the directory that holds host.json, the handler and one \
                 folder per function",
            ));
            return None;
        }
    };
    let mut object = match parse_object(&text) {
        Ok(object) => object,
        Err(error) => {
            problems.push(Problem::new(
                format!("{FILE} is not a JSON object"),
                error.to_string(),
                "correct the file at that line",
            ));
            return None;
        }
    };
    for (name, value) in settings.iter() {
        if let Some(path) = strip_prefix_ignoring_case(name, OVERRIDE_PREFIX) {
            set(&mut object, &path.split("__").collect::<Vec<_>>(), value);
        }
    }
    let bin_extensions = root.join("bin").join("extensions.json").exists();
    let mut host = read(&object, bin_extensions, problems);
    host.queues.poll_faster_in_development(settings);
    Some(host)
}

fn read(
    object: &Map<String, Value>,
    bin_extensions: bool,
    problems: &mut Vec<Problem>,
) -> HostJson {
    let root = Section::root(FILE, object);
    if root.text("version", problems).as_deref() != Some("2.0") {
        problems.push(Problem::new(
            format!("{FILE}: version is not \"2.0\""),
            "every host since runtime 2 refuses any other value",
            "write \"version\": \"2.0\"",
        ));
    }
    let mut notes = Vec::new();
    let is_web_app = profile(&root, problems);
    let extensions = root.child("extensions", "extensions", problems);
    let http = extensions.child("http", "extensions.http", problems);
    let bundle = root.child("extensionBundle", "extensionBundle", problems);
    let has_bundle = bundle.text("id", problems).is_some();
    HostJson {
        function_timeout: function_timeout(&root, problems),
        route_prefix: http
            .text("routePrefix", problems)
            .unwrap_or_else(|| if is_web_app { String::new() } else { "api".to_owned() })
            .trim_matches('/')
            .to_owned(),
        has_extensions: has_bundle || bin_extensions,
        handler: handler(&root, is_web_app, problems, &mut notes),
        throttle: HttpThrottle {
            running: bound(&http, "maxConcurrentRequests", problems),
            outstanding: bound(&http, "maxOutstandingRequests", problems),
        },
        routes: routes(&root, is_web_app, problems),
        service_bus: service_bus::options(&extensions, problems, &mut notes),
        queues: queues::options(&extensions, problems),
        retry: retry::read(FILE, &root, problems),
        notes,
    }
}

/// Whether `configurationProfile` asks for one route that takes everything.
fn profile(root: &Section<'_>, problems: &mut Vec<Problem>) -> bool {
    match root.text("configurationProfile", problems).unwrap_or_default().as_str() {
        "" | "default" => false,
        "mcp-custom-handler" | "web-app-custom-handler" => true,
        other => {
            problems.push(Problem::new(
                format!("{FILE}: configurationProfile is \"{other}\""),
                "it stands for a set of defaults",
                "write \"web-app-custom-handler\", \"mcp-custom-handler\" or \"default\", or \
                 remove it",
            ));
            false
        }
    }
}

/// A number of requests; -1 and nothing mean no bound.
fn bound(http: &Section<'_>, name: &str, problems: &mut Vec<Problem>) -> Option<usize> {
    match http.get(name) {
        None | Some(Value::Null) => None,
        Some(Value::Number(number)) if number.as_i64() == Some(-1) => None,
        Some(Value::String(text)) if text == "-1" => None,
        Some(_) => usize::try_from(http.count(name, 1, 1, problems)).ok(),
    }
}

fn routes(
    root: &Section<'_>,
    is_web_app: bool,
    problems: &mut Vec<Problem>,
) -> Vec<(String, String)> {
    let section = root.child("customHandler", "customHandler", problems);
    let http = section.child("http", "customHandler.http", problems);
    let level = http.text("defaultAuthorizationLevel", problems);
    let level = level.unwrap_or_else(|| "function".to_owned());
    let list = match http.get("routes") {
        None | Some(Value::Null) if is_web_app => return vec![("{*route}".to_owned(), level)],
        None | Some(Value::Null) => return Vec::new(),
        Some(Value::Array(list)) => list.clone(),
        Some(Value::Object(by_index)) => by_index.values().cloned().collect(),
        Some(_) => Vec::new(),
    };
    let read = list.iter().filter_map(|entry| {
        let text = |name: &str| entry.get(name).and_then(Value::as_str).map(str::to_owned);
        Some((text("route")?, text("authorizationLevel").unwrap_or_else(|| level.clone())))
    });
    let read: Vec<(String, String)> = read.collect();
    if read.is_empty() || read.len() < list.len() {
        problems.push(Problem::new(
            format!("{FILE}: customHandler.http.routes has an entry without a route"),
            "each entry becomes an HTTP function",
            "write \"routes\": [ { \"route\": \"{*path}\" } ]",
        ));
    }
    read
}

fn function_timeout(root: &Section<'_>, problems: &mut Vec<Problem>) -> Option<Duration> {
    match root.get("functionTimeout") {
        Some(Value::String(text)) if text == "-1" || text == "-00:00:01" => None,
        Some(Value::Number(number)) if number.as_i64() == Some(-1) => None,
        _ => {
            let timeout = root.duration("functionTimeout", DEFAULT_FUNCTION_TIMEOUT, problems);
            if timeout.is_zero() {
                problems.push(Problem::new(
                    format!("{FILE}: functionTimeout is zero"),
                    "every invocation would be cancelled at once",
                    "write a time span, e.g. \"00:05:00\", or \"-1\" for no limit",
                ));
            }
            Some(timeout)
        }
    }
}

const HANDLER_KEYS: [&str; 7] = [
    "description",
    "type",
    "enableForwardingHttpRequest",
    "enableProxyingHttpRequest",
    "port",
    "initializationTimeout",
    "http",
];

fn handler(
    root: &Section<'_>,
    is_web_app: bool,
    problems: &mut Vec<Problem>,
    notes: &mut Vec<String>,
) -> HandlerConfig {
    let mut section = root.child("customHandler", "customHandler", problems);
    let worker = root.child("httpWorker", "httpWorker", problems);
    let forwards_by_name = worker.exists() && !section.exists();
    if forwards_by_name {
        section = worker;
        notes.push(format!(
            "{FILE}: httpWorker is the name before general availability. Calls are forwarded to \
             the name of the function; use customHandler"
        ));
    } else if worker.exists() {
        notes.push(format!("{FILE}: httpWorker is ignored, as there is customHandler too"));
    }
    let known = |key: &&str| !HANDLER_KEYS.iter().any(|known| known.eq_ignore_ascii_case(key));
    for key in section.keys().filter(known) {
        notes.push(format!("{FILE}: customHandler.{key} is not a known key and has no effect"));
    }
    let description = section.child("description", "customHandler.description", problems);
    if !description.exists() {
        problems.push(Problem::new(
            format!("{FILE}: customHandler.description is missing"),
            "it names the handler to start (\"Missing worker Description.\")",
            "write \"customHandler\": { \"description\": { \"defaultExecutablePath\": \
             \"handler\" } }",
        ));
    }
    let executable = description.text("defaultExecutablePath", problems).unwrap_or_default();
    if description.exists() && executable.trim().is_empty() {
        problems.push(Problem::new(
            format!("{FILE}: customHandler.description.defaultExecutablePath is empty"),
            "it names the handler to start",
            "write \"defaultExecutablePath\": \"handler\"",
        ));
    }
    let port = match section.count("port", 0, 0, problems) {
        0 => None,
        port => u16::try_from(port).ok().or_else(|| {
            problems.push(Problem::new(
                format!("{FILE}: customHandler.port is {port}"),
                "a TCP port is at most 65535",
                "remove it, and the host picks a free port",
            ));
            None
        }),
    };
    HandlerConfig {
        executable,
        working_directory: description.text("workingDirectory", problems).unwrap_or_default(),
        worker_directory: description.text("workerDirectory", problems).unwrap_or_default(),
        arguments: description.texts("arguments", problems),
        worker_path: description.text("defaultWorkerPath", problems).unwrap_or_default(),
        worker_arguments: description.texts("workerArguments", problems),
        stderr_is_for_errors_only: description.flag(
            "useStdErrorStreamForErrorsOnly",
            true,
            problems,
        ),
        forwarding: section.flag("enableForwardingHttpRequest", forwards_by_name, problems),
        proxying: section.flag("enableProxyingHttpRequest", is_web_app, problems),
        forwards_by_name,
        port,
        initialization_timeout: section.duration(
            "initializationTimeout",
            DEFAULT_INITIALIZATION_TIMEOUT,
            problems,
        ),
    }
}

fn set(object: &mut Map<String, Value>, path: &[&str], value: &str) {
    let Some((first, rest)) = path.split_first() else { return };
    let existing = object.keys().find(|key| key.eq_ignore_ascii_case(first)).cloned();
    let key = existing.unwrap_or_else(|| (*first).to_owned());
    if rest.is_empty() {
        object.insert(key, Value::String(value.to_owned()));
        return;
    }
    let child = object.entry(key).or_insert_with(|| Value::Object(Map::new()));
    if let Value::Array(list) = child {
        // .NET configuration knows a list as an object keyed by index.
        let by_index = list.drain(..).enumerate().map(|(i, v)| (i.to_string(), v)).collect();
        *child = Value::Object(by_index);
    }
    if !child.is_object() {
        *child = Value::Object(Map::new());
    }
    if let Value::Object(child) = child {
        set(child, rest, value);
    }
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let head = text.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &text[prefix.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, overrides: &[(&str, &str)]) -> (HostJson, Vec<Problem>) {
        let mut object = serde_json::from_str(text).unwrap();
        for (name, value) in overrides {
            let path = strip_prefix_ignoring_case(name, OVERRIDE_PREFIX).unwrap();
            set(&mut object, &path.split("__").collect::<Vec<_>>(), value);
        }
        let mut problems = Vec::new();
        (read(&object, false, &mut problems), problems)
    }

    #[test]
    fn defaults_are_those_of_the_azure_host() {
        let (host, problems) = parse(
            r#"{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"h"}}}"#,
            &[],
        );
        assert_eq!(problems, []);
        assert_eq!(host.function_timeout, Some(Duration::from_mins(30)));
        assert_eq!((host.route_prefix.as_str(), host.has_extensions), ("api", false));
        assert!(!host.handler.proxying && !host.handler.forwarding);
        assert!(host.handler.stderr_is_for_errors_only);
        assert_eq!(host.handler.initialization_timeout, Duration::from_secs(30));
        assert_eq!(host.service_bus.max_concurrent_calls, 16);
    }

    #[test]
    fn settings_override_any_value_also_list_elements() {
        let (host, problems) = parse(
            r#"{"version":"2.0","functionTimeout":"00:05:00","extensionBundle":{"id":"x"},
                "extensions":{"http":{"routePrefix":"/v1/"},"serviceBus":{"maxConcurrentCalls":4}},
                "customHandler":{"enableProxyingHttpRequest":false,
                "description":{"defaultExecutablePath":"h","arguments":["a","b"]}}}"#,
            &[
                ("AzureFunctionsJobHost__functionTimeout", "-1"),
                ("azurefunctionsjobhost__extensions__servicebus__maxConcurrentCalls", "32"),
                ("AzureFunctionsJobHost__customHandler__enableProxyingHttpRequest", "true"),
                ("AzureFunctionsJobHost__customHandler__description__arguments__1", "c"),
            ],
        );
        assert_eq!(problems, []);
        assert_eq!(host.function_timeout, None);
        assert_eq!((host.route_prefix.as_str(), host.has_extensions), ("v1", true));
        assert_eq!(host.service_bus.max_concurrent_calls, 32);
        assert!(host.handler.proxying);
        assert_eq!(host.handler.arguments, ["a", "c"]);
    }

    #[test]
    fn routes_and_profiles_stand_for_functions() {
        let with = |more: &str| {
            let text = format!(
                r#"{{"version":"2.0",{more},"customHandler":{{"description":{{
                    "defaultExecutablePath":"h"}},"http":{{"defaultAuthorizationLevel":"anonymous",
                    "routes":[{{"route":"a/{{id}}"}},{{"route":"b","authorizationLevel":"admin"}}]
                }}}}}}"#
            );
            parse(&text, &[])
        };
        let (host, problems) = with(r#""functionTimeout":"00:01:00""#);
        assert_eq!(problems, []);
        let wanted = [("a/{id}", "anonymous"), ("b", "admin")];
        assert_eq!(host.routes, wanted.map(|(route, level)| (route.to_owned(), level.to_owned())));
        let text = r#"{"version":"2.0","configurationProfile":"web-app-custom-handler",
            "customHandler":{"description":{"defaultExecutablePath":"h"}}}"#;
        let (host, problems) = parse(text, &[]);
        assert_eq!((problems, host.handler.proxying), (vec![], true));
        assert_eq!((host.route_prefix.as_str(), host.routes.len()), ("", 1));
        let (_, problems) = with(r#""configurationProfile":"other""#);
        assert!(problems[0].what.contains("configurationProfile"), "{problems:?}");
    }

    #[test]
    fn the_old_name_of_the_section_forwards_to_names() {
        let worker = r#"{"version":"2.0","httpWorker":{"description":{
            "defaultExecutablePath":"h"}}}"#;
        let (host, problems) = parse(worker, &[]);
        assert_eq!(problems, []);
        assert!(host.handler.forwards_by_name && host.handler.forwarding);
        let both = r#"{"version":"2.0","httpWorker":{},"customHandler":{"description":{
            "defaultExecutablePath":"h"}},"extensions":{"http":{"maxOutstandingRequests":-1,
            "maxConcurrentRequests":7}}}"#;
        let (host, problems) = parse(both, &[]);
        assert_eq!(problems, []);
        assert!(!host.handler.forwards_by_name && host.notes[0].contains("ignored"));
        assert_eq!(host.throttle, HttpThrottle { running: Some(7), outstanding: None });
    }

    #[test]
    fn every_problem_is_reported_at_once() {
        let (_, problems) = parse(
            r#"{"version":"1.0","functionTimeout":"soon","customHandler":{"port":"x"},
                "extensions":{"serviceBus":{"maxConcurrentCalls":0}}}"#,
            &[],
        );
        let all = problems.iter().map(ToString::to_string).collect::<String>();
        for part in ["version", "functionTimeout", "description", "port", "maxConcurrentCalls"] {
            assert!(all.contains(part), "{part} in {all}");
        }
    }
}
