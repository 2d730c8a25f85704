//! `cosmosDBTrigger`: a page of the change feed.
//!
//! <https://learn.microsoft.com/azure/azure-functions/functions-bindings-cosmosdb-v2-trigger>

use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::invocation::{self, DecodeError, Invocation, RetryContext, Trigger};

/// A page of the change feed: the latest version of each changed document, in the order of change
/// per partition key. There are no deletions, unless the trigger asks for another mode, in which
/// case the documents are envelopes.
///
/// Without a `retry` policy in `function.json` the feed moves on even when the function fails, and
/// the page is lost. With one, a document that always fails blocks its partition for ever. So set
/// the policy, and do not fail for a bad document.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChangeFeed {
    /// The documents, with their system properties (`_etag`, `_ts`, `_lsn`, ...).
    pub documents: Vec<Value>,
    /// Where the page stands in the retry policy.
    pub retry: Option<RetryContext>,
}

impl ChangeFeed {
    /// A page from no container: for tests of a function.
    #[must_use]
    pub fn new(documents: Vec<Value>) -> Self {
        Self { documents, retry: None }
    }

    /// The documents as the function wants them, each on its own, so that a bad one need not
    /// spoil the page; `collect::<Result<Vec<_>, _>>()` is for those who want all or none.
    pub fn json<T: DeserializeOwned>(&self) -> impl Iterator<Item = Result<T, serde_json::Error>> {
        self.documents.iter().map(T::deserialize)
    }
}

impl Trigger for ChangeFeed {
    fn from_invocation(invocation: Invocation) -> Result<Self, DecodeError> {
        let retry = invocation.retry();
        let (value, _) = invocation.into_single()?;
        let documents =
            invocation::array(value).ok_or(DecodeError::Shape("an array of documents"))?;
        Ok(Self { documents, retry })
    }
}
