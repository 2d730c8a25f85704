//! The listening socket: accepting, bounding and ending connections.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::reply::Refusal;
use super::state::State;
use super::throttle::Throttle;
use crate::auth::{EMULATOR_KEY, InvalidKey, Key};
use crate::clock::Clock;
use crate::disk;
use crate::limits;
use crate::store::{CommitLog, Store, StoreError, Volatile};

/// Pause after the system refused a connection, most likely for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// The databases and containers that exist from the start.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Account {
    /// Databases, each with its containers.
    #[serde(default)]
    pub databases: Vec<DatabaseDeclaration>,
}

/// A database that exists from the start.
#[derive(Debug, Clone, Deserialize)]
pub struct DatabaseDeclaration {
    /// Its id.
    pub id: String,
    /// Its containers, each as the body of a create-container request.
    #[serde(default)]
    pub containers: Vec<Map<String, Value>>,
}

/// How to serve.
pub struct Options {
    /// Where to listen; port 0 takes any free one.
    pub listen: SocketAddr,
    /// What exists from the start.
    pub account: Account,
    /// The account key, in Base64.
    pub key: String,
    /// The time.
    pub clock: Clock,
    /// The directory that keeps everything; `None` keeps it in memory and in [`Options::log`].
    pub data: Option<PathBuf>,
    /// Takes every change before it becomes visible, unless a directory does.
    pub log: Box<dyn CommitLog>,
    /// Makes resource ids and ETags differ from those of other runs. The same one, with the same
    /// requests at the same times, gives the same ids.
    pub incarnation: u64,
    /// Request units per second above which requests are refused with 429; `None` for no limit.
    pub request_units_per_second: Option<f64>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            account: Account::default(),
            key: EMULATOR_KEY.to_owned(),
            clock: Clock::system(),
            data: None,
            log: Box::new(Volatile),
            incarnation: uuid::Uuid::new_v4().as_u64_pair().0,
            request_units_per_second: None,
        }
    }
}

/// The service could not be started.
#[derive(Debug, Error)]
pub enum BindError {
    /// The key is unusable.
    #[error(transparent)]
    Key(#[from] InvalidKey),
    /// The data directory is unusable.
    #[error("the data cannot be read")]
    Storage(#[from] disk::StorageError),
    /// A declared database or container is unusable.
    #[error("the declaration of '{name}' is not valid")]
    Declaration {
        /// The id of the database or container, as far as known.
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
        let (mut store, compactor) = match &options.data {
            None => (Store::new(options.incarnation, options.log), None),
            Some(directory) => {
                let (store, compactor) =
                    disk::open(directory, options.incarnation, disk::Sizes::default())?;
                (store, Some(compactor))
            }
        };
        declare(&mut store, &options.account, options.clock.now_ms())?;
        let failed = |source| BindError::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let now_ms = options.clock.now_ms();
        let throttle =
            options.request_units_per_second.map(|units| Throttle::new(units.max(1.0), now_ms));
        let state = Arc::new(State::new(store, compactor, options.clock, key, throttle));
        Ok(Self { listener, address, state })
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
                Ok((stream, slot)) => {
                    let (state, shutdown) = (self.state.clone(), shutdown.clone());
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
        shutdown.cancel();
        tasks.close();
        if timeout(limits::SHUTDOWN_GRACE, tasks.wait()).await.is_err() {
            tracing::warn!(open_connections = tasks.len(), "connections left open at shutdown");
        }
        served
    }
}

fn declare(store: &mut Store, account: &Account, now_ms: u64) -> Result<(), BindError> {
    let failed = |name: &str| {
        let name = name.to_owned();
        move |source| BindError::Declaration { name, source }
    };
    // What a log brought back stays as it is.
    for database in &account.databases {
        if store.database(&database.id).is_err() {
            store.create_database(&database.id, now_ms).map_err(failed(&database.id))?;
        }
        for container in &database.containers {
            let name = container.get("id").and_then(Value::as_str).unwrap_or("(no id)");
            if store.container(&database.id, name).is_err() {
                store.create_container(&database.id, container, now_ms).map_err(failed(name))?;
            }
        }
    }
    Ok(())
}

async fn accept(
    listener: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, tokio::sync::OwnedSemaphorePermit)> {
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
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits::CONNECTION_IDLE)
        .keep_alive(true);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits::MAX_STREAMS_PER_CONNECTION);
    let activity = Activity::new();
    let service = service_fn(|request: Request<Incoming>| {
        let (state, busy) = (state.clone(), activity.begin());
        async move {
            let response = respond(&state, request).await;
            drop(busy);
            Ok::<_, Infallible>(response)
        }
    });
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => {
            if let Err(error) = result {
                tracing::debug!(error = %error, "connection ended");
            }
            return;
        }
        () = shutdown.cancelled() => {}
        () = activity.idle_for(limits::CONNECTION_IDLE) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _ = timeout(limits::SHUTDOWN_GRACE, connection).await;
}

async fn respond(state: &State, request: Request<Incoming>) -> Response<Full<Bytes>> {
    let (parts, body) = request.into_parts();
    let limited = Limited::new(body, limits::MAX_REQUEST_BYTES);
    let body = match timeout(limits::BODY_READ, limited.collect()).await {
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            0,
            format!("the request body is larger than {} bytes", limits::MAX_REQUEST_BYTES),
        )),
        Ok(Err(_)) => Err(Refusal::bad("the request body ended early")),
        Err(_) => Err(Refusal::new(
            StatusCode::REQUEST_TIMEOUT,
            0,
            "the request body did not arrive in time",
        )),
    };
    super::answer(state, parts, body).await
}

async fn sweep(state: Arc<State>, shutdown: CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(limits::EXPIRY_SWEEP_INTERVAL) => {}
        }
        while state.write().sweep(state.clock.now_ms()) {
            tokio::task::yield_now().await;
        }
        let compacting = state.clone();
        // A panic in there has been reported; the old files stay.
        drop(tokio::task::spawn_blocking(move || compacting.compact()).await);
    }
}

/// Requests under way on a connection, and when the last one ended.
struct Activity {
    busy: Arc<Busy>,
}

struct Busy {
    requests: AtomicUsize,
    ended: watch::Sender<Instant>,
}

/// One request under way.
struct BusyGuard(Arc<Busy>);

impl Activity {
    fn new() -> Self {
        let (ended, _) = watch::channel(Instant::now());
        Self { busy: Arc::new(Busy { requests: AtomicUsize::new(0), ended }) }
    }

    fn begin(&self) -> BusyGuard {
        self.busy.requests.fetch_add(1, Ordering::Relaxed);
        BusyGuard(self.busy.clone())
    }

    /// Returns once no request has been under way for `limit`.
    async fn idle_for(&self, limit: Duration) {
        loop {
            let since = *self.busy.ended.borrow();
            tokio::time::sleep_until(since + limit).await;
            let busy = self.busy.requests.load(Ordering::Relaxed) > 0;
            if busy {
                tokio::time::sleep(limit).await;
            } else if *self.busy.ended.borrow() == since {
                return;
            }
        }
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
        self.0.ended.send_replace(Instant::now());
    }
}
