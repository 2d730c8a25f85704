//! `serviceBusTrigger`: receive under peek-lock, invoke, settle. And the sender of the output
//! binding, which shares its connections' ways.
//!
//! Modelled on the .NET `ServiceBusProcessor` as the Functions extension uses it: one connection
//! per function, as many messages at a time as there are free slots, success completes, failure
//! abandons at once (the broker counts and dead-letters), locks are renewed while a function runs.
//! With sessions it is one connection per session held, and the lock is the session's.
//! References: `ServiceBusListener`, `MessageProcessor` of the Service Bus extension.

mod drain;
mod link;
mod listener;
mod management;
mod message;
mod renewal;
mod request;
mod sas;
mod sender;
mod verdicts;
mod wire;

use std::sync::Arc;

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub(crate) use sender::{Outgoing, Senders};

use super::Shared;
use crate::bindings::{Cardinality, Function, ServiceBusTrigger};
use crate::invocation::record::reason;
use crate::invocation::{Call, Invoker};
use crate::log::{Level, category};
use message::Message;

/// Listens until `stop`, then waits for what is in flight. Never ends because of the broker.
pub(crate) async fn listen(
    shared: Shared,
    function: Arc<Function>,
    trigger: ServiceBusTrigger,
    stop: CancellationToken,
) {
    let receivers = match (trigger.sessions, trigger.cardinality) {
        (true, Cardinality::One) => shared.service_bus.max_concurrent_sessions,
        // One batch at a time.
        (false, _) | (true, Cardinality::Many) => 1,
    };
    let mut listening = JoinSet::new();
    for number in 0..receivers {
        let (shared, function, trigger) = (shared.clone(), Arc::clone(&function), trigger.clone());
        let listener = listener::Listener::new(shared, function, trigger, number == 0);
        listening.spawn(listener.run(stop.clone()));
    }
    listening.join_all().await;
}

/// Runs the function once with `input` as the body of a message no broker has touched.
pub(crate) async fn run_once(
    invoker: &Invoker,
    function: &Arc<Function>,
    trigger: &ServiceBusTrigger,
    input: String,
) {
    let message = Message::untouched(input);
    let client = Uuid::new_v4().to_string();
    let now = invoker.log.now();
    let envelope = match trigger.cardinality {
        Cardinality::One => message::single(function, trigger, &message, &client, now),
        Cardinality::Many => message::batch(function, trigger, &[message], &client, now),
    };
    let call = Call { function, reason: reason::HOST_API, details: None, traceparent: None };
    match envelope {
        // Success and failure are in the log.
        Ok(envelope) => drop(invoker.invoke(call, envelope).await),
        Err(why) => invoker.log.line(Level::Error, category::SERVICE_BUS, why),
    }
}
