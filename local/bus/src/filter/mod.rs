//! Subscription filters: which messages of a topic a subscription gets, and what they look like.
//!
//! SQL filters and actions (lexer, Pratt parser, three-valued evaluator) and correlation filters.
//! Knows nothing of messages: it asks a [`Properties`] for values. The language is described in
//! <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-messaging-sql-filter>.

mod action;
mod correlation;
mod eval;
mod lexer;
mod like;
mod parser;
mod scalar;

pub(crate) use action::{Action, Change};
pub(crate) use correlation::Correlation;
pub(crate) use eval::EvalError;
pub(crate) use parser::SqlFilter;
pub(crate) use scalar::Scalar;

/// Where a property is looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Application properties.
    User,
    /// Properties that the protocol or the broker defines.
    System,
}

/// What a filter is evaluated against.
pub(crate) trait Properties {
    /// An application property by its case-insensitive name; null when absent.
    fn user(&self, name: &str) -> Scalar<'_>;

    /// A system property by its case-insensitive name: null when the message has none, `None` when
    /// there is no such property at all.
    fn system(&self, name: &str) -> Option<Scalar<'_>>;

    /// Whether the application property is there, be it null.
    fn has_user(&self, name: &str) -> bool;

    /// A new unique id, for `newid()`.
    fn new_id(&self) -> uuid::Uuid;
}

/// What is wrong with the text of a filter or action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("character {position}: {problem}")]
pub struct SyntaxError {
    /// Characters from the start of the text, the first being 1.
    pub position: usize,
    /// What was expected or is not allowed there.
    pub problem: String,
}

impl SyntaxError {
    fn at(position: usize, problem: impl Into<String>) -> SyntaxError {
        SyntaxError { position, problem: problem.into() }
    }
}

/// A filter of any kind.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Filter {
    True,
    False,
    Sql(SqlFilter),
    Correlation(Correlation),
}

impl Filter {
    /// Whether a message passes. Unknown does not pass.
    pub(crate) fn matches(&self, properties: &dyn Properties) -> Result<bool, EvalError> {
        match self {
            Filter::True => Ok(true),
            Filter::False => Ok(false),
            Filter::Sql(filter) => filter.matches(properties),
            Filter::Correlation(filter) => Ok(filter.matches(properties)),
        }
    }

    /// Whether the verdict depends on the message.
    pub(crate) fn reads_message(&self) -> bool {
        !matches!(self, Filter::True | Filter::False)
    }
}
