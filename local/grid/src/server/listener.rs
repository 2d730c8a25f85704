//! The listening socket: accepting, bounding and ending connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::State;
use super::courier::Courier;
use super::morgue::Morgue;
use super::pump::pump;
use super::reply::Refusal;
use crate::access::{InvalidKey, Key};
use crate::clock::Clock;
use crate::limits;
use crate::store::{Store, StoreError};
use crate::topology::{Declaration, InvalidDeclaration};

/// Pause after the system refused a connection, most likely for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// How to serve.
pub struct Options {
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Topics and subscriptions that exist from the start.
    pub declaration: Declaration,
    /// The access key, in base64.
    pub key: String,
    /// The folder that holds the dead-letter destinations.
    pub dead_letters: PathBuf,
    /// How many times faster than in Azure delays and times to live pass, within
    /// [`limits::TIME_SCALE`]. For tests, and for people who want to see a retry.
    pub time_scale: u32,
    /// The time.
    pub clock: Clock,
    /// Decides the jitter of retries.
    pub seed: u64,
}

impl Options {
    /// A free port, this machine's time and the local key.
    #[must_use]
    pub fn new(declaration: Declaration, dead_letters: impl Into<PathBuf>) -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            declaration,
            key: crate::LOCAL_KEY.to_owned(),
            dead_letters: dead_letters.into(),
            time_scale: 1,
            clock: Clock::system(),
            seed: uuid::Uuid::new_v4().as_u64_pair().0,
        }
    }
}

/// The service could not be started.
#[derive(Debug, Error)]
pub enum BindError {
    /// The key is unusable.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// A declared topic or subscription is unusable.
    #[error("the declaration is not valid")]
    Declaration(#[from] InvalidDeclaration),
    /// As above, found by the store.
    #[error("the declaration is not valid")]
    Store(#[from] StoreError),
    /// The address is taken or not ours.
    #[error("cannot listen on {address}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// The reason.
        source: std::io::Error,
    },
}

/// The service ended by itself.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The listening socket is broken.
    #[error("the listening socket failed")]
    Accept(#[source] std::io::Error),
}

/// A bound service.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    state: Arc<State>,
    courier: Courier,
    morgue: Morgue,
}

impl Server {
    /// Creates what is declared and starts listening. Nothing is answered or delivered before
    /// [`Server::run`].
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(options: Options) -> Result<Self, BindError> {
        let key = Key::parse(&options.key)?;
        options.declaration.check()?;
        let mut store = Store::new(options.time_scale, options.seed);
        let now_ms = options.clock.now_ms();
        for topic in &options.declaration.topics {
            store.declare(topic, now_ms)?;
        }
        let failed = |source| BindError::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (store, changed) = (Mutex::new(store), Notify::new());
        let state = Arc::new(State { store, clock: options.clock, key, changed });
        let courier = Courier::new(options.time_scale);
        let morgue = Morgue::new(options.dead_letters);
        Ok(Self { listener, address, state, courier, morgue })
    }

    /// The address that was bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves and delivers until `shutdown`, then lets requests under way finish for a while.
    ///
    /// # Errors
    /// [`ServeError`] when the listening socket breaks.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let slots = Arc::new(Semaphore::new(limits::CONNECTIONS_MAX));
        let tasks = TaskTracker::new();
        let Self { listener, state, courier, morgue, .. } = self;
        let (for_pump, stop) = (tasks.clone(), shutdown.clone());
        tasks.spawn(pump(state.clone(), courier, morgue, for_pump, stop));
        let served = loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break Ok(()),
                accepted = accept(&listener, &slots) => accepted,
            };
            match accepted {
                Ok((stream, slot)) => {
                    let (state, shutdown) = (state.clone(), shutdown.clone());
                    tasks.spawn(async move {
                        connection(stream, state, shutdown).await;
                        drop(slot);
                    });
                }
                Err(error) if is_fatal(&error) => break Err(ServeError::Accept(error)),
                Err(error) => {
                    tracing::warn!(error = %error, "connection not accepted");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                }
            }
        };
        // The pump ends with the service, however that ends.
        shutdown.cancel();
        tasks.close();
        if timeout(limits::SHUTDOWN_GRACE, tasks.wait()).await.is_err() {
            tracing::warn!(open = tasks.len(), "requests left under way at shutdown");
        }
        served
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let slot = slots.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Answers are small and whole; waiting to fill a segment only delays them.
    stream.set_nodelay(true)?;
    Ok((stream, slot))
}

fn is_fatal(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::NotConnected)
}

async fn connection(stream: TcpStream, state: Arc<State>, shutdown: CancellationToken) {
    let service = service_fn(|request: Request<Incoming>| {
        let state = state.clone();
        async move { Ok::<_, Infallible>(respond(&state, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        // Runs between requests as well, so that it bounds idle connections too.
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
        () = shutdown.cancelled() => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(limits::SHUTDOWN_GRACE, connection).await;
}

async fn respond(state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let limited = Limited::new(body, limits::REQUEST_BYTES_MAX);
    let body = match timeout(limits::BODY_READ, limited.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::body_too_large()),
        Ok(Err(_)) => Err(Refusal::body_incomplete()),
        Err(_) => Err(Refusal::body_late()),
    };
    super::answer(state, &parts, body)
}
