//! A server on a free port and a plain HTTP client that signs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use queue::{Clock, EMULATOR_ACCOUNT, EMULATOR_KEY, Options, Server, auth};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Where the test clock starts: 2026-01-01T00:00:00Z, a Thursday.
pub(crate) const START_MS: u64 = 1_767_225_600_000;

/// A queue that exists from the start.
pub(crate) const QUEUE: &str = "/devstoreaccount1/payments";

/// Its messages.
pub(crate) const MESSAGES: &str = "/devstoreaccount1/payments/messages";

pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) now_ms: Arc<AtomicU64>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: JoinHandle<Result<(), queue::ServeError>>,
    client: Client<HttpConnector, Full<Bytes>>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and error code, which header and body must agree on.
    pub(crate) fn code(&self) -> (u16, &str) {
        let code = self.header("x-ms-error-code");
        if self.status >= 400 {
            assert_eq!(self.element("Code"), code, "{}", self.text);
        }
        (self.status, code)
    }

    /// The text of all elements of this name.
    pub(crate) fn elements(&self, name: &str) -> Vec<&str> {
        let (start, end) = (format!("<{name}>"), format!("</{name}>"));
        self.text.split(&start).skip(1).filter_map(|rest| rest.split(&end).next()).collect()
    }

    /// The text of the first element of this name.
    pub(crate) fn element(&self, name: &str) -> &str {
        self.elements(name).first().copied().unwrap_or_default()
    }

    /// The path and query that address the first message as its holder does.
    pub(crate) fn held(&self) -> String {
        let receipt = self.element("PopReceipt").replace('+', "%2B").replace('=', "%3D");
        format!("{MESSAGES}/{}?popreceipt={receipt}", self.element("MessageId"))
    }
}

pub(crate) async fn start() -> Service {
    start_with(|_| {}).await
}

pub(crate) async fn start_with(change: impl FnOnce(&mut Options)) -> Service {
    let now_ms = Arc::new(AtomicU64::new(START_MS));
    let source = now_ms.clone();
    let clock = Clock::from_fn(move || source.load(Ordering::Relaxed));
    let queues = vec!["payments".to_owned()];
    let mut options = Options { queues, clock, incarnation: 1, ..Options::default() };
    change(&mut options);
    let server = Server::bind(options).await.unwrap();
    let (address, shutdown) = (server.local_addr(), CancellationToken::new());
    #[expect(clippy::disallowed_methods, reason = "the handle is joined by the shutdown test")]
    let running = tokio::spawn(server.run(shutdown.clone()));
    let client = Client::builder(TokioExecutor::new()).build_http();
    Service { address, now_ms, shutdown, running, client }
}

/// The body that puts `text`.
pub(crate) fn body(text: &str) -> String {
    format!("<QueueMessage><MessageText>{text}</MessageText></QueueMessage>")
}

impl Service {
    pub(crate) fn advance_seconds(&self, by: u64) {
        self.now_ms.fetch_add(by * 1000, Ordering::Relaxed);
    }

    /// Sends a signed request without a body.
    pub(crate) async fn send(&self, method: &str, target: &str) -> Answer {
        self.send_with(method, target, &[], "").await
    }

    /// Sends a signed request.
    pub(crate) async fn send_with(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let body = body.into();
        let date = auth::http_date(self.now_ms.load(Ordering::Relaxed));
        let mut sent = vec![("x-ms-date", date.as_str()), ("x-ms-version", "2024-11-04")];
        sent.extend(headers);
        let signed: HeaderMap = sent
            .iter()
            .map(|(name, value)| {
                let name = HeaderName::try_from(*name).unwrap();
                (name, HeaderValue::from_str(value).unwrap())
            })
            .collect();
        let token = auth::sign(EMULATOR_ACCOUNT, EMULATOR_KEY, method, target, &signed, body.len());
        sent.push(("authorization", &token));
        self.send_unsigned(method, target, &sent, body).await
    }

    pub(crate) async fn send_unsigned(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request =
            http::Request::builder().method(method).uri(format!("http://{}{target}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let (parts, body) = self.client.request(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    /// Puts a message; `query` begins with a question mark if there is one.
    pub(crate) async fn put(&self, text: &str, query: &str) -> Answer {
        self.send_with("POST", &format!("{MESSAGES}{query}"), &[], body(text)).await
    }

    /// Takes messages.
    pub(crate) async fn get(&self, query: &str) -> Answer {
        self.send("GET", &format!("{MESSAGES}{query}")).await
    }
}
