//! The benchmark of operations: how fast a page of many dead letters is shown, and how fast a
//! thousand of them are replayed. Prints figures and asserts none, as `bench.rs`.
//!
//! Needs `handler` and `stack` beside it: `cargo bench --package e2e --bench orders` builds them.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs, reason = "a benchmark")]
#![allow(dead_code, unreachable_pub, reason = "uses a part of the harness of the tests")]

mod harness;

use std::time::Instant;

use azure::bus::Message;
use http::Method;
use serde_json::json;

use harness::TestStack;

/// Dead letters that are listed.
const LISTED: usize = 10_000;

/// Dead letters that are replayed in one request.
const REPLAYED: usize = 1_000;

/// Messages of one send.
const SEND: usize = 200;

#[tokio::main]
async fn main() {
    let stack = TestStack::start().await;
    // Expired on arrival, so that no consumer has to fail on each: the broker itself moves them.
    let topic = stack.bus().sender("orders");
    for first in (0..LISTED).step_by(SEND) {
        let messages: Vec<Message> = (first..first + SEND)
            .map(|n| {
                let message = Message {
                    message_id: Some(format!("bench-{n}")),
                    time_to_live: Some(std::time::Duration::from_millis(1)),
                    ..Message::new("not an event")
                };
                message
                    .with_property("event_type", "order.created")
                    .with_property("target", "notification-sub")
            })
            .collect();
        topic.send_batch(&messages).await.unwrap();
    }
    let overview = || async {
        let answer = stack.get("/api/ops/dead-letters").await.json();
        let sources = answer["sources"].as_array().unwrap().clone();
        let found = sources.into_iter().find(|s| s["source"] == "notification-sub").unwrap();
        usize::try_from(found["count"].as_u64().unwrap()).unwrap()
    };
    while overview().await < LISTED {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    let begun = Instant::now();
    let counted = overview().await;
    println!("overview of {counted} dead letters: {} ms", begun.elapsed().as_millis());
    let begun = Instant::now();
    let page = stack.get("/api/ops/dead-letters/notification-sub").await;
    assert_eq!(page.status, 200, "{page:?}");
    println!("first page of {counted}: {} ms", begun.elapsed().as_millis());
    let body = json!({"select": {"all": true}, "limit": REPLAYED, "reason": "benchmark"});
    let path = "/api/ops/dead-letters/notification-sub/replay";
    let headers = [("content-type", "application/json")];
    let begun = Instant::now();
    let answer = stack.send(Method::POST, path, &headers, body.to_string()).await;
    let took = begun.elapsed();
    assert_eq!(answer.status, 200, "{answer:?}");
    let rate = f64::from(u32::try_from(REPLAYED).unwrap()) / took.as_secs_f64();
    println!("{}: {} ms, {rate:.0} a second", answer.json()["counts"], took.as_millis());
}
