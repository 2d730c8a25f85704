//! What others are told about an order: CloudEvents 1.0 in JSON form, kept in the outbox until the
//! topic has accepted them.
//!
//! Formats: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md>.

use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Order, OrderId, Timestamp};

/// Major version of the event payloads; a consumer refuses one that it does not know.
pub const SCHEMA_VERSION: u32 = 1;

/// `datacontenttype` of every event.
pub(crate) const DATA_CONTENT_TYPE: &str = "application/json";

/// `source` of every event.
pub(crate) const SOURCE: &str = "/bulkhead/orders";

/// Content type of a message whose body is one event.
pub const CONTENT_TYPE: &str = "application/cloudevents+json";

/// The kinds of events; subscription rules select on their text form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum EventType {
    /// An order was accepted.
    #[serde(rename = "order.created")]
    OrderCreated,
    /// There is not enough stock: the order unwinds.
    #[serde(rename = "inventory.rejected")]
    InventoryRejected,
    /// The payment was declined: the order unwinds.
    #[serde(rename = "billing.failed")]
    BillingFailed,
    /// The customer wants out: the order unwinds.
    #[serde(rename = "order.cancel-requested")]
    OrderCancelRequested,
    /// Every service is done. Closes the order.
    #[serde(rename = "order.completed")]
    OrderCompleted,
    /// The order could not be fulfilled and is undone. Closes the order.
    #[serde(rename = "order.failed")]
    OrderFailed,
    /// The order was cancelled and is undone. Closes the order.
    #[serde(rename = "order.cancelled")]
    OrderCancelled,
}

impl EventType {
    /// All of them. Each has its JSON Schema, `docs/events/<type>.v1.json`.
    pub const ALL: [Self; 7] = [
        Self::OrderCreated,
        Self::InventoryRejected,
        Self::BillingFailed,
        Self::OrderCancelRequested,
        Self::OrderCompleted,
        Self::OrderFailed,
        Self::OrderCancelled,
    ];

    /// The text form, as in application property `event_type`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrderCreated => "order.created",
            Self::InventoryRejected => "inventory.rejected",
            Self::BillingFailed => "billing.failed",
            Self::OrderCancelRequested => "order.cancel-requested",
            Self::OrderCompleted => "order.completed",
            Self::OrderFailed => "order.failed",
            Self::OrderCancelled => "order.cancelled",
        }
    }

    /// Its number within an order. Each kind happens at most once, and only one of the closing
    /// kinds does, so the number is fixed: whoever tells the same thing again tells it under the
    /// same id.
    #[must_use]
    pub fn sequence(self) -> u32 {
        match self {
            Self::OrderCreated => 1,
            Self::InventoryRejected => 2,
            Self::BillingFailed => 3,
            Self::OrderCancelRequested => 4,
            Self::OrderCompleted | Self::OrderFailed | Self::OrderCancelled => 5,
        }
    }

    /// Whether the event makes an order unwind.
    #[must_use]
    pub fn unwinds(self) -> bool {
        matches!(self, Self::InventoryRejected | Self::BillingFailed | Self::OrderCancelRequested)
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The id of the n-th event of an order. It is the message id on the topic, so publishing the same
/// event again is recognised as a duplicate.
#[must_use]
pub fn event_id(order_id: OrderId, sequence: u32) -> String {
    format!("event:{order_id}:{sequence}")
}

/// A CloudEvent with the attributes that Bulkhead uses. `traceparent` is the Distributed Tracing
/// extension; `correlationid` and `schemaversion` are ours (extension names are lower case).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloudEvent {
    /// Always `1.0`.
    pub specversion: String,
    /// Unique within `source`; see [`event_id`].
    pub id: String,
    /// Who tells: a URI reference.
    pub source: String,
    /// What happened.
    #[serde(rename = "type")]
    pub event_type: EventType,
    /// The order id.
    pub subject: String,
    /// When it happened.
    pub time: Timestamp,
    /// Media type of `data`.
    pub datacontenttype: String,
    /// Major version of `data`.
    pub schemaversion: u32,
    /// Ties every message, log line and document of one request together.
    pub correlationid: String,
    /// W3C trace context of the request that caused the event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// The payload; its shape depends on `event_type` and `schemaversion`.
    pub data: Value,
}

/// An event in the outbox: a document beside the order, in the same partition, written in the same
/// batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct OutboxEvent {
    /// The event id.
    pub id: String,
    /// Partition key.
    pub order_id: OrderId,
    /// Always `event`.
    #[serde(rename = "type")]
    pub document_type: EventDocument,
    /// `message_id` on the topic; equals `id`.
    pub message_id: String,
    /// Copy of the event's type, for queries.
    pub event_type: EventType,
    /// The event itself.
    pub event: CloudEvent,
    /// Whether the topic has it.
    pub state: OutboxState,
    /// When it was committed.
    pub created_at: Timestamp,
    /// When the topic was known to have it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published_at: Option<Timestamp>,
    /// Why it was parked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parked_reason: Option<String>,
}

/// Marks a document as an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventDocument {
    /// The only value of `type`.
    #[serde(rename = "event")]
    Event,
}

/// Whether the topic has an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OutboxState {
    /// Committed, not yet known to be on the topic.
    Pending,
    /// Accepted by the topic at least once.
    Published,
    /// The topic can never take it; the document says why. An operator has to look.
    Parked,
}

impl OutboxEvent {
    /// What is told about an order that exists: `{orderId, customerId, currency, totalMinor,
    /// reason?}`.
    pub(crate) fn about(
        order: &Order,
        event_type: EventType,
        at: Timestamp,
        reason: Option<&str>,
        traceparent: Option<&str>,
    ) -> Self {
        let mut data = json!({
            "orderId": order.order_id,
            "customerId": order.customer_id,
            "currency": order.currency,
            "totalMinor": order.total_minor,
        });
        if let Some(reason) = reason {
            data["reason"] = reason.into();
        }
        Self::new(order.order_id, event_type, at, &order.correlation_id, traceparent, data)
    }

    /// An event of an order, pending. `data` is the payload for `event_type`.
    pub(crate) fn new(
        order_id: OrderId,
        event_type: EventType,
        at: Timestamp,
        correlation_id: &str,
        traceparent: Option<&str>,
        data: Value,
    ) -> Self {
        let id = event_id(order_id, event_type.sequence());
        Self {
            id: id.clone(),
            order_id,
            document_type: EventDocument::Event,
            message_id: id.clone(),
            event_type,
            event: CloudEvent {
                specversion: "1.0".to_owned(),
                id,
                source: SOURCE.to_owned(),
                event_type,
                subject: order_id.to_string(),
                time: at,
                datacontenttype: DATA_CONTENT_TYPE.to_owned(),
                schemaversion: SCHEMA_VERSION,
                correlationid: correlation_id.to_owned(),
                traceparent: traceparent.map(str::to_owned),
                data,
            },
            state: OutboxState::Pending,
            created_at: at,
            published_at: None,
            parked_reason: None,
        }
    }
}
