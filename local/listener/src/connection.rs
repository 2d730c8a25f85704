//! One connection: its requests, read whole, and its end.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http::request::Parts;
use http_body::Body;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::activity::Activity;
use crate::socket::Limits;

/// A request, read as far as the limits allow.
#[derive(Debug)]
pub struct Request {
    /// Who sent it.
    pub peer: SocketAddr,
    /// Method, target and headers.
    pub parts: Parts,
    /// The whole body, or why there is none. A service may have something more important to say
    /// about the request first.
    pub body: Result<Bytes, BodyError>,
}

/// A body could not be read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BodyError {
    /// It has more than [`Limits::body_bytes`].
    #[error("the request body is too large")]
    TooLarge,
    /// The connection ended, or the framing was wrong, before the body was complete.
    #[error("the request body ended early")]
    Incomplete,
    /// It took longer than [`Limits::body_read`].
    #[error("the request body did not arrive in time")]
    Late,
}

pub(crate) async fn serve<I, S, F, B, E>(
    stream: I,
    peer: SocketAddr,
    limits: Limits,
    service: Arc<S>,
    shutdown: CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        // Runs between requests as well, so that it bounds idle connections too.
        .header_read_timeout(limits.connection_idle)
        .keep_alive(true);
    match limits.http2_streams {
        None => builder = builder.http1_only(),
        Some(streams) => {
            builder.http2().timer(TokioTimer::new()).max_concurrent_streams(streams);
        }
    }
    let activity = Activity::new();
    let answer = service_fn(|request: http::Request<Incoming>| {
        let (service, busy) = (service.clone(), activity.begin());
        async move {
            let request = read(peer, request, limits).await;
            let response = service(request).await;
            drop(busy);
            response
        }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), answer);
    tokio::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => {
            if let Err(error) = result {
                tracing::debug!(error = %error, "connection ended");
            }
            return;
        }
        () = shutdown.cancelled() => {}
        // HTTP/2 has no time-out of its own for a connection without requests.
        () = activity.idle_for(limits.connection_idle) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(limits.shutdown_grace, connection).await;
}

async fn read(peer: SocketAddr, request: http::Request<Incoming>, limits: Limits) -> Request {
    let (parts, body) = request.into_parts();
    let limited = Limited::new(body, limits.body_bytes);
    let body = match timeout(limits.body_read, limited.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(_)) => Err(BodyError::Incomplete),
        Err(_) => Err(BodyError::Late),
    };
    Request { peer, parts, body }
}
