//! One client per process: connects at the first use, keeps trying until it can, bounds every
//! operation in time and in number.
//!
//! Knows deadlines, retries and the connection; what an operation does is [`super::container`]'s
//! business.

use std::{
    fmt,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::Duration,
};

use azure_data_cosmos_driver::{
    CosmosDriver, CosmosDriverRuntime, CosmosError, CosmosStatus, DriverOptions,
    models::{AccountReference, CosmosOperation, DatabaseReference},
    options::{
        AvailabilityStrategy, BinaryEncodingOptions, ConnectionPoolOptions, OperationOptions,
        OperationOptionsBuilder, PatchStrategy, ServerCertificateValidation,
        ThrottlingRetryOptionsBuilder,
    },
};
use futures::{
    FutureExt,
    future::{BoxFuture, Shared},
};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::task::TaskTracker;

use super::{
    container::Container,
    error::StoreError,
    stats::{Counters, StoreStats},
};
use crate::{
    connection::{CosmosConnection, Credential},
    credential::token_credential,
    retry::{Backoff, RetryPolicy},
};

/// The driver accepts a connect timeout of at most this.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(6);

/// The driver accepts no timeout below this.
const DRIVER_TIMEOUT_MIN: Duration = Duration::from_millis(100);

/// The deadline is ours to keep; the driver's own timeouts only end what we have given up on.
const DRIVER_TIMEOUT_SLACK: Duration = Duration::from_secs(1);

/// The driver accepts no metadata timeout above this.
const METADATA_TIMEOUT_MAX: Duration = Duration::from_secs(65);

/// Sockets kept open while idle. Above it a burst pays for its own connections, below it the next
/// burst finds them ready.
const IDLE_CONNECTIONS_MAX: usize = 128;

/// Limits of one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreOptions {
    /// Longest an operation may take, with everything: waiting for a slot, connecting, retries.
    pub deadline: Duration,
    /// Longest a single TCP or TLS connect may take (100 ms to 6 s). Shorter than the deadline, so
    /// that there is time left for a second try.
    pub connect_timeout: Duration,
    /// When to try again. Reads are repeated after any transient error; writes only when it is
    /// certain that the first try was not carried out.
    pub retry: RetryPolicy,
    /// Operations at work at a time. Further ones wait, within their deadline.
    pub in_flight_max: usize,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            // The service itself gives up after 5 s; an HTTP client is told 503 sooner than that.
            deadline: Duration::from_secs(3),
            connect_timeout: Duration::from_secs(1),
            retry: RetryPolicy {
                attempts_max: 4,
                delay_base: Duration::from_millis(20),
                delay_max: Duration::from_millis(250),
                budget: Duration::from_millis(1500),
            },
            // Twice the idle sockets: a store that is slower than its callers is not helped by
            // more requests in parallel.
            in_flight_max: 256,
        }
    }
}

/// A database in a Cosmos DB account. Cheap to clone; all clones share one connection pool.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    connection: CosmosConnection,
    database: String,
    options: StoreOptions,
    /// Set once, by the first connect that succeeds; the driver then looks after itself. A connect
    /// that fails leaves no trace, so that the next operation tries again.
    driver: OnceLock<Arc<CosmosDriver>>,
    /// The connect that is under way, shared by everybody who waits for it. It runs on its own, so
    /// that a caller whose deadline passes does not throw away what has been achieved.
    connecting: Mutex<Option<Connecting>>,
    tasks: TaskTracker,
    slots: Semaphore,
    counters: Counters,
}

type Connecting = Shared<BoxFuture<'static, Result<Arc<CosmosDriver>, CosmosError>>>;

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store")
            .field("endpoint", &self.0.connection.endpoint.as_str())
            .field("database", &self.0.database)
            .field("connected", &self.0.driver.get().is_some())
            .finish_non_exhaustive()
    }
}

/// What it means to carry an operation out twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Nothing: it only reads.
    Harmless,
    /// Something: repeat only what was certainly not carried out.
    OnlyIfNotApplied,
}

