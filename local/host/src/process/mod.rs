//! The handler process: how it is started, watched, restarted and ended.
//!
//! It knows nothing of functions or invocations. The rules are those of the Azure Functions host
//! (`HttpFunctionInvocationDispatcher`, `HttpWorkerProcess`), including the odd ones: exit code 0
//! is not a crash, 200 is a free restart, and the third error within half an hour is the last.

mod command;
mod output;
mod restarts;
mod supervisor;
mod watchdog;

pub(crate) use command::Launch;
pub use supervisor::HandlerStatus;
pub(crate) use supervisor::{HandlerLink, Supervisor};
