//! `stack emulators`: what the official emulators need to know, made from the topology.
//!
//! The Service Bus emulator declares its entities from a `Config.json`; its schema is
//! <https://github.com/Azure/azure-service-bus-emulator-installer>, file `Config-schema.json`. It
//! takes less than the service does, so some limits are lowered to the emulator's own; each is
//! named in [`BusConfig::lowered`].

use bus::Span;
use serde::Deserialize as _;
use serde_json::{Value, json};

use crate::fault::Fault;
use crate::topology::Topology;

/// The only namespace that the emulator has.
const NAMESPACE: &str = "sbemulatorns";

/// Longest time to live that the emulator takes.
const TTL_MAX: &str = "PT1H";

/// Longest memory of duplicates that it takes.
const DUPLICATE_WINDOW_MAX: &str = "PT5M";

/// Most deliveries that it takes.
const DELIVERIES_MAX: u64 = 10;

/// The configuration of the Service Bus emulator.
#[derive(Clone, Debug)]
pub struct BusConfig {
    /// The content of its `Config.json`.
    pub document: Value,
    /// What it does not take as the topology says it, for a person.
    pub lowered: Vec<String>,
}

/// The Service Bus emulator's configuration for this topology.
///
/// # Errors
/// A topic, a subscription or a rule lacks what the emulator has to be told.
pub fn bus(topology: &Topology) -> Result<BusConfig, Fault> {
    let mut lowered = Vec::new();
    let topics: Result<Vec<Value>, Fault> = list(&topology.service_bus, "topics")
        .iter()
        .map(|entry| topic(entry, &mut lowered))
        .collect();
    let document = json!({
        "UserConfig": {
            "Namespaces": [{ "Name": NAMESPACE, "Queues": [], "Topics": topics? }],
            "Logging": { "Type": "File" },
        },
    });
    Ok(BusConfig { document, lowered })
}

fn topic(topic: &Value, lowered: &mut Vec<String>) -> Result<Value, Fault> {
    let name = text(topic, "name", "a topic")?;
    let here = format!("topic {name}");
    let ttl = text(topic, "defaultMessageTimeToLive", &here)?;
    let window = text(topic, "duplicateDetectionHistoryTimeWindow", &here)?;
    let ttl = at_most(ttl, TTL_MAX, &format!("{here}: defaultMessageTimeToLive"), lowered)?;
    let field = format!("{here}: duplicateDetectionHistoryTimeWindow");
    let window = at_most(window, DUPLICATE_WINDOW_MAX, &field, lowered)?;
    let subscriptions: Result<Vec<Value>, Fault> = list(topic, "subscriptions")
        .iter()
        .map(|entry| subscription(entry, &here, lowered))
        .collect();
    Ok(json!({
        "Name": name,
        "Properties": {
            "DefaultMessageTimeToLive": ttl,
            "DuplicateDetectionHistoryTimeWindow": window,
            "RequiresDuplicateDetection": topic["requiresDuplicateDetection"] == true,
        },
        "Subscriptions": subscriptions?,
    }))
}

fn subscription(entry: &Value, topic: &str, lowered: &mut Vec<String>) -> Result<Value, Fault> {
    let name = text(entry, "name", topic)?;
    let here = format!("subscription {name}");
    let ttl = text(entry, "defaultMessageTimeToLive", &here)?;
    let ttl = at_most(ttl, TTL_MAX, &format!("{here}: defaultMessageTimeToLive"), lowered)?;
    let deliveries = entry["maxDeliveryCount"].as_u64().unwrap_or(DELIVERIES_MAX);
    if deliveries > DELIVERIES_MAX {
        lowered.push(format!("{here}: maxDeliveryCount {deliveries} → {DELIVERIES_MAX}"));
    }
    let rules: Result<Vec<Value>, Fault> = list(entry, "rules")
        .iter()
        .map(|rule| {
            Ok(json!({
                "Name": text(rule, "name", &here)?,
                "Properties": {
                    "FilterType": "Sql",
                    "SqlFilter": { "SqlExpression": text(rule, "sqlExpression", &here)? },
                },
            }))
        })
        .collect();
    Ok(json!({
        "Name": name,
        "Properties": {
            "DeadLetteringOnMessageExpiration": entry["deadLetteringOnMessageExpiration"] == true,
            "DefaultMessageTimeToLive": ttl,
            "LockDuration": text(entry, "lockDuration", &here)?,
            "MaxDeliveryCount": deliveries.min(DELIVERIES_MAX),
            "ForwardDeadLetteredMessagesTo": "",
            "ForwardTo": "",
            "RequiresSession": false,
        },
        "Rules": rules?,
    }))
}

