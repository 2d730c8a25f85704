//! Messages that nobody should have sent: duplicates, and poison. Neither harms anything else.

use azure::bus::Message;
use serde_json::{Value, json};

use crate::harness::{TestStack, eventually, order};

/// The three subscriptions of the topic.
const SUBSCRIPTIONS: [&str; 3] = ["inventory-sub", "billing-sub", "notification-sub"];

fn message(id: &str, body: impl Into<Vec<u8>>) -> Message {
    Message { message_id: Some(id.to_owned()), ..Message::new(body.into()) }
        .with_property("event_type", "order.created")
}

#[tokio::test]
async fn duplicates_change_nothing_and_poison_is_set_aside() {
    let stack = TestStack::start().await;
    let id = stack.submit(&order()).await;
    let before = stack.until_quiet(&id).await;
    let orders = stack.store().container("orders");
    let event_id = format!("event:{id}:1");
    let stored: Value = orders.read(&id, &event_id).await.unwrap().unwrap().value;
    let event = &stored["event"];
    let changed = |path: &str, value: Value| {
        let mut event = event.clone();
        event[path] = value;
        event.to_string()
    };

    let topic = stack.bus().sender("orders");
    let messages = [
        // The same event again: within duplicate detection, past it, and with forged metadata.
        message(&event_id, event.to_string()),
        message("duplicate", event.to_string()),
        message("forged", changed("DeliveryCount", json!(99))),
        message("no-json", "hello"),
        message("no-text", vec![0xff, 0xfe]),
        message("no-event", "{}"),
        message("unknown-version", changed("schemaversion", json!(9))),
        message("unknown-order", changed("subject", json!(uuid::Uuid::new_v4().to_string()))),
        message("large", "x".repeat(200_000)),
    ];
    topic.send_batch(&messages).await.unwrap();
    // Each with the reason that it is set aside for.
    let poison = [
        ("forged", "forged-metadata"),
        ("large", "not-json"),
        ("no-event", "not-a-cloudevent"),
        ("no-json", "not-json"),
        ("no-text", "not-json"),
        ("unknown-order", "order-missing"),
        ("unknown-version", "unknown-schema-version"),
    ];

    let bus = stack.bus();
    for subscription in SUBSCRIPTIONS {
        let path = format!("orders/Subscriptions/{subscription}");
        let dead = bus.management(&format!("{path}/$DeadLetterQueue"));
        let mut set_aside = eventually("all poison is dead-lettered", || async {
            let found = dead.peek(0, 100).await.unwrap();
            (found.len() >= poison.len()).then_some(found)
        })
        .await;
        set_aside.sort_by(|a, b| a.message.message_id.cmp(&b.message.message_id));
        let found: Vec<_> = set_aside
            .iter()
            .map(|dead| {
                // At the first delivery, before it could be in anybody's way.
                assert!(dead.delivery_count <= 1, "{dead:?}");
                assert!(!dead.dead_letter_description.as_deref().unwrap().is_empty(), "{dead:?}");
                let id = dead.message.message_id.as_deref().unwrap();
                (id, dead.dead_letter_reason.as_deref().unwrap())
            })
            .collect();
        assert_eq!(found, poison, "{subscription}");
        let live = bus.management(&path);
        eventually("the subscription is empty", || async {
            live.peek(0, 1).await.unwrap().is_empty().then_some(())
        })
        .await;
    }
    assert_eq!(stack.order(&id).await, before, "the order has not moved");
    let next = stack.submit(&order()).await;
    stack.until_completed(&next).await;
}
