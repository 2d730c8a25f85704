//! What can go wrong with publishing, in terms that callers branch on.

use std::time::Duration;

/// Events could not be published.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GridError {
    /// The topic cannot be reached. The events may have been taken.
    #[error("the topic cannot be reached")]
    Unreachable(#[source] reqwest::Error),

    /// The topic answered that it cannot serve now: 408 or 5xx.
    #[error("the topic answered {status}")]
    Unavailable {
        /// HTTP status.
        status: u16,
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },

    /// More was published than the topic takes: 429.
    #[error("the topic is throttling requests")]
    Throttled {
        /// How long it wants to be left alone.
        retry_after: Option<Duration>,
    },

    /// No answer within the deadline. The events may have been taken.
    #[error("the topic did not answer within {} ms", after.as_millis())]
    Timeout {
        /// The deadline.
        after: Duration,
    },

    /// No token could be had from the identity.
    #[error("no token for the topic could be obtained")]
    Credential(#[source] azure_core::Error),

    /// The credential was refused: 401 or 403.
    #[error("the topic refused the credential ({status}): {message}")]
    Unauthorized {
        /// HTTP status.
        status: u16,
        /// What the service says.
        message: String,
    },

    /// There is no topic at this address: 404.
    #[error("there is no topic at the configured address")]
    NotFound,

    /// The service understood the request and declined it: a fault of the caller.
    #[error("the topic rejected the events ({status}): {message}")]
    Rejected {
        /// HTTP status, e.g. 400 or 413.
        status: u16,
        /// What the service says.
        message: String,
    },

    /// An event breaks a documented limit; nothing was sent.
    #[error("the events were not sent: {reason}")]
    Limit {
        /// Which limit, in words.
        reason: &'static str,
    },

    /// An event could not be written as JSON; nothing was sent.
    #[error("an event could not be encoded")]
    Encode(#[source] serde_json::Error),
}

impl GridError {
    /// Whether the same request may succeed later without anybody changing anything.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Unreachable(_)
                | Self::Unavailable { .. }
                | Self::Throttled { .. }
                | Self::Timeout { .. }
        )
    }

    /// How long the service wants to be left alone.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } | Self::Throttled { retry_after } => *retry_after,
            _ => None,
        }
    }
}
