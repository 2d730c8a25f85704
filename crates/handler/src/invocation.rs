//! One invocation as it arrived, and what a typed trigger makes of it.

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::envelope::{self, InvocationRequest};

/// What a function takes as its first argument: made from the invocation that the host sent.
///
/// The crate implements it for the triggers that it knows and for [`Invocation`] itself, which is
/// the way to any other trigger and to functions with several inputs.
pub trait Trigger: Sized + Send + 'static {
    /// Reads the trigger.
    ///
    /// # Errors
    /// The invocation is not one of this kind of trigger. The host is told that it failed, so this
    /// is for a wrong `function.json`, not for content that a sender chose.
    fn from_invocation(invocation: Invocation) -> Result<Self, DecodeError>;
}

/// Why an invocation could not be read as the trigger that the function takes.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// `Data` is empty.
    #[error("the invocation has no data; is the function's trigger in its function.json?")]
    NoData,
    /// `Data` has several members, and nothing says which is the trigger.
    #[error(
        "the invocation has several inputs ({}); take an `Invocation` and choose with `select`",
        .0.join(", ")
    )]
    SeveralInputs(Vec<String>),
    /// There is no input of that name.
    #[error("the invocation has no input named {0}")]
    NoSuchInput(String),
    /// The trigger's value has another shape.
    #[error("the trigger is not {0}; does function.json name another type or cardinality?")]
    Shape(&'static str),
    /// The content is not what was asked for.
    #[error("the content is not base64")]
    Base64(#[from] base64::DecodeError),
    /// The content is not what was asked for.
    #[error("the content is not the expected JSON")]
    Json(#[from] serde_json::Error),
}

/// An invocation of any trigger, as the host sent it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Invocation {
    /// Name of the function, as mounted.
    pub function: Arc<str>,
    /// The envelope.
    pub request: InvocationRequest,
}

impl Invocation {
    /// An invocation from no host: for tests of a trigger or a function.
    #[must_use]
    pub fn new(function: &str, request: InvocationRequest) -> Self {
        Self { function: function.into(), request }
    }

    /// An input as the function wants it; a value within a JSON string is opened.
    ///
    /// # Errors
    /// There is no such input, or it has another shape.
    pub fn input<T: DeserializeOwned>(&self, name: &str) -> Result<T, DecodeError> {
        let data = &self.request.data;
        let value = data.get(name).ok_or_else(|| DecodeError::NoSuchInput(name.to_owned()))?;
        Ok(serde_json::from_value(envelope::open(value))?)
    }

    /// The same invocation with one input only, so that a trigger can be read from a function
    /// that has more: `ServiceBusMessage::from_invocation(invocation.select("order")?)`.
    ///
    /// # Errors
    /// There is no such input.
    pub fn select(&self, name: &str) -> Result<Self, DecodeError> {
        let data = &self.request.data;
        let value = data.get(name).ok_or_else(|| DecodeError::NoSuchInput(name.to_owned()))?;
        let request = InvocationRequest {
            data: Map::from_iter([(name.to_owned(), value.clone())]),
            metadata: self.request.metadata.clone(),
        };
        Ok(Self { function: Arc::clone(&self.function), request })
    }

    /// Where the invocation stands in the retry policy of `function.json`; `None` without one.
    ///
    /// Not for Service Bus, queue or HTTP triggers: there the sender can forge it.
    #[must_use]
    pub fn retry(&self) -> Option<RetryContext> {
        let retry = envelope::open(self.request.metadata.get("RetryContext")?);
        let count = |name| match retry.get(name).map(envelope::open) {
            Some(Value::Number(count)) => count.as_i64(),
            _ => None,
        };
        Some(RetryContext {
            retry_count: count("RetryCount").and_then(|count| u32::try_from(count).ok())?,
            max_retry_count: count("MaxRetryCount").and_then(|count| u32::try_from(count).ok()),
        })
    }

    /// The trigger's value and the metadata, if there is one input only.
    pub(crate) fn into_single(self) -> Result<(Value, Map<String, Value>), DecodeError> {
        let InvocationRequest { data, metadata } = self.request;
        if data.len() > 1 {
            return Err(DecodeError::SeveralInputs(data.into_iter().map(|(key, _)| key).collect()));
        }
        let (_, value) = data.into_iter().next().ok_or(DecodeError::NoData)?;
        Ok((value, metadata))
    }
}

impl Trigger for Invocation {
    fn from_invocation(invocation: Invocation) -> Result<Self, DecodeError> {
        Ok(invocation)
    }
}

/// Where an invocation stands in the retry policy of its function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RetryContext {
    /// Retries before this one: 0 at the first attempt.
    pub retry_count: u32,
    /// How many there will be; `None` when there is no end.
    pub max_retry_count: Option<u32>,
}

/// The text of a trigger that carries text. The host sends the text as a JSON string literal
/// within a JSON string. A sender that encodes once only is understood as well: text that is JSON
/// but no string literal, or no JSON at all, is the text itself. So is a native value, printed.
pub(crate) fn text(value: Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => match serde_json::from_str(&text) {
            Ok(Value::String(inner)) => inner,
            Ok(_) | Err(_) => text,
        },
        native => native.to_string(),
    }
}

/// The array in a value that may be wrapped in string literals up to three times, which is what
/// the change feed trigger needs.
pub(crate) fn array(value: Value) -> Option<Vec<Value>> {
    const LEVELS_MAX: usize = 3;
    let mut value = value;
    for _ in 0..LEVELS_MAX {
        match value {
            Value::String(text) => value = serde_json::from_str(&text).ok()?,
            _ => break,
        }
    }
    match value {
        Value::Array(items) => Some(items),
        _ => None,
    }
}
