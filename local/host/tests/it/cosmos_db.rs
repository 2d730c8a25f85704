//! `cosmosDBTrigger` against a real store over HTTP: envelopes, checkpoints, leases, several hosts,
//! a host that dies, and a store that comes and goes.

mod leases;
pub(crate) mod store;

use std::collections::HashSet;

use host::Level;
use serde_json::{Value, json};
use tokio::time::{Duration, Instant};

use crate::app::{App, Log, Running};
use crate::wire::call;
use store::{Line, Store};

/// A function on `shop/orders`, with everything as fast as can be, changed by `change`.
fn feed(change: impl FnOnce(&mut Value)) -> Value {
    let mut file = json!({ "bindings": [{
        "type": "cosmosDBTrigger", "name": "docs", "direction": "in",
        "databaseName": "shop", "containerName": "%CONTAINER%", "connection": "OrdersStore",
        "createLeaseContainerIfNotExists": true, "startFromBeginning": true,
        "feedPollDelay": 20, "leaseAcquireInterval": 100
    }] });
    change(&mut file);
    file
}

fn app(store: &Store, file: &Value) -> App {
    App::new(|_| {})
        .function_json("Relay", file)
        .setting("OrdersStore", store.connection_string())
        .setting("CONTAINER", "orders")
}

fn retrying(most: i64) -> Value {
    json!({ "strategy": "fixedDelay", "maxRetryCount": most, "delayInterval": "00:00:00.02" })
}

