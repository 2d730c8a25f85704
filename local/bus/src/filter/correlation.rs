//! Correlation filters: given fields must all be equal, strings by exact case.

use std::cmp::Ordering;

use super::{Properties, Scalar};

/// The conditions, all of which must hold.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Correlation {
    /// System property name and its text, only those given.
    pub(crate) system: Vec<(&'static str, String)>,
    /// Application property name and its value.
    pub(crate) user: Vec<(String, Scalar<'static>)>,
}

impl Correlation {
    /// Whether every condition holds. Values of different types are never equal.
    pub(crate) fn matches(&self, properties: &dyn Properties) -> bool {
        self.system.iter().all(|(name, wanted)| {
            matches!(properties.system(name), Some(Scalar::Text(text)) if text == *wanted)
        }) && self.user.iter().all(|(name, wanted)| {
            properties.user(name).compare(wanted) == Some(Ordering::Equal)
        })
    }
}
