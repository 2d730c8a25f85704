//! HTTP: accepting connections, reading requests, routing them, answering.
//!
//! The REST surface is specified at
//! <https://learn.microsoft.com/rest/api/storageservices/queue-service-rest-api>. Nothing here
//! decides what happens to messages: that is [`crate::store`].

mod account;
mod messages;
mod operation;
mod queues;
mod reply;
mod request;
mod server;

pub use server::{BindError, Options, Server, connection_string};

use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use listener::Clock;

use crate::auth::{self, Grant, Key};
use crate::durable::Durable;
use crate::store::{Store, StoreError};
use operation::Operation;
use reply::{Answer, Envelope, Refusal};
use request::Request;

/// What all connections share.
struct State {
    store: Mutex<Store>,
    /// What the store commits to, if that outlives the process.
    durable: Option<Durable>,
    clock: Clock,
    account: String,
    key: Key,
}

impl State {
    /// A panic while the lock was held cannot have left a half-applied commit: deciding panics
    /// before anything changes. Going on is better than refusing everything from then on.
    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers one request, whatever it is.
async fn answer(
    state: &State,
    source: IpAddr,
    parts: http::request::Parts,
    body: Result<Bytes, Refusal>,
) -> Response<Full<Bytes>> {
    let now_ms = state.clock.now_ms();
    let envelope = Envelope::new(&parts.headers, now_ms);
    let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
    let mut answer = admit(state, source, parts, body, now_ms);
    // Not even a refusal may tell of something that a crash could still undo.
    if let Some(durable) = &state.durable
        && durable.settled().await.is_err()
    {
        answer = Err(StoreError::LogUnavailable.into());
    }
    let reply = answer.unwrap_or_else(|refusal| {
        tracing::debug!(
            http.method = %method,
            http.path = path,
            http.status = refusal.status.as_u16(),
            queue.error = refusal.code,
            "request refused"
        );
        refusal.into_reply(&envelope)
    });
    reply.into_response(envelope)
}

/// Authentication, then the meaning of the request, then its permission, then the request itself.
fn admit(
    state: &State,
    source: IpAddr,
    parts: http::request::Parts,
    body: Result<Bytes, Refusal>,
    now_ms: u64,
) -> Answer {
    let request = Request::new(parts)?;
    let grant = authenticate(state, source, &request, now_ms)?;
    let operation = Operation::of(&state.account, &request)?;
    grant.permits(operation.need())?;
    let body = body?;
    match operation {
        Operation::ListQueues => account::list(state, &request),
        Operation::GetProperties => account::properties(state),
        Operation::SetProperties => account::set_properties(state, &body, now_ms),
        Operation::GetStats => account::stats(now_ms),
        Operation::CreateQueue(queue) => queues::create(state, &request, queue, now_ms),
        Operation::DeleteQueue(queue) => queues::delete(state, queue, now_ms),
        Operation::GetMetadata(queue) => queues::metadata(state, queue, now_ms),
        Operation::SetMetadata(queue) => queues::set_metadata(state, &request, queue, now_ms),
        Operation::GetAcl(queue) => queues::acl(state, queue, now_ms),
        Operation::SetAcl(queue) => queues::set_acl(state, queue, &body, now_ms),
        Operation::PutMessage(queue) => messages::put(state, &request, queue, &body, now_ms),
        Operation::GetMessages(queue) => messages::get(state, &request, queue, now_ms),
        Operation::PeekMessages(queue) => messages::peek(state, &request, queue, now_ms),
        Operation::ClearMessages(queue) => messages::clear(state, queue, now_ms),
        Operation::UpdateMessage(queue, id) => {
            messages::update(state, &request, queue, id, &body, now_ms)
        }
        Operation::DeleteMessage(queue, id) => messages::delete(state, &request, queue, id, now_ms),
    }
}

fn authenticate(
    state: &State,
    source: IpAddr,
    request: &Request,
    now_ms: u64,
) -> Result<Grant, Refusal> {
    if request.headers.contains_key("authorization") || !request.query.contains_key("sig") {
        auth::verify(
            &state.account,
            &state.key,
            request.method.as_str(),
            &request.target,
            &request.headers,
            now_ms,
        )?;
        return Ok(Grant::Account);
    }
    let queue = request.segments.get(1).map(|name| {
        let policies = state.store().queue(name, now_ms).map(|queue| queue.policies().to_vec());
        (name.as_str(), policies.unwrap_or_default())
    });
    let queue = queue.as_ref().map(|(name, policies)| (*name, policies.as_slice()));
    Ok(Grant::of_sas(&state.account, &state.key, &request.query, queue, source, now_ms)?)
}
