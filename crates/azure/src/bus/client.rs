//! The client: one connection for everybody, made when first needed and again when it breaks.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex, OnceCell},
    time::{Instant, timeout},
};
use tokio_util::task::TaskTracker;

use super::{
    connection::Connection,
    error::BusError,
    management::{Management, ManagementLink},
    receiver::{Receiver, ReceiverOptions},
    sender::{Sender, SenderLink},
    slot::Slot,
    token::TokenSource,
};
use crate::{
    connection::BusConnection,
    retry::{Backoff, RetryPolicy},
};

/// Limits of one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BusOptions {
    /// Longest an operation may take, with everything: connecting, attaching, retries. Receiving
    /// waits for a message in addition to it.
    pub deadline: Duration,
    /// Longest the TCP, TLS and AMQP handshakes may take together.
    pub connect_timeout: Duration,
    /// When an operation is tried again on a new link or connection. A message that was sent
    /// twice because of it carries the same message id.
    pub retry: RetryPolicy,
    /// How soon a connect that failed is tried again. Until then every operation fails at once, so
    /// that a broker that is down costs its callers nothing. Attempts and budget are not limited
    /// by it.
    pub reconnect: RetryPolicy,
}

impl Default for BusOptions {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(5),
            connect_timeout: Duration::from_secs(2),
            retry: RetryPolicy {
                attempts_max: 3,
                delay_base: Duration::from_millis(50),
                delay_max: Duration::from_millis(500),
                budget: Duration::from_secs(2),
            },
            reconnect: RetryPolicy {
                attempts_max: u32::MAX,
                delay_base: Duration::from_millis(100),
                // A broker that comes back is noticed within this time.
                delay_max: Duration::from_secs(2),
                budget: Duration::MAX,
            },
        }
    }
}

/// A Service Bus namespace. Cheap to clone; all clones share one connection.
#[derive(Clone)]
pub struct BusClient(Arc<Inner>);

struct Inner {
    settings: BusConnection,
    options: BusOptions,
    tokens: OnceCell<Arc<TokenSource>>,
    state: Mutex<State>,
    /// One link per entity, whoever asks for it.
    senders: StdMutex<HashMap<String, Arc<Slot<SenderLink>>>>,
    management: StdMutex<HashMap<String, Arc<Slot<ManagementLink>>>>,
    tasks: TaskTracker,
}

struct State {
    current: Option<Arc<Connection>>,
    /// When a failed connect may be repeated, and what to say until then.
    failed: Option<(Instant, BusError)>,
    backoff: Backoff,
}

impl fmt::Debug for BusClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BusClient")
            .field("host", &self.0.settings.host)
            .field("port", &self.0.settings.port)
            .finish_non_exhaustive()
    }
}

impl BusClient {
    /// A client that connects when it is first used.
    pub fn new(connection: BusConnection, options: BusOptions) -> Self {
        let backoff = Backoff::new(options.reconnect);
        Self(Arc::new(Inner {
            settings: connection,
            options,
            tokens: OnceCell::new(),
            state: Mutex::new(State { current: None, failed: None, backoff }),
            senders: StdMutex::default(),
            management: StdMutex::default(),
            tasks: TaskTracker::new(),
        }))
    }

    /// A sender to a queue or topic. All senders to one entity share one link.
    pub fn sender(&self, entity: &str) -> Sender {
        Sender::new(self.clone(), entity, pooled(&self.0.senders, entity))
    }

    /// A receiver from a queue, or from a subscription to a topic. Every receiver has a link of
    /// its own.
    pub fn receiver(
        &self,
        entity: &str,
        subscription: Option<&str>,
        options: ReceiverOptions,
    ) -> Receiver {
        Receiver::new(self.clone(), entity, subscription, options)
    }

    /// The management node of an entity, e.g. `orders` or `orders/Subscriptions/billing-sub`. All
    /// handles to one entity share one pair of links.
    pub fn management(&self, entity: &str) -> Management {
        Management::new(self.clone(), entity, pooled(&self.0.management, entity))
    }

    /// Connects, if there is no connection: for readiness probes.
    ///
    /// # Errors
    ///
    /// [`BusError::Disconnected`], [`BusError::Timeout`], [`BusError::Unauthorized`] or
    /// [`BusError::Credential`].
    pub async fn ping(&self) -> Result<(), BusError> {
        self.run(|| async { self.connection().await.map(drop) }).await
    }

    pub(crate) fn options(&self) -> &BusOptions {
        &self.0.options
    }

    /// Runs `attempt` under the client's deadline and retry policy: again after an error that a
    /// new link or connection may cure.
    pub(crate) async fn run<T, A>(&self, attempt: impl Fn() -> A) -> Result<T, BusError>
    where
        A: Future<Output = Result<T, BusError>>,
    {
        let options = &self.0.options;
        let whole = async {
            let mut backoff = Backoff::new(options.retry);
            loop {
                let error = match attempt().await {
                    Ok(value) => return Ok(value),
                    Err(error) => error,
                };
                let delay = error.deserves_another_link().then(|| backoff.next_delay(None));
                let Some(delay) = delay.flatten() else { return Err(error) };
                tracing::debug!(%error, delay_ms = delay.as_millis() as u64, "trying again");
                tokio::time::sleep(delay).await;
            }
        };
        self.within_deadline(Box::pin(whole)).await
    }

    /// The outcome of `operation`, or [`BusError::Timeout`].
    pub(crate) async fn within_deadline<T>(
        &self,
        operation: impl Future<Output = Result<T, BusError>>,
    ) -> Result<T, BusError> {
        let deadline = self.0.options.deadline;
        match timeout(deadline, operation).await {
            Ok(result) => result,
            Err(_) => {
                // Half-open connections look alive: the next operation gets a fresh one.
                self.condemn();
                Err(BusError::Timeout { after: deadline })
            }
        }
    }

    /// The connection, made if there is none.
    pub(crate) async fn connection(&self) -> Result<Arc<Connection>, BusError> {
        let mut state = self.0.state.lock().await;
        if let Some(current) = state.current.as_ref().filter(|c| c.is_usable()) {
            return Ok(Arc::clone(current));
        }
        state.current = None;
        if let Some((until, error)) = &state.failed
            && Instant::now() < *until
        {
            return Err(error.clone());
        }
        match self.open().await {
            Ok(connection) => {
                state.backoff.reset();
                state.failed = None;
                state.current = Some(Arc::clone(&connection));
                Ok(connection)
            }
            Err(error) => {
                let delay = state.backoff.next_delay(error.retry_after());
                let delay = delay.unwrap_or(self.0.options.reconnect.delay_max);
                state.failed = Some((Instant::now() + delay, error.clone()));
                Err(error)
            }
        }
    }

    async fn open(&self) -> Result<Arc<Connection>, BusError> {
        let Inner { settings, options, tokens, tasks, .. } = &*self.0;
        let tokens = tokens
            .get_or_try_init(|| async { TokenSource::new(&settings.credential).map(Arc::new) })
            .await?;
        Connection::open(settings, Arc::clone(tokens), options.connect_timeout, tasks).await
    }

    fn condemn(&self) {
        // Whoever holds the lock is connecting anew already.
        if let Ok(state) = self.0.state.try_lock()
            && let Some(current) = &state.current
        {
            current.condemn();
        }
    }
}

fn pooled<T: Default>(pool: &StdMutex<HashMap<String, Arc<T>>>, entity: &str) -> Arc<T> {
    let mut pool = pool.lock().unwrap_or_else(PoisonError::into_inner);
    Arc::clone(pool.entry(entity.to_owned()).or_default())
}
