//! Money in minor units: integers, checked, never a float.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

use crate::limits::{TOTAL_MINOR_MAX, UNIT_PRICE_MINOR_MAX};

/// A currency by its ISO 4217 code: three upper-case letters.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Currency([u8; 3]);

/// The text is not three upper-case letters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a currency is an ISO 4217 code of three upper-case letters, such as EUR")]
pub struct CurrencyError;

impl Currency {
    /// Reads a code.
    ///
    /// # Errors
    /// The text is not three upper-case ASCII letters.
    pub fn parse(text: &str) -> Result<Self, CurrencyError> {
        match text.as_bytes() {
            &[a, b, c] if [a, b, c].iter().all(u8::is_ascii_uppercase) => Ok(Self([a, b, c])),
            _ => Err(CurrencyError),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|&letter| fmt::Write::write_char(f, char::from(letter)))
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// The sum of `(quantity, unit price in minor units)` lines, or `None` when it would exceed
/// [`TOTAL_MINOR_MAX`].
pub fn total_minor(lines: impl IntoIterator<Item = (u32, u64)>) -> Option<u64> {
    lines
        .into_iter()
        .try_fold(0_u64, |sum, (quantity, unit)| {
            sum.checked_add(unit.checked_mul(u64::from(quantity))?)
        })
        .filter(|&total| total <= TOTAL_MINOR_MAX)
}

/// Whether a unit price is one that can be charged: above zero and at most
/// [`UNIT_PRICE_MINOR_MAX`].
#[must_use]
pub fn is_chargeable(unit_price_minor: u64) -> bool {
    (1..=UNIT_PRICE_MINOR_MAX).contains(&unit_price_minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_exact_or_refused() {
        assert_eq!(total_minor([(2, 1_290), (1, 5)]), Some(2_585));
        assert_eq!(total_minor([]), Some(0));
        assert_eq!(total_minor([(u32::MAX, u64::MAX)]), None);
        assert_eq!(total_minor([(1, TOTAL_MINOR_MAX)]), Some(TOTAL_MINOR_MAX));
        assert_eq!(total_minor([(1, TOTAL_MINOR_MAX), (1, 1)]), None);
        assert!(Currency::parse("EUR").is_ok());
        assert!(["", "eur", "EURO", "E1R", "€"].iter().all(|code| Currency::parse(code).is_err()));
    }
}
