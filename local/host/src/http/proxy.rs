//! Proxying: the caller's exchange with the handler, streamed both ways.
//!
//! Source: `DefaultHttpProxyService` (YARP) of the Azure Functions host. Method, path, query and
//! headers (with the original `Host`) go through verbatim; a handler that answers 500 has
//! succeeded; a handler that cannot be reached is a 500 of the host with an empty body.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Request, Response, StatusCode, header};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep, sleep_until};

use super::client::{Body, BodyError, empty, remove_hop_by_hop, stamp};
use super::limits::IDLE_TIMEOUT;
use super::torn::Torn;
use crate::error::chain;
use crate::faults::Fault;
use crate::invocation::Invoker;
use crate::invocation::record::Record;

const CORRELATION: HeaderName = HeaderName::from_static("x-ms-invocation-id");

/// Sends `request` on to the handler. `body_max_bytes` is the limit for its body.
pub(crate) async fn proxy(
    invoker: &Arc<Invoker>,
    record: Record,
    request: Request<Incoming>,
    body_max_bytes: u64,
) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let (client, moved) = (&invoker.client, Activity::default());
    let limits = Limits::new(invoker);
    let limit = usize::try_from(body_max_bytes).unwrap_or(usize::MAX);
    let body = if body.is_end_stream() {
        empty()
    } else {
        Watched { body: Limited::new(body, limit), moved: moved.clone() }.boxed_unsync()
    };
    let target = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let mut outgoing = Request::new(body);
    *outgoing.method_mut() = parts.method;
    match client.uri(target).parse() {
        Ok(uri) => *outgoing.uri_mut() = uri,
        Err(error) => {
            record.failed(&format!("the path cannot be proxied: {error}"));
            return status(StatusCode::BAD_REQUEST);
        }
    }
    *outgoing.headers_mut() = parts.headers;
    let headers = outgoing.headers_mut();
    remove_hop_by_hop(headers);
    stamp(headers, record.id());
    if let Ok(id) = HeaderValue::from_str(&record.id().to_string()) {
        headers.entry(CORRELATION).or_insert(id);
    }

    let answer = tokio::select! {
        answer = client.send_patiently(outgoing) => answer,
        () = moved.idle(IDLE_TIMEOUT) => {
            record.failed(&format!("Nothing moved for {IDLE_TIMEOUT:?}; the call was given up."));
            return status(StatusCode::INTERNAL_SERVER_ERROR);
        }
        () = sleep_until(limits.end) => {
            let why = limits.time_out(&record);
            record.failed(&why);
            return status(StatusCode::INTERNAL_SERVER_ERROR);
        }
    };
    match answer {
        Ok(answer) => {
            let (mut parts, body) = answer.into_parts();
            remove_hop_by_hop(&mut parts.headers);
            match invoker.faults.take(record.function(), Fault::is_of_the_answer) {
                Some(Fault::Timeout) => {
                    let why = limits.time_out(&record);
                    record.failed(&why);
                    return status(StatusCode::INTERNAL_SERVER_ERROR);
                }
                Some(_) => {
                    // In chunks, so that an answer that breaks off is never taken for a whole one.
                    parts.headers.remove(header::CONTENT_LENGTH);
                    return Response::from_parts(parts, Torn::new(body, record).boxed_unsync());
                }
                None => {}
            }
            Response::from_parts(parts, Streamed::new(body, record, limits).boxed_unsync())
        }
        Err(error) => {
            let too_large = is_too_large(&error);
            record.failed(&format!("Failed to proxy request: {}", chain(&error)));
            status(match too_large {
                true => StatusCode::PAYLOAD_TOO_LARGE,
                false => StatusCode::INTERNAL_SERVER_ERROR,
            })
        }
    }
}

/// An answer of the host itself, without a body.
pub(crate) fn status(code: StatusCode) -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = code;
    response
}

fn is_too_large(error: &(dyn std::error::Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.is::<http_body_util::LengthLimitError>() {
            return true;
        }
        cause = error.source();
    }
    false
}

/// When something last moved on the request side.
#[derive(Clone)]
struct Activity(Arc<Mutex<Instant>>);

impl Default for Activity {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Instant::now())))
    }
}

impl Activity {
    fn touch(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Ends when nothing has moved for `limit`.
    async fn idle(&self, limit: Duration) {
        loop {
            let last = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let end = last + limit;
            if Instant::now() >= end {
                return;
            }
            sleep_until(end).await;
        }
    }
}

/// A request body that notes when it moves.
struct Watched {
    body: Limited<Incoming>,
    moved: Activity,
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.moved.touch();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// `functionTimeout` of one exchange. It covers the whole answer: a stream that is still open by
/// then costs the handler its life, as in Azure.
struct Limits {
    invoker: Arc<Invoker>,
    end: Instant,
    pid: Option<u32>,
}

/// Far enough away to be never, and near enough to be representable.
const NEVER: Duration = Duration::from_hours(24 * 365);

impl Limits {
    fn new(invoker: &Arc<Invoker>) -> Self {
        let end = Instant::now() + invoker.function_timeout.unwrap_or(NEVER);
        Self { invoker: Arc::clone(invoker), end, pid: invoker.handler.pid() }
    }

    fn time_out(&self, record: &Record) -> String {
        let limit = self.invoker.function_timeout.unwrap_or(NEVER);
        self.invoker.time_out(record, limit, self.pid).to_string()
    }
}

/// The handler's response body on its way to the caller. It ends the record: with success at its
/// end, with a failure when it breaks off or stalls, as cancelled when the caller goes away.
struct Streamed {
    body: Incoming,
    record: Option<Record>,
    limits: Limits,
    /// Set while nothing moves.
    idle: Option<Pin<Box<Sleep>>>,
}

impl Streamed {
    fn new(body: Incoming, record: Record, limits: Limits) -> Self {
        let mut streamed = Self { body, record: Some(record), limits, idle: None };
        if streamed.body.is_end_stream() {
            streamed.succeeded();
        }
        streamed
    }

    /// Ends an exchange that has lasted too long, or on which nothing moves.
    fn over(&mut self) -> BodyError {
        let why = match &self.record {
            Some(record) if Instant::now() >= self.limits.end => self.limits.time_out(record),
            _ => format!("Nothing moved for {IDLE_TIMEOUT:?}."),
        };
        self.failed(&why);
        why.into()
    }

    fn succeeded(&mut self) {
        if let Some(record) = self.record.take() {
            record.succeeded();
        }
    }

    fn failed(&mut self, why: &str) {
        if let Some(record) = self.record.take() {
            record.failed(why);
        }
    }
}

impl http_body::Body for Streamed {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                self.idle = None;
                if self.body.is_end_stream() {
                    self.succeeded();
                } else if Instant::now() >= self.limits.end {
                    return Poll::Ready(Some(Err(self.over())));
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.failed(&format!("the answer broke off: {}", chain(&error)));
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                self.succeeded();
                Poll::Ready(None)
            }
            Poll::Pending => {
                let end = self.limits.end;
                let idle = self.idle.get_or_insert_with(|| {
                    Box::pin(sleep_until(end.min(Instant::now() + IDLE_TIMEOUT)))
                });
                ready!(idle.as_mut().poll(context));
                Poll::Ready(Some(Err(self.over())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
