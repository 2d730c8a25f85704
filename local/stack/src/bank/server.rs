//! The listening socket: accepting, bounding and ending connections.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::{IntoResponse as _, Response};
use http::request::Parts;
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::clock::{Clock, system_clock};
use super::keeper::{Broken, Keeper};
use super::ledger::{Ledger, LedgerError};
use super::limits;
use super::problem::Problem;
use super::routes::{Bank, HangUp, router};
use super::script::Script;

/// How to serve.
#[derive(Clone)]
pub struct Options {
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// The ledger; created if there is none, read back and continued if there is.
    pub ledger: PathBuf,
    /// The time.
    pub clock: Clock,
}

impl Options {
    /// A free port and this machine's time.
    #[must_use]
    pub fn new(ledger: impl Into<PathBuf>) -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { listen, ledger: ledger.into(), clock: system_clock() }
    }
}

/// The bank could not be started.
#[derive(Debug, Error)]
pub enum BindError {
    /// The ledger is unusable.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The reason.
        source: std::io::Error,
    },
}

/// The bank ended by itself.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The listening socket is broken.
    #[error("the listening socket failed")]
    Accept(#[source] std::io::Error),
    /// What was decided could not be kept, so nothing more is decided.
    #[error("the ledger failed")]
    Ledger(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A bank that has read its ledger and bound its port.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    lines: u64,
    torn_bytes: u64,
    keeper: Keeper,
    bank: Bank,
}

impl Server {
    /// Reads the ledger back and starts listening. Nothing is answered before [`Server::run`].
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(options: Options) -> Result<Self, BindError> {
        let (ledger, book, torn_bytes) = Ledger::open(&options.ledger)?;
        if torn_bytes > 0 {
            tracing::warn!(
                ledger = %options.ledger.display(),
                bytes = torn_bytes,
                "the last line of the ledger was torn and is dropped; it was never answered"
            );
        }
        let failed = |source| BindError::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let mut script = Script::default();
        book.charges().for_each(|charge| script.remember(charge));
        let lines = book.lines();
        let (keeper, teller) = Keeper::new(book, ledger, options.clock);
        let bank = Bank {
            teller,
            script: Mutex::new(script),
            ledger: options.ledger,
            tasks: TaskTracker::new(),
            places: Arc::new(Semaphore::new(limits::REQUESTS_MAX)),
            shutdown: CancellationToken::new(),
        };
        Ok(Self { listener, address, lines, torn_bytes, keeper, bank })
    }

    /// The address that was bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Lines that the ledger had.
    #[must_use]
    pub fn lines(&self) -> u64 {
        self.lines
    }

    /// Bytes of a torn last line that were dropped.
    #[must_use]
    pub fn torn_bytes(&self) -> u64 {
        self.torn_bytes
    }

    /// Serves until `shutdown`, then lets requests under way finish for a while.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let Self { listener, keeper, bank, .. } = self;
        let (stop, tasks) = (bank.shutdown.clone(), bank.tasks.clone());
        let _stopped_with_us = stop.clone().drop_guard();
        let mut keeping = tokio::task::spawn_blocking(move || keeper.run());
        let router = router(Arc::new(bank));
        let slots = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
        let mut broken = None;
        let served = loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break Ok(()),
                ended = &mut keeping => {
                    broken = Some(ended);
                    break Ok(());
                }
                accepted = accept(&listener, &slots) => accepted,
            };
            match accepted {
                Ok((stream, slot)) => {
                    let (router, stop) = (router.clone(), stop.clone());
                    tasks.spawn(async move {
                        connection(stream, router, stop).await;
                        drop(slot);
                    });
                }
                Err(error) if is_fatal(&error) => break Err(ServeError::Accept(error)),
                Err(error) => {
                    tracing::warn!(error = %error, "connection not accepted");
                    tokio::time::sleep(limits::ACCEPT_RETRY).await;
                }
            }
        };
        stop.cancel();
        tasks.close();
        drop(router);
        // With the last request the keeper goes as well. What it has begun is on the disk then.
        let finished = async {
            tasks.wait().await;
            match broken {
                Some(ended) => ended,
                None => keeping.await,
            }
        };
        match timeout(limits::SHUTDOWN_GRACE, finished).await {
            Err(_) => {
                tracing::warn!(open = tasks.len(), "requests left under way at shutdown");
                served
            }
            Ok(Ok(Ok(()))) => served,
            Ok(Ok(Err(error))) => Err(failed(error)),
            Ok(Err(error)) => Err(ServeError::Ledger(error.into())),
        }
    }
}

fn failed(error: Broken) -> ServeError {
    ServeError::Ledger(error.into())
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let slot = Arc::clone(slots).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Answers are small and whole; waiting to fill a segment only delays them.
    stream.set_nodelay(true)?;
    Ok((stream, slot))
}

fn is_fatal(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::NotConnected)
}

/// The service's error: hyper then closes the connection without an answer.
#[derive(Debug, Error)]
#[error("hung up, as the script wants it")]
struct HungUp;

async fn connection(stream: TcpStream, router: Router, stop: CancellationToken) {
    let service = service_fn(move |request: Request<Incoming>| {
        let router = router.clone();
        async move {
            let response = respond(router, request).await;
            let hang_up = response.extensions().get::<HangUp>().is_some();
            if hang_up { Err(HungUp) } else { Ok(response) }
        }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::CONNECTION_IDLE)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => {
            if let Err(error) = result {
                tracing::debug!(error = %error, "connection ended");
            }
            return;
        }
        () = stop.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(limits::SHUTDOWN_GRACE, connection).await;
}

async fn respond(router: Router, request: Request<Incoming>) -> Response {
    let (parts, body) = request.into_parts();
    let limited = Limited::new(body, limits::BODY_BYTES_MAX);
    let problem = match timeout(limits::BODY_READ, limited.collect()).await {
        Ok(Ok(body)) => return routed(router, parts, body.to_bytes()).await,
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            let detail = format!("a body has {} bytes at most", limits::BODY_BYTES_MAX);
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
        }
        Ok(Err(_)) => Problem::bad("the body ended early"),
        Err(_) => {
            let detail = "the body did not arrive in time";
            Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", detail)
        }
    };
    problem.into_response()
}

async fn routed(router: Router, parts: Parts, body: Bytes) -> Response {
    let answer = router.oneshot(Request::from_parts(parts, Body::from(body))).await;
    answer.unwrap_or_else(|never| match never {})
}
