//! One connection, from its acceptance to its end.

use std::convert::Infallible;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{HeaderValue, Request, Response, StatusCode, Version, header};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use tokio::net::TcpStream;
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::body::{Answer, Patient};
use super::dispatch::Dispatch;
use super::guard::{Guard, Phase, PhaseCell};
use crate::config::Limits;
use crate::problem::{closing, problem};

/// Buffer of one connection, in each direction: what is read ahead of a slow handler and written
/// ahead of a slow client. Times the connections, this bounds the server's memory.
const BUFFER_BYTES_MAX: usize = 64 * 1024;

/// How long a connection may take from here on to complete the head of a request once others wait
/// for its place: ages for a host on the same machine, and short for one that holds many half-open.
const CROWDED_HEAD_LIMIT: Duration = Duration::from_millis(500);

/// What every connection shares.
#[derive(Clone)]
pub(super) struct Connection {
    pub(super) dispatch: Arc<Dispatch>,
    pub(super) limits: Limits,
    /// Cancelled when the server is asked to stop: finish what was begun.
    pub(super) drain: CancellationToken,
    /// Cancelled when the server has waited long enough: end.
    pub(super) abandon: CancellationToken,
    /// Whether others wait for a place.
    pub(super) crowd: watch::Receiver<bool>,
}

impl Connection {
    /// Serves requests until the client has no more, or one of the limits ends it. The slot is
    /// held for so long.
    pub(super) async fn serve(self, stream: TcpStream, slot: OwnedSemaphorePermit) {
        let Self { dispatch, limits, drain, abandon, mut crowd } = self;
        let phase = PhaseCell::new();
        let crowded = crowd.clone();
        let service = service_fn(|request| {
            phase.set(Phase::Busy);
            let (dispatch, phase, crowded) =
                (Arc::clone(&dispatch), phase.clone(), crowded.clone());
            async move {
                let mut response = answer(&dispatch, request, limits).await;
                if *crowded.borrow() {
                    response = closing(response);
                }
                Ok::<_, Infallible>(response.map(|body| Answer::new(body, phase)))
            }
        });
        let io = Guard::new(stream, limits, phase.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            // The last resort, for a head that was pipelined in part; and without it hyper would
            // not look at an idle connection, whose deadline the guard then could not start.
            .header_read_timeout(limits.idle)
            .max_header_size(limits.head_bytes_max)
            .max_buf_size(BUFFER_BYTES_MAX.max(limits.head_bytes_max))
            .serve_connection(io, service);
        let mut connection = pin!(connection);
        let mut closing = false;
        // When a head that was unfinished as others began to wait has to be finished, and which.
        let mut head_due = pin!(tokio::time::sleep(Duration::ZERO));
        let mut head_waited_for = None;
        loop {
            tokio::select! {
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        debug!(error = %crate::Failure::from(error).message(), "connection ended");
                    }
                    break;
                }
                () = drain.cancelled(), if !closing => closing = true,
                Ok(()) = crowd.changed(), if !closing => {
                    let crowded = *crowd.borrow_and_update();
                    closing = crowded && phase.get() == Phase::Idle;
                    if crowded && head_waited_for.is_none() {
                        head_waited_for = phase.unfinished_head();
                        head_due.as_mut().reset(Instant::now() + CROWDED_HEAD_LIMIT);
                    }
                }
                () = head_due.as_mut(), if head_waited_for.is_some() => {
                    if head_waited_for == phase.unfinished_head() {
                        debug!("the connection made place for others");
                        break;
                    }
                    head_waited_for = None;
                }
                () = abandon.cancelled() => break,
            }
            if closing {
                connection.as_mut().graceful_shutdown();
            }
        }
        drop(slot);
    }
}

/// Answers one request: what is wrong with it as HTTP here, everything else in [`Dispatch`].
async fn answer(dispatch: &Dispatch, request: Request<Incoming>, limits: Limits) -> Response<Body> {
    if let Some(detail) = host_header_problem(&request) {
        return closing(problem(StatusCode::BAD_REQUEST, detail));
    }
    let (parts, body) = request.into_parts();
    let (body, fate) = Patient::new(body, limits.body_stall);
    let response = dispatch.answer(Request::from_parts(parts, Body::new(body))).await;
    if fate.is_stalled() {
        // Whatever the handler made of the error, this is what happened.
        let detail = "the request's body stopped arriving";
        return closing(problem(StatusCode::REQUEST_TIMEOUT, detail));
    }
    if !fate.is_read() {
        // What is left of the body may still be on its way, and then the connection ends with this
        // answer. A host that is not told gives it to its next call, which fails.
        return closing(response);
    }
    response
}

/// RFC 9112 section 3.2: a request of HTTP/1.1 without a Host, or with two, is answered 400.
fn host_header_problem(request: &Request<Incoming>) -> Option<&'static str> {
    let mut hosts = request.headers().get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (None, _) if request.version() == Version::HTTP_11 => Some("the Host header is missing"),
        (Some(_), Some(_)) => Some("there is more than one Host header"),
        (Some(host), None) if !is_printable(host) => Some("the Host header is malformed"),
        _ => None,
    }
}

fn is_printable(host: &HeaderValue) -> bool {
    host.as_bytes().iter().all(|byte| matches!(byte, b'!'..=b'~'))
}
