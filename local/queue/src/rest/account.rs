//! The account itself: its queues, its settings, its state of replication.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::StatusCode;
use xml::Element;

use super::State;
use super::reply::{Answer, Refusal, Reply};
use super::request::Request;
use crate::date;
use crate::limits::{MAX_QUEUES_PER_PAGE, XML_BOUNDS};

/// The settings that the service has, in the order in which it lists them.
const PROPERTIES: [&str; 4] = ["Logging", "HourMetrics", "MinuteMetrics", "Cors"];

/// List Queues.
pub(super) fn list(state: &State, request: &Request) -> Answer {
    let limit = request.count("maxresults", MAX_QUEUES_PER_PAGE, MAX_QUEUES_PER_PAGE)?;
    let parameter = |name: &str| request.parameter(name).unwrap_or_default();
    let with_metadata = parameter("include").split(',').any(|part| part == "metadata");
    let store = state.store();
    let (page, next) = store.list(parameter("prefix"), parameter("marker"), limit);
    let queues = page.into_iter().map(|(name, queue)| {
        let mut parts = vec![Element::text("Name", name)];
        if with_metadata {
            let metadata = queue.metadata().iter().map(|(name, value)| Element::text(name, value));
            parts.push(Element::of("Metadata", metadata.collect()));
        }
        Element::of("Queue", parts)
    });
    let elements = [
        Element::text("Prefix", parameter("prefix")),
        Element::text("Marker", parameter("marker")),
        Element::text("MaxResults", limit.to_string()),
        Element::of("Queues", queues.collect()),
        Element::text("NextMarker", next.unwrap_or_default()),
    ];
    let mut document = xml::DECLARATION.to_owned();
    document.push_str("<EnumerationResults ServiceEndpoint=\"http://");
    xml::escape_into(request.header("host").unwrap_or_default(), &mut document);
    document.extend(["/", &state.account, "\">"]);
    for element in elements {
        element.write(&mut document);
    }
    document.push_str("</EnumerationResults>");
    Ok(Reply::xml(StatusCode::OK, document))
}

/// Get Queue Service Properties.
pub(super) fn properties(state: &State) -> Answer {
    let store = state.store();
    let mut document = xml::DECLARATION.to_owned();
    document.push_str("<StorageServiceProperties>");
    for name in PROPERTIES {
        match store.properties().get(name) {
            Some(changed) => document.push_str(changed),
            None => default_property(name).write(&mut document),
        }
    }
    document.push_str("</StorageServiceProperties>");
    Ok(Reply::xml(StatusCode::OK, document))
}

/// Set Queue Service Properties. They are kept and given back; nothing else depends on them.
pub(super) fn set_properties(state: &State, body: &Bytes, now_ms: u64) -> Answer {
    let root = Element::parse(body, XML_BOUNDS)?;
    if root.name != "StorageServiceProperties" {
        return Err(Refusal::missing_xml_node("StorageServiceProperties"));
    }
    let mut properties = BTreeMap::new();
    for property in root.children {
        if !PROPERTIES.contains(&property.name.as_str()) {
            return Err(Refusal::invalid_xml());
        }
        let mut text = String::new();
        property.write(&mut text);
        properties.insert(property.name, text);
    }
    state.store().set_properties(properties, now_ms)?;
    Ok(Reply::empty(StatusCode::ACCEPTED))
}

/// Get Queue Service Stats.
pub(super) fn stats(now_ms: u64) -> Answer {
    let replication = Element::of(
        "GeoReplication",
        vec![Element::text("Status", "live"), Element::text("LastSyncTime", date::rfc1123(now_ms))],
    );
    let stats = Element::of("StorageServiceStats", vec![replication]);
    Ok(Reply::xml(StatusCode::OK, stats.document()))
}

fn default_property(name: &str) -> Element {
    let off = |name: &str| Element::text(name, "false");
    let retention = || Element::of("RetentionPolicy", vec![off("Enabled")]);
    let version = || Element::text("Version", "1.0");
    let parts = match name {
        "Logging" => vec![version(), off("Delete"), off("Read"), off("Write"), retention()],
        "Cors" => Vec::new(),
        _ => vec![version(), off("Enabled"), retention()],
    };
    Element::of(name, parts)
}
