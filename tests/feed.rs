//! What the portal lives on: changes as they happen, how much waits where, the record of an order,
//! its event twice, and what only a local stack knows.

use http::Method;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::body::Incoming;
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};

use crate::harness::{DONE_WITHIN, TestStack, shared};

/// One server-sent event: its name, its id, its data.
#[derive(Debug)]
struct Event {
    name: String,
    id: String,
    data: Value,
}

/// An open stream.
struct Stream {
    body: Incoming,
    text: String,
}

impl Stream {
    async fn open(stack: &TestStack, headers: &[(&str, &str)]) -> Self {
        let request = headers.iter().fold(
            http::Request::get(format!("{}/api/feed", stack.endpoints.http)),
            |request, (name, value)| request.header(*name, *value),
        );
        let request = request.header("accept", "text/event-stream");
        let client = Client::builder(TokioExecutor::new()).build_http();
        let answer = client.request(request.body(Full::new(Bytes::new())).unwrap()).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert!(
            answer.headers()["content-type"].to_str().unwrap().starts_with("text/event-stream")
        );
        Self { body: answer.into_body(), text: String::new() }
    }

    /// The next event; heartbeats are left out.
    async fn next(&mut self) -> Event {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let line = event.lines().find_map(|line| line.strip_prefix(name));
                    line.unwrap_or_default().trim().to_owned()
                };
                let (name, id, data) = (field("event:"), field("id:"), field("data:"));
                self.text = rest.to_owned();
                if !name.is_empty() {
                    return Event { name, id, data: serde_json::from_str(&data).unwrap() };
                }
                continue;
            }
            let frame = tokio::time::timeout(DONE_WITHIN, self.body.frame()).await;
            let frame = frame.expect("an event within the time").expect("an open stream").unwrap();
            if let Some(data) = frame.data_ref() {
                self.text.push_str(std::str::from_utf8(data).unwrap());
            }
        }
    }

    /// Waits until the order is told of in this state; the event.
    async fn until(&mut self, id: &str, overall: &str) -> Event {
        loop {
            let event = self.next().await;
            if event.data["orderId"] == id && event.data["overall"] == overall {
                return event;
            }
        }
    }
}

fn order(customer: &str) -> Value {
    json!({"customerId": customer, "currency": "EUR",
        "items": [{"sku": "vitamin-c", "quantity": 1}]})
}

#[tokio::test]
async fn a_stream_tells_of_changes_and_goes_on_where_it_was() {
    let stack = shared().await;
    let mut stream = Stream::open(&stack, &[]).await;
    let hello = stream.next().await;
    assert_eq!((hello.name.as_str(), &hello.data["resumed"]), ("hello", &json!(false)));
    assert_eq!(hello.data["cursor"], hello.id.as_str());
    let first = stack.submit(&order("c-feed")).await;
    let seen = stream.until(&first, "completed").await;
    assert_eq!(seen.name, "order");
    assert!(seen.data.get("history").is_none(), "a line of the list: {}", seen.data);
    drop(stream);

    let missed = stack.submit(&order("c-feed")).await;
    stack.until_completed(&missed).await;
    let mut stream = Stream::open(&stack, &[("last-event-id", &seen.id)]).await;
    assert_eq!(stream.next().await.data["resumed"], true);
    stream.until(&missed, "completed").await;

    let mut stream = Stream::open(&stack, &[("last-event-id", "1000")]).await;
    assert_eq!(stream.next().await.name, "hello");
    assert_eq!(stream.next().await.name, "reset", "too long ago to be followed");
}

#[tokio::test]
async fn a_customer_hears_of_their_own_orders_alone() {
    let stack = shared().await;
    let own = ("x-development-principal", "c-feed-own;roles=orders.read,orders.write");
    let mut stream = Stream::open(&stack, &[own]).await;
    assert_eq!(stream.next().await.name, "hello");
    let foreign = stack.submit(&order("c-feed-other")).await;
    stack.until_completed(&foreign).await;
    let mine = stack.submit(&order("c-feed-own")).await;
    loop {
        let event = stream.next().await;
        assert_eq!(event.data["customerId"], "c-feed-own");
        if event.data["orderId"] == mine.as_str() {
            break;
        }
    }
}

