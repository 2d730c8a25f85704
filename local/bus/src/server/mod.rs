//! The wire: a listener, one task per connection, one task for the broker's timers.
//!
//! [`door`] finds out what a connection speaks. A connection task reads what has arrived, lets its [`engine`] decode and act on all of it, and
//! writes everything that came of it at once. The engine performs no I/O and reads no clock; this
//! module and [`connection`] are the shell around it.

mod access;
mod admin;
mod certificate;
mod clock;
mod connection;
mod descriptors;
mod door;
mod engine;
mod http;
mod hub;
mod operations;
mod websocket;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use journal::Log;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use access::Keys;
use certificate::Certificate;
pub use certificate::CertificateError;
use hub::{Hub, Limits};

use crate::broker::{Broker, NoJournal, Status};
use crate::limits::{
    CONNECTIONS_MAX, EPHEMERAL_MEMORY_BYTES_MAX, FRAME_BYTES_MAX, FRAME_BYTES_MIN,
    LINKS_PER_SESSION_MAX, MESSAGE_BYTES_LIMIT, MESSAGE_BYTES_MAX, MESSAGE_MEMORY_BYTES_MAX,
    UNSETTLED_PER_SESSION_MAX,
};
use crate::storage::{self, RecoverError, Recovered};
use crate::topology::{Namespace, NamespaceError};

/// Pause after a failed accept (usually: no file descriptor left), so that it does not spin.
const ACCEPT_RETRY_MS: u64 = 50;

/// How long connections may take to say goodbye at shutdown.
const SHUTDOWN_MS_MAX: u64 = 5_000;

/// What to serve, where, and to whom.
#[derive(Clone)]
pub struct Options {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// Further addresses. Every one of them speaks everything: AMQP, AMQP within TLS if there is a
    /// certificate, AMQP over WebSockets and the administration API.
    pub also_listen: Vec<SocketAddr>,
    /// The folder of the development certificate, which is made there if there is none; without a
    /// folder there is no TLS.
    pub certificate: Option<PathBuf>,
    /// The declared entities.
    pub namespace: Namespace,
    /// Name of the root key, with all rights on all entities; the namespace may have others.
    pub shared_access_key_name: String,
    /// The key itself; its bytes are used as they are, not base64-decoded.
    pub shared_access_key: String,
    /// Largest message accepted, in bytes; [`MESSAGE_BYTES_LIMIT`] at most.
    pub max_message_bytes: u64,
    /// Connections served at once; further ones are closed at once.
    pub max_connections: usize,
    /// The directory of the journal; `None` keeps everything in memory only.
    pub data: Option<PathBuf>,
    /// Bytes of messages kept in memory; what comes beyond is left in the journal until somebody
    /// receives it. Without a journal everything is in memory.
    ///
    /// By default 64 MiB with a journal and 2 GiB without; then what comes beyond is refused.
    pub max_memory_bytes: Option<u64>,
    /// Largest frame accepted and announced, in bytes; at least 512.
    pub max_frame_bytes: u32,
    /// Links of one session.
    pub max_links: usize,
    /// Deliveries that the clients of one session have not settled; beyond it nothing more is
    /// delivered to them.
    pub max_unsettled: usize,
    /// Where the endpoint for operators listens; `None` for nowhere.
    pub operations: Option<SocketAddr>,
    /// Whether that endpoint may make things go wrong on purpose.
    pub faults: bool,
    /// Whether an answer waits for the disk (`fdatasync`) or only for the system: the first
    /// survives a crash of the machine, the second a crash of the process.
    pub fsync: bool,
}

impl Default for Options {
    /// A free port of 127.0.0.1, no entities, and the key every emulator connection string names.
    fn default() -> Options {
        Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            also_listen: Vec::new(),
            certificate: None,
            namespace: Namespace::default(),
            shared_access_key_name: "RootManageSharedAccessKey".into(),
            shared_access_key: "SAS_KEY_VALUE".into(),
            max_message_bytes: MESSAGE_BYTES_MAX,
            max_connections: CONNECTIONS_MAX,
            data: None,
            max_memory_bytes: None,
            max_frame_bytes: FRAME_BYTES_MAX,
            max_links: LINKS_PER_SESSION_MAX,
            max_unsettled: UNSETTLED_PER_SESSION_MAX,
            operations: None,
            faults: false,
            fsync: true,
        }
    }
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Another process listens there.
    #[error("{0} is taken by another process")]
    AddressInUse(SocketAddr),
    /// The system refused for another reason.
    #[error("cannot listen on {address}")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// Messages so large that no record of the journal holds one.
    #[error("messages of {0} bytes: {MESSAGE_BYTES_LIMIT} is the most")]
    MessageBytes(u64),
    /// There is no TLS as was asked for.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// The declared entities are not usable.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The journal cannot be used; [`repair`](crate::repair) may help.
    #[error("the journal in {directory} cannot be used")]
    Journal {
        /// Where it is.
        directory: PathBuf,
        /// Why.
        source: journal::OpenError,
    },
    /// The state could not be read back because something in here panicked.
    #[error("the journal could not be read")]
    Interrupted(#[source] tokio::task::JoinError),
}

