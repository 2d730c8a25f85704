//! `cosmosDBTrigger`: hold a lease, read the change feed, invoke with each page, checkpoint.
//!
//! Modelled on the Cosmos DB extension and the .NET change feed processor it uses. What surprises
//! most is theirs: **a page whose invocation failed is checkpointed all the same**, unless a retry
//! policy keeps the range waiting, and a stop keeps even a success from being recorded. Delivery
//! is at least once, in order per partition key, one page at a time per partition key range.
//!
//! Reading order: [`listener`] finds the container and takes leases ([`lease`], [`balance`]);
//! [`range`] processes one of them, reading the [`feed`]; [`page`] is what the handler gets.
//!
//! References: `CosmosDBTriggerListener` of the extension, `ChangeFeedProcessor` of the SDK.

pub(crate) mod account;
mod balance;
mod feed;
mod lease;
mod link;
mod listener;
mod page;
mod range;
mod sign;

use std::sync::Arc;

use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::Shared;
use crate::bindings::{Function, Trigger};
use crate::config::cosmos::CosmosDbTrigger;
use crate::invocation::record::reason;
use crate::invocation::{Call, Invoker};
use crate::log::{Level, category};

/// Listens until `stop`, then waits for what is in flight and gives the leases back. Never ends
/// because of the store.
pub(crate) async fn listen(
    shared: Shared,
    function: Arc<Function>,
    trigger: Arc<CosmosDbTrigger>,
    stop: CancellationToken,
) {
    listener::Listener::new(shared, function, trigger).run(stop).await;
}

/// Functions of one app that share leases by mistake, as sentences for the log.
pub(crate) fn shared_leases(functions: &[Arc<Function>]) -> Vec<String> {
    let mut found = Vec::new();
    for (index, one) in functions.iter().enumerate() {
        let Trigger::CosmosDb(trigger) = &one.trigger else { continue };
        for other in &functions[index + 1..] {
            let Trigger::CosmosDb(others) = &other.trigger else { continue };
            let leases = |trigger: &CosmosDbTrigger| {
                (trigger.monitored.clone(), trigger.leases.clone(), trigger.lease_prefix.clone())
            };
            if leases(trigger) == leases(others) {
                found.push(format!(
                    "The functions '{}' and '{}' read {} with the same leases: each change \
                     reaches only one of them. Fix: give each its own leaseContainerPrefix.",
                    one.name, other.name, trigger.monitored
                ));
            }
        }
    }
    found
}

/// Runs the function once with `input`, a JSON array of documents, as its page.
pub(crate) async fn run_once(invoker: &Invoker, function: &Arc<Function>, input: &str) {
    let documents = match serde_json::from_str::<Value>(input) {
        Ok(Value::Array(documents)) => Value::Array(documents).to_string(),
        _ => {
            let text = format!(
                "Function '{}' is not run: the input has to be the text of a JSON array of \
                 documents.",
                function.name
            );
            return invoker.log.line(Level::Error, category::COSMOS_DB, text);
        }
    };
    let envelope = page::envelope(function, &documents, invoker.log.now());
    let call = Call { function, reason: reason::HOST_API, details: None, traceparent: None };
    // Success and failure are in the log.
    drop(invoker.invoke(call, envelope).await);
}
