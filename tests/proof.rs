//! The invariants of the order flow, checked over everything a stack has done: the orders and the
//! outbox in the store, the stock, the dead-letter queues, and the bank's own ledger, which no
//! fault ever touches. `ARCHITECTURE.md` lists them.

use std::collections::{BTreeMap, BTreeSet};

use azure::cosmos::{Query, Scope};
use serde_json::Value;

use crate::harness::{TestStack, eventually};

/// Orders that one proof looks at.
const DOCUMENTS_MAX: usize = 20_000;

/// The subscriptions of the topic.
pub const SUBSCRIPTIONS: [&str; 3] = ["inventory-sub", "billing-sub", "notification-sub"];

/// What a proof has counted.
#[derive(Debug, Default)]
pub struct Counts {
    pub completed: usize,
    pub failed: usize,
    pub cancelled: usize,
    /// Orders that are open because a message of theirs was dead-lettered.
    pub dead_lettered: usize,
}

/// Units per SKU that the stack was seeded with.
pub async fn stock(stack: &TestStack) -> BTreeMap<String, i64> {
    let products = documents(stack, "stock", "product").await;
    let units = |product: &Value| {
        product["available"].as_i64().unwrap() + product["reserved"].as_i64().unwrap()
    };
    products.iter().map(|p| (text(&p["sku"]), units(p))).collect()
}

/// Waits until nothing moves any more, then checks every invariant. `accepted` are the orders that
/// were answered 202, `initial` the stock before.
pub async fn prove(
    stack: &TestStack,
    accepted: &[String],
    initial: &BTreeMap<String, i64>,
) -> Counts {
    // I1: every accepted order is closed, or in a dead-letter queue with its reason.
    let mut counts = Counts::default();
    let orders = documents(stack, "orders", "order").await;
    let orders: BTreeMap<String, &Value> = orders.iter().map(|o| (text(&o["id"]), o)).collect();
    let dead = dead_lettered(stack).await;
    for id in accepted {
        let order = orders.get(id).unwrap_or_else(|| panic!("I1: order {id} is lost"));
        match order["overall"].as_str().unwrap() {
            "completed" => counts.completed += 1,
            "failed" => counts.failed += 1,
            "cancelled" => counts.cancelled += 1,
            _ => {
                let reason = dead.get(id);
                let reason = reason.unwrap_or_else(|| {
                    panic!("I1: order {id} is neither closed nor dead-lettered: {order:#}")
                });
                assert!(!reason.is_empty(), "I1: order {id} is dead-lettered without a reason");
                counts.dead_lettered += 1;
            }
        }
    }

    // I4: at most one charge ever, and the money is where the status says.
    let mut captured: BTreeMap<String, i64> = BTreeMap::new();
    let mut net: BTreeMap<String, i64> = BTreeMap::new();
    for line in stack.ledger().await {
        let reference = text(&line["reference"]);
        match line["effect"].as_str().unwrap() {
            "captured" => {
                *captured.entry(reference.clone()).or_default() += 1;
                *net.entry(reference.clone()).or_default() += line["amountMinor"].as_i64().unwrap();
                let order = orders.get(&reference).expect("I2: the bank charged for no order");
                assert_eq!(line["amountMinor"], order["totalMinor"], "I4: {order:#}");
            }
            "refunded" => {
                *net.entry(reference).or_default() -= line["amountMinor"].as_i64().unwrap()
            }
            _ => {}
        }
    }
    for (id, order) in &orders {
        let times = captured.get(id).copied().unwrap_or(0);
        assert!(times <= 1, "I4: order {id} was charged {times} times");
        let paid = net.get(id).copied().unwrap_or(0);
        match (order["overall"].as_str().unwrap(), order["status"]["billing"].as_str().unwrap()) {
            ("failed" | "cancelled", _) | (_, "failed" | "released" | "refunded") => {
                assert_eq!(paid, 0, "I4: {order:#}");
            }
            ("completed", _) | (_, "done") => {
                assert_eq!(paid, order["totalMinor"].as_i64().unwrap(), "I4: {order:#}");
            }
            _ => {}
        }
        legal(order);
    }

    stock_is_conserved(stack, &orders, initial).await;
    outbox_is_empty(stack, &orders).await;
    counts
}

