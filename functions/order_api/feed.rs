//! `GET /api/feed`: what changes about orders, as it changes.
//!
//! Asked for as `text/event-stream` it is a stream of server-sent events: `hello`, then `order` for
//! each change, `reset` when the client may have missed something and has to read the list again,
//! `trouble` while the store does not answer. The id of an event is a cursor, so that a browser that
//! connects again goes on where it was. A stream ends politely after 110 s (`FEED_SESSION_SECONDS`): Azure's front end
//! cuts one that is silent for 230 s, and each open one is a running invocation. Asked for in any
//! other way it is one answer with what has changed since a cursor, and an `ETag`.
//!
//! Source of the format: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures::Stream;
use handler::Shutdown;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue};
use orders::{CustomerId, FieldError};
use serde_json::json;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use super::feed_source::{CATCH_UP_MAX, Happening, OVERLAP_SECONDS, Ticket, read_changed};
use super::view::OrderView;
use super::{Shared, content_etag, not_modified, store_problem};
use crate::access::{Principal, Reach};
use crate::clock;
use crate::problem::Problem;

/// How often a stream on which nothing happens shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// What a browser waits before it connects again.
const RETRY: Duration = Duration::from_secs(1);

/// What a client is told to wait when there are too many streams; it polls meanwhile.
const FULL_RETRY_AFTER: Duration = Duration::from_secs(10);

/// Age in seconds of a cursor that is still followed; after a longer break the list is shorter.
const CURSOR_AGE_MAX: i64 = 600;

/// The header by which a browser says where it was.
const LAST_EVENT_ID: &str = "last-event-id";

/// Changes of orders, as a stream or since a cursor.
pub(super) async fn feed(
    State(api): Shared,
    principal: Principal,
    Shutdown(shutdown): Shutdown,
    headers: HeaderMap,
    query: Result<Query<BTreeMap<String, String>>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let own = match principal.reach()? {
        Reach::Everyone => None,
        Reach::Own(customer) => Some(customer.clone()),
    };
    let now = clock::now().epoch_ms() / 1_000;
    let asked = cursor(&query.map(|Query(parameters)| parameters).unwrap_or_default())?;
    if !wants_stream(&headers) {
        return since(&api, asked, now, own.as_ref(), &headers).await;
    }
    // A browser that connects again knows better than the address that it was given first.
    let resumed = headers.get(LAST_EVENT_ID).and_then(|id| id.to_str().ok()?.parse().ok());
    // First the live end, then what lies before it: a change in between comes twice, not never.
    let Some(ticket) = api.feed.listen(&api.store) else {
        return Err(Problem::overloaded(FULL_RETRY_AFTER));
    };
    let from = resumed.or(asked);
    let mut waiting = VecDeque::new();
    let cursor = from.unwrap_or(now - OVERLAP_SECONDS);
    let hello =
        json!({"cursor": cursor.to_string(), "at": clock::now(), "resumed": from.is_some()});
    waiting.push_back(event("hello", Some(cursor), &hello).retry(RETRY));
    if let Some(from) = from {
        if now - from > CURSOR_AGE_MAX {
            waiting.push_back(reset());
        } else {
            let missed = read_changed(&api.store, from - OVERLAP_SECONDS, CATCH_UP_MAX)
                .await
                .map_err(|error| store_problem(&error))?;
            match missed {
                Some(missed) => {
                    let ours = missed.into_iter().filter(|change| change.is_for(own.as_ref()));
                    waiting.extend(ours.map(|change| order_event(&change.json, change.at)));
                }
                None => waiting.push_back(reset()),
            }
        }
    }
    let end = Instant::now() + api.feed_session;
    let session = Session { waiting, ticket, own, end, shutdown };
    let keep_alive = KeepAlive::new().interval(HEARTBEAT);
    let mut response = Sse::new(session.into_stream()).keep_alive(keep_alive).into_response();
    let headers = response.headers_mut();
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Proxies that gather what they pass on would make a stream of it that stutters.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// One open stream.
struct Session {
    waiting: VecDeque<Event>,
    ticket: Ticket,
    own: Option<CustomerId>,
    end: Instant,
    shutdown: tokio_util::sync::CancellationToken,
}

impl Session {
    fn into_stream(self) -> impl Stream<Item = Result<Event, Infallible>> {
        futures::stream::unfold(self, |mut session| async move {
            let event = session.next().await?;
            Some((Ok(event), session))
        })
    }

    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.waiting.pop_front() {
                return Some(event);
            }
            let heard = tokio::select! {
                () = tokio::time::sleep_until(self.end) => return None,
                () = self.shutdown.cancelled() => return None,
                heard = self.ticket.recv() => heard,
            };
            match heard {
                Ok(Happening::Changed(change)) if change.is_for(self.own.as_ref()) => {
                    return Some(order_event(&change.json, change.at));
                }
                Ok(Happening::Changed(_)) => {}
                Ok(Happening::Trouble) => {
                    let title = "The order store cannot be reached.";
                    return Some(event("trouble", None, &json!({ "title": title })));
                }
                Ok(Happening::Gap) | Err(RecvError::Lagged(_)) => return Some(reset()),
                Err(RecvError::Closed) => return None,
            }
        }
    }
}

