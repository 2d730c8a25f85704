//! `infra/topology.json`: which apps there are and what the services declare.

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

use crate::fault::Fault;

/// The topology. The sections of the services are handed to them as they are.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Topology {
    /// The Function Apps, in the order in which they are started.
    pub apps: Vec<App>,
    /// When the timer functions run, by function: their `function.json` says the same.
    pub schedules: std::collections::BTreeMap<String, String>,
    /// Service Bus entities.
    pub service_bus: Value,
    /// Storage queues.
    pub storage: Value,
    /// Event Grid topics.
    pub event_grid: Value,
    /// Cosmos DB databases.
    pub cosmos: Value,
}

/// One Function App.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct App {
    /// Its name, as in Azure.
    pub name: String,
    /// Its folder under `functions/`.
    pub folder: String,
    /// Its functions; each a folder with a `function.json`.
    pub functions: Vec<String>,
}

impl Topology {
    /// Reads a topology.
    ///
    /// # Errors
    /// The file is missing, no JSON, or of another shape.
    pub fn read(path: &Path) -> Result<Self, Fault> {
        let unusable = |why: String| {
            let what = format!("The topology {} cannot be used.", path.display());
            Fault::new(what, why, "compare it with `git diff infra/topology.json`")
        };
        let text = std::fs::read_to_string(path).map_err(|error| unusable(error.to_string()))?;
        serde_json::from_str(&text).map_err(|error| unusable(error.to_string()))
    }

    /// The name of a service's connection in the settings.
    #[must_use]
    pub fn connection(section: &Value) -> &str {
        section["connection"].as_str().unwrap_or_default()
    }

    /// Topic and subscription names, for a person: `orders → a, b`.
    #[must_use]
    pub fn topics(&self) -> String {
        lines(&self.service_bus["topics"])
    }

    /// Event Grid topics and their subscriptions, for a person.
    #[must_use]
    pub fn grid_topics(&self) -> String {
        lines(&self.event_grid["topics"])
    }

    /// The Event Grid topic that the apps publish to: the first.
    #[must_use]
    pub fn grid_topic(&self) -> &str {
        self.event_grid["topics"][0]["name"].as_str().unwrap_or_default()
    }

    /// The names of the Storage queues, for a person.
    #[must_use]
    pub fn queues(&self) -> String {
        let queues = self.storage["queues"].as_array().map(Vec::as_slice).unwrap_or_default();
        let names: Vec<&str> = queues.iter().filter_map(Value::as_str).collect();
        format!("queues {}", names.join(", "))
    }

    /// How many databases and containers are declared.
    #[must_use]
    pub fn containers(&self) -> (usize, usize) {
        let databases = self.cosmos["databases"].as_array().map(Vec::as_slice).unwrap_or_default();
        let containers =
            databases.iter().map(|db| db["containers"].as_array().map_or(0, Vec::len)).sum();
        (databases.len(), containers)
    }
}

/// Topics with their subscriptions: `topic orders → a, b; topic …`.
fn lines(topics: &Value) -> String {
    let names = |value: &Value| -> Vec<String> {
        let items = value.as_array().map(Vec::as_slice).unwrap_or_default();
        items.iter().filter_map(|item| item["name"].as_str().map(str::to_owned)).collect()
    };
    let topics = topics.as_array().map(Vec::as_slice).unwrap_or_default();
    let lines: Vec<String> = topics
        .iter()
        .map(|topic| {
            let name = topic["name"].as_str().unwrap_or_default();
            format!("topic {name} → {}", names(&topic["subscriptions"]).join(", "))
        })
        .collect();
    lines.join("; ")
}
