//! Lease documents: who processes a partition key range, and how far it has come.
//!
//! One document per range, shaped as the .NET change feed processor shapes it
//! (`DocumentServiceLeaseCoreEpk`), so that it can be read with the same eyes. Every write carries
//! the `ETag` of what was read; whoever comes second is told so and has lost.

use std::sync::Arc;
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Iso8601;

use super::account::{Account, Answer, StoreError};
use crate::config::cosmos::ContainerAddress;
use crate::invocation::envelope::date_time_with_fraction;
use crate::log::Logger;

/// A write that meets somebody else's write is tried again on top of it this often: apart from the
/// other hosts, which take a lease once, only a person with an editor can be in the way.
const CONFLICTS_MAX: u32 = 5;

/// Leases read at a time.
const PAGE_ITEMS: &str = "1000";

/// One lease, as it was last read or written.
#[derive(Debug, Clone)]
pub(super) struct Lease {
    document: Map<String, Value>,
}

impl Lease {
    fn text(&self, name: &str) -> Option<&str> {
        self.document.get(name).and_then(Value::as_str).filter(|text| !text.is_empty())
    }

    #[cfg(test)]
    pub(super) fn from_document(document: Value) -> Self {
        match document {
            Value::Object(document) => Self { document },
            other => panic!("{other} is no document"),
        }
    }

    fn id(&self) -> &str {
        self.text("id").unwrap_or_default()
    }

    /// The id of the range.
    pub(super) fn range(&self) -> &str {
        self.text("LeaseToken").unwrap_or_default()
    }

    /// The instance that holds it.
    pub(super) fn owner(&self) -> Option<&str> {
        self.text("Owner")
    }

    /// After which change to go on; `None` when nothing has been processed yet.
    pub(super) fn continuation(&self) -> Option<&str> {
        self.text("ContinuationToken")
    }

    /// Whether its owner has not been heard of for `expiration`.
    pub(super) fn is_expired(&self, expiration: Duration, now: OffsetDateTime) -> bool {
        let written = self
            .text("timestamp")
            .and_then(|text| OffsetDateTime::parse(text, &Iso8601::DEFAULT).ok());
        // A time nobody can read was written by nobody.
        written.is_none_or(|written| now - written > expiration)
    }
}

/// What to write into a lease that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// Still alive.
    Renewed,
    /// Everything up to here is processed.
    Checkpoint(String),
    /// Somebody else may have it.
    Released,
}

/// Why a lease could not be written.
#[derive(Debug, thiserror::Error)]
pub(super) enum LeaseError {
    /// It belongs to somebody else by now, or is gone.
    #[error("the lease is lost")]
    Lost,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The leases of one function on one monitored container. Cheap to clone.
#[derive(Clone)]
pub(super) struct Leases {
    account: Account,
    address: Arc<ContainerAddress>,
    /// Before the two dots in the ids of the leases.
    prefix: Arc<str>,
    /// What this host calls itself.
    me: Arc<str>,
    log: Logger,
}

impl Leases {
    pub(super) fn new(
        account: Account,
        address: ContainerAddress,
        prefix: &str,
        me: &Arc<str>,
        log: Logger,
    ) -> Self {
        Self { account, address: Arc::new(address), prefix: prefix.into(), me: Arc::clone(me), log }
    }

    /// All of them.
    pub(super) async fn list(&self) -> Result<Vec<Lease>, StoreError> {
        let query = json!({
            "query": "SELECT * FROM c WHERE STARTSWITH(c.id, @prefix)",
            "parameters": [{ "name": "@prefix", "value": format!("{}..", self.prefix) }],
        });
        let (mut leases, mut continuation) = (Vec::new(), None::<String>);
        loop {
            let mut headers = vec![
                ("content-type", "application/query+json"),
                ("x-ms-documentdb-isquery", "True"),
                ("x-ms-documentdb-query-enablecrosspartition", "True"),
                ("x-ms-max-item-count", PAGE_ITEMS),
            ];
            headers.extend(continuation.as_deref().map(|token| ("x-ms-continuation", token)));
            let answer = self.send(Method::POST, None, &headers, query.to_string()).await?;
            if let Some(Value::Array(documents)) = answer.object()?.remove("Documents") {
                leases.extend(documents.into_iter().filter_map(|document| match document {
                    Value::Object(document) => Some(Lease { document }),
                    _ => None,
                }));
            }
            match answer.header("x-ms-continuation") {
                Some(token) if !token.is_empty() => continuation = Some(token.to_owned()),
                _ => return Ok(leases),
            }
        }
    }

