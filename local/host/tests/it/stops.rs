//! Hosts that are stopped cleanly under load: what runs is finished, what was only received is given
//! back, and nothing is lost, done twice or counted as a failed delivery.
//!
//! What is done is what the handlers wrote into a ledger that they share. No lease or lock ends
//! while these tests run: whatever came twice would be the doing of a stop.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use crate::app::{App, PATIENCE, Running};
use crate::service_bus::{Broker, Publisher};
use crate::storage::Storage;

/// Hosts that are stopped in each test.
const STOPS: usize = 6;

/// Items that wait from the beginning; no host gets through them before it is stopped.
const ITEMS: usize = 360;

/// The ledger of several handlers, one line for each invocation that was finished.
struct Ledger(PathBuf);

impl Ledger {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("host-it-ledger-{}", Uuid::new_v4())))
    }

    fn invocations(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        // A line may be on its way.
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// Each item that was done, and which delivery it was, in order.
    fn items(&self) -> Vec<(u64, String)> {
        self.invocations().iter().flat_map(items).collect()
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The items of one invocation: the number in the body, and the count of the delivery.
fn items(envelope: &Value) -> Vec<(u64, String)> {
    let text = |value: &Value| -> String { serde_json::from_str(value.as_str().unwrap()).unwrap() };
    let number = |body: &str| serde_json::from_str::<Value>(body).unwrap()["n"].as_u64().unwrap();
    let metadata = &envelope["Metadata"];
    let one = ["DeliveryCount", "DequeueCount"].iter().find_map(|name| metadata[name].as_str());
    match one {
        Some(count) => vec![(number(&text(&envelope["Data"]["job"])), count.to_owned())],
        None => {
            let list = |value: &Value| -> Vec<Value> {
                serde_json::from_str(value.as_str().unwrap()).unwrap()
            };
            let (bodies, counts) =
                (list(&envelope["Data"]["job"]), list(&metadata["DeliveryCountArray"]));
            let numbers = bodies.iter().map(|body| number(body.as_str().unwrap()));
            numbers.zip(counts.iter().map(Value::to_string)).collect()
        }
    }
}

/// Stops one host after the other in the middle of its work, and lets the last one finish.
/// Returns the deliveries in which each item was done.
async fn stop_under_load(
    ledger: &Ledger,
    app: impl Fn() -> App,
    left: impl AsyncFn() -> usize,
) -> BTreeMap<u64, Vec<String>> {
    let start = async || {
        let file = ledger.0.to_str().unwrap().to_owned();
        app().setting("FIXTURE_LEDGER", file).start().await
    };
    for round in 0..STOPS {
        let (host, before) = (start().await, ledger.items().len());
        reached(&host, "some items", async || ledger.items().len() > before + 3 * round).await;
        assert!(left().await > 0, "the host was stopped too late to be under load");
        let log = host.stop().await;
        for sign in ["link broke", "not settled", "refused", "(Failed", "still running"] {
            assert!(log.lines(sign).is_empty(), "{sign}:\n{}", log.text());
        }
    }
    let host = start().await;
    reached(&host, "the end of the items", async || left().await == 0).await;
    host.stop().await;
    let mut done: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (number, delivery) in ledger.items() {
        done.entry(number).or_default().push(delivery);
    }
    assert_eq!(done.len(), ITEMS, "every item is done");
    let twice: Vec<_> = done.iter().filter(|(_, deliveries)| deliveries.len() > 1).collect();
    assert!(twice.is_empty(), "done more than once: {twice:?}");
    done
}

async fn reached(host: &Running, what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "{what} not reached:\n{}", host.log.text());
        sleep(std::time::Duration::from_millis(2)).await;
    }
}

fn job(number: usize) -> Value {
    json!({ "n": number, "delayMs": number % 7 * 4 })
}

/// Of `queue`, whose messages are of `sessions` sessions, if of any.
async fn stop_service_bus(queue: &str, sessions: Option<usize>, changes: &[(&str, Value)]) {
    let broker = Broker::anywhere().await;
    let mut publisher = Publisher::connect(broker.address, queue).await;
    for number in 0..ITEMS {
        let session = sessions.map(|count| format!("s-{}", number % count));
        publisher.send_in(session.as_deref(), &format!("m-{number}"), &job(number)).await;
    }
    let mut trigger = json!({ "type": "serviceBusTrigger", "name": "job", "direction": "in",
        "queueName": queue, "connection": "Bus" });
    for (name, value) in changes {
        trigger[*name] = value.clone();
    }
    let (ledger, connection) = (Ledger::new(), broker.connection_string());
    let app =
        || App::new(|_| {}).function("Work", &json!([trigger])).setting("Bus", connection.clone());
    let done = stop_under_load(&ledger, app, async || broker.queue(queue).0).await;
    let odd: Vec<_> = done.iter().filter(|(_, deliveries)| **deliveries != ["1"]).collect();
    assert!(odd.is_empty(), "a stop counted as a failed delivery: {odd:?}");
    assert_eq!(broker.queue(queue), (0, 0), "nothing is dead-lettered");
    if let Some(count) = sessions {
        for session in 0..count {
            let order: Vec<u64> = ledger.items().into_iter().map(|(number, _)| number).collect();
            let order =
                order.into_iter().filter(|n| usize::try_from(*n).unwrap() % count == session);
            assert!(order.is_sorted(), "session {session} is out of order");
        }
    }
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_are_done_once() {
    stop_service_bus("work", None, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn batches_are_done_once() {
    let batches = [
        ("cardinality", json!("many")),
        ("dataType", json!("string")),
        ("maxMessageBatchSize", json!(10)),
    ];
    stop_service_bus("work", None, &batches).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_sessions_are_done_once_and_in_order() {
    stop_service_bus("turns", Some(5), &[("isSessionsEnabled", json!(true))]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_messages_that_were_begun_are_done_once() {
    let storage = Storage::with(&["jobs"]).await;
    for number in 0..ITEMS {
        storage.put("jobs", &job(number)).await;
    }
    let trigger = json!([{ "type": "queueTrigger", "name": "job", "direction": "in",
        "queueName": "jobs" }]);
    let ledger = Ledger::new();
    let app = || {
        App::new(|_| {})
            .function("Work", &trigger)
            .setting("AzureWebJobsStorage", storage.connection_string())
    };
    // What is given back has been taken once more: the service counts that, as in Azure.
    stop_under_load(&ledger, app, async || storage.count("jobs").await).await;
    storage.stop().await;
}
