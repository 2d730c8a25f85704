//! What a request is for: an invocation of a function, or the app's own router.
//!
//! The port is open to everything on the machine. That a request carries the headers of the host
//! proves nothing, and a web page that guesses the port could make a browser post to it; so what
//! a browser sends is never an invocation.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use futures::FutureExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;
use tracing::field::Empty;
use tracing::{Instrument as _, debug, error, error_span, warn};

use super::body::Stalled;
use crate::app::{App, is_function_name, panic_message};
use crate::config::Limits;
use crate::context::{Context, Shutdown};
use crate::envelope::InvocationRequest;
use crate::failure::Failure;
use crate::invocation::Invocation;
use crate::problem::{self, closing, problem};
use crate::telemetry::{Histogram, Kind, Span};
use crate::trace::TraceContext;

/// The host's id of an invocation; proxied HTTP requests have it as well.
const INVOCATION_ID: HeaderName = HeaderName::from_static("x-azure-functions-invocationid");

/// Only on proxied HTTP requests.
const PROXIED_INVOCATION_ID: HeaderName = HeaderName::from_static("x-ms-invocation-id");

/// Longest invocation id that is kept; the host sends 36 characters.
const INVOCATION_ID_CHARS_MAX: usize = 128;

/// Named as in the conventions of OpenTelemetry for functions as a service.
static INVOCATIONS: Histogram =
    Histogram::new("faas.invoke_duration", "Invocations, by function and how they ended");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The app, ready to answer.
pub(super) struct Dispatch {
    app: App,
    limits: Limits,
    shutdown: CancellationToken,
}

impl Dispatch {
    pub(super) fn new(app: App, limits: Limits, shutdown: CancellationToken) -> Self {
        Self { app, limits, shutdown }
    }

    /// Answers a request, whatever happens on the way.
    pub(super) async fn answer(&self, request: Request<Body>) -> Response<Body> {
        let trace = TraceContext::from_headers(request.headers());
        let path = request.uri().path();
        let name = path.strip_prefix('/').unwrap_or_default();
        if request.method() == Method::POST
            && let Some((name, function)) = self.app.functions.get_key_value(name)
        {
            let invocation_id = invocation_id(request.headers());
            // At the level of errors, so that no filter takes the fields from a line that it lets by.
            let span = error_span!(
                "invocation",
                function = %name,
                invocation.id = invocation_id.as_deref(),
                trace_id = %trace.trace_id,
                span_id = %trace.span_id,
                // For the function to fill in: what the trigger is about, in the words of its sender.
                subject = Empty,
                correlation_id = Empty,
            );
            let context = Context {
                function: Arc::clone(name),
                invocation_id,
                trace,
                deadline: Instant::now() + self.app.invocation_deadline,
                shutdown: self.shutdown.clone(),
            };
            let invocation = self.invocation(function, request, context);
            return invocation.instrument(span).await;
        }
        // The path without its query, which may hold a key.
        let span = error_span!(
            "request",
            method = %request.method(),
            path,
            trace_id = %trace.trace_id,
            span_id = %trace.span_id,
            subject = Empty,
            correlation_id = Empty,
        );
        self.http(request, trace).instrument(span).await
    }

    /// Runs a function and words its outcome for the host.
    async fn invocation(
        &self,
        function: &crate::app::Function,
        request: Request<Body>,
        context: Context,
    ) -> Response<Body> {
        if is_from_browser(request.headers()) {
            warn!("refused an invocation that comes from a browser");
            return closing(problem(StatusCode::FORBIDDEN, "invocations come from the host"));
        }
        let began = Instant::now();
        let name = Arc::clone(&context.function);
        let mut span = Span::start(context.trace, &name, Kind::Server);
        if span.is_recorded() {
            span.text("faas.invoked_name", &name);
            if let Some(id) = context.invocation_id() {
                span.text("faas.invocation_id", id);
            }
        }
        let read = tokio::time::timeout_at(context.deadline, self.envelope(request.into_body()));
        let request = match read.await {
            Ok(Ok(request)) => request,
            Ok(Err(unreadable)) => {
                let detail = unreadable.detail();
                warn!(detail, cause = unreadable.cause(), "the invocation cannot be read");
                return closing(problem(unreadable.status(), detail));
            }
            Err(_) => {
                warn!("the invocation's body did not arrive in time");
                let detail = Unreadable::Late.detail();
                return closing(problem(Unreadable::Late.status(), detail));
            }
        };
        let invocation = Invocation { function: Arc::clone(&name), request };
        let result = App::invoke(function, invocation, context).await;
        let duration_ms = milliseconds(began.elapsed());
        let envelope = result.and_then(|envelope| Ok(serde_json::to_vec(&envelope)?));
        let error_type = envelope.as_ref().err().map_or("", Failure::error_type);
        let ended = [("faas.invoked_name", &*name), ("error.type", error_type)];
        INVOCATIONS.record(began.elapsed().as_secs_f64(), &ended);
        match envelope {
            Ok(envelope) => {
                debug!(duration_ms, "invocation succeeded");
                let mut response = Response::new(Body::from(envelope));
                response.headers_mut().insert(header::CONTENT_TYPE, JSON);
                response
            }
            Err(failure) => {
                error!(
                    error.type = failure.error_type(),
                    error.message = failure.message(),
                    duration_ms,
                    "invocation failed"
                );
                span.fail(failure.error_type());
                failed(&failure)
            }
        }
    }

