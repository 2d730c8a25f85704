//! What can be seen from outside: one trace per order, numbers, health, and what does not fit
//! together. The collector is an HTTP server of the test that reads what the handlers send.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use azure::bus::Message;
use azure::cosmos::Patch;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use crate::harness::{TestStack, binary, eventually, order, order_with, send, signal, try_send};
use crate::proof;

/// A collector that takes OTLP over HTTP in JSON.
pub(crate) struct Collector {
    pub(crate) url: String,
    received: Arc<Mutex<Vec<(String, Value)>>>,
    /// What `Authorization` has to be; whoever sends something else is refused and counted.
    pub(crate) wanted: Arc<Mutex<Option<String>>>,
    pub(crate) refused: Arc<Mutex<usize>>,
    _server: JoinSet<()>,
}

/// A span, as far as the tests look at it.
#[derive(Clone, Debug)]
struct Span {
    service: String,
    name: String,
    kind: u64,
    trace_id: String,
    span_id: String,
    parent_span_id: String,
    attributes: BTreeMap<String, String>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let received = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&received);
        let (wanted, refused) = (Arc::new(Mutex::new(None::<String>)), Arc::new(Mutex::new(0)));
        let (wants, refuses) = (Arc::clone(&wanted), Arc::clone(&refused));
        let mut server = JoinSet::new();
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (kept, wants, refuses) = (kept.clone(), wants.clone(), refuses.clone());
                let service = service_fn(move |request: Request<Incoming>| {
                    let (kept, wants, refuses) = (kept.clone(), wants.clone(), refuses.clone());
                    async move {
                        assert_eq!(request.method(), Method::POST);
                        assert_eq!(request.headers()["content-type"], "application/json");
                        let path = request.uri().path().to_owned();
                        let came = request.headers().get("authorization").cloned();
                        let wanted = wants.lock().unwrap().clone();
                        if wanted.is_some_and(|wanted| came.is_none_or(|came| came != *wanted)) {
                            *refuses.lock().unwrap() += 1;
                            let mut answer = Response::new(Full::new(Bytes::new()));
                            *answer.status_mut() = http::StatusCode::UNAUTHORIZED;
                            return Ok(answer);
                        }
                        let body = request.into_body().collect().await.unwrap().to_bytes();
                        kept.lock().unwrap().push((path, serde_json::from_slice(&body).unwrap()));
                        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"{}"))))
                    }
                });
                let stream = TokioIo::new(stream);
                connections.spawn(async move {
                    // A handler that stops hangs up.
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(stream, service)
                        .await;
                });
            }
        });
        Self { url, received, wanted, refused, _server: server }
    }

    fn setting(&self) -> String {
        format!("OTEL_EXPORTER_OTLP_ENDPOINT={}", self.url)
    }

    pub(crate) fn of(&self, path: &str) -> Vec<Value> {
        let received = self.received.lock().unwrap();
        received.iter().filter(|(to, _)| to == path).map(|(_, body)| body.clone()).collect()
    }

    /// The spans of a trace.
    fn trace(&self, trace_id: &str) -> Vec<Span> {
        let mut found = Vec::new();
        for body in self.of("/v1/traces") {
            for resource in entries(&body["resourceSpans"]) {
                let whose = attributes(&resource["resource"]["attributes"]);
                for span in entries(&resource["scopeSpans"][0]["spans"]) {
                    if span["traceId"] != trace_id {
                        continue;
                    }
                    let text = |name: &str| span[name].as_str().unwrap_or_default().to_owned();
                    let ns = |name: &str| text(name).parse::<u64>().unwrap();
                    assert!(ns("startTimeUnixNano") <= ns("endTimeUnixNano"), "{span:#}");
                    found.push(Span {
                        service: whose["service.name"].clone(),
                        name: text("name"),
                        kind: span["kind"].as_u64().unwrap(),
                        trace_id: text("traceId"),
                        span_id: text("spanId"),
                        parent_span_id: text("parentSpanId"),
                        attributes: attributes(&span["attributes"]),
                    });
                }
            }
        }
        found
    }

    /// The last total of a metric whose attributes include these, over all processes.
    fn total(&self, metric: &str, wanted: &[(&str, &str)]) -> u64 {
        let mut last = BTreeMap::new();
        for body in self.of("/v1/metrics") {
            for resource in entries(&body["resourceMetrics"]) {
                let whose = attributes(&resource["resource"]["attributes"]);
                for found in entries(&resource["scopeMetrics"][0]["metrics"]) {
                    if found["name"] != metric {
                        continue;
                    }
                    let points =
                        entries(&found["sum"]["dataPoints"]).iter().map(|p| (p, &p["asInt"]));
                    let histograms = entries(&found["histogram"]["dataPoints"]);
                    for (point, count) in points.chain(histograms.iter().map(|p| (p, &p["count"])))
                    {
                        let attributes = attributes(&point["attributes"]);
                        let has = |(name, value): &(&str, &str)| {
                            attributes.get(*name).is_some_and(|found| found == value)
                        };
                        if wanted.iter().all(has) {
                            let count: u64 = count.as_str().unwrap().parse().unwrap();
                            let instance = whose["service.instance.id"].clone();
                            last.insert((instance, attributes), count);
                        }
                    }
                }
            }
        }
        last.values().sum()
    }

    /// The last value of a gauge for a source, if it was ever sent.
    fn gauge(&self, metric: &str, source: &str) -> Option<f64> {
        let mut last = None;
        for body in self.of("/v1/metrics") {
            for resource in entries(&body["resourceMetrics"]) {
                for found in entries(&resource["scopeMetrics"][0]["metrics"]) {
                    if found["name"] == metric {
                        let points = entries(&found["gauge"]["dataPoints"]).iter();
                        let of_source = |p: &&Value| {
                            attributes(&p["attributes"]).get("source") == Some(&source.to_owned())
                        };
                        last = points
                            .rev()
                            .find(of_source)
                            .map(|p| p["asDouble"].as_f64().unwrap())
                            .or(last);
                    }
                }
            }
        }
        last
    }

    async fn until_total(&self, metric: &str, wanted: &[(&str, &str)], least: u64) {
        eventually(&format!("{metric} {wanted:?} is {least}"), || async {
            (self.total(metric, wanted) >= least).then_some(())
        })
        .await;
    }
}

