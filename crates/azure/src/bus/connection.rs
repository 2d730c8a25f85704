//! One AMQP connection: socket, handshake, and the tokens that open entities on it.
//!
//! Knows sockets, TLS, SASL and claims-based security; links are made by [`super::sender`],
//! [`super::receiver`] and [`super::request`]. A connection is never repaired: when it breaks,
//! [`super::client`] replaces it.

use std::{
    collections::HashMap,
    io,
    sync::{
        Arc, Mutex as StdMutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use fe2o3_amqp::{
    Connection as Amqp, Session, connection::ConnectionHandle, sasl_profile::SaslProfile,
    session::SessionHandle,
};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::{
    net::TcpStream,
    sync::{Mutex, Notify},
    time::{Instant, sleep_until, timeout},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, crypto::aws_lc_rs, pki_types::ServerName},
};
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};
use uuid::Uuid;

use super::{
    error::BusError,
    request::RequestLink,
    token::{Token, TokenSource, now},
};
use crate::connection::BusConnection;

/// Largest frame; what Service Bus itself answers with.
const MAX_FRAME_BYTES: u32 = 64 * 1024;

/// A peer that is silent for this long is gone. We announce half of it, and the broker sends empty
/// frames that often.
const IDLE_TIMEOUT_MILLIS: u32 = 60_000;

/// Sessions, and with them links, on one connection.
const CHANNEL_MAX: u16 = 4999;

/// Wait before a failed renewal of a token is tried again.
const RENEWAL_RETRY: Duration = Duration::from_secs(5);

/// Keeps the session that a link lives in, and tells when it ends.
///
/// The AMQP engine does not wake those who wait for a verdict when the session or the connection
/// is lost; whoever waits on a link has to watch this as well.
pub(crate) struct SessionGuard {
    ended: CancellationToken,
    _release: DropGuard,
}

impl SessionGuard {
    pub(crate) fn new(mut session: SessionHandle<()>, tasks: &TaskTracker) -> Self {
        let (ended, release) = (CancellationToken::new(), CancellationToken::new());
        let (tell, released) = (ended.clone(), release.clone());
        tasks.spawn(async move {
            tokio::select! {
                _ = session.on_end() => {}
                () = released.cancelled() => {}
            }
            tell.cancel();
        });
        Self { ended, _release: release.drop_guard() }
    }

    /// Cancelled when the session is over.
    pub(crate) fn ended(&self) -> &CancellationToken {
        &self.ended
    }
}

/// The outcome of `waiting`, or an error when the session ends first.
pub(crate) async fn unless_ended<T>(
    ended: &CancellationToken,
    waiting: impl Future<Output = T>,
) -> Result<T, BusError> {
    tokio::select! {
        // What has arrived counts, even if the session ended after it.
        biased;
        outcome = waiting => Ok(outcome),
        () = ended.cancelled() => Err(BusError::gone("the session has ended")),
    }
}

/// An open connection.
pub(crate) struct Connection {
    handle: Mutex<ConnectionHandle<()>>,
    /// Set when somebody found the connection broken or stuck.
    suspect: AtomicBool,
    security: Mutex<RequestLink>,
    tokens: Arc<TokenSource>,
    /// `sb://host/`, which entity names are appended to.
    audience_base: String,
    /// When each entity's token is to be renewed.
    granted: StdMutex<HashMap<String, Instant>>,
    granted_changed: Arc<Notify>,
    stop: CancellationToken,
    tasks: TaskTracker,
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Connection {
    /// Opens a connection and starts renewing its tokens on `tasks`.
    pub(crate) async fn open(
        settings: &BusConnection,
        tokens: Arc<TokenSource>,
        connect_timeout: Duration,
        tasks: &TaskTracker,
    ) -> Result<Arc<Self>, BusError> {
        let handshakes = async {
            let mut handle = connect(settings).await?;
            let session = Session::begin(&mut handle).await?;
            let security = RequestLink::attach(session, "$cbs", tasks).await?;
            Ok((handle, security))
        };
        let (handle, security) = timeout(connect_timeout, handshakes)
            .await
            .unwrap_or(Err(BusError::Timeout { after: connect_timeout }))?;
        let connection = Arc::new(Self {
            handle: Mutex::new(handle),
            suspect: AtomicBool::new(false),
            security: Mutex::new(security),
            tokens,
            audience_base: format!("sb://{}/", settings.host),
            granted: StdMutex::new(HashMap::new()),
            granted_changed: Arc::new(Notify::new()),
            stop: CancellationToken::new(),
            tasks: tasks.clone(),
        });
        tasks.spawn(renew_tokens(
            Arc::downgrade(&connection),
            Arc::clone(&connection.granted_changed),
            connection.stop.clone(),
        ));
        tracing::debug!(host = %settings.host, port = settings.port, "connected to the broker");
        Ok(connection)
    }

    /// Whether the connection can still be used, as far as is known.
    pub(crate) fn is_usable(&self) -> bool {
        // A handle that is locked is in use at this moment.
        !self.suspect.load(Relaxed) && self.handle.try_lock().map_or(true, |h| !h.is_closed())
    }

    /// Takes the connection out of use.
    pub(crate) fn condemn(&self) {
        self.suspect.store(true, Relaxed);
        self.stop.cancel();
    }

    /// A session of its own for a link: when the broker ends one, only one link is lost.
    pub(crate) async fn session(&self) -> Result<SessionHandle<()>, BusError> {
        let mut handle = self.handle.lock().await;
        Ok(Session::begin(&mut handle).await?)
    }

    /// Where the tasks of this connection's links run.
    pub(crate) fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }

