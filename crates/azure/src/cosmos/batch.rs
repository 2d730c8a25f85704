//! A transactional batch: up to a hundred operations on one partition, all or none.
//!
//! Wire form and status codes: 200 when everything was carried out; 207 when nothing was, with the
//! status of the operation at fault and 424 for all others:
//! <https://learn.microsoft.com/azure/cosmos-db/transactional-batch>.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::value::{RawValue, to_raw_value};

use super::{
    container::{Document, ETag},
    error::StoreError,
    patch::Patch,
};

/// The service accepts no more operations in one batch.
const BATCH_OPERATIONS_MAX: usize = 100;

/// "Failed dependency": not at fault, but not carried out either.
const FAILED_DEPENDENCY: u16 = 424;

/// One operation of a batch. Later operations see what earlier ones did.
#[derive(Debug)]
pub struct BatchOperation {
    kind: &'static str,
    id: Option<String>,
    /// An unencodable value is reported by [`super::Container::batch`], so that building a batch
    /// needs no error handling of its own.
    body: Option<Result<Box<RawValue>, serde_json::Error>>,
    if_match: Option<ETag>,
}

impl BatchOperation {
    /// Creates a document; fails with 409 when its id exists.
    pub fn create<T: Serialize + ?Sized>(value: &T) -> Self {
        Self { kind: "Create", id: None, body: Some(to_raw_value(value)), if_match: None }
    }

    /// Creates or replaces a document.
    pub fn upsert<T: Serialize + ?Sized>(value: &T) -> Self {
        Self { kind: "Upsert", id: None, body: Some(to_raw_value(value)), if_match: None }
    }

    /// Replaces a document; fails with 404 when it is missing.
    pub fn replace<T: Serialize + ?Sized>(id: impl Into<String>, value: &T) -> Self {
        let body = Some(to_raw_value(value));
        Self { kind: "Replace", id: Some(id.into()), body, if_match: None }
    }

    /// Patches a document; fails with 412 when the patch's condition does not hold and with 404
    /// when the document is missing.
    pub fn patch(id: impl Into<String>, patch: &Patch) -> Self {
        let body = Some(to_raw_value(patch));
        Self { kind: "Patch", id: Some(id.into()), body, if_match: None }
    }

    /// Deletes a document; fails with 404 when it is missing.
    pub fn delete(id: impl Into<String>) -> Self {
        Self { kind: "Delete", id: Some(id.into()), body: None, if_match: None }
    }

    /// Reads a document; fails with 404 when it is missing.
    pub fn read(id: impl Into<String>) -> Self {
        Self { kind: "Read", id: Some(id.into()), body: None, if_match: None }
    }