pub(crate) fn entries(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn attributes(list: &Value) -> BTreeMap<String, String> {
    let pairs = entries(list).iter().map(|pair| {
        let value = pair["value"]["stringValue"].as_str().or(pair["value"]["intValue"].as_str());
        (pair["key"].as_str().unwrap().to_owned(), value.unwrap().to_owned())
    });
    pairs.collect()
}

/// Submits an order as the browser of a customer does, under a trace of its own.
pub(crate) async fn submit_in_trace(stack: &TestStack, body: &Value) -> (String, String, String) {
    let trace_id = uuid::Uuid::new_v4().simple().to_string();
    let traceparent = format!("00-{trace_id}-00f067aa0ba902b7-01");
    let correlation_id = format!("correlation-{}", &trace_id[..8]);
    let headers = [("traceparent", &*traceparent), ("x-correlation-id", &*correlation_id)];
    let answer = stack.post(body, &headers).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    assert_eq!(answer.header("x-trace-id"), trace_id);
    (answer.json()["orderId"].as_str().unwrap().to_owned(), trace_id, correlation_id)
}

/// Spans that handle a message.
const CONSUMER: u64 = 5;

#[tokio::test]
async fn one_trace_leads_from_the_request_to_the_last_consumer() {
    let collector = Collector::start().await;
    let stack = TestStack::start_with(&["--set", &collector.setting()]).await;
    let flaky = order_with(json!({"inventory": "flaky"}));
    let (id, trace_id, correlation_id) = submit_in_trace(&stack, &flaky).await;
    stack.until_quiet(&id).await;

    let consumers = |spans: &[Span], name: &str| -> Vec<Span> {
        spans.iter().filter(|s| s.kind == CONSUMER && s.name == name).cloned().collect()
    };
    // Inventory comes back twice; the payment goes through its queue; the closing event is told.
    let spans = eventually("every span arrives", || async {
        let spans = collector.trace(&trace_id);
        let counts = ["reserve", "charge", "settle", "notify"].map(|n| consumers(&spans, n).len());
        let publishes = spans.iter().filter(|s| s.name == "publish").count();
        (counts[0] >= 3 && counts[1] >= 1 && counts[2] >= 1 && counts[3] >= 2 && publishes >= 2)
            .then_some(spans)
    })
    .await;
    assert!(spans.iter().all(|span| span.trace_id == trace_id));
    let services: BTreeSet<&str> = spans.iter().map(|span| &*span.service).collect();
    for service in ["order-api", "inventory", "billing", "payments", "notification"] {
        assert!(services.contains(service), "{service} in {services:?}");
    }
    let attempts: BTreeSet<_> =
        consumers(&spans, "reserve").iter().map(|s| s.attributes["attempt"].clone()).collect();
    assert_eq!(attempts, ["0", "1", "2"].map(str::to_owned).into(), "the delayed copies");

    // Everybody hangs below the request, through spans that are there to be seen.
    let request = spans.iter().find(|s| s.name == "POST").expect("the request");
    assert_eq!(request.attributes["http.response.status_code"], "202");
    let known: BTreeSet<&str> = spans.iter().map(|span| &*span.span_id).collect();
    for span in spans.iter().filter(|span| span.kind == CONSUMER) {
        assert!(known.contains(&*span.parent_span_id), "{span:?} has no parent in {spans:#?}");
        assert_eq!(span.attributes["messaging.message.conversation_id"], correlation_id);
        assert_eq!(span.attributes["order.id"], id);
    }
    let settle = &consumers(&spans, "settle")[0];
    let charges = consumers(&spans, "charge");
    assert!(charges.iter().any(|c| c.span_id == settle.parent_span_id), "{spans:#?}");

    // A replay to one subscription, by hand: the same event under another id.
    let document = stack.store().container("orders");
    let stored: Value = document.read(&id, &format!("event:{id}:1")).await.unwrap().unwrap().value;
    let replay = Message {
        message_id: Some("replayed".into()),
        ..Message::new(stored["event"].to_string())
    }
    .with_property("event_type", "order.created")
    .with_property("target", "notification-sub");
    stack.bus().sender("orders").send(&replay).await.unwrap();
    let told = consumers(&spans, "notify").len();
    eventually("the replay goes on with the trace", || async {
        let seen = consumers(&collector.trace(&trace_id), "notify");
        let replayed = |s: &Span| s.attributes["messaging.message.id"] == "replayed";
        (seen.len() > told && seen.iter().any(replayed)).then_some(())
    })
    .await;

    // Whatever the handlers logged about the order, they named the correlation with it.
    let log = stack.full_log();
    let lines = log.lines().filter(|l| l.contains("\"invocation\"") && l.contains(&id));
    let lines: Vec<&str> = lines.collect();
    assert!(lines.len() >= 8, "{lines:#?}");
    for line in lines {
        assert!(line.contains(&correlation_id) && line.contains(&trace_id), "{line}");
    }
}

#[tokio::test]
async fn what_happens_to_orders_is_counted() {
    let collector = Collector::start().await;
    let stack = TestStack::start_with(&["--set", &collector.setting()]).await;
    let done = stack.submit(&order_with(json!({"inventory": "flaky"}))).await;
    let declined = stack.submit(&order_with(json!({"billing": "decline"}))).await;
    let dead = stack.submit(&order_with(json!({"notification": "fail"}))).await;
    stack.until_completed(&done).await;
    stack.until_closed(&declined).await;
    stack.until(&dead, "given up on", |o| o["status"]["notification"] == "dead-lettered").await;

    collector.until_total("orders.accepted", &[], 3).await;
    collector.until_total("orders.completed", &[], 1).await;
    collector.until_total("orders.failed", &[("reason", "payment_declined")], 1).await;
    let poison = [("source", "notification-sub"), ("reason", "MaxDeliveryCountExceeded")];
    collector.until_total("messages.dead_lettered", &poison, 1).await;
    collector.until_total("messages.retried", &[("source", "inventory-sub")], 2).await;
    collector
        .until_total("stage.latency", &[("service", "inventory"), ("outcome", "done")], 2)
        .await;
    collector.until_total("outbox.lag", &[], 3).await;
    let failed = [("faas.invoked_name", "notify"), ("error.type", "attempt-failed")];
    collector.until_total("faas.invoke_duration", &failed, 3).await;
    let accepted = [("http.route", "/api/orders"), ("http.response.status_code", "202")];
    collector.until_total("http.server.request.duration", &accepted, 3).await;
    for (metric, exactly) in [("orders.accepted", 3), ("orders.completed", 1), ("orders.failed", 1)]
    {
        assert_eq!(collector.total(metric, &[]), exactly, "{metric}");
    }

    // The same numbers, as the command reads them.
    let directory = std::env::temp_dir().join(format!("bulkhead-slo-{}", uuid::Uuid::new_v4()));
    let lines: Vec<String> = collector.of("/v1/metrics").iter().map(Value::to_string).collect();
    std::fs::write(&directory, lines.join("\n")).unwrap();
    let slo = |arguments: &[&str]| {
        let output = Command::new(binary("stack"))
            .args(["slo", "--url", &stack.endpoints.http])
            .args(arguments)
            .output()
            .unwrap();
        (output.status.success(), String::from_utf8(output.stdout).unwrap())
    };
    let (_, printed) = slo(&["--json", "--metrics", directory.to_str().unwrap()]);
    let indicators: Value = serde_json::from_str(&printed).unwrap();
    let indicator = |name: &str| {
        let found = entries(&indicators).iter().find(|i| i["name"] == name);
        found.unwrap_or_else(|| panic!("{name} in {indicators:#}"))
    };
    assert_eq!(indicator("acceptance availability")["samples"], 3, "{indicators:#}");
    assert_eq!(indicator("acceptance availability")["kept"], true);
    assert!(indicator("acceptance latency, 99th percentile")["measured"].is_number());
    assert_eq!(indicator("completion within 30 s")["samples"], 2, "the third has time left");
    assert_eq!(indicator("correctness")["kept"], true);
    let (kept, table) = slo(&[]);
    assert!(
        kept && table.contains("acceptance availability") && table.contains("unknown"),
        "{table}"
    );
    std::fs::remove_file(directory).unwrap();
}

#[tokio::test]
async fn a_collector_that_hangs_slows_nobody_down() {
    /// Far below the seconds after which an exporter gives a request up.
    const ANSWERED_WITHIN: Duration = Duration::from_secs(2);
    const ORDERS: usize = 40;

    // Connections are taken by the system and never answered.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let setting = format!("OTEL_EXPORTER_OTLP_ENDPOINT=http://{address}");
    let stack = TestStack::start_with(&["--set", &setting]).await;
    let initial = proof::stock(&stack).await;
    let mut submitted = Vec::new();
    for _ in 0..ORDERS {
        let begun = Instant::now();
        submitted.push(stack.submit(&order()).await);
        assert!(begun.elapsed() < ANSWERED_WITHIN, "{:?}", begun.elapsed());
    }
    for id in &submitted {
        stack.until_completed(id).await;
    }
    eventually("the handlers say that the collector is away", || async {
        stack.full_log().contains("the collector does not take telemetry").then_some(())
    })
    .await;
    proof::prove(&stack, &submitted, &initial).await;
    // And they stop in time with telemetry that nobody takes.
    let begun = Instant::now();
    drop(stack);
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn an_outbox_that_stands_still_is_not_ready_and_the_process_is_well() {
    let stack = TestStack::start().await;
    let id = stack.submit(&order()).await;
    stack.until_quiet(&id).await;
    assert_eq!(stack.get("/readyz").await.status, 200);
    let host = stack.pid("host outbox");
    signal(host, "STOP");
    let old =
        Patch::new().set("/state", "pending").set("/createdAt", "2026-03-01T10:00:00.000000Z");
    let orders = stack.store().container("orders");
    orders.patch::<Value>(&id, &format!("event:{id}:1"), &old).await.unwrap();
    let answer = stack.get("/readyz").await;
    assert_eq!(answer.status, 503, "{answer:?}");
    assert_eq!(answer.json()["type"], "/problems/outbox-not-draining");
    assert!(answer.json()["detail"].as_str().unwrap().contains("oldest event"), "{answer:?}");
    assert_eq!(stack.get("/healthz").await.status, 200);
    signal(host, "CONT");
    eventually("the outbox drains again", || async {
        (stack.get("/readyz").await.status == 200).then_some(())
    })
    .await;
}

/// A handler of app `outbox` beside the one of the stack, to invoke functions of at will.
pub(crate) struct Direct {
    address: String,
    process: Child,
}

impl Direct {
    async fn start(stack: &TestStack, setting: &str) -> Self {
        let (name, value) = setting.split_once('=').unwrap();
        Self::start_with(stack, &[(name, value)]).await
    }

    pub(crate) async fn start_with(stack: &TestStack, settings: &[(&str, &str)]) -> Self {
        let port = {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            listener.local_addr().unwrap().port()
        };
        let endpoints = &stack.endpoints;
        let store =
            format!("AccountEndpoint={}/;AccountKey={};", endpoints.cosmos, endpoints.cosmos_key);
        let process = Command::new(stack.apps().join("outbox/handler"))
            .env("FUNCTIONS_CUSTOMHANDLER_PORT", port.to_string())
            .env("COSMOS_DISABLE_IMDS", "1")
            .env("OrdersStore", store)
            .env("OrdersBus", &endpoints.bus)
            .env("PaymentsQueue", &endpoints.queue)
            .env("BANK_URL", &endpoints.bank)
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let address = format!("http://127.0.0.1:{port}");
        eventually("the handler listens", || async {
            try_send(&address, Method::GET, "/", &[], "").await.map(drop)
        })
        .await;
        Self { address, process }
    }

    /// One run of `reconcile`.
    async fn reconcile(&self) {
        self.tick("reconcile").await;
    }

    /// One run of a function that a timer starts.
    pub(crate) async fn tick(&self, function: &str) {
        let tick = json!({"Data": {"tick": {"IsPastDue": false}}, "Metadata": {}});
        let (path, json) = (format!("/{function}"), [("content-type", "application/json")]);
        let answer = send(&self.address, Method::POST, &path, &json, tick.to_string()).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
}

impl Drop for Direct {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn what_does_not_fit_together_is_reported_and_left_alone() {
    let collector = Collector::start().await;
    let stack = TestStack::start().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        ids.push(stack.submit(&order()).await);
    }
    for id in &ids {
        stack.until_quiet(id).await;
    }
    let handler = Direct::start(&stack, &collector.setting()).await;
    // Whole as long as nobody meddles; it takes some seconds until the orders are old enough.
    eventually("the orders are compared", || async {
        handler.reconcile().await;
        (collector.total("reconcile.orders", &[]) >= 3).then_some(())
    })
    .await;
    assert_eq!(collector.total("reconcile.mismatches", &[]), 0);

    // Somebody takes a reservation away behind the back of the product, and another order's
    // payment is given back at the bank.
    let reservation = format!("reservation:{}", ids[0]);
    let release = Patch::new().set("/state", "released");
    let stock = stack.store().container("stock");
    stock.patch::<Value>("vitamin-c", &reservation, &release).await.unwrap();
    let path = format!("/v1/charges/{}/cancel", ids[1]);
    let key = [("idempotency-key", "meddling")];
    assert_eq!(send(&stack.endpoints.bank, Method::POST, &path, &key, "").await.status, 200);
    // And somebody charges for orders that nobody ever made.
    for reference in [uuid::Uuid::new_v4().to_string(), "no order at all".to_owned()] {
        let charge = json!({"reference": reference, "amountMinor": 100, "currency": "EUR",
            "customer": "c-stranger"});
        let key = uuid::Uuid::new_v4().to_string();
        let headers = [("idempotency-key", &*key), ("content-type", "application/json")];
        let bank = &stack.endpoints.bank;
        let made = send(bank, Method::POST, "/v1/charges", &headers, charge.to_string()).await;
        assert_eq!(made.status, 201, "{made:?}");
    }
    let kinds = ["stock-reserved", "reservation-missing", "charge-missing", "charge-stray"];
    eventually("each mismatch is counted", || async {
        handler.reconcile().await;
        let found = |kind: &&str| collector.total("reconcile.mismatches", &[("kind", *kind)]) > 0;
        kinds.iter().all(found).then_some(())
    })
    .await;
    // Nothing was repaired.
    let held: Value = stock.read("vitamin-c", &reservation).await.unwrap().unwrap().value;
    assert_eq!(held["state"], "released");
    assert_eq!(stack.ledger_of(&ids[1]).await, ["captured", "refunded"]);
    assert_eq!(stack.order(&ids[1]).await["overall"], "completed");
    drop(handler);
    let others = kinds.map(|kind| collector.total("reconcile.mismatches", &[("kind", kind)]));
    let all = collector.total("reconcile.mismatches", &[]);
    assert_eq!(all, others.iter().sum::<u64>(), "no other kind, nothing about the third order");
}

#[tokio::test]
async fn what_waits_and_what_was_given_up_on_is_measured_by_source() {
    let collector = Collector::start().await;
    let stack = TestStack::start().await;
    let id = stack.submit(&order_with(json!({"billing": "fail"}))).await;
    stack.until(&id, "given up on", |o| o["status"]["billing"] == "dead-lettered").await;
    assert!(signal(stack.pid("host notification"), "STOP"));
    for _ in 0..3 {
        stack.submit(&order()).await;
    }
    stack.enqueue("payments-poison", "no payment at all").await;
    let handler = Direct::start(&stack, &collector.setting()).await;
    let seen = |metric: &str, source: &str| collector.gauge(metric, source).unwrap_or(-1.0);
    eventually("every place is measured", || async {
        handler.tick("sweep").await;
        let counts = [
            ("dead_letters.count", "billing-sub", 1.0),
            ("dead_letters.count", "inventory-sub", 0.0),
            ("dead_letters.count", "notification-sub", 0.0),
            ("dead_letters.count", "payments-poison", 1.0),
            ("backlog.count", "payments", 0.0),
            ("backlog.count", "billing-sub", 0.0),
        ];
        let waits = seen("backlog.count", "notification-sub") >= 3.0;
        (waits && counts.iter().all(|(metric, source, n)| seen(metric, source) == *n)).then_some(())
    })
    .await;
    for (metric, source) in [
        ("dead_letters.oldest.age", "billing-sub"),
        ("dead_letters.oldest.age", "payments-poison"),
        ("backlog.oldest.age", "notification-sub"),
    ] {
        let before = seen(metric, source);
        eventually(&format!("{source} grows older"), || async {
            handler.tick("sweep").await;
            (seen(metric, source) > before && before >= 0.0).then_some(())
        })
        .await;
    }
    assert_eq!(seen("dead_letters.oldest.age", "inventory-sub"), 0.0);
    // Looking is not taking.
    let dead = stack.dead_letters("billing-sub").await;
    assert_eq!((dead.len(), dead[0].delivery_count), (1, 3));
    drop(handler);
    // One emitter: the apps of the stack have no collector here, so all of it came from one timer.
    assert!(signal(stack.pid("host notification"), "CONT"));
}
