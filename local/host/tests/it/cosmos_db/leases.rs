//! Several hosts, one lease: who works, and who takes over when.

use std::time::Duration;

use host::LogLine;
use serde_json::json;
use tokio::time::Instant;

use super::store::{Line, Store, connection_string};
use super::{app, delivered, feed, ids};
use crate::app::Log;

fn quick(expiration_ms: u64) -> serde_json::Value {
    feed(|file| {
        let binding = &mut file["bindings"][0];
        binding["leaseExpirationInterval"] = json!(expiration_ms);
        binding["leaseRenewInterval"] = json!(100);
        binding["leaseContainerPrefix"] = json!("relay-");
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_shaped_as_the_dotnet_processor_shapes_it() {
    let store = Store::start().await;
    let host = app(&store, &quick(60_000)).start().await;
    store.create(json!({ "id": "o-1", "pk": "a" })).await;
    let lease = store.lease_becomes(|lease| lease["ContinuationToken"].is_string()).await;
    let id = lease["id"].as_str().unwrap();
    assert!(id.starts_with("relay-127.0.0.1_") && id.ends_with("..0"), "{id}");
    assert_eq!((&lease["LeaseToken"], &lease["properties"]), (&json!("0"), &json!({})));
    assert!(lease["Owner"].is_string() && lease["timestamp"].as_str().unwrap().ends_with('Z'));
    // It is renewed although nothing changes.
    let renewed = |before: &serde_json::Value| {
        let before = before["timestamp"].clone();
        move |lease: &serde_json::Value| lease["timestamp"] != before
    };
    let again = store.lease_becomes(renewed(&lease)).await;
    assert_eq!(again["ContinuationToken"], lease["ContinuationToken"]);
    assert_eq!(again["Owner"], lease["Owner"]);
    host.stop().await;
    assert_eq!(store.lease().await["Owner"], serde_json::Value::Null);
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hosts_never_process_a_range_at_the_same_time() {
    let store = Store::start().await;
    let (one, two) =
        tokio::join!(app(&store, &quick(1_000)).start(), app(&store, &quick(1_000)).start());
    let work = |first: usize| {
        let store = &store;
        async move {
            for number in first..first + 10 {
                store
                    .create(json!({ "id": format!("o-{number}"), "pk": "a", "delayMs": 30 }))
                    .await;
            }
        }
    };
    work(0).await;
    let (busy, idle) = {
        let seen = tokio::select! {
            _ = one.log.said("INVOKED", 1) => true,
            _ = two.log.said("INVOKED", 1) => false,
        };
        if seen { (one, two) } else { (two, one) }
    };
    assert_eq!(delivered(&busy, 10).await.len(), 10);
    // Longer than the lease lasts without being renewed: the other one has had its chances.
    work(10).await;
    assert_eq!(delivered(&busy, 20).await.len(), 20);
    // Everything is recorded before the first one goes.
    store.caught_up().await;
    let before = busy.log.clone();
    busy.stop().await;
    // Given back, so it does not have to expire.
    work(20).await;
    let taken = delivered(&idle, 10).await;
    assert!(taken.iter().any(|id| id == "o-29"), "{taken:?}");
    let after = idle.log.clone();
    idle.stop().await;
    assert_apart(&before, &after);
    store.stop().await;
}

/// No invocation of the one overlaps an invocation of the other.
fn assert_apart(one: &Log, two: &Log) {
    let mut lines: Vec<(usize, LogLine)> = Vec::new();
    for (host, log) in [one, two].into_iter().enumerate() {
        lines.extend(log.lines("Executing 'Functions.Relay'").into_iter().map(|line| (host, line)));
        lines.extend(log.lines("Executed 'Functions.Relay'").into_iter().map(|line| (host, line)));
    }
    lines.sort_by_key(|(_, line)| line.time);
    let mut running: Option<usize> = None;
    for (host, line) in lines {
        if line.text.starts_with("Executing") {
            assert_eq!(running, None, "host {host} begins while another invocation runs");
            running = Some(host);
        } else {
            assert_eq!(running, Some(host), "{}", line.text);
            running = None;
        }
    }
    assert_eq!(running, None);
}

#[test]
fn a_host_that_dies_is_replaced_when_its_lease_has_expired() {
    const EXPIRATION: Duration = Duration::from_millis(1_500);
    let (outer, doomed) = (runtime(), runtime());
    outer.block_on(async {
        let store = Store::start().await;
        let file = quick(u64::try_from(EXPIRATION.as_millis()).unwrap());
        let first = app(&store, &file);
        let first = doomed.spawn(first.start()).await.unwrap();
        store.create(json!({ "id": "done", "pk": "a" })).await;
        assert_eq!(delivered(&first, 1).await, ["done"]);
        store.lease_becomes(|lease| lease["ContinuationToken"].is_string()).await;
        store.create(json!({ "id": "cut-short", "pk": "a", "do": "never" })).await;
        assert_eq!(delivered(&first, 2).await, ["done", "cut-short"]);
        // Nothing of it runs on: no task, no last words to the store.
        doomed.shutdown_background();
        let died = Instant::now();
        store.replace(json!({ "id": "cut-short", "pk": "a" })).await;
        let second = app(&store, &file).start().await;
        assert_eq!(delivered(&second, 1).await, ["cut-short"]);
        // It was renewed a moment before, at most the interval of 100 ms and a slow machine ago.
        let waited = died.elapsed();
        assert!(waited > EXPIRATION / 2, "taken after {waited:?}");
        second.log.wait_for("Executed 'Functions.Relay' (Succeeded", 1).await;
        second.stop().await;
        drop(first);
        store.stop().await;
    });
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_is_cut_off_lets_go_before_another_one_begins() {
    a_host_that_cannot_renew_lets_go(Line::Cut).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_host_that_gets_no_answers_lets_go_before_another_one_begins() {
    a_host_that_cannot_renew_lets_go(Line::Silent).await;
}

async fn a_host_that_cannot_renew_lets_go(line: Line) {
    let store = Store::start().await;
    let relay = store.relay().await;
    let cut_off = app(&store, &quick(1_500))
        .setting("OrdersStore", connection_string(relay.address))
        .start()
        .await;
    store.create(json!({ "id": "long", "pk": "a", "do": "never" })).await;
    assert_eq!(delivered(&cut_off, 1).await, ["long"]);
    relay.set(line);
    let other = app(&store, &quick(1_500)).start().await;
    store.replace(json!({ "id": "long", "pk": "a" })).await;
    other.log.wait_for("Executed 'Functions.Relay' (Succeeded", 1).await;
    assert_eq!(ids(&other.log.said("INVOKED", 1).await), ["long"]);
    let ended = cut_off.log.wait_for("Executed 'Functions.Relay' (Failed", 1).await[0].time;
    let begun = other.log.lines("Executing 'Functions.Relay'").remove(0).time;
    assert!(ended <= begun, "{ended} > {begun}");
    // Back again, it waits its turn.
    relay.set(Line::Open);
    cut_off.log.wait_for("The lease of range 0 of shop/orders is lost", 1).await;
    cut_off.log.wait_for("Reading changes of shop/orders", 2).await;
    other.stop().await;
    store.create(json!({ "id": "turn", "pk": "a" })).await;
    assert!(delivered(&cut_off, 2).await.contains(&"turn".to_owned()));
    cut_off.stop().await;
    store.stop().await;
}
