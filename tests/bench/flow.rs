//! The order flow as a whole: what consumers cost those who order, how far the outbox is behind,
//! how long an order takes at a steady rate, how fast a backlog drains, what an order costs the
//! store.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use azure::cosmos::{Query, Scope};
use serde_json::Value;

use crate::client::{Connection, drain, print_latencies};
use crate::harness::{TestStack, signal};

/// The rate at which latencies are measured, orders per second.
const RATE: u32 = 100;

/// How long the rate is kept up.
const KEPT_UP_FOR: Duration = Duration::from_secs(20);

/// Connections that share the rate.
const CLIENTS: u32 = 4;

/// Orders of the backlog.
const BACKLOG: usize = 5_000;

/// Orders over which the costs are averaged.
const COSTED_ORDERS: usize = 200;

/// Everything behind the topic.
const CONSUMERS: [&str; 4] = ["inventory", "billing", "payments", "notification"];

/// Acceptance with all consumers stopped and with them at work: their difference is what the
/// bulkheads let through.
pub async fn bulkhead(stack: &TestStack, http: &str) {
    println!("\nacceptance at {RATE} orders/s for {} s, through the host", KEPT_UP_FOR.as_secs());
    let frozen = freeze(stack);
    let mut stopped = at_rate(http).await;
    thaw(&frozen);
    print_latencies("  consumers stopped", &mut stopped);
    drain(stack).await;
    let mut busy = at_rate(http).await;
    print_latencies("  consumers busy", &mut busy);
    drain(stack).await;
}

/// Orders at a steady rate, end to end, and how far the outbox was behind.
pub async fn steady(stack: &TestStack, http: &str) {
    let since = newest(stack).await;
    at_rate(http).await;
    drain(stack).await;
    let orders = documents(stack, "order", &since).await;
    let span = |from: &Value, to: &Value| millis(to).saturating_sub(millis(from));
    let closed = |order: &Value| {
        let history = order["history"].as_array()?.iter().rev();
        let mut completed = history.filter(|entry| entry["what"] == "completed");
        Some(span(&order["createdAt"], &completed.next()?["at"]))
    };
    let mut ends: Vec<Duration> = orders.iter().filter_map(closed).collect();
    println!("\nsteady {RATE} orders/s: {} orders", ends.len());
    print_latencies("  commit to completed", &mut ends);
    let events = documents(stack, "event", &since).await;
    let published = events.iter().filter(|event| !event["publishedAt"].is_null());
    let mut lags: Vec<Duration> =
        published.map(|event| span(&event["createdAt"], &event["publishedAt"])).collect();
    print_latencies("  outbox lag, commit to published", &mut lags);
}

/// A backlog that the consumers meet all at once.
pub async fn backlog(stack: &TestStack, http: &str) {
    let frozen = freeze(stack);
    let mut connection = Connection::open(http).await;
    for _ in 0..BACKLOG {
        connection.submit().await;
    }
    thaw(&frozen);
    let took = drain(stack).await;
    let rate = BACKLOG as f64 / took.as_secs_f64();
    println!("\nbacklog of {BACKLOG} orders: {:.1} s, {rate:.0} orders/s", took.as_secs_f64());
}

/// Requests to the store and request units per order, by app.
pub async fn costs() {
    let filter = "RUST_LOG=info,azure_data_cosmos_driver=warn,handler=debug";
    let stack = TestStack::start_with(&["--set", filter]).await;
    let http = stack.endpoints.http.strip_prefix("http://").unwrap().to_owned();
    let mut connection = Connection::open(&http).await;
    for _ in 0..20 {
        connection.submit().await;
    }
    drain(&stack).await;
    let before = totals(&stack).await;
    for _ in 0..COSTED_ORDERS {
        connection.submit().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drain(&stack).await;
    let after = totals(&stack).await;
    println!("\nstore requests and request units per order, by app, over {COSTED_ORDERS} orders");
    let mut sum = (0.0, 0.0);
    for (app, (requests, units)) in &after {
        let (requests_before, units_before) = before.get(app).copied().unwrap_or_default();
        let per = |from: f64, to: f64| (to - from) / COSTED_ORDERS as f64;
        let (requests, units) = (per(requests_before, *requests), per(units_before, *units));
        sum = (sum.0 + requests, sum.1 + units);
        println!("  {app:<28} {requests:>6.2} requests {units:>8.2} RU");
    }
    println!("  {:<28} {:>6.2} requests {:>8.2} RU", "all", sum.0, sum.1);
}

/// The last totals that each app has logged, once they have had time to.
async fn totals(stack: &TestStack) -> BTreeMap<String, (f64, f64)> {
    // The apps tell every two seconds.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let log = stack.full_log();
    let mut found = BTreeMap::new();
    for line in log.lines().filter(|line| line.contains("store totals")) {
        let app = line.split_whitespace().nth(1).unwrap_or_default();
        let number = |name: &str| -> f64 {
            let value = line.split(name).nth(1).and_then(|rest| rest.split_whitespace().next());
            value.and_then(|value| value.parse().ok()).unwrap_or_default()
        };
        found.insert(app.to_owned(), (number(" requests="), number(" request_units=")));
    }
    found
}

/// Sends orders at the rate, however long each takes; what each cost its client.
async fn at_rate(http: &str) -> Vec<Duration> {
    let mut clients = tokio::task::JoinSet::new();
    for client in 0..CLIENTS {
        let http = http.to_owned();
        clients.spawn(async move {
            let mut connection = Connection::open(&http).await;
            let every = Duration::from_secs(1) * CLIENTS / RATE;
            let begun = Instant::now() + every * client / CLIENTS;
            let mut latencies = Vec::new();
            for turn in 0.. {
                let due = begun + every * turn;
                if due > begun + KEPT_UP_FOR {
                    break;
                }
                tokio::time::sleep_until(due.into()).await;
                connection.submit().await;
                // From when it was due: a slow answer must not hide the wait of the next one.
                latencies.push(due.elapsed());
            }
            latencies
        });
    }
    clients.join_all().await.concat()
}

/// Stops the consumers where they stand.
fn freeze(stack: &TestStack) -> Vec<i32> {
    let pids = CONSUMERS.iter().flat_map(|app| {
        [Some(stack.pid(&format!("host {app}"))), stack.handler_pid(app)].into_iter().flatten()
    });
    pids.inspect(|pid| assert!(signal(*pid, "STOP"))).collect()
}

fn thaw(frozen: &[i32]) {
    frozen.iter().for_each(|pid| assert!(signal(*pid, "CONT")));
}

/// When the newest order was accepted.
async fn newest(stack: &TestStack) -> String {
    let page = stack.get("/api/orders?limit=1").await.json();
    page["orders"][0]["createdAt"].as_str().unwrap_or_default().to_owned()
}

async fn documents(stack: &TestStack, document_type: &str, after: &str) -> Vec<Value> {
    let query = Query::new("SELECT * FROM c WHERE c.type = @type AND c.createdAt > @after")
        .with("@type", document_type)
        .with("@after", after);
    stack.store().container("orders").query(&query, Scope::All, 50_000).await.unwrap()
}

/// A timestamp as time since the epoch of its day and month: differences are all that is asked.
fn millis(timestamp: &Value) -> Duration {
    let text = timestamp.as_str().unwrap();
    let part = |from: usize, to: usize| -> u64 { text[from..to].parse().unwrap() };
    let (day, hour, minute, second) = (part(8, 10), part(11, 13), part(14, 16), part(17, 19));
    let seconds = ((day * 24 + hour) * 60 + minute) * 60 + second;
    Duration::from_micros(seconds * 1_000_000 + part(20, 26))
}
