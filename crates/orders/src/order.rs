//! The order document: what is stored, under which names, and how a new one begins.

use std::collections::BTreeMap;
use std::ops::Index;

use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::automaton::Stage;
use crate::event::{EventType, OutboxEvent};
use crate::history::{Happening, HistoryEntry};
use crate::submission::{Fault, Priced};
use crate::{Currency, CustomerId, Notice, OrderId, Service, Sku, Status, Submission, Timestamp};

/// Version of the order document's shape.
pub const SCHEMA_VERSION: u32 = 1;

/// One order: document `<orderId>` in partition `<orderId>` of container `orders`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Order {
    /// Document id; equals `order_id`.
    pub id: OrderId,
    /// Partition key.
    pub order_id: OrderId,
    /// Always `order`.
    #[serde(rename = "type")]
    pub document_type: OrderDocument,
    /// Version of this shape.
    pub schema_version: u32,
    /// Who ordered.
    pub customer_id: CustomerId,
    /// What was ordered, at the prices of that moment.
    pub items: Vec<Line>,
    /// The currency of every amount.
    pub currency: Currency,
    /// Sum over the lines, in minor units.
    pub total_minor: u64,
    /// Hash of the request; see [`Submission::payload_hash`].
    pub payload_hash: String,
    /// When the order was accepted.
    pub created_at: Timestamp,
    /// Unique and ascending in time: `<createdAt>~<orderId>`. Lists are ordered by it, and a page
    /// continues after it.
    pub sort_key: String,
    /// Ties every message, log line and document of one request together.
    pub correlation_id: String,
    /// Where each service stands; plain strings, each path written by that service alone.
    pub status: PerService<Status>,
    /// The bookkeeping behind each status.
    pub stage: PerService<Stage>,
    /// The roll-up of all services.
    pub overall: Overall,
    /// What happened, oldest first; bounded.
    pub history: Vec<HistoryEntry>,
    /// When the customer asked to cancel.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancellation: Option<Cancellation>,
    /// What the customer has been told, and when.
    #[serde(default)]
    pub notified: BTreeMap<Notice, Timestamp>,
    /// Failures that the client asked for.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub faults: BTreeMap<Service, Fault>,
}

/// Marks a document as an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderDocument {
    /// The only value of `type`.
    #[serde(rename = "order")]
    Order,
}

/// One line of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// What.
    pub sku: Sku,
    /// How many units.
    pub quantity: u32,
    /// Price of one unit in minor units.
    pub unit_price_minor: u64,
}

/// One value per service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerService<T> {
    /// Of inventory.
    pub inventory: T,
    /// Of billing.
    pub billing: T,
    /// Of notification.
    pub notification: T,
}

impl<T> Index<Service> for PerService<T> {
    type Output = T;

    fn index(&self, service: Service) -> &T {
        match service {
            Service::Inventory => &self.inventory,
            Service::Billing => &self.billing,
            Service::Notification => &self.notification,
        }
    }
}

/// The roll-up of all services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overall {
    /// Committed; at least one service has work left.
    Accepted,
    /// Every service is done.
    Completed,
    /// A service's answer was no, and nothing of the order is left.
    Failed,
    /// The customer cancelled, and nothing of the order is left.
    Cancelled,
}

impl Overall {
    /// The text form, as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }
}

/// A customer's wish to cancel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancellation {
    /// When it came.
    pub at: Timestamp,
}

/// Everything about a new order that is not in the request.
#[derive(Clone, Copy, Debug)]
pub struct Acceptance<'a> {
    /// The order's name.
    pub order_id: OrderId,
    /// The moment of acceptance.
    pub at: Timestamp,
    /// Ties everything of this request together.
    pub correlation_id: &'a str,
    /// W3C trace context to continue from.
    pub traceparent: Option<&'a str>,
}

impl Order {
    /// A new order and the event that announces it. Both must be written, or neither.
    #[must_use]
    pub fn accept(
        submission: &Submission,
        priced: Priced,
        acceptance: Acceptance<'_>,
    ) -> (Self, OutboxEvent) {
        let Acceptance { order_id, at, correlation_id, traceparent } = acceptance;
        let order = Self {
            id: order_id,
            order_id,
            document_type: OrderDocument::Order,
            schema_version: SCHEMA_VERSION,
            customer_id: submission.customer_id().clone(),
            items: priced.lines,
            currency: submission.currency(),
            total_minor: priced.total_minor,
            payload_hash: submission.payload_hash(),
            created_at: at,
            sort_key: format!("{at}~{order_id}"),
            correlation_id: correlation_id.to_owned(),
            status: PerService::default(),
            stage: PerService::default(),
            overall: Overall::Accepted,
            history: vec![HistoryEntry::new(at, Happening::Accepted)],
            cancellation: None,
            notified: BTreeMap::new(),
            faults: submission.faults().clone(),
        };
        let data = json!({
            "orderId": order_id,
            "customerId": order.customer_id,
            "items": order.items,
            "currency": order.currency,
            "totalMinor": order.total_minor,
            "createdAt": at,
        });
        let event = OutboxEvent::new(
            order_id,
            EventType::OrderCreated,
            at,
            correlation_id,
            traceparent,
            data,
        );
        (order, event)
    }

