//! x
use super::Shared;
use crate::bindings::{Function, ServiceBusTrigger};
use crate::invocation::Invoker;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
pub(crate) async fn listen(
    _: Shared,
    _: Arc<Function>,
    _: ServiceBusTrigger,
    s: CancellationToken,
) {
    s.cancelled().await;
}
pub(crate) async fn run_once(_: &Invoker, _: &Arc<Function>, _: &ServiceBusTrigger, _: String) {}
