//! Why an invocation failed.

use std::error::Error;
use std::fmt;

/// Why an invocation failed. It is answered as 500, so that the host abandons the message and the
/// broker delivers it again; it is logged once, here, at the boundary; and it says nothing to
/// whoever may read the answer but its type.
///
/// Every error converts, with its chain of causes printed into the message, so that `?` works in
/// a function. For that reason `Failure` is not itself an [`Error`].
///
/// ```
/// # use handler::Failure;
/// fn quantity(text: &str) -> Result<u32, Failure> {
///     let quantity = text.parse()?;
///     if quantity == 0 {
///         return Err(Failure::new("empty-order", "an order needs at least one item"));
///     }
///     Ok(quantity)
/// }
/// assert_eq!(quantity("0").unwrap_err().error_type(), "empty-order");
/// assert_eq!(quantity("x").unwrap_err().message(), "invalid digit found in string");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    error_type: &'static str,
    message: String,
}

impl Failure {
    /// A failure of a type that stays the same however the message is worded.
    pub fn new(error_type: &'static str, message: impl Into<String>) -> Self {
        Self { error_type, message: message.into() }
    }

    /// A stable name to search and to count by: the one given, or the Rust type of the error.
    #[must_use]
    pub fn error_type(&self) -> &'static str {
        self.error_type
    }

    /// What happened, for the log.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        let mut message = error.to_string();
        let mut source = error.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Some errors repeat their cause in their own text.
            if !message.ends_with(&cause_text) {
                message.push_str(": ");
                message.push_str(&cause_text);
            }
            source = cause.source();
        }
        Self { error_type: std::any::type_name::<E>(), message }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.error_type, self.message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the order was not stored")]
    struct NotStored(#[source] Refused);

    #[derive(Debug, thiserror::Error)]
    #[error("the store refused it: {0}")]
    struct Refused(#[source] std::num::ParseIntError);

    #[test]
    fn the_chain_is_printed_once() {
        let failure = Failure::from(NotStored(Refused("x".parse::<u8>().unwrap_err())));
        assert_eq!(
            failure.message(),
            "the order was not stored: the store refused it: invalid digit found in string"
        );
        assert!(failure.error_type().ends_with("NotStored"));
    }
}