    /// Carries the operation out only on this version of the document; 412 otherwise.
    #[must_use]
    pub fn if_match(mut self, etag: ETag) -> Self {
        self.if_match = Some(etag);
        self
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct WireOperation<'a> {
    operation_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_body: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    if_match: Option<&'a str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireResult {
    status_code: u16,
    e_tag: Option<String>,
    resource_body: Option<Box<RawValue>>,
}

/// What became of one operation.
#[derive(Clone, Debug)]
pub struct OperationResult {
    /// HTTP status of the operation.
    pub status: u16,
    /// Version of the document after a write.
    pub etag: Option<ETag>,
    body: Option<Box<RawValue>>,
}

impl OperationResult {
    /// The document: of a read always, of a write when the service returns it.
    ///
    /// # Errors
    ///
    /// [`StoreError::Decode`] when the document is not a `T`.
    pub fn document<T: DeserializeOwned>(&self) -> Result<Option<Document<T>>, StoreError> {
        let Some(body) = &self.body else { return Ok(None) };
        let value = serde_json::from_str(body.get()).map_err(StoreError::Decode)?;
        Ok(Some(Document { value, etag: self.etag.clone().unwrap_or_default() }))
    }
}

/// How a batch ended.
#[derive(Clone, Debug)]
pub enum BatchOutcome {
    /// Everything was carried out. One result per operation, in order.
    Committed(Vec<OperationResult>),
    /// Nothing was carried out.
    Rejected {
        /// Position of the operation at fault.
        index: usize,
        /// Its HTTP status, e.g. 409 for a create, 412 for a condition.
        status: u16,
        /// One result per operation, in order; 424 for those not at fault.
        results: Vec<OperationResult>,
    },
}

impl BatchOutcome {
    /// Whether everything was carried out.
    pub fn is_committed(&self) -> bool {
        matches!(self, Self::Committed(_))
    }
}

/// The request body.
pub(crate) fn encode(operations: &[BatchOperation]) -> Result<Vec<u8>, StoreError> {
    if operations.is_empty() {
        return Err(StoreError::Limit { reason: "a batch needs at least one operation" });
    }
    if operations.len() > BATCH_OPERATIONS_MAX {
        return Err(StoreError::Limit { reason: "a batch holds at most 100 operations" });
    }
    let mut wire = Vec::with_capacity(operations.len());
    for operation in operations {
        let resource_body = match &operation.body {
            None => None,
            Some(Ok(body)) => Some(body.as_ref()),
            Some(Err(error)) => {
                return Err(StoreError::Encode(serde::ser::Error::custom(error)));
            }
        };
        wire.push(WireOperation {
            operation_type: operation.kind,
            id: operation.id.as_deref(),
            resource_body,
            if_match: operation.if_match.as_ref().map(ETag::as_str),
        });
    }
    serde_json::to_vec(&wire).map_err(StoreError::Encode)
}

/// The response body.
pub(crate) fn decode(body: &[u8]) -> Result<BatchOutcome, StoreError> {
    let wire: Vec<WireResult> = serde_json::from_slice(body).map_err(StoreError::Decode)?;
    let results: Vec<OperationResult> = wire
        .into_iter()
        .map(|result| OperationResult {
            status: result.status_code,
            etag: result.e_tag.map(ETag::from),
            body: result.resource_body,
        })
        .collect();
    let at_fault = results
        .iter()
        .position(|result| result.status >= 400 && result.status != FAILED_DEPENDENCY)
        .or_else(|| results.iter().position(|result| result.status >= 400));
    Ok(match at_fault {
        None => BatchOutcome::Committed(results),
        Some(index) => BatchOutcome::Rejected { index, status: results[index].status, results },
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_wire_form_is_that_of_the_service() {
        let patch = Patch::new().set("/n", 1).when("FROM c WHERE c.n = 0");
        let body = encode(&[
            BatchOperation::create(&json!({"id": "a"})),
            BatchOperation::upsert(&json!({"id": "b"})).if_match("\"7\"".into()),
            BatchOperation::replace("c", &json!({"id": "c"})),
            BatchOperation::patch("d", &patch),
            BatchOperation::delete("e"),
            BatchOperation::read("f"),
        ])
        .unwrap();
        assert_eq!(
            serde_json::from_slice::<Value>(&body).unwrap(),
            json!([
                {"operationType": "Create", "resourceBody": {"id": "a"}},
                {"operationType": "Upsert", "resourceBody": {"id": "b"}, "ifMatch": "\"7\""},
                {"operationType": "Replace", "id": "c", "resourceBody": {"id": "c"}},
                {"operationType": "Patch", "id": "d", "resourceBody": {
                    "operations": [{"op": "set", "path": "/n", "value": 1}],
                    "condition": "FROM c WHERE c.n = 0",
                }},
                {"operationType": "Delete", "id": "e"},
                {"operationType": "Read", "id": "f"},
            ])
        );
    }

    #[test]
    fn limits_and_unencodable_values_are_reported() {
        assert!(matches!(encode(&[]), Err(StoreError::Limit { .. })));
        let many: Vec<_> = (0..101).map(|n| BatchOperation::delete(n.to_string())).collect();
        assert!(matches!(encode(&many), Err(StoreError::Limit { .. })));
        let unencodable = std::collections::HashMap::from([(vec![1u8], 1)]);
        let result = encode(&[BatchOperation::create(&unencodable)]);
        assert!(matches!(result, Err(StoreError::Encode(_))));
    }

    #[test]
    fn a_rejection_names_the_operation_at_fault() {
        let rejected = decode(
            br#"[{"statusCode":424},{"statusCode":412,"requestCharge":1.0},{"statusCode":424}]"#,
        );
        assert!(matches!(rejected, Ok(BatchOutcome::Rejected { index: 1, status: 412, .. })));

        let committed = decode(
            br#"[{"statusCode":201,"eTag":"\"1\""},{"statusCode":200,"eTag":"\"2\"","resourceBody":{"n":5}}]"#,
        );
        let Ok(BatchOutcome::Committed(results)) = committed else { panic!("{committed:?}") };
        assert_eq!(results[0].etag, Some(ETag::from("\"1\"")));
        assert!(results[0].document::<Value>().unwrap().is_none());
        let read = results[1].document::<Value>().unwrap().unwrap();
        assert_eq!((read.value, read.etag), (json!({"n": 5}), ETag::from("\"2\"")));
        assert!(matches!(results[1].document::<Vec<u8>>(), Err(StoreError::Decode(_))));
        assert!(matches!(decode(b"nonsense"), Err(StoreError::Decode(_))));
    }
}