    /// Presents a token for `entity`, unless one is in place.
    pub(crate) async fn authorize(&self, entity: &str) -> Result<(), BusError> {
        if self.granted().contains_key(entity) {
            return Ok(());
        }
        self.put_token(entity).await
    }

    fn granted(&self) -> MutexGuard<'_, HashMap<String, Instant>> {
        self.granted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn next_renewal(&self) -> Option<Instant> {
        self.granted().values().min().copied()
    }

    async fn renew(&self) {
        let due = Instant::now();
        let entities: Vec<String> = self
            .granted()
            .iter()
            .filter(|(_, at)| **at <= due)
            .map(|(entity, _)| entity.clone())
            .collect();
        for entity in entities {
            if let Err(error) = self.put_token(&entity).await {
                tracing::warn!(entity, %error, "a token could not be renewed");
                if error.deserves_another_link() {
                    return self.condemn();
                }
                self.granted().insert(entity, Instant::now() + RENEWAL_RETRY);
            }
        }
    }

    async fn put_token(&self, entity: &str) -> Result<(), BusError> {
        let audience = format!("{}{entity}", self.audience_base);
        let token: Token = self.tokens.token(&audience).await?;
        let delay = token.renewal_delay(now());
        self.security.lock().await.put_token(&audience, token).await?;
        self.granted().insert(entity.to_owned(), Instant::now() + delay);
        self.granted_changed.notify_one();
        Ok(())
    }
}

/// Renews the tokens of a connection until it is gone. Holds it weakly: nothing must be kept alive
/// that nobody uses.
async fn renew_tokens(connection: Weak<Connection>, changed: Arc<Notify>, stop: CancellationToken) {
    loop {
        let Some(next) = connection.upgrade().map(|c| c.next_renewal()) else { return };
        let due = async {
            match next {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stop.cancelled() => return,
            () = changed.notified() => {}
            () = due => match connection.upgrade() {
                Some(connection) => connection.renew().await,
                None => return,
            },
        }
    }
}

/// A link name that nobody else uses.
pub(crate) fn link_name(purpose: &str) -> String {
    format!("{purpose}-{}", Uuid::new_v4())
}

async fn connect(settings: &BusConnection) -> Result<ConnectionHandle<()>, BusError> {
    // Brackets belong to URLs, not to addresses.
    let host = settings.host.trim_matches(['[', ']']);
    let socket = TcpStream::connect((host, settings.port)).await.map_err(BusError::disconnected)?;
    // Frames are small and wait for answers: Nagle's algorithm would cost a factor of ten.
    socket.set_nodelay(true).map_err(BusError::disconnected)?;
    let container_id = Uuid::new_v4().to_string();
    let builder = Amqp::builder()
        .container_id(container_id)
        .hostname(settings.host.as_str())
        .sasl_profile(SaslProfile::Anonymous)
        .max_frame_size(MAX_FRAME_BYTES)
        .channel_max(CHANNEL_MAX)
        .idle_time_out(IDLE_TIMEOUT_MILLIS)
        // TLS, if any, is already there: what follows is plain AMQP.
        .scheme("amqp");
    if !settings.tls {
        return Ok(builder.open_with_stream(socket).await?);
    }
    let name = ServerName::try_from(host.to_owned()).map_err(BusError::disconnected)?;
    let stream = tls_connector()?.connect(name, socket).await.map_err(BusError::disconnected)?;
    Ok(builder.open_with_stream(stream).await?)
}

fn tls_connector() -> Result<TlsConnector, BusError> {
    // The provider is named, because a process may contain several and then has no default.
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_platform_verifier())
        .map_err(|error| BusError::disconnected(io::Error::other(error)))?
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}
