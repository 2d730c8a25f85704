//! What is down for a while: the bus, the store, a handler. Nothing that was accepted is lost, and
//! nothing is accepted that cannot be kept.

use std::time::{Duration, Instant};

use serde_json::Value;

use crate::harness::{TestStack, eventually, order, signal};

#[tokio::test]
async fn the_bus_may_be_down() {
    let stack = TestStack::start().await;
    let first = stack.submit(&order()).await;
    stack.until_completed(&first).await;

    // Stalled: connections stay, nothing answers.
    let bus = stack.pid("bus");
    signal(bus, "STOP");
    let mut accepted = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        accepted.push(stack.submit(&order()).await);
        assert!(begun.elapsed() < Duration::from_secs(2), "accepting waits for the bus");
    }
    let waiting = stack.order(&accepted[0]).await;
    assert_eq!(waiting["status"]["billing"], "pending");
    signal(bus, "CONT");
    for id in &accepted {
        stack.until_completed(id).await;
    }

    // Gone, and back with what it held.
    signal(bus, "KILL");
    let id = stack.submit(&order()).await;
    stack.until_completed(&id).await;
    assert!(stack.log().contains("bus exited"), "{}", stack.log());
}

#[tokio::test]
async fn the_store_may_be_down() {
    let stack = TestStack::start().await;
    stack.submit(&order()).await;
    let cosmos = stack.pid("cosmos");
    signal(cosmos, "STOP");
    let refused = stack.post(&order(), &[("idempotency-key", "the-one")]).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    assert_eq!(refused.json()["type"], "/problems/store-unavailable");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    assert_eq!(stack.get("/readyz").await.status, 503);
    assert_eq!(stack.get("/healthz").await.status, 200, "the process is fine");
    signal(cosmos, "CONT");
    // The client does as it was told: the same request again, under the same key.
    let id = eventually("the store is back", || async {
        let answer = stack.post(&order(), &[("idempotency-key", "the-one")]).await;
        (answer.status == 202).then(|| answer.json()["orderId"].as_str().unwrap().to_owned())
    })
    .await;
    stack.until_completed(&id).await;
    let orders = stack.get("/api/orders?limit=100").await.json();
    let same = orders["orders"].as_array().unwrap().iter().filter(|o| o["orderId"] == *id).count();
    assert_eq!(same, 1);
}

#[tokio::test]
async fn a_handler_may_die() {
    let stack = TestStack::start().await;
    let handler = stack.handler_pid("billing").unwrap();
    signal(handler, "KILL");
    let id = stack.submit(&order()).await;
    let order: Value = stack.until_completed(&id).await;
    assert_eq!(order["status"]["billing"], "done");
    assert_ne!(stack.handler_pid("billing"), Some(handler), "the host has started another");
}

#[tokio::test]
async fn the_order_api_may_die_with_events_that_the_bus_has_not_taken() {
    let stack = TestStack::start().await;
    let warm = stack.submit(&order()).await;
    stack.until_completed(&warm).await;
    // Accepted while nothing can be published, then gone with everything it held in memory.
    let bus = stack.pid("bus");
    signal(bus, "STOP");
    let mut accepted = Vec::new();
    for _ in 0..5 {
        accepted.push(stack.submit(&order()).await);
    }
    signal(stack.handler_pid("order-api").unwrap(), "KILL");
    signal(bus, "CONT");
    for id in &accepted {
        eventually("the host has started another handler", || async {
            (stack.get("/healthz").await.status == 200).then_some(())
        })
        .await;
        let done = stack.until_completed(id).await;
        assert_eq!(done["stage"]["billing"]["attempt"], 1, "{done:#}");
    }
}

#[tokio::test]
async fn a_host_may_die() {
    let stack = TestStack::start().await;
    signal(stack.pid("host inventory"), "KILL");
    let id = stack.submit(&order()).await;
    stack.until_completed(&id).await;
    assert!(stack.log().contains("inventory exited"), "{}", stack.log());
}

#[tokio::test]
async fn a_store_that_is_slow_is_not_asked_for_more() {
    let stack = TestStack::start().await;
    let warm = stack.submit(&order()).await;
    stack.until_completed(&warm).await;
    let cosmos = stack.pid("cosmos");
    signal(cosmos, "STOP");
    // More than may be on their way at once; the others are told so without waiting for the store.
    let body = order();
    let posts = futures::future::join_all((0..300).map(|_| stack.post(&body, &[]))).await;
    signal(cosmos, "CONT");
    let kinds: Vec<String> =
        posts.iter().map(|answer| answer.json()["type"].as_str().unwrap().to_owned()).collect();
    assert!(posts.iter().all(|a| a.status == 503 && !a.header("retry-after").is_empty()));
    assert!(kinds.iter().any(|kind| kind == "/problems/overloaded"), "{kinds:?}");
    let id = stack.submit_patiently(&order(), "after-the-flood").await;
    stack.until_completed(&id).await;
}
