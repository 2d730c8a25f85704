//! The load: a handler of its own beside the stack's, and clients that keep their connection.

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use azure::cosmos::{Query, Scope};
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::harness::{TestStack, try_send};
use crate::{CONNECTIONS, LOADED_FOR};

/// A handler of its own beside the stack's, on the same store and bus.
pub struct Direct {
    pub address: String,
    pub process: std::process::Child,
}

impl Direct {
    /// Starts it; how long it took to the first 202.
    pub async fn start(stack: &TestStack) -> (Duration, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let app = stack.apps().join("order-api");
        let endpoints = &stack.endpoints;
        let store =
            format!("AccountEndpoint={}/;AccountKey={};", endpoints.cosmos, endpoints.cosmos_key);
        let begun = Instant::now();
        let process = Command::new(app.join("handler"))
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
            .env("OrdersStore", store)
            .env("OrdersBus", &endpoints.bus)
            .env("CUSTOMER_ORDERS_PER_SECOND", "0")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = format!("127.0.0.1:{port}");
        let handler = Self { address, process };
        while TcpStream::connect(&handler.address).await.is_err() {
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        Connection::open(&handler.address).await.submit().await;
        (begun.elapsed(), handler)
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// One keep-alive connection.
pub struct Connection {
    send: SendRequest<Full<Bytes>>,
    host: String,
}

static ORDER: &[u8] = include_bytes!("../fixtures/order.json");

impl Connection {
    pub async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let (send, connection) = handshake(TokioIo::new(stream)).await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "ends with the connection")]
        tokio::spawn(async move {
            // A closed connection shows at the next request.
            let _ = connection.await;
        });
        Self { send, host: address.to_owned() }
    }

    /// Submits an order that must be accepted; where it is.
    pub async fn submit(&mut self) -> String {
        let request = Request::post("/api/orders")
            .header("host", &self.host)
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from_static(ORDER)))
            .unwrap();
        self.send.ready().await.unwrap();
        let response = self.send.send_request(request).await.unwrap();
        assert_eq!(response.status(), 202);
        let location = response.headers()["location"].to_str().unwrap().to_owned();
        response.into_body().collect().await.unwrap();
        location
    }

    pub async fn get(&mut self, path: &str) -> Value {
        let request = Request::get(path).header("host", &self.host).body(Full::default()).unwrap();
        self.send.ready().await.unwrap();
        let response = self.send.send_request(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }
}

/// Keeps every connection busy; how many orders were accepted and what each cost.
pub async fn load(address: &str) -> (usize, Vec<Duration>) {
    let accepted = Arc::new(AtomicUsize::new(0));
    let until = Instant::now() + LOADED_FOR;
    let mut workers = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (accepted, address) = (Arc::clone(&accepted), address.to_owned());
        workers.spawn(async move {
            let mut connection = Connection::open(&address).await;
            let mut latencies = Vec::new();
            while Instant::now() < until {
                let begun = Instant::now();
                connection.submit().await;
                latencies.push(begun.elapsed());
                accepted.fetch_add(1, Ordering::Relaxed);
            }
            latencies
        });
    }
    let latencies = workers.join_all().await.concat();
    (accepted.load(Ordering::Relaxed), latencies)
}

/// How long a backlog may take to drain before the next measurement.
const DRAINED_WITHIN: Duration = Duration::from_secs(300);

/// Waits until every order is closed; how long that took. The query reads every order there is, so
/// it is asked only when the bus has nothing left to hand out: it must not take from the processors
/// what is being measured.
pub async fn drain(stack: &TestStack) -> Duration {
    let begun = Instant::now();
    let orders = stack.store().container("orders");
    let open = Query::new("SELECT TOP 1 c.id FROM c WHERE c.overall = 'accepted'");
    while waiting(stack).await > 0
        || !orders.query::<Value>(&open, Scope::All, 1).await.unwrap().is_empty()
    {
        assert!(begun.elapsed() < DRAINED_WITHIN, "the backlog does not drain");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    begun.elapsed()
}

/// Messages that wait in the subscriptions.
async fn waiting(stack: &TestStack) -> u64 {
    let bus = &stack.endpoints.bus_operations;
    let status = try_send(bus, Method::GET, "/status", &[], "").await.unwrap().json();
    let subscriptions = status["topics"][0]["subscriptions"].as_array().unwrap();
    subscriptions.iter().map(|subscription| subscription["active"].as_u64().unwrap()).sum()
}

pub fn print_latencies(what: &str, latencies: &mut [Duration]) {
    latencies.sort_unstable();
    let at = |share: f64| {
        let index = ((latencies.len() as f64 * share) as usize).min(latencies.len() - 1);
        latencies[index].as_secs_f64() * 1_000.0
    };
    println!(
        "{what:<46} p50 {:>8.2} ms   p99 {:>8.2} ms   max {:>8.2} ms",
        at(0.5),
        at(0.99),
        at(1.0)
    );
}