#[tokio::test]
async fn whoever_cannot_stream_asks_again_and_is_spared_what_has_not_changed() {
    let stack = TestStack::start().await;
    let begin = stack.get("/api/feed").await.json();
    assert_eq!((&begin["reset"], &begin["orders"]), (&json!(false), &json!([])));
    let id = stack.submit(&order("c-poll")).await;
    stack.until_quiet(&id).await;
    let path = format!("/api/feed?after={}", begin["cursor"].as_str().unwrap());
    let news = stack.get(&path).await;
    assert_eq!(news.json()["orders"][0]["orderId"], id.as_str());
    let known = [("if-none-match", news.header("etag"))];
    assert_eq!(stack.send(Method::GET, &path, &known, "").await.status, 304);
    assert_eq!(stack.get("/api/feed?after=1000").await.json()["reset"], true);
    assert_eq!(stack.get("/api/feed?after=soon").await.status, 400);
}

#[tokio::test]
async fn the_record_shows_what_is_stored_and_a_second_event_changes_none_of_it() {
    let stack = TestStack::start().await;
    let id = stack.submit(&order("c-record")).await;
    let before = stack.until_quiet(&id).await;
    let path = format!("/api/ops/orders/{id}");
    let record = stack.get(&path).await.json();
    assert_eq!(record["document"]["schemaVersion"], 1);
    assert_eq!(record["events"][0]["event"]["subject"], id.as_str());

    let again = stack.send(Method::POST, &format!("{path}/duplicate"), &[], "").await;
    assert_eq!(again.status, 202, "{again:?}");
    let message = again.json()["messageId"].as_str().unwrap().to_owned();
    assert!(message.starts_with(&format!("event:{id}:1#again-")), "{message}");
    // Every subscription has handled its copy.
    let deadline = std::time::Instant::now() + DONE_WITHIN;
    loop {
        let system = stack.get("/api/ops/system").await.json();
        let subscriptions = system["subscriptions"].as_array().unwrap();
        assert_eq!(subscriptions.len(), 3);
        if subscriptions.iter().all(|place| place["waiting"] == 0) {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{system:#}");
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let after = stack.order(&id).await;
    assert_eq!(after["history"], before["history"]);
    assert_eq!(after["stage"]["billing"]["calls"], 1);
    let missing = "/api/ops/orders/00000000-0000-7000-8000-000000000000";
    assert_eq!(stack.get(missing).await.status, 404);
}

#[tokio::test]
async fn a_local_stack_knows_its_processes_and_what_they_say() {
    let stack = TestStack::start().await;
    let id = stack.submit(&order("c-local")).await;
    stack.until_completed(&id).await;
    assert_eq!(stack.get("/api/ops/system").await.json()["local"], true);
    let logs = stack.get(&format!("/api/ops/local/logs?order={id}&app=order-api")).await.json();
    let records = logs["records"].as_array().unwrap();
    assert!(records.iter().any(|record| record["message"] == "order accepted"), "{logs:#}");
    assert!(records.iter().all(|record| record["orderId"] == id.as_str()));

    let restarts = async || {
        let answer = stack.get("/api/ops/local/processes").await.json();
        let processes = answer["processes"].as_array().unwrap().clone();
        let found = processes.into_iter().find(|process| process["name"] == "subscriber");
        found.unwrap()["restarts"].as_u64().unwrap()
    };
    assert_eq!(restarts().await, 0);
    let kill = "/api/ops/local/processes/subscriber/kill";
    assert_eq!(stack.send(Method::POST, kill, &[], "{}").await.status, 415, "not from elsewhere");
    let typed = [("content-type", "application/json")];
    assert_eq!(stack.send(Method::POST, kill, &typed, "{}").await.status, 200);
    let deadline = std::time::Instant::now() + DONE_WITHIN;
    while restarts().await == 0 {
        assert!(std::time::Instant::now() < deadline, "it never comes back\n{}", stack.log());
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    let reader = [("x-development-principal", "r;roles=ops.read"), typed[0]];
    assert_eq!(stack.send(Method::POST, kill, &reader, "{}").await.status, 403);
}
