//! `queueTrigger`: poll, lease, invoke, then delete, release or move to the poison queue.
//!
//! Modelled on `QueueListener` and `QueueProcessor` of the Storage extension. Where a failed
//! Service Bus message is the broker's to count, here the host counts: the service only says how
//! often a message was dequeued.

mod listener;
mod message;
mod polling;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::bindings::{Function, QueueTrigger};
use crate::config::QueueOptions;
use crate::invocation::record::reason;
use crate::invocation::{Call, Invoker};
use crate::log::{Level, category};
use crate::rest::RestClient;
use crate::storage::Wakers;

/// The shortest lease: the service counts in whole seconds.
const LEASE_MIN: Duration = Duration::from_secs(1);

/// What the queue listeners and queue outputs of one host share.
#[derive(Clone)]
pub(crate) struct QueueShared {
    options: QueueOptions,
    lease: Duration,
    pub(crate) client: RestClient,
    pub(crate) wakers: Wakers,
}

impl QueueShared {
    pub(crate) fn new(options: QueueOptions, lease: Duration) -> Self {
        Self {
            options,
            lease: lease.max(LEASE_MIN),
            client: RestClient::new(),
            wakers: Wakers::default(),
        }
    }
}

/// Listens until `stop`, then waits for what is in flight. Never ends because of the service.
pub(super) async fn listen(
    shared: Shared,
    function: &Arc<Function>,
    trigger: &QueueTrigger,
    stop: CancellationToken,
) {
    listener::Listener::new(&shared, function, trigger).run(&stop).await;
}

/// Runs the function once with `input` as the text of a message no queue has seen.
pub(super) async fn run_once(
    invoker: &Invoker,
    function: &Arc<Function>,
    trigger: &QueueTrigger,
    input: String,
) {
    let now = invoker.log.now();
    let message = message::Message::untouched(input, now);
    let call = Call { function, reason: reason::HOST_API, details: None, traceparent: None };
    match message::envelope(&function.name, &function.binding, trigger.data_type, &message, now) {
        // Success and failure are in the log.
        Ok(envelope) => drop(invoker.invoke(call, envelope).await),
        Err(why) => invoker.log.line(Level::Error, category::QUEUES, why),
    }
}
