//! `/admin`: what people and tests look at and change; Azure has its resource manager for it.

use bytes::Bytes;
use http::{Method, StatusCode};
use serde_json::Value;

use super::State;
use super::reply::{Answer, Refusal, empty, json};
use crate::topology::Subscription;

/// Answers a control request; `path` is what follows `/admin/`, `code` that of a
/// handshake.
pub(super) fn control(
    state: &State,
    method: &Method,
    path: &[&str],
    code: Option<&str>,
    body: Result<Bytes, Refusal>,
) -> Answer {
    match (method, path) {
        (&Method::GET, ["state"]) => Ok(json(200, &state.store().view())),
        (&Method::GET, ["metrics"]) => Ok(json(200, &state.store().metrics())),
        (_, ["state" | "metrics"]) => Err(Refusal::method("GET")),
        // A person opens it in a browser, a service may post to it.
        (&Method::GET | &Method::POST, ["topics", topic, "subscriptions", name, "validate"]) => {
            state.store().consent(topic, name, code.unwrap_or_default())?;
            state.changed.notify_one();
            Ok(json(200, &serde_json::json!({ "validated": true })))
        }
        (_, ["topics", _, "subscriptions", _, "validate"]) => Err(Refusal::method("GET, POST")),
        (&Method::GET, ["topics", topic, "subscriptions", name]) => {
            Ok(json(200, &state.store().view_of(topic, name)?))
        }
        (&Method::PUT, ["topics", topic, "subscriptions", name]) => {
            let subscription = read(name, &body?)?;
            let is_new = state.store().subscribe(topic, subscription, state.clock.now_ms())?;
            state.changed.notify_one();
            let view = state.store().view_of(topic, name)?;
            Ok(json(if is_new { 201 } else { 200 }, &view))
        }
        (&Method::DELETE, ["topics", topic, "subscriptions", name]) => {
            state.store().unsubscribe(topic, name)?;
            Ok(empty(StatusCode::NO_CONTENT))
        }
        (_, ["topics", _, "subscriptions", _]) => Err(Refusal::method("GET, PUT, DELETE")),
        _ => Err(Refusal::not_found("there is nothing at this address")),
    }
}

/// The body is a subscription as in a topology; the path gives its name.
fn read(name: &str, body: &[u8]) -> Result<Subscription, Refusal> {
    let unreadable = |error: serde_json::Error| Refusal::bad(error.to_string());
    let mut value: Value = serde_json::from_slice(body).map_err(unreadable)?;
    let members = value.as_object_mut().ok_or_else(|| Refusal::bad("the body is no object"))?;
    if members.get("name").is_some_and(|said| said != name) {
        return Err(Refusal::bad("the name is not that of the address"));
    }
    members.insert("name".to_owned(), name.into());
    serde_json::from_value(value).map_err(unreadable)
}
