//! What every answer has, what is no operation, and how connections and the service end.

use std::time::Duration;

use queue::limits::{BODY_READ, CONNECTION_IDLE, EXPIRY_SWEEP_INTERVAL};
use queue::{BindError, Options, Server, connection_string};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

use crate::harness::{MESSAGES, QUEUE, start};

#[tokio::test]
async fn every_answer_can_be_traced() {
    let service = start().await;
    for (target, status) in [(MESSAGES, 200), ("/devstoreaccount1/unknown/messages", 404)] {
        let headers = [("x-ms-client-request-id", "mine")];
        let answer = service.send_with("GET", target, &headers, "").await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("x-ms-client-request-id"), "mine");
        assert_eq!(answer.header("x-ms-version"), "2024-11-04");
        assert_eq!(answer.header("date"), "Thu, 01 Jan 2026 00:00:00 GMT");
        assert_eq!(answer.header("x-ms-request-id").len(), 36);
        if status == 404 {
            let id = format!("RequestId:{}\n", answer.header("x-ms-request-id"));
            assert!(answer.element("Message").contains(&id), "{}", answer.text);
        }
    }
    let long = "x".repeat(1025);
    let headers = [("x-ms-client-request-id", long.as_str())];
    let answer = service.send_with("GET", MESSAGES, &headers, "").await;
    assert!(!answer.headers.contains_key("x-ms-client-request-id"));
}

#[tokio::test]
async fn what_is_no_operation_is_told_apart() {
    let service = start().await;
    for (method, target, code) in [
        ("GET", "/".to_owned(), (400, "InvalidUri")),
        ("GET", "/someone/payments/messages".to_owned(), (400, "InvalidUri")),
        ("PUT", "/devstoreaccount1-secondary/payments".to_owned(), (400, "InvalidUri")),
        ("GET", format!("{MESSAGES}/id/more"), (400, "InvalidUri")),
        ("GET", "/devstoreaccount1/%ff".to_owned(), (400, "InvalidUri")),
        ("GET", "/devstoreaccount1".to_owned(), (400, "MissingRequiredQueryParameter")),
        ("GET", "/devstoreaccount1?comp=x".to_owned(), (400, "InvalidQueryParameterValue")),
        ("GET", format!("{QUEUE}?comp=x"), (400, "InvalidQueryParameterValue")),
        ("POST", QUEUE.to_owned(), (405, "UnsupportedHttpVerb")),
        ("PATCH", MESSAGES.to_owned(), (405, "UnsupportedHttpVerb")),
        ("GET", format!("{MESSAGES}/id"), (405, "UnsupportedHttpVerb")),
        ("DELETE", "/devstoreaccount1?comp=list".to_owned(), (405, "UnsupportedHttpVerb")),
    ] {
        assert_eq!(service.send(method, &target).await.code(), code, "{method} {target}");
    }
}

#[tokio::test]
async fn a_service_cannot_start_with_what_it_could_not_serve() {
    let name = "Not-A-Name".to_owned();
    let options = Options { queues: vec![name.clone()], ..Options::default() };
    match Server::bind(options).await {
        Err(BindError::Declaration { name: refused, .. }) => assert_eq!(refused, name),
        other => panic!("{:?}", other.map(|server| server.local_addr())),
    }
    let options = Options { key: "no base64!".to_owned(), ..Options::default() };
    assert!(matches!(Server::bind(options).await, Err(BindError::Key(_))));
    let taken = Server::bind(Options::default()).await.unwrap();
    let options = Options { listen: taken.local_addr(), ..Options::default() };
    assert!(matches!(Server::bind(options).await, Err(BindError::Listen { .. })));
    let text = connection_string(taken.local_addr());
    let endpoint = format!("QueueEndpoint=http://{}/devstoreaccount1;", taken.local_addr());
    assert!(text.starts_with("DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;"));
    assert!(text.ends_with(&endpoint), "{text}");
}

#[tokio::test]
async fn shutdown_lets_the_request_under_way_finish() {
    let service = start().await;
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 4\r\nexpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert!(interim.starts_with(b"HTTP/1.1 100"), "the request is not under way");
    service.shutdown.cancel();
    stream.write_all(b"body").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 401"), "{answer}");
    let ended = timeout(Duration::from_secs(10), service.running).await.unwrap().unwrap();
    assert!(ended.is_ok());
    assert!(TcpStream::connect(service.address).await.is_err());
}

/// Time is paused: it moves on by itself whenever everybody waits.
#[tokio::test(start_paused = true)]
async fn idle_and_dawdling_connections_are_closed_in_time() {
    let service = start().await;
    for (sent, answered, limit) in [
        ("", false, CONNECTION_IDLE),
        ("GET / HTTP/1.1\r\nhost: he", false, CONNECTION_IDLE),
        ("GET / HTTP/1.1\r\nhost: here\r\n\r\n", true, CONNECTION_IDLE),
        ("POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 4\r\n\r\nbo", true, BODY_READ),
    ] {
        let mut stream = TcpStream::connect(service.address).await.unwrap();
        stream.write_all(sent.as_bytes()).await.unwrap();
        let (start, mut answer) = (Instant::now(), Vec::new());
        let closed = timeout(10 * limit, stream.read_to_end(&mut answer)).await;
        assert!(closed.is_ok(), "still open: {sent:?}");
        let took = start.elapsed();
        // The timers of the service's other work may move a paused clock a little further.
        assert!((limit..limit + EXPIRY_SWEEP_INTERVAL * 2).contains(&took), "{took:?}: {sent:?}");
        assert_eq!(!answer.is_empty(), answered, "{sent:?}");
    }
}
