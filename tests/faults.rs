//! What the services do to those who ask: they refuse, they are busy, they cut connections, they do
//! it and never say so. No order is lost, none is done twice, and none is given up on.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{TestStack, order, order_with, send};
use crate::proof;

/// Orders of a run: enough that every kind of request meets every fault.
const ORDERS: usize = 12;

/// Gives a service its rules, sends orders as a careful client does, and waits until each is closed
/// as it should be and every rule is used up.
async fn all_end_well(stack: &TestStack, (base, path): (&str, &str), rules: Value) {
    let initial = proof::stock(stack).await;
    let json = [("content-type", "application/json")];
    let answer = send(base, Method::PUT, path, &json, rules.to_string()).await;
    assert!(answer.status.is_success(), "{answer:?}");
    let submitted = (0..ORDERS).map(|n| async move {
        let (body, end) = match n % 4 {
            3 => (order_with(json!({"billing": "decline"})), "failed"),
            _ => (order(), "completed"),
        };
        (stack.submit_patiently(&body, &format!("key-{n}")).await, end)
    });
    let mut ids = Vec::new();
    for (id, end) in futures::future::join_all(submitted).await {
        let closed = stack.until_closed(&id).await;
        assert_eq!(closed["overall"], end, "{closed:#}");
        ids.push(id);
    }
    let rules = send(base, Method::GET, path, &[], "").await.json();
    let left = rules.as_array().unwrap().iter().filter(|rule| rule["times"] != 0);
    assert_eq!(left.count(), 0, "nothing met these: {rules:#}");
    let counts = proof::prove(stack, &ids, &initial).await;
    assert_eq!(counts.dead_lettered, 0);
    assert_eq!(proof::orders(stack).await, ids.len(), "a repeat made an order of its own");
}

#[tokio::test]
async fn a_store_that_does_it_and_does_not_say_so() {
    let stack = TestStack::start().await;
    let rules = json!([
        {"method": "POST", "path": "/colls/orders/docs", "times": 6, "fault": {"kind": "drop"}},
        {"method": "POST", "path": "/colls/stock/docs", "times": 4, "fault": {"kind": "drop"}},
        {"method": "PATCH", "path": "/docs", "times": 12, "fault": {"kind": "drop"}},
    ]);
    all_end_well(&stack, (&stack.endpoints.cosmos, "/admin/faults"), rules).await;
}

#[tokio::test]
async fn a_store_that_refuses() {
    let stack = TestStack::start().await;
    let refuse = |status: u16, times: u16| {
        json!({"path": "/docs", "times": times,
            "fault": {"kind": "refuse", "status": status, "retryAfterMs": 20}})
    };
    let rules = json!([refuse(429, 12), refuse(449, 6), refuse(503, 6), refuse(408, 6)]);
    all_end_well(&stack, (&stack.endpoints.cosmos, "/admin/faults"), rules).await;
}

#[tokio::test]
async fn a_bus_that_is_busy_detaches_and_hangs_up() {
    let stack = TestStack::start().await;
    let rules = json!([
        {"kind": "serverBusy", "operation": "send", "times": 4},
        {"kind": "detach", "operation": "send", "times": 2},
        {"kind": "drop", "operation": "send", "times": 2},
        {"kind": "drop", "operation": "settle", "times": 2},
        {"kind": "detach", "operation": "receive", "times": 2},
        {"kind": "slow", "millis": 200, "operation": "receive", "times": 4},
    ]);
    all_end_well(&stack, (&stack.endpoints.bus_operations, "/faults"), rules).await;
}
