//! What a function knows about its invocation besides the trigger.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::FromRequestParts;
use http::request::Parts;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::trace::TraceContext;

/// What a function knows about its invocation besides the trigger.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Context {
    /// Name of the function, as mounted.
    pub function: Arc<str>,
    /// The host's id of this invocation, for correlation with the host's log only. A redelivery or
    /// a retry has another one, so it is no idempotency key; and anybody can send the header.
    pub invocation_id: Option<Arc<str>>,
    /// The span of this invocation, under the one of the host.
    pub trace: TraceContext,
    /// When the invocation is given up: its future is dropped and the host is told that it failed.
    pub deadline: Instant,
    /// Cancelled when the process is asked to stop. An invocation may finish within the grace
    /// period; this is for those that would rather give up early.
    pub shutdown: CancellationToken,
}

impl Context {
    /// The context of an invocation that came from no host: for tests of a function.
    #[must_use]
    pub fn new(function: &str, limit: Duration) -> Self {
        Self {
            function: function.into(),
            invocation_id: None,
            trace: TraceContext::new(),
            deadline: Instant::now() + limit,
            shutdown: CancellationToken::new(),
        }
    }

    /// The host's id of this invocation.
    #[must_use]
    pub fn invocation_id(&self) -> Option<&str> {
        self.invocation_id.as_deref()
    }

    /// Time left until the deadline.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

/// Extractor for axum handlers: the token that is cancelled when the process is asked to stop.
///
/// A response that has no end of its own, such as an event stream, has to end on it, or it is cut
/// off when the grace period is over. In a router that runs without the server the token is never
/// cancelled.
#[derive(Clone, Debug)]
pub struct Shutdown(pub CancellationToken);

impl<S: Send + Sync> FromRequestParts<S> for Shutdown {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        let token = parts.extensions.get::<Self>().cloned();
        Ok(token.unwrap_or_else(|| Self(CancellationToken::new())))
    }
}
