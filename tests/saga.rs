//! Orders that do not go through: out of stock, declined, cancelled, and a bank that misbehaves.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{TestStack, eventually, order, order_with, shared};
use crate::proof;

fn whats(order: &Value) -> Vec<&str> {
    order["history"].as_array().unwrap().iter().map(|e| e["what"].as_str().unwrap()).collect()
}

/// The customer was told this, in this order; the first may be left out where the last overtook it.
async fn told(stack: &TestStack, id: &str, notices: &[&str]) {
    eventually("the customer is told how it ended", || async {
        let order = stack.order(id).await;
        let messages = order["messages"].as_array().unwrap();
        let found: Vec<_> = messages.iter().map(|m| m["notice"].as_str().unwrap()).collect();
        (found == notices || found == notices[1..]).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_declined_payment_fails_the_order_and_gives_the_stock_back() {
    let stack = TestStack::start().await;
    let initial = proof::stock(&stack).await;
    let id = stack.submit(&order_with(json!({"billing": "decline"}))).await;
    let closed = stack.until_closed(&id).await;
    assert_eq!(closed["overall"], "failed", "{closed:#}");
    assert_eq!(closed["status"]["billing"], "failed");
    assert_eq!(closed["stage"]["billing"]["outcome"], "payment_declined");
    assert_eq!(closed["status"]["inventory"], "released");
    assert_eq!(whats(&closed).last(), Some(&"order-failed"));
    told(&stack, &id, &["received", "failed"]).await;
    assert_eq!(stack.ledger_of(&id).await, ["declined"]);
    proof::prove(&stack, &[id], &initial).await;
}

#[tokio::test]
async fn the_last_units_are_sold_once() {
    let stack = TestStack::start().await;
    let initial = proof::stock(&stack).await;
    let five = usize::try_from(initial["royal-jelly"]).unwrap();
    // A second line, so that part of a rejected order is reserved and has to be given back.
    let body = json!({"customerId": "c-rush", "currency": "EUR", "items": [
        {"sku": "magnesium", "quantity": 1}, {"sku": "royal-jelly", "quantity": 1},
    ]});
    let submitted = futures::future::join_all((0..12).map(|_| stack.submit(&body))).await;
    let mut completed = 0;
    for id in &submitted {
        let closed = stack.until_closed(id).await;
        match closed["overall"].as_str().unwrap() {
            "completed" => completed += 1,
            _ => {
                assert_eq!(closed["stage"]["inventory"]["outcome"], "out_of_stock", "{closed:#}");
            }
        }
    }
    assert_eq!(completed, five);
    let counts = proof::prove(&stack, &submitted, &initial).await;
    assert_eq!((counts.completed, counts.failed), (five, 12 - five));
}

#[tokio::test]
async fn an_order_can_be_cancelled_until_somebody_sets_out_to_charge() {
    let stack = TestStack::start().await;
    let initial = proof::stock(&stack).await;
    stack.hold("billing.before-hand-over");
    let id = stack.submit(&order()).await;
    stack.until(&id, "reserved", |order| order["status"]["inventory"] == "done").await;
    let answer = stack.cancel(&id).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(stack.cancel(&id).await.status, 202, "cancelling again changes nothing");
    stack.release("billing.before-hand-over");
    let closed = stack.until_closed(&id).await;
    assert_eq!(closed["overall"], "cancelled", "{closed:#}");
    assert_eq!(closed["status"]["inventory"], "released");
    assert_eq!(closed["status"]["billing"], "released");
    told(&stack, &id, &["received", "cancelled"]).await;
    assert!(stack.ledger_of(&id).await.is_empty(), "nobody ever spoke to the bank");
    assert_eq!(stack.cancel(&id).await.status, 202);

    let paid = stack.submit(&order()).await;
    stack.until_completed(&paid).await;
    let refused = stack.cancel(&paid).await;
    assert_eq!(refused.status, 409);
    assert_eq!(refused.json()["type"], "/problems/order-closed");
    let unknown = stack.cancel(&uuid::Uuid::new_v4().to_string()).await;
    assert_eq!(unknown.status, 404);
    proof::prove(&stack, &[id, paid], &initial).await;
}

#[tokio::test]
async fn a_payment_that_was_made_goes_back_when_the_stock_is_missing() {
    let stack = TestStack::start().await;
    let initial = proof::stock(&stack).await;
    // Inventory finds out late, so that billing is done by then.
    stack.hold("inventory.before-claim");
    let body = json!({"customerId": "c-late", "currency": "EUR",
        "items": [{"sku": "royal-jelly", "quantity": 6}]});
    let id = stack.submit(&body).await;
    stack.until(&id, "paid", |order| order["status"]["billing"] == "done").await;
    let refused = stack.cancel(&id).await;
    assert_eq!(refused.json()["type"], "/problems/payment-begun", "{refused:?}");
    stack.release("inventory.before-claim");
    let closed = stack.until_closed(&id).await;
    assert_eq!(closed["overall"], "failed", "{closed:#}");
    assert_eq!(closed["status"]["billing"], "refunded");
    assert_eq!(stack.ledger_of(&id).await, ["captured", "refunded"]);
    told(&stack, &id, &["received", "failed"]).await;
    proof::prove(&stack, &[id], &initial).await;
}

#[tokio::test]
async fn compensation_may_arrive_before_the_act() {
    let stack = TestStack::start().await;
    let initial = proof::stock(&stack).await;
    stack.hold("inventory.before-claim");
    let id = stack.submit(&order_with(json!({"billing": "decline"}))).await;
    let released = stack.until_closed(&id).await;
    stack.release("inventory.before-claim");
    assert_eq!(released["status"]["inventory"], "released");
    assert_eq!(released["stage"]["inventory"]["attempt"], 0, "nobody had begun: {released:#}");
    // The act comes late, meets the tombstone, and does nothing.
    eventually("the late reservation has passed", || async {
        let log = stack.full_log();
        let passed = |line: &&str| line.contains(&id) && line.contains("nothing left to do");
        log.lines().any(|line| passed(&line)).then_some(())
    })
    .await;
    proof::prove(&stack, &[id], &initial).await;
}

#[tokio::test]
async fn an_answer_that_is_late_or_lost_is_looked_up_and_never_paid_twice() {
    let stack = shared().await;
    for fault in ["late", "lost"] {
        let id = stack.submit(&order_with(json!({"billing": fault}))).await;
        let done = stack.until_completed(&id).await;
        assert_eq!(done["status"]["billing"], "done", "{fault}: {done:#}");
        assert_eq!(stack.ledger_of(&id).await, ["captured"], "{fault}");
    }
}

#[tokio::test]
async fn a_transient_failure_comes_back_after_a_visible_and_bounded_delay() {
    let stack = shared().await;
    let faults = json!({"inventory": "flaky", "billing": "flaky", "notification": "flaky"});
    let id = stack.submit(&order_with(faults)).await;
    let done = stack.until_completed(&id).await;
    for service in ["inventory", "billing", "notification"] {
        let history = done["history"].as_array().unwrap().iter();
        let retries: Vec<&Value> =
            history.filter(|e| e["what"] == "retry-scheduled" && e["service"] == service).collect();
        assert_eq!(retries.len(), 2, "{service}: {done:#}");
        let delays: Vec<u64> = retries
            .iter()
            .map(|entry| {
                let note = entry["note"].as_str().unwrap();
                let ms = note.rsplit_once("again in ").unwrap().1;
                ms.split_once(' ').unwrap().0.parse().unwrap()
            })
            .collect();
        assert!((500..=1_000).contains(&delays[0]), "{service}: {delays:?}");
        assert!((1_000..=2_000).contains(&delays[1]), "{service}: {delays:?}");
        assert_eq!(done["stage"][service]["attempt"], 3, "{service}: {done:#}");
    }
    // Handed over once the failing was done, not before.
    let at = |entry: &Value| entry["at"].as_str().unwrap().to_owned();
    let history = done["history"].as_array().unwrap().iter();
    let failed = history.filter(|e| e["what"] == "retry-scheduled" && e["service"] == "billing");
    let handed_over = done["stage"]["billing"]["handedOverAt"].as_str().unwrap();
    assert!(failed.map(at).all(|at| at.as_str() < handed_over), "{done:#}");
    assert_eq!(stack.ledger_of(&id).await, ["captured"]);
    for subscription in proof::SUBSCRIPTIONS {
        let dead = stack.dead_letters(subscription).await;
        let mine = dead.iter().filter(|m| String::from_utf8_lossy(&m.message.body).contains(&id));
        assert_eq!(mine.count(), 0, "no delivery was burnt");
    }
}

#[tokio::test]
async fn a_bank_that_is_away_slows_billing_down_and_nothing_else() {
    let stack = TestStack::start().await;
    let initial = proof::stock(&stack).await;
    let script = |behaviour: Value| json!({"rules": [{"match": {}, "operation": "any", "times": null, "behaviour": behaviour}]});
    let down = script(json!({"kind": "fail", "status": 503}));
    assert_eq!(stack.bank(Method::PUT, "/v1/script", &down).await.status, 200);
    let mut submitted = Vec::new();
    for _ in 0..8 {
        submitted.push(stack.submit(&order()).await);
    }
    for id in &submitted {
        stack
            .until(id, "done elsewhere", |order| {
                order["status"]["inventory"] == "done" && order["status"]["notification"] == "done"
            })
            .await;
    }
    eventually("the circuit breaker opens", || async {
        stack.full_log().contains("the circuit breaker opened").then_some(())
    })
    .await;
    assert!(stack.dead_letters("billing-sub").await.is_empty(), "no delivery is burnt");
    // Back, but slow for a while: the answer comes after the effect and after our patience.
    let slow = json!({"rules": [{"match": {}, "operation": "charge", "times": 2,
        "behaviour": {"kind": "late", "millis": 4_000}}]});
    assert_eq!(stack.bank(Method::PUT, "/v1/script", &slow).await.status, 200);
    for id in &submitted {
        stack.until_completed(id).await;
    }
    let counts = proof::prove(&stack, &submitted, &initial).await;
    assert_eq!(counts.completed, submitted.len());
}
