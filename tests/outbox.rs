//! What is left behind in the outbox: the sweep finds what the feed has missed, and an event that
//! can never be sent is in nobody's way.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{TestStack, eventually, order, send};

/// Runs a timer function now, through the host's admin endpoint.
async fn run_now(stack: &TestStack, app: &str, function: &str) {
    let name = format!("host {app}");
    let process = stack.endpoints.processes.iter().find(|p| p.name == name).unwrap();
    let path = format!("/admin/functions/{function}");
    let json = [("content-type", "application/json")];
    let base = format!("http://{}", process.address);
    let answer = send(&base, Method::POST, &path, &json, r#"{"input":""}"#).await;
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[tokio::test]
async fn the_sweep_publishes_what_the_feed_has_missed() {
    let stack = TestStack::start_with(&["--set", "AzureWebJobs.relay.Disabled=true"]).await;
    let warm = stack.submit(&order()).await;
    stack.until_quiet(&warm).await;
    // Accepted by a process that dies before it publishes.
    stack.arm("publish.before-send", "abort");
    let id = stack.submit(&order()).await;
    eventually("the process dies", || async {
        (!stack.is_armed("publish.before-send")).then_some(())
    })
    .await;
    eventually("the host has started another handler", || async {
        stack.overall(&id).await.map(drop)
    })
    .await;
    assert_eq!(stack.order(&id).await["status"]["inventory"], "pending");
    // Only what has been pending for half a minute was missed.
    let done = async {
        loop {
            run_now(&stack, "outbox", "sweep").await;
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
        }
    };
    let limit = std::time::Duration::from_secs(90);
    tokio::select! {
        () = done => {}
        completed = stack.until_within(&id, limit, "completed", |o| o["overall"] == "completed") => {
            assert_eq!(completed["status"]["billing"], "done");
        }
    }
}

#[tokio::test]
async fn an_event_that_can_never_be_sent_is_parked_and_blocks_nobody() {
    let stack = TestStack::start().await;
    let id = stack.submit(&order()).await;
    stack.until_quiet(&id).await;
    let orders = stack.store().container("orders");
    let mut event: Value = orders.read(&id, &format!("event:{id}:1")).await.unwrap().unwrap().value;
    // Larger than any message of the topic; the store takes up to 2 MB.
    let event_id = format!("event:{id}:9");
    event["id"] = json!(event_id);
    event["messageId"] = json!(event_id);
    event["event"]["id"] = json!(event_id);
    event["event"]["data"] = json!("x".repeat(1_500_000));
    event["state"] = json!("pending");
    for name in ["ttl", "publishedAt", "_rid", "_self", "_etag", "_attachments", "_ts"] {
        event.as_object_mut().unwrap().remove(name);
    }
    orders.create(&id, &event).await.unwrap();
    let parked = eventually("the event is parked", || async {
        let attention = stack.get("/api/ops/attention").await.json();
        attention["parkedEvents"].as_array().unwrap().first().cloned()
    })
    .await;
    assert_eq!(parked["eventId"], event_id);
    assert_eq!(parked["orderId"], id);
    assert!(parked["reason"].as_str().unwrap().contains("larger"), "{parked:#}");
    let next = stack.submit(&order()).await;
    stack.until_quiet(&next).await;
    let attention = stack.get("/api/ops/attention").await.json();
    assert_eq!(attention["parkedEvents"].as_array().unwrap().len(), 1);
    assert_eq!(attention["stuckOrders"], json!([]));
}
