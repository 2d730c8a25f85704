//! The benchmark: what accepting an order costs, how long it takes to finish, how much memory the
//! processes hold. Prints figures and asserts none: machines differ, and a timed assertion tells
//! more about the machine than about the code.
//!
//! Run it with `cargo bench --package e2e`; it builds handler and stack in release first.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs, reason = "a benchmark")]
#![allow(dead_code, unreachable_pub, reason = "uses a part of the harness of the tests")]

mod harness;

use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use harness::TestStack;

/// Requests before counting begins: connections, caches and page tables settle.
const WARM_UP_REQUESTS: usize = 200;

/// Orders of the latency measurement, one after another.
const SERIAL_REQUESTS: usize = 2_000;

/// Connections of the throughput measurement.
const CONNECTIONS: usize = 32;

/// Length of the throughput measurement.
const LOADED_FOR: Duration = Duration::from_secs(8);

/// Orders of the end-to-end measurement, one after another.
const FOLLOWED_ORDERS: usize = 200;

/// Starts of the handler that are measured.
const STARTS: usize = 10;

/// How long a backlog may take to drain before the next measurement.
const DRAINED_WITHIN: Duration = Duration::from_secs(180);

fn main() {
    // `cargo bench` builds this file and not the executables that it measures.
    let built = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "build",
            "--workspace",
            "--release",
            "--locked",
            "--bin",
            "handler",
            "--bin",
            "stack",
        ])
        .status();
    assert!(built.is_ok_and(|status| status.success()), "the executables do not build");
    tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(bench());
}

async fn bench() {
    let stack = TestStack::start().await;
    let http = stack.endpoints.http.strip_prefix("http://").unwrap().to_owned();
    println!("one machine, {} cores, load generator included\n", cores());

    println!("start of the order-api handler, {STARTS} times");
    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let (took, handler) = Direct::start(&stack).await;
        starts.push(took);
        drop(handler);
    }
    print_latencies("  process start to first 202", &mut starts);

    let (_, direct) = Direct::start(&stack).await;
    println!("\nacceptance, one connection, {SERIAL_REQUESTS} orders after {WARM_UP_REQUESTS}");
    for (name, address) in [("direct to the handler", &direct.address), ("through the host", &http)]
    {
        let mut connection = Connection::open(address).await;
        for _ in 0..WARM_UP_REQUESTS {
            connection.submit().await;
        }
        let mut latencies = Vec::with_capacity(SERIAL_REQUESTS);
        for _ in 0..SERIAL_REQUESTS {
            let begun = Instant::now();
            connection.submit().await;
            latencies.push(begun.elapsed());
        }
        print_latencies(&format!("  {name}"), &mut latencies);
    }
    drain(&stack).await;

    println!("\nend to end, {FOLLOWED_ORDERS} orders one after another, 202 to all three done");
    let mut connection = Connection::open(&http).await;
    let mut finished = Vec::new();
    for _ in 0..FOLLOWED_ORDERS {
        let location = connection.submit().await;
        let begun = Instant::now();
        while connection.get(&location).await["overall"] != "completed" {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        finished.push(begun.elapsed());
    }
    print_latencies("  accepted to completed", &mut finished);

    println!("\nacceptance, {CONNECTIONS} connections for {} s", LOADED_FOR.as_secs());
    for (name, address) in [("direct to the handler", &direct.address), ("through the host", &http)]
    {
        let (accepted, mut latencies) = load(address).await;
        let rate = accepted as f64 / LOADED_FOR.as_secs_f64();
        print_latencies(&format!("  {name}: {rate:.0} accepted/s"), &mut latencies);
        let drained = drain(&stack).await;
        println!("    backlog drained {:.1} s later", drained.as_secs_f64());
    }

    println!("\npeak resident memory after all of this");
    println!("  {:<28} {:>7.1} MB", "handler order-api (direct)", peak_mb(direct.process.id()));
    for process in &stack.endpoints.processes {
        println!("  {:<28} {:>7.1} MB", process.name, peak_mb(process.pid));
        for child in children(process.pid) {
            // The host's watchdog is a shell of under 2 MB.
            let command = std::fs::read_to_string(format!("/proc/{child}/comm"));
            if command.is_ok_and(|name| name.trim() != "handler") {
                continue;
            }
            let name = process.name.replace("host", "handler");
            println!("  {name:<28} {:>7.1} MB", peak_mb(child));
        }
    }
}

/// A handler of its own beside the stack's, on the same store and bus.
struct Direct {
    address: String,
    process: std::process::Child,
}

impl Direct {
    /// Starts it; how long it took to the first 202.
    async fn start(stack: &TestStack) -> (Duration, Self) {
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
struct Connection {
    send: SendRequest<Full<Bytes>>,
    host: String,
}

static ORDER: &[u8] = include_bytes!("fixtures/order.json");

impl Connection {
    async fn open(address: &str) -> Self {
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
    async fn submit(&mut self) -> String {
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

    async fn get(&mut self, path: &str) -> Value {
        let request = Request::get(path).header("host", &self.host).body(Full::default()).unwrap();
        self.send.ready().await.unwrap();
        let response = self.send.send_request(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        serde_json::from_slice(&body).unwrap()
    }
}

/// Keeps every connection busy; how many orders were accepted and what each cost.
async fn load(address: &str) -> (usize, Vec<Duration>) {
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

/// Waits until nothing is left to do; how long that took.
async fn drain(stack: &TestStack) -> Duration {
    let begun = Instant::now();
    let bus = stack.bus();
    for service in ["inventory", "billing", "notification"] {
        let subscription = bus.management(&format!("orders/Subscriptions/{service}-sub"));
        while !subscription.peek(0, 1).await.unwrap_or_default().is_empty() {
            assert!(begun.elapsed() < DRAINED_WITHIN, "{service} does not drain");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    begun.elapsed()
}

fn print_latencies(what: &str, latencies: &mut [Duration]) {
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

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZero::get)
}

/// Peak resident memory in MB (10^6 bytes); Linux.
fn peak_mb(pid: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    let kib: f64 = line.trim().trim_end_matches(" kB").trim().parse().unwrap_or_default();
    kib * 1.024 / 1_000.0
}

fn children(pid: u32) -> Vec<u32> {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path.join("children")).ok();
    let listed: String = threads.flatten().filter_map(|thread| read(thread.path())).collect();
    listed.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}
