//! What can go wrong with a queue, in terms that callers branch on.

use std::time::Duration;

/// An operation on a queue failed. `Display` gives the context, `source()` the cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The key or token was refused, or gives no right to this.
    #[error("the queue service refused the credential")]
    Unauthorized,

    /// No token could be fetched, or no request be signed.
    #[error("no credential for the queue service could be obtained")]
    Credential(#[source] azure_core::Error),

    /// The queue does not exist.
    #[error("there is no such queue")]
    NotFound,

    /// The message was deleted, or taken by somebody else in the meantime.
    #[error("the message is not held any more")]
    Lost,

    /// The service does not answer.
    #[error("the queue service is not available")]
    Unavailable(#[source] azure_core::Error),

    /// No answer within the deadline.
    #[error("the queue service did not answer within {} ms", after.as_millis())]
    Timeout {
        /// The deadline.
        after: Duration,
    },

    /// The service answered with another status.
    #[error("the queue service answered {status}: {code}")]
    Rejected {
        /// HTTP status.
        status: u16,
        /// The service's error code, e.g. `OutOfRangeQueryParameterValue`.
        code: String,
    },

    /// The answer could not be understood.
    #[error("the queue service's answer could not be read: {0}")]
    Unreadable(&'static str),
}

impl QueueError {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) | Self::Timeout { .. } | Self::Credential(_) => true,
            Self::Rejected { status, .. } => *status >= 500 || *status == 429,
            _ => false,
        }
    }
}
