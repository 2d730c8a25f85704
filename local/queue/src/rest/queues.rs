//! Queues: create, delete, metadata, stored access policies.

use bytes::Bytes;
use http::{HeaderName, StatusCode};
use xml::Element;

use super::State;
use super::reply::{Answer, Refusal, Reply};
use super::request::Request;
use crate::date;
use crate::limits::{
    MAX_ACCESS_POLICIES, MAX_METADATA_BYTES, MAX_POLICY_ID_CHARACTERS, XML_BOUNDS,
};
use crate::store::{AccessPolicy, Creation, Metadata};

const METADATA_PREFIX: &str = "x-ms-meta-";

/// Create Queue.
pub(super) fn create(state: &State, request: &Request, queue: &str, now_ms: u64) -> Answer {
    let metadata = metadata_of(request)?;
    Ok(Reply::empty(match state.store().create_queue(queue, metadata, now_ms)? {
        Creation::Created => StatusCode::CREATED,
        Creation::Unchanged => StatusCode::NO_CONTENT,
    }))
}

/// Delete Queue.
pub(super) fn delete(state: &State, queue: &str, now_ms: u64) -> Answer {
    state.store().drop_queue(queue, now_ms)?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// Get Queue Metadata.
pub(super) fn metadata(state: &State, queue: &str, now_ms: u64) -> Answer {
    let store = state.store();
    let queue = store.queue(queue, now_ms)?;
    let count = HeaderName::from_static("x-ms-approximate-messages-count");
    let mut reply = Reply::empty(StatusCode::OK).header(count, queue.approximate_count(now_ms));
    for (name, value) in queue.metadata() {
        if let Ok(name) = HeaderName::try_from(format!("{METADATA_PREFIX}{name}")) {
            reply = reply.header(name, value);
        }
    }
    Ok(reply)
}

/// Set Queue Metadata.
pub(super) fn set_metadata(state: &State, request: &Request, queue: &str, now_ms: u64) -> Answer {
    let metadata = metadata_of(request)?;
    state.store().set_metadata(queue, metadata, now_ms)?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// Get Queue ACL.
pub(super) fn acl(state: &State, queue: &str, now_ms: u64) -> Answer {
    let store = state.store();
    let policies = store.queue(queue, now_ms)?.policies().iter().map(|policy| {
        let parts = [
            ("Start", &policy.start),
            ("Expiry", &policy.expiry),
            ("Permission", &policy.permission),
        ];
        let parts = parts.into_iter().filter(|(_, value)| !value.is_empty());
        let parts = parts.map(|(name, value)| Element::text(name, value)).collect();
        let id = Element::text("Id", &policy.id);
        Element::of("SignedIdentifier", vec![id, Element::of("AccessPolicy", parts)])
    });
    let document = Element::of("SignedIdentifiers", policies.collect()).document();
    Ok(Reply::xml(StatusCode::OK, document))
}

/// Set Queue ACL. No body, as good as an empty list, takes all policies away.
pub(super) fn set_acl(state: &State, queue: &str, body: &Bytes, now_ms: u64) -> Answer {
    let policies = if body.is_empty() { Vec::new() } else { policies_of(body)? };
    state.store().set_access_policies(queue, policies, now_ms)?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

fn policies_of(body: &[u8]) -> Result<Vec<AccessPolicy>, Refusal> {
    let root = Element::parse(body, XML_BOUNDS)?;
    if root.name != "SignedIdentifiers" || root.children.len() > MAX_ACCESS_POLICIES {
        return Err(Refusal::invalid_xml());
    }
    let parse = |identifier: &Element| {
        let id = identifier.child_text("Id").ok_or(Refusal::missing_xml_node("Id"))?;
        if !(1..=MAX_POLICY_ID_CHARACTERS).contains(&id.chars().count()) {
            return Err(Refusal::xml_node("Id"));
        }
        let policy = identifier.child("AccessPolicy");
        let field = |name: &'static str| {
            policy.and_then(|policy| policy.child_text(name)).unwrap_or_default().to_owned()
        };
        let time = |name: &'static str| {
            let text = field(name);
            let known = text.is_empty() || date::parse_iso8601(&text).is_some();
            if known { Ok(text) } else { Err(Refusal::xml_node(name)) }
        };
        Ok(AccessPolicy {
            id: id.to_owned(),
            start: time("Start")?,
            expiry: time("Expiry")?,
            permission: field("Permission"),
        })
    };
    root.children.iter().map(parse).collect()
}

/// The metadata in the headers of a request. HTTP does not tell letter case of header names apart,
/// so names are in lower case from here on.
fn metadata_of(request: &Request) -> Result<Metadata, Refusal> {
    let mut metadata = Metadata::new();
    for (name, value) in &request.headers {
        let Some(name) = name.as_str().strip_prefix(METADATA_PREFIX) else { continue };
        if name.is_empty() {
            return Err(Refusal::metadata("EmptyMetadataKey"));
        }
        let value = value.to_str().ok().filter(|_| is_identifier(name));
        let value = value.ok_or(Refusal::metadata("InvalidMetadata"))?;
        metadata.insert(name.to_owned(), value.trim().to_owned());
    }
    let bytes: usize = metadata.iter().map(|(name, value)| name.len() + value.len()).sum();
    if bytes > MAX_METADATA_BYTES {
        return Err(Refusal::metadata("MetadataTooLarge"));
    }
    Ok(metadata)
}

fn is_identifier(name: &str) -> bool {
    !name.starts_with(|first: char| first.is_ascii_digit())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}
