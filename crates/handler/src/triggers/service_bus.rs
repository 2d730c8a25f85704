//! `serviceBusTrigger`, one message or a batch.
//!
//! <https://learn.microsoft.com/azure/azure-functions/functions-bindings-service-bus-trigger>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use time::OffsetDateTime;
use uuid::Uuid;

use crate::invocation::{self, DecodeError, Invocation, Trigger};
use crate::metadata::Claims;
use crate::trace::{TRACEPARENT, TraceContext};

/// What the host says about a message.
const METADATA: [&str; 19] = [
    "ApplicationProperties",
    "ContentType",
    "CorrelationId",
    "DeadLetterSource",
    "DeliveryCount",
    "EnqueuedTime",
    "EnqueuedTimeUtc",
    "ExpiresAt",
    "ExpiresAtUtc",
    "Label",
    "LockToken",
    "MessageId",
    "PartitionKey",
    "ReplyTo",
    "ReplyToSessionId",
    "SequenceNumber",
    "SessionId",
    "Subject",
    "To",
];

/// One message of a queue or a subscription.
///
/// Reading it never fails because of what the body holds: whether a message is poison is for the
/// function to decide. The body is what the sender wrote, as text: the host replaces bytes that
/// are no UTF-8 before it calls a handler, unless `function.json` says `"dataType": "binary"`,
/// for which there is [`base64_body`](Self::base64_body).
///
/// What the broker knows about the message is `None` when it is absent **and when the body has a
/// top-level property of that name**, because then the host sends the sender's value in place of
/// the broker's; see [the crate's documentation](crate#metadata-can-be-forged).
#[derive(Clone, Debug)]
pub struct ServiceBusMessage {
    text: String,
    claims: Claims,
}

/// Messages of a function with `"cardinality": "many"`. The host completes all of them, or
/// abandons all of them. Use `"dataType": "string"`: without it a message that is no JSON makes
/// the whole batch fail before the handler is even called.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ServiceBusBatch {
    /// The messages, in the order of the broker.
    pub messages: Vec<ServiceBusMessage>,
}

impl ServiceBusMessage {
    /// A message from no broker, with no metadata: for tests of a function.
    #[must_use]
    pub fn new(body: impl Into<String>) -> Self {
        let text = body.into();
        Self { claims: Claims::of_message(Map::new(), &text), text }
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.text.as_bytes()
    }

