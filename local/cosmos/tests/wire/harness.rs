//! A server on a free port and a plain HTTP client that signs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use cosmos::{Account, Clock, EMULATOR_KEY, Options, Server, auth};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Where the test clock starts: 2026-01-01T00:00:00Z.
pub(crate) const START_MS: u64 = 1_767_225_600_000;

pub(crate) const DOCS: &str = "/dbs/db/colls/c/docs";

pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) now_ms: Arc<AtomicU64>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: JoinHandle<Result<(), cosmos::ServeError>>,
    client: Client<HttpConnector, Full<Bytes>>,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: http::HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Status and substatus.
    pub(crate) fn code(&self) -> (u16, u32) {
        (self.status, self.header("x-ms-substatus").parse().unwrap_or(0))
    }
}

pub(crate) async fn start() -> Service {
    start_with(|_| {}).await
}

pub(crate) async fn start_with(change: impl FnOnce(&mut Options)) -> Service {
    let account: Account = serde_json::from_value(json!({"databases": [{"id": "db", "containers": [
        {"id": "c", "partitionKey": {"paths": ["/pk"]}, "defaultTtl": -1, "custom": {"kept": true}},
    ]}]}))
    .unwrap();
    let now_ms = Arc::new(AtomicU64::new(START_MS));
    let source = now_ms.clone();
    let clock = Clock::from_fn(move || source.load(Ordering::Relaxed));
    let mut options = Options { account, clock, incarnation: 1, ..Options::default() };
    change(&mut options);
    let server = Server::bind(options).await.unwrap();
    let (address, shutdown) = (server.local_addr(), CancellationToken::new());
    #[expect(clippy::disallowed_methods, reason = "the handle is joined by the shutdown test")]
    let running = tokio::spawn(server.run(shutdown.clone()));
    let client = Client::builder(TokioExecutor::new()).build_http();
    Service { address, now_ms, shutdown, running, client }
}

impl Service {
    pub(crate) fn advance_ms(&self, by: u64) {
        self.now_ms.fetch_add(by, Ordering::Relaxed);
    }

    /// Sends a signed request.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let date = auth::http_date(self.now_ms.load(Ordering::Relaxed) / 1000);
        let token = auth::sign(EMULATOR_KEY, method, path, &date);
        let signed = [("authorization", token.as_str()), ("x-ms-date", date.as_str())];
        self.send_unsigned(method, path, &[&signed, headers].concat(), body).await
    }

    pub(crate) async fn send_unsigned(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        self.send_by(&self.client, method, path, headers, body).await
    }

    pub(crate) async fn send_by(
        &self,
        client: &Client<HttpConnector, Full<Bytes>>,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let mut request =
            http::Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let (parts, body) = client.request(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    /// Creates an item in partition `p`.
    pub(crate) async fn create(&self, body: Value) -> Answer {
        let key = json!([body["pk"]]).to_string();
        self.send("POST", DOCS, &[("x-ms-documentdb-partitionkey", &key)], body.to_string()).await
    }

    /// Reads an item of partition `p`.
    pub(crate) async fn read(&self, id: &str) -> Answer {
        self.send("GET", &format!("{DOCS}/{id}"), &[P], "").await
    }

    pub(crate) async fn patch(&self, id: &str, body: Value) -> Answer {
        self.send("PATCH", &format!("{DOCS}/{id}"), &[P], body.to_string()).await
    }

    pub(crate) async fn query(&self, text: &str, headers: &[(&str, &str)]) -> Answer {
        let query = [("x-ms-documentdb-isquery", "True")];
        self.send("POST", DOCS, &[&query, headers].concat(), json!({"query": text}).to_string())
            .await
    }
}

/// The header for partition `p`.
pub(crate) const P: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");
