//! Everything may come twice, at once or much later, and workers may oversleep: each effect
//! happens once.

use std::process::{Child, Command, Stdio};

use azure::bus::Message;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::harness::{TestStack, binary, eventually, order, order_with, signal};
use crate::proof;

/// A message of the topic with the body of an event; `message_id` decides whether the broker can
/// tell that it has seen it.
fn message(event: &Value, message_id: &str) -> Message {
    let event_type = event["type"].as_str().unwrap();
    Message { message_id: Some(message_id.to_owned()), ..Message::new(event.to_string()) }
        .with_property("event_type", event_type)
}

/// The payment that billing puts into its queue for an event.
fn payment(event: &Value) -> String {
    let order = &event["subject"];
    json!({"event": event, "orderId": order, "attempt": 0, "origin": event["id"]}).to_string()
}

/// The events of an order, as stored.
async fn events(stack: &TestStack, id: &str) -> Vec<Value> {
    let orders = stack.store().container("orders");
    let mut found = Vec::new();
    for sequence in 1..=5 {
        let event_id = format!("event:{id}:{sequence}");
        let stored = orders.read::<Value>(id, &event_id).await.unwrap();
        found.extend(stored.map(|document| document.value["event"].clone()));
    }
    found
}

/// Waits until nobody works any more.
async fn quiet(stack: &TestStack) {
    for subscription in proof::SUBSCRIPTIONS {
        let path = format!("orders/Subscriptions/{subscription}");
        let live = stack.bus().management(&path);
        eventually("the subscription is empty", || async {
            live.peek(0, 1).await.unwrap().is_empty().then_some(())
        })
        .await;
    }
    eventually("the payments queue is empty", || async {
        stack.queued("payments").await.is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn duplicates_of_every_message_change_nothing() {
    let stack = TestStack::start().await;
    let initial = proof::stock(&stack).await;
    let completed = stack.submit(&order()).await;
    let declined = stack.submit(&order_with(json!({"billing": "decline"}))).await;
    let too_much = json!({"customerId": "c-twice", "currency": "EUR", "items": [
        {"sku": "magnesium", "quantity": 1}, {"sku": "royal-jelly", "quantity": 6}]});
    let missing = stack.submit(&too_much).await;
    let ids = [completed, declined, missing];
    let mut before = Vec::new();
    for id in &ids {
        stack.until_closed(id).await;
        before.push(
            stack.until(id, "told", |order| order["messages"].as_array().unwrap().len() == 2).await,
        );
    }
    quiet(&stack).await;
    let ledger = stack.ledger().await;

    let topic = stack.bus().sender("orders");
    for id in &ids {
        for event in events(&stack, id).await {
            let event_id = event["id"].as_str().unwrap();
            // Once as the broker knows it, twice as if it had forgotten.
            for message_id in [event_id, &format!("{event_id}-again"), &format!("{event_id}-ever")]
            {
                topic.send(&message(&event, message_id)).await.unwrap();
            }
            for _ in 0..2 {
                stack.enqueue("payments", &payment(&event)).await;
            }
        }
    }
    quiet(&stack).await;
    for (id, before) in ids.iter().zip(before) {
        assert_eq!(stack.order(id).await, before);
    }
    let charges = |lines: &[Value]| lines.iter().filter(|l| l["effect"] == "captured").count();
    assert_eq!(charges(&stack.ledger().await), charges(&ledger));
    proof::prove(&stack, &ids, &initial).await;
}

#[tokio::test]
async fn deliveries_at_the_same_instant_end_with_one_effect() {
    let stack = TestStack::start().await;
    let initial = proof::stock(&stack).await;
    // The first of each is held up, so that all others meet it and each other.
    for point in ["inventory.before-claim", "notification.before-claim", "billing.before-claim"] {
        stack.arm(point, "stall 1000");
    }
    let id = stack.submit(&order()).await;
    let event = events(&stack, &id).await.remove(0);
    let copies: Vec<Message> = (0..8).map(|n| message(&event, &format!("copy-{n}"))).collect();
    let payment = payment(&event);
    let payments = (0..8).map(|_| stack.enqueue("payments", &payment));
    let topic = stack.bus().sender("orders");
    let (sent, _) = tokio::join!(topic.send_batch(&copies), join_all(payments));
    sent.unwrap();
    let done = stack.until_quiet(&id).await;
    quiet(&stack).await;
    assert_eq!(stack.ledger_of(&id).await, ["captured"]);
    let after = stack.order(&id).await;
    assert_eq!(after["status"], done["status"]);
    for what in ["accepted", "completed"] {
        let history = after["history"].as_array().unwrap().iter();
        assert_eq!(history.filter(|entry| entry["what"] == what).count(), 1, "{after:#}");
    }
    proof::prove(&stack, &[id], &initial).await;
}

/// A second instance of an app, as when it is scaled out.
struct Instance(Child);

impl Instance {
    fn start(stack: &TestStack, app: &str) -> Self {
        let endpoints = &stack.endpoints;
        let store =
            format!("AccountEndpoint={}/;AccountKey={};", endpoints.cosmos, endpoints.cosmos_key);
        let process = Command::new(binary("stack"))
            .args(["serve", "host", "--until-stdin-closes", "--queue-lease-seconds", "15"])
            .arg("--root")
            .arg(stack.apps().join(app))
            .env("FUNCTIONS_WORKER_RUNTIME", "custom")
            .env("COSMOS_DISABLE_IMDS", "1")
            .env("OrdersStore", store)
            .env("OrdersBus", &endpoints.bus)
            .env("PaymentsQueue", &endpoints.queue)
            .env("AzureWebJobsStorage", &endpoints.queue)
            .env("BANK_URL", &endpoints.bank)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(process)
    }
}

impl Drop for Instance {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// Freezes the instance that is at work on the order, lets another one finish it after the lease,
/// and wakes the first one up again.
async fn oversleep(app: &str, service: &str, point: &str) {
    let stack = TestStack::start().await;
    let initial = proof::stock(&stack).await;
    stack.hold(point);
    let id = stack.submit(&order()).await;
    eventually("the worker stands still", || async { (!stack.is_armed(point)).then_some(()) })
        .await;
    let frozen = [stack.pid(&format!("host {app}")), stack.handler_pid(app).unwrap()];
    for pid in frozen {
        signal(pid, "STOP");
    }
    let held = stack.order(&id).await;
    assert_eq!(held["status"][service], "processing", "{held:#}");

    let second = Instance::start(&stack, app);
    if app == "inventory" {
        // The frozen host keeps its lock; a copy that the broker cannot tell finds the other one.
        let event = events(&stack, &id).await.remove(0);
        let copies: Vec<Message> = (0..8).map(|n| message(&event, &format!("late-{n}"))).collect();
        stack.bus().sender("orders").send_batch(&copies).await.unwrap();
    }
    let taken_over = stack
        .until_within(&id, std::time::Duration::from_secs(110), "taken over", |order| {
            order["status"][service] == "done"
        })
        .await;
    assert_eq!(taken_over["stage"][service]["attempt"], 2, "{taken_over:#}");
    let done = stack.until_quiet(&id).await;
    stack.release(point);
    for pid in frozen {
        signal(pid, "CONT");
    }
    // Awake again, it meets what the other one has done; another order passes through both.
    let next = stack.submit(&order()).await;
    stack.until_quiet(&next).await;
    assert_eq!(stack.order(&id).await["stage"][service], done["stage"][service]);
    assert_eq!(stack.ledger_of(&id).await, ["captured"]);
    proof::prove(&stack, &[id, next], &initial).await;
    drop(second);
}

#[tokio::test]
async fn a_worker_that_oversleeps_its_lease_reserves_nothing() {
    oversleep("inventory", "inventory", "inventory.after-claim").await;
}

#[tokio::test]
async fn a_worker_that_oversleeps_its_lease_charges_nobody() {
    oversleep("payments", "billing", "billing.before-charge").await;
}

#[tokio::test]
async fn a_payment_that_nobody_can_read_goes_to_the_poison_queue_with_its_reason() {
    let stack = TestStack::start().await;
    let initial = proof::stock(&stack).await;
    let unknown = uuid::Uuid::new_v4().to_string();
    let id = stack.submit(&order()).await;
    stack.until_quiet(&id).await;
    let mut stranger = events(&stack, &id).await.remove(0);
    stranger["subject"] = json!(unknown);
    let mut newer = stranger.clone();
    newer["schemaversion"] = json!(7);
    for text in ["no payment", "{\"event\":{}}", &payment(&newer), &payment(&stranger)] {
        stack.enqueue("payments", text).await;
    }
    let poison = eventually("all of it is set aside", || async {
        let found = stack.queued("payments-poison").await;
        (found.len() == 4).then_some(found)
    })
    .await;
    let mut reasons: Vec<String> = poison
        .iter()
        .map(|text| {
            let poison: Value = serde_json::from_str(text).unwrap();
            assert!(!poison["description"].as_str().unwrap().is_empty(), "{poison:#}");
            poison["reason"].as_str().unwrap().to_owned()
        })
        .collect();
    reasons.sort();
    assert_eq!(
        reasons,
        ["not-a-cloudevent", "not-json", "order-missing", "unknown-schema-version"]
    );
    let next = stack.submit(&order()).await;
    stack.until_quiet(&next).await;
    proof::prove(&stack, &[id, next], &initial).await;
}

#[tokio::test]
async fn a_bank_that_refuses_the_request_sets_the_payment_aside_with_its_reason() {
    let stack = TestStack::start().await;
    let initial = proof::stock(&stack).await;
    // Somebody has used this order's key for another amount: trying again can never help.
    stack.hold("billing.before-claim");
    let id = stack.submit(&order()).await;
    let other = json!({"reference": id, "amountMinor": 1, "currency": "EUR", "customer": "x",
        "instrument": "test-decline"});
    let key = format!("order:{id}:charge");
    let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
    let taken = crate::harness::send(
        &stack.endpoints.bank,
        http::Method::POST,
        "/v1/charges",
        &headers,
        other.to_string(),
    )
    .await;
    assert_eq!(taken.status, 201, "{taken:?}");
    stack.release("billing.before-claim");
    let stuck =
        stack.until(&id, "set aside", |order| order["status"]["billing"] == "dead-lettered").await;
    assert!(stuck["stage"]["billing"]["error"].as_str().unwrap().contains("422"), "{stuck:#}");
    eventually("the payment is in the poison queue", || async {
        let found = proof::dead_lettered(&stack).await;
        (found.get(&id).map(String::as_str) == Some("bank-refused-request")).then_some(())
    })
    .await;
    let counts = proof::prove(&stack, &[id], &initial).await;
    assert_eq!(counts.dead_lettered, 1);
}