    async fn envelope(&self, body: Body) -> Result<InvocationRequest, Unreadable> {
        let body = Limited::new(body, self.limits.invocation_bytes_max).collect().await;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                Unreadable::TooLarge
            } else if is_stalled(&*error) {
                Unreadable::Late
            } else {
                Unreadable::Broken(error)
            }
        })?;
        serde_json::from_slice(&body.to_bytes()).map_err(Unreadable::NoEnvelope)
    }

    /// Asks the app's router.
    async fn http(&self, mut request: Request<Body>, trace: TraceContext) -> Response<Body> {
        let began = Instant::now();
        let is_readiness = request.method() == Method::GET && request.uri().path() == "/";
        let is_lost_invocation = is_lost_invocation(&request);
        // The host asks for readiness all the time, and no trace needs to show it.
        let mut span = (!is_readiness).then(|| {
            let mut span = Span::start(trace, request.method().as_str(), Kind::Server);
            span.text("http.request.method", request.method().as_str());
            span.text("url.path", request.uri().path());
            span
        });
        let response = match &self.app.router {
            Some(router) => {
                request.extensions_mut().insert(trace);
                request.extensions_mut().insert(Shutdown(self.shutdown.clone()));
                let answer = AssertUnwindSafe(router.clone().oneshot(request)).catch_unwind();
                match answer.await {
                    Ok(Ok(response)) => response,
                    Err(panic) => {
                        error!(
                            error.type = "panic",
                            error.message = panic_message(&*panic),
                            "request failed"
                        );
                        let detail = "the request could not be handled";
                        problem(StatusCode::INTERNAL_SERVER_ERROR, detail)
                    }
                }
            }
            None => problem(StatusCode::NOT_FOUND, "there is nothing at this path"),
        };
        if let Some(span) = &mut span {
            span.number("http.response.status_code", response.status().as_u16().into());
            if response.status().is_server_error() {
                span.fail(response.status().as_str());
            }
        }
        let unrouted =
            matches!(response.status(), StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED);
        debug!(
            status = response.status().as_u16(),
            duration_ms = milliseconds(began.elapsed()),
            "request answered"
        );
        match response {
            _ if unrouted && is_readiness => ready(),
            _ if unrouted && is_lost_invocation => self.no_such_function(),
            response => response,
        }
    }

    fn no_such_function(&self) -> Response<Body> {
        let names: Vec<_> = self.app.functions.keys().map(|name| (**name).into()).collect();
        warn!(functions = ?names, "there is no such function");
        problem::with(
            StatusCode::NOT_FOUND,
            "this handler has no function of that name; see `functions` for those it has",
            [("functions", serde_json::Value::Array(names))],
        )
    }
}

/// Why an invocation could not be read.
enum Unreadable {
    TooLarge,
    Late,
    Broken(axum::BoxError),
    NoEnvelope(serde_json::Error),
}

impl Unreadable {
    fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Late => StatusCode::REQUEST_TIMEOUT,
            Self::Broken(_) | Self::NoEnvelope(_) => StatusCode::BAD_REQUEST,
        }
    }

    fn detail(&self) -> &'static str {
        match self {
            Self::TooLarge => "the invocation is larger than this handler takes",
            Self::Late => "the invocation's body did not arrive in time",
            Self::Broken(_) => "the invocation's body did not arrive",
            Self::NoEnvelope(_) => "the body is no invocation: {\"Data\": {}, \"Metadata\": {}}",
        }
    }

    fn cause(&self) -> Option<String> {
        match self {
            Self::TooLarge | Self::Late => None,
            Self::Broken(error) => Some(error.to_string()),
            Self::NoEnvelope(error) => Some(error.to_string()),
        }
    }
}

/// The host reads the status only.
fn failed(failure: &Failure) -> Response<Body> {
    problem::with(
        StatusCode::INTERNAL_SERVER_ERROR,
        "the invocation failed",
        [("errorType", failure.error_type().into())],
    )
}

/// The host takes any answer for readiness.
fn ready() -> Response<Body> {
    let mut response = Response::new(Body::from("ready\n"));
    response.headers_mut().insert(header::CONTENT_TYPE, PLAIN);
    response
}

/// Whether a request that nobody wants is one of the host for a function that is not mounted.
fn is_lost_invocation(request: &Request<Body>) -> bool {
    request.method() == Method::POST
        && request.uri().path().strip_prefix('/').is_some_and(is_function_name)
        && request.headers().contains_key(INVOCATION_ID)
        && !request.headers().contains_key(PROXIED_INVOCATION_ID)
}

/// Browsers name the page that makes them post, and how it relates to the address.
fn is_from_browser(headers: &HeaderMap) -> bool {
    headers.contains_key(header::ORIGIN) || headers.contains_key("sec-fetch-site")
}

fn invocation_id(headers: &HeaderMap) -> Option<Arc<str>> {
    let id = headers.get(INVOCATION_ID)?.to_str().ok()?;
    (!id.is_empty() && id.len() <= INVOCATION_ID_CHARS_MAX).then(|| id.into())
}

fn is_stalled(error: &(dyn std::error::Error + 'static)) -> bool {
    std::iter::successors(Some(error), |error| error.source()).any(|error| error.is::<Stalled>())
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