/// The span, or the emulator's longest.
fn at_most(
    wanted: &str,
    most: &'static str,
    field: &str,
    lowered: &mut Vec<String>,
) -> Result<String, Fault> {
    if span(wanted, field)? <= span(most, field)? {
        return Ok(wanted.to_owned());
    }
    lowered.push(format!("{field} {wanted} → {most}"));
    Ok(most.to_owned())
}

fn span(written: &str, field: &str) -> Result<Span, Fault> {
    Span::deserialize(Value::from(written)).map_err(|error| incomplete(field, &error.to_string()))
}

fn list<'a>(value: &'a Value, name: &str) -> &'a [Value] {
    value[name].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn text<'a>(value: &'a Value, name: &str, here: &str) -> Result<&'a str, Fault> {
    value[name].as_str().ok_or_else(|| incomplete(here, &format!("`{name}` is missing")))
}

fn incomplete(here: &str, why: &str) -> Fault {
    Fault::new(
        "The topology does not say what the Service Bus emulator has to know.",
        format!("{here}: {why}"),
        "complete section `serviceBus` of infra/topology.json",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(service_bus: &Value) -> Topology {
        serde_json::from_value(json!({
            "apps": [], "schedules": {}, "serviceBus": service_bus,
            "storage": {}, "eventGrid": {}, "cosmos": {},
        }))
        .unwrap()
    }

    fn example() -> Value {
        json!({ "topics": [{
            "name": "t",
            "requiresDuplicateDetection": true,
            "duplicateDetectionHistoryTimeWindow": "PT1M",
            "defaultMessageTimeToLive": "PT30M",
            "subscriptions": [{
                "name": "s",
                "lockDuration": "PT1M",
                "maxDeliveryCount": 3,
                "defaultMessageTimeToLive": "P14D",
                "deadLetteringOnMessageExpiration": true,
                "rules": [{ "name": "r", "sqlExpression": "a = 'b'" }],
            }],
        }] })
    }

    #[test]
    fn what_the_emulator_does_not_take_is_lowered_and_named() {
        let config = bus(&topology(&example())).unwrap();
        let namespace = &config.document["UserConfig"]["Namespaces"][0];
        let topic = &namespace["Topics"][0];
        assert_eq!(topic["Properties"]["DefaultMessageTimeToLive"], "PT30M");
        assert_eq!(topic["Properties"]["DuplicateDetectionHistoryTimeWindow"], "PT1M");
        assert_eq!(topic["Properties"]["RequiresDuplicateDetection"], true);
        let subscription = &topic["Subscriptions"][0];
        assert_eq!(subscription["Properties"]["DefaultMessageTimeToLive"], "PT1H");
        assert_eq!(subscription["Properties"]["DeadLetteringOnMessageExpiration"], true);
        assert_eq!(subscription["Rules"][0]["Properties"]["SqlFilter"]["SqlExpression"], "a = 'b'");
        assert_eq!(config.lowered, ["subscription s: defaultMessageTimeToLive P14D → PT1H"]);
    }

    #[test]
    fn what_is_missing_or_no_duration_is_named() {
        let mut broken = example();
        broken["topics"][0]["subscriptions"][0]["lockDuration"] = Value::Null;
        let fault = bus(&topology(&broken)).unwrap_err();
        assert!(fault.why.contains("subscription s: `lockDuration` is missing"), "{fault}");
        let mut broken = example();
        broken["topics"][0]["defaultMessageTimeToLive"] = json!("1 hour");
        let fault = bus(&topology(&broken)).unwrap_err();
        assert!(fault.why.contains("topic t: defaultMessageTimeToLive"), "{fault}");
    }
}
