//! Clients that are slow, silent, many or wrong.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::routing::{get, post};
use bytes::Bytes;
use handler::App;
use tokio::io::AsyncReadExt;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::client::{PATIENCE, SHORT, start, start_with};

const NEVER: Duration = Duration::from_secs(3600);

fn app() -> App {
    App::new().http(
        Router::new()
            .route("/", get(|| async { "hello" }))
            .route("/echo", post(|body: String| async move { body })),
    )
}

/// Every limit out of the way, so that a test meets only the one that it sets.
fn unlimited(config: &mut handler::Config) {
    config.limits.first_byte = NEVER;
    config.limits.head = NEVER;
    config.limits.idle = NEVER;
    config.limits.body_stall = NEVER;
    config.limits.write_stall = NEVER;
}

#[tokio::test]
async fn a_client_that_says_nothing_is_cut_off() {
    let server = start_with(app(), |config| {
        unlimited(config);
        config.limits.first_byte = SHORT;
    })
    .await;
    assert_eq!(server.connect().await.closed().await, "");
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_head_is_cut_off() {
    let server = start_with(app(), |config| {
        unlimited(config);
        config.limits.head = SHORT;
    })
    .await;
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\nX-Slow: ").await;
    assert_eq!(client.closed().await, "");

    // Also when each byte comes in time: what counts is the whole head, of the first request ...
    let mut client = server.connect().await;
    client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(client.response().await.body, "hello");
    // ... and of the next one.
    client.send("GET / HTTP/1.1\r\nHost: h\r\nX-Slow: ").await;
    let (mut reader, mut writer) = client.stream.into_split();
    let trickle = async {
        while tokio::io::AsyncWriteExt::write_all(&mut writer, b"x").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    let mut rest = Vec::new();
    let closed = async {
        tokio::join!(trickle, async {
            let _ = reader.read_to_end(&mut rest).await;
        })
    };
    timeout(PATIENCE, closed).await.expect("the connection stays open");
    assert!(rest.is_empty());
}

#[tokio::test]
async fn an_idle_connection_is_kept_for_a_while_and_then_closed() {
    let server = start_with(app(), |config| {
        unlimited(config);
        // Not so short that a request which follows at once comes too late.
        config.limits.idle = SHORT * 10;
        config.limits.head = SHORT;
    })
    .await;
    let mut client = server.connect().await;
    for _ in 0..3 {
        client.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
        assert_eq!(client.response().await.body, "hello");
        // Idle for longer than a head may take, which must not matter.
        tokio::time::sleep(SHORT * 2).await;
    }
    assert_eq!(client.closed().await, "");
}

#[tokio::test]
async fn a_body_that_stops_is_answered_408() {
    let server = start_with(app(), |config| {
        unlimited(config);
        config.limits.body_stall = SHORT;
    })
    .await;
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 10\r\n\r\nfour").await;
    let response = client.response().await;
    assert_eq!((response.status, response.header("connection")), (408, Some("close")));
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    client.closed().await;

    // Slow is fine, as long as it goes on: longer in all than the limit.
    let server = start_with(app(), |config| config.limits.body_stall = SHORT * 5).await;
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\n").await;
    for byte in b"steady" {
        tokio::time::sleep(SHORT).await;
        client.send([*byte]).await;
    }
    assert_eq!(client.response().await.body, "steady");
}

#[tokio::test]
async fn a_client_that_takes_no_answer_is_cut_off() {
    let given_up = CancellationToken::new();
    let token = given_up.clone();
    let flood = move || {
        let guard = token.clone().drop_guard();
        async move {
            let chunk = Bytes::from(vec![b'x'; 1024 * 1024]);
            Body::from_stream(futures::stream::unfold(guard, move |guard| {
                let chunk = Ok::<_, std::convert::Infallible>(chunk.clone());
                async move { Some((chunk, guard)) }
            }))
        }
    };
    let server = start_with(App::new().http(Router::new().route("/flood", get(flood))), |config| {
        unlimited(config);
        config.limits.write_stall = SHORT;
    })
    .await;
    let mut client = server.connect().await;
    client.send("GET /flood HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert!(client.head().await.starts_with("HTTP/1.1 200"));
    assert!(!given_up.is_cancelled());
    // Nothing more is read, but the connection stays open.
    timeout(PATIENCE, given_up.cancelled()).await.expect("the server waits for ever");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_a_place() {
    let server = start_with(app(), |config| {
        unlimited(config);
        config.limits.connections_max = 2;
    })
    .await;
    // Two that are in the middle of a request hold their places.
    let mut first = server.connect().await;
    first.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\n").await;
    let mut second = server.connect().await;
    second.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 6\r\n\r\n").await;
    let mut third = server.connect().await;
    third.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    let waited = timeout(SHORT, third.response()).await;
    assert!(waited.is_err(), "the third was served beside two others: {waited:?}");

    // The first is done, and asked to leave because somebody waits.
    first.send("first").await;
    let response = first.response().await;
    assert_eq!((response.body.as_str(), response.header("connection")), ("first", Some("close")));
    assert_eq!(third.response().await.body, "hello");

    // The third is idle now. A fourth need not wait for it.
    let mut fourth = server.connect().await;
    fourth.send("GET / HTTP/1.1\r\nHost: h\r\n\r\n").await;
    assert_eq!(fourth.response().await.body, "hello");
    assert_eq!(third.closed().await, "");
    second.send("second").await;
    assert_eq!(second.response().await.body, "second");
}

#[tokio::test]
async fn half_open_connections_make_place_for_others() {
    let server = start_with(app(), |config| {
        unlimited(config);
        config.limits.connections_max = 3;
    })
    .await;
    let silent = server.connect().await;
    let mut half = server.connect().await;
    half.send("GET / HTTP/1.1\r\nHost: ").await;
    let mut busy = server.connect().await;
    busy.send("POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n").await;
    assert_eq!(server.get("/").await.body, "hello");
    assert_eq!(silent.closed().await, "");
    assert_eq!(half.closed().await, "");
    busy.send("busy").await;
    assert_eq!(busy.response().await.body, "busy");
}

#[tokio::test]
async fn what_is_no_http_is_answered_400() {
    let server = start(app()).await;
    for (what, bytes) in [
        ("no Host", "GET / HTTP/1.1\r\n\r\n"),
        ("two Hosts", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"),
        ("no good Host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"),
        ("a lone line feed", "GET / HTTP/1.1\nHost: a\r\n\r\n"),
        ("a lone line feed later", "GET / HTTP/1.1\r\nHost: a\nX: y\r\n\r\n"),
        ("a folded header", "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n z\r\n\r\n"),
        ("a space before the colon", "GET / HTTP/1.1\r\nHost : a\r\n\r\n"),
        (
            "two lengths",
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
        ),
        ("a signed length", "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\nx"),
        (
            "an unknown coding",
            "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: xchunked\r\n\r\n",
        ),
        ("garbage", "\u{16}\u{3}\u{1}\u{2}garbage\r\n\r\n"),
    ] {
        let mut client = server.connect().await;
        client.send(bytes).await;
        assert_eq!(client.response().await.status, 400, "{what}");
        client.closed().await;
    }
    // The second request of a connection is looked at as the first.
    let mut client = server.connect().await;
    client.send("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\na\nb\n").await;
    assert_eq!(client.response().await.body, "a\nb\n");
    client.send("GET / HTTP/1.1\nHost: a\r\n\r\n").await;
    assert_eq!(client.response().await.status, 400);

    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(40_000));
    assert_eq!(server.exchange(large).await.status, 431);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(101));
    assert_eq!(server.exchange(many).await.status, 431);
    // HTTP/1.0 knows no Host.
    let mut old = server.connect().await;
    old.send("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(old.response().await.status, 200);
    assert_eq!(old.closed().await, "");
}

#[tokio::test]
async fn a_request_with_both_lengths_smuggles_nothing() {
    let server = start(app()).await;
    let mut client = server.connect().await;
    client
        .send(
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 60\r\n\
             Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        )
        .await;
    let answers = client.closed().await;
    assert_eq!(answers.matches("HTTP/1.1 ").count(), 1, "{answers}");
    assert!(!answers.contains("hello"), "{answers}");
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let server = start(app()).await;
    let mut client = server.connect().await;
    client
        .send(
            "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\none\
             GET / HTTP/1.1\r\nHost: a\r\n\r\n\
             POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nthree\
             GET /nowhere HTTP/1.1\r\nHo",
        )
        .await;
    assert_eq!(client.response().await.body, "one");
    assert_eq!(client.response().await.body, "hello");
    assert_eq!(client.response().await.body, "three");
    // The head of the last one was split in the middle of a name.
    client.send("st: a\r\n\r\n").await;
    assert_eq!(client.response().await.status, 404);
}
