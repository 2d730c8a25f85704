//! What is started and with which settings. Decides; starts nothing.

use std::path::PathBuf;

use super::Options;
use crate::child::Spec;
use crate::endpoints::Endpoints;
use crate::topology::{App, Topology};
use crate::workspace::Workspace;

/// The setting under which apps find the bank: its base URL, without a trailing slash.
const BANK_SETTING: &str = "BANK_URL";

/// The setting with the storage account that belongs to every Function App.
const HOST_STORAGE_SETTING: &str = "AzureWebJobsStorage";

/// A service in its role: `serve <role>`, on `port`, with `further` arguments.
pub(super) fn service(workspace: &Workspace, role: &str, port: u16, further: Vec<String>) -> Spec {
    let mut arguments = serve(role, port);
    arguments.extend(further);
    Spec { name: role.to_owned(), program: workspace.stack(), arguments, environment: Vec::new() }
}

/// The host of one app.
pub(super) fn host(
    workspace: &Workspace,
    app: &App,
    port: u16,
    options: &Options,
    settings: &[(String, String)],
) -> Spec {
    let mut arguments = serve("host", port);
    let root = workspace.apps.join(&app.name);
    arguments.extend(["--root".to_owned(), root.display().to_string()]);
    arguments.extend(["--state".to_owned(), state(workspace, app).display().to_string()]);
    if let Some(seconds) = options.queue_lease_seconds {
        arguments.extend(["--queue-lease-seconds".to_owned(), seconds.to_string()]);
    }
    Spec {
        name: app.name.clone(),
        program: workspace.stack(),
        arguments,
        environment: settings.to_vec(),
    }
}

/// Where the host of an app keeps what has to outlive it: beside the staged app, which is what
/// ships and holds nothing else.
fn state(workspace: &Workspace, app: &App) -> PathBuf {
    workspace.apps.join(format!("{}.state", app.name))
}

fn serve(role: &str, port: u16) -> Vec<String> {
    let listen = format!("127.0.0.1:{port}");
    ["serve", role, "--until-stdin-closes", "--listen", &listen].map(str::to_owned).into()
}

/// The same start with the port that was chosen the first time: others have it in their settings.
pub(super) fn pin_port(mut spec: Spec, address: &str) -> Spec {
    if let Some(position) = spec.arguments.iter().position(|argument| argument == "--listen") {
        spec.arguments[position + 1] = address.to_owned();
    }
    spec
}

/// The app settings: what the portal of Azure would hold, with the stand-ins' endpoints. What was
/// given on the command line comes last, and wins.
pub(super) fn settings(
    topology: &Topology,
    endpoints: &Endpoints,
    options: &Options,
) -> Vec<(String, String)> {
    let store =
        format!("AccountEndpoint={}/;AccountKey={};", endpoints.cosmos, endpoints.cosmos_key);
    let faults_allowed = (!options.no_faults).to_string();
    let grid = |suffix: &str| format!("{}__{suffix}", Topology::connection(&topology.event_grid));
    let (grid_endpoint, grid_key) = (grid("topicEndpointUri"), grid("key"));
    let settings = [
        ("FUNCTIONS_WORKER_RUNTIME", "custom"),
        (HOST_STORAGE_SETTING, &endpoints.queue),
        (Topology::connection(&topology.cosmos), &store),
        (Topology::connection(&topology.service_bus), &endpoints.bus),
        (Topology::connection(&topology.storage), &endpoints.queue),
        (&grid_endpoint, &endpoints.grid),
        (&grid_key, &endpoints.grid_key),
        (BANK_SETTING, &endpoints.bank),
        // The store's client would ask Azure's metadata service where it runs.
        ("COSMOS_DISABLE_IMDS", "1"),
        ("LOG_FORMAT", "json"),
        ("FAULTS_ALLOWED", &faults_allowed),
        ("STACK_URL", &endpoints.control),
    ];
    let settings = settings.map(|(name, value)| (name.to_owned(), value.to_owned()));
    settings.into_iter().chain(options.set.iter().cloned()).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use serde_json::json;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Cli {
        #[command(flatten)]
        options: Options,
    }

    fn options(arguments: &[&str]) -> Options {
        Cli::try_parse_from(["up"].iter().chain(arguments)).unwrap().options
    }

    fn endpoints() -> Endpoints {
        Endpoints {
            http: String::new(),
            control: "http://127.0.0.1:7070".to_owned(),
            cosmos: "http://127.0.0.1:8081".to_owned(),
            cosmos_key: "key".to_owned(),
            bus: "bus-string".to_owned(),
            bus_operations: String::new(),
            queue: "queue-string".to_owned(),
            bank: "http://127.0.0.1:7075".to_owned(),
            grid: "http://127.0.0.1:6500/t/api/events".to_owned(),
            grid_key: "grid-key".to_owned(),
            grid_dead_letters: PathBuf::new(),
            subscriber: String::new(),
            bank_ledger: PathBuf::new(),
            processes: Vec::new(),
        }
    }

    #[test]
    fn every_app_gets_the_endpoints_under_the_names_of_the_topology() {
        let topology: Topology = serde_json::from_value(json!({
            "apps": [], "schedules": {},
            "serviceBus": {"connection": "Bus"},
            "storage": {"connection": "Queue"},
            "cosmos": {"connection": "Store"},
            "eventGrid": {"connection": "Grid"},
        }))
        .unwrap();
        let options = options(&["--set", "LOG_FORMAT=text", "--set", "EMPTY=", "--no-faults"]);
        let settings = settings(&topology, &endpoints(), &options);
        // As an environment: the last one counts.
        let value = |name: &str| {
            let found = settings.iter().rfind(|(found, _)| found == name);
            found.map(|(_, value)| value.as_str())
        };
        for (name, expected) in [
            ("Bus", "bus-string"),
            ("Queue", "queue-string"),
            ("AzureWebJobsStorage", "queue-string"),
            ("Grid__topicEndpointUri", "http://127.0.0.1:6500/t/api/events"),
            ("Grid__key", "grid-key"),
            ("BANK_URL", "http://127.0.0.1:7075"),
            ("Store", "AccountEndpoint=http://127.0.0.1:8081/;AccountKey=key;"),
            ("FAULTS_ALLOWED", "false"),
            ("STACK_URL", "http://127.0.0.1:7070"),
            ("LOG_FORMAT", "text"),
            ("EMPTY", ""),
        ] {
            assert_eq!(value(name), Some(expected), "{name}");
        }
        assert!(Cli::try_parse_from(["up", "--set", "=x"]).is_err());
    }

    #[test]
    fn a_process_is_started_again_on_the_port_that_it_got() {
        let workspace = Workspace { root: "/r".into(), binaries: "/b".into(), apps: "/a".into() };
        let app = App { name: "one".to_owned(), folder: "one".to_owned(), functions: Vec::new() };
        let options = options(&["--queue-lease-seconds", "3"]);
        let spec = host(&workspace, &app, 0, &options, &[]);
        let again = pin_port(spec.clone(), "127.0.0.1:4242");
        let line = again.arguments.join(" ");
        assert_eq!(
            line,
            "serve host --until-stdin-closes --listen 127.0.0.1:4242 --root /a/one \
             --state /a/one.state --queue-lease-seconds 3"
        );
        assert_eq!(line.replace("4242", "0"), spec.arguments.join(" "));
    }
}
