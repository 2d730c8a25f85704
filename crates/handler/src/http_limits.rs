//! Limits for proxied HTTP, as layers for the app's router.
//!
//! The server limits connections, heads and stalls for everybody. How long a request may take and
//! how large its body may be differs from route to route, so that is for the router to say:
//!
//! ```
//! use std::time::Duration;
//! use axum::{Router, routing::post};
//! use handler::http_limits::{BodyLimit, RequestDeadline};
//!
//! let router: Router = Router::new()
//!     .route("/api/orders", post(|body: String| async move { body }))
//!     .layer(BodyLimit::new(64 * 1024))
//!     .layer(RequestDeadline::new(Duration::from_secs(10)));
//! # let _ = router;
//! ```

use std::convert::Infallible;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, HttpBody as _};
use futures::future::BoxFuture;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::Limited;
use tower::{Layer, Service};
use tracing::warn;

use crate::problem::{closing, problem};

/// What a client is told that met the deadline: long enough for a spike to pass.
const RETRY_AFTER_S: HeaderValue = HeaderValue::from_static("1");

/// A layer that answers 503 when a handler has not begun to answer in time, and drops its future.
/// What is streamed afterwards is not limited, so event streams are fine.
#[derive(Clone, Copy, Debug)]
pub struct RequestDeadline(Duration);

/// A layer that answers 413 when a body is declared to be larger, and makes reading it fail when
/// it turns out to be. axum's extractors then answer 413 as well.
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit(usize);

impl RequestDeadline {
    /// A deadline of this length.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self(limit)
    }
}

impl BodyLimit {
    /// A limit of this many bytes.
    #[must_use]
    pub fn new(bytes_max: usize) -> Self {
        Self(bytes_max)
    }
}

impl<S> Layer<S> for RequestDeadline {
    type Service = Limit<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        Limit { inner, limit: *self }
    }
}

impl<S> Layer<S> for BodyLimit {
    type Service = Limit<S, Self>;

    fn layer(&self, inner: S) -> Self::Service {
        Limit { inner, limit: *self }
    }
}

/// A service behind one of the limits.
#[derive(Clone, Debug)]
pub struct Limit<S, L> {
    inner: S,
    limit: L,
}

impl<S> Service<Request<Body>> for Limit<S, RequestDeadline>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let answer = tokio::time::timeout(self.limit.0, self.inner.call(request));
        Box::pin(async move {
            answer.await.unwrap_or_else(|_| {
                warn!("the request took too long");
                let detail = "the request took too long; it may or may not have had an effect";
                let mut response = closing(problem(StatusCode::SERVICE_UNAVAILABLE, detail));
                response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER_S);
                Ok(response)
            })
        })
    }
}

impl<S> Service<Request<Body>> for Limit<S, BodyLimit>
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Body>, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let bytes_max = self.limit.0;
        let declared = request.body().size_hint().lower();
        if usize::try_from(declared).map_or(true, |declared| declared > bytes_max) {
            let detail = format!("the body is larger than {bytes_max} bytes");
            let response = closing(problem(StatusCode::PAYLOAD_TOO_LARGE, &detail));
            return Box::pin(async move { Ok(response) });
        }
        let request = request.map(|body| Body::new(Limited::new(body, bytes_max)));
        Box::pin(self.inner.call(request))
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::post;
    use tower::ServiceExt as _;

    use super::*;

    async fn status(router: &Router, path: &str, body: Body) -> StatusCode {
        let request = Request::post(path).body(body).unwrap();
        let Ok(response) = router.clone().oneshot(request).await;
        response.status()
    }

    #[tokio::test(start_paused = true)]
    async fn too_large_and_too_late_have_their_status() {
        let router = Router::new()
            .route("/echo", post(|body: String| async move { body }))
            .route("/never", post(std::future::pending::<String>))
            .layer(BodyLimit::new(4))
            .layer(RequestDeadline::new(Duration::from_secs(5)));
        assert_eq!(status(&router, "/echo", Body::from("four")).await, StatusCode::OK);
        let declared = status(&router, "/echo", Body::from("five!")).await;
        assert_eq!(declared, StatusCode::PAYLOAD_TOO_LARGE);
        let chunks = futures::stream::iter(["fi", "ve!"].map(Ok::<_, Infallible>));
        let streamed = status(&router, "/echo", Body::from_stream(chunks)).await;
        assert_eq!(streamed, StatusCode::PAYLOAD_TOO_LARGE);
        let late = status(&router, "/never", Body::empty()).await;
        assert_eq!(late, StatusCode::SERVICE_UNAVAILABLE);
    }
}
