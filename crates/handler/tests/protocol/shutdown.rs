//! The beginning and the end of a server.

use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::routing::get;
use handler::{App, Config, Context, Failure, Invocation, Reply, Server, Shutdown};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::client::{PATIENCE, Running, SHORT, invocation, start, start_with};

const EMPTY: &str = r#"{"Data":{"x":"\"\""},"Metadata":{}}"#;

/// A function that says that it has begun and waits to be let go.
fn waiting() -> (App, CancellationToken, CancellationToken) {
    let (began, go) = (CancellationToken::new(), CancellationToken::new());
    let tokens = (began.clone(), go.clone());
    let app = App::new().function("waits", move |_: Invocation, context: Context| {
        let (began, go) = tokens.clone();
        async move {
            began.cancel();
            go.cancelled().await;
            let asked = context.shutdown.is_cancelled();
            Ok::<_, Failure>(Reply::done().output("asked", asked))
        }
    });
    (app, began, go)
}

async fn ended(server: Running) {
    timeout(PATIENCE, server.served).await.expect("still serving").unwrap().unwrap();
}

#[tokio::test]
async fn what_is_in_flight_finishes_and_nothing_else_begins() {
    let (app, began, go) = waiting();
    let server = start_with(app, |config| config.grace = PATIENCE).await;
    let idle = {
        let mut client = server.connect().await;
        client.send("GET / HTTP/1.1\r\nHost: a\r\n\r\n").await;
        assert_eq!(client.response().await.status, 200);
        client
    };
    let silent = server.connect().await;
    let mut busy = server.connect().await;
    busy.send(invocation("waits", EMPTY)).await;
    timeout(PATIENCE, began.cancelled()).await.unwrap();
    assert!(!server.served.is_finished());

    server.shutdown.cancel();
    assert_eq!(idle.closed().await, "");
    assert_eq!(silent.closed().await, "");
    assert!(TcpStream::connect(server.address).await.is_err(), "the port is still open");
    assert!(!server.served.is_finished(), "did not wait for the invocation");
    go.cancel();
    let response = busy.response().await;
    assert_eq!((response.status, response.json()["Outputs"]["asked"].as_bool()), (200, Some(true)));
    assert_eq!(response.header("connection"), Some("close"));
    ended(server).await;
}

#[tokio::test]
async fn what_does_not_finish_in_time_is_cut_off() {
    let (app, began, _go) = waiting();
    let server = start_with(app, |config| config.grace = SHORT).await;
    let mut busy = server.connect().await;
    busy.send(invocation("waits", EMPTY)).await;
    timeout(PATIENCE, began.cancelled()).await.unwrap();
    server.shutdown.cancel();
    assert_eq!(busy.closed().await, "");
    ended(server).await;
}

#[tokio::test]
async fn a_stream_is_told_to_end() {
    let events = |Shutdown(asked): Shutdown| async move {
        let first = futures::stream::once(async { Ok("data: hello\n\n".into()) });
        let last = futures::stream::once(async move {
            asked.cancelled().await;
            Ok::<_, std::convert::Infallible>(Bytes::from("data: bye\n\n"))
        });
        Body::from_stream(futures::StreamExt::chain(first, last))
    };
    let app = App::new().http(Router::new().route("/events", get(events)));
    let server = start_with(app, |config| config.grace = PATIENCE).await;
    let mut client = server.connect().await;
    client.send("GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await;
    client.head().await;
    assert_eq!(client.chunk().await, b"data: hello\n\n");
    server.shutdown.cancel();
    assert_eq!(client.chunk().await, b"data: bye\n\n");
    assert_eq!(client.chunk().await, b"");
    ended(server).await;
}

#[tokio::test]
async fn connections_wait_between_binding_and_serving() {
    let server = Server::bind(&Config::new(0)).await.unwrap();
    let address = server.local_addr();
    assert!(address.ip().is_loopback());
    let (app, _, go) = waiting();
    go.cancel();
    // Sent while nobody accepts.
    let early = TcpStream::connect(address).await.unwrap();
    early.writable().await.unwrap();
    early.try_write(invocation("waits", EMPTY).as_bytes()).unwrap();
    let answered = early.readable();
    tokio::select! {
        served = server.serve(app, CancellationToken::new()) => panic!("{served:?}"),
        readable = timeout(PATIENCE, answered) => readable.unwrap().unwrap(),
    }
}

#[tokio::test]
async fn a_server_that_is_dropped_leaves_nothing_behind() {
    let (app, began, _go) = waiting();
    let server = start(app).await;
    let mut busy = server.connect().await;
    busy.send(invocation("waits", EMPTY)).await;
    timeout(PATIENCE, began.cancelled()).await.unwrap();
    server.served.abort();
    assert_eq!(busy.closed().await, "");
}

#[tokio::test]
async fn a_port_that_is_taken_and_an_app_without_content_are_errors() {
    let first = Server::bind(&Config::new(0)).await.unwrap();
    let error = Server::bind(&Config::new(first.local_addr().port())).await.unwrap_err();
    assert!(error.to_string().contains(&first.local_addr().to_string()), "{error}");
    let served = timeout(Duration::from_secs(5), first.serve(App::new(), CancellationToken::new()));
    assert!(served.await.unwrap().is_err());
}
