//! Where a query left off, as the opaque text that clients send back.

use serde::{Deserialize, Serialize};

use super::super::StoreError;

/// The state after a page.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Continuation {
    /// How candidates were found; see [`super::access::Access::tag`].
    #[serde(rename = "a")]
    pub(super) access: char,
    /// Results returned so far, for TOP, LIMIT and materialised results.
    #[serde(rename = "t")]
    pub(super) taken: usize,
    /// Sort key of the last result, in hexadecimal.
    #[serde(rename = "k")]
    key: String,
    /// Number of the document of the last result.
    #[serde(rename = "n")]
    pub(super) number: u64,
    /// Which row of that document it was.
    #[serde(rename = "r")]
    pub(super) row: u32,
}

impl Continuation {
    pub(super) fn new(access: char, taken: usize, key: &[u8], number: u64, row: u32) -> Self {
        let key = key.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { access, taken, key, number, row }
    }

    pub(super) fn key(&self) -> Vec<u8> {
        super::super::epk_from_hex(&self.key).unwrap_or_default()
    }

    pub(super) fn parse(text: &str) -> Result<Self, StoreError> {
        let parsed: Self = serde_json::from_str(text)
            .map_err(|_| StoreError::bad("the continuation token is malformed"))?;
        match super::super::epk_from_hex(&parsed.key) {
            Some(_) => Ok(parsed),
            None => Err(StoreError::bad("the continuation token is malformed")),
        }
    }

    pub(super) fn text(&self) -> String {
        // A struct of numbers and ASCII strings cannot fail to serialise.
        serde_json::to_string(self).unwrap_or_default()
    }
}
