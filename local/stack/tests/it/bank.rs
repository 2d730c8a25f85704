//! The bank over HTTP, as a caller meets it: on a free port, with a ledger of its own.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use stack::bank::{BindError, Options, ServeError, Server};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::role::{Role, SOON};

/// A file of its own, gone with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("bank-{}.jsonl", uuid::Uuid::new_v4())))
    }

    fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.0).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// An answer, read to its end.
#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    fn replayed(&self) -> bool {
        self.header("idempotency-replayed") == "true"
    }
}

async fn send(
    address: &str,
    method: Method,
    path: &str,
    key: Option<&str>,
    body: &Value,
) -> Result<Answer, Error> {
    let mut request = Request::builder().method(method).uri(format!("http://{address}{path}"));
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let client = Client::builder(TokioExecutor::new()).build_http();
    let (parts, body) = client.request(request).await?.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Ok(Answer { status: parts.status, headers: parts.headers, body })
}

/// A bank in this process.
struct Bank {
    address: String,
    ledger: Scratch,
    stop: CancellationToken,
    running: JoinHandle<Result<(), ServeError>>,
}

impl Bank {
    async fn start() -> Self {
        Self::over(Scratch::new()).await
    }

    async fn over(ledger: Scratch) -> Self {
        let server = Server::bind(Options::new(&ledger.0)).await.unwrap();
        let address = server.local_addr().to_string();
        let stop = CancellationToken::new();
        #[expect(clippy::disallowed_methods, reason = "joined by `stop`")]
        let running = tokio::spawn(server.run(stop.clone()));
        Self { address, ledger, stop, running }
    }

    async fn stop(self) -> Scratch {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
        self.ledger
    }

    async fn send(&self, method: Method, path: &str, key: Option<&str>, body: &Value) -> Answer {
        let answer = send(&self.address, method, path, key, body);
        tokio::time::timeout(SOON, answer).await.unwrap().unwrap()
    }

    async fn get(&self, path: &str) -> Answer {
        self.send(Method::GET, path, None, &Value::Null).await
    }

    async fn charge(&self, key: &str, body: &Value) -> Answer {
        self.send(Method::POST, "/v1/charges", Some(key), body).await
    }

    async fn cancel(&self, key: &str, reference: &str) -> Answer {
        let path = format!("/v1/charges/{reference}/cancel");
        self.send(Method::POST, &path, Some(key), &Value::Null).await
    }

