//! `/api/ops/local/…`: what only the local stack knows (processes, their output, the kill switch),
//! fetched from where setting `STACK_URL` says. In Azure there is no such setting, and nothing here.
//!
//! The portal could not ask the stack itself: its policy allows requests to this origin only.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use reqwest::{Client, Url};
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;
use tracing::warn;

use super::ops::deed::{self, Intent};
use super::ops::request::Asked;
use super::{OrderApi, Shared, submit};
use crate::access::Principal;
use crate::chain::chain;
use crate::problem::{Kind, Problem};
use crate::store::audit::{AuditEntry, Deed, Outcome};

/// How long the stack may take: a process that is stopped has ten seconds to finish its work.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// How long a switch waits for the audit trail, before and after. Unlike what is done to orders it
/// is moved all the same: one of the switches brings back a store that is paused.
const WRITTEN_WITHIN: Duration = Duration::from_secs(3);

/// How long the end of a switch is offered to a store that is away. A pause ends by itself after two
/// minutes; a store that is killed is back sooner.
const OFFERED_FOR: Duration = Duration::from_secs(300);

/// Pause between two offers.
const OFFER_EVERY: Duration = Duration::from_secs(1);

/// Ends that wait for the store at once. Somebody who moves more switches while it is away finds the
/// others told as unknown.
const ENDS_WAITING_MAX: usize = 64;

/// A way to the stack.
#[derive(Debug)]
pub(super) struct Local {
    way: Option<(Client, Url)>,
    /// Ends of switches on their way to the audit trail. Nobody waits for them when the process
    /// stops: what is left is told as unknown.
    ends: TaskTracker,
    room: Arc<Semaphore>,
}

impl Local {
    /// A way to the stack at `url`, if there is one.
    pub(super) fn new(url: Option<&Url>) -> Self {
        let client = || Client::builder().timeout(ANSWER_WITHIN).no_proxy().build();
        let way = url.and_then(|url| Some((client().ok()?, url.clone())));
        let room = Arc::new(Semaphore::new(ENDS_WAITING_MAX));
        Self { way, ends: TaskTracker::new(), room }
    }

    fn way(&self) -> Result<&(Client, Url), Problem> {
        let nothing = || Problem::not_found("Nothing local is here: setting STACK_URL is not set.");
        self.way.as_ref().ok_or_else(nothing)
    }
}

/// Passes a request on to the stack. What moves a switch is in the audit trail.
pub(super) async fn local(
    State(api): Shared,
    principal: Principal,
    method: Method,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    if method == Method::GET || method == Method::HEAD {
        return pass_on(&api, method, &path, query, Bytes::new()).await;
    }
    let mut intent = Intent {
        deed: Deed::Local,
        actor: principal.id().to_owned(),
        reason: String::new(),
        source: path.clone(),
        message_id: None,
        order_id: None,
    };
    let body = match read_json(&api, &headers, body).await {
        Ok(body) => body,
        Err(problem) => {
            intent.refused(&api, &problem).await;
            return Err(problem);
        }
    };
    if let Ok(body) = serde_json::from_slice(&body) {
        intent.reason = Asked::of(&body).reason;
    }
    let mut entry = intent.entry();
    let begun = timeout(WRITTEN_WITHIN, deed::begin(&api, &entry)).await;
    let answer = pass_on(&api, method, &path, query, body).await;
    let (outcome, detail) = match &answer {
        Ok(answer) if answer.status().is_success() => (Outcome::Done, None),
        Ok(answer) if answer.status().is_client_error() => {
            (Outcome::Refused, Some(format!("the stack answered {}", answer.status())))
        }
        Ok(answer) => (Outcome::Failed, Some(format!("the stack answered {}", answer.status()))),
        Err(problem) => (Outcome::Failed, Some(problem.summary())),
    };
    entry.detail = detail;
    entry.outcome = outcome;
    let (actor, source) = (entry.actor.clone(), entry.source.clone());
    if let Ok(room) = Arc::clone(&api.local.room).try_acquire_owned() {
        let is_there = matches!(begun, Ok(Ok(())));
        let written = api.local.ends.spawn({
            let api = Arc::clone(&api);
            async move {
                write_end(&api, entry, is_there).await;
                drop(room);
            }
        });
        // It goes on by itself: perhaps it was this very switch that paused the store.
        if timeout(WRITTEN_WITHIN, written).await.is_err() {
            warn!(actor, source, "the end of a switch waits for the audit trail");
        }
    } else {
        warn!(actor, source, "too many wait: the end of a switch is not in the audit trail");
    }
    answer
}

/// Offers the end of a switch to the audit trail until it is taken, or the store has stayed away for
/// too long.
async fn write_end(api: &OrderApi, entry: AuditEntry, is_there: bool) {
    let began = Instant::now();
    while let Err(error) = deed::settle(api, &entry, is_there).await {
        if began.elapsed() > OFFERED_FOR {
            let (actor, source) = (entry.actor, entry.source);
            warn!(error = %chain(&error), actor, source, "a switch is not in the audit trail");
            return;
        }
        sleep(OFFER_EVERY).await;
    }
}

/// The body, if this may go to the stack at all.
async fn read_json(api: &OrderApi, headers: &HeaderMap, body: Body) -> Result<Bytes, Problem> {
    let body = submit::read_body(body).await?;
    // A page of somebody else's cannot send this type without asking first.
    submit::require_json(headers)?;
    api.local.way().map(|_| body)
}

async fn pass_on(
    api: &OrderApi,
    method: Method,
    path: &str,
    query: Option<String>,
    body: Bytes,
) -> Result<Response, Problem> {
    let (client, base) = api.local.way()?;
    let mut url = base.clone();
    url.set_path(path);
    url.set_query(query.as_deref());
    let request = client.request(method, url).header(CONTENT_TYPE, "application/json").body(body);
    let away = |error: reqwest::Error| {
        warn!(error = %chain(&error.without_url()), "the stack does not answer");
        let title = "The local stack does not answer.";
        Problem::new(Kind::STACK_UNAVAILABLE, title)
            .detail("It was started by `cargo stack up`; is that still running?")
    };
    let answer = request.send().await.map_err(away)?;
    let status = answer.status();
    let media_type = answer.headers().get(CONTENT_TYPE).cloned();
    let bytes = answer.bytes().await.map_err(away)?;
    let json = HeaderValue::from_static("application/json");
    let headers = [(CONTENT_TYPE, media_type.unwrap_or(json))];
    Ok(super::ops::fresh((status, headers, bytes)).into_response())
}
