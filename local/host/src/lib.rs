//! A Functions host for custom handlers: discovery, supervision, HTTP proxying, triggers.
//!
//! It runs one Function App from a directory laid out as Azure wants it (`host.json`, the handler
//! executable, one folder with a `function.json` per function) and speaks to the handler exactly
//! as the Azure Functions host does, so that a handler that works here works there. It has never
//! heard of what the functions are for.
//!
//! ```no_run
//! # async fn run() -> Result<(), host::HostError> {
//! let log = std::sync::Arc::new(|line: host::LogLine| println!("{}", line.text));
//! let settings = std::collections::BTreeMap::new();
//! let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 7071));
//! let host = host::Host::bind(host::Options::new("target/apps/billing", listen, settings, log)).await?;
//! host.run(tokio_util::sync::CancellationToken::new()).await
//! # }
//! ```
//!
//! Reference: <https://learn.microsoft.com/azure/azure-functions/functions-custom-handlers>. Where
//! that page and the host's source code differ, the source code is followed.

mod bindings;
mod clock;
mod config;
mod edges;
mod error;
mod faults;
mod functions;
mod host;
mod http;
mod invocation;
mod log;
mod outputs;
mod process;
mod rest;
mod runtime;
mod storage;
mod triggers;

pub use clock::{Clock, system_clock};
pub use config::settings::LocalHost;
pub use error::{HostError, Problem};
pub use faults::{Fault, FaultPlan, FaultRule, Faults};
pub use functions::FunctionInfo;
pub use host::{Host, Options};
pub use log::{Level, LogLine, LogSink};
pub use process::HandlerStatus;
pub use runtime::runtime;

/// The version this host reports in `X-Azure-Functions-HostVersion`, `User-Agent` and
/// `/admin/host/status`. Handlers may log it; none may depend on it. It is the version whose
/// behaviour is imitated.
pub const HOST_VERSION: &str = "4.1052.200";
