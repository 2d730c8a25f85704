//! One invocation of the handler: the JSON envelope, the call, and what its answer means.
//!
//! Nothing here knows where an invocation comes from. The wire format is that of the Azure
//! Functions host for custom handlers (`ScriptInvocationContextExtensions`,
//! `DefaultHttpWorkerService`), which differs from the examples in the documentation: values are
//! JSON text inside JSON strings.

pub(crate) mod answer;
pub(crate) mod envelope;
pub(crate) mod invoker;
pub(crate) mod promotion;
pub(crate) mod record;
pub(crate) mod retry;

pub(crate) use answer::Answer;
pub(crate) use envelope::{BindingValue, Envelope};
pub(crate) use invoker::{Call, InvocationError, Invoker};
pub(crate) use retry::{Pause, RetryPolicy};
