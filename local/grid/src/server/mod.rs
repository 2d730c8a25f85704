//! HTTP in both directions: publishers and people in, subscribers out. Nothing here decides what
//! happens to events: that is [`crate::store`].

mod control;
mod courier;
mod morgue;
mod publish;
mod pump;
mod reply;
mod start;
mod storage;

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::request::Parts;
use http::{Method, Response};
use http_body_util::Full;
use listener::Clock;
use tokio::sync::Notify;

pub use start::{BindError, Options, Server};

use crate::access::Key;
use crate::store::Store;
use reply::Refusal;

/// What all connections share.
struct State {
    store: Mutex<Store>,
    clock: Clock,
    key: Key,
    /// Rung when there may be something to deliver.
    changed: Notify,
}

impl State {
    /// A panic while the lock was held cannot have left half a change that matters more than
    /// refusing everything from then on.
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers one request, whatever it is.
fn answer(state: &State, parts: &Parts, body: Result<Bytes, Refusal>) -> Response<Full<Bytes>> {
    let path: Vec<&str> = parts.uri.path().split('/').skip(1).collect();
    let answered = match (&parts.method, path.as_slice()) {
        (&Method::POST, [topic, "api", "events"]) => publish::publish(state, parts, topic, body),
        (_, [_, "api", "events"]) => Err(Refusal::method("POST")),
        (&Method::GET, ["healthz"]) => Ok(reply::json(200, &serde_json::json!({"status": "ok"}))),
        (method, ["admin", rest @ ..]) => {
            let code = publish::query(parts, "code");
            control::control(state, method, rest, code.as_deref(), body)
        }
        _ => Err(Refusal::not_found("there is nothing at this address")),
    };
    answered.unwrap_or_else(|refusal| {
        tracing::debug!(
            http.method = %parts.method,
            http.path = parts.uri.path(),
            http.status = refusal.status(),
            "request refused"
        );
        refusal.into_response()
    })
}