    /// The body.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The body as JSON.
    ///
    /// # Errors
    /// It is no JSON, or not of this shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(&self.text)
    }

    /// The bytes of the body, for a function whose `function.json` says `"dataType": "binary"`.
    ///
    /// # Errors
    /// The body is no base64; then `function.json` does not say so.
    pub fn base64_body(&self) -> Result<Vec<u8>, DecodeError> {
        Ok(STANDARD.decode(&self.text)?)
    }

    /// The sender's id of the message.
    #[must_use]
    pub fn message_id(&self) -> Option<String> {
        self.claims.string("MessageId")
    }

    /// What the broker knows the lock of this delivery by; settling needs it.
    #[must_use]
    pub fn lock_token(&self) -> Option<Uuid> {
        self.claims.string("LockToken")?.parse().ok()
    }

    /// How often the message has been delivered, this time included: 1 at first.
    #[must_use]
    pub fn delivery_count(&self) -> Option<u32> {
        self.claims.integer("DeliveryCount").and_then(|count| u32::try_from(count).ok())
    }

    /// The broker's number of the message.
    #[must_use]
    pub fn sequence_number(&self) -> Option<i64> {
        self.claims.integer("SequenceNumber")
    }

    /// When the broker accepted the message; of a single message to the second only.
    #[must_use]
    pub fn enqueued_time(&self) -> Option<OffsetDateTime> {
        self.claims.time("EnqueuedTimeUtc").or_else(|| self.claims.time("EnqueuedTime"))
    }

    /// When the broker drops or dead-letters the message.
    #[must_use]
    pub fn expires_at(&self) -> Option<OffsetDateTime> {
        self.claims.time("ExpiresAtUtc").or_else(|| self.claims.time("ExpiresAt"))
    }

    /// The sender's description of the body.
    #[must_use]
    pub fn content_type(&self) -> Option<String> {
        self.claims.string("ContentType")
    }

    /// The sender's label.
    #[must_use]
    pub fn subject(&self) -> Option<String> {
        self.claims.string("Subject").or_else(|| self.claims.string("Label"))
    }

    /// The sender's correlation id.
    #[must_use]
    pub fn correlation_id(&self) -> Option<String> {
        self.claims.string("CorrelationId")
    }

    /// The session.
    #[must_use]
    pub fn session_id(&self) -> Option<String> {
        self.claims.string("SessionId")
    }

    /// The partition key.
    #[must_use]
    pub fn partition_key(&self) -> Option<String> {
        self.claims.string("PartitionKey")
    }

    /// Where the sender wants an answer.
    #[must_use]
    pub fn reply_to(&self) -> Option<String> {
        self.claims.string("ReplyTo")
    }

    /// The session in which the sender wants an answer.
    #[must_use]
    pub fn reply_to_session_id(&self) -> Option<String> {
        self.claims.string("ReplyToSessionId")
    }

    /// Whom the sender wrote the message to.
    #[must_use]
    pub fn to(&self) -> Option<String> {
        self.claims.string("To")
    }

    /// The entity that a dead-lettered message was first sent to.
    #[must_use]
    pub fn dead_letter_source(&self) -> Option<String> {
        self.claims.string("DeadLetterSource")
    }

    /// The sender's application properties, numbers and truth values as such.
    #[must_use]
    pub fn application_properties(&self) -> Option<Map<String, Value>> {
        let properties = self.claims.object("ApplicationProperties");
        properties.or_else(|| self.claims.object("UserProperties"))
    }

    /// One of the application properties.
    #[must_use]
    pub fn application_property(&self, name: &str) -> Option<Value> {
        self.application_properties()?.remove(name)
    }

    /// A span in the trace of the message's sender, who wrote it into the application property
    /// `traceparent` (or, as the older SDKs do, `Diagnostic-Id`). The trace in the
    /// [context](crate::Context) is the host's, which may be another.
    #[must_use]
    pub fn sender_trace(&self) -> Option<TraceContext> {
        let mut properties = self.application_properties()?;
        [TRACEPARENT, "Diagnostic-Id"].into_iter().find_map(|name| match properties.remove(name) {
            Some(Value::String(traceparent)) => TraceContext::continue_from(&traceparent),
            _ => None,
        })
    }

    /// Metadata as the host sent it, **which may be the sender's forgery**.
    #[must_use]
    pub fn claimed(&self, name: &str) -> Option<&Value> {
        self.claims.claimed(name)
    }

    /// Names of metadata that the sender has replaced by a property of the body, or may have:
    /// what the accessors do not answer. Most often by accident: `id`, `subject` and `to` are
    /// common names.
    pub fn shadowed(&self) -> impl Iterator<Item = &'static str> {
        self.claims.shadowed(&METADATA)
    }
}

impl Trigger for ServiceBusMessage {
    fn from_invocation(invocation: Invocation) -> Result<Self, DecodeError> {
        let (value, metadata) = invocation.into_single()?;
        let text = invocation::text(value);
        Ok(Self { claims: Claims::of_message(metadata, &text), text })
    }
}

impl Trigger for ServiceBusBatch {
    fn from_invocation(invocation: Invocation) -> Result<Self, DecodeError> {
        let (value, metadata) = invocation.into_single()?;
        let bodies = invocation::array(value).ok_or(DecodeError::Shape("an array of messages"))?;
        let claims = Claims::of_batch(metadata, bodies.len());
        let message = |(body, claims)| {
            let text = match body {
                // The message as it is: nothing is wrapped within the array.
                Value::String(text) => text,
                native => native.to_string(),
            };
            ServiceBusMessage { text, claims }
        };
        Ok(Self { messages: bodies.into_iter().zip(claims).map(message).collect() })
    }
}
