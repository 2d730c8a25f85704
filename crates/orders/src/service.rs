//! The services that work on an order.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The services that work on an order, each in its own compartment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Service {
    /// Reserves stock.
    Inventory,
    /// Charges the customer.
    Billing,
    /// Tells the customer.
    Notification,
}

impl Service {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Inventory, Self::Billing, Self::Notification];

    /// The name, as in `/status/<service>`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inventory => "inventory",
            Self::Billing => "billing",
            Self::Notification => "notification",
        }
    }

    /// Whether the service's act is undone when the order cannot go on. A customer cannot be
    /// un-told.
    #[must_use]
    pub fn compensates(self) -> bool {
        matches!(self, Self::Inventory | Self::Billing)
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