    /// Adds a lease that nobody holds. One that exists already is left as it is.
    pub(super) async fn create(
        &self,
        range: &str,
        continuation: Option<&str>,
    ) -> Result<(), StoreError> {
        let id = format!("{}..{range}", self.prefix);
        let lease = json!({
            "id": id,
            "version": 0,
            "LeaseToken": range,
            "Owner": null,
            "ContinuationToken": continuation,
            "properties": {},
            "timestamp": self.timestamp(),
            "Mode": "Incremental Feed",
        });
        let key = json!([id]).to_string();
        let headers = [("x-ms-documentdb-partitionkey", key.as_str())];
        match self.send(Method::POST, None, &headers, lease.to_string()).await {
            Err(error) if !error.is(StatusCode::CONFLICT) => Err(error),
            // Another host was faster.
            _ => Ok(()),
        }
    }

    /// Takes `lease` from whoever has it. `None` when somebody else has written it since.
    pub(super) async fn take(&self, mut lease: Lease) -> Result<Option<Lease>, StoreError> {
        lease.document.insert("Owner".to_owned(), json!(&*self.me));
        lease.document.insert("timestamp".to_owned(), json!(self.timestamp()));
        match self.replace(&lease).await {
            Ok(lease) => Ok(Some(lease)),
            Err(error) if overtaken(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes `change` into a lease that is held here.
    pub(super) async fn write(&self, lease: &mut Lease, change: &Change) -> Result<(), LeaseError> {
        for _ in 0..CONFLICTS_MAX {
            let mut next = lease.clone();
            next.document.insert("timestamp".to_owned(), json!(self.timestamp()));
            match change {
                Change::Renewed => {}
                Change::Checkpoint(continuation) => {
                    next.document.insert("ContinuationToken".to_owned(), json!(continuation));
                }
                Change::Released => {
                    next.document.insert("Owner".to_owned(), Value::Null);
                }
            }
            match self.replace(&next).await {
                Ok(written) => {
                    *lease = written;
                    return Ok(());
                }
                Err(error) if overtaken(&error) => *lease = self.still_held(lease).await?,
                Err(error) => return Err(error.into()),
            }
        }
        Err(LeaseError::Lost)
    }

    /// The lease as it is now, if it is held here. A write of ours whose answer was lost is no
    /// reason to give up the lease.
    async fn still_held(&self, lease: &Lease) -> Result<Lease, LeaseError> {
        let key = json!([lease.id()]).to_string();
        let headers = [("x-ms-documentdb-partitionkey", key.as_str())];
        match self.send(Method::GET, Some(lease.id()), &headers, "").await {
            Ok(answer) => {
                let lease = Lease { document: answer.object()? };
                if lease.owner() == Some(&*self.me) { Ok(lease) } else { Err(LeaseError::Lost) }
            }
            Err(error) if overtaken(&error) => Err(LeaseError::Lost),
            Err(error) => Err(error.into()),
        }
    }

    async fn replace(&self, lease: &Lease) -> Result<Lease, StoreError> {
        let key = json!([lease.id()]).to_string();
        let headers = [
            ("x-ms-documentdb-partitionkey", key.as_str()),
            ("if-match", lease.text("_etag").unwrap_or_default()),
        ];
        let body = Value::Object(lease.document.clone()).to_string();
        let answer = self.send(Method::PUT, Some(lease.id()), &headers, body).await?;
        Ok(Lease { document: answer.object()? })
    }

    async fn send(
        &self,
        method: Method,
        id: Option<&str>,
        headers: &[(&'static str, &str)],
        body: impl Into<bytes::Bytes> + Send,
    ) -> Result<Answer, StoreError> {
        let ContainerAddress { database, container, .. } = &*self.address;
        let mut path = vec!["dbs", database, "colls", container, "docs"];
        path.extend(id);
        self.account.send(method, &path, headers, body).await
    }

    fn timestamp(&self) -> String {
        date_time_with_fraction(self.log.now())
    }
}

/// Somebody else has written or removed the document.
fn overtaken(error: &StoreError) -> bool {
    error.is(StatusCode::PRECONDITION_FAILED) || error.is(StatusCode::NOT_FOUND)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn a_lease_expires_by_its_timestamp() {
        let lease = Lease::from_document;
        let expiration = Duration::from_secs(60);
        let written = lease(json!({ "timestamp": "2026-03-01T10:00:00.1234567Z", "Owner": "" }));
        assert!(!written.is_expired(expiration, datetime!(2026-03-01 10:01 UTC)));
        assert!(written.is_expired(expiration, datetime!(2026-03-01 10:01:01 UTC)));
        assert_eq!((written.owner(), written.continuation()), (None, None));
        for unreadable in [json!({}), json!({ "timestamp": "soon" }), json!({ "timestamp": 3 })] {
            assert!(lease(unreadable).is_expired(expiration, datetime!(2026-03-01 10:00 UTC)));
        }
    }
}
