//! Orders as HTTP clients see them: names are those of the documents, bookkeeping of the store
//! left out.

use std::collections::BTreeMap;

use orders::automaton::Stage;
use orders::history::HistoryEntry;
use orders::order::{Cancellation, Line, PerService};
use orders::submission::Fault;
use orders::{Currency, CustomerId, Notice, Order, OrderId, Overall, Service, Status, Timestamp};
use serde::Serialize;

/// Links from one thing to others.
#[derive(Debug, Serialize)]
pub(super) struct Links {
    #[serde(rename = "self")]
    this: String,
}

/// The answer to an accepted order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Receipt {
    order_id: OrderId,
    status: Overall,
    #[serde(skip_serializing_if = "Option::is_none")]
    warning: Option<&'static str>,
    links: Links,
}

/// What a client without a key is told.
const NO_KEY: &str = "No Idempotency-Key was sent: the same request again makes another order.";

impl Receipt {
    pub(super) fn new(order_id: OrderId, has_key: bool) -> Self {
        // "Accepted" is what a 202 says, however far the order has come when it is repeated.
        let links = Links { this: order_path(order_id) };
        let warning = (!has_key).then_some(NO_KEY);
        Self { order_id, status: Overall::Accepted, warning, links }
    }
}

/// One order.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct OrderView {
    order_id: OrderId,
    customer_id: CustomerId,
    currency: Currency,
    total_minor: u64,
    items: Vec<Line>,
    created_at: Timestamp,
    correlation_id: String,
    overall: Overall,
    status: PerService<Status>,
    stage: PerService<Stage>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancellation: Option<Cancellation>,
    #[serde(skip_serializing_if = "Option::is_none")]
    history: Option<Vec<HistoryEntry>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    messages: Option<Vec<CustomerMessage>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    faults: BTreeMap<Service, Fault>,
    links: Links,
}

/// What the customer was told.
#[derive(Debug, Serialize)]
struct CustomerMessage {
    at: Timestamp,
    notice: Notice,
    subject: String,
    text: String,
}

impl OrderView {
    /// The order with its history.
    pub(super) fn whole(mut order: Order) -> Self {
        let history = std::mem::take(&mut order.history);
        let messages = order.notified.iter().map(|(&notice, &at)| {
            let (subject, text) = orders::notice::text(&order, notice);
            CustomerMessage { at, notice, subject, text }
        });
        let mut messages: Vec<_> = messages.collect();
        messages.sort_by_key(|message| message.at);
        Self { history: Some(history), messages: Some(messages), ..Self::line(order) }
    }

    /// The order as a line of a list.
    pub(super) fn line(order: Order) -> Self {
        Self {
            order_id: order.order_id,
            customer_id: order.customer_id,
            currency: order.currency,
            total_minor: order.total_minor,
            items: order.items,
            created_at: order.created_at,
            correlation_id: order.correlation_id,
            overall: order.overall,
            status: order.status,
            stage: order.stage,
            cancellation: order.cancellation,
            history: None,
            messages: None,
            faults: order.faults,
            links: Links { this: order_path(order.order_id) },
        }
    }
}

/// Where one order is found.
pub(super) fn order_path(order_id: OrderId) -> String {
    format!("/api/orders/{order_id}")
}