/// What has changed since a cursor, in one answer.
async fn since(
    api: &super::OrderApi,
    asked: Option<i64>,
    now: i64,
    own: Option<&CustomerId>,
    headers: &HeaderMap,
) -> Result<Response, Problem> {
    let mut cursor = asked.unwrap_or(now - OVERLAP_SECONDS);
    let followed = now - cursor <= CURSOR_AGE_MAX;
    let changes = match asked {
        Some(from) if followed => {
            let from = from - OVERLAP_SECONDS;
            let changes = read_changed(&api.store, from, CATCH_UP_MAX).await;
            changes.map_err(|error| store_problem(&error))?
        }
        Some(_) => None,
        None => Some(Vec::new()),
    };
    let reset = changes.is_none();
    if reset {
        cursor = now - OVERLAP_SECONDS;
    }
    let changes = changes.unwrap_or_default();
    cursor = changes.iter().map(|change| change.at).chain([cursor]).max().unwrap_or(cursor);
    let orders: Vec<&serde_json::value::RawValue> =
        changes.iter().filter(|change| change.is_for(own)).map(|change| &*change.json).collect();
    let body = json!({"cursor": cursor.to_string(), "reset": reset, "orders": orders}).to_string();
    let etag = content_etag(body.as_bytes());
    if let Some(unchanged) = not_modified(headers, &etag) {
        return Ok(unchanged);
    }
    let fixed = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (ETAG, etag),
    ];
    Ok((fixed, body).into_response())
}

fn wants_stream(headers: &HeaderMap) -> bool {
    headers
        .get_all(ACCEPT)
        .iter()
        .any(|value| value.to_str().is_ok_and(|types| types.contains("text/event-stream")))
}

/// The cursor that is asked for, if any.
fn cursor(parameters: &BTreeMap<String, String>) -> Result<Option<i64>, Problem> {
    let mut found = None;
    let mut errors = Vec::new();
    for (name, value) in parameters {
        match (name.as_str(), value.parse::<i64>()) {
            ("after", Ok(cursor)) if (0..=u32::MAX.into()).contains(&cursor) => {
                found = Some(cursor);
            }
            ("after", _) => {
                let detail = "must be the `cursor` of an earlier answer";
                errors.push(FieldError::new("/after", "unknown_value", detail));
            }
            _ => {
                let shown: String = name.chars().take(64).collect();
                let detail = "is not known here; known is after";
                errors.push(FieldError::new(format!("/{shown}"), "unknown_field", detail));
            }
        }
    }
    if errors.is_empty() { Ok(found) } else { Err(Problem::invalid_query(errors)) }
}

fn event(name: &str, id: Option<i64>, data: &serde_json::Value) -> Event {
    let event = Event::default().event(name).data(data.to_string());
    match id {
        Some(id) => event.id(id.to_string()),
        None => event,
    }
}

fn reset() -> Event {
    event("reset", None, &json!({}))
}

fn order_event(json: &serde_json::value::RawValue, at: i64) -> Event {
    Event::default().event("order").id(at.to_string()).data(json.get())
}

/// An order as the feed tells of it: a line of the list.
pub(super) fn line(order: orders::Order) -> Option<Arc<serde_json::value::RawValue>> {
    serde_json::value::to_raw_value(&OrderView::line(order)).ok().map(Arc::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_client_that_says_so_gets_a_stream() {
        let asks = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            wants_stream(&headers)
        };
        assert!(asks("text/event-stream") && asks("application/json, text/event-stream"));
        assert!(!asks("*/*") && !asks("application/json") && !wants_stream(&HeaderMap::new()));
    }

    #[test]
    fn a_cursor_is_a_second_and_nothing_else() {
        let parse = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
            cursor(&pairs.collect())
        };
        assert_eq!(parse(&[]).unwrap(), None);
        assert_eq!(parse(&[("after", "1770000000")]).unwrap(), Some(1_770_000_000));
        for pair in [("after", "-1"), ("after", "soon"), ("after", ""), ("since", "1")] {
            assert_eq!(parse(&[pair]).unwrap_err().status(), 400, "{pair:?}");
        }
    }
}
