//! One error per bad field of a request, addressed by JSON Pointer (RFC 6901).

use serde::Serialize;

/// What is wrong with one field.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FieldError {
    /// JSON Pointer to the field in the request body, for example `/items/0/quantity`; empty for
    /// the body as a whole.
    pub pointer: String,
    /// Stable, machine-readable reason, for example `out_of_range`.
    pub code: &'static str,
    /// The same for a person. Never repeats the value that was sent.
    pub detail: String,
}

impl FieldError {
    /// An error at `pointer`.
    pub fn new(pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code, detail: detail.into() }
    }
}

/// Escapes one member name for use in a JSON Pointer (RFC 6901 §3), cut to a length that a person
/// can read: the name may be anything that a client sent.
pub(crate) fn pointer_segment(name: &str) -> String {
    const CHARS_SHOWN_MAX: usize = 64;
    name.chars().take(CHARS_SHOWN_MAX).collect::<String>().replace('~', "~0").replace('/', "~1")
}
