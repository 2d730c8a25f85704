//! The listening socket: accepting, bounding and ending connections.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
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
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::State;
use super::reply::Refusal;
use crate::auth::{EMULATOR_ACCOUNT, EMULATOR_KEY, InvalidKey, Key};
use crate::clock::Clock;
use crate::limits;
use crate::store::{CommitLog, Metadata, Store, StoreError, Volatile};

/// Pause after the system refused a connection, most likely for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// How to serve.
pub struct Options {
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// Names of the queues that exist from the start.
    pub queues: Vec<String>,
    /// The name of the account, which is the first segment of every path.
    pub account: String,
    /// The account key, in Base64.
    pub key: String,
    /// The time.
    pub clock: Clock,
    /// Takes every change before it becomes visible.
    pub log: Box<dyn CommitLog>,
    /// Makes message ids and pop receipts differ from those of other runs. The same one, with the
    /// same requests at the same times, gives the same ids.
    pub incarnation: u64,
    /// How long the name of a deleted queue cannot be used again (`QueueBeingDeleted`). Azure takes
    /// half a minute and more; at a desk nobody wants to wait.
    pub deletion: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            queues: Vec::new(),
            account: EMULATOR_ACCOUNT.to_owned(),
            key: EMULATOR_KEY.to_owned(),
            clock: Clock::system(),
            log: Box::new(Volatile),
            incarnation: uuid::Uuid::new_v4().as_u64_pair().0,
            deletion: Duration::ZERO,
        }
    }
}

/// The service could not be started.
#[derive(Debug, Error)]
pub enum BindError {
    /// The key is unusable.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// A declared queue is unusable.
    #[error("the declaration of the queue '{name}' is not valid")]
    Declaration {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: StoreError,
    },
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

/// The connection string of a service at `address` with the emulators' account and key.
pub fn connection_string(address: SocketAddr) -> String {
    format!(
        "DefaultEndpointsProtocol=http;AccountName={EMULATOR_ACCOUNT};AccountKey={EMULATOR_KEY};\
         QueueEndpoint=http://{address}/{EMULATOR_ACCOUNT};"
    )
}

/// A bound service.
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    state: Arc<State>,
}

impl Server {
    /// Creates what is declared and starts listening. Nothing is answered before [`Server::run`].
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(options: Options) -> Result<Self, BindError> {
        let key = Key::parse(&options.key)?;
        let deletion_ms = u64::try_from(options.deletion.as_millis()).unwrap_or(u64::MAX);
        let mut store = Store::new(options.incarnation, deletion_ms, options.log);
        let now_ms = options.clock.now_ms();
        for name in options.queues {
            if let Err(source) = store.create_queue(&name, Metadata::new(), now_ms) {
                return Err(BindError::Declaration { name, source });
            }
        }
        let failed = |source| BindError::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let store = Mutex::new(store);
        let state = State { store, clock: options.clock, account: options.account, key };
        Ok(Self { listener, address, state: Arc::new(state) })
    }

    /// The address that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `shutdown`, then lets requests under way finish for a while.
    ///
    /// # Errors
    /// [`ServeError`] when the listening socket breaks.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let slots = Arc::new(Semaphore::new(limits::MAX_CONNECTIONS));
        let tasks = TaskTracker::new();
        tasks.spawn(sweep(self.state.clone(), shutdown.clone()));
        let served = loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break Ok(()),
                accepted = accept(&self.listener, &slots) => accepted,
            };
            match accepted {
                Ok((stream, peer, slot)) => {
                    let (state, shutdown) = (self.state.clone(), shutdown.clone());
                    tasks.spawn(async move {
                        connection(stream, peer.ip(), state, shutdown).await;
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
        // The sweeper ends with the service, however that ends.
        shutdown.cancel();
        tasks.close();
        if timeout(limits::SHUTDOWN_GRACE, tasks.wait()).await.is_err() {
            tracing::warn!(open_connections = tasks.len(), "connections left open at shutdown");
        }
        served
    }
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let slot = slots.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    // Answers are small and whole; waiting to fill a segment only delays them.
    stream.set_nodelay(true)?;
    Ok((stream, peer, slot))
}

fn is_fatal(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::NotConnected)
}

async fn connection(
    stream: TcpStream,
    source: IpAddr,
    state: Arc<State>,
    shutdown: CancellationToken,
) {
    let service = service_fn(|request: Request<Incoming>| {
        let state = state.clone();
        async move { Ok::<_, Infallible>(respond(&state, source, request).await) }
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

async fn respond(
    state: &State,
    source: IpAddr,
    request: Request<Incoming>,
) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let limited = Limited::new(body, limits::MAX_REQUEST_BYTES);
    let body = match timeout(limits::BODY_READ, limited.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::too_large()),
        Ok(Err(_)) => Err(Refusal::body_incomplete()),
        Err(_) => Err(Refusal::body_late()),
    };
    super::answer(state, source, parts, body)
}

async fn sweep(state: Arc<State>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(limits::EXPIRY_SWEEP_INTERVAL) => {}
        }
        while state.store().sweep(state.clock.now_ms()) {
            tokio::task::yield_now().await;
        }
    }
}
