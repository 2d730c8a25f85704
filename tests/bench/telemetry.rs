//! What telemetry costs an order: the same orders through two stacks in turns, one of which sends
//! traces and metrics to a collector in this process. Processor time is that of the handlers, as
//! the system counts it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::client::{Connection, drain, print_latencies};
use crate::harness::{AS_PEOPLE_RUN_IT, TestStack};
use crate::resources::{children, cpu};

/// Turns of each stack. A stall of the machine hits one of them.
const ROUNDS: usize = 8;

/// Orders of a turn.
const ORDERS: usize = 400;

/// Orders before counting begins.
const WARM_UP_ORDERS: usize = 200;

const APPS: [&str; 6] = ["order-api", "inventory", "billing", "payments", "notification", "outbox"];

/// A stack with what was measured on it.
struct Side {
    name: &'static str,
    stack: TestStack,
    connection: Connection,
    acceptances: Vec<Duration>,
    /// Per turn, from the first order to the last one that is done.
    turns: Vec<Duration>,
    cpu: Duration,
    whole_cpu: Duration,
}

impl Side {
    async fn start(name: &'static str, settings: &[&str]) -> Self {
        let common = [AS_PEOPLE_RUN_IT, "--set", "CUSTOMER_ORDERS_PER_SECOND=0"];
        let stack = TestStack::start_with(&[&common, settings].concat()).await;
        let address = stack.endpoints.http.strip_prefix("http://").unwrap().to_owned();
        let mut connection = Connection::open(&address).await;
        for _ in 0..WARM_UP_ORDERS {
            connection.submit().await;
        }
        drain(&stack).await;
        let (acceptances, turns) = (Vec::new(), Vec::new());
        Self {
            name,
            stack,
            connection,
            acceptances,
            turns,
            cpu: Duration::ZERO,
            whole_cpu: Duration::ZERO,
        }
    }

    async fn turn(&mut self) {
        let (handlers, whole, begun) = (self.handlers(), self.whole(), Instant::now());
        for _ in 0..ORDERS {
            let begun = Instant::now();
            self.connection.submit().await;
            self.acceptances.push(begun.elapsed());
        }
        drain(&self.stack).await;
        self.turns.push(begun.elapsed());
        self.cpu += self.handlers() - handlers;
        self.whole_cpu += self.whole() - whole;
    }

    fn handlers(&self) -> Duration {
        let pids = APPS.iter().filter_map(|app| self.stack.handler_pid(app));
        pids.map(|pid| cpu(u32::try_from(pid).unwrap())).sum()
    }

    fn whole(&self) -> Duration {
        let pids = self.stack.endpoints.processes.iter().map(|process| process.pid);
        pids.flat_map(|pid| children(pid).into_iter().chain([pid])).map(cpu).sum()
    }
}

/// Prints what an order costs with telemetry and without.
pub async fn telemetry() {
    println!(
        "\ntelemetry off and on, {ROUNDS} turns of {ORDERS} orders each, one stack after the other"
    );
    let (url, received, _collector) = collector().await;
    let setting = format!("OTEL_EXPORTER_OTLP_ENDPOINT={url}");
    let mut sides = [Side::start("off", &[]).await, Side::start("on", &["--set", &setting]).await];
    for round in 0..ROUNDS {
        // Each goes first as often as the other.
        let (first, second) = sides.split_at_mut(1);
        let (mut one, mut other) = (&mut first[0], &mut second[0]);
        if round % 2 == 1 {
            (one, other) = (other, one);
        }
        one.turn().await;
        other.turn().await;
    }
    let per_order = |total: Duration| total.as_secs_f64() * 1_000.0 / (ROUNDS * ORDERS) as f64;
    for side in &mut sides {
        let (cpu, whole) = (per_order(side.cpu), per_order(side.whole_cpu));
        print_latencies(&format!("  {}: acceptance", side.name), &mut side.acceptances);
        side.turns.sort_unstable();
        let turn = side.turns[ROUNDS / 2].as_secs_f64();
        println!(
            "    processor time per order: handlers {cpu:.3} ms, whole stack {whole:.3} ms; \
             turn p50 {turn:.2} s"
        );
    }
    let [off, on] = &sides;
    let more = |off: f64, on: f64| (on / off - 1.0) * 100.0;
    let middle = |side: &Side| side.acceptances[side.acceptances.len() / 2].as_secs_f64();
    let turn = |side: &Side| side.turns[ROUNDS / 2].as_secs_f64();
    println!(
        "  on against off: handlers {:+.1} %, whole stack {:+.1} %, acceptance p50 {:+.1} %, turn \
         p50 {:+.1} %",
        more(per_order(off.cpu), per_order(on.cpu)),
        more(per_order(off.whole_cpu), per_order(on.whole_cpu)),
        more(middle(off), middle(on)),
        more(turn(off), turn(on)),
    );
    let bytes = received.load(Ordering::Relaxed) / (ROUNDS * ORDERS + WARM_UP_ORDERS);
    println!("  sent to the collector: {bytes} bytes per order");
}

/// Takes everything and keeps nothing; its address, and the bytes that came.
async fn collector() -> (String, Arc<AtomicUsize>, JoinSet<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let received = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&received);
    let mut server = JoinSet::new();
    server.spawn(async move {
        let mut connections = JoinSet::new();
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let counted = Arc::clone(&counted);
            let service = service_fn(move |request: Request<Incoming>| {
                let counted = Arc::clone(&counted);
                async move {
                    if let Ok(body) = request.into_body().collect().await {
                        counted.fetch_add(body.to_bytes().len(), Ordering::Relaxed);
                    }
                    Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"{}"))))
                }
            });
            connections.spawn(async move {
                // A handler that stops hangs up.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .await;
            });
        }
    });
    (url, received, server)
}
