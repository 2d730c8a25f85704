//! Subscribers of Event Grid that misbehave, side by side with one that does not: each gets what
//! the documentation says, and nobody else notices.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::harness::{TestStack, eventually, order, send};
use crate::proof;

/// What a subscriber does with an event.
#[derive(Clone, Debug)]
enum Manner {
    Answer(u16),
    /// Takes it, well within the patience of Event Grid.
    Slowly,
    /// Keeps the connection open and says nothing.
    Never,
    /// Sends whoever comes to another address.
    Elsewhere(String),
}

/// A subscriber of the test.
struct Subscriber {
    url: String,
    /// Subject and delivery count of each attempt.
    attempts: Arc<Mutex<Vec<(String, String)>>>,
    /// Requests of any kind, the question for consent left out.
    requests: Arc<Mutex<usize>>,
    _server: JoinSet<()>,
}

impl Subscriber {
    async fn start(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let (attempts, requests) = (Arc::default(), Arc::default());
        let (kept, counted) = (Arc::clone(&attempts), Arc::clone(&requests));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (kept, counted) = (Arc::clone(&kept), Arc::clone(&counted));
                let manner = manner.clone();
                let service = service_fn(move |request| {
                    answer(request, manner.clone(), Arc::clone(&kept), Arc::clone(&counted))
                });
                connections.spawn(async move {
                    // Event Grid hangs up on those who take too long.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { url, attempts, requests, _server: server }
    }

    /// Attempts to deliver the events of an order.
    fn attempts_about(&self, order: &str) -> usize {
        self.attempts.lock().unwrap().iter().filter(|(subject, _)| subject == order).count()
    }
}

async fn answer(
    request: Request<Incoming>,
    manner: Manner,
    attempts: Arc<Mutex<Vec<(String, String)>>>,
    requests: Arc<Mutex<usize>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let response = Response::builder();
    if request.method() == Method::OPTIONS {
        let origin = request.headers()["webhook-request-origin"].clone();
        let agreed = response.header("webhook-allowed-origin", origin);
        return Ok(agreed.body(Full::default()).unwrap());
    }
    *requests.lock().unwrap() += 1;
    let count = request.headers().get("aeg-delivery-count");
    let count = count.map_or(String::new(), |count| count.to_str().unwrap().to_owned());
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let event: Value = serde_json::from_slice(&body).unwrap_or_default();
    let subject = event["subject"].as_str().unwrap_or_default().to_owned();
    attempts.lock().unwrap().push((subject, count));
    let response = match manner {
        Manner::Answer(status) => response.status(status),
        Manner::Slowly => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            response.status(StatusCode::OK)
        }
        Manner::Never => std::future::pending().await,
        Manner::Elsewhere(url) => {
            response.status(StatusCode::TEMPORARY_REDIRECT).header("location", url)
        }
    };
    Ok(response.body(Full::default()).unwrap())
}

/// Dead letters of a subscription about an order.
fn letters(stack: &TestStack, subscription: &str, order: &str) -> Vec<Value> {
    let folder = stack.endpoints.grid_dead_letters.join("dead-letters/orders");
    let path = folder.join(format!("{subscription}.jsonl"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let letters = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    letters.filter(|letter| letter["subject"] == order).collect()
}

#[tokio::test]
async fn subscribers_may_misbehave_in_every_way_and_only_they_go_without() {
    /// Attempts of those that never take anything: below the failures that make an endpoint wait.
    const ATTEMPTS: u64 = 2;
    let stack = TestStack::start_with(&["--grid-time-scale", "50"]).await;
    let initial = proof::stock(&stack).await;
    let trap = Subscriber::start(Manner::Answer(200)).await;
    let mut subscribers = Vec::new();
    for (name, manner, attempts) in [
        ("bad-request", Manner::Answer(400), 30),
        ("too-many", Manner::Answer(429), ATTEMPTS),
        ("broken", Manner::Answer(500), ATTEMPTS),
        ("slow", Manner::Slowly, 30),
        ("silent", Manner::Never, ATTEMPTS),
        ("redirect", Manner::Elsewhere(trap.url.clone()), ATTEMPTS),
    ] {
        let subscriber = Subscriber::start(manner).await;
        let declared = json!({"name": name, "endpoint": subscriber.url,
            "maxDeliveryAttempts": attempts, "eventTimeToLiveInMinutes": 1_440,
            "deadLetterDestination": "dead-letters"});
        let grid = stack.endpoints.grid.strip_suffix("/orders/api/events").unwrap();
        let path = format!("/admin/topics/orders/subscriptions/{name}");
        let made = send(grid, Method::PUT, &path, &[], declared.to_string()).await;
        assert!(made.status.is_success(), "{made:?}");
        subscribers.push((name, subscriber));
    }
    let of = |wanted: &str| &subscribers.iter().find(|(name, _)| *name == wanted).unwrap().1;

    // Nobody in the pipeline waits for any of them.
    let ids = [stack.submit(&order()).await, stack.submit(&order()).await];
    for id in &ids {
        stack.until_quiet(id).await;
    }
    proof::prove(&stack, &ids, &initial).await;
    assert!(stack.dead_letters("notification-sub").await.is_empty());

    for id in &ids {
        // Two events each: accepted and completed.
        let buried = async |name: &str| {
            eventually(&format!("{name} has gone without both events of {id}"), || async {
                let letters = letters(&stack, name, id);
                (letters.len() == 2).then_some(letters)
            })
            .await
        };
        for letter in buried("bad-request").await {
            assert_eq!(letter["deadletterreason"], "UndeliverableDueToHttpBadRequest");
            assert_eq!(
                (&letter["deliveryattempts"], &letter["lasthttpstatuscode"]),
                (&json!(1), &json!(400))
            );
        }
        assert_eq!(of("bad-request").attempts_about(id), 2, "once each");
        for (name, outcome, status) in [
            ("too-many", "Busy", json!(429)),
            ("broken", "GenericError", json!(500)),
            ("silent", "TimedOut", Value::Null),
            ("redirect", "GenericError", json!(307)),
        ] {
            for letter in buried(name).await {
                assert_eq!(letter["deadletterreason"], "MaxDeliveryAttemptsExceeded", "{letter:#}");
                assert_eq!(letter["deliveryattempts"], ATTEMPTS, "{letter:#}");
                assert_eq!(letter["lastdeliveryoutcome"], outcome, "{letter:#}");
                assert_eq!(letter["lasthttpstatuscode"], status, "{letter:#}");
            }
            assert_eq!(of(name).attempts_about(id), 4, "{name}: no attempt after the last");
        }
        eventually("who is slow gets everything", || async {
            (of("slow").attempts_about(id) >= 2).then_some(())
        })
        .await;
        assert!(letters(&stack, "slow", id).is_empty());
        // The one that behaves got both, in time.
        let path = format!("/events?subject={id}");
        eventually("the sample has both", || async {
            let got = send(&stack.endpoints.subscriber, Method::GET, &path, &[], "").await.json();
            let events = got["events"].as_array().unwrap();
            (events.iter().filter(|got| got["duplicate"] == false).count() == 2).then_some(())
        })
        .await;
        assert!(letters(&stack, "sample", id).is_empty());
    }
    assert_eq!(*trap.requests.lock().unwrap(), 0, "a redirect is not followed");
}