/// The documents of an invocation, unpacked as often as they are packed.
fn documents(seen: &Value) -> Vec<Value> {
    let packed = seen["envelope"]["Data"]["docs"].as_str().unwrap();
    let text: String = serde_json::from_str(packed).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The ids of all documents of all invocations, in order.
fn ids(seen: &[Value]) -> Vec<String> {
    let id = |document: Value| document["id"].as_str().unwrap().to_owned();
    seen.iter().flat_map(documents).map(id).collect()
}

/// Waits until the function was called with `count` documents, and returns their ids.
async fn delivered(host: &Running, count: usize) -> Vec<String> {
    for calls in 1.. {
        let seen = ids(&host.log.said("INVOKED", calls).await);
        if seen.len() >= count {
            return seen;
        }
    }
    unreachable!("waiting fails before counting ends")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_arrives_as_azure_sends_it() {
    let store = Store::start().await;
    store.create(json!({ "id": "o-1", "pk": "a", "text": "a \"quoted\" word" })).await;
    let host = app(&store, &feed(|_| {})).start().await;
    let seen = host.log.said("INVOKED", 1).await.remove(0);
    assert_eq!((&seen["path"], &seen["method"]), (&json!("/Relay"), &json!("POST")));
    let data = seen["envelope"]["Data"]["docs"].as_str().unwrap();
    let head = r#""[{\"id\":\"o-1\",\"pk\":\"a\",\"text\":\"a \\\"quoted\\\" word\",\"_rid\":\""#;
    assert!(data.starts_with(head) && data.ends_with("}]\""), "{data}");
    let document = documents(&seen).remove(0);
    for property in ["_rid", "_self", "_etag", "_attachments", "_ts", "_lsn"] {
        assert!(!document[property].is_null(), "{property} in {document}");
    }
    assert!(document["_etag"].as_str().unwrap().starts_with('"'), "an ETag has its quotes");
    let metadata = seen["envelope"]["Metadata"].as_object().unwrap();
    assert_eq!(metadata.keys().collect::<Vec<_>>(), ["sys"]);
    assert_eq!(metadata["sys"]["MethodName"], "Relay");

    let reason = "Executing 'Functions.Relay' (Reason='New changes on container orders at 20";
    host.log.wait_for(reason, 1).await;
    host.log.wait_for("Executed 'Functions.Relay' (Succeeded", 1).await;
    host.log.wait_for("Lease container shop/leases created", 1).await;
    let listed = call(host.address, "GET /admin/functions", "").await;
    assert!(listed.body.contains("cosmosDBTrigger"), "{}", listed.body);
    let log = host.stop().await.text();
    assert!(log.contains("\tRelay: cosmosDBTrigger"), "{log}");
    assert!(!log.contains("C2y6yDjf5"), "the key is a secret");
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_follow_each_other_at_once_and_are_no_larger_than_asked() {
    let store = Store::start().await;
    for number in 0..10 {
        store.create(json!({ "id": format!("o-{number}"), "pk": "a" })).await;
    }
    let file = feed(|file| {
        file["bindings"][0]["maxItemsPerInvocation"] = json!(2);
        file["bindings"][0]["feedPollDelay"] = json!(60_000);
    });
    let started = Instant::now();
    let host = app(&store, &file).start().await;
    let seen = host.log.said("INVOKED", 5).await;
    assert!(started.elapsed() < Duration::from_secs(30), "no page waited for the poll delay");
    assert!(seen.iter().all(|call| documents(call).len() == 2), "{seen:?}");
    let expected: Vec<String> = (0..10).map(|number| format!("o-{number}")).collect();
    assert_eq!(ids(&seen), expected);
    host.stop().await;
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_page_is_skipped_and_that_is_said_once() {
    let store = Store::start().await;
    let host = app(&store, &feed(|_| {})).start().await;
    let asked = [("bad", "fail"), ("worse", "plain"), ("good", "ok")];
    for (before, (id, asked)) in asked.into_iter().enumerate() {
        store.create(json!({ "id": id, "pk": "a", "do": asked })).await;
        delivered(&host, before + 1).await;
    }
    host.log.wait_for("Executed 'Functions.Relay' (Succeeded", 1).await;
    // Had a page come again, it would have come before the next one.
    assert_eq!(delivered(&host, 3).await, ["bad", "worse", "good"]);
    store.caught_up().await;
    let log = host.stop().await;
    let warnings: Vec<String> =
        log.at(Level::Warning).into_iter().filter(|text| text.contains("skipped")).collect();
    assert_eq!(warnings.len(), 2, "explained once, and counted: {warnings:?}");
    assert!(warnings[1].ends_with("which has no retry policy: 2 times in all."), "{warnings:?}");
    for part in ["has no retry policy", "range 0 of shop/orders", "Relay/function.json"] {
        assert!(warnings[0].contains(part), "{part} in {}", warnings[0]);
    }
    // The lease has moved on: nothing comes again.
    let host = app(&store, &feed(|_| {})).start().await;
    store.create(json!({ "id": "last", "pk": "a" })).await;
    assert_eq!(delivered(&host, 1).await, ["last"]);
    host.stop().await;
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endless_policy_holds_the_range_until_the_page_succeeds() {
    let store = Store::start().await;
    store.create(json!({ "id": "hard", "pk": "a", "failUntilRetry": 3 })).await;
    let file = feed(|file| file["retry"] = retrying(-1));
    let host = app(&store, &file).start().await;
    host.log.said("INVOKED", 1).await;
    store.create(json!({ "id": "next", "pk": "b" })).await;
    assert_eq!(delivered(&host, 5).await, ["hard", "hard", "hard", "hard", "next"]);
    let seen = host.log.said("INVOKED", 5).await;
    let context = |call: &Value| call["envelope"]["Metadata"]["RetryContext"].clone();
    let counts: Vec<_> = seen.iter().map(|call| context(call)["RetryCount"].clone()).collect();
    assert_eq!(counts, [0, 1, 2, 3, 0]);
    assert_eq!(
        context(&seen[0]),
        json!({ "RetryCount": 0, "MaxRetryCount": -1, "Exception": null })
    );
    let why = context(&seen[1])["Exception"]["Message"].clone();
    assert!(why.as_str().unwrap().contains("500 (Internal Server Error)"), "{why}");
    let invocations: HashSet<_> = seen.iter().map(|call| call["id"].as_str().unwrap()).collect();
    assert_eq!(invocations.len(), 5, "every attempt is an invocation of its own");
    let log = host.stop().await.text();
    assert!(!log.contains("skipped"), "{log}");
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_ends_skips_the_page() {
    let store = Store::start().await;
    store.create(json!({ "id": "bad", "pk": "a", "do": "fail" })).await;
    let file = feed(|file| file["retry"] = retrying(2));
    let host = app(&store, &file).start().await;
    let warned = host.log.wait_for("has used up its 2 retries", 1).await;
    assert!(warned[0].text.contains("maxRetryCount to -1"), "{}", warned[0].text);
    host.log.wait_for("Function execution failed after '2' retries.", 1).await;
    store.create(json!({ "id": "good", "pk": "a" })).await;
    assert_eq!(delivered(&host, 4).await, ["bad", "bad", "bad", "good"]);
    host.stop().await;
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_records_nothing_that_was_not_finished_before() {
    let store = Store::start().await;
    // While it is retried.
    store.create(json!({ "id": "stuck", "pk": "a", "do": "fail" })).await;
    let slow = feed(|file| {
        file["retry"] =
            json!({ "strategy": "fixedDelay", "maxRetryCount": -1, "delayInterval": "01:00:00" });
    });
    let host = app(&store, &slow).start().await;
    host.log.wait_for("Waiting for `3600s` before retrying", 1).await;
    let started = Instant::now();
    let log = host.stop().await.text();
    assert!(started.elapsed() < Duration::from_secs(8), "the wait was interrupted: {log}");
    assert!(log.contains("is delivered again"), "{log}");
    assert_eq!(store.lease().await["Owner"], Value::Null);

    // While it runs, although it succeeds in the end.
    store.replace(json!({ "id": "stuck", "pk": "a", "delayMs": 500 })).await;
    let host = app(&store, &feed(|_| {})).start().await;
    assert_eq!(delivered(&host, 1).await, ["stuck"]);
    let log = host.stop().await.text();
    assert!(log.contains("Executed 'Functions.Relay' (Succeeded"), "{log}");
    assert!(log.contains("is delivered again"), "{log}");
    assert_eq!(store.lease().await["ContinuationToken"], Value::Null);
    let host = app(&store, &feed(|_| {})).start().await;
    assert_eq!(delivered(&host, 1).await, ["stuck"]);
    host.stop().await;
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_lease_it_begins_with_what_changes_from_now_on() {
    let store = Store::start().await;
    store.create(json!({ "id": "old", "pk": "a" })).await;
    let file = feed(|file| file["bindings"][0]["startFromBeginning"] = json!(false));
    let host = app(&store, &file).start().await;
    host.log.wait_for("processes range 0 of shop/orders here", 1).await;
    assert!(store.lease().await["ContinuationToken"].is_string(), "now is kept");
    host.stop().await;
    // Nobody listens, but the place is marked.
    store.create(json!({ "id": "between", "pk": "a" })).await;
    let host = app(&store, &feed(|_| {})).start().await;
    assert_eq!(delivered(&host, 1).await, ["between"]);
    host.stop().await;
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_is_away_is_waited_for_and_mentioned_once() {
    let store = Store::start().await;
    let relay = store.relay().await;
    let host = App::new(|_| {})
        .function_json("Relay", &feed(|_| {}))
        .setting("OrdersStore", store::connection_string(relay.address))
        .setting("CONTAINER", "orders")
        .start()
        .await;
    store.create(json!({ "id": "slow", "pk": "a", "delayMs": 800 })).await;
    assert_eq!(delivered(&host, 1).await, ["slow"]);
    // Away when the page should be recorded.
    relay.set(Line::Cut);
    host.log.wait_for("Executed 'Functions.Relay' (Succeeded", 1).await;
    let lines = host.log.wait_for("Not reading changes of shop/orders at", 1).await;
    assert!(lines[0].text.contains("(setting OrdersStore) for function 'Relay'"), "{lines:?}");
    store.create(json!({ "id": "later", "pk": "a" })).await;
    relay.refused(3).await;
    relay.set(Line::Open);
    assert_eq!(delivered(&host, 2).await, ["slow", "later"]);
    host.log.wait_for("Executed 'Functions.Relay' (Succeeded", 2).await;
    let log = host.stop().await;
    let count = |part: &str| log.text().matches(part).count();
    assert_eq!(count("Not reading changes of"), 1, "{}", log.text());
    assert_eq!(count("Reading changes of"), 2, "{}", log.text());
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_container_may_come_later_and_may_be_replaced() {
    let store = Store::start().await;
    store.drop_container().await;
    let host = app(&store, &feed(|_| {})).start().await;
    host.log.wait_for("there is no container shop/orders", 1).await;
    store.create_container().await;
    store.create(json!({ "id": "first", "pk": "a" })).await;
    assert_eq!(delivered(&host, 1).await, ["first"]);
    store.drop_container().await;
    host.log.wait_for("Not reading changes of", 2).await;
    store.create_container().await;
    store.create(json!({ "id": "second", "pk": "a" })).await;
    assert_eq!(delivered(&host, 2).await, ["first", "second"]);
    host.stop().await;
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_admin_endpoint_runs_a_function_with_documents() {
    let store = Store::start().await;
    let host = app(&store, &feed(|_| {})).start().await;
    let path = "POST /admin/functions/Relay\r\ncontent-type: application/json";
    let body = json!({ "input": "[ {\"id\": \"made-up\"} ]" }).to_string();
    assert_eq!(call(host.address, path, &body).await.status, 202);
    let seen = host.log.said("INVOKED", 1).await;
    assert_eq!(
        seen[0]["envelope"]["Data"],
        json!({ "docs": "\"[{\\\"id\\\":\\\"made-up\\\"}]\"" })
    );
    assert_eq!(call(host.address, path, r#"{"input":"hello"}"#).await.status, 202);
    host.log.wait_for("the input has to be the text of a JSON array", 1).await;
    host.stop().await;
    store.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_indexed_says_why() {
    let store = Store::start().await;
    let app = App::new(|_| {})
        .function_json("Alike", &feed(|_| {}))
        .function_json("Relay", &feed(|_| {}))
        .function_json("Remote", &feed(|file| file["bindings"][0]["connection"] = json!("Azure")))
        .setting("OrdersStore", store.connection_string())
        .setting("Azure__accountEndpoint", "https://shop.documents.azure.com:443/")
        .setting("CONTAINER", "orders");
    let host = app.bind(&Log::default()).await.unwrap();
    let [_, relay, remote] = host.functions() else { panic!("{:?}", host.functions()) };
    assert_eq!((relay.entity.as_deref(), relay.problems.len()), (Some("shop/orders"), 0));
    let problem = remote.problems[0].to_string();
    assert!(problem.contains("no accountKey") && problem.contains("no identity"), "{problem}");
    drop(host);
    let host = app.start().await;
    host.log.wait_for("'Alike' and 'Relay' read shop/orders with the same leases", 1).await;
    host.stop().await;
    store.stop().await;
}
