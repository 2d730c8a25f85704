//! Addresses as clients write them.
//!
//! Each SDK has its own way: a bare path, a full `amqps://host/path`, a leading slash, escaped
//! characters, `subscriptions` in any case. All become one lower-case path.

use percent_encoding::percent_decode_str;

const MANAGEMENT: &str = "$management";

/// What a link is attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Address {
    /// `$cbs`: where tokens are put.
    Cbs,
    /// `<entity>/$management`, with the entity's path (empty for the namespace).
    Management(String),
    /// An entity's path.
    Entity(String),
}

impl Address {
    /// Reads an address.
    pub(crate) fn parse(text: &str) -> Address {
        let path = normalise(text);
        if path == "$cbs" {
            Address::Cbs
        } else if path == MANAGEMENT {
            Address::Management(String::new())
        } else if let Some(entity) = path.strip_suffix(&format!("/{MANAGEMENT}")) {
            Address::Management(entity.to_owned())
        } else {
            Address::Entity(path)
        }
    }
}

/// The lower-case path without scheme, host and surrounding slashes.
pub(crate) fn normalise(text: &str) -> String {
    let decoded = percent_decode_str(text).decode_utf8_lossy();
    let path = match decoded.split_once("://") {
        Some((_, rest)) => rest.split_once('/').map_or("", |(_, path)| path),
        None => &decoded,
    };
    path.trim_matches('/').to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sdks_spelling_is_understood() {
        let entity = |text: &str| Address::Entity(text.into());
        for (text, address) in [
            ("Orders", entity("orders")),
            ("/orders", entity("orders")),
            ("amqps://localhost:5672/orders", entity("orders")),
            ("sb://localhost/Orders/Subscriptions/Billing", entity("orders/subscriptions/billing")),
            ("orders%2FSubscriptions%2Fbilling", entity("orders/subscriptions/billing")),
            ("q/$DeadLetterQueue", entity("q/$deadletterqueue")),
            ("$cbs", Address::Cbs),
            ("amqp://h/$cbs", Address::Cbs),
            ("q/$management", Address::Management("q".into())),
            ("$management", Address::Management(String::new())),
            (
                "amqps://h/q/$DeadLetterQueue/$management",
                Address::Management("q/$deadletterqueue".into()),
            ),
            ("amqps://host", entity("")),
        ] {
            assert_eq!(Address::parse(text), address, "{text}");
        }
    }
}
