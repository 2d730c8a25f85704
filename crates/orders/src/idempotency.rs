//! One order per (customer, idempotency key), with no record besides the order itself.
//!
//! The order id is *derived* from the pair, so a repeated request tries to create the same
//! document and meets a conflict; the stored payload hash then says whether it is the same request
//! (answer as before) or another one under a used key (refuse). There is no window in which the
//! key is known and the order is not. Header: IETF draft `idempotency-key-header`.

use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::identity::NameError;
use crate::limits::IDEMPOTENCY_KEY_CHARS_MAX;
use crate::{CustomerId, OrderId};

/// The namespace of derived order ids (RFC 9562 §5.5). Changing it would give every past key a new
/// order.
const NAMESPACE: Uuid = Uuid::from_u128(0x8a4b_6f0e_2c1d_5e3f_9a7b_0d1c_2e3f_4a5b);

/// A client's name for one intended order: 1 to 128 visible ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey(String);

impl IdempotencyKey {
    /// Reads a header value. The quotes of a structured-field string are accepted and removed.
    ///
    /// # Errors
    /// Empty, too long, or not visible ASCII.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let bare = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text);
        if bare.is_empty() {
            return Err(NameError::Empty);
        }
        if !bare.chars().all(|c| c.is_ascii_graphic()) {
            return Err(NameError::Characters { allowed: "visible ASCII characters" });
        }
        if bare.len() > IDEMPOTENCY_KEY_CHARS_MAX {
            return Err(NameError::TooLong { max: IDEMPOTENCY_KEY_CHARS_MAX });
        }
        Ok(Self(bare.to_owned()))
    }

    /// The order that this customer means by this key.
    #[must_use]
    pub fn order_id(&self, customer: &CustomerId) -> OrderId {
        // A customer id cannot hold a newline, so no two pairs share one text.
        let pair = format!("{customer}\n{}", self.0);
        OrderId::from_uuid(Uuid::new_v5(&NAMESPACE, pair.as_bytes()))
    }
}

/// What a repeated request under a used key means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The same request again: answer as the first time.
    Replay,
    /// Another request under a used key: refuse.
    Mismatch,
}

/// Judges a request against the order that already exists under its id.
#[must_use]
pub fn judge(stored_payload_hash: &str, payload_hash: &str) -> Verdict {
    if stored_payload_hash == payload_hash { Verdict::Replay } else { Verdict::Mismatch }
}

/// Lower-case hexadecimal SHA-256 of the canonical form of a request.
pub(crate) fn payload_hash(canonical: &[u8]) -> String {
    use std::fmt::Write as _;
    Sha256::digest(canonical).iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_id_depends_on_customer_and_key_and_nothing_else() {
        let [alice, bob] = ["alice", "bob"].map(|name| CustomerId::parse(name).unwrap());
        let key = IdempotencyKey::parse("k-1").unwrap();
        assert_eq!(key.order_id(&alice), key.order_id(&alice));
        assert_ne!(key.order_id(&alice), key.order_id(&bob));
        assert_ne!(key.order_id(&alice), IdempotencyKey::parse("k-2").unwrap().order_id(&alice));
        assert_eq!(IdempotencyKey::parse("\"k-1\"").unwrap(), key);
        // Pinned: a change of the derivation would double every order whose client retries.
        assert_eq!(key.order_id(&alice).to_string(), "bb9a6b13-6d81-52b7-b8ba-fd446133bc94");
    }

    #[test]
    fn keys_are_bounded() {
        for bad in ["", "\"\"", "a b", "ü", &"k".repeat(129)] {
            assert!(IdempotencyKey::parse(bad).is_err(), "{bad:?}");
        }
        assert!(IdempotencyKey::parse(&"k".repeat(128)).is_ok());
    }
}
