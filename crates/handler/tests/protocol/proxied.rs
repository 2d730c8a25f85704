//! Proxied HTTP: requests that the app's own router answers.

use std::convert::Infallible;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use handler::{App, TraceContext};
use tokio::sync::mpsc;

use crate::client::start;

#[tokio::test]
async fn a_stream_arrives_piece_by_piece() {
    let (send, receive) = mpsc::channel::<Bytes>(1);
    let receive = std::sync::Arc::new(tokio::sync::Mutex::new(receive));
    let events = move || {
        let receive = std::sync::Arc::clone(&receive);
        async move {
            Body::from_stream(futures::stream::unfold(receive, |receive| async move {
                let event = receive.lock().await.recv().await?;
                Some((Ok::<_, Infallible>(event), receive))
            }))
        }
    };
    let server = start(App::new().http(Router::new().route("/events", get(events)))).await;
    let mut client = server.connect().await;
    client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    for event in ["data: one\n\n", "data: two\n\n", "data: three\n\n"] {
        // Sent only once the one before has arrived: nothing may be held back.
        send.send(Bytes::from(event)).await.unwrap();
        assert_eq!(client.chunk().await, event.as_bytes());
    }
    drop(send);
    assert_eq!(client.chunk().await, b"");
    // The connection serves on.
    client.send("GET /nowhere HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.status, 404);
}

#[tokio::test]
async fn the_trace_of_the_caller_goes_on() {
    let router = Router::new().route(
        "/trace",
        get(|trace: TraceContext| async move {
            let parent = trace.parent_span_id.map(|id| id.to_string()).unwrap_or_default();
            format!("{} {parent}", trace.traceparent())
        }),
    );
    let server = start(App::new().http(router)).await;
    let caller = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";
    let request = format!("GET /trace HTTP/1.1\r\nHost: a\r\ntraceparent: {caller}\r\n\r\n");
    let continued = server.exchange(request).await.body;
    assert!(continued.starts_with("00-0af7651916cd43dd8448eb211c80319c-"), "{continued}");
    assert!(continued.ends_with("-00 b7ad6b7169203331"), "{continued}");
    let fresh = server.get("/trace").await.body;
    assert!(!fresh.contains("0af7651916cd43dd8448eb211c80319c") && fresh.ends_with("-01 "));
}

#[tokio::test]
async fn a_panic_costs_one_request() {
    let router = Router::new()
        .route("/", get(|| async { "fine" }))
        .route("/panics", get(|| async { panics().await }));
    let server = start(App::new().http(router)).await;
    let mut client = server.connect().await;
    client.send("GET /panics HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!(response.status, 500);
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    assert!(!response.body.contains("secret"), "{response:?}");
    client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.body, "fine");
}

async fn panics() -> &'static str {
    panic!("secret")
}

#[tokio::test]
async fn an_answer_before_the_body_was_read_says_that_the_connection_ends() {
    let refuse = async || axum::http::StatusCode::FORBIDDEN;
    let read = async |body: Bytes| body;
    let router = Router::new()
        .route("/refused", get(refuse).post(refuse))
        .route("/read", axum::routing::post(read));
    let server = start(App::new().http(router)).await;
    let mut client = server.connect().await;
    // Read to its end, or not there at all: the connection serves on.
    for body in [
        "Content-Length: 4\r\n\r\nfour",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nfour\r\n0\r\n\r\n",
    ] {
        client.send(format!("POST /read HTTP/1.1\r\nHost: a\r\n{body}")).await;
        let response = client.response().await;
        assert_eq!((response.body.as_str(), response.header("connection")), ("four", None));
    }
    client.send("GET /refused HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!((response.status, response.header("connection")), (403, None));
    // A host sends the head first. Whatever it does with the body then, it must not use the
    // connection again.
    client.send("POST /refused HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\n").await;
    let response = client.response().await;
    assert_eq!((response.status, response.header("connection")), (403, Some("close")));
    assert_eq!(client.closed().await, "");
}
