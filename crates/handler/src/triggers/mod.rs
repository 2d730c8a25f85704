//! Typed triggers: one file per trigger of the Functions host.

mod change_feed;
mod http;
mod queue;
mod service_bus;
mod timer;

pub use change_feed::ChangeFeed;
pub use http::HttpRequest;
pub use queue::QueueMessage;
pub use service_bus::{ServiceBusBatch, ServiceBusMessage};
pub use timer::{ScheduleStatus, TimerTick};
