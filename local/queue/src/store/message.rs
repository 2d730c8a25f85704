//! A message and the receipt for it.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use uuid::Uuid;

/// A message with its state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its id.
    pub id: Uuid,
    /// Position among all messages of the account.
    pub number: u64,
    /// What was put. Usually Base64, which is the client's business.
    #[serde(with = "shared_text")]
    pub text: Arc<str>,
    /// When it was put, epoch milliseconds.
    pub inserted_at_ms: u64,
    /// When its life ends, epoch milliseconds; `None` for never.
    pub expires_at_ms: Option<u64>,
    /// From when on it can be taken, epoch milliseconds.
    pub visible_at_ms: u64,
    /// How often it has been handed out.
    pub dequeue_count: u64,
    /// The only receipt that counts.
    pub receipt: Receipt,
}

impl Message {
    /// Whether its life is over.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at| at <= now_ms)
    }
}

/// Proof that a message was handed out to whoever shows it, and not to anybody since.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Receipt {
    /// The run of the service that gave it.
    pub incarnation: u64,
    /// The commit that gave it.
    pub commit: u64,
    /// Which of the receipts of that commit it is.
    pub index: u32,
}

/// The text was never given out as a receipt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the pop receipt is malformed")]
pub struct InvalidReceipt;

/// Bytes of a receipt before Base64.
const RECEIPT_BYTES: usize = 20;

impl Receipt {
    /// Reads what [`fmt::Display`] wrote.
    ///
    /// # Errors
    /// [`InvalidReceipt`].
    pub fn parse(text: &str) -> Result<Self, InvalidReceipt> {
        let bytes = STANDARD.decode(text).map_err(|_| InvalidReceipt)?;
        let bytes: [u8; RECEIPT_BYTES] = bytes.try_into().map_err(|_| InvalidReceipt)?;
        let number = |range: std::ops::Range<usize>| {
            bytes[range].iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
        };
        let index = u32::try_from(number(16..20)).map_err(|_| InvalidReceipt)?;
        Ok(Self { incarnation: number(0..8), commit: number(8..16), index })
    }
}

impl fmt::Display for Receipt {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = Vec::with_capacity(RECEIPT_BYTES);
        bytes.extend(self.incarnation.to_be_bytes());
        bytes.extend(self.commit.to_be_bytes());
        bytes.extend(self.index.to_be_bytes());
        formatter.write_str(&STANDARD.encode(bytes))
    }
}

/// Shared text as a string, without the `rc` feature of serde, which would be everybody's.
pub(super) mod shared_text {
    use std::sync::Arc;

    use serde::{Deserialize as _, Deserializer, Serializer};

    pub(in crate::store) fn serialize<S: Serializer>(
        text: &Arc<str>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(in crate::store) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Arc<str>, D::Error> {
        String::deserialize(deserializer).map(Arc::from)
    }

    /// The same for a text that may be missing.
    pub(in crate::store) mod optional {
        use std::sync::Arc;

        use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};

        pub(in crate::store) fn serialize<S: Serializer>(
            text: &Option<Arc<str>>,
            serializer: S,
        ) -> Result<S::Ok, S::Error> {
            text.as_deref().serialize(serializer)
        }

        pub(in crate::store) fn deserialize<'de, D: Deserializer<'de>>(
            deserializer: D,
        ) -> Result<Option<Arc<str>>, D::Error> {
            Ok(Option::<String>::deserialize(deserializer)?.map(Arc::from))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn receipts_survive_the_wire() {
        let receipt = Receipt { incarnation: u64::MAX - 1, commit: 1 << 40, index: 31 };
        assert_eq!(Receipt::parse(&receipt.to_string()), Ok(receipt));
        for text in ["", "x", "AAAA", "not base64 at all!"] {
            assert_eq!(Receipt::parse(text), Err(InvalidReceipt), "{text}");
        }
    }
}
