//! Invocations over a socket: what the host is told, whatever happens in the function.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::{get, post};
use handler::{App, Context, Failure, Invocation, Reply, ServiceBusMessage, TimerTick};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::client::{PATIENCE, SHORT, invocation, start, start_with};
use crate::fixtures;

const EMPTY: &str = r#"{"Data":{"x":"\"\""},"Metadata":{}}"#;

async fn done(_: Invocation, _: Context) -> Result<Reply, Failure> {
    Ok(Reply::done())
}

#[tokio::test]
async fn a_function_answers_with_an_object_of_json() {
    let seen = Arc::new(Mutex::new(None));
    let store = Arc::clone(&seen);
    let app = App::new().function("done", done).function(
        "charge",
        move |message: ServiceBusMessage, context: Context| {
            *store.lock().unwrap() = Some((message.message_id(), context));
            async { Ok::<_, Failure>(Reply::done().output("payments", "hello123").log("line")) }
        },
    );
    let server = start(app).await;
    let response = server.invoke("done", EMPTY).await;
    assert_eq!((response.status, response.body.as_str()), (200, "{}"));
    assert_eq!(response.header("content-type"), Some("application/json"));

    let response = server.invoke("charge", &fixtures::text("service_bus_json")).await;
    assert_eq!(response.status, 200);
    assert_eq!(response.json(), json!({"Outputs": {"payments": "\"hello123\""}, "Logs": ["line"]}));
    let (message_id, context) = seen.lock().unwrap().take().unwrap();
    assert_eq!(message_id.as_deref(), Some("m-41"));
    assert_eq!(&*context.function, "charge");
    assert_eq!(context.invocation_id(), Some("0d6a4a8e-7b55-4f0b-a26c-5a53c2b8c9f1"));
    assert_eq!(context.trace.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
    let parent = context.trace.parent_span_id.unwrap().to_string();
    assert_eq!(parent, "b7ad6b7169203331");
    assert!(context.trace.sampled());
    assert!(context.remaining() > Duration::from_secs(200));
}

#[tokio::test]
async fn chunks_are_a_body_too() {
    let app = App::new().function("echo", |message: ServiceBusMessage, _: Context| async move {
        Ok::<_, Failure>(Reply::done().text("out", message.text()))
    });
    let server = start(app).await;
    let envelope = r#"{"Data":{"x":"\"in, pieces\""},"Metadata":{}}"#;
    let mut request =
        "POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".to_owned();
    for piece in envelope.as_bytes().chunks(7) {
        let piece = std::str::from_utf8(piece).unwrap();
        request.push_str(&format!("{:x}\r\n{piece}\r\n", piece.len()));
    }
    request.push_str("0\r\n\r\n");
    // In single bytes, so that no boundary falls where a read ends.
    let mut client = server.connect().await;
    for byte in request.as_bytes() {
        client.send([*byte]).await;
    }
    let response = client.response().await;
    assert_eq!(response.json()["Outputs"]["out"], "in, pieces");
}

#[tokio::test]
async fn every_failure_is_500_and_says_nothing_but_its_type() {
    let app = App::new()
        .function("fails", |_: Invocation, _: Context| async {
            Err::<Reply, _>(Failure::new("card-declined", "the card 4111 was declined"))
        })
        .function("errs", |_: Invocation, _: Context| async {
            Err::<Reply, _>(std::io::Error::other("disk /var/secret is full"))
        })
        .function("panics", |_: Invocation, _: Context| async {
            if true {
                panic!("secret panic");
            }
            Ok::<_, Failure>(Reply::done())
        })
        .function("panics-before", |_: Invocation, _: Context| {
            if true {
                panic!("secret panic before there is a future");
            }
            async { Ok::<_, Failure>(Reply::done()) }
        })
        .function("unserializable", |_: Invocation, _: Context| async {
            let keyed_by_list = std::collections::BTreeMap::from([(vec![1], "secret")]);
            Ok::<_, Failure>(Reply::done().output("x", keyed_by_list))
        })
        .function("ticks", |_: TimerTick, _: Context| async { Ok::<_, Failure>(Reply::done()) });
    let server = start(app).await;
    for (function, error_type) in [
        ("fails", "card-declined"),
        ("errs", "std::io::error::Error"),
        ("panics", "panic"),
        ("panics-before", "panic"),
        ("unserializable", "reply-not-json"),
        ("ticks", "trigger-not-decoded"),
    ] {
        let response = server.invoke(function, EMPTY).await;
        assert_eq!(response.status, 500, "{function}");
        assert_eq!(response.header("content-type"), Some("application/problem+json"));
        assert_eq!(response.json()["errorType"], error_type, "{function}");
        for secret in ["4111", "/var", "secret"] {
            assert!(!response.body.contains(secret), "{function}: {response:?}");
        }
    }
}

/// Tells when it is dropped.
struct OnDrop(CancellationToken);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

#[tokio::test]
async fn at_the_deadline_the_future_is_dropped_and_the_host_told() {
    let dropped = CancellationToken::new();
    let token = dropped.clone();
    let app = App::new().invocation_deadline(SHORT).function(
        "hangs",
        move |_: Invocation, _: Context| {
            let held = OnDrop(token.clone());
            async move {
                let _held = held;
                std::future::pending::<Result<Reply, Failure>>().await
            }
        },
    );
    let server = start(app).await;
    let response = server.invoke("hangs", EMPTY).await;
    assert_eq!(response.status, 500);
    assert_eq!(response.json()["errorType"], "deadline");
    tokio::time::timeout(PATIENCE, dropped.cancelled()).await.unwrap();

    // A body that never ends counts as well, though each piece comes in time.
    let mut client = server.connect().await;
    client.send("POST /hangs HTTP/1.1\r\nHost: h\r\nContent-Length: 100000\r\n\r\n{").await;
    let (mut reader, mut writer) = client.stream.into_split();
    let trickle = async {
        loop {
            if tokio::io::AsyncWriteExt::write_all(&mut writer, b" ").await.is_err() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    let mut answer = [0; 12];
    let read = tokio::io::AsyncReadExt::read_exact(&mut reader, &mut answer);
    tokio::select! {
        read = tokio::time::timeout(PATIENCE, read) => { read.unwrap().unwrap(); }
        () = trickle => unreachable!(),
    }
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[tokio::test]
async fn a_host_that_hangs_up_ends_the_invocation() {
    let (began, dropped) = (CancellationToken::new(), CancellationToken::new());
    let tokens = (began.clone(), dropped.clone());
    let app = App::new().function("hangs", move |_: Invocation, _: Context| {
        let held = OnDrop(tokens.1.clone());
        tokens.0.cancel();
        async move {
            let _held = held;
            std::future::pending::<Result<Reply, Failure>>().await
        }
    });
    let server = start(app).await;
    let mut client = server.connect().await;
    client.send(invocation("hangs", EMPTY)).await;
    tokio::time::timeout(PATIENCE, began.cancelled()).await.unwrap();
    assert!(!dropped.is_cancelled());
    drop(client);
    tokio::time::timeout(PATIENCE, dropped.cancelled()).await.unwrap();
}

#[tokio::test]
async fn what_is_no_envelope_is_the_senders_fault() {
    let server = start_with(App::new().function("done", done), |config| {
        config.limits.invocation_bytes_max = 64;
    })
    .await;
    for body in ["", "null", "[]", "{", "{\"Data\":3}", "\u{feff}{}", "{\"Data\":{\"x\":1e999}}"] {
        assert_eq!(server.invoke("done", body).await.status, 400, "{body}");
    }
    let deep = format!("{}{}", "[".repeat(60), "]".repeat(4));
    assert_eq!(server.invoke("done", &deep).await.status, 400);
    let large = server.invoke("done", &format!("{{\"Data\":{{}}{}}}", " ".repeat(64))).await;
    assert_eq!((large.status, large.header("connection")), (413, Some("close")));
    assert_eq!(server.invoke("done", EMPTY).await.status, 200);

    // A page in a browser cannot invoke, not even with a request that needs no preflight.
    let browser = format!(
        "POST /done HTTP/1.1\r\nHost: h\r\nOrigin: https://example.com\r\n\
         Content-Type: text/plain\r\nContent-Length: {}\r\n\r\n{EMPTY}",
        EMPTY.len()
    );
    assert_eq!(server.exchange(browser).await.status, 403);
}

#[tokio::test]
async fn an_unknown_function_is_told_the_known_ones() {
    let app = App::new().function("reserve", done).function("charge", done);
    let server = start(app).await;
    let response = server.invoke("Nope", EMPTY).await;
    assert_eq!(response.status, 404);
    assert_eq!(response.header("content-type"), Some("application/problem+json"));
    assert_eq!(response.json()["functions"], json!(["charge", "reserve"]));
    // Names are compared exactly, and only a POST invokes.
    assert_eq!(server.invoke("Charge", EMPTY).await.status, 404);
    let response = server.get("/charge").await;
    assert_eq!((response.status, response.json().get("functions").is_some()), (404, false));
}

#[tokio::test]
async fn functions_and_routes_live_on_one_port() {
    let router = Router::new()
        .route("/api/orders", post(|body: String| async move { format!("got {body}") }))
        .route("/charge", get(|| async { "a page about charges" }));
    let server = start(App::new().function("charge", done).http(router)).await;
    assert_eq!(server.invoke("charge", EMPTY).await.body, "{}");
    assert_eq!(server.get("/charge").await.body, "a page about charges");
    let response = server.invoke("api/orders", "order").await;
    assert_eq!((response.status, response.body.as_str()), (200, "got order"));
    assert_eq!(server.get("/api/nope").await.status, 404);
}

#[tokio::test]
async fn readiness_is_answered_with_and_without_a_route() {
    let server = start(App::new().function("charge", done)).await;
    assert_eq!(server.get("/").await.status, 200);
    assert_eq!(server.get("/other").await.status, 404);

    let router = Router::new().route("/api/x", get(|| async { "x" }));
    let server = start(App::new().http(router)).await;
    assert_eq!(server.get("/").await.status, 200);

    let portal = Router::new().route("/", get(|| async { "portal" }));
    let server = start(App::new().http(portal)).await;
    assert_eq!(server.get("/").await.body, "portal");
}
