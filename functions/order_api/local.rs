//! `/api/ops/local/…`: what only the local stack knows (processes, their output, the kill switch),
//! fetched from where setting `STACK_URL` says. In Azure there is no such setting, and nothing here.
//!
//! The portal could not ask the stack itself: its policy allows requests to this origin only.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method};
use reqwest::{Client, Url};
use tokio::time::timeout;
use tracing::warn;

use super::ops::deed::{self, Intent};
use super::ops::request::Asked;
use super::{OrderApi, Shared, submit};
use crate::access::Principal;
use crate::chain::chain;
use crate::problem::{Kind, Problem};
use crate::store::audit::{Deed, Outcome};

/// How long the stack may take: a process that is stopped has ten seconds to finish its work.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);

/// How long a switch waits for the audit trail, before and after. Unlike what is done to orders it
/// is moved all the same: one of the switches brings back a store that is paused.
const WRITTEN_WITHIN: Duration = Duration::from_secs(3);

/// A way to the stack.
#[derive(Debug)]
pub(super) struct Local(Option<(Client, Url)>);

impl Local {
    /// A way to the stack at `url`, if there is one.
    pub(super) fn new(url: Option<&Url>) -> Self {
        let client = || Client::builder().timeout(ANSWER_WITHIN).no_proxy().build();
        Self(url.and_then(|url| Some((client().ok()?, url.clone()))))
    }

    fn way(&self) -> Result<&(Client, Url), Problem> {
        let nothing = || Problem::not_found("Nothing local is here: setting STACK_URL is not set.");
        self.0.as_ref().ok_or_else(nothing)
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
    let written = async {
        if let Ok(Ok(())) = begun {
            deed::end(&api, &entry, outcome).await;
        } else {
            // The store was away; perhaps it was this very switch that brought it back.
            entry.outcome = outcome;
            deed::note(&api, &entry).await;
            // What was begun may have reached the store after all, before this.
            deed::end(&api, &entry, outcome).await;
        }
    };
    if timeout(WRITTEN_WITHIN, written).await.is_err() {
        warn!(actor = entry.actor, source = entry.source, "a switch is not in the audit trail");
    }
    answer
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