/// I6: the roll-up and the parts agree.
fn legal(order: &Value) {
    let status = |service: &str| order["status"][service].as_str().unwrap();
    let undone = |service: &str| {
        matches!(status(service), "released" | "refunded")
            || (status(service) == "failed" && order["stage"][service]["unwound"] == true)
    };
    let closings = order["history"].as_array().unwrap().iter();
    let closings = closings
        .filter(|e| matches!(e["what"].as_str(), Some("completed" | "order-failed" | "cancelled")))
        .count();
    match order["overall"].as_str().unwrap() {
        "completed" => {
            let all = ["inventory", "billing", "notification"];
            assert!(all.into_iter().all(|service| status(service) == "done"), "I6: {order:#}");
            assert_eq!(closings, 1, "I6: {order:#}");
        }
        "failed" | "cancelled" => {
            assert!(undone("inventory") && undone("billing"), "I6: {order:#}");
            assert_eq!(closings, 1, "I6: {order:#}");
        }
        _ => assert_eq!(closings, 0, "I6: {order:#}"),
    }
}

/// I4: units are available or reserved, nothing else; and an order holds units exactly as long as
/// inventory is done with it.
async fn stock_is_conserved(
    stack: &TestStack,
    orders: &BTreeMap<String, &Value>,
    initial: &BTreeMap<String, i64>,
) {
    let mut held: BTreeMap<String, i64> = BTreeMap::new();
    let mut holders: BTreeSet<String> = BTreeSet::new();
    for reservation in documents(stack, "stock", "reservation").await {
        if reservation["state"] == "reserved" {
            let units = reservation["quantity"].as_i64().unwrap();
            *held.entry(text(&reservation["sku"])).or_default() += units;
            holders.insert(text(&reservation["orderId"]));
        }
    }
    for product in documents(stack, "stock", "product").await {
        let sku = text(&product["sku"]);
        let [available, reserved] =
            ["available", "reserved"].map(|name| product[name].as_i64().unwrap());
        assert!(available >= 0 && reserved >= 0, "I4: {product:#}");
        assert_eq!(available + reserved, initial[&sku], "I4: {product:#}");
        assert_eq!(reserved, held.get(&sku).copied().unwrap_or(0), "I4: {product:#}");
    }
    for (id, order) in orders {
        match order["status"]["inventory"].as_str().unwrap() {
            "done" => assert!(holders.contains(id), "I4: nothing is reserved: {order:#}"),
            "released" => assert!(!holders.contains(id), "I4: still reserved: {order:#}"),
            "failed" if order["stage"]["inventory"]["unwound"] == true => {
                assert!(!holders.contains(id), "I4: still reserved: {order:#}");
            }
            _ => {}
        }
    }
}

/// I7: every event is on the topic, and every closed order has told so.
async fn outbox_is_empty(stack: &TestStack, orders: &BTreeMap<String, &Value>) {
    eventually("I7: no event is left behind", || async {
        let events = documents(stack, "orders", "event").await;
        let pending = events.iter().filter(|event| event["state"] != "published").count();
        (pending == 0).then_some(())
    })
    .await;
    let events = documents(stack, "orders", "event").await;
    let ids: BTreeSet<String> = events.iter().map(|event| text(&event["id"])).collect();
    for (id, order) in orders {
        assert!(ids.contains(&format!("event:{id}:1")), "I7: {order:#}");
        let closed = order["overall"] != "accepted";
        assert_eq!(ids.contains(&format!("event:{id}:5")), closed, "I7: {order:#}");
    }
}

/// Orders in the store.
pub async fn orders(stack: &TestStack) -> usize {
    documents(stack, "orders", "order").await.len()
}

/// The orders that are not closed.
pub async fn open_orders(stack: &TestStack) -> Vec<String> {
    let orders = documents(stack, "orders", "order").await;
    orders.iter().filter(|o| o["overall"] == "accepted").map(|o| text(&o["id"])).collect()
}

/// The orders that have a message in a dead-letter queue or in the poison queue, with the reason.
pub async fn dead_lettered(stack: &TestStack) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for subscription in SUBSCRIPTIONS {
        for message in stack.dead_letters(subscription).await {
            let event: Value = serde_json::from_slice(&message.message.body).unwrap_or_default();
            let reason = message.dead_letter_reason.unwrap_or_default();
            found.insert(event["subject"].as_str().unwrap_or_default().to_owned(), reason);
        }
    }
    for text in stack.queued("payments-poison").await {
        let poison: Value = serde_json::from_str(&text).unwrap_or_default();
        // The host's own copy, after the last dequeue, is the bare payment.
        let (payment, reason) = match poison.get("message") {
            Some(payment) => (payment, poison["reason"].as_str().unwrap_or_default()),
            None => (&poison, "MaxDequeueCountExceeded"),
        };
        let order = payment["orderId"].as_str().unwrap_or_default();
        found.insert(order.to_owned(), reason.to_owned());
    }
    found
}

async fn documents(stack: &TestStack, container: &str, document_type: &str) -> Vec<Value> {
    let query = Query::new("SELECT * FROM c WHERE c.type = @type").with("@type", document_type);
    let container = stack.store().container(container);
    container.query(&query, Scope::All, DOCUMENTS_MAX).await.unwrap()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}
