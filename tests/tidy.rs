//! Rules of the repository, held by tests so that nobody has to remember them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn json(path: &Path) -> Value {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| {
        panic!("{}: {error}", path.display());
    });
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Files of the repository with this extension, build output and installed tools left out.
fn files(extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() {
                if !name.starts_with('.') && name != "target" && name != "node_modules" {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|found| found == extension) {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

#[test]
fn dependencies_point_one_way() {
    let metadata = cargo_metadata::MetadataCommand::new()
        .manifest_path(root().join("Cargo.toml"))
        .no_deps()
        .exec()
        .unwrap();
    let ours: BTreeSet<&str> = metadata.packages.iter().map(|p| p.name.as_str()).collect();
    let allowed: BTreeMap<&str, &[&str]> = BTreeMap::from([
        ("orders", &[][..]),
        ("azure", &[]),
        ("handler", &[]),
        ("functions", &["orders", "azure", "handler"]),
        ("journal", &[]),
        ("listener", &[]),
        ("xml", &[]),
        ("bus", &["journal", "xml"]),
        ("cosmos", &["listener"]),
        ("queue", &["journal", "listener", "xml"]),
        ("grid", &["listener"]),
        ("host", &["handler"]),
        ("stack", &["host", "bus", "cosmos", "queue", "grid", "listener"]),
        ("e2e", &["stack", "orders", "azure", "queue"]),
    ]);
    assert_eq!(ours, allowed.keys().copied().collect(), "a new crate needs its line here");
    for package in &metadata.packages {
        for dependency in &package.dependencies {
            let (from, to) = (package.name.as_str(), dependency.name.as_str());
            // These are tested against the services that they will meet.
            let tested_against = dependency.kind == cargo_metadata::DependencyKind::Development
                && [
                    ("host", "bus"),
                    ("host", "cosmos"),
                    ("host", "queue"),
                    ("grid", "queue"),
                    ("azure", "cosmos"),
                    ("azure", "listener"),
                ]
                .contains(&(from, to));
            assert!(
                !ours.contains(to) || allowed[from].contains(&to) || tested_against,
                "{from} must not depend on {to}"
            );
        }
    }
    // Only one room opens connections to Azure services; the local host has its own for triggers,
    // as the real one has.
    for package in &metadata.packages {
        let speaks = |name: &str| name.starts_with("azure_") || name.starts_with("fe2o3-");
        let normal = package
            .dependencies
            .iter()
            .filter(|d| d.kind == cargo_metadata::DependencyKind::Normal && speaks(&d.name));
        let may = ["azure", "host"].contains(&package.name.as_str());
        assert!(may || normal.count() == 0, "{} speaks to Azure by itself", package.name);
    }
    // What decides about orders does no I/O, knows no clock and waits for nothing.
    let orders = metadata.packages.iter().find(|p| p.name.as_str() == "orders").unwrap();
    for dependency in &orders.dependencies {
        let name = dependency.name.as_str();
        assert!(!["tokio", "reqwest", "hyper", "futures", "axum"].contains(&name), "{name}");
    }
}

#[test]
fn every_source_file_says_what_it_is() {
    for path in files("rs") {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("//!"), "{} has no head", path.display());
    }
}

#[test]
fn files_stay_readable() {
    const LINES_MAX: usize = 700;
    for path in ["rs", "js", "py"].into_iter().flat_map(files) {
        let lines = std::fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= LINES_MAX, "{} has {lines} lines", path.display());
    }
}

#[test]
fn the_topology_and_every_function_json_agree() {
    let topology = json(&root().join("infra/topology.json"));
    let entries = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let connection = text(&topology["serviceBus"]["connection"]);
    let mut subscriptions = BTreeMap::new();
    for topic in entries(&topology["serviceBus"]["topics"]) {
        for subscription in entries(&topic["subscriptions"]) {
            subscriptions.insert((text(&topic["name"]), text(&subscription["name"])), 0);
            assert_eq!(entries(&subscription["rules"]).len(), 1, "exactly one rule each");
            let rule = text(&subscription["rules"][0]["sqlExpression"]);
            let target = format!("(target IS NULL OR target = '{}')", text(&subscription["name"]));
            assert!(rule.starts_with(&target), "{rule} lets replays of others in");
        }
    }
    let mut declared = BTreeSet::new();
    let mut timers = 0;
    for app in entries(&topology["apps"]) {
        for function in entries(&app["functions"]) {
            let folder = root().join("functions").join(text(&app["folder"])).join(text(&function));
            let path = folder.join("function.json");
            for binding in entries(&json(&path)["bindings"]) {
                if binding["type"] == "serviceBusTrigger" {
                    let source = (text(&binding["topicName"]), text(&binding["subscriptionName"]));
                    let readers = subscriptions.get_mut(&source);
                    *readers.unwrap_or_else(|| panic!("{path:?} reads unknown {source:?}")) += 1;
                    assert_eq!(text(&binding["connection"]), connection, "{path:?}");
                }
                if binding["type"] == "timerTrigger" {
                    let schedule = &topology["schedules"][text(&function)];
                    assert_eq!(schedule, &binding["schedule"], "{path:?}");
                    timers += 1;
                }
            }
            declared.insert(path);
        }
    }
    for (subscription, readers) in subscriptions {
        assert_eq!(readers, 1, "{subscription:?} needs exactly one reader");
    }
    assert_eq!(topology["schedules"].as_object().map(serde_json::Map::len), Some(timers));
    let found: BTreeSet<PathBuf> = files("json")
        .into_iter()
        .filter(|path| {
            path.ends_with("function.json") && path.starts_with(root().join("functions"))
        })
        .collect();
    assert_eq!(found, declared, "functions/ and infra/topology.json name other functions");
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    for path in files("md") {
        let text = std::fs::read_to_string(&path).unwrap();
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let target = link.split('#').next().unwrap_or_default();
            // `Type::method` is a link that rustdoc resolves, and that `cargo doc` checks.
            if target.is_empty() || target.contains(':') {
                continue;
            }
            let resolved = path.parent().unwrap().join(target);
            assert!(resolved.exists(), "{}: {link} leads nowhere", path.display());
        }
    }
}

#[test]
fn everything_binds_to_this_machine_only() {
    // Split, so that this file does not find itself.
    let anywhere = ["0.0", ".0.0"].concat();
    for path in files("rs") {
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(!text.contains(&anywhere), "{} binds to every interface", path.display());
    }
}