impl Store {
    /// A store that connects when it is first used.
    pub fn new(connection: CosmosConnection, database: &str, options: StoreOptions) -> Self {
        Self(Arc::new(Inner {
            connection,
            database: database.to_owned(),
            options,
            driver: OnceLock::new(),
            connecting: Mutex::new(None),
            tasks: TaskTracker::new(),
            slots: Semaphore::new(options.in_flight_max.min(Semaphore::MAX_PERMITS)),
            counters: Counters::default(),
        }))
    }

    /// The container `name`. Nothing is sent before its first use.
    pub fn container(&self, name: &str) -> Container {
        Container::new(self.clone(), name)
    }

    /// Asks the service for the database: succeeds when it is reachable, lets us in, and has it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`], [`StoreError::Timeout`], [`StoreError::Unauthorized`] or
    /// [`StoreError::NotFound`].
    pub async fn ping(&self) -> Result<(), StoreError> {
        let resource = &self.0.database;
        let result = self
            .run(Repeat::Harmless, || async {
                let driver = self.driver().await?;
                let account = driver.account().clone();
                let database = DatabaseReference::from_name(account, resource.clone());
                let operation = CosmosOperation::read_database(database);
                let response = driver
                    .execute_singleton_operation(operation, operation_options().build())
                    .await
                    .map_err(|error| self.interpret(error, resource))?;
                self.account_for(response.diagnostics_ref());
                Ok(())
            })
            .await;
        match result {
            // The only thing that was asked for is the database itself.
            Err(StoreError::ItemNotFound) => Err(StoreError::NotFound {
                resource: resource.clone(),
                source: CosmosError::builder()
                    .with_status(CosmosStatus::new(azure_core::http::StatusCode::NotFound))
                    .with_message("the database does not exist")
                    .build(),
            }),
            other => other,
        }
    }

    /// What the store has cost so far.
    pub fn stats(&self) -> StoreStats {
        self.0.counters.snapshot()
    }

    pub(crate) fn database(&self) -> &str {
        &self.0.database
    }

    /// Runs `attempt` under the store's deadline, slots and retry policy.
    pub(crate) async fn run<T, F, A>(&self, repeat: Repeat, attempt: F) -> Result<T, StoreError>
    where
        F: Fn() -> A,
        A: Future<Output = Result<T, StoreError>>,
    {
        let counters = &self.0.counters;
        counters.operation();
        let deadline = self.0.options.deadline;
        let whole = async {
            // The semaphore is never closed, so the only way not to get a slot is the deadline.
            let _slot = self.0.slots.acquire().await;
            let mut backoff = Backoff::new(self.0.options.retry);
            loop {
                // The driver's futures are large; on the heap they do not grow every caller's.
                let error = match Box::pin(attempt()).await {
                    Ok(value) => return Ok(value),
                    Err(error) => error,
                };
                if matches!(error, StoreError::Throttled { .. }) {
                    counters.throttled();
                }
                let allowed = repeat == Repeat::Harmless || !error.may_have_been_applied();
                let delay = (error.is_transient() && allowed)
                    .then(|| backoff.next_delay(error.retry_after()))
                    .flatten();
                let Some(delay) = delay else { return Err(error) };
                counters.retry();
                tokio::time::sleep(delay).await;
            }
        };
        let result =
            timeout(deadline, whole).await.unwrap_or(Err(StoreError::Timeout { after: deadline }));
        if result.is_err() {
            counters.failure();
        }
        result
    }

    /// The connected driver.
    pub(crate) async fn driver(&self) -> Result<&Arc<CosmosDriver>, StoreError> {
        if let Some(driver) = self.0.driver.get() {
            return Ok(driver);
        }
        let driver = self
            .connecting()
            .await
            .map_err(|error| StoreError::from_driver(error, &self.0.database))?;
        Ok(self.0.driver.get_or_init(|| driver))
    }

    pub(crate) fn interpret(&self, error: CosmosError, resource: &str) -> StoreError {
        if let Some(diagnostics) = error.diagnostics() {
            self.account_for(&diagnostics);
        }
        StoreError::from_driver(error, resource)
    }

    pub(crate) fn account_for(&self, diagnostics: &azure_data_cosmos_driver::DiagnosticsContext) {
        let charge = diagnostics.total_request_charge().value();
        self.0.counters.requests(diagnostics.request_count(), charge);
    }

