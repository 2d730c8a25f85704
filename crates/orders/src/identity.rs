//! The names of things: orders, customers, stock-keeping units. Parsed once, at the edge, and from
//! then on known to be safe as document ids, partition keys, index keys and path segments.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, de};
use uuid::Uuid;

use crate::limits::{CUSTOMER_ID_CHARS_MAX, SKU_CHARS_MAX};

/// Why a name was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// No characters at all.
    #[error("must not be empty")]
    Empty,
    /// More characters than allowed.
    #[error("must have at most {max} characters")]
    TooLong {
        /// The bound that was exceeded, in characters.
        max: usize,
    },
    /// A character outside the allowed set.
    #[error("may hold only {allowed}")]
    Characters {
        /// The allowed set, for a person.
        allowed: &'static str,
    },
}

impl NameError {
    /// Stable reason for [`crate::FieldError::code`].
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Empty => "empty",
            Self::TooLong { .. } => "too_long",
            Self::Characters { .. } => "invalid_characters",
        }
    }
}

fn check(
    text: &str,
    max: usize,
    allowed: &'static str,
    allows: impl Fn(char) -> bool,
) -> Result<(), NameError> {
    if text.is_empty() {
        return Err(NameError::Empty);
    }
    if text.chars().count() > max {
        return Err(NameError::TooLong { max });
    }
    if !text.chars().all(allows) {
        return Err(NameError::Characters { allowed });
    }
    Ok(())
}

macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident, $max:expr, $allowed:literal, $allows:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Reads a name.
            ///
            /// # Errors
            /// The text is empty, too long, or holds a character outside the allowed set.
            pub fn parse(text: &str) -> Result<Self, NameError> {
                check(text, $max, $allowed, $allows)?;
                Ok(Self(text.to_owned()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
            }
        }
    };
}

text_name!(
    /// Who ordered: 1 to 64 letters, digits or `- _ . @ : +`. Covers e-mail addresses, UUIDs and
    /// Entra object ids.
    CustomerId,
    CUSTOMER_ID_CHARS_MAX,
    "ASCII letters, digits and - _ . @ : +",
    |c| c.is_ascii_alphanumeric() || "-_.@:+".contains(c)
);

text_name!(
    /// A stock-keeping unit: 1 to 64 letters, digits or `- _ .`.
    Sku,
    SKU_CHARS_MAX,
    "ASCII letters, digits and - _ .",
    |c| c.is_ascii_alphanumeric() || "-_.".contains(c)
);

/// The name of an order: a UUID in its lower-case hyphenated form. Version 5 when derived from an
/// idempotency key, version 7 when the client sent none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct OrderId(Uuid);

impl OrderId {
    /// Wraps a UUID that the caller minted.
    #[must_use]
    pub fn from_uuid(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl FromStr for OrderId {
    type Err = OrderIdError;

    /// Reads the canonical form only: one order has exactly one URL.
    fn from_str(text: &str) -> Result<Self, OrderIdError> {
        let uuid = Uuid::try_parse(text).map_err(|_| OrderIdError)?;
        let mut buffer = Uuid::encode_buffer();
        if uuid.hyphenated().encode_lower(&mut buffer) == text {
            Ok(Self(uuid))
        } else {
            Err(OrderIdError)
        }
    }
}

/// The text is no lower-case hyphenated UUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an order id is a UUID in lower case with hyphens")]
pub struct OrderIdError;

impl fmt::Display for OrderId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl<'de> Deserialize<'de> for OrderId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bounded_and_safe_everywhere_they_travel() {
        assert!(CustomerId::parse("alice+test@example.org").is_ok());
        assert_eq!(CustomerId::parse(""), Err(NameError::Empty));
        assert_eq!(CustomerId::parse(&"c".repeat(300)), Err(NameError::TooLong { max: 64 }));
        assert!(CustomerId::parse(&"c".repeat(64)).is_ok());
        for unsafe_name in ["a b", "a/b", "a?b", "a#b", "a\\b", "a\u{0}b", "é", "a'b", "a\"b"] {
            assert!(CustomerId::parse(unsafe_name).is_err(), "{unsafe_name:?}");
            assert!(Sku::parse(unsafe_name).is_err(), "{unsafe_name:?}");
        }
    }

    #[test]
    fn an_order_has_exactly_one_spelling() {
        let text = "01890a5d-ac96-774b-bcce-b302099a8057";
        assert_eq!(text.parse::<OrderId>().unwrap().to_string(), text);
        for other in [
            "01890A5D-AC96-774B-BCCE-B302099A8057",
            "01890a5dac96774bbcceb302099a8057",
            "{01890a5d-ac96-774b-bcce-b302099a8057}",
            "urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057",
            "",
            "orders",
        ] {
            assert_eq!(other.parse::<OrderId>(), Err(OrderIdError), "{other}");
        }
    }
}
