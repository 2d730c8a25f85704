//! `POST /<topic>/api/events?api-version=2018-01-01`: who, then what, then the store.
//!
//! Source: <https://learn.microsoft.com/azure/event-grid/post-to-custom-topic>.

use bytes::Bytes;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HOST};
use http::request::Parts;
use percent_encoding::percent_decode_str;

use super::State;
use super::reply::{Answer, Refusal, empty};
use crate::event::Schema;
use crate::{access, event};

/// The version of the publish API.
const API_VERSION: &str = "2018-01-01";

/// Takes events: all of a request, or none.
pub(super) fn publish(
    state: &State,
    parts: &Parts,
    topic: &str,
    body: Result<Bytes, Refusal>,
) -> Answer {
    let now_ms = state.clock.now_ms();
    let text = |name| parts.headers.get(name).map(|value| value.to_str().unwrap_or_default());
    let host = parts.uri.authority().map(http::uri::Authority::as_str).or(text(HOST));
    let resource = format!("{}{}", host.unwrap_or_default(), parts.uri.path());
    let key = query(parts, access::KEY);
    // Before anything else, so that a stranger learns nothing about topics.
    state.key.admit(&parts.headers, key.as_deref(), &resource, now_ms)?;
    let schema = state.store().schema_of(topic)?;
    let taken = take(state, parts, topic, schema, body, now_ms);
    if taken.is_err() {
        state.store().refused(topic);
    }
    taken
}

fn take(
    state: &State,
    parts: &Parts,
    topic: &str,
    schema: Schema,
    body: Result<Bytes, Refusal>,
    now_ms: u64,
) -> Answer {
    let text = |name| parts.headers.get(name).map(|value| value.to_str().unwrap_or_default());
    match query(parts, "api-version").as_deref() {
        Some(API_VERSION) => {}
        Some(_) => {
            return Err(Refusal::bad(format!("the api-version must be {API_VERSION}")));
        }
        None => {
            let why = format!("the query parameter api-version={API_VERSION} is missing");
            return Err(Refusal::bad(why));
        }
    }
    let media_type = text(CONTENT_TYPE).unwrap_or_default();
    let events = event::parse(schema, &format!("/{topic}"), media_type, &body?)?;
    let count = events.len();
    state.store().publish(topic, events, now_ms)?;
    state.changed.notify_one();
    tracing::debug!(topic, count, "events taken");
    Ok(empty(StatusCode::OK))
}

/// A query parameter, decoded.
pub(super) fn query(parts: &Parts, name: &str) -> Option<String> {
    let pairs = parts.uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    let mut found = pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name));
    // A plus sign stays one: it is a character of base64, and keys come unencoded.
    found.next().map(|(_, value)| percent_decode_str(value).decode_utf8_lossy().into_owned())
}