    async fn script(&self, rules: &Value) {
        let rules = json!({ "rules": rules });
        let answer = self.send(Method::PUT, "/v1/script", None, &rules).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// Charges and waits for no answer longer than `patience`.
    async fn charge_within(&self, patience: Duration, key: &str, body: &Value) -> Option<Answer> {
        let charge = send(&self.address, Method::POST, "/v1/charges", Some(key), body);
        tokio::time::timeout(patience, charge).await.ok()?.ok()
    }
}

fn body(reference: &str) -> Value {
    json!({"reference": reference, "amountMinor": 1250, "currency": "EUR", "customer": "c-1"})
}

fn with(reference: &str, instrument: &str) -> Value {
    let mut body = body(reference);
    body["instrument"] = json!(instrument);
    body
}

#[tokio::test]
async fn a_payment_from_charge_to_refund() {
    let bank = Bank::start().await;
    let first = bank.charge("k-1", &body("r 1/a")).await;
    assert_eq!((first.status, first.replayed()), (StatusCode::CREATED, false));
    let told = first.json();
    assert_eq!(told["state"], "captured");
    assert_eq!(told["reason"], Value::Null);
    assert_eq!((&told["reference"], &told["amountMinor"]), (&json!("r 1/a"), &json!(1250)));
    assert_eq!(told["currency"], "EUR");
    assert!(told["at"].as_str().unwrap().ends_with('Z'), "{told}");

    let again = bank.charge("k-1", &body("r 1/a")).await;
    assert_eq!((again.status, again.replayed()), (StatusCode::OK, true));
    assert_eq!(again.json(), told);
    let mut other = body("r 1/a");
    other["amountMinor"] = json!(1);
    let reused = bank.charge("k-1", &other).await;
    assert_eq!(reused.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(reused.header("content-type"), "application/problem+json");
    assert_eq!(reused.json()["type"], "/problems/key-reused");

    // The bank goes by key alone: a careless caller pays twice, and the books say so.
    assert_eq!(bank.charge("k-2", &body("r 1/a")).await.status, StatusCode::CREATED);
    let account = bank.get("/v1/charges/r%201%2Fa").await.json();
    assert_eq!((&account["state"], &account["captures"]), (&json!("captured"), &json!(2)));
    let summary = bank.get("/v1/summary").await.json();
    assert_eq!(summary["multiplyCaptured"], json!(["r 1/a"]));
    assert_eq!(summary["capturedMinor"], 2500);

    let cancelled = bank.cancel("x-1", "r%201%2Fa").await;
    assert_eq!((cancelled.status, cancelled.replayed()), (StatusCode::OK, false));
    assert_eq!(cancelled.json()["state"], "refunded");
    assert!(bank.cancel("x-1", "r%201%2Fa").await.replayed());
    assert_eq!(bank.charge("k-1", &body("r 1/a")).await.json()["state"], "refunded");

    let expected = json!({
        "charges": 2, "captured": 2, "declined": 0, "refunded": 2, "voided": 0,
        "capturedMinor": 2500, "refundedMinor": 2500, "multiplyCaptured": [],
    });
    assert_eq!(bank.get("/v1/summary").await.json(), expected);
    let streamed = bank.get("/v1/ledger").await;
    assert_eq!(streamed.header("content-type"), "application/jsonl");
    assert_eq!(streamed.body, std::fs::read(&bank.ledger.0).unwrap());
    let effects: Vec<_> = bank.ledger.lines().iter().map(|line| line["effect"].clone()).collect();
    assert_eq!(effects, ["captured", "captured", "refunded", "refunded"]);
    assert_eq!(bank.get("/healthz").await.status, StatusCode::OK);
    bank.stop().await;
}

#[tokio::test]
async fn declined_voided_and_never_seen() {
    let bank = Bank::start().await;
    let declined = bank.charge("k-1", &with("r-1", "test-decline")).await;
    assert_eq!(declined.status, StatusCode::CREATED);
    let told = declined.json();
    assert_eq!(
        (&told["state"], &told["reason"]),
        (&json!("declined"), &json!("insufficient_funds"))
    );
    assert!(bank.charge("k-1", &with("r-1", "test-decline")).await.replayed());
    assert_eq!(bank.cancel("x-1", "r-1").await.json()["state"], "declined");

    let unknown = bank.get("/v1/charges/r-2").await;
    assert_eq!(unknown.status, StatusCode::NOT_FOUND);
    assert_eq!(unknown.json()["type"], "/problems/unknown-reference");
    let voided = bank.cancel("x-2", "r-2").await;
    assert_eq!((voided.status, &voided.json()["state"]), (StatusCode::OK, &json!("voided")));
    let seen = bank.get("/v1/charges/r-2").await.json();
    assert_eq!((&seen["state"], &seen["captures"]), (&json!("voided"), &json!(0)));
    assert_eq!(seen["amountMinor"], Value::Null);
    let late = bank.charge("k-2", &body("r-2")).await;
    assert_eq!((late.status, &late.json()["state"]), (StatusCode::CREATED, &json!("voided")));
    assert!(bank.charge("k-2", &body("r-2")).await.replayed());
    assert_eq!(bank.get("/v1/summary").await.json()["captured"], 0);
    bank.stop().await;
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_leaves_no_line() {
    let bank = Bank::start().await;
    let long = "x".repeat(129);
    for (key, change) in [
        (None, json!({})),
        (Some(""), json!({})),
        (Some("two words"), json!({})),
        (Some("k"), json!({"amountMinor": 0})),
        (Some("k"), json!({"amountMinor": 1_000_000_000_001u64})),
        (Some("k"), json!({"amountMinor": 12.5})),
        (Some("k"), json!({"currency": "eur"})),
        (Some("k"), json!({"reference": ""})),
        (Some("k"), json!({"reference": long})),
        (Some("k"), json!({"customer": "line\nbreak"})),
        (Some("k"), json!({"customer": null})),
        (Some("k"), json!({"surprise": 1})),
    ] {
        let mut body = body("r");
        body.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let answer = bank.send(Method::POST, "/v1/charges", key, &body).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{key:?} {change}: {answer:?}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    let no_key = bank.send(Method::POST, "/v1/charges/r/cancel", None, &Value::Null).await;
    assert_eq!(no_key.status, StatusCode::BAD_REQUEST);
    let huge = json!("x".repeat(300_000));
    let answer = bank.send(Method::PUT, "/v1/script", None, &huge).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    for (method, path, status) in [
        (Method::GET, "/v2", StatusCode::NOT_FOUND),
        (Method::DELETE, "/v1/charges", StatusCode::METHOD_NOT_ALLOWED),
        (Method::GET, "/v1/charges/%FF", StatusCode::BAD_REQUEST),
    ] {
        let answer = bank.send(method, path, None, &Value::Null).await;
        assert_eq!(answer.status, status, "{path}");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    assert!(bank.stop().await.lines().is_empty());
}

#[tokio::test]
async fn rules_make_the_bank_misbehave_and_are_used_up() {
    let bank = Bank::start().await;
    bank.script(&json!([
        {"match": {"reference": "r-1"}, "operation": "charge", "times": 1,
         "behaviour": {"kind": "fail", "status": 429, "retryAfterSeconds": 7}},
        {"match": {"customer": "c-1"}, "operation": "charge", "times": 1,
         "behaviour": {"kind": "decline", "reason": "stolen_card"}},
        {"operation": "lookup", "times": 1, "behaviour": {"kind": "fail", "status": 500}},
        {"operation": "cancel", "times": 1, "behaviour": {"kind": "down"}},
    ]))
    .await;
    let failed = bank.charge("k-1", &body("r-1")).await;
    assert_eq!(failed.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(failed.header("retry-after"), "7");
    assert_eq!(failed.json()["type"], "/problems/scripted-failure");
    let declined = bank.charge("k-1", &body("r-1")).await;
    assert_eq!(declined.status, StatusCode::CREATED, "the failure left no trace");
    assert_eq!(declined.json()["reason"], "stolen_card");
    assert_eq!(bank.get("/v1/charges/r-1").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(bank.get("/v1/charges/r-1").await.status, StatusCode::OK);
    let path = "/v1/charges/r-9/cancel";
    let down = send(&bank.address, Method::POST, path, Some("x"), &Value::Null).await;
    assert!(down.is_err(), "{down:?}");
    assert_eq!(bank.get("/v1/charges/r-9").await.status, StatusCode::NOT_FOUND, "nothing done");

    let rules = bank.get("/v1/script").await.json();
    assert!(rules["rules"].as_array().unwrap().iter().all(|rule| rule["times"] == 0), "{rules}");
    let refused = json!({"rules": [{"behaviour": {"kind": "fail", "status": 200}}]});
    let refused = bank.send(Method::PUT, "/v1/script", None, &refused).await;
    assert_eq!(refused.status, StatusCode::BAD_REQUEST);
    assert_eq!(bank.get("/v1/script").await.json(), rules, "the old ones stay");
    let gone = bank.send(Method::DELETE, "/v1/script", None, &Value::Null).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
    assert_eq!(bank.get("/v1/script").await.json(), json!({"rules": []}));
    bank.stop().await;
}

/// The money moves although the caller is told nothing; asking again under the same key tells.
#[tokio::test]
async fn the_caller_may_not_learn_what_was_done() {
    const PATIENCE: Duration = Duration::from_millis(300);
    let bank = Bank::start().await;
    for instrument in ["test-late-once", "test-never-once", "test-lost-once"] {
        let body = with(instrument, instrument);
        assert!(bank.charge_within(PATIENCE, instrument, &body).await.is_none());
        let account = bank.get(&format!("/v1/charges/{instrument}")).await.json();
        assert_eq!(account["captures"], 1, "{instrument}: {account}");
        let again = bank.charge(instrument, &body).await;
        assert!(again.replayed(), "{instrument}");
        assert_eq!(again.json()["state"], "captured");
    }
    let body = with("test-fail-once", "test-fail-once");
    assert_eq!(bank.charge("k", &body).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(bank.charge("k", &body).await.status, StatusCode::CREATED);
    assert_eq!(bank.get("/v1/summary").await.json()["captured"], 4);
    bank.stop().await;
}

#[tokio::test]
async fn slow_is_done_later_and_late_is_answered_later() {
    const DELAY: Duration = Duration::from_millis(1500);
    let bank = Bank::start().await;
    bank.script(&json!([
        {"match": {"reference": "slow"}, "operation": "charge", "times": 1,
         "behaviour": {"kind": "slow", "millis": 1500}},
        {"match": {"reference": "late"}, "operation": "charge", "times": 1,
         "behaviour": {"kind": "late", "millis": 1500}},
    ]))
    .await;
    let begun = Instant::now();
    let (slow, late) = (body("slow"), body("late"));
    let (slow, late, ()) =
        tokio::join!(bank.charge("k-1", &slow), bank.charge("k-2", &late), async {
            // As soon as the late one can be seen, the slow one still has most of its delay.
            while bank.get("/v1/charges/late").await.status != StatusCode::OK {
                assert!(begun.elapsed() < SOON);
            }
            assert!(begun.elapsed() < DELAY, "the late charge was done late");
            assert_eq!(bank.get("/v1/charges/slow").await.status, StatusCode::NOT_FOUND);
        });
    assert!(begun.elapsed() >= DELAY);
    assert_eq!((slow.status, late.status), (StatusCode::CREATED, StatusCode::CREATED));

    // A slow request is done even though nobody waits for it any more.
    let slow = json!({"kind": "slow", "millis": 400});
    bank.script(&json!([{"operation": "charge", "times": 1, "behaviour": slow}])).await;
    let gone = bank.charge_within(Duration::from_millis(100), "k-3", &body("gone")).await;
    assert!(gone.is_none(), "{gone:?}");
    while bank.get("/v1/charges/gone").await.status != StatusCode::OK {
        assert!(begun.elapsed() < SOON, "never done");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    bank.stop().await;
}

#[tokio::test]
async fn many_charges_at_once_are_each_done_once() {
    const CALLERS: usize = 16;
    const CHARGES: usize = 400;
    let bank = Bank::start().await;
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let address = bank.address.clone();
        callers.spawn(async move {
            let client = Client::builder(TokioExecutor::new()).build_http::<Full<Bytes>>();
            // Every charge comes from two callers, under the same key.
            for number in
                (0..CHARGES).filter(|number| number % (CALLERS / 2) == caller % (CALLERS / 2))
            {
                let request = Request::post(format!("http://{address}/v1/charges"))
                    .header("idempotency-key", format!("k-{number}"))
                    .body(Full::new(Bytes::from(body(&format!("r-{number}")).to_string())))
                    .unwrap();
                let answer = client.request(request).await.unwrap();
                assert!(answer.status().is_success(), "{answer:?}");
            }
        });
    }
    tokio::time::timeout(SOON, callers.join_all()).await.unwrap();
    let summary = bank.get("/v1/summary").await.json();
    assert_eq!((&summary["captured"], &summary["multiplyCaptured"]), (&json!(CHARGES), &json!([])));
    assert_eq!(bank.stop().await.lines().len(), CHARGES);
}

#[tokio::test]
async fn a_bank_goes_on_where_its_ledger_ends() {
    let bank = Bank::start().await;
    bank.charge("k-1", &body("r-1")).await;
    bank.charge("k-2", &with("r-2", "test-lost-once-but-not-a-known-one")).await;
    bank.cancel("x-1", "r-3").await;
    let summary = bank.get("/v1/summary").await.json();
    let ledger = bank.stop().await;
    let before = ledger.lines();

    // Half a line, as a crash leaves it.
    let mut text = std::fs::read(&ledger.0).unwrap();
    text.extend_from_slice(b"{\"sequence\":4,\"at\":\"20");
    std::fs::write(&ledger.0, text).unwrap();
    let bank = Bank::over(ledger).await;
    assert_eq!(bank.get("/v1/summary").await.json(), summary);
    assert!(bank.charge("k-1", &body("r-1")).await.replayed());
    assert_eq!(bank.charge("k-4", &body("r-3")).await.json()["state"], "voided");
    let second = Server::bind(Options::new(&bank.ledger.0)).await;
    assert!(matches!(second, Err(BindError::Ledger(_))), "two banks on one ledger");
    let ledger = bank.stop().await;
    assert_eq!(ledger.lines()[..3], before);

    std::fs::write(&ledger.0, "{\"sequence\":1}\n").unwrap();
    let refused = Server::bind(Options::new(&ledger.0)).await.err().unwrap();
    assert!(refused.to_string().contains("line 1"), "{refused}");
}

#[tokio::test]
async fn a_bank_stops_although_somebody_waits_for_an_answer_that_never_comes() {
    let bank = Bank::start().await;
    let body = with("r-1", "test-never-once");
    let address = bank.address.clone();
    let waiting = async {
        let charge = send(&address, Method::POST, "/v1/charges", Some("k"), &body);
        tokio::time::timeout(SOON, charge).await.unwrap()
    };
    let stopping = async {
        while bank.get("/v1/charges/r-1").await.status != StatusCode::OK {}
        bank.stop().await
    };
    let (answer, ledger) = tokio::join!(waiting, stopping);
    assert!(answer.is_err(), "{answer:?}");
    assert_eq!(ledger.lines().len(), 1);
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let ledger = Scratch::new();
    for round in 0..3u64 {
        let arguments = ["bank".as_ref(), "--ledger".as_ref(), ledger.0.as_os_str()];
        let bank = Role::start(&arguments).await;
        assert_eq!((&bank.ready["lines"], &bank.ready["tornBytes"]), (&json!(round), &json!(0)));
        for number in 0..=round {
            let (key, body) = (format!("k-{number}"), body(&format!("r-{number}")));
            let answer = send(&bank.address, Method::POST, "/v1/charges", Some(&key), &body);
            assert_eq!(answer.await.unwrap().replayed(), number < round);
        }
    }
    assert_eq!(ledger.lines().len(), 3);
}
