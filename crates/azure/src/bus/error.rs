//! What can go wrong with a message broker, in terms that callers branch on.
//!
//! AMQP error conditions and the status codes of the management node are interpreted here and
//! nowhere else:
//! <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-protocol-guide>.

use std::{error::Error, sync::Arc, time::Duration};

use fe2o3_amqp::{
    connection::{ConnectionStopReason, OpenError},
    link::{
        DetachError, LinkStateError, ReceiverAttachError, RecvError, SendError, SenderAttachError,
        SessionStopReason,
    },
    session::BeginError,
};
use fe2o3_amqp_types::{
    definitions::{self, ErrorCondition},
    primitives::Symbol,
};

/// What a throttling broker wants when it does not say so itself.
const BUSY_BACK_OFF: Duration = Duration::from_secs(4);

/// An operation on the broker failed.
///
/// `Display` gives the context, [`source`](std::error::Error::source) the cause. Cheap to clone:
/// while the broker is away, every caller gets the cause of the last failed connect.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BusError {
    /// The credential was refused, or gives no right to this.
    #[error("the broker refused the credential: {description}")]
    Unauthorized {
        /// The broker's words.
        description: String,
    },

    /// No token could be fetched or made. The broker was not asked.
    #[error("no token for the broker could be obtained")]
    Credential {
        /// The identity library's account of it.
        #[source]
        source: Arc<azure_core::Error>,
    },

    /// The queue, topic or subscription does not exist.
    #[error("the broker has no such entity: {description}")]
    NotFound {
        /// The broker's words.
        description: String,
    },

    /// No message has this sequence number.
    #[error("the broker has no such message")]
    MessageNotFound,

    /// The broker is throttling.
    #[error("the broker is throttling requests")]
    Busy {
        /// How long to leave it alone.
        retry_after: Duration,
    },

    /// The entity is full, until its consumers catch up.
    #[error("the entity is full: {description}")]
    QuotaExceeded {
        /// The broker's words.
        description: String,
    },

    /// The lock on the message is over; it will be, or has been, delivered again.
    #[error("the lock on the message has been lost")]
    LockLost,

    /// A single message is larger than the broker takes.
    #[error("the message is larger than the broker accepts")]
    MessageTooLarge,

    /// The connection, session or link broke, or could not be made.
    #[error("the broker is not available")]
    Disconnected {
        /// The transport's or the broker's account of it.
        #[source]
        source: Arc<dyn Error + Send + Sync>,
    },

    /// No answer within the deadline. A message may have been accepted.
    #[error("the broker did not answer within {} ms", after.as_millis())]
    Timeout {
        /// The deadline.
        after: Duration,
    },

    /// The broker declined for another reason.
    #[error("the broker rejected the request: {condition}: {description}")]
    Rejected {
        /// AMQP error condition, e.g. `com.microsoft:entity-disabled`.
        condition: String,
        /// The broker's words.
        description: String,
    },

    /// A message could not be encoded, or an answer not be understood.
    #[error("the broker's protocol was broken: {reason}")]
    Protocol {
        /// What was wrong.
        reason: String,
    },
}

