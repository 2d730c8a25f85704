//! A sample subscriber of Event Grid: agrees to get events, keeps the last ones for people to see,
//! and misbehaves when it is told to.
//!
//! | request | answer |
//! | --- | --- |
//! | `OPTIONS /events` | consent, as the abuse protection of CloudEvents wants it |
//! | `POST /events` | takes an event, or does what the first rule that matches says |
//! | `GET /events?subject=…` | what came, oldest first, with the status it was answered |
//! | `DELETE /events` | forgets it |
//! | `PUT`, `GET`, `DELETE /rules` | how it misbehaves |

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post, put};
use axum::{Json, Router};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use time::OffsetDateTime;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Deliveries that are kept, oldest forgotten first: more than anybody reads.
pub const KEPT_MAX: usize = 1_000;

/// Bytes of an event, and of rules: what Event Grid delivers at most.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Rules at once; more are a mistake.
const RULES_MAX: usize = 100;

/// The longest delay of an answer: far over the patience of Event Grid.
const SLOW_MAX: Duration = Duration::from_secs(300);

const REQUEST_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");
const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");
const ALLOWED_RATE: HeaderName = HeaderName::from_static("webhook-allowed-rate");

/// One way to misbehave.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    /// The subject of the events that it is for; all if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// How often it applies; for ever if left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u32>,
    /// What is done.
    pub answer: Behaviour,
}

/// What is done with an event.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Behaviour {
    /// It is not taken; the answer has this status, 300 to 599. A redirect leads nowhere.
    Refuse {
        /// The status.
        status: u16,
    },
    /// It is taken, after a delay.
    Slow {
        /// The delay in milliseconds, up to five minutes.
        millis: u64,
    },
}

/// A delivery as it came.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Got {
    #[serde(with = "time::serde::rfc3339")]
    at: OffsetDateTime,
    /// What it was answered.
    status: u16,
    /// Whether an event of this source and id had been taken before: delivery is at least once.
    duplicate: bool,
    subscription: Option<String>,
    delivery_count: Option<String>,
    event: Value,
}

impl Got {
    fn is_taken(&self) -> bool {
        self.status == StatusCode::OK.as_u16()
    }
}

#[derive(Debug, Default)]
struct Inner {
    total: u64,
    kept: VecDeque<Got>,
    /// How many of those kept were taken, by the identity of their event.
    taken: HashMap<Identity, usize>,
    rules: Vec<Rule>,
}

/// What tells an event from others: its source and id.
type Identity = (Option<String>, Option<String>);

fn identity(event: &Value) -> Identity {
    let text = |name: &str| event[name].as_str().map(str::to_owned);
    (text("source"), text("id"))
}

impl Inner {
    /// Keeps a delivery in place of the oldest, and notes whether its event was taken before.
    fn keep(&mut self, mut got: Got) {
        if self.kept.len() == KEPT_MAX
            && let Some(oldest) = self.kept.pop_front()
            && oldest.is_taken()
        {
            let identity = identity(&oldest.event);
            if let Some(count) = self.taken.get_mut(&identity) {
                *count -= 1;
                if *count == 0 {
                    self.taken.remove(&identity);
                }
            }
        }
        let identity = identity(&got.event);
        got.duplicate = self.taken.contains_key(&identity);
        if got.is_taken() {
            *self.taken.entry(identity).or_default() += 1;
        }
        self.total += 1;
        self.kept.push_back(got);
    }

    fn forget(&mut self) {
        self.kept.clear();
        self.taken.clear();
    }
}

type Shared = Arc<Mutex<Inner>>;

