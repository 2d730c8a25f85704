//! Connections to the handler: pooled, without Nagle, always 127.0.0.1.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, Uri, header};
use http_body::{Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use tower::Service;
use uuid::Uuid;

use super::limits::{
    CONNECT_ATTEMPTS_MAX, CONNECT_PAUSE_MAX, CONNECT_PAUSE_MIN, POOL_IDLE, POOL_IDLE_MAX,
};

/// The version of the host that is imitated.
const HOST_VERSION_HEADER: HeaderName = HeaderName::from_static("x-azure-functions-hostversion");
/// The id of the invocation.
pub(crate) const INVOCATION_ID: HeaderName =
    HeaderName::from_static("x-azure-functions-invocationid");
/// What the host calls itself; keep it in step with [`crate::HOST_VERSION`].
pub(crate) const USER_AGENT: &str = "Azure-Functions-Host/4.1052.200";

/// Any error of a body.
pub(crate) type BodyError = Box<dyn std::error::Error + Send + Sync>;
/// A request or response body of any kind.
pub(crate) type Body = UnsyncBoxBody<Bytes, BodyError>;

/// How the length of an invocation's body is announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// `Transfer-Encoding: chunked`, as in Azure.
    Chunked,
    /// `Content-Length`, as under `func`.
    Announced,
}

/// A pooled client for one handler port. Cheap to clone.
#[derive(Clone)]
pub(crate) struct HandlerClient {
    port: u16,
    direct: Client<Connector, Body>,
    patient: Client<Connector, Body>,
}

impl HandlerClient {
    pub(crate) fn new(port: u16) -> Self {
        Self { port, direct: pooled(1), patient: pooled(CONNECT_ATTEMPTS_MAX) }
    }

    /// The address of `path_and_query` (starting with a slash) at the handler.
    pub(crate) fn uri(&self, path_and_query: &str) -> String {
        format!("http://127.0.0.1:{}{path_and_query}", self.port)
    }

    /// One attempt, as for invocations in the JSON envelope and forwarded calls.
    pub(crate) async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, Error> {
        self.direct.request(request).await
    }

    /// Tries to connect several times, as for proxied calls.
    pub(crate) async fn send_patiently(
        &self,
        request: Request<Body>,
    ) -> Result<Response<Incoming>, Error> {
        self.patient.request(request).await
    }

    /// Asks `GET /` until anything at all answers. The caller limits the time.
    pub(crate) async fn wait_until_answering(&self, interval: Duration) {
        loop {
            let uri: Uri = match self.uri("/").parse() {
                Ok(uri) => uri,
                // A port is always a valid part of a URI.
                Err(_) => return,
            };
            let mut request = Request::new(empty());
            *request.uri_mut() = uri;
            match self.direct.request(request).await {
                Err(error) if error.is_connect() => tokio::time::sleep(interval).await,
                // Any answer counts, and so does any other error: somebody is there.
                Ok(_) | Err(_) => return,
            }
        }
    }
}

fn pooled(attempts: u32) -> Client<Connector, Body> {
    let mut http = HttpConnector::new();
    http.set_nodelay(true);
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE)
        .pool_max_idle_per_host(POOL_IDLE_MAX)
        .build(Connector { http, attempts })
}

/// Connects, and on refusal tries again: the handler may be restarting.
#[derive(Clone)]
pub(crate) struct Connector {
    http: HttpConnector,
    attempts: u32,
}

impl Service<Uri> for Connector {
    type Response = <HttpConnector as Service<Uri>>::Response;
    type Error = <HttpConnector as Service<Uri>>::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.http.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (mut http, attempts) = (self.http.clone(), self.attempts);
        Box::pin(async move {
            let mut pause = CONNECT_PAUSE_MIN;
            for _ in 1..attempts {
                if let Ok(connection) = http.call(uri.clone()).await {
                    return Ok(connection);
                }
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(CONNECT_PAUSE_MAX);
            }
            http.call(uri).await
        })
    }
}

/// Sets the headers every call to the handler carries.
pub(crate) fn stamp(headers: &mut HeaderMap, id: Uuid) {
    headers.insert(HOST_VERSION_HEADER, HeaderValue::from_static(crate::HOST_VERSION));
    // A hyphenated UUID is always a valid header value.
    if let Ok(value) = HeaderValue::from_str(&id.to_string()) {
        headers.insert(INVOCATION_ID, value);
    }
}

const HOP_BY_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Removes what belongs to one connection only, and what `Connection` names.
pub(crate) fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let named: Vec<HeaderName> = headers
            .get_all(header::CONNECTION)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .filter_map(|name| name.trim().parse().ok())
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in HOP_BY_HOP {
        headers.remove(name);
    }
}

pub(crate) fn empty() -> Body {
    Empty::new().map_err(never).boxed_unsync()
}

pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(never).boxed_unsync()
}

/// A body in memory, announced as `length` says.
pub(crate) fn body_of(bytes: Bytes, length: Length) -> Body {
    match length {
        Length::Announced => full(bytes),
        Length::Chunked => Chunked(Full::new(bytes)).boxed_unsync(),
    }
}

fn never(error: Infallible) -> BodyError {
    match error {}
}

/// Hides the length, so that the body is sent in chunks.
struct Chunked(Full<Bytes>);

impl http_body::Body for Chunked {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.0).poll_frame(context).map_err(never)
    }

    fn is_end_stream(&self) -> bool {
        false
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connection_headers_are_removed_also_those_it_names() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("connection", "close, X-Hop"),
            ("x-hop", "1"),
            ("te", "trailers"),
            ("transfer-encoding", "chunked"),
            ("host", "h"),
            ("x-end", "2"),
        ] {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        remove_hop_by_hop(&mut headers);
        let mut left: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["host", "x-end"]);
    }

    #[test]
    fn the_user_agent_names_the_version() {
        assert_eq!(USER_AGENT, format!("Azure-Functions-Host/{}", crate::HOST_VERSION));
    }
}
