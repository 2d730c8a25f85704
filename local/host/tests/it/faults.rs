//! Faults on request: each does what it says to one invocation, and the next one is unharmed.

use std::time::Duration;

use host::{Faults, HandlerStatus};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::app::{App, PATIENCE, Running};
use crate::storage::Storage;
use crate::wire::{Wire, call};

async fn start(storage: &Storage, faults: &Faults) -> Running {
    let app = App::new(|host| host["functionTimeout"] = json!("00:05:00"));
    let app = app
        .function(
            "Work",
            &json!([{ "type": "queueTrigger", "name": "job", "direction": "in",
                "queueName": "jobs" }]),
        )
        .http("Pid", "pid")
        .setting("AzureWebJobsStorage", storage.connection_string());
    let faults = faults.clone();
    app.start_with(|options| {
        options.faults = faults;
        options.faults_over_http = true;
    })
    .await
}

async fn ask(host: &Running, plan: &Value) {
    let answer = call(host.address, "PUT /admin/local/faults", &plan.to_string()).await;
    assert_eq!(answer.status, 204, "{answer:?}");
}

/// Ids of the messages as the handler got them, and how often each had been taken by then.
fn delivered(seen: &[Value]) -> Vec<(Value, Value)> {
    let metadata = |seen: &Value, name: &str| seen["envelope"]["Metadata"][name].clone();
    seen.iter().map(|seen| (metadata(seen, "n"), metadata(seen, "DequeueCount"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_item_comes_twice_and_is_settled_once() {
    let storage = Storage::with(&["jobs"]).await;
    let host = start(&storage, &Faults::default()).await;
    ask(&host, &json!({ "rules": [{ "function": "work", "times": 1, "kind": "duplicate" }] }))
        .await;
    storage.put("jobs", &json!({ "n": 1 })).await;
    let seen = host.log.said("INVOKED", 2).await;
    let one = || (json!("\"1\""), json!("1"));
    assert_eq!(delivered(&seen), [one(), one()]);
    assert_ne!(seen[0]["id"], seen[1]["id"], "each has an id of its own");
    storage.count_becomes("jobs", 0, &host).await;
    storage.put("jobs", &json!({ "n": 2 })).await;
    storage.count_becomes("jobs", 0, &host).await;
    assert_eq!(host.log.said("INVOKED", 3).await.len(), 3);
    let left = call(host.address, "GET /admin/local/faults", "").await.body;
    let empty = json!({ "rules": [], "clockAheadSeconds": 0 });
    assert_eq!(serde_json::from_str::<Value>(&left).unwrap(), empty);
    host.stop().await;
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_answer_and_a_forced_timeout_bring_the_item_back() {
    let storage = Storage::with(&["jobs"]).await;
    let mut host = start(&storage, &Faults::default()).await;
    let pid = host.pid().await;
    ask(
        &host,
        &json!({ "rules": [
        { "times": 1, "kind": "drop" }, { "times": 1, "kind": "timeout" },
    ] }),
    )
    .await;
    storage.put("jobs", &json!({ "n": 1 })).await;
    storage.count_becomes("jobs", 0, &host).await;
    let seen = host.log.said("INVOKED", 3).await;
    let counts: Vec<Value> = delivered(&seen).into_iter().map(|(_, count)| count).collect();
    assert_eq!(counts, ["1", "2", "3"]);
    host.log.wait_for("dropped in the middle of the answer", 1).await;
    host.log.wait_for("exceeded by function 'Functions.Work'", 1).await;
    assert_ne!(host.pid_other_than(pid).await, pid, "a timeout costs the handler");
    host.stop().await;
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_is_restarted_or_stands_still_before_a_delivery() {
    let storage = Storage::with(&["jobs"]).await;
    let faults = Faults::default();
    let mut host = start(&storage, &faults).await;
    let pid = host.pid().await;
    ask(&host, &json!({ "rules": [{ "times": 1, "kind": "restart" }] })).await;
    storage.put("jobs", &json!({ "n": 1 })).await;
    storage.count_becomes("jobs", 0, &host).await;
    let new = host.pid_other_than(pid).await;
    assert_eq!(delivered(&host.log.said("INVOKED", 1).await).len(), 1, "the item was not lost");

    let pause = Duration::from_millis(400);
    ask(&host, &json!({ "rules": [{ "times": 1, "kind": "pause", "millis": 400 }] })).await;
    let begun = tokio::time::Instant::now();
    let answer = timeout(PATIENCE, call(host.address, "GET /api/pid", "")).await.unwrap();
    assert_eq!(answer.body, new.to_string(), "the same process goes on");
    assert!(begun.elapsed() >= pause, "it stood still before it was called");
    host.status(HandlerStatus::Ready { pid: new }).await;
    host.stop().await;
    storage.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn proxied_and_forwarded_calls_are_dropped_and_time_out_too() {
    for forwarding in [false, true] {
        let app = App::new(|host| {
            host["customHandler"]["enableProxyingHttpRequest"] = json!(!forwarding);
            host["customHandler"]["enableForwardingHttpRequest"] = json!(forwarding);
        });
        let app = app.http("Pid", "pid").http("Echo", "echo");
        let mut host = app.start_with(|options| options.faults_over_http = true).await;
        let pid = host.pid().await;
        let drop = json!({ "function": "echo", "times": 1, "kind": "drop" });
        ask(&host, &json!({ "rules": [drop, { "times": 1, "kind": "timeout" }] })).await;
        let mut wire = Wire::connect(host.address).await;
        wire.send("GET /api/echo HTTP/1.1\r\nhost: h\r\n\r\n").await;
        let torn = wire.until_closed().await;
        match forwarding {
            // The host has nothing to hand on.
            true => assert!(torn.starts_with("HTTP/1.1 500"), "{torn}"),
            false => {
                assert!(torn.starts_with("HTTP/1.1 200"), "{torn}");
                assert!(torn.contains("\"headers\"") && !torn.contains("\"target\""), "{torn}");
            }
        }
        host.log.wait_for("dropped in the middle of the answer", 1).await;
        assert_eq!(call(host.address, "GET /api/pid", "").await.status, 500);
        host.log.wait_for("exceeded by function 'Functions.Pid'", 1).await;
        assert_ne!(host.pid_other_than(pid).await, pid, "a timeout costs the handler");
        assert_eq!(call(host.address, "GET /api/echo", "").await.status, 200);
        host.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_jumps_and_timers_notice() {
    let app = App::new(|_| {}).function(
        "Tick",
        &json!([{ "type": "timerTrigger", "name": "tick", "direction": "in",
            "schedule": "0 0 0 1 1 *" }]),
    );
    let faults = Faults::default();
    let shared = faults.clone();
    let mut host = app.start_with(|options| options.faults = shared).await;
    host.pid().await;
    assert!(host.log.lines("INVOKED").is_empty());
    let year = 366 * 24 * 60 * 60;
    let plan = host::FaultPlan { rules: Vec::new(), clock_ahead_seconds: year };
    faults.set(plan).unwrap();
    let seen = host.log.said("INVOKED", 1).await;
    assert_eq!(seen[0]["path"], "/Tick");
    host.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_can_ask_for_faults_unless_that_was_allowed() {
    let host = App::new(|_| {}).http("Pid", "pid").start().await;
    let answer = call(host.address, "PUT /admin/local/faults", r#"{"rules":[]}"#).await;
    assert_eq!(answer.status, 404);
    host.stop().await;

    let app = App::new(|_| {}).http("Pid", "pid");
    let host = app.start_with(|options| options.faults_over_http = true).await;
    for wrong in ["{", r#"{"rules":[{"kind":"explode"}]}"#, r#"{"rule":[]}"#] {
        let answer = call(host.address, "PUT /admin/local/faults", wrong).await;
        assert_eq!(answer.status, 400, "{wrong}: {answer:?}");
    }
    assert_eq!(call(host.address, "DELETE /admin/local/faults", "").await.status, 204);
    host.stop().await;
}
