//! Event Grid: what the world outside is told about an order, whatever fails on the way.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::harness::{TestStack, eventually, order, send, shared, signal};

/// Ten seconds are a fifth of one.
const FASTER: [&str; 2] = ["--grid-time-scale", "50"];

/// What the sample subscriber got about an order, oldest first.
async fn deliveries(stack: &TestStack, id: &str) -> Vec<Value> {
    let path = format!("/events?subject={id}");
    let answer = send(&stack.endpoints.subscriber, Method::GET, &path, &[], "").await;
    answer.json()["events"].as_array().unwrap().clone()
}

/// The types of the events about an order that the subscriber took, each once, sorted.
async fn taken(stack: &TestStack, id: &str) -> Vec<String> {
    let all = deliveries(stack, id).await;
    let taken = all.iter().filter(|got| got["status"] == 200 && got["duplicate"] == false);
    let mut types: Vec<String> =
        taken.map(|got| got["event"]["type"].as_str().unwrap().to_owned()).collect();
    types.sort_unstable();
    types
}

async fn until_taken(stack: &TestStack, id: &str, types: &[&str]) {
    eventually(&format!("the subscriber took {types:?} of {id}"), || async {
        (taken(stack, id).await == types).then_some(())
    })
    .await;
}

async fn set_rules(stack: &TestStack, rules: &Value) {
    let body = rules.to_string();
    let answer = send(&stack.endpoints.subscriber, Method::PUT, "/rules", &[], body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

/// Dead letters of the sample subscription.
fn letters(stack: &TestStack) -> Vec<Value> {
    let folder = stack.endpoints.grid_dead_letters.join("dead-letters/orders");
    let text = std::fs::read_to_string(folder.join("sample.jsonl")).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

async fn until_letters(stack: &TestStack, id: &str, count: usize) -> Vec<Value> {
    eventually(&format!("{count} dead letters about {id}"), || async {
        let mut about = letters(stack);
        about.retain(|letter| letter["subject"] == id);
        (about.len() == count).then_some(about)
    })
    .await
}

#[tokio::test]
async fn events_reach_a_subscriber_under_their_own_ids() {
    let stack = shared().await;
    let id = stack.submit(&order()).await;
    stack.until_completed(&id).await;
    until_taken(&stack, &id, &["order.completed", "order.created"]).await;
    for got in deliveries(&stack, &id).await {
        let event = &got["event"];
        let number = if event["type"] == "order.created" { 1 } else { 5 };
        assert_eq!(event["id"], format!("event:{id}:{number}"), "{got:#}");
        assert_eq!(event["source"], "/bulkhead/orders");
        assert_eq!(event["data"]["orderId"], id, "{got:#}");
        assert_eq!(got["subscription"], "SAMPLE");
    }

    let rejected = json!({"customerId": "c-grid", "currency": "EUR",
        "items": [{"sku": "vitamin-c", "quantity": 1}], "faults": {"billing": "decline"}});
    let id = stack.submit(&rejected).await;
    stack.until_closed(&id).await;
    until_taken(&stack, &id, &["order.created", "order.failed"]).await;
}

#[tokio::test]
async fn a_subscriber_may_be_down_and_comes_back_to_everything() {
    let stack = TestStack::start_with(&FASTER).await;
    set_rules(&stack, &json!([{"answer": {"kind": "refuse", "status": 500}}])).await;
    let id = stack.submit(&order()).await;
    stack.until_quiet(&id).await;
    eventually("the first retries are refused as well", || async {
        let again = |got: &Value| got["deliveryCount"] != "0";
        let all = deliveries(&stack, &id).await;
        (all.iter().filter(|got| again(got)).count() >= 2).then_some(())
    })
    .await;
    assert!(taken(&stack, &id).await.is_empty());
    set_rules(&stack, &json!([])).await;
    until_taken(&stack, &id, &["order.completed", "order.created"]).await;
    let all = deliveries(&stack, &id).await;
    let late = all.iter().filter(|got| got["status"] == 200);
    assert!(late.clone().all(|got| got["deliveryCount"] != "0"), "{all:#?}");
    assert!(letters(&stack).is_empty());
}

#[tokio::test]
async fn what_cannot_be_delivered_is_a_dead_letter_with_its_reason() {
    let stack = TestStack::start_with(&FASTER).await;
    set_rules(&stack, &json!([{"answer": {"kind": "refuse", "status": 400}}])).await;
    let refused = stack.submit(&order()).await;
    stack.until_completed(&refused).await;
    for letter in until_letters(&stack, &refused, 2).await {
        assert_eq!(letter["deadletterreason"], "UndeliverableDueToHttpBadRequest", "{letter:#}");
        assert_eq!(
            (&letter["deliveryattempts"], &letter["lasthttpstatuscode"]),
            (&json!(1), &json!(400))
        );
    }

    // The same subscription with two attempts, and a subscriber that only sends elsewhere.
    let grid = stack.endpoints.grid.strip_suffix("/orders/api/events").unwrap();
    let path = "/admin/topics/orders/subscriptions/sample";
    let mut sample = send(grid, Method::GET, path, &[], "").await.json();
    for shown in ["validated", "unhealthy", "waiting", "inFlight", "nextDueMs", "counters"] {
        sample.as_object_mut().unwrap().remove(shown).unwrap();
    }
    sample["maxDeliveryAttempts"] = json!(2);
    let changed = send(grid, Method::PUT, path, &[], sample.to_string()).await;
    assert_eq!(changed.status, 200, "{changed:?}");
    set_rules(&stack, &json!([{"answer": {"kind": "refuse", "status": 307}}])).await;
    let given_up = stack.submit(&order()).await;
    stack.until_completed(&given_up).await;
    for letter in until_letters(&stack, &given_up, 2).await {
        assert_eq!(letter["deadletterreason"], "MaxDeliveryAttemptsExceeded", "{letter:#}");
        assert_eq!(letter["deliveryattempts"], 2);
        let event = letter["id"].as_str().unwrap();
        let tries = deliveries(&stack, &given_up).await;
        let tries = tries.iter().filter(|got| got["event"]["id"] == event);
        assert_eq!(tries.count(), 2, "no attempt after the last");
    }
}

#[tokio::test]
async fn a_crash_around_publishing_loses_nothing() {
    let stack = TestStack::start().await;
    for point in ["notification.before-publish", "notification.after-publish"] {
        stack.arm(point, "abort");
        let id = stack.submit(&order()).await;
        stack.until_quiet(&id).await;
        until_taken(&stack, &id, &["order.completed", "order.created"]).await;
        assert!(!stack.is_armed(point), "{point} was passed");
    }
}

#[tokio::test]
async fn event_grid_may_be_away_and_only_the_world_outside_waits() {
    let stack = TestStack::start().await;
    let grid = stack.pid("grid");
    assert!(signal(grid, "STOP"));
    let id = stack.submit(&order()).await;
    // The customer is told in time, whoever else is not.
    stack.until_quiet(&id).await;
    eventually("the event comes back later", || async {
        let log = stack.full_log();
        let later = |line: &str| line.contains("comes back later") && line.contains("Event Grid");
        log.lines().any(later).then_some(())
    })
    .await;
    assert!(taken(&stack, &id).await.is_empty());
    assert!(signal(grid, "CONT"));
    until_taken(&stack, &id, &["order.completed", "order.created"]).await;
    assert!(stack.dead_letters("notification-sub").await.is_empty(), "no delivery was burnt");
}

/// What the identity endpoint of App Service hands out.
const TOKEN: &str = "token-of-the-managed-identity";

/// A request as it came: path with query, the header that proves who asks, body.
type Came = Arc<Mutex<Vec<(String, String, String)>>>;

/// Stands in for the identity endpoint of App Service and for a topic: `GET` is answered with a
/// token for an hour, `POST` with 200.
async fn identity_and_topic() -> (String, Came, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let came = Came::default();
    let kept = Arc::clone(&came);
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let kept = Arc::clone(&kept);
            let service = service_fn(move |request: Request<Incoming>| {
                let kept = Arc::clone(&kept);
                async move {
                    let asks = request.method() == Method::GET;
                    let proof = if asks { "x-identity-header" } else { "authorization" };
                    let proof = request.headers().get(proof);
                    let proof = proof.map_or("", |value| value.to_str().unwrap()).to_owned();
                    let path = request.uri().to_string();
                    let body = request.into_body().collect().await.unwrap().to_bytes();
                    let body = String::from_utf8(body.to_vec()).unwrap();
                    kept.lock().unwrap().push((path, proof, body));
                    let expires = crate::issuer::now_s() + 3_600;
                    let token = json!({"access_token": TOKEN, "expires_on": expires.to_string(),
                        "resource": "https://eventgrid.azure.net", "token_type": "Bearer"});
                    let answer = if asks { token.to_string() } else { String::new() };
                    let answer = Response::builder()
                        .header("content-type", "application/json")
                        .body(Full::new(Bytes::from(answer)));
                    Ok::<_, Infallible>(answer.unwrap())
                }
            });
            connections.spawn(async move {
                // A handler that stops hangs up.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    (url, came, server)
}

#[tokio::test]
async fn without_a_key_events_are_published_as_the_managed_identity() {
    let (url, came, _server) = identity_and_topic().await;
    let settings = [
        format!("IDENTITY_ENDPOINT={url}/msi/token"),
        "IDENTITY_HEADER=secret-of-the-app".to_owned(),
        format!("OrdersGrid__topicEndpointUri={url}/api/events"),
        "OrdersGrid__key=".to_owned(),
    ];
    let arguments: Vec<&str> = settings.iter().flat_map(|set| ["--set", set]).collect();
    let stack = TestStack::start_with(&arguments).await;
    let ids = [stack.submit(&order()).await, stack.submit(&order()).await];
    for id in &ids {
        stack.until_quiet(id).await;
    }
    let published = eventually("both events of both orders are published", || async {
        let came = came.lock().unwrap().clone();
        let (asked, published): (Vec<_>, Vec<_>) =
            came.into_iter().partition(|(path, ..)| path.starts_with("/msi/token"));
        let about = |id: &String| published.iter().filter(|(.., body)| body.contains(id)).count();
        ids.iter().all(|id| about(id) >= 2).then_some((asked, published))
    })
    .await;
    let (asked, published) = published;
    // One token serves them all, and is asked for as App Service wants it.
    assert_eq!(asked.len(), 1, "{asked:?}");
    let (path, proof, _) = &asked[0];
    assert!(path.contains("resource=https%3A%2F%2Feventgrid.azure.net"), "{path}");
    assert_eq!(proof, "secret-of-the-app");
    for (path, proof, _) in &published {
        assert_eq!(path, "/api/events?api-version=2018-01-01");
        assert_eq!(proof, &format!("Bearer {TOKEN}"));
    }
    assert!(!stack.full_log().contains(TOKEN), "a token is in the log");
}
