//! `/api/ops/local/…`: what only the local stack knows (processes, their output, the kill switch),
//! fetched from where setting `STACK_URL` says. In Azure there is no such setting, and nothing here.
//!
//! The portal could not ask the stack itself: its policy allows requests to this origin only.

use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::response::{IntoResponse as _, Response};
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use reqwest::{Client, Url};
use tracing::warn;

use super::{Shared, submit};
use crate::chain::chain;
use crate::problem::Problem;

/// How long the stack may take: a process that is stopped has ten seconds to finish its work.
const ANSWER_WITHIN: std::time::Duration = std::time::Duration::from_secs(20);

/// A way to the stack.
#[derive(Debug)]
pub(super) struct Local(Option<(Client, Url)>);

impl Local {
    /// A way to the stack at `url`, if there is one.
    pub(super) fn new(url: Option<&Url>) -> Self {
        let client = || Client::builder().timeout(ANSWER_WITHIN).no_proxy().build();
        Self(url.and_then(|url| Some((client().ok()?, url.clone()))))
    }
}

/// Passes a request on to the stack.
pub(super) async fn local(
    State(api): Shared,
    method: Method,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let Some((client, base)) = &api.local.0 else {
        return Err(Problem::not_found("Nothing local is here: setting STACK_URL is not set."));
    };
    let body = submit::read_body(body).await?;
    if method != Method::GET {
        // A page of somebody else's cannot send this type without asking first.
        submit::require_json(&headers)?;
    }
    let mut url = base.clone();
    url.set_path(&path);
    url.set_query(query.as_deref());
    let request = client.request(method, url).header(CONTENT_TYPE, "application/json").body(body);
    let away = |error: reqwest::Error| {
        warn!(error = %chain(&error.without_url()), "the stack does not answer");
        let title = "The local stack does not answer.";
        Problem::new(StatusCode::BAD_GATEWAY, "stack-unavailable", title)
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