    /// Whether every service is done.
    #[must_use]
    pub fn is_all_done(&self) -> bool {
        Service::ALL.iter().all(|&service| self.status[service] == Status::Done)
    }

    /// Whether the order cannot go on, so that what was done for it has to be undone.
    #[must_use]
    pub fn is_unwinding(&self) -> bool {
        self.cancellation.is_some() || self.failure().is_some()
    }

    /// Whether the order unwinds and nothing of it is left.
    #[must_use]
    pub fn is_unwound(&self) -> bool {
        self.is_unwinding()
            && Service::ALL.into_iter().filter(|service| service.compensates()).all(|service| {
                match self.status[service] {
                    Status::Released | Status::Refunded => true,
                    Status::Failed => self.stage[service].unwound,
                    _ => false,
                }
            })
    }

    /// Whose answer was no, and why. Only of those whose act can be undone: nothing else makes an
    /// order unwind.
    #[must_use]
    pub fn failure(&self) -> Option<(Service, &str)> {
        let failed =
            |service: &Service| service.compensates() && self.status[*service] == Status::Failed;
        let failed = Service::ALL.into_iter().find(failed)?;
        Some((failed, self.stage[failed].outcome.as_deref().unwrap_or("unknown")))
    }

    /// Units per SKU over all lines, ordered by SKU.
    #[must_use]
    pub fn quantities(&self) -> BTreeMap<Sku, u64> {
        let mut quantities = BTreeMap::new();
        for line in &self.items {
            *quantities.entry(line.sku.clone()).or_default() += u64::from(line.quantity);
        }
        quantities
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Catalogue, Product};

    #[test]
    fn the_documents_have_the_names_that_others_rely_on() {
        let body = br#"{"customerId":"c-1","currency":"EUR","faults":{"billing":"fail"},
            "items":[{"sku":"vitamin-c","quantity":2}]}"#;
        let submission = Submission::parse(body).unwrap();
        let catalogue = Catalogue::from_iter([Product {
            sku: Sku::parse("vitamin-c").unwrap(),
            name: "Vitamin C".to_owned(),
            unit_price_minor: 1_290,
            currency: Currency::parse("EUR").unwrap(),
            available: 10,
        }]);
        let acceptance = Acceptance {
            order_id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
            at: Timestamp::parse("2026-03-01T10:00:00Z").unwrap(),
            correlation_id: "corr-1",
            traceparent: None,
        };
        let priced = submission.price(&catalogue).unwrap();
        let (order, event) = Order::accept(&submission, priced, acceptance);
        let stored = serde_json::to_value(&order).unwrap();
        let stage = json!({"attempt": 0, "leaseUntil": 0, "owner": null, "outcome": null,
            "error": null, "calls": 0, "unwound": false, "updatedAt": null});
        assert_eq!(
            stored,
            json!({
                "id": "01890a5d-ac96-774b-bcce-b302099a8057",
                "orderId": "01890a5d-ac96-774b-bcce-b302099a8057",
                "type": "order",
                "schemaVersion": 1,
                "customerId": "c-1",
                "items": [{"sku": "vitamin-c", "quantity": 2, "unitPriceMinor": 1290}],
                "currency": "EUR",
                "totalMinor": 2580,
                "payloadHash": submission.payload_hash(),
                "createdAt": "2026-03-01T10:00:00.000000Z",
                "sortKey": "2026-03-01T10:00:00.000000Z~01890a5d-ac96-774b-bcce-b302099a8057",
                "correlationId": "corr-1",
                "status": {"inventory": "pending", "billing": "pending",
                    "notification": "pending"},
                "stage": {"inventory": stage, "billing": stage, "notification": stage},
                "overall": "accepted",
                "history": [{"at": "2026-03-01T10:00:00.000000Z", "what": "accepted"}],
                "notified": {},
                "faults": {"billing": "fail"},
            })
        );
        assert_eq!(serde_json::from_value::<Order>(stored).unwrap(), order);
        let event = serde_json::to_value(&event).unwrap();
        assert_eq!(event["id"], "event:01890a5d-ac96-774b-bcce-b302099a8057:1");
        assert_eq!(event["messageId"], event["event"]["id"]);
        assert_eq!(event["type"], "event");
        assert_eq!(event["state"], "pending");
        assert_eq!(event["event"]["specversion"], "1.0");
        assert_eq!(event["event"]["type"], "order.created");
        assert_eq!(event["event"]["data"]["totalMinor"], 2580);
        assert!(event["event"].get("traceparent").is_none());
    }
}
