//! HTTP: accepting connections, reading requests, routing them, answering.
//!
//! The REST surface is specified at <https://learn.microsoft.com/rest/api/cosmos-db/>. Nothing here
//! decides what happens to data: that is [`crate::store`].

mod account;
mod batch;
mod feed;
mod items;
mod query;
mod reply;
mod request;
mod server;
mod state;
mod throttle;

pub use server::{Account, BindError, DatabaseDeclaration, Options, ServeError, Server};

use std::sync::PoisonError;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;
use uuid::Uuid;

use crate::auth;
use reply::{Answer, Refusal};
use request::Request;
use state::{State, Target};

/// Answers one request, whatever it is.
async fn answer(
    state: &State,
    parts: http::request::Parts,
    body: Result<Bytes, Refusal>,
) -> Response<Full<Bytes>> {
    let activity_id = parts.headers.get("x-ms-activity-id").cloned().unwrap_or_else(|| {
        let id = Uuid::new_v4().to_string();
        HeaderValue::from_str(&id).unwrap_or(HeaderValue::from_static("0"))
    });
    let (method, path) = (parts.method.clone(), parts.uri.path().to_owned());
    let reply = match settled(state, admit(state, parts, body).await).await {
        Ok(reply) => reply,
        Err(refusal) => {
            tracing::debug!(
                http.method = %method,
                http.path = path,
                http.status = refusal.status.as_u16(),
                cosmos.substatus = refusal.substatus,
                reason = refusal.message,
                "request refused"
            );
            refusal.into_reply(activity_id.to_str().unwrap_or_default())
        }
    };
    reply.into_response(&activity_id)
}

/// Waits until what an answer tells is durable. A refusal tells something too: that an item is
/// missing or there already.
async fn settled(state: &State, answer: Answer) -> Answer {
    let after = match &answer {
        Ok(reply) => reply.after,
        Err(refusal) if refusal.status == StatusCode::UNAUTHORIZED => 0,
        Err(_) => state.read().sequence(),
    };
    match state.durability.reached(after).await {
        Ok(()) => answer,
        Err(error) => Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, 0, error.to_string())),
    }
}

/// Authentication, then the request budget, then the request itself.
async fn admit(state: &State, parts: http::request::Parts, body: Result<Bytes, Refusal>) -> Answer {
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    auth::verify(
        &state.key,
        header("authorization"),
        parts.method.as_str(),
        parts.uri.path(),
        header("x-ms-date").or_else(|| header("date")),
        state.clock.now_ms(),
    )?;
    let request = Request::new(parts, body?)?;
    let Some(throttle) = &state.throttle else { return route(state, &request).await };
    let admitted = {
        let mut throttle = throttle.lock().unwrap_or_else(PoisonError::into_inner);
        throttle.admit(state.clock.now_ms())
    };
    if let Err(retry_after_ms) = admitted {
        let message = "The request rate is too large. Retry after the time given.";
        let mut refusal = Refusal::new(StatusCode::TOO_MANY_REQUESTS, 3200, message);
        refusal.retry_after_ms = Some(retry_after_ms);
        return Err(refusal);
    }
    let answer = route(state, &request).await;
    let charge = answer.as_ref().map_or(1.0, |reply| reply.charge);
    throttle.lock().unwrap_or_else(PoisonError::into_inner).spend(charge);
    answer
}

async fn route(state: &State, request: &Request) -> Answer {
    let segments: Vec<&str> = request.segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        [] if request.method == Method::GET => account::account(request),
        ["dbs"] => account::databases(state, request),
        ["dbs", database] => account::database(state, request, database),
        ["dbs", database, "colls"] => account::containers(state, request, database),
        ["dbs", database, "colls", container] => {
            account::container(state, request, database, container)
        }
        ["dbs", database, "colls", container, "pkranges"] if request.method == Method::GET => {
            account::ranges(&Target::find(state, request, database, container)?, request)
        }
        ["dbs", database, "colls", container, "docs"] => {
            let target = Target::find(state, request, database, container)?;
            documents(state, &target, request).await
        }
        ["dbs", database, "colls", container, "docs", id] => {
            let target = Target::find(state, request, database, container)?;
            items::point(state, &target, request, id)
        }
        ["offers"] => account::offers(state, request, None),
        ["offers", id] => account::offers(state, request, Some(id)),
        _ => Err(Refusal::not_found()),
    }
}

async fn documents(state: &State, target: &Target, request: &Request) -> Answer {
    match request.method {
        Method::GET if request.headers.contains_key("a-im") => feed::read(state, target, request),
        Method::GET => query::read_feed(state, target, request).await,
        Method::POST if request.flag("x-ms-cosmos-is-query-plan-request") => query::plan(request),
        Method::POST if account::is_query(request) => query::items(state, target, request).await,
        Method::POST if request.flag("x-ms-cosmos-is-batch-request") => {
            batch::run(state, target, request)
        }
        Method::POST => items::create(state, target, request),
        _ => {
            let message = "the method is not supported on this resource";
            Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, 0, message))
        }
    }
}
