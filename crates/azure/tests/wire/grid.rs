//! What is published, what is tried again, and what the answers mean.

use std::time::{Duration, Instant};

use azure::connection::GridConnection;
use azure::grid::{GridError, GridOptions, GridPublisher};
use azure::retry::RetryPolicy;
use serde_json::json;
use tokio::net::TcpListener;

use crate::stub::{Reply, Stub};

const KEY: &str = "aHVudGVyMg==";

fn publisher(port: u16) -> GridPublisher {
    let lookup = |name: &str| match name {
        "Grid__topicEndpointUri" => Some(format!("http://127.0.0.1:{port}/orders/api/events")),
        "Grid__key" => Some(KEY.to_owned()),
        _ => None,
    };
    let connection = GridConnection::resolve("Grid", lookup).unwrap().unwrap();
    let options = GridOptions {
        deadline: Duration::from_secs(5),
        attempt_timeout: Duration::from_millis(400),
        connect_timeout: Duration::from_millis(400),
        retry: RetryPolicy {
            attempts_max: 3,
            delay_base: Duration::from_millis(5),
            delay_max: Duration::from_millis(20),
            budget: Duration::from_millis(1_500),
        },
    };
    GridPublisher::new(connection, options).unwrap()
}

fn answer(status: u16) -> Reply {
    Reply::Answer {
        status,
        headers: vec![],
        body: r#"{"error":{"code":"X","message":"because","details":[]}}"#,
    }
}

#[tokio::test]
async fn a_batch_is_one_request_with_the_key_and_the_version() {
    let stub = Stub::start().await;
    stub.script([answer(200)]);
    let events = [json!({"id": "1"}), json!({"id": "2"})];
    publisher(stub.port).publish(&events).await.unwrap();
    let [request] = &stub.take_requests()[..] else { panic!("one request") };
    assert_eq!(request.method, "POST");
    assert_eq!(request.path, "/orders/api/events?api-version=2018-01-01");
    assert_eq!(request.header("aeg-sas-key"), Some(KEY));
    let media_type = "application/cloudevents-batch+json; charset=utf-8";
    assert_eq!(request.header("content-type"), Some(media_type));
    assert_eq!(request.body, r#"[{"id":"1"},{"id":"2"}]"#);
    publisher(stub.port).publish::<u8>(&[]).await.unwrap();
    assert!(stub.take_requests().is_empty(), "nothing to publish, nothing sent");
}

#[tokio::test]
async fn what_may_pass_is_tried_again_and_nothing_else_is() {
    let stub = Stub::start().await;
    let publisher = publisher(stub.port);
    for passing in [answer(429), answer(503), answer(500), answer(408), Reply::Cut, Reply::Hang] {
        stub.script([passing.clone(), answer(200)]);
        publisher.publish(&[1]).await.unwrap();
        assert_eq!(stub.take_requests().len(), 2, "{passing:?}");
    }
    stub.script([answer(503), answer(503), answer(503)]);
    let error = publisher.publish(&[1]).await.unwrap_err();
    assert!(matches!(error, GridError::Unavailable { status: 503, .. }), "{error}");
    assert!(error.is_transient());
    assert_eq!(stub.take_requests().len(), 3, "attempts are bounded");

    for (status, transient) in
        [(400, false), (413, false), (401, false), (403, false), (404, false)]
    {
        stub.script([answer(status)]);
        let error = publisher.publish(&[1]).await.unwrap_err();
        assert_eq!(error.is_transient(), transient, "{error}");
        assert_eq!(stub.take_requests().len(), 1, "{error}");
        let text = error.to_string();
        assert!(status == 404 || text.contains("because"), "{text}");
        assert!(!format!("{error:?} {publisher:?}").contains(KEY));
    }
    // A redirect would take the key elsewhere.
    stub.script([answer(307).with("location", "http://127.0.0.1:1/api/events")]);
    let error = publisher.publish(&[1]).await.unwrap_err();
    assert!(matches!(error, GridError::Rejected { status: 307, .. }), "{error}");
}

#[tokio::test]
async fn a_topic_that_asks_for_too_much_patience_gets_its_error_back_at_once() {
    let stub = Stub::start().await;
    stub.script([answer(429).with("retry-after", "60")]);
    let started = Instant::now();
    let error = publisher(stub.port).publish(&[1]).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(60)));
    assert!(started.elapsed() < Duration::from_secs(3));
}

#[tokio::test]
async fn a_topic_that_is_away_or_silent_costs_a_bounded_time() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let error = publisher(port).publish(&[1]).await.unwrap_err();
    assert!(matches!(error, GridError::Unreachable(_)) && error.is_transient(), "{error}");
    // Never accepted, yet the handshake of TCP succeeds: the half-open case.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let started = Instant::now();
    let publisher = publisher(silent.local_addr().unwrap().port());
    assert!(publisher.publish(&[1]).await.unwrap_err().is_transient());
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}
