//! What can go wrong with a document store, in terms that callers branch on.
//!
//! Status and sub-status codes are interpreted here and nowhere else:
//! <https://learn.microsoft.com/rest/api/cosmos-db/http-status-codes-for-cosmosdb>.

use std::time::Duration;

use azure_data_cosmos_driver::{CosmosError, error::status_codes};

/// Sub-status of a 404 that means "this replica has not seen your last write yet".
const READ_SESSION_NOT_AVAILABLE: u16 = 1002;

/// An operation on the store failed.
///
/// `Display` gives the context, [`source`](std::error::Error::source) the cause.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A document with this id (or unique key) exists already: 409.
    #[error("a document with this id or unique key exists already")]
    Conflict,

    /// The document is not there: 404.
    #[error("there is no document with this id")]
    ItemNotFound,

    /// The document is not the version that `if_match` named: 412.
    #[error("the document has changed since it was read")]
    PreconditionFailed,

    /// More request units were asked for than are provisioned: 429.
    #[error("the store is throttling requests")]
    Throttled {
        /// How long the service wants to be left alone.
        retry_after: Option<Duration>,
    },

    /// Others wrote to the same documents at the same time, and nothing was carried out.
    #[error("other writers got in between")]
    Contended,

    /// The store cannot be reached, or answered that it cannot serve now.
    #[error("the store is not available")]
    Unavailable {
        /// How long the service wants to be left alone.
        retry_after: Option<Duration>,
        /// Whether the request may have been carried out although no answer came.
        maybe_applied: bool,
        /// The transport's or the service's account of it.
        #[source]
        source: CosmosError,
    },

    /// No answer within the deadline of the operation. A write may have been carried out.
    #[error("the store did not answer within {} ms", after.as_millis())]
    Timeout {
        /// The deadline.
        after: Duration,
    },

    /// The credential was refused: 401 or 403.
    #[error("the store refused the credential")]
    Unauthorized {
        /// The service's account of it.
        #[source]
        source: CosmosError,
    },

    /// The database or the container does not exist.
    #[error("the store has no {resource}")]
    NotFound {
        /// `database/container`.
        resource: String,
        /// The service's account of it.
        #[source]
        source: CosmosError,
    },

    /// The service understood the request and declined it: a fault of the caller.
    #[error("the store rejected the request as invalid ({status})")]
    BadRequest {
        /// HTTP status, e.g. 400 or 413.
        status: u16,
        /// The service's account of it.
        #[source]
        source: CosmosError,
    },

    /// The request breaks a documented limit and was not sent.
    #[error("the request was not sent: {reason}")]
    Limit {
        /// Which limit, in words.
        reason: &'static str,
    },

    /// A value could not be written as JSON.
    #[error("the document could not be encoded")]
    Encode(#[source] serde_json::Error),

    /// An answer was not what was expected.
    #[error("the store's answer could not be decoded")]
    Decode(#[source] serde_json::Error),
}

impl StoreError {
    /// Whether the same request may succeed later without anybody changing anything.
    pub fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::Throttled { .. }
                | Self::Contended
                | Self::Unavailable { .. }
                | Self::Timeout { .. }
        )
    }

    /// Whether a write may have been carried out in spite of this error. Read the document before
    /// concluding anything.
    pub fn may_have_been_applied(&self) -> bool {
        match self {
            Self::Timeout { .. } => true,
            Self::Unavailable { maybe_applied, .. } => *maybe_applied,
            _ => false,
        }
    }

    /// How long the service asked to be left alone, if it did.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Throttled { retry_after } | Self::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Interprets an error of the driver. `resource` names the container for [`Self::NotFound`].
    pub(crate) fn from_driver(error: CosmosError, resource: &str) -> Self {
        let status = error.status();
        let code = u16::from(status.status_code());
        let sub_status = status.sub_status().map_or(0, |sub| sub.value());
        let retry_after = error
            .response()
            .and_then(|response| response.headers().retry_after_ms)
            .map(Duration::from_millis);
        if !error.is_from_wire() {
            return Self::from_client_side(error, code, resource);
        }
        match (code, sub_status) {
            (404, 0) => Self::ItemNotFound,
            (409, _) => Self::Conflict,
            (412, _) => Self::PreconditionFailed,
            (429, _) => Self::Throttled { retry_after },
            (401 | 403, _) => Self::Unauthorized { source: error },
            // The service documents these as "not processed".
            (404, READ_SESSION_NOT_AVAILABLE) | (410 | 449 | 503, _) => {
                Self::Unavailable { retry_after, maybe_applied: false, source: error }
            }
            // Mostly 1003: the owner of the document is what is missing.
            (404, _) => Self::NotFound { resource: resource.to_owned(), source: error },
            (408 | 500.., _) => {
                Self::Unavailable { retry_after, maybe_applied: true, source: error }
            }
            _ => Self::BadRequest { status: code, source: error },
        }
    }

    /// Errors that the driver makes up itself: no answer arrived.
    fn from_client_side(error: CosmosError, code: u16, resource: &str) -> Self {
        let status = error.status();
        if status == status_codes::CLIENT_TOPOLOGY_RESOLUTION_FAILED {
            return Self::Unavailable { retry_after: None, maybe_applied: false, source: error };
        }
        match code {
            404 => Self::NotFound { resource: resource.to_owned(), source: error },
            400 | 413 => Self::BadRequest { status: code, source: error },
            // 401: no token could be fetched. Nothing was refused; whoever hands out tokens may
            // be back soon.
            401 => Self::Unavailable { retry_after: None, maybe_applied: false, source: error },
            _ => {
                let maybe_applied = !never_sent(&error);
                Self::Unavailable { retry_after: None, maybe_applied, source: error }
            }
        }
    }
}

/// Whether the driver is certain that not one of its requests left this process.
fn never_sent(error: &CosmosError) -> bool {
    error.diagnostics().is_some_and(|diagnostics| {
        diagnostics.requests().iter().all(|request| request.request_sent().definitely_not_sent())
    })
}

#[cfg(test)]
mod tests {
    use azure_core::http::StatusCode;
    use azure_data_cosmos_driver::CosmosStatus;

    use super::*;

    fn client_side(code: u16) -> StoreError {
        let status = CosmosStatus::new(StatusCode::from(code));
        let error = CosmosError::builder().with_status(status).with_message("why").build();
        StoreError::from_driver(error, "db/items")
    }

    #[test]
    fn errors_made_by_the_client_are_told_apart() {
        assert!(matches!(client_side(400), StoreError::BadRequest { status: 400, .. }));
        assert!(matches!(client_side(404), StoreError::NotFound { .. }));
        assert!(client_side(401).is_transient());
        // Nothing is known about whether it was sent, so assume the worst.
        assert!(client_side(503).may_have_been_applied());
        assert!(client_side(503).is_transient());
        assert!(!client_side(400).is_transient());
    }

    #[test]
    fn display_is_context_and_the_source_is_the_cause() {
        let error = client_side(404);
        assert_eq!(error.to_string(), "the store has no db/items");
        let source = std::error::Error::source(&error).unwrap();
        assert!(source.to_string().contains("why"), "{source}");
        let timeout = StoreError::Timeout { after: Duration::from_millis(1500) };
        assert_eq!(timeout.to_string(), "the store did not answer within 1500 ms");
        assert!(timeout.may_have_been_applied() && timeout.retry_after().is_none());
        let throttled = StoreError::Throttled { retry_after: Some(Duration::from_millis(7)) };
        assert_eq!(throttled.retry_after(), Some(Duration::from_millis(7)));
        assert!(!throttled.may_have_been_applied());
    }
}