/// Why a running server stopped. Errors of connections end connections, never the server.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listening socket is gone.
    #[error("the listener failed")]
    Listener(#[source] io::Error),
    /// The disk does not take what clients were to be told.
    #[error(transparent)]
    Journal(#[from] journal::Failed),
}

/// A server that listens; connections wait until [`run`](Server::run).
pub struct Server {
    listeners: Listeners,
    local_addrs: Vec<SocketAddr>,
    certificate: Option<Certificate>,
    hub: Arc<Hub>,
    max_connections: usize,
    recovered: Recovered,
    operations: Option<TcpListener>,
}

/// All sockets on which connections come.
struct Listeners(Vec<TcpListener>);

impl Listeners {
    /// The next connection, wherever it comes.
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        std::future::poll_fn(|cx| {
            for listener in &self.0 {
                if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                    return Poll::Ready(accepted);
                }
            }
            Poll::Pending
        })
        .await
    }
}

/// A cheap way to ask a running server how it is.
#[derive(Clone)]
pub struct Handle {
    hub: Arc<Hub>,
}

impl Handle {
    /// Counts of every entity at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        self.hub.status()
    }
}

impl Server {
    /// Checks the namespace and listens.
    ///
    /// # Errors
    /// [`BindError`] says whether the port is taken, the namespace wrong or a limit too large.
    pub async fn bind(options: Options) -> Result<Server, BindError> {
        if options.max_message_bytes > MESSAGE_BYTES_LIMIT {
            return Err(BindError::MessageBytes(options.max_message_bytes));
        }
        let (mut broker, log, recovered) = recover(&options).await?;
        broker.date_declared(clock::now());
        let certificate = options.certificate.as_deref().map(Certificate::of).transpose()?;
        let mut listeners = Listeners(Vec::new());
        let mut local_addrs = Vec::new();
        for address in std::iter::once(options.listen).chain(options.also_listen) {
            let listener = listen(address).await?;
            let local = listener.local_addr();
            local_addrs.push(local.map_err(|source| BindError::Listen { address, source })?);
            listeners.0.push(listener);
        }
        let keys = Keys::new(
            options.shared_access_key_name,
            options.shared_access_key,
            &options.namespace.authorization_rules,
        );
        let limits = Limits {
            frame_bytes: options.max_frame_bytes.max(FRAME_BYTES_MIN),
            links_per_session: options.max_links.max(1),
            unsettled_per_session: options.max_unsettled.max(1),
        };
        let hub = Hub::new(broker, log, keys, options.max_message_bytes);
        let hub = Arc::new(hub.limited(limits, options.faults));
        let operations = match options.operations {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let max_connections = options.max_connections;
        descriptors::allow(max_connections);
        Ok(Server {
            listeners,
            local_addrs,
            certificate,
            hub,
            max_connections,
            recovered,
            operations,
        })
    }

    /// Where the endpoint for operators listens, if it does.
    #[must_use]
    pub fn operations_addr(&self) -> Option<SocketAddr> {
        self.operations.as_ref()?.local_addr().ok()
    }

    /// What was found in the journal.
    #[must_use]
    pub fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// Where it listens, with the port it got.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addrs[0]
    }