/// A subscriber that has bound its port.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Starts listening. Nothing is answered before [`Server::run`].
    ///
    /// # Errors
    /// The address is taken or not ours.
    pub async fn bind(listen: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The address that was bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`.
    ///
    /// # Errors
    /// The listening socket is broken.
    pub async fn run(self, shutdown: CancellationToken) -> std::io::Result<()> {
        let stop = shutdown.clone().cancelled_owned();
        let serving = axum::serve(self.listener, router()).with_graceful_shutdown(stop);
        tokio::select! {
            served = serving => served,
            // An answer that is slow on purpose holds nobody up.
            () = async { shutdown.cancelled().await; tokio::time::sleep(GRACE).await } => Ok(()),
        }
    }
}

/// Time that shutdown waits for answers under way.
const GRACE: Duration = Duration::from_secs(1);

fn router() -> Router {
    Router::new()
        .route("/events", post(take).get(show).delete(forget).options(consent))
        .route("/rules", put(set_rules).get(get_rules).delete(clear_rules))
        .route("/healthz", get(async || Json(json!({"status": "healthy"}))))
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(Shared::default())
}

fn lock(shared: &Shared) -> MutexGuard<'_, Inner> {
    // Plain values: a panic elsewhere cannot leave them half written.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

/// See section 4 of the CloudEvents webhook specification.
async fn consent(headers: HeaderMap) -> Response {
    let origin = headers.get(REQUEST_ORIGIN).cloned();
    let allow = (header::ALLOW, HeaderValue::from_static("OPTIONS, POST"));
    match origin {
        Some(origin) => {
            let rate = (ALLOWED_RATE, HeaderValue::from_static("*"));
            [(ALLOWED_ORIGIN, origin), rate, allow].into_response()
        }
        None => [allow].into_response(),
    }
}

async fn take(State(shared): State<Shared>, headers: HeaderMap, body: Bytes) -> Response {
    let Ok(event) = serde_json::from_slice::<Value>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let behaviour = next_rule(&mut lock(&shared).rules, &event);
    let status = match behaviour {
        Some(Behaviour::Refuse { status }) => status,
        Some(Behaviour::Slow { millis }) => {
            tokio::time::sleep(Duration::from_millis(millis).min(SLOW_MAX)).await;
            StatusCode::OK.as_u16()
        }
        None => StatusCode::OK.as_u16(),
    };
    let text = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
    let (subscription, delivery_count) =
        (text("aeg-subscription-name"), text("aeg-delivery-count"));
    let at = now();
    let got = Got { at, status, duplicate: false, subscription, delivery_count, event };
    lock(&shared).keep(got);
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if status.is_redirection() {
        return (status, [(header::LOCATION, "/elsewhere")]).into_response();
    }
    status.into_response()
}

/// What the first rule for this event says; a rule that has been used up goes.
fn next_rule(rules: &mut Vec<Rule>, event: &Value) -> Option<Behaviour> {
    let is_for = |rule: &Rule| {
        let subject = rule.subject.as_deref();
        subject.is_none_or(|subject| event["subject"].as_str() == Some(subject))
    };
    let place = rules.iter().position(is_for)?;
    let answer = rules[place].answer.clone();
    if let Some(times) = &mut rules[place].times {
        *times = times.saturating_sub(1);
        if *times == 0 {
            rules.remove(place);
        }
    }
    Some(answer)
}

#[derive(Debug, Deserialize)]
struct Selection {
    subject: Option<String>,
}

async fn show(State(shared): State<Shared>, Query(selection): Query<Selection>) -> Json<Value> {
    let inner = lock(&shared);
    let wanted = |got: &&Got| {
        let subject = selection.subject.as_deref();
        subject.is_none_or(|subject| got.event["subject"].as_str() == Some(subject))
    };
    let events: Vec<&Got> = inner.kept.iter().filter(wanted).collect();
    Json(json!({"total": inner.total, "kept": inner.kept.len(), "events": events}))
}

async fn forget(State(shared): State<Shared>) -> StatusCode {
    lock(&shared).forget();
    StatusCode::NO_CONTENT
}

async fn set_rules(State(shared): State<Shared>, body: Bytes) -> Response {
    let bad = |why: String| (StatusCode::BAD_REQUEST, Json(json!({"error": why}))).into_response();
    let rules: Vec<Rule> = match serde_json::from_slice(&body) {
        Ok(rules) => rules,
        Err(error) => return bad(error.to_string()),
    };
    if rules.len() > RULES_MAX {
        return bad(format!("there are {RULES_MAX} rules at most"));
    }
    let refuses = |rule: &Rule| match rule.answer {
        Behaviour::Refuse { status } => (300..600).contains(&status),
        Behaviour::Slow { millis } => u128::from(millis) <= SLOW_MAX.as_millis(),
    };
    if !rules.iter().all(|rule| refuses(rule) && rule.times != Some(0)) {
        return bad("a status is 300 to 599, millis up to 300000, times at least 1".to_owned());
    }
    lock(&shared).rules.clone_from(&rules);
    Json(rules).into_response()
}

async fn get_rules(State(shared): State<Shared>) -> Json<Vec<Rule>> {
    Json(lock(&shared).rules.clone())
}

async fn clear_rules(State(shared): State<Shared>) -> StatusCode {
    lock(&shared).rules.clear();
    StatusCode::NO_CONTENT
}

#[expect(clippy::disallowed_methods, reason = "the shell reads the clock")]
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_a_duplicate_while_one_like_it_that_was_taken_is_kept() {
        let mut inner = Inner::default();
        let mut keep = |id: &str, status| {
            inner.keep(Got {
                at: OffsetDateTime::UNIX_EPOCH,
                status,
                duplicate: false,
                subscription: None,
                delivery_count: None,
                event: json!({"source": "/orders", "id": id}),
            });
            inner.kept.back().unwrap().duplicate
        };
        assert!(!keep("a", 503), "the first");
        assert!(!keep("a", 200), "the first was refused");
        assert!(keep("a", 200));
        assert!(!keep("b", 200));
        for _ in 0..KEPT_MAX {
            keep("c", 200);
        }
        assert!(!keep("a", 200), "it is as if new once those like it are forgotten");
        assert!(keep("c", 200));
        inner.forget();
        assert!(inner.taken.is_empty());
    }

    #[test]
    fn the_first_rule_for_a_subject_decides_until_it_is_used_up() {
        let mut rules: Vec<Rule> = serde_json::from_value(json!([
            {"subject": "a", "times": 2, "answer": {"kind": "refuse", "status": 500}},
            {"answer": {"kind": "slow", "millis": 5}},
        ]))
        .unwrap();
        let refuse = Some(Behaviour::Refuse { status: 500 });
        let slow = Some(Behaviour::Slow { millis: 5 });
        let mut next = |subject: &str| next_rule(&mut rules, &json!({"subject": subject}));
        assert_eq!(next("a"), refuse);
        assert_eq!(next("b"), slow);
        assert_eq!(next("a"), refuse);
        assert_eq!(next("a"), slow);
        assert_eq!(rules.len(), 1);
        rules.clear();
        assert_eq!(next_rule(&mut rules, &json!({})), None);
    }
}
