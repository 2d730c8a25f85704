//! Partial update of one document, with an optional condition: compare-and-set on any property.
//!
//! Wire form: <https://learn.microsoft.com/azure/cosmos-db/partial-document-update>. The patch is
//! always applied by the service in one request; the client-side read-modify-write of the SDK,
//! which leaves a tracking property in the document, is never used.

use serde::Serialize;
use serde_json::{Number, Value};

use super::{container::Document, error::StoreError};

/// The service accepts no more operations in one patch.
pub(crate) const PATCH_OPERATIONS_MAX: usize = 10;

/// One change to one document. Paths are JSON Pointers (RFC 6901), e.g. `/status/billing`; all but
/// the last segment must exist.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum PatchOperation {
    /// Sets a property; in an array, inserts before the index, or appends at `-`.
    Add {
        /// Where.
        path: String,
        /// What.
        value: Value,
    },
    /// Sets a property; in an array, overwrites the index.
    Set {
        /// Where.
        path: String,
        /// What.
        value: Value,
    },
    /// Sets a property that must exist.
    Replace {
        /// Where.
        path: String,
        /// What.
        value: Value,
    },
    /// Removes a property that must exist.
    Remove {
        /// Where.
        path: String,
    },
    /// Adds to a number; a missing property counts as zero.
    #[serde(rename = "incr")]
    Increment {
        /// Where.
        path: String,
        /// How much; negative to subtract.
        value: Number,
    },
    /// Moves a property that must exist.
    Move {
        /// From where.
        from: String,
        /// To where.
        path: String,
    },
}

/// Changes to one document, applied together or not at all.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Patch {
    /// One to ten operations, applied in order.
    pub operations: Vec<PatchOperation>,
    /// `FROM <alias> WHERE <expression>`, evaluated on the current document. Takes no parameters:
    /// put values in with [`literal`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
}

impl Patch {
    /// A patch without operations, to be built with the methods below.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds [`PatchOperation::Set`].
    #[must_use]
    pub fn set(self, path: impl Into<String>, value: impl Into<Value>) -> Self {
        self.with(PatchOperation::Set { path: path.into(), value: value.into() })
    }

    /// Adds [`PatchOperation::Add`].
    #[must_use]
    pub fn add(self, path: impl Into<String>, value: impl Into<Value>) -> Self {
        self.with(PatchOperation::Add { path: path.into(), value: value.into() })
    }

    /// Adds [`PatchOperation::Replace`].
    #[must_use]
    pub fn replace(self, path: impl Into<String>, value: impl Into<Value>) -> Self {
        self.with(PatchOperation::Replace { path: path.into(), value: value.into() })
    }

    /// Adds [`PatchOperation::Remove`].
    #[must_use]
    pub fn remove(self, path: impl Into<String>) -> Self {
        self.with(PatchOperation::Remove { path: path.into() })
    }

    /// Adds [`PatchOperation::Increment`].
    #[must_use]
    pub fn increment(self, path: impl Into<String>, by: i64) -> Self {
        self.with(PatchOperation::Increment { path: path.into(), value: by.into() })
    }

    /// Adds [`PatchOperation::Move`].
    #[must_use]
    pub fn rename(self, from: impl Into<String>, path: impl Into<String>) -> Self {
        self.with(PatchOperation::Move { from: from.into(), path: path.into() })
    }

    /// Sets the condition, e.g. `FROM c WHERE c.status.billing = 'pending'`.
    #[must_use]
    pub fn when(mut self, condition: impl Into<String>) -> Self {
        self.condition = Some(condition.into());
        self
    }

    fn with(mut self, operation: PatchOperation) -> Self {
        self.operations.push(operation);
        self
    }

    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match self.operations.len() {
            0 => Err(StoreError::Limit { reason: "a patch needs at least one operation" }),
            1..=PATCH_OPERATIONS_MAX => Ok(()),
            _ => Err(StoreError::Limit { reason: "a patch holds at most 10 operations" }),
        }
    }
}

/// How a patch ended.
#[derive(Clone, Debug, PartialEq)]
pub enum PatchOutcome<T> {
    /// Done; the document as it is now.
    Applied(Document<T>),
    /// The condition does not hold. Nothing was changed.
    ConditionFailed,
    /// There is no such document.
    NotFound,
}

/// A string literal of the query language: quoted, with everything inside escaped.
///
/// Conditions have no parameters, so this is what stands between a value and the statement.
pub fn literal(value: &str) -> String {
    // The grammar's escapes are those of JSON, and it takes double quotes as well as single ones.
    Value::from(value).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_wire_form_is_that_of_the_service() {
        let patch = Patch::new()
            .set("/status/billing", "done")
            .add("/history/-", json!({"at": 1}))
            .replace("/overall", "completed")
            .remove("/lease")
            .increment("/attempts", -2)
            .rename("/a", "/b")
            .when("FROM c WHERE c.status.billing = \"processing\"");
        assert_eq!(
            serde_json::to_string(&patch).unwrap(),
            concat!(
                r#"{"operations":[{"op":"set","path":"/status/billing","value":"done"},"#,
                r#"{"op":"add","path":"/history/-","value":{"at":1}},"#,
                r#"{"op":"replace","path":"/overall","value":"completed"},"#,
                r#"{"op":"remove","path":"/lease"},"#,
                r#"{"op":"incr","path":"/attempts","value":-2},"#,
                r#"{"op":"move","from":"/a","path":"/b"}],"#,
                r#""condition":"FROM c WHERE c.status.billing = \"processing\""}"#,
            )
        );
        // No condition, no key: the service takes null for a malformed one.
        let bare = serde_json::to_value(Patch::new().remove("/a")).unwrap();
        assert_eq!(bare, json!({"operations": [{"op": "remove", "path": "/a"}]}));
    }

    #[test]
    fn limits_are_checked_before_anything_is_sent() {
        assert!(matches!(Patch::new().check(), Err(StoreError::Limit { .. })));
        let full = (0..10).fold(Patch::new(), |patch, n| patch.set(format!("/p{n}"), n));
        assert!(full.check().is_ok());
        assert!(matches!(full.set("/p10", 10).check(), Err(StoreError::Limit { .. })));
    }

    #[test]
    fn literals_cannot_be_left() {
        assert_eq!(literal("pending"), r#""pending""#);
        assert_eq!(literal(r#"a" OR 1=1 --\"#), r#""a\" OR 1=1 --\\""#);
        assert_eq!(literal("it's\n"), "\"it's\\n\"");
    }
}
