//! The values that filters compute with.

use std::borrow::Cow;
use std::cmp::Ordering;

/// A value of the filter language. Null doubles as the third truth value, unknown.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scalar<'a> {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Cow<'a, str>),
    /// Milliseconds since the Unix epoch.
    Time(i64),
    Uuid(uuid::Uuid),
    Bytes(&'a [u8]),
}

impl Scalar<'_> {
    /// As a truth value; anything but a boolean is unknown.
    pub(crate) fn truth(&self) -> Option<bool> {
        match self {
            Scalar::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    /// Order of two values of comparable types; `None` is unknown. Text compares by code point and
    /// case-sensitively, integers with floats numerically, other mixtures not at all.
    pub(crate) fn compare(&self, other: &Scalar<'_>) -> Option<Ordering> {
        match (self, other) {
            (Scalar::Bool(a), Scalar::Bool(b)) => Some(a.cmp(b)),
            (Scalar::Int(a), Scalar::Int(b)) | (Scalar::Time(a), Scalar::Time(b)) => Some(a.cmp(b)),
            (Scalar::Float(a), Scalar::Float(b)) => a.partial_cmp(b),
            (Scalar::Int(a), Scalar::Float(b)) => as_f64(*a).partial_cmp(b),
            (Scalar::Float(a), Scalar::Int(b)) => a.partial_cmp(&as_f64(*b)),
            (Scalar::Text(a), Scalar::Text(b)) => Some(a.cmp(b)),
            (Scalar::Uuid(a), Scalar::Uuid(b)) => Some(a.cmp(b)),
            (Scalar::Uuid(a), Scalar::Text(b)) => Some(a.to_string().as_str().cmp(&lower(b))),
            (Scalar::Text(a), Scalar::Uuid(b)) => Some((*lower(a)).cmp(b.to_string().as_str())),
            (Scalar::Bytes(a), Scalar::Bytes(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// The value as it is written; `None` for null, and for bytes.
    pub(crate) fn into_text(self) -> Option<Cow<'static, str>> {
        Some(Cow::Owned(match self {
            Scalar::Null | Scalar::Bytes(_) => return None,
            Scalar::Bool(v) => v.to_string(),
            Scalar::Int(v) => v.to_string(),
            Scalar::Float(v) => v.to_string(),
            Scalar::Text(v) => v.into_owned(),
            Scalar::Time(v) => crate::broker::Timestamp::from_millis(v).to_string(),
            Scalar::Uuid(v) => v.to_string(),
        }))
    }

    /// The same value, owning its text. Bytes become null: nothing computes with them.
    pub(crate) fn into_owned(self) -> Scalar<'static> {
        match self {
            Scalar::Null | Scalar::Bytes(_) => Scalar::Null,
            Scalar::Bool(v) => Scalar::Bool(v),
            Scalar::Int(v) => Scalar::Int(v),
            Scalar::Float(v) => Scalar::Float(v),
            Scalar::Text(v) => Scalar::Text(Cow::Owned(v.into_owned())),
            Scalar::Time(v) => Scalar::Time(v),
            Scalar::Uuid(v) => Scalar::Uuid(v),
        }
    }
}

fn lower(text: &str) -> String {
    text.to_ascii_lowercase()
}

/// Nearest float; exact up to 2^53, which is what the service's own mixed arithmetic gives.
#[expect(clippy::cast_precision_loss, reason = "mixed arithmetic is defined on doubles")]
pub(crate) fn as_f64(n: i64) -> f64 {
    n as f64
}
