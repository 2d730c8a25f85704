//! The bindings this host knows, as a closed set: a `function.json` is parsed into these or it is
//! an indexing error that says what is not supported.
//!
//! To add a trigger or an output: a variant here, its reading in `config::function_json`, and its
//! listener under `triggers`.

use std::sync::Arc;

use crate::config::connection::ServiceBusConnection;
use crate::config::cosmos::{CosmosConnection, CosmosDbTrigger};
use crate::config::storage::StorageConnection;
use crate::http::route::Template;
use crate::invocation::RetryPolicy;
use crate::outputs::EntityName;
use crate::triggers::timer::TimerTrigger;

/// One function that can be run.
#[derive(Debug)]
pub(crate) struct Function {
    /// Folder name, as spelled; also the path the handler is called at.
    pub(crate) name: Arc<str>,
    /// Name of the trigger binding: the key under `Data`.
    pub(crate) binding: String,
    pub(crate) trigger: Trigger,
    /// What happens when an invocation fails; `None` leaves that to the trigger.
    pub(crate) retry: Option<RetryPolicy>,
    pub(crate) outputs: Vec<Output>,
    /// Whether inputs and outputs are exactly one `httpTrigger` and one `http`, the condition for
    /// proxying and forwarding.
    pub(crate) http_in_and_out: bool,
}

/// What starts an invocation.
#[derive(Debug)]
pub(crate) enum Trigger {
    Http(HttpTrigger),
    ServiceBus(ServiceBusTrigger),
    Queue(QueueTrigger),
    CosmosDb(Arc<CosmosDbTrigger>),
    Timer(TimerTrigger),
}

/// `httpTrigger`.
#[derive(Debug)]
pub(crate) struct HttpTrigger {
    /// Upper-case names; empty means every method.
    pub(crate) methods: Vec<String>,
    /// The template including the route prefix.
    pub(crate) template: Template,
    pub(crate) auth: AuthLevel,
}

/// Which key a caller has to present.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthLevel {
    Anonymous,
    Function,
    Admin,
}

/// `serviceBusTrigger`.
#[derive(Debug, Clone)]
pub(crate) struct ServiceBusTrigger {
    /// `queue`, or `topic/Subscriptions/subscription`.
    pub(crate) entity: String,
    pub(crate) connection: ServiceBusConnection,
    pub(crate) cardinality: Cardinality,
    pub(crate) data_type: DataType,
    /// Settle with the broker when the invocation ends. A custom handler that switches this off
    /// has to settle by lock token itself.
    pub(crate) auto_complete: bool,
    /// Receive by session: each is one receiver's alone and comes in order.
    pub(crate) sessions: bool,
    pub(crate) max_batch_messages: u32,
}

/// `queueTrigger`.
#[derive(Debug, Clone)]
pub(crate) struct QueueTrigger {
    pub(crate) queue: String,
    pub(crate) connection: StorageConnection,
    pub(crate) data_type: DataType,
}

/// How many trigger items one invocation carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cardinality {
    One,
    Many,
}

/// What a trigger item is converted to before it is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DataType {
    /// Not given: text for one item, JSON values for many.
    Undefined,
    String,
    Binary,
}

/// An output binding.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    /// The key under `Outputs`, or `$return`.
    pub(crate) name: String,
    pub(crate) kind: OutputKind,
}

/// What an output binding writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OutputKind {
    /// The response of the HTTP call that triggered the function.
    Http,
    Queue(QueueOutput),
    ServiceBus(ServiceBusOutput),
    CosmosDb(CosmosDbOutput),
}

/// `queue`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct QueueOutput {
    pub(crate) queue: EntityName,
    pub(crate) connection: StorageConnection,
    pub(crate) data_type: DataType,
}

/// `serviceBus`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ServiceBusOutput {
    /// A queue or a topic.
    pub(crate) entity: EntityName,
    pub(crate) connection: ServiceBusConnection,
    pub(crate) data_type: DataType,
}

/// `cosmosDB`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CosmosDbOutput {
    pub(crate) database: EntityName,
    pub(crate) container: EntityName,
    pub(crate) connection: CosmosConnection,
    pub(crate) data_type: DataType,
    /// `createIfNotExists`.
    pub(crate) create_if_missing: bool,
    /// Path by which a container is partitioned that is created.
    pub(crate) partition_key: Option<EntityName>,
}