impl BusError {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Busy { .. }
                | Self::QuotaExceeded { .. }
                | Self::Disconnected { .. }
                | Self::Timeout { .. }
                | Self::Credential { .. }
        )
    }

    /// How long the broker asked to be left alone, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Busy { retry_after } => Some(*retry_after),
            _ => None,
        }
    }

    /// Whether trying again at once, on a new link or connection, makes sense.
    pub(crate) fn deserves_another_link(&self) -> bool {
        matches!(self, Self::Disconnected { .. })
    }

    pub(crate) fn disconnected(source: impl Error + Send + Sync + 'static) -> Self {
        Self::Disconnected { source: Arc::new(source) }
    }

    pub(crate) fn gone(reason: &'static str) -> Self {
        Self::Disconnected { source: Arc::from(Box::<dyn Error + Send + Sync>::from(reason)) }
    }

    pub(crate) fn protocol(reason: impl Into<String>) -> Self {
        Self::Protocol { reason: reason.into() }
    }

    /// Interprets an AMQP error of the broker.
    pub(crate) fn from_amqp(error: &definitions::Error) -> Self {
        let description = error.description.clone().unwrap_or_default();
        Self::from_condition(&condition_text(&error.condition), description)
    }

    pub(crate) fn from_condition(condition: &str, description: String) -> Self {
        match condition {
            "amqp:unauthorized-access" | "com.microsoft:auth-failed" => {
                Self::Unauthorized { description }
            }
            "amqp:not-found" => Self::NotFound { description },
            "com.microsoft:message-not-found" => Self::MessageNotFound,
            "amqp:resource-limit-exceeded" => Self::QuotaExceeded { description },
            "com.microsoft:server-busy" => Self::Busy { retry_after: BUSY_BACK_OFF },
            "com.microsoft:message-lock-lost" | "com.microsoft:session-lock-lost" => Self::LockLost,
            "amqp:link:message-size-exceeded" => Self::MessageTooLarge,
            "amqp:internal-error"
            | "amqp:connection:forced"
            | "amqp:link:detach-forced"
            | "amqp:link:stolen"
            | "com.microsoft:container-close"
            | "com.microsoft:operation-cancelled"
            | "com.microsoft:timeout" => Self::Disconnected {
                source: Arc::from(Box::<dyn Error + Send + Sync>::from(format!(
                    "{condition}: {description}"
                ))),
            },
            _ => Self::Rejected { condition: condition.to_owned(), description },
        }
    }

    /// Interprets an answer of the management or the security node.
    pub(crate) fn from_status(status: i32, condition: Option<&str>, description: String) -> Self {
        let condition = condition.unwrap_or(match status {
            401 | 403 => "amqp:unauthorized-access",
            404 => "amqp:not-found",
            408 => "com.microsoft:timeout",
            410 => "com.microsoft:message-lock-lost",
            503 => "com.microsoft:server-busy",
            500.. => "amqp:internal-error",
            _ => "amqp:not-allowed",
        });
        Self::from_condition(condition, description)
    }
}

fn condition_text(condition: &ErrorCondition) -> String {
    let symbol = match condition {
        ErrorCondition::AmqpError(error) => Symbol::from(error),
        ErrorCondition::ConnectionError(error) => Symbol::from(error),
        ErrorCondition::SessionError(error) => Symbol::from(error),
        ErrorCondition::LinkError(error) => Symbol::from(error),
        ErrorCondition::Custom(symbol) => symbol.clone(),
    };
    symbol.0
}

impl From<OpenError> for BusError {
    fn from(error: OpenError) -> Self {
        match &error {
            OpenError::RemoteClosedWithError(remote) => Self::from_amqp(remote),
            _ => Self::disconnected(error),
        }
    }
}

impl From<BeginError> for BusError {
    fn from(error: BeginError) -> Self {
        match &error {
            BeginError::RemoteEndedWithError(remote) => Self::from_amqp(remote),
            BeginError::ConnectionStopped(reason) => Self::from_connection_stop(reason),
            _ => Self::disconnected(error),
        }
    }
}

impl From<SenderAttachError> for BusError {
    fn from(error: SenderAttachError) -> Self {
        match &error {
            SenderAttachError::RemoteClosedWithError(remote) => Self::from_amqp(remote),
            SenderAttachError::SessionStopped(reason) => Self::from_session_stop(reason),
            _ => Self::disconnected(error),
        }
    }
}

impl From<ReceiverAttachError> for BusError {
    fn from(error: ReceiverAttachError) -> Self {
        match &error {
            ReceiverAttachError::RemoteClosedWithError(remote) => Self::from_amqp(remote),
            ReceiverAttachError::SessionStopped(reason) => Self::from_session_stop(reason),
            _ => Self::disconnected(error),
        }
    }
}

impl From<SendError> for BusError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::LinkStateError(state) => state.into(),
            SendError::Detached(detached) => detached.into(),
            SendError::MessageSizeExceeded(_) => Self::MessageTooLarge,
            other => Self::protocol(other.to_string()),
        }
    }
}

