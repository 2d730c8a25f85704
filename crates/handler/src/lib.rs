//! The Azure Functions custom-handler protocol for Rust: typed triggers in, safe replies out.
//!
#![doc = include_str!("../README.md")]

mod app;
mod config;
mod context;
pub mod envelope;
mod failure;
pub mod http_limits;
mod http_output;
mod invocation;
pub mod logging;
mod metadata;
mod problem;
mod reply;
mod run;
mod server;
pub mod telemetry;
mod timestamp;
mod trace;
mod triggers;

pub use app::App;
pub use config::{Config, ConfigError, Limits, PORT_VARIABLE};
pub use context::{Context, Shutdown};
pub use failure::Failure;
pub use http_output::HttpOutput;
pub use invocation::{DecodeError, Invocation, RetryContext, Trigger};
pub use reply::Reply;
pub use run::{EXIT_RESTART, Error, run, shutdown_signal};
pub use server::{BindError, ServeError, Server};
pub use trace::{SpanId, TRACEPARENT, TraceContext, TraceId};
pub use triggers::{
    ChangeFeed, HttpRequest, QueueMessage, ScheduleStatus, ServiceBusBatch, ServiceBusMessage,
    TimerTick,
};
