//! One Cosmos DB account over REST: signed requests, and what their answers mean.
//!
//! Specified by <https://learn.microsoft.com/rest/api/cosmos-db/>. Knows nothing of leases and
//! pages.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::value::RawValue;
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::sign;
use crate::config::cosmos::CosmosConnection;
use crate::error::chain;
use crate::log::Logger;

/// Version of the REST API; that of the SDKs.
const API_VERSION: &str = "2020-07-15";

/// An answer that takes longer is not waited for. The service ends a request after 5 s.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer is held in memory as a whole. The service cuts pages at 4 MB, but never splits a
/// transaction of a hundred items.
const ANSWER_MAX_BYTES: usize = 64 * 1024 * 1024;

/// An idle connection is closed after this time, well after the next poll.
const POOL_IDLE: Duration = Duration::from_secs(60);

/// Idle connections kept: one for the feed, one for leases, and one to spare.
const POOL_IDLE_MAX: usize = 3;

/// Of a refusal's text, this much is worth a log line.
const REASON_MAX_CHARS: usize = 200;

/// What RFC 3986 lets stand in a path segment without doubt.
const SEGMENT: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'=');

/// An account, with a pool of connections. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Account {
    connection: CosmosConnection,
    client: Client<HttpConnector, Full<Bytes>>,
    log: Logger,
}

/// Why a request was not carried out. `Display` is for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// No answer; the request may have been carried out all the same.
    #[error("{0}")]
    Unreachable(String),
    /// An answer, and it is no.
    #[error("the store answered {status}: {reason}")]
    Refused { status: StatusCode, reason: String },
    /// An answer that makes no sense.
    #[error("the store's answer has no {0}")]
    Unreadable(&'static str),
}

impl StoreError {
    pub(crate) fn is(&self, wanted: StatusCode) -> bool {
        matches!(self, Self::Refused { status, .. } if *status == wanted)
    }
}

/// An answer that is not an error.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(super) status: StatusCode,
    headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as an object.
    pub(crate) fn object(&self) -> Result<Map<String, Value>, StoreError> {
        serde_json::from_slice(&self.body).map_err(|_| StoreError::Unreadable("JSON object"))
    }

    /// A member of the body, as text.
    pub(super) fn text(&self, name: &'static str) -> Result<String, StoreError> {
        let text = self.object()?.get(name).and_then(Value::as_str).map(str::to_owned);
        text.ok_or(StoreError::Unreadable(name))
    }

    /// The list `name` of a feed, exactly as the store has written it, and how long it is.
    pub(super) fn list(&self, name: &'static str) -> Result<(String, usize), StoreError> {
        let unreadable = || StoreError::Unreadable(name);
        let body: BTreeMap<String, Box<RawValue>> =
            serde_json::from_slice(&self.body).map_err(|_| unreadable())?;
        let list = body.get(name).ok_or_else(unreadable)?.get();
        let items: Vec<&RawValue> = serde_json::from_str(list).map_err(|_| unreadable())?;
        Ok((list.to_owned(), items.len()))
    }
}

impl Account {
    pub(crate) fn new(connection: CosmosConnection, log: Logger) -> Self {
        let mut http = HttpConnector::new();
        http.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .pool_max_idle_per_host(POOL_IDLE_MAX)
            .build(http);
        Self { connection, client, log }
    }

    /// Sends one request. Every status from 400 on is an error.
    pub(crate) async fn send(
        &self,
        method: Method,
        segments: &[&str],
        headers: &[(&'static str, &str)],
        body: impl Into<Bytes> + Send,
    ) -> Result<Answer, StoreError> {
        let request = self.request(method, segments, headers, body.into())?;
        let exchange = async {
            let response = self.client.request(request).await.map_err(|error| chain(&error))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_MAX_BYTES).collect().await;
            Ok((parts, body.map_err(|error| error.to_string())?.to_bytes()))
        };
        let (parts, body) = timeout(ANSWER_TIMEOUT, exchange)
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {ANSWER_TIMEOUT:?}")))
            .map_err(StoreError::Unreachable)?;
        let answer = Answer { status: parts.status, headers: parts.headers, body };
        if answer.status.is_client_error() || answer.status.is_server_error() {
            return Err(self.refused(&answer));
        }
        Ok(answer)
    }

    fn request(
        &self,
        method: Method,
        segments: &[&str],
        headers: &[(&'static str, &str)],
        body: Bytes,
    ) -> Result<Request<Full<Bytes>>, StoreError> {
        let path: String = segments
            .iter()
            .map(|segment| format!("/{}", utf8_percent_encode(segment, SEGMENT)))
            .collect();
        let date = sign::http_date(self.log.now());
        let token = sign::authorization(&self.connection.key, method.as_str(), segments, &date);
        let mut request = Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.connection.authority))
            .header("authorization", token)
            .header("x-ms-date", date)
            .header("x-ms-version", API_VERSION)
            .header("user-agent", crate::http::client::USER_AGENT);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request
            .body(Full::new(body))
            .map_err(|error| StoreError::Unreachable(format!("not a request: {error}")))
    }

    fn refused(&self, answer: &Answer) -> StoreError {
        let setting = &self.connection.setting;
        let reason = match answer.status {
            StatusCode::UNAUTHORIZED => format!("the key of setting {setting} was refused"),
            _ => {
                let message = answer.text("message").unwrap_or_default();
                let line = message.lines().next().unwrap_or_default();
                line.chars().take(REASON_MAX_CHARS).collect()
            }
        };
        StoreError::Refused { status: answer.status, reason }
    }
}