impl From<RecvError> for BusError {
    fn from(error: RecvError) -> Self {
        match error {
            RecvError::LinkStateError(state) => state.into(),
            other => Self::protocol(other.to_string()),
        }
    }
}

impl From<DetachError> for BusError {
    fn from(error: DetachError) -> Self {
        LinkStateError::from(error).into()
    }
}

impl From<LinkStateError> for BusError {
    fn from(error: LinkStateError) -> Self {
        match &error {
            LinkStateError::RemoteClosedWithError(remote)
            | LinkStateError::RemoteDetachedWithError(remote) => Self::from_amqp(remote),
            LinkStateError::SessionStopped(reason) => Self::from_session_stop(reason),
            _ => Self::disconnected(error),
        }
    }
}

impl BusError {
    fn from_session_stop(reason: &SessionStopReason) -> Self {
        match reason {
            SessionStopReason::RemoteEndedWithError(remote) => Self::from_amqp(remote),
            SessionStopReason::ConnectionStopped(reason) => Self::from_connection_stop(reason),
            _ => Self::gone("the session has ended"),
        }
    }

    fn from_connection_stop(reason: &ConnectionStopReason) -> Self {
        match reason {
            // Whatever the broker says, a new connection is what it takes; only a refused
            // credential would be refused again.
            ConnectionStopReason::RemoteClosedWithError(remote) => match Self::from_amqp(remote) {
                refused @ Self::Unauthorized { .. } => refused,
                _ => Self::disconnected(remote_error(remote)),
            },
            _ => Self::gone("the connection has been closed"),
        }
    }
}

fn remote_error(error: &definitions::Error) -> std::io::Error {
    let condition = condition_text(&error.condition);
    let description = error.description.as_deref().unwrap_or_default();
    std::io::Error::other(format!("{condition}: {description}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn amqp(condition: &str) -> BusError {
        let condition = ErrorCondition::Custom(Symbol::from(condition));
        BusError::from_amqp(&definitions::Error::new(condition, Some("why".into()), None))
    }

    #[test]
    fn conditions_are_told_apart() {
        assert!(matches!(amqp("amqp:unauthorized-access"), BusError::Unauthorized { .. }));
        assert!(matches!(amqp("amqp:not-found"), BusError::NotFound { .. }));
        assert!(matches!(amqp("com.microsoft:message-lock-lost"), BusError::LockLost));
        assert!(matches!(amqp("amqp:link:message-size-exceeded"), BusError::MessageTooLarge));
        assert!(amqp("com.microsoft:server-busy").retry_after().is_some());
        assert!(amqp("com.microsoft:server-busy").is_transient());
        let full = amqp("amqp:resource-limit-exceeded");
        assert!(full.is_transient() && !full.deserves_another_link(), "{full}");
        assert!(amqp("amqp:link:detach-forced").deserves_another_link());
        let disabled = amqp("com.microsoft:entity-disabled");
        assert!(!disabled.is_transient());
        assert_eq!(
            disabled.to_string(),
            "the broker rejected the request: com.microsoft:entity-disabled: why"
        );
    }

    #[test]
    fn statuses_stand_in_for_missing_conditions() {
        let status = |code| BusError::from_status(code, None, String::new());
        assert!(matches!(status(401), BusError::Unauthorized { .. }));
        assert!(matches!(status(404), BusError::NotFound { .. }));
        assert!(matches!(status(410), BusError::LockLost));
        assert!(matches!(status(503), BusError::Busy { .. }));
        assert!(status(500).is_transient());
        assert!(matches!(status(400), BusError::Rejected { .. }));
        let told = BusError::from_status(404, Some("com.microsoft:message-not-found"), "x".into());
        assert!(matches!(told, BusError::MessageNotFound));
    }

    #[test]
    fn the_source_is_the_cause() {
        let error = BusError::disconnected(std::io::Error::other("refused"));
        assert_eq!(error.to_string(), "the broker is not available");
        assert_eq!(error.source().unwrap().to_string(), "refused");
        assert!(error.is_transient());
        let timeout = BusError::Timeout { after: Duration::from_secs(2) };
        assert_eq!(timeout.to_string(), "the broker did not answer within 2000 ms");
    }
}
