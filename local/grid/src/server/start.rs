//! What is served, and where: declarations in, a bound service out.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use listener::{BodyError, Clock, Limits, Listener, Request, ServeError};
use thiserror::Error;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::State;
use super::courier::Courier;
use super::morgue::Morgue;
use super::pump::pump;
use super::reply::Refusal;
use crate::access::{InvalidKey, Key};
use crate::limits;
use crate::store::{Store, StoreError};
use crate::topology::{Declaration, InvalidDeclaration};

const LIMITS: Limits = Limits {
    connections: limits::CONNECTIONS_MAX,
    http2_streams: None,
    connection_idle: limits::CONNECTION_IDLE,
    body_bytes: limits::REQUEST_BYTES_MAX,
    body_read: limits::BODY_READ,
    shutdown_grace: limits::SHUTDOWN_GRACE,
};

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
    #[error(transparent)]
    Listen(#[from] listener::BindError),
}

/// A bound service.
pub struct Server {
    listener: Listener,
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
        let listener = Listener::bind(options.listen, LIMITS).await?;
        let (store, changed) = (Mutex::new(store), Notify::new());
        let state = Arc::new(State { store, clock: options.clock, key, changed });
        let courier = Courier::new(options.time_scale, listener.local_addr());
        let morgue = Morgue::new(options.dead_letters);
        Ok(Self { listener, state, courier, morgue })
    }

    /// The address that was bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Serves and delivers until `shutdown`, then lets requests under way finish for a while.
    ///
    /// # Errors
    /// [`ServeError`] when the listening socket breaks.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let tasks = TaskTracker::new();
        let Self { listener, state, courier, morgue } = self;
        let (for_pump, stop) = (tasks.clone(), shutdown.clone());
        tasks.spawn(pump(state.clone(), courier, morgue, for_pump, stop));
        let service = move |Request { parts, body, .. }| {
            let body = body.map_err(|error| match error {
                BodyError::TooLarge => Refusal::body_too_large(),
                BodyError::Incomplete => Refusal::body_incomplete(),
                BodyError::Late => Refusal::body_late(),
            });
            std::future::ready(Ok::<_, Infallible>(super::answer(&state, &parts, body)))
        };
        listener.run(service, tasks, shutdown).await
    }
}
