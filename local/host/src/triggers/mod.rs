//! Triggers other than HTTP: each one listens somewhere and turns what it gets into invocations.
//!
//! A trigger is a variant of [`Trigger`] and one `listen` function here. HTTP has no listener of
//! its own: its functions are routes of the host's server.

pub(crate) mod cosmos_db;
mod listeners;
mod queue;
pub(crate) mod service_bus;
pub(crate) mod timer;

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::bindings::{Function, Trigger};
use crate::config::ServiceBusOptions;
use crate::invocation::Invoker;

pub(crate) use listeners::{Drain, Listeners};
pub(crate) use queue::QueueShared;

/// What the listeners of one host share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) invoker: Arc<Invoker>,
    pub(crate) service_bus: ServiceBusOptions,
    pub(crate) queues: QueueShared,
    pub(crate) timers: Arc<timer::Monitor>,
}

/// Whether the function has a listener at all.
pub(crate) fn listens(function: &Function) -> bool {
    match function.trigger {
        Trigger::Http(_) => false,
        Trigger::ServiceBus(_) | Trigger::Queue(_) | Trigger::CosmosDb(_) | Trigger::Timer(_) => {
            true
        }
    }
}

/// What the functions of an app do to each other without meaning to, as sentences for the log.
pub(crate) fn notes(functions: &[Arc<Function>]) -> Vec<String> {
    cosmos_db::shared_leases(functions)
}

/// Listens for `function` until `stop`, then waits for the invocations in flight.
pub(crate) async fn listen(shared: Shared, function: Arc<Function>, stop: CancellationToken) {
    match &function.trigger {
        Trigger::Http(_) => {}
        Trigger::ServiceBus(trigger) => {
            let trigger = trigger.clone();
            service_bus::listen(shared, function, trigger, stop).await;
        }
        Trigger::Queue(trigger) => queue::listen(shared, &function, trigger, stop).await,
        Trigger::CosmosDb(trigger) => {
            let trigger = Arc::clone(trigger);
            cosmos_db::listen(shared, function, trigger, stop).await;
        }
        Trigger::Timer(trigger) => {
            let trigger = trigger.clone();
            timer::listen(shared, function, trigger, stop).await;
        }
    }
}

/// Runs `function` once with `input` as its trigger item, as the admin endpoint does.
pub(crate) async fn run_once(shared: &Shared, function: &Arc<Function>, input: String) {
    let invoker = &*shared.invoker;
    match &function.trigger {
        Trigger::Http(_) => {}
        Trigger::ServiceBus(trigger) => {
            service_bus::run_once(invoker, function, trigger, input).await;
        }
        Trigger::Queue(trigger) => queue::run_once(invoker, function, trigger, input).await,
        Trigger::CosmosDb(_) => cosmos_db::run_once(invoker, function, &input).await,
        Trigger::Timer(trigger) => timer::run_once(shared, function, trigger).await,
    }
}