    /// Every address it listens on: the first one, then the further ones in their order.
    #[must_use]
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.local_addrs
    }

    /// The file with the certificate that clients are told to trust, if there is TLS.
    #[must_use]
    pub fn certificate_authority(&self) -> Option<&Path> {
        self.certificate.as_ref().map(|certificate| &*certificate.authority)
    }

    /// Counts of every entity at this moment.
    #[must_use]
    pub fn status(&self) -> Status {
        self.hub.status()
    }

    /// A handle that outlives [`run`](Server::run) taking the server.
    #[must_use]
    pub fn handle(&self) -> Handle {
        Handle { hub: Arc::clone(&self.hub) }
    }

    /// Serves until `shutdown` is cancelled, then closes every connection with
    /// `amqp:connection:forced` and waits for them, a few seconds at most.
    ///
    /// # Errors
    /// [`ServeError`] when the listening socket fails for good, or the journal cannot be written:
    /// connections are closed with `amqp:internal-error` then.
    pub async fn run(self, shutdown: CancellationToken) -> Result<(), ServeError> {
        // Also when this future is dropped, nothing it started lives on.
        let shutdown = shutdown.child_token();
        let _stop_on_drop = shutdown.clone().drop_guard();
        let tasks = TaskTracker::new();
        let places = Arc::new(Semaphore::new(self.max_connections));
        tasks.spawn(Arc::clone(&self.hub).run_timers(shutdown.clone()));
        tasks.spawn(Arc::clone(&self.hub).run_compaction(shutdown.clone()));
        if let Some(listener) = self.operations {
            let served = operations::serve(listener, Arc::clone(&self.hub), shutdown.clone());
            tasks.spawn(async move {
                if let Err(error) = served.await {
                    tracing::error!(%error, "the endpoint for operators failed");
                }
            });
        }
        let mut durable = self.hub.durable();
        let failed = async move {
            let failed = durable.wait_for(|durable| durable.failed.is_some()).await;
            match failed.ok().and_then(|durable| durable.failed.clone()) {
                Some(failed) => failed,
                // There is no disk that could fail.
                None => std::future::pending().await,
            }
        };
        let mut failed = pin!(failed);
        let mut last_id = 0_u64;
        let ended = loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break Ok(()),
                failed = &mut failed => break Err(failed.into()),
                accepted = self.listeners.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(ACCEPT_RETRY_MS)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                tracing::warn!(%peer, max = self.max_connections, "connection limit reached");
                continue;
            };
            last_id += 1;
            let (hub, shutdown) = (Arc::clone(&self.hub), shutdown.clone());
            let tls = self.certificate.as_ref().map(|certificate| certificate.acceptor.clone());
            let id = crate::broker::ConnectionId(last_id);
            tasks.spawn(async move {
                door::serve(stream, tls, hub, id, shutdown).await;
                drop(place);
            });
        };
        // Clients are told before it ends, also when there is no disk any more.
        shutdown.cancel();
        drop(self.listeners);
        tasks.close();
        let wait = tokio::time::timeout(Duration::from_millis(SHUTDOWN_MS_MAX), tasks.wait());
        if wait.await.is_err() {
            tracing::warn!(connections = tasks.len(), "connections did not close in time");
        }
        if ended.is_ok() {
            let hub = Arc::clone(&self.hub);
            // So that the next start is a short one. It reports its own errors.
            let _ = tokio::task::spawn_blocking(move || hub.compact()).await;
        }
        ended
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| match source.kind() {
        io::ErrorKind::AddrInUse => BindError::AddressInUse(address),
        _ => BindError::Listen { address, source },
    })
}

/// The broker as its journal left it.
async fn recover(options: &Options) -> Result<(Broker, Option<Arc<Log>>, Recovered), BindError> {
    let seed = uuid::Uuid::new_v4().as_u64_pair().0;
    let Some(directory) = options.data.clone() else {
        let mut broker = Broker::new(&options.namespace, Box::new(NoJournal), seed)?;
        broker.limit_memory(options.max_memory_bytes.unwrap_or(EPHEMERAL_MEMORY_BYTES_MAX));
        return Ok((broker, None, Recovered::default()));
    };
    let namespace = options.namespace.clone();
    let how = journal::Options { fsync: options.fsync, ..journal::Options::default() };
    let path = directory.clone();
    let memory = options.max_memory_bytes.unwrap_or(MESSAGE_MEMORY_BYTES_MAX);
    let read = move || storage::recover(&namespace, &path, how, memory, seed);
    let recovered = tokio::task::spawn_blocking(read).await.map_err(BindError::Interrupted)?;
    let (broker, log, recovered) = recovered.map_err(|error| match error {
        RecoverError::Namespace(error) => BindError::Namespace(error),
        RecoverError::Journal(source) => BindError::Journal { directory, source },
    })?;
    if recovered.torn_bytes > 0 {
        let bytes = recovered.torn_bytes;
        tracing::warn!(bytes, "a change that was being written at the last end was dropped");
    }
    for (path, messages) in &recovered.undeclared {
        tracing::warn!(%path, messages, "the entity is not declared any more; its messages are gone");
    }
    Ok((broker, Some(log), recovered))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn messages_that_no_record_holds_are_not_promised() {
        for (bytes, fits) in [(MESSAGE_BYTES_LIMIT, true), (MESSAGE_BYTES_LIMIT + 1, false)] {
            let options = Options { max_message_bytes: bytes, ..Options::default() };
            assert_eq!(Server::bind(options).await.is_ok(), fits, "{bytes}");
        }
    }
}
