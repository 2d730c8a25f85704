//! Reading lists in which a document may be spoilt, by hand or by another version.

use azure::cosmos::{Container, Query, Scope, StoreError};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tracing::error;

/// What a query has found.
#[derive(Debug)]
pub struct Readable<T> {
    /// What could be read.
    pub found: Vec<T>,
    /// Documents that the query gave, whether they could be read or not.
    pub of: usize,
}

/// At most `limit` results as `T`. A document that is no `T` is reported and left out: it must not
/// hide all others.
///
/// # Errors
/// The store did not answer.
pub(super) async fn readable<T: DeserializeOwned>(
    container: &Container,
    query: &Query,
    scope: Scope,
    limit: usize,
) -> Result<Readable<T>, StoreError> {
    let documents: Vec<Box<RawValue>> = container.query(query, scope, limit).await?;
    let found = documents.iter().filter_map(|document| one(document.get())).collect();
    Ok(Readable { found, of: documents.len() })
}

fn one<T: DeserializeOwned>(text: &str) -> Option<T> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    match serde_json::from_str(text) {
        Ok(document) => Some(document),
        Err(error) => {
            let id = serde_json::from_str::<Named>(text).map(|named| named.id).unwrap_or_default();
            error!(document.id = id, %error, "a document cannot be read, and is left out");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::one;

    #[test]
    fn a_spoilt_document_is_left_out() {
        assert_eq!(one::<u8>("7"), Some(7));
        assert_eq!(one::<u8>(r#"{"id": "order-1"}"#), None);
    }
}