    fn connecting(&self) -> Connecting {
        let mut connecting = self.0.connecting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(under_way) = connecting.as_ref() {
            return under_way.clone();
        }
        let inner = Arc::clone(&self.0);
        let task = self.0.tasks.spawn(async move {
            let result = connect(&inner.connection, &inner.options).await;
            if let Ok(driver) = &result {
                inner.driver.get_or_init(|| Arc::clone(driver));
            }
            *inner.connecting.lock().unwrap_or_else(PoisonError::into_inner) = None;
            result
        });
        let under_way =
            task.map(|joined| joined.unwrap_or_else(|_| Err(interrupted()))).boxed().shared();
        *connecting = Some(under_way.clone());
        under_way
    }
}

/// The runtime is going down, and the connect with it.
fn interrupted() -> CosmosError {
    CosmosError::builder()
        .with_status(CosmosStatus::new(azure_core::http::StatusCode::ServiceUnavailable))
        .with_message("connecting was interrupted")
        .build()
}

async fn connect(
    connection: &CosmosConnection,
    options: &StoreOptions,
) -> Result<Arc<CosmosDriver>, CosmosError> {
    let request_timeout = options.deadline + DRIVER_TIMEOUT_SLACK;
    let validation = if connection.accept_emulator_certificate {
        ServerCertificateValidation::RequiredUnlessEmulator
    } else {
        ServerCertificateValidation::Required
    };
    let pool = ConnectionPoolOptions::builder()
        .with_is_http2_allowed(false)
        .with_max_connect_timeout(
            options.connect_timeout.clamp(DRIVER_TIMEOUT_MIN, CONNECT_TIMEOUT_MAX),
        )
        .with_max_dataplane_request_timeout(request_timeout)
        .with_max_metadata_request_timeout(request_timeout.min(METADATA_TIMEOUT_MAX))
        .with_max_idle_connections_per_endpoint(IDLE_CONNECTIONS_MAX)
        .with_server_certificate_validation(validation)
        .build()?;
    let runtime = CosmosDriverRuntime::builder()
        .with_connection_pool(pool)
        .with_default_operation_options(operation_options().build())
        .build()
        .await?;
    let driver =
        runtime.create_driver(DriverOptions::builder(account(connection)?).build()).await?;
    tracing::debug!(endpoint = %connection.endpoint, "connected to the store");
    Ok(driver)
}

fn account(connection: &CosmosConnection) -> Result<AccountReference, CosmosError> {
    let endpoint = connection.endpoint.clone();
    match &connection.credential {
        Credential::Key(key) => Ok(AccountReference::with_account_key(endpoint, key.clone())),
        Credential::Token(identity) => {
            let credential = token_credential(identity).map_err(|error| {
                refused("no credential could be made from the settings").with_source(error).build()
            })?;
            Ok(AccountReference::with_credential(endpoint, credential))
        }
        Credential::SharedAccessKey { .. } | Credential::SharedAccessSignature(_) => {
            Err(refused("a Service Bus credential does not open a Cosmos DB account").build())
        }
    }
}

fn refused(message: &'static str) -> azure_data_cosmos_driver::CosmosErrorBuilder {
    CosmosError::builder()
        .with_status(CosmosStatus::new(azure_core::http::StatusCode::BadRequest))
        .with_message(message)
}

/// Options of every operation; see the module documentation of [`super`] for the reasons.
pub(crate) fn operation_options() -> OperationOptionsBuilder {
    let no_throttle_retries = ThrottlingRetryOptionsBuilder::new().with_max_retry_count(0).build();
    OperationOptionsBuilder::new()
        .with_binary_encoding(BinaryEncodingOptions::new().with_enabled(false))
        .with_patch_strategy(PatchStrategy::ServerSide)
        .with_max_failover_retry_count(0)
        .with_throttling_retry_options(no_throttle_retries)
        .with_availability_strategy(AvailabilityStrategy::Disabled)
}

/// [`operation_options`] as the driver takes them.
pub(crate) fn plain_options() -> OperationOptions {
    operation_options().build()
}
