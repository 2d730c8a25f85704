//! Where dead letters are: one place per subscription of the topic, and the poison queue behind
//! billing. The names are a closed set, so nothing that a client writes becomes an address.

use orders::{EventType, Service};

use crate::problem::Problem;

/// The queue of payments that could not be settled.
pub(super) const POISON_QUEUE: &str = "payments-poison";

/// A place where dead letters are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The dead-letter queue of a service's subscription.
    Subscription(Service),
    /// The poison queue.
    Poison,
}

impl Source {
    /// All of them.
    pub(super) const ALL: [Self; 4] = [
        Self::Subscription(Service::Inventory),
        Self::Subscription(Service::Billing),
        Self::Subscription(Service::Notification),
        Self::Poison,
    ];

    /// The source in a path.
    pub(super) fn parse(name: &str) -> Result<Self, Problem> {
        Self::ALL.into_iter().find(|source| source.name() == name).ok_or_else(|| {
            let known = Self::ALL.map(Self::name).join(", ");
            Problem::not_found(&format!("Dead letters are in {known}."))
        })
    }

    /// Its name in paths and in the audit trail.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Poison => POISON_QUEUE,
            Self::Subscription(_) => self.target(),
        }
    }

    /// The subscription that a replay is for. Payments come back through billing, which hands
    /// them over again.
    pub(super) fn target(self) -> &'static str {
        match self.service() {
            Service::Inventory => "inventory-sub",
            Service::Billing => "billing-sub",
            Service::Notification => "notification-sub",
        }
    }

    /// Whose part of the order waits for it.
    pub(super) fn service(self) -> Service {
        match self {
            Self::Subscription(service) => service,
            Self::Poison => Service::Billing,
        }
    }

    /// Position in [`Self::ALL`].
    pub(super) fn index(self) -> usize {
        match self {
            Self::Subscription(Service::Inventory) => 0,
            Self::Subscription(Service::Billing) => 1,
            Self::Subscription(Service::Notification) => 2,
            Self::Poison => 3,
        }
    }

    /// Whether the subscription's rule lets an event of this type in. A replay that no rule takes
    /// would be accepted by the topic and be gone.
    pub(super) fn takes(self, event_type: EventType) -> bool {
        let rules = crate::topology::TOPOLOGY.rules(self.target());
        let quoted = format!("'{event_type}'");
        rules.iter().any(|rule| rule.sql_expression.contains(&quoted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::topology::TOPOLOGY;

    #[test]
    fn sources_are_those_of_the_topology_and_no_others() {
        for (at, source) in Source::ALL.into_iter().enumerate() {
            assert_eq!(Source::parse(source.name()).unwrap(), source);
            assert_eq!(source.index(), at);
            assert!(TOPOLOGY.max_delivery_count(source.target()).is_some());
            assert!(source.takes(EventType::OrderCreated));
        }
        assert!(!Source::Poison.takes(EventType::OrderCompleted));
        assert!(Source::ALL[2].takes(EventType::OrderCompleted));
        assert!(TOPOLOGY.storage.queues.iter().any(|queue| queue == POISON_QUEUE));
        for name in ["", "billing", "Billing-sub", "payments", "billing-sub/$DeadLetterQueue"] {
            assert_eq!(Source::parse(name).unwrap_err().status(), 404, "{name}");
        }
    }
}
