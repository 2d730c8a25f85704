//! The change feed of one partition key range, page by page.
//!
//! Specified by <https://learn.microsoft.com/rest/api/cosmos-db/list-documents> (`A-IM`).

use std::sync::Arc;

use http::{Method, StatusCode};
use time::OffsetDateTime;

use super::account::{Account, StoreError};
use super::sign::http_date;
use crate::config::cosmos::{ContainerAddress, FirstStart};

/// Where to go on reading.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Position {
    Beginning,
    Now,
    Time(OffsetDateTime),
    /// After what the store has named so.
    After(String),
}

impl From<FirstStart> for Position {
    fn from(start: FirstStart) -> Self {
        match start {
            FirstStart::Now => Self::Now,
            FirstStart::Beginning => Self::Beginning,
            FirstStart::Time(time) => Self::Time(time),
        }
    }
}

/// What a poll brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    /// The changed documents: a JSON array, as the store has written it.
    pub(super) documents: String,
    pub(super) count: usize,
    /// The position after them.
    pub(super) next: String,
}

/// The feed of a monitored container. Cheap to clone.
#[derive(Clone)]
pub(super) struct Feed {
    pub(super) account: Account,
    pub(super) address: Arc<ContainerAddress>,
    /// Resource id of the container: one of the same name that was created anew is another one.
    pub(super) rid: Arc<str>,
    pub(super) max_items: Option<u32>,
}

impl Feed {
    /// The next changes of `range`; `count` is 0 when there are none.
    pub(super) async fn poll(&self, range: &str, from: &Position) -> Result<Page, StoreError> {
        let max_items = self.max_items.map_or_else(|| "-1".to_owned(), |most| most.to_string());
        let mut headers = vec![
            ("a-im", "Incremental Feed"),
            ("x-ms-documentdb-partitionkeyrangeid", range),
            ("x-ms-cosmos-intended-collection-rid", &*self.rid),
            ("x-ms-max-item-count", &max_items),
        ];
        let since;
        match from {
            Position::Beginning => {}
            Position::Now => headers.push(("if-none-match", "*")),
            Position::Time(time) => {
                since = http_date(*time);
                headers.push(("if-modified-since", &since));
            }
            Position::After(etag) => headers.push(("if-none-match", etag)),
        }
        let ContainerAddress { database, container, .. } = &*self.address;
        let path = ["dbs", database, "colls", container, "docs"];
        let answer = self.account.send(Method::GET, &path, &headers, "").await?;
        let next = answer.header("etag").ok_or(StoreError::Unreadable("etag"))?.to_owned();
        if answer.status == StatusCode::NOT_MODIFIED {
            return Ok(Page { documents: "[]".to_owned(), count: 0, next });
        }
        let (documents, count) = answer.list("Documents")?;
        Ok(Page { documents, count, next })
    }
}

/// Whether polling again cannot help: the range was split, or the container is another one.
pub(super) fn is_stale(error: &StoreError) -> bool {
    // 400: the resource id, or a position, is not that of this container.
    [StatusCode::GONE, StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST]
        .iter()
        .any(|status| error.is(*status))
}
