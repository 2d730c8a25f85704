//! Names and limits that the code shares with the infrastructure: `infra/topology.json`, compiled
//! in, so that a handler cannot disagree with the entities it was deployed with.

use std::sync::LazyLock;

use serde::Deserialize;

/// The parts of `infra/topology.json` that the handlers need.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Topology {
    /// The Function Apps.
    pub apps: Vec<App>,
    /// Service Bus entities.
    pub service_bus: ServiceBus,
    /// Storage queues.
    pub storage: Storage,
    /// Cosmos DB databases.
    pub cosmos: Cosmos,
    /// The Event Grid topic.
    pub event_grid: EventGrid,
}

/// A Function App.
#[derive(Debug, Deserialize)]
pub struct App {
    /// Its name.
    pub name: String,
}

/// The name of the connection of the Event Grid topic; the topic's name is in its address.
#[derive(Debug, Deserialize)]
pub struct EventGrid {
    /// Name of the connection in the settings.
    pub connection: String,
}

/// Storage queues and the name of their connection.
#[derive(Debug, Deserialize)]
pub struct Storage {
    /// Name of the connection in the settings.
    pub connection: String,
    /// The queues.
    pub queues: Vec<String>,
}

/// Service Bus entities and the name of their connection.
#[derive(Debug, Deserialize)]
pub struct ServiceBus {
    /// Name of the connection in the settings.
    pub connection: String,
    /// The topics; the first is the one that events are published to.
    pub topics: Vec<Topic>,
}

/// A topic.
#[derive(Debug, Deserialize)]
pub struct Topic {
    /// Its name.
    pub name: String,
    /// Its subscriptions.
    pub subscriptions: Vec<Subscription>,
}

/// A subscription.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Subscription {
    /// Its name.
    pub name: String,
    /// Deliveries after which the broker dead-letters a message.
    pub max_delivery_count: u32,
    /// What it lets in.
    pub rules: Vec<Rule>,
}

/// A rule of a subscription.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// The condition.
    pub sql_expression: String,
}

/// Cosmos DB databases and the name of their connection.
#[derive(Debug, Deserialize)]
pub struct Cosmos {
    /// Name of the connection in the settings.
    pub connection: String,
    /// The databases; the first is ours.
    pub databases: Vec<Database>,
}

/// A database.
#[derive(Debug, Deserialize)]
pub struct Database {
    /// Its name.
    pub id: String,
}

/// The topology that this executable was built with.
pub static TOPOLOGY: LazyLock<Topology> = LazyLock::new(|| {
    let text = include_str!("../infra/topology.json");
    #[expect(clippy::expect_used, reason = "compiled in, and parsed by a test")]
    serde_json::from_str(text).expect("infra/topology.json is valid")
});

impl Topology {
    /// The topic that events are published to.
    #[must_use]
    pub fn topic(&self) -> &Topic {
        &self.service_bus.topics[0]
    }

    /// The database that holds the orders.
    #[must_use]
    pub fn database(&self) -> &str {
        &self.cosmos.databases[0].id
    }

    /// What `subscription` lets in; nothing if there is no such subscription.
    #[must_use]
    pub fn rules(&self, subscription: &str) -> &[Rule] {
        let mut subscriptions = self.topic().subscriptions.iter();
        subscriptions.find(|s| s.name == subscription).map_or(&[], |s| &s.rules)
    }

    /// Deliveries after which `subscription` dead-letters a message.
    #[must_use]
    pub fn max_delivery_count(&self, subscription: &str) -> Option<u32> {
        let mut subscriptions = self.topic().subscriptions.iter();
        subscriptions.find(|s| s.name == subscription).map(|s| s.max_delivery_count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiled_in_topology_has_what_the_code_asks_of_it() {
        assert_eq!(TOPOLOGY.topic().name, "orders");
        assert_eq!(TOPOLOGY.database(), "bulkhead");
        assert!(TOPOLOGY.storage.queues.iter().any(|queue| queue == "payments-poison"));
        for service in orders::Service::ALL {
            assert!(TOPOLOGY.max_delivery_count(&format!("{service}-sub")) >= Some(3));
        }
        assert_eq!(TOPOLOGY.max_delivery_count("nobody"), None);
    }
}
