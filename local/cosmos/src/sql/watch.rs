//! What an evaluation may grow to, and whether it did.

use std::cell::Cell;

use serde_json::Value;
use thiserror::Error;

use crate::limits::{MAX_BUILT_BYTES, MAX_ROWS_PER_DOCUMENT, MAX_STRING_RESULT_BYTES};

/// A limit of evaluation that was exceeded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Exceeded {
    /// See [`MAX_ROWS_PER_DOCUMENT`].
    #[error("the query makes more than {MAX_ROWS_PER_DOCUMENT} rows of one item")]
    Rows,
    /// See [`MAX_STRING_RESULT_BYTES`].
    #[error("the query makes a string of more than {MAX_STRING_RESULT_BYTES} bytes")]
    String,
    /// See [`MAX_BUILT_BYTES`].
    #[error("the query makes arrays and objects of more than {MAX_BUILT_BYTES} bytes of one row")]
    Built,
}

/// Notes the first limit that an evaluation exceeded.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    exceeded: Cell<Option<Exceeded>>,
    /// Bytes of the values that were put together for the row so far.
    built: Cell<usize>,
}

impl Watch {
    pub(super) fn note(&self, exceeded: Exceeded) {
        self.exceeded.set(self.exceeded.get().or(Some(exceeded)));
    }

    /// Begins another row; what was built for the last one is gone or held elsewhere.
    pub(crate) fn next_row(&self) {
        self.built.set(0);
    }

    /// Counts what is being built; whether it may be.
    pub(crate) fn builds(&self, bytes: usize) -> bool {
        let built = self.built.get().saturating_add(bytes);
        self.built.set(built);
        if built > MAX_BUILT_BYTES {
            self.note(Exceeded::Built);
        }
        built <= MAX_BUILT_BYTES
    }

    /// A copy of `value` for something that is being built; `None` when that has grown too large.
    pub(super) fn copy(&self, value: &Value) -> Option<Value> {
        self.builds(value_bytes(value)).then(|| value.clone())
    }

    /// Whether everything so far was within the limits.
    ///
    /// # Errors
    /// [`Exceeded`] when it was not, and results are worthless.
    pub(crate) fn verdict(&self) -> Result<(), Exceeded> {
        self.exceeded.get().map_or(Ok(()), Err)
    }
}

/// About what a value takes in memory.
pub(crate) fn value_bytes(value: &Value) -> usize {
    size_of::<Value>()
        + match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.len(),
            Value::Array(elements) => elements.iter().map(value_bytes).sum(),
            Value::Object(properties) => {
                properties.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
            }
        }
}
