//! What is served, and where: declarations in, a bound service out.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use listener::{BodyError, Clock, Limits, Listener, Request, ServeError};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::State;
use super::reply::Refusal;
use crate::auth::{EMULATOR_ACCOUNT, EMULATOR_KEY, InvalidKey, Key};
use crate::durable::Durable;
use crate::limits;
use crate::store::{Metadata, Store, StoreError, Volatile};

const LIMITS: Limits = Limits {
    connections: limits::MAX_CONNECTIONS,
    http2_streams: None,
    connection_idle: limits::CONNECTION_IDLE,
    body_bytes: limits::MAX_REQUEST_BYTES,
    body_read: limits::BODY_READ,
    shutdown_grace: limits::SHUTDOWN_GRACE,
};

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
    /// The directory that keeps the account; created if there is none. Without one everything is
    /// gone with the process.
    pub data: Option<PathBuf>,
    /// Whether an answer waits for the disk. Without that a change survives a crash of the process,
    /// not one of the machine.
    pub fsync: bool,
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
            data: None,
            fsync: true,
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
    /// What was kept cannot be used.
    #[error("the data of the account cannot be used")]
    Data(#[from] journal::OpenError),
    /// A declared queue is unusable.
    #[error("the declaration of the queue '{name}' is not valid")]
    Declaration {
        /// Its name.
        name: String,
        /// What is wrong with it.
        source: StoreError,
    },
    /// The address is taken or not ours.
    #[error(transparent)]
    Listen(#[from] listener::BindError),
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
    listener: Listener,
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
        let (mut store, durable) = match &options.data {
            None => (Store::new(options.incarnation, deletion_ms, Box::new(Volatile)), None),
            Some(directory) => {
                let (store, durable, opened) =
                    Durable::open(directory, options.incarnation, deletion_ms, options.fsync)?;
                if opened.torn_bytes > 0 {
                    tracing::warn!(
                        bytes = opened.torn_bytes,
                        "the last record was torn and is dropped; nobody was answered for it"
                    );
                }
                (store, Some(durable))
            }
        };
        let now_ms = options.clock.now_ms();
        for name in options.queues {
            match store.create_queue(&name, Metadata::new(), now_ms) {
                // What was kept stays as it is.
                Ok(_) | Err(StoreError::QueueAlreadyExists | StoreError::QueueBeingDeleted) => {}
                Err(source) => return Err(BindError::Declaration { name, source }),
            }
        }
        let listener = Listener::bind(options.listen, LIMITS).await?;
        let store = Mutex::new(store);
        let (clock, account) = (options.clock, options.account);
        let state = State { store, durable, clock, account, key };
        Ok(Self { listener, state: Arc::new(state) })
    }

    /// The address that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`, then lets requests under way finish for a while.
    ///
    /// # Errors
    /// [`ServeError`] when the listening socket breaks.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let tasks = TaskTracker::new();
        tasks.spawn(sweep(self.state.clone(), shutdown.clone()));
        let state = self.state.clone();
        let service = move |Request { peer, parts, body }: Request| {
            let state = state.clone();
            let body = body.map_err(|error| match error {
                BodyError::TooLarge => Refusal::too_large(),
                BodyError::Incomplete => Refusal::body_incomplete(),
                BodyError::Late => Refusal::body_late(),
            });
            async move { Ok::<_, Infallible>(super::answer(&state, peer.ip(), parts, body).await) }
        };
        let served = self.listener.run(service, tasks, shutdown).await;
        snapshot(&self.state).await;
        served
    }
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
        if state.durable.as_ref().is_some_and(Durable::wants_snapshot) {
            snapshot(&state).await;
        }
    }
}

async fn snapshot(state: &Arc<State>) {
    let Some(durable) = state.durable.clone() else { return };
    let state = state.clone();
    let written = tokio::task::spawn_blocking(move || durable.snapshot(|| state.store())).await;
    if let Err(error) = written.map_err(std::io::Error::other).flatten() {
        tracing::warn!(%error, "no snapshot could be written; the next start takes longer");
    }
}
