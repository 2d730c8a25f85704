//! `queueTrigger`: a message of a storage queue.
//!
//! <https://learn.microsoft.com/azure/azure-functions/functions-bindings-storage-queue-trigger>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::invocation::{self, DecodeError, Invocation, Trigger};
use crate::metadata::Claims;

/// What the host says about a message.
const METADATA: [&str; 6] =
    ["DequeueCount", "ExpirationTime", "Id", "InsertionTime", "NextVisibleTime", "PopReceipt"];

/// A message of a storage queue.
///
/// As with a [`ServiceBusMessage`](crate::ServiceBusMessage), reading it never fails because of
/// its text, and metadata is `None` when the text has a property of that name: a message
/// `{"id": 7}` hides its own [`id`](Self::id).
#[derive(Clone, Debug)]
pub struct QueueMessage {
    text: String,
    claims: Claims,
}

impl QueueMessage {
    /// A message from no queue, with no metadata: for tests of a function.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { claims: Claims::of_message(Map::new(), &text), text }
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The text.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The text as JSON.
    ///
    /// # Errors
    /// It is no JSON, or not of this shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.text)
    }

    /// The bytes of the message, for a function whose `function.json` says
    /// `"dataType": "binary"`.
    ///
    /// # Errors
    /// The text is no base64; then `function.json` does not say so.
    pub fn base64_body(&self) -> Result<Vec<u8>, DecodeError> {
        Ok(STANDARD.decode(&self.text)?)
    }

    /// How often the message has been taken from the queue, this time included: 1 at first. The
    /// host moves it to the poison queue after the fifth failure, unless configured otherwise.
    #[must_use]
    pub fn dequeue_count(&self) -> Option<u32> {
        self.claims.integer("DequeueCount").and_then(|count| u32::try_from(count).ok())
    }

    /// The queue's id of the message.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        self.claims.string("Id")
    }

    /// What the queue knows this delivery by.
    #[must_use]
    pub fn pop_receipt(&self) -> Option<String> {
        self.claims.string("PopReceipt")
    }

    /// When the message was put into the queue.
    #[must_use]
    pub fn insertion_time(&self) -> Option<OffsetDateTime> {
        self.claims.time("InsertionTime")
    }

    /// When the queue drops the message.
    #[must_use]
    pub fn expiration_time(&self) -> Option<OffsetDateTime> {
        self.claims.time("ExpirationTime")
    }

    /// When others see the message again, unless the host renews.
    #[must_use]
    pub fn next_visible_time(&self) -> Option<OffsetDateTime> {
        self.claims.time("NextVisibleTime")
    }

    /// Metadata as the host sent it, **which may be the sender's forgery**.
    #[must_use]
    pub fn claimed(&self, name: &str) -> Option<&Value> {
        self.claims.claimed(name)
    }

    /// Names of metadata that the sender has replaced by a property of the text, or may have.
    pub fn shadowed(&self) -> impl Iterator<Item = &'static str> {
        self.claims.shadowed(&METADATA)
    }
}

impl Trigger for QueueMessage {
    fn from_invocation(invocation: Invocation) -> Result<Self, DecodeError> {
        let (value, metadata) = invocation.into_single()?;
        let text = invocation::text(value);
        Ok(Self { claims: Claims::of_message(metadata, &text), text })
    }
}
