//! The listener: an accept loop with limits, and an orderly end.
//!
//! `axum::serve` has no limit on time or connections, so a client that never finishes its request
//! stays for ever. This loop gives every connection deadlines ([`guard`]) and counts them.
//! What a request means is not known here; see [`dispatch`].

mod body;
mod connection;
mod dispatch;
mod guard;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::app::App;
use crate::config::{Config, Limits};
use connection::Connection;
use dispatch::Dispatch;

/// Pause after a connection could not be accepted for lack of something, descriptors mostly, that
/// only other connections can give back.
const ACCEPT_RETRY_PAUSE: Duration = Duration::from_millis(250);

/// Failures to accept in a row, with the pause above, after which the listener counts as broken:
/// half a minute.
const ACCEPT_FAILURES_MAX: u32 = 120;

/// How long the abandoned connections may take to notice at the end of the grace period.
const ABANDON_LIMIT: Duration = Duration::from_secs(1);

/// The port could not be bound.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
#[non_exhaustive]
pub struct BindError {
    /// Where.
    pub address: SocketAddr,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// Why serving ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The app has neither a function nor a route, so the host would find nothing in it.
    #[error("the app has no function and no HTTP route")]
    EmptyApp,
    /// The listener does not accept connections any more.
    #[error("the listener broke")]
    Listener(#[source] io::Error),
}

/// A bound port. Connections wait in its backlog until [`serve`](Self::serve) is called, so a
/// process binds first and prepares the rest in peace.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    grace: Duration,
    limits: Limits,
}

impl Server {
    /// Binds 127.0.0.1, the only address that the host connects to.
    ///
    /// # Errors
    /// The port is taken, or may not be used.
    pub async fn bind(config: &Config) -> Result<Self, BindError> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, config.port));
        let bound = async {
            let listener = TcpListener::bind(address).await?;
            let address = listener.local_addr()?;
            Ok((listener, address))
        };
        let (listener, address) = bound.await.map_err(|source| BindError { address, source })?;
        Ok(Self { listener, address, grace: config.grace, limits: config.limits })
    }

    /// Where the server listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Serves the app until `shutdown` is cancelled. Then no connection is accepted any more, idle
    /// ones are closed, and requests in flight may finish within the grace period; what is left
    /// after it is cut off.
    ///
    /// Dropping the future cuts everything off at once.
    ///
    /// # Errors
    /// There is nothing to serve, or the listener broke. `Ok` only after `shutdown`.
    pub async fn serve(self, app: App, shutdown: CancellationToken) -> Result<(), ServeError> {
        let Self { listener, address, grace, limits } = self;
        if app.functions.is_empty() && app.router.is_none() {
            return Err(ServeError::EmptyApp);
        }
        let functions: Vec<_> = app.functions.keys().collect();
        info!(%address, ?functions, http = app.router.is_some(), "serving");

        let abandon = CancellationToken::new();
        let _abandon_on_drop = abandon.clone().drop_guard();
        let (crowded, crowd) = watch::channel(false);
        let connection = Connection {
            dispatch: Arc::new(Dispatch::new(app, limits, shutdown.clone())),
            limits,
            drain: shutdown.clone(),
            abandon: abandon.clone(),
            crowd,
        };
        let connections = TaskTracker::new();
        let mut gate =
            Gate { listener, slots: Arc::new(Semaphore::new(limits.connections_max)), crowded };
        while let Some(accepted) = shutdown.run_until_cancelled(gate.next()).await {
            let (stream, slot) = accepted.map_err(ServeError::Listener)?;
            connections.spawn(connection.clone().serve(stream, slot));
        }

        drop(gate);
        connections.close();
        info!(in_flight = connections.len(), "stopping");
        if tokio::time::timeout(grace, connections.wait()).await.is_err() {
            warn!(abandoned = connections.len(), "the grace period is over");
            abandon.cancel();
            // Dropping a future takes no time unless it holds a thread; that one is left behind.
            let _ = tokio::time::timeout(ABANDON_LIMIT, connections.wait()).await;
        }
        Ok(())
    }
}

/// Lets in as many connections as there are slots.
struct Gate {
    listener: TcpListener,
    slots: Arc<Semaphore>,
    /// Whether somebody waits for a slot.
    crowded: watch::Sender<bool>,
}

impl Gate {
    /// The next connection.
    ///
    /// # Errors
    /// The listener has failed for half a minute.
    async fn next(&mut self) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
        let mut failures = 0;
        let stream = loop {
            match self.listener.accept().await {
                Ok((stream, _)) => break stream,
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    failures += 1;
                    if failures == ACCEPT_FAILURES_MAX {
                        return Err(error);
                    }
                    if failures == 1 {
                        warn!(%error, "cannot accept a connection");
                    }
                    tokio::time::sleep(ACCEPT_RETRY_PAUSE).await;
                }
            }
        };
        // A failure to set it costs latency, nothing else.
        let _ = stream.set_nodelay(true);
        if let Ok(slot) = Arc::clone(&self.slots).try_acquire_owned() {
            return Ok((stream, slot));
        }
        self.crowded.send_replace(true);
        let slot = Arc::clone(&self.slots).acquire_owned().await;
        self.crowded.send_replace(false);
        slot.map(|slot| (stream, slot)).map_err(io::Error::other)
    }
}

/// Whether the error is about the connection that was to be accepted and not about accepting.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}
