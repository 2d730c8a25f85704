//! What is served, and where: a ledger in, a bound service out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use listener::{BodyError, Clock, Limits, Listener, Request};
use thiserror::Error;
use tokio::sync::{Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt as _;

use super::keeper::{Broken, Keeper};
use super::ledger::{Ledger, LedgerError};
use super::limits;
use super::problem::Problem;
use super::routes::{Bank, HangUp, router};
use super::script::Script;

const LIMITS: Limits = Limits {
    connections: limits::CONNECTIONS_MAX,
    http2_streams: None,
    connection_idle: limits::CONNECTION_IDLE,
    body_bytes: limits::BODY_BYTES_MAX,
    body_read: limits::BODY_READ,
    shutdown_grace: limits::SHUTDOWN_GRACE,
};

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
        Self { listen, ledger: ledger.into(), clock: Clock::system() }
    }
}

/// The bank could not be started.
#[derive(Debug, Error)]
pub enum BindError {
    /// The ledger is unusable.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The address is taken or not ours.
    #[error(transparent)]
    Listen(#[from] listener::BindError),
}

/// The bank ended by itself.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The listening socket is broken.
    #[error(transparent)]
    Accept(#[from] listener::ServeError),
    /// What was decided could not be kept, so nothing more is decided.
    #[error("the ledger failed")]
    Ledger(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// A bank that has read its ledger and bound its port.
pub struct Server {
    listener: Listener,
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
        let listener = Listener::bind(options.listen, LIMITS).await?;
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
        Ok(Self { listener, lines, torn_bytes, keeper, bank })
    }

    /// The address that was bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
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
        let Self { listener, keeper, mut bank, .. } = self;
        let (stop, tasks) = (shutdown.child_token(), bank.tasks.clone());
        bank.shutdown = stop.clone();
        let keeping = tokio::task::spawn_blocking(move || keeper.run());
        let (kept, mut outcome) = oneshot::channel();
        let stop_with_keeper = stop.clone().drop_guard();
        // With the last request the keeper goes as well. What it has begun is on the disk then.
        tasks.spawn(async move {
            let _stop = stop_with_keeper;
            let _ = kept.send(match keeping.await {
                Ok(kept) => kept.map_err(failed),
                Err(error) => Err(ServeError::Ledger(error.into())),
            });
        });
        let router = router(Arc::new(bank));
        let service = move |request| respond(router.clone(), request);
        listener.run(service, tasks, stop).await?;
        // Nothing yet: it is still at work after the time for a stop is over.
        outcome.try_recv().unwrap_or(Ok(()))
    }
}

fn failed(error: Broken) -> ServeError {
    ServeError::Ledger(error.into())
}

/// The service's error: hyper then closes the connection without an answer.
#[derive(Debug, Error)]
#[error("hung up, as the script wants it")]
struct HungUp;

async fn respond(router: Router, request: Request) -> Result<Response, HungUp> {
    let problem = match request.body {
        Ok(body) => {
            let request = http::Request::from_parts(request.parts, Body::from(body));
            let response = router.oneshot(request).await.unwrap_or_else(|never| match never {});
            let hang_up = response.extensions().get::<HangUp>().is_some();
            return if hang_up { Err(HungUp) } else { Ok(response) };
        }
        Err(BodyError::TooLarge) => {
            let detail = format!("a body has {} bytes at most", limits::BODY_BYTES_MAX);
            Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", detail)
        }
        Err(BodyError::Incomplete) => Problem::bad("the body ended early"),
        Err(BodyError::Late) => {
            let detail = "the body did not arrive in time";
            Problem::new(StatusCode::REQUEST_TIMEOUT, "too-slow", detail)
        }
    };
    Ok(problem.into_response())
}
