//! What the customer is told, each thing at most once.

use serde::{Deserialize, Serialize};

use crate::automaton::{Guard, Move, set};
use crate::event::EventType;
use crate::{Order, Service, Timestamp};

/// A message to the customer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Notice {
    /// Your order has arrived.
    Received,
    /// Your order is complete.
    Completed,
    /// Your order could not be fulfilled; nothing is owed.
    Failed,
    /// Your order is cancelled; nothing is owed.
    Cancelled,
}

impl Notice {
    /// The name, as in `/notified/<notice>`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Received => "received",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// What an event gives the customer to know.
    #[must_use]
    pub fn of(event_type: EventType) -> Option<Self> {
        match event_type {
            EventType::OrderCreated => Some(Self::Received),
            EventType::OrderCompleted => Some(Self::Completed),
            EventType::OrderFailed => Some(Self::Failed),
            EventType::OrderCancelled => Some(Self::Cancelled),
            EventType::InventoryRejected
            | EventType::BillingFailed
            | EventType::OrderCancelRequested => None,
        }
    }
}

/// Notes that the customer is told. The store admits it once per notice, so whoever gets it
/// through is the one who tells.
#[must_use]
pub fn tell(notice: Notice, now: Timestamp) -> Move {
    let edits = vec![set(format!("/notified/{}", notice.as_str()), now)];
    Move::silent(Guard::Untold(notice), edits)
}

/// The subject and the text that the customer reads.
#[must_use]
pub fn text(order: &Order, notice: Notice) -> (String, String) {
    let id = order.order_id;
    let nothing_owed = "Nothing is charged for it.";
    match notice {
        Notice::Received => (
            format!("We have received your order {id}"),
            "We are reserving your items and will write again when everything is settled."
                .to_owned(),
        ),
        Notice::Completed => (
            format!("Your order {id} is complete"),
            "Your items are reserved and the payment has been made.".to_owned(),
        ),
        Notice::Failed => {
            let why = match order.failure() {
                Some((Service::Inventory, _)) => "Not all of the items are in stock.",
                Some((Service::Billing, _)) => "The payment was declined.",
                _ => "It could not be fulfilled.",
            };
            (format!("Your order {id} could not be fulfilled"), format!("{why} {nothing_owed}"))
        }
        Notice::Cancelled => (format!("Your order {id} is cancelled"), nothing_owed.to_owned()),
    }
}
