//! HTTP: accepting connections, reading requests, routing them, answering.
//!
//! The REST surface is specified at <https://learn.microsoft.com/rest/api/cosmos-db/>. Nothing here
//! decides what happens to data: that is [`crate::store`].

mod account;
mod admin;
mod batch;
mod faults;
mod feed;
mod items;
mod metrics;
mod query;
mod reply;
mod request;
mod server;
mod state;
mod target;
mod throttle;

pub use server::{Account, BindError, DatabaseDeclaration, Options, ServeError, Server};

use std::sync::PoisonError;

use bytes::Bytes;
use http::{HeaderValue, Method, Response, StatusCode};
use http_body_util::Full;

use crate::auth::Intent;
use faults::Fault;
use reply::{Answer, Refusal};
use request::Request;
use state::State;
use target::Target;

/// The answer to a request was dropped on order; its connection closes.
#[derive(Debug, thiserror::Error)]
#[error("the answer was dropped on order")]
struct Dropped;

/// What became of a request.
enum Fate {
    Answered(Answer),
    Dropped,
}

/// Answers one request, whatever it is.
async fn answer(
    state: &State,
    parts: http::request::Parts,
    body: Result<Bytes, Refusal>,
) -> Result<Response<Full<Bytes>>, Dropped> {
    let activity_id = parts.headers.get("x-ms-activity-id").cloned().unwrap_or_else(|| {
        let id = state.activity_id().to_string();
        HeaderValue::from_maybe_shared(Bytes::from(id)).unwrap_or(HeaderValue::from_static("0"))
    });
    let (method, uri) = (parts.method.clone(), parts.uri.clone());
    let answer = match admit(state, parts, body).await {
        Fate::Answered(answer) => settled(state, answer).await,
        Fate::Dropped => return Err(Dropped),
    };
    let reply = match answer {
        Ok(reply) => reply,
        Err(refusal) => {
            tracing::debug!(
                http.method = %method,
                http.path = uri.path(),
                http.status = refusal.status.as_u16(),
                cosmos.substatus = refusal.substatus,
                reason = refusal.message,
                "request refused"
            );
            refusal.into_reply(activity_id.to_str().unwrap_or_default())
        }
    };
    state.metrics.answered(&method, reply.status);
    Ok(reply.into_response(&activity_id))
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

/// Authentication, then ordered faults, then the request budget, then the request itself.
async fn admit(state: &State, parts: http::request::Parts, body: Result<Bytes, Refusal>) -> Fate {
    let admitted = authenticate(state, parts, body);
    let request = match admitted {
        Ok(request) => request,
        Err(refusal) => return Fate::Answered(Err(refusal)),
    };
    let segments: Vec<&str> = request.segments.iter().map(String::as_str).collect();
    if admin::is_admin(&segments) {
        return Fate::Answered(admin::answer(state, &request).await);
    }
    match state.faults.as_ref().and_then(|faults| faults.take(&request)) {
        Some(Fault::Refuse { status, retry_after_ms }) => {
            Fate::Answered(Err(faults::refusal(status, retry_after_ms)))
        }
        Some(Fault::Drop) => {
            // Lost on the way back: whatever was done is durable.
            drop(settled(state, budgeted(state, &request).await).await);
            Fate::Dropped
        }
        None => Fate::Answered(budgeted(state, &request).await),
    }
}

fn authenticate(
    state: &State,
    parts: http::request::Parts,
    body: Result<Bytes, Refusal>,
) -> Result<Request, Refusal> {
    let path = parts.uri.path();
    let first = path.split('/').find(|segment| !segment.is_empty()).unwrap_or_default();
    if admin::is_admin(&[first]) {
        return Request::new(parts, body?);
    }
    let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let grant = state.access.admit(
        header("authorization"),
        parts.method.as_str(),
        path,
        header("x-ms-date").or_else(|| header("date")),
        state.clock.now_ms(),
    )?;
    let request = Request::new(parts, body?)?;
    grant.permit(intent(&request))?;
    Ok(request)
}

fn intent(request: &Request) -> Intent {
    let asks = request.method == Method::GET
        || request.method == Method::HEAD
        || (request.method == Method::POST
            && (account::is_query(request) || request.flag("x-ms-cosmos-is-query-plan-request")));
    let about_items = request.segments.get(4).is_some_and(|segment| segment == "docs");
    match (asks, about_items) {
        (true, _) => Intent::Read,
        (false, true) => Intent::WriteItems,
        (false, false) => Intent::WriteControl,
    }
}

/// Within the budget of the account.
async fn budgeted(state: &State, request: &Request) -> Answer {
    let Some(throttle) = &state.throttle else { return route(state, request).await };
    let admitted = {
        let mut throttle = throttle.lock().unwrap_or_else(PoisonError::into_inner);
        throttle.admit(state.clock.now_ms())
    };
    if let Err(retry_after_ms) = admitted {
        return Err(faults::refusal(429, Some(retry_after_ms)));
    }
    let answer = route(state, request).await;
    let charge = answer.as_ref().map_or(1.0, |reply| reply.charge);
    throttle.lock().unwrap_or_else(PoisonError::into_inner).spend(charge);
    answer
}

/// Within the budget of the container.
async fn metered(state: &State, target: &Target, run: impl Future<Output = Answer>) -> Answer {
    if let Err(retry_after_ms) = state.admit_to(target.rid) {
        state.metrics.charged(target.rid, 0.0, true);
        return Err(faults::refusal(429, Some(retry_after_ms)));
    }
    let answer = run.await;
    let charge = answer.as_ref().map_or(1.0, |reply| reply.charge);
    state.charge(target.rid, charge);
    state.metrics.charged(target.rid, charge, false);
    answer
}

async fn route(state: &State, request: &Request) -> Answer {
    let segments: Vec<&str> = request.segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        [] if request.method == Method::GET => account::account(state, request),
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
            metered(state, &target, documents(state, &target, request)).await
        }
        ["dbs", database, "colls", container, "docs", id] => {
            let target = Target::find(state, request, database, container)?;
            metered(state, &target, async { items::point(state, &target, request, id) }).await
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
        Method::POST if request.flag("x-ms-cosmos-is-query-plan-request") => {
            query::plan(target, request)
        }
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
