//! A queue service for the tests, and a client of it that shares no code with the host.

use std::net::SocketAddr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::HeaderMap;
use queue::{EMULATOR_ACCOUNT, EMULATOR_KEY};
use serde_json::Value;
use time::OffsetDateTime;
use tokio::net::TcpSocket;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::app::{PATIENCE, Running};
use crate::wire::{Answer, call};

/// A running queue service.
pub(crate) struct Storage {
    pub(crate) address: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), queue::ServeError>>,
}

impl Storage {
    /// With these queues.
    pub(crate) async fn with(queues: &[&str]) -> Self {
        Self::at(SocketAddr::from(([127, 0, 0, 1], 0)), queues).await
    }

    /// Waits for a port that somebody else has for a moment.
    pub(crate) async fn at(listen: SocketAddr, queues: &[&str]) -> Self {
        let deadline = Instant::now() + PATIENCE;
        let server = loop {
            let options = queue::Options {
                listen,
                queues: queues.iter().map(|name| (*name).to_owned()).collect(),
                ..queue::Options::default()
            };
            match queue::Server::bind(options).await {
                Ok(server) => break server,
                Err(error) => assert!(Instant::now() < deadline, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let (address, stop) = (server.local_addr(), CancellationToken::new());
        let task = TaskTracker::new().spawn(server.run(stop.clone()));
        Self { address, stop, task }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }

    pub(crate) fn connection_string(&self) -> String {
        queue::connection_string(self.address)
    }

    pub(crate) async fn create(&self, queue: &str) {
        assert_eq!(self.ask("PUT", queue, "").await.status, 201);
    }

    /// Puts a message as an output binding or an SDK would: in base64.
    pub(crate) async fn put(&self, queue: &str, message: &Value) {
        self.put_as_it_is(queue, &BASE64.encode(message.to_string())).await;
    }

    pub(crate) async fn put_as_it_is(&self, queue: &str, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let body = format!("<QueueMessage><MessageText>{text}</MessageText></QueueMessage>");
        assert_eq!(self.ask("POST", &format!("{queue}/messages"), &body).await.status, 201);
    }

    /// Receives a message and lets its lease of one second end.
    pub(crate) async fn dequeue(&self, queue: &str) {
        let path = format!("{queue}/messages?numofmessages=1&visibilitytimeout=1");
        let answer = self.ask("GET", &path, "").await;
        assert_eq!(elements(&answer.body, "MessageText").len(), 1, "{answer:?}");
        self.visible_become(queue, 1).await;
    }

    /// The texts of what is visible, as they are on the wire. `None` without such a queue.
    pub(crate) async fn peek(&self, queue: &str) -> Option<Vec<String>> {
        let path = format!("{queue}/messages?numofmessages=32&peekonly=true");
        let answer = self.ask("GET", &path, "").await;
        (answer.status == 200).then(|| elements(&answer.body, "MessageText"))
    }

    /// Waits for `count` visible messages and returns them decoded.
    pub(crate) async fn visible_become(&self, queue: &str, count: usize) -> Vec<String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let visible = self.peek(queue).await.unwrap_or_default();
            if visible.len() == count {
                let decoded = |text: &String| {
                    BASE64.decode(text).map_or_else(
                        |_| text.clone(),
                        |bytes| String::from_utf8_lossy(&bytes).into_owned(),
                    )
                };
                return visible.iter().map(decoded).collect();
            }
            assert!(Instant::now() < deadline, "{queue}: not {count} but {visible:?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Messages in the queue, also those that are invisible.
    pub(crate) async fn count(&self, queue: &str) -> usize {
        let answer = self.ask("GET", &format!("{queue}?comp=metadata"), "").await;
        let head = answer.head.to_ascii_lowercase();
        let (_, rest) = head.split_once("x-ms-approximate-messages-count: ").unwrap();
        rest.split("\r\n").next().unwrap().parse().unwrap()
    }

    pub(crate) async fn count_becomes(&self, queue: &str, wanted: usize, host: &Running) {
        let deadline = Instant::now() + PATIENCE;
        while self.count(queue).await != wanted {
            assert!(Instant::now() < deadline, "{queue}: not {wanted}:\n{}", host.log.text());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        #[expect(clippy::disallowed_methods, reason = "this client is a shell of its own")]
        let now = OffsetDateTime::now_utc();
        let date = queue::auth::http_date(u64::try_from(now.unix_timestamp()).unwrap() * 1_000);
        let target = format!("/{EMULATOR_ACCOUNT}/{path}");
        let mut headers = HeaderMap::new();
        headers.insert("x-ms-date", date.parse().unwrap());
        headers.insert("x-ms-version", "2020-10-02".parse().unwrap());
        let token = queue::auth::sign(
            EMULATOR_ACCOUNT,
            EMULATOR_KEY,
            method,
            &target,
            &headers,
            body.len(),
        );
        let head = format!(
            "{method} {target}\r\nx-ms-date: {date}\r\nx-ms-version: 2020-10-02\r\n\
             authorization: {token}"
        );
        call(self.address, &head, body).await
    }
}

/// An address nobody listens at, for as long as the socket lives.
pub(crate) fn nobody() -> (TcpSocket, SocketAddr) {
    let socket = reserved(SocketAddr::from(([127, 0, 0, 1], 0)));
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Keeps everybody else from listening at `address`, also while old connections linger.
pub(crate) fn reserved(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseaddr(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

/// The texts of all elements `name`.
fn elements(document: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let inner = |part: &str| part.split_once(&close).map(|(inner, _)| inner.to_owned());
    document
        .split(&open)
        .skip(1)
        .filter_map(inner)
        .map(|text| text.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
        .collect()
}
