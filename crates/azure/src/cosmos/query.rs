//! A query: text, named parameters, and the partitions it runs over.
//!
//! Language: <https://learn.microsoft.com/cosmos-db/query/overview>. Within one partition the text
//! goes to the service as it is. Across partitions the driver plans it, which leaves out
//! aggregates and `GROUP BY`.

use std::num::NonZeroU32;

use azure_data_cosmos_driver::models::{FeedRange, MaxItemCountHint, PartitionKeyDefinition};
use serde::Serialize;
use serde_json::Value;

/// Page size that is never exceeded, whatever limit a caller names: a page is held in memory.
const PAGE_ITEMS_MAX: u32 = 1000;

/// A query text and its parameters.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Query {
    #[serde(rename = "query")]
    text: String,
    parameters: Vec<Parameter>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
struct Parameter {
    name: String,
    value: Value,
}

impl Query {
    /// A query without parameters, e.g. `SELECT * FROM c WHERE c.type = @type`.
    pub fn new(text: impl Into<String>) -> Self {
        Self { text: text.into(), parameters: Vec::new() }
    }

    /// Gives `name` (which starts with `@`) a value.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.parameters.push(Parameter { name: name.into(), value: value.into() });
        self
    }
}

/// Which partitions a query looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The documents with this partition key.
    Partition(String),
    /// All documents of the container.
    All,
}

impl Scope {
    pub(crate) fn feed_range(&self, definition: &PartitionKeyDefinition) -> FeedRange {
        match self {
            Self::Partition(key) => FeedRange::for_partition(key.clone().into(), definition),
            Self::All => FeedRange::full(),
        }
    }
}

/// One page of results.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    /// The results, in query order. After the last result of all partitions there may be one more
    /// page, which is empty.
    pub items: Vec<T>,
    /// Where the next page starts; `None` when there is none. Opaque, and good for the same query
    /// only. Holds no secret, so that a client may keep it.
    pub continuation: Option<String>,
}

pub(crate) fn page_size(limit: usize) -> MaxItemCountHint {
    let limit = u32::try_from(limit).unwrap_or(PAGE_ITEMS_MAX).clamp(1, PAGE_ITEMS_MAX);
    NonZeroU32::new(limit).map_or(MaxItemCountHint::ServerDecides, MaxItemCountHint::Limit)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_wire_form_is_that_of_the_service() {
        let query = Query::new("SELECT * FROM c WHERE c.type = @type AND c.n > @n")
            .with("@type", "order")
            .with("@n", 3);
        assert_eq!(
            serde_json::to_value(query).unwrap(),
            json!({
                "query": "SELECT * FROM c WHERE c.type = @type AND c.n > @n",
                "parameters": [{"name": "@type", "value": "order"}, {"name": "@n", "value": 3}],
            })
        );
    }

    #[test]
    fn pages_are_bounded() {
        let size = |limit| match page_size(limit) {
            MaxItemCountHint::Limit(limit) => limit.get(),
            other => panic!("{other:?}"),
        };
        assert_eq!([size(0), size(20), size(1000), size(usize::MAX)], [1, 20, 1000, 1000]);
    }
}
