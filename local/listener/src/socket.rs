//! The listening socket: accepting until told to stop, then waiting for what is under way.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Response;
use http_body::Body;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::connection::{self, Request};

/// Pause after the system refused a connection, most likely for want of file descriptors.
const ACCEPT_RETRY: Duration = Duration::from_millis(50);

/// What connections may cost.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Open connections; further ones wait in the listen backlog.
    pub connections: usize,
    /// Concurrent HTTP/2 streams on one connection; `None` for HTTP/1.1 alone.
    pub http2_streams: Option<u32>,
    /// Time to receive a request head, and time without any request, after which a connection is
    /// closed.
    pub connection_idle: Duration,
    /// Largest request body, in bytes.
    pub body_bytes: usize,
    /// Time to receive a request body after its head.
    pub body_read: Duration,
    /// Time that a stop waits for requests and tasks under way.
    pub shutdown_grace: Duration,
}

/// The address is taken or not ours.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// The address.
    pub address: SocketAddr,
    /// The reason.
    pub source: std::io::Error,
}

/// The service ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The listening socket is broken.
    #[error("the listening socket failed")]
    Accept(#[source] std::io::Error),
}

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    limits: Limits,
    security: Security,
}

/// What connections begin with.
#[derive(Clone, Default)]
enum Security {
    /// The first request.
    #[default]
    None,
    /// A TLS handshake.
    #[cfg(feature = "tls")]
    Tls(tokio_rustls::TlsAcceptor),
}

impl std::fmt::Debug for Security {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::None => "None",
            #[cfg(feature = "tls")]
            Self::Tls(_) => "Tls",
        })
    }
}

impl Listener {
    /// Starts listening; port 0 takes any free one. Nothing is answered before [`Listener::run`].
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(address: SocketAddr, limits: Limits) -> Result<Self, BindError> {
        let failed = |source| BindError { address, source };
        let socket = TcpListener::bind(address).await.map_err(failed)?;
        let address = socket.local_addr().map_err(failed)?;
        Ok(Self { socket, address, limits, security: Security::None })
    }

    /// Lets every connection begin with a TLS handshake, within [`Limits::connection_idle`].
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn secured(mut self, config: Arc<tokio_rustls::rustls::ServerConfig>) -> Self {
        self.security = Security::Tls(config.into());
        self
    }

    /// The address that was bound.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Hands every request to `service` until `shutdown`, then waits for a while until requests and
    /// all other `tasks` have ended. The service is dropped before that wait. An error of the
    /// service closes the connection without an answer.
    ///
    /// `shutdown` is cancelled however this ends, so that tasks that wait for it end as well.
    ///
    /// # Errors
    /// [`ServeError`] when the socket breaks.
    pub async fn run<S, F, B, E>(
        self,
        service: S,
        tasks: TaskTracker,
        shutdown: CancellationToken,
    ) -> Result<(), ServeError>
    where
        S: Fn(Request) -> F + Send + Sync + 'static,
        F: Future<Output = Result<Response<B>, E>> + Send + 'static,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn Error + Send + Sync>>,
        E: Into<Box<dyn Error + Send + Sync>> + 'static,
    {
        let _stopped_with_us = shutdown.clone().drop_guard();
        let slots = Arc::new(Semaphore::new(self.limits.connections));
        let service = Arc::new(service);
        let served = loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break Ok(()),
                accepted = accept(&self.socket, &slots) => accepted,
            };
            match accepted {
                Ok((stream, peer, slot)) => {
                    let (service, shutdown) = (service.clone(), shutdown.clone());
                    let (limits, security) = (self.limits, self.security.clone());
                    tasks.spawn(async move {
                        begin(security, stream, peer, limits, service, shutdown).await;
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
        drop(service);
        tasks.close();
        if timeout(self.limits.shutdown_grace, tasks.wait()).await.is_err() {
            tracing::warn!(open = tasks.len(), "requests left under way at shutdown");
        }
        served
    }
}

async fn begin<S, F, B, E>(
    security: Security,
    stream: TcpStream,
    peer: SocketAddr,
    limits: Limits,
    service: Arc<S>,
    shutdown: CancellationToken,
) where
    S: Fn(Request) -> F + Send + Sync + 'static,
    F: Future<Output = Result<Response<B>, E>> + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
    E: Into<Box<dyn Error + Send + Sync>> + 'static,
{
    match security {
        Security::None => connection::serve(stream, peer, limits, service, shutdown).await,
        #[cfg(feature = "tls")]
        Security::Tls(acceptor) => {
            let shaken = tokio::select! {
                () = shutdown.cancelled() => return,
                shaken = timeout(limits.connection_idle, acceptor.accept(stream)) => shaken,
            };
            match shaken {
                Ok(Ok(stream)) => {
                    connection::serve(stream, peer, limits, service, shutdown).await;
                }
                Ok(Err(error)) => tracing::debug!(error = %error, "no TLS handshake"),
                Err(_) => tracing::debug!("the TLS handshake took too long"),
            }
        }
    }
}

async fn accept(
    socket: &TcpListener,
    slots: &Arc<Semaphore>,
) -> std::io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    // The semaphore is never closed.
    let slot = slots.clone().acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, peer) = socket.accept().await?;
    // Answers are small and whole; waiting to fill a segment only delays them.
    stream.set_nodelay(true)?;
    Ok((stream, peer, slot))
}

fn is_fatal(error: &std::io::Error) -> bool {
    matches!(error.kind(), std::io::ErrorKind::InvalidInput | std::io::ErrorKind::NotConnected)
}
