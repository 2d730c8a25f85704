//! What is served, and where: declarations in, a bound service out.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::Full;
use listener::{BodyError, Clock, Limits, Listener, Request};
use serde::Deserialize;
use serde_json::{Map, Value};
use thiserror::Error;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Dropped;
use super::reply::Refusal;
use super::state::State;
use crate::auth::{Access, EMULATOR_KEY, InvalidKey};
use crate::disk;
use crate::limits;
use crate::store::{CommitLog, LogError, Store, StoreError, Volatile};
use crate::tls;

const LIMITS: Limits = Limits {
    connections: limits::MAX_CONNECTIONS,
    http2_streams: Some(limits::MAX_STREAMS_PER_CONNECTION),
    connection_idle: limits::CONNECTION_IDLE,
    body_bytes: limits::MAX_REQUEST_BYTES,
    body_read: limits::BODY_READ,
    shutdown_grace: limits::SHUTDOWN_GRACE,
};

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
    /// Whether an answer waits for the disk. Without it a change outlives this process, and not the
    /// machine.
    pub fsync: bool,
    /// Takes every change before it becomes visible, unless a directory does.
    pub log: Box<dyn CommitLog>,
    /// Bytes of rows and groups that a query may hold before its first result is known.
    pub max_held_bytes: usize,
    /// Makes resource ids and ETags differ from those of other runs. The same one, with the same
    /// requests at the same times, gives the same ids.
    pub incarnation: u64,
    /// Request units per second above which requests are refused with 429; `None` for no limit.
    pub request_units_per_second: Option<f64>,
    /// Refuses requests with 429 that exceed the throughput offered for their container.
    pub enforce_throughput: bool,
    /// A second key in Base64, that only reads.
    pub read_only_key: Option<String>,
    /// The tenant whose development tokens are taken; `None` takes none.
    pub entra_tenant: Option<String>,
    /// Into how many partition key ranges every container is cut.
    pub partition_key_ranges: u16,
    /// Lets faults be ordered under `/admin/faults`.
    pub faults: bool,
    /// The directory of the certificate to serve https with, made there if there is none; `None`
    /// serves plain http.
    pub certificate: Option<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            account: Account::default(),
            key: EMULATOR_KEY.to_owned(),
            clock: Clock::system(),
            data: None,
            fsync: true,
            log: Box::new(Volatile),
            max_held_bytes: limits::MAX_HELD_BYTES,
            incarnation: uuid::Uuid::new_v4().as_u64_pair().0,
            request_units_per_second: None,
            enforce_throughput: false,
            read_only_key: None,
            entra_tenant: None,
            partition_key_ranges: 1,
            faults: false,
            certificate: None,
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
    /// The certificate is unusable.
    #[error(transparent)]
    Certificate(#[from] tls::CertificateError),
    /// A declared database or container is unusable.
    #[error("the declaration of '{name}' is not valid")]
    Declaration {
        /// The id of the database or container, as far as known.
        name: String,
        /// What is wrong with it.
        source: StoreError,
    },
    /// The address is taken or not ours.
    #[error(transparent)]
    Listen(#[from] listener::BindError),
}

/// The service ended by itself.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The listening socket is broken.
    #[error(transparent)]
    Listener(#[from] listener::ServeError),
    /// Nothing can be made durable any more.
    #[error("the data directory has failed")]
    Log(#[from] LogError),
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
    pub async fn bind(mut options: Options) -> Result<Self, BindError> {
        let read_only = options.read_only_key.as_deref();
        let access = Access::new(&options.key, read_only, options.entra_tenant.clone())?;
        let (mut store, compactor) = match &options.data {
            None => {
                let log = std::mem::replace(&mut options.log, Box::new(Volatile));
                (Store::new(options.incarnation, log), None)
            }
            Some(directory) => {
                let settings = disk::Settings { fsync: options.fsync, ..Default::default() };
                let (store, compactor) = disk::open(directory, options.incarnation, settings)?;
                (store, Some(compactor))
            }
        };
        declare(&mut store, &options.account, options.clock.now_ms())?;
        let mut listener = Listener::bind(options.listen, LIMITS).await?;
        if let Some(directory) = &options.certificate {
            listener = listener.secured(tls::development(directory)?);
        }
        let state = Arc::new(State::new(store, compactor, access, &options));
        Ok(Self { listener, state })
    }

    /// The address that was bound.
    pub fn local_addr(&self) -> SocketAddr {
        self.listener.local_addr()
    }

    /// Serves until `shutdown`, then lets requests under way finish for a while.
    ///
    /// # Errors
    /// [`ServeError`] when the listening socket or the data directory breaks.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        let tasks = TaskTracker::new();
        tasks.spawn(sweep(self.state.clone(), shutdown.clone()));
        let state = self.state;
        // The log is closed with the last of these: not while somebody still watches it.
        let _open = state.clone();
        let durability = state.durability.clone();
        let service = move |request| {
            let state = state.clone();
            async move { respond(&state, request).await }
        };
        let failed = durability.failed();
        tokio::pin!(failed);
        let served = self.listener.run(service, tasks, shutdown.clone());
        tokio::pin!(served);
        tokio::select! {
            served = &mut served => Ok(served?),
            // Whoever restarts the process gets what the disk has; going on would only pretend.
            error = &mut failed => {
                shutdown.cancel();
                served.await?;
                Err(error.into())
            }
        }
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

async fn respond(state: &State, request: Request) -> Result<Response<Full<Bytes>>, Dropped> {
    let body = request.body.map_err(|error| match error {
        BodyError::TooLarge => Refusal::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            0,
            format!("the request body is larger than {} bytes", limits::MAX_REQUEST_BYTES),
        ),
        BodyError::Incomplete => Refusal::bad("the request body ended early"),
        BodyError::Late => {
            Refusal::new(StatusCode::REQUEST_TIMEOUT, 0, "the request body did not arrive in time")
        }
    });
    super::answer(state, request.parts, body).await
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
