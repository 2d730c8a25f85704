//! The store of a test, a client that signs, and a line to the store that can be cut.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cosmos::{EMULATOR_KEY, Options, Server, auth};
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use crate::app::PATIENCE;

/// A store with the database `shop` and its container `orders`, partitioned by `/pk`.
pub(crate) struct Store {
    address: SocketAddr,
    client: Client<HttpConnector, Full<Bytes>>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), cosmos::ServeError>>,
}

const CONTAINER: &str = r#"{ "id": "orders", "partitionKey": { "paths": ["/pk"] } }"#;

impl Store {
    pub(crate) async fn start() -> Self {
        let container: Value = serde_json::from_str(CONTAINER).unwrap();
        let account = json!({ "databases": [{ "id": "shop", "containers": [container] }] });
        let account = serde_json::from_value(account).unwrap();
        let server = Server::bind(Options { account, ..Options::default() }).await.unwrap();
        let (address, stop) = (server.local_addr(), CancellationToken::new());
        Self {
            address,
            client: Client::builder(TokioExecutor::new()).build_http(),
            task: TaskTracker::new().spawn(server.run(stop.clone())),
            stop,
        }
    }

    pub(crate) async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.unwrap().unwrap().unwrap();
    }

    pub(crate) fn connection_string(&self) -> String {
        connection_string(self.address)
    }

    /// Another way to the store, which can be cut.
    pub(super) async fn relay(&self) -> Relay {
        Relay::start(self.address).await
    }

    pub(crate) async fn create(&self, document: Value) {
        let key = json!([document["pk"]]).to_string();
        let key = [("x-ms-documentdb-partitionkey", key.as_str())];
        self.expect(201, "POST", "/dbs/shop/colls/orders/docs", &key, document.to_string()).await;
    }

    pub(super) async fn replace(&self, document: Value) {
        let key = json!([document["pk"]]).to_string();
        let key = [("x-ms-documentdb-partitionkey", key.as_str())];
        let path = format!("/dbs/shop/colls/orders/docs/{}", document["id"].as_str().unwrap());
        self.expect(200, "PUT", &path, &key, document.to_string()).await;
    }

    pub(super) async fn drop_container(&self) {
        self.expect(204, "DELETE", "/dbs/shop/colls/orders", &[], String::new()).await;
    }

    pub(super) async fn create_container(&self) {
        self.expect(201, "POST", "/dbs/shop/colls", &[], CONTAINER.to_owned()).await;
    }

    /// The documents of the lease container.
    pub(super) async fn leases(&self) -> Vec<Value> {
        let path = "/dbs/shop/colls/leases/docs";
        let (status, body) = self.send("GET", path, &[], String::new()).await;
        if status == 404 {
            return Vec::new();
        }
        body["Documents"].as_array().unwrap().clone()
    }

    /// The only lease.
    pub(super) async fn lease(&self) -> Value {
        let mut leases = self.leases().await;
        assert_eq!(leases.len(), 1, "{leases:?}");
        leases.remove(0)
    }

    /// Where the change feed of the container ends by now.
    async fn position(&self) -> String {
        let headers = [("a-im", "Incremental Feed"), ("if-none-match", "*")];
        let path = "/dbs/shop/colls/orders/docs";
        let answer = self.request("GET", path, &headers, String::new()).await;
        answer.headers()["etag"].to_str().unwrap().to_owned()
    }

    /// Waits until everything that has changed by now is recorded as processed.
    pub(super) async fn caught_up(&self) {
        let end = self.position().await;
        self.lease_becomes(|lease| lease["ContinuationToken"] == end).await;
    }

    /// Waits until the only lease is as it should be.
    pub(super) async fn lease_becomes(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leases = self.leases().await;
            if let [lease] = leases.as_slice()
                && wanted(lease)
            {
                return lease.clone();
            }
            assert!(Instant::now() < deadline, "{leases:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn expect(
        &self,
        status: u16,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) {
        let (got, answer) = self.send(method, path, headers, body).await;
        assert_eq!(got, status, "{method} {path}: {answer}");
    }

    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> (u16, Value) {
        let answer = self.request(method, path, headers, body).await;
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    async fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: String,
    ) -> http::Response<hyper::body::Incoming> {
        #[expect(clippy::disallowed_methods, reason = "the store checks the date of requests")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let date = auth::http_date(now.as_secs());
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{path}", self.address))
            .header("authorization", auth::sign(EMULATOR_KEY, method, path, &date))
            .header("x-ms-date", date);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        timeout(PATIENCE, self.client.request(request)).await.unwrap().unwrap()
    }
}

pub(super) fn connection_string(address: SocketAddr) -> String {
    format!("AccountEndpoint=http://{address}/;AccountKey={EMULATOR_KEY};")
}

/// How a line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Open,
    /// Connections break, and no new ones are made.
    Cut,
    /// Connections stay, and nothing moves on them.
    Silent,
}

/// A way to the store that can be cut.
pub(super) struct Relay {
    pub(super) address: SocketAddr,
    line: Arc<watch::Sender<Line>>,
    /// Connections turned away.
    refused: watch::Receiver<usize>,
    _task: AbortOnDropHandle<()>,
}

impl Relay {
    async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let line = Arc::new(watch::Sender::new(Line::Open));
        let (count, refused) = watch::channel(0);
        let (state, tasks) = (Arc::clone(&line), TaskTracker::new());
        let accept = async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                let mut state = state.subscribe();
                if *state.borrow() == Line::Cut {
                    count.send_modify(|count| *count += 1);
                    continue;
                }
                tasks.spawn(async move {
                    let mut far = TcpStream::connect(target).await.unwrap();
                    tokio::select! {
                        biased;
                        _ = state.wait_for(|line| *line != Line::Open) => {}
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => return,
                    }
                    let _ = state.wait_for(|line| *line != Line::Silent).await;
                });
            }
        };
        let task = AbortOnDropHandle::new(TaskTracker::new().spawn(accept));
        Self { address, line, refused, _task: task }
    }

    pub(super) fn set(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// Waits until `count` connections were turned away.
    pub(super) async fn refused(&self, count: usize) {
        let mut refused = self.refused.clone();
        timeout(PATIENCE, refused.wait_for(|seen| *seen >= count)).await.unwrap().unwrap();
    }
}
