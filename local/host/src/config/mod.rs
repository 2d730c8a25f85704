//! What the app directory and the settings say, read once at start. Nothing here runs anything.
//!
//! Every reader collects problems instead of stopping at the first, so that one run shows them all.

pub(crate) mod connection;
pub(crate) mod cosmos;
pub(crate) mod function_json;
pub(crate) mod host_json;
mod json;
mod lookup;
mod outputs;
mod queues;
mod retry;
mod service_bus;
pub(crate) mod settings;
pub(crate) mod storage;
mod timer;

pub(crate) use host_json::{HandlerConfig, HostJson, HttpThrottle};
pub(crate) use json::parse_time_span;
pub(crate) use queues::{MessageEncoding, POLLING_MIN, QueueOptions};
pub(crate) use service_bus::ServiceBusOptions;
pub(crate) use settings::Settings;
