//! The change feed on the wire: `GET …/docs` with `A-IM`.

use http::StatusCode;
use serde_json::{Map, Value, json};

use super::reply::{Answer, Origin, Refusal, Reply};
use super::request::Request;
use super::state::State;
use super::target::Target;
use crate::auth::parse_http_date;
use crate::limits::{DEFAULT_PAGE_ITEMS, MAX_PAGE_ITEMS};
use crate::store::feed::{self, Start};
use crate::store::{Component, Document, Event, Version, query_charge};

/// The wire format in which every change is an envelope.
const ENVELOPE_FORMAT: &str = "2021-09-15";

/// The `A-IM` of the mode that has every version and deletes.
const ALL_VERSIONS: &str = "Full-Fidelity Feed";

/// Answers a poll.
pub(super) fn read(state: &State, target: &Target, request: &Request) -> Answer {
    let start = start(request)?;
    let scope = target.scope(request)?;
    let limit = request.max_items().unwrap_or(DEFAULT_PAGE_ITEMS).min(MAX_PAGE_ITEMS);
    if request.header("a-im").is_some_and(|mode| mode.eq_ignore_ascii_case(ALL_VERSIONS)) {
        return read_all_versions(state, target, &scope, start, limit);
    }
    let (page, origin) = {
        let store = state.read();
        let container = target.container(&store)?;
        let page = feed::read(container, &scope, start, limit, state.clock.now_ms());
        let origin = match &scope {
            feed::Scope::Partition(key) => target.origin_of(container, key),
            _ => target.origin(container),
        };
        (page, origin)
    };
    let envelopes =
        request.header("x-ms-cosmos-changefeed-wire-format-version") == Some(ENVELOPE_FORMAT);
    answer(&origin, page.position, &page.documents, |document, out| {
        write(document, envelopes, out);
    })
}

/// Answers a poll for every version and deletes. The format is the same whichever was asked for:
/// there is no other.
fn read_all_versions(
    state: &State,
    target: &Target,
    scope: &feed::Scope,
    start: Start,
    limit: usize,
) -> Answer {
    let (page, origin) = {
        let store = state.read();
        let container = target.container(&store)?;
        let now_ms = state.clock.now_ms();
        let page = feed::read_all_versions(container, scope, start, limit, now_ms)?;
        let origin = match scope {
            feed::Scope::Partition(key) => target.origin_of(container, key),
            _ => target.origin(container),
        };
        (page, origin)
    };
    let paths = &target.partition_key.paths;
    answer(&origin, page.position, &page.versions, |version, out| {
        write_version(version, paths, out);
    })
}

fn answer<T>(
    origin: &Origin,
    position: u64,
    changes: &[T],
    write: impl Fn(&T, &mut Vec<u8>),
) -> Answer {
    let etag = format!("\"{position}\"");
    if changes.is_empty() {
        return Ok(Reply::empty(StatusCode::NOT_MODIFIED).header("etag", etag).of(origin));
    }
    let mut body = format!("{{\"_rid\":\"{}\",\"Documents\":[", origin.rid).into_bytes();
    for (index, change) in changes.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        write(change, &mut body);
    }
    let count = changes.len();
    body.extend_from_slice(format!("],\"_count\":{count}}}").as_bytes());
    let charge = query_charge(count, body.len());
    Ok(Reply::new(StatusCode::OK, body)
        .charge(charge)
        .header("etag", etag)
        .header("x-ms-item-count", count)
        .of(origin))
}

fn start(request: &Request) -> Result<Start, Refusal> {
    if let Some(etag) = request.header("if-none-match") {
        if etag == "*" {
            return Ok(Start::Now);
        }
        let position = etag.trim_matches('"').parse();
        return position
            .map(Start::After)
            .map_err(|_| Refusal::bad("the change feed position is malformed"));
    }
    match request.header("if-modified-since") {
        None => Ok(Start::Beginning),
        Some(date) => parse_http_date(date)
            .map(|second| Start::Time(u64::try_from(second).unwrap_or(0)))
            .ok_or_else(|| Refusal::bad("the if-modified-since date is malformed")),
    }
}

/// Stored text is an object that ends in its system properties, so one more can follow.
fn write(document: &Document, envelope: bool, out: &mut Vec<u8>) {
    let Document { lsn, ts, .. } = document;
    let text = document.text.read();
    if envelope {
        out.extend_from_slice(b"{\"current\":");
        out.extend_from_slice(&text);
        let metadata = format!(
            ",\"metadata\":{{\"lsn\":{lsn},\"crts\":{ts},\"operationType\":\"replace\"}}}}"
        );
        out.extend_from_slice(metadata.as_bytes());
    } else {
        out.extend_from_slice(&text[..text.len().saturating_sub(1)]);
        out.extend_from_slice(format!(",\"_lsn\":{lsn}}}").as_bytes());
    }
}

/// A change with what is known about it. Deletes have no current version, but the one before, and
/// tell which item it was
/// (<https://learn.microsoft.com/dotnet/api/microsoft.azure.cosmos.changefeedmetadata>).
fn write_version(version: &Version, paths: &[Vec<String>], out: &mut Vec<u8>) {
    let mut metadata = json!({"lsn": version.lsn, "crts": version.at_ms / 1000});
    let (kind, place) = match version.event {
        Event::Created => ("create", "current"),
        Event::Replaced => ("replace", "current"),
        Event::Deleted { expired } => {
            metadata["timeToLiveExpired"] = expired.into();
            metadata["id"] = version.id.as_ref().into();
            metadata["partitionKey"] = key_values(&version.partition.key.0, paths);
            ("delete", "previous")
        }
    };
    metadata["operationType"] = kind.into();
    if let Some(lsn) = version.previous_lsn {
        metadata["previousImageLSN"] = lsn.into();
    }
    out.extend_from_slice(format!("{{\"metadata\":{metadata}").as_bytes());
    if let Some(document) = &version.document {
        out.extend_from_slice(format!(",\"{place}\":").as_bytes());
        out.extend_from_slice(&document.text.read());
    }
    out.push(b'}');
}

/// The values of a partition key by their paths, without the slash in front.
fn key_values(components: &[Component], paths: &[Vec<String>]) -> Value {
    let value = |component: &Component| match component {
        Component::Undefined => None,
        Component::Null => Some(Value::Null),
        Component::Bool(flag) => Some((*flag).into()),
        Component::Number(bits) => crate::sql::eval::number(f64::from_bits(*bits)),
        Component::String(text) => Some(text.as_ref().into()),
    };
    let defined = paths
        .iter()
        .zip(components)
        .filter_map(|(path, component)| Some((path.join("/"), value(component)?)));
    Value::Object(defined.collect::<Map<_, _>>())
}
