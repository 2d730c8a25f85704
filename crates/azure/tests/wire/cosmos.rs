//! Requests and answers of the document store.

use std::time::{Duration, Instant};

use azure::{
    connection::CosmosConnection,
    cosmos::{
        BatchOperation, BatchOutcome, Container, Patch, PatchOutcome, Query, Scope, Store,
        StoreError, StoreOptions,
    },
    retry::RetryPolicy,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::stub::{Reply, Stub};

const OPTIONS: StoreOptions = StoreOptions {
    deadline: Duration::from_secs(20),
    connect_timeout: Duration::from_secs(1),
    retry: RetryPolicy {
        attempts_max: 3,
        delay_base: Duration::from_millis(1),
        delay_max: Duration::from_millis(2),
        budget: Duration::from_millis(500),
    },
    in_flight_max: 8,
};

fn store(connection_string: &str, options: StoreOptions) -> Store {
    let connection = CosmosConnection::from_connection_string(connection_string).unwrap();
    Store::new(connection, "db", options)
}

async fn items(stub: &Stub) -> Container {
    let items = store(&stub.connection_string(), OPTIONS).container("items");
    items.warm_up().await.unwrap();
    items
}

fn claim() -> Patch {
    Patch::new().set("/status/billing", "processing").when("FROM c WHERE c.n = 1")
}

#[tokio::test]
async fn a_patch_is_one_request_and_its_body_is_ours() {
    let stub = Stub::start().await;
    let items = items(&stub).await;
    stub.script([
        Reply::body(200, r#"{"id":"a b","n":2}"#),
        Reply::status(412),
        Reply::status(404),
        Reply::status(400),
    ]);
    let outcome = items.patch::<Value>("p\"1", "a b", &claim()).await.unwrap();
    let PatchOutcome::Applied(document) = outcome else { panic!("{outcome:?}") };
    assert_eq!((document.value["n"].as_i64(), document.etag.as_str()), (Some(2), "\"7\""));

    let requests = stub.take_requests();
    let [request] = requests.as_slice() else { panic!("{requests:?}") };
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("PATCH", "/dbs/db/colls/items/docs/a%20b")
    );
    assert_eq!(
        request.body,
        concat!(
            r#"{"operations":[{"op":"set","path":"/status/billing","value":"processing"}],"#,
            r#""condition":"FROM c WHERE c.n = 1"}"#
        )
    );
    assert_eq!(request.header("content-type"), Some("application/json_patch+json"));
    assert_eq!(request.header("x-ms-documentdb-partitionkey"), Some(r#"["p\"1"]"#));
    assert_eq!(request.header("x-ms-cosmos-supported-serialization-formats"), None);
    assert!(request.header("authorization").is_some());

    let outcome = items.patch::<Value>("p", "a", &claim()).await.unwrap();
    assert_eq!(outcome, PatchOutcome::ConditionFailed);
    assert_eq!(items.patch::<Value>("p", "a", &claim()).await.unwrap(), PatchOutcome::NotFound);
    let error = items.patch::<Value>("p", "a", &claim()).await.unwrap_err();
    assert!(matches!(error, StoreError::BadRequest { status: 400, .. }), "{error}");
    assert_eq!(stub.take_requests().len(), 3, "verdicts are never asked for twice");
}

#[tokio::test]
async fn a_batch_is_one_request_and_a_rejection_is_an_outcome() {
    let stub = Stub::start().await;
    let items = items(&stub).await;
    stub.script([
        Reply::body(200, r#"[{"statusCode":201,"eTag":"\"1\""},{"statusCode":200}]"#),
        Reply::body(207, r#"[{"statusCode":424},{"statusCode":409}]"#),
    ]);
    let batch = || {
        vec![
            BatchOperation::create(&json!({"id": "a", "pk": "p"})),
            BatchOperation::patch("b", &claim()),
        ]
    };
    assert!(items.batch("p", batch()).await.unwrap().is_committed());
    let requests = stub.take_requests();
    let [request] = requests.as_slice() else { panic!("{requests:?}") };
    assert_eq!(
        (request.method.as_str(), request.path.as_str()),
        ("POST", "/dbs/db/colls/items/docs")
    );
    for (name, value) in [
        ("x-ms-cosmos-is-batch-request", "True"),
        ("x-ms-cosmos-batch-atomic", "True"),
        ("x-ms-cosmos-batch-continue-on-error", "False"),
        ("x-ms-documentdb-partitionkey", r#"["p"]"#),
    ] {
        assert_eq!(request.header(name), Some(value), "{name}");
    }
    assert!(request.body.starts_with(r#"[{"operationType":"Create","resourceBody":{"id":"a""#));
    let outcome = items.batch("p", batch()).await.unwrap();
    assert!(matches!(outcome, BatchOutcome::Rejected { index: 1, status: 409, .. }), "{outcome:?}");
}

#[tokio::test]
async fn documents_travel_as_text_and_versions_are_passed_on() {
    let stub = Stub::start().await;
    let items = items(&stub).await;
    let value = json!({"id": "a", "pk": "p"});
    stub.script([
        Reply::body(201, ""),
        Reply::status(409),
        Reply::body(200, ""),
        Reply::status(412),
        Reply::body(200, r#"{"id":"a","pk":"p","_ts":1}"#),
        Reply::status(404),
        Reply::body(204, ""),
    ]);
    let etag = items.create("p", &value).await.unwrap();
    assert_eq!(etag.as_str(), "\"7\"");
    assert!(matches!(items.create("p", &value).await, Err(StoreError::Conflict)));
    items.upsert("p", &value, None).await.unwrap();
    let outdated = items.replace("p", "a", &value, Some(&etag)).await;
    assert!(matches!(outdated, Err(StoreError::PreconditionFailed)));
    let document = items.read::<Value>("p", "a").await.unwrap().unwrap();
    assert_eq!((document.value["_ts"].as_i64(), document.etag), (Some(1), etag.clone()));
    assert!(items.read::<Value>("p", "a").await.unwrap().is_none());
    items.delete("p", "a", Some(&etag)).await.unwrap();

    let requests = stub.take_requests();
    let seen: Vec<(&str, &str)> =
        requests.iter().map(|r| (r.method.as_str(), r.path.as_str())).collect();
    let (feed, item) = ("/dbs/db/colls/items/docs", "/dbs/db/colls/items/docs/a");
    assert_eq!(
        seen,
        [
            ("POST", feed),
            ("POST", feed),
            ("POST", feed),
            ("PUT", item),
            ("GET", item),
            ("GET", item),
            ("DELETE", item),
        ]
    );
    for request in &requests[..4] {
        assert_eq!(request.body, value.to_string(), "text, not binary JSON");
        assert_eq!(request.header("x-ms-cosmos-supported-serialization-formats"), None);
        assert_eq!(request.header("prefer"), Some("return=minimal"));
    }
    assert_eq!(requests[2].header("x-ms-documentdb-is-upsert"), Some("true"));
    assert_eq!(requests[3].header("if-match"), Some("\"7\""));
    assert_eq!(requests[6].header("if-match"), Some("\"7\""));
}

#[tokio::test]
async fn queries_go_out_as_they_are_and_stop_at_their_limit() {
    let stub = Stub::start().await;
    let items = items(&stub).await;
    let page = r#"{"_rid":"AAAAAYAAAAE=","_count":2,"Documents":[{"n":1},{"n":2}]}"#;
    stub.script([
        Reply::body(200, page).with("x-ms-continuation", "next"),
        Reply::body(200, page),
        Reply::body(200, page).with("x-ms-continuation", "next"),
        Reply::body(200, page),
    ]);
    let query = Query::new("SELECT c.n FROM c WHERE c.type = @type").with("@type", "order");
    let scope = || Scope::Partition("p".into());
    let found: Vec<Value> = items.query(&query, scope(), 3).await.unwrap();
    assert_eq!(found, [json!({"n": 1}), json!({"n": 2}), json!({"n": 1})]);
    let requests = stub.take_requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[0].header("x-ms-max-item-count"), Some("3"));
    assert_eq!(requests[0].header("x-ms-documentdb-partitionkey"), Some(r#"["p"]"#));
    assert_eq!(requests[1].header("x-ms-continuation"), Some("next"));
    assert_eq!(
        requests[0].body,
        concat!(
            r#"{"query":"SELECT c.n FROM c WHERE c.type = @type","#,
            r#""parameters":[{"name":"@type","value":"order"}]}"#
        )
    );

    let first = items.query_page::<Value>(&query, scope(), 2, None).await.unwrap();
    assert_eq!(first.items.len(), 2);
    let token = first.continuation.expect("the service said that there is more");
    let second = items.query_page::<Value>(&query, scope(), 2, Some(&token)).await.unwrap();
    assert_eq!(second.items.len(), 2);
    assert_eq!(stub.take_requests()[1].header("x-ms-continuation"), Some("next"));
}

#[tokio::test]
async fn a_write_whose_answer_got_lost_is_never_repeated() {
    let stub = Stub::start().await;
    let items = items(&stub).await;
    let value = json!({"id": "a", "pk": "p"});
    let verdicts = |error: StoreError| {
        assert!(error.is_transient() && error.may_have_been_applied(), "{error:?}");
    };
    stub.script([Reply::Cut, Reply::Cut, Reply::Cut, Reply::status(500), Reply::status(408)]);
    verdicts(items.create("p", &value).await.unwrap_err());
    verdicts(items.patch::<Value>("p", "a", &claim()).await.unwrap_err());
    verdicts(items.batch("p", vec![BatchOperation::create(&value)]).await.unwrap_err());
    verdicts(items.upsert("p", &value, None).await.unwrap_err());
    verdicts(items.patch::<Value>("p", "a", &claim()).await.unwrap_err());
    assert_eq!(stub.take_requests().len(), 5);

    // A read harms nobody.
    stub.script([Reply::Cut, Reply::status(500), Reply::body(200, "{}")]);
    assert!(items.read::<Value>("p", "a").await.unwrap().is_some());
    assert_eq!(stub.take_requests().len(), 3);
}

#[tokio::test]
async fn what_was_certainly_not_carried_out_is_tried_again() {
    let stub = Stub::start().await;
    let store = store(&stub.connection_string(), OPTIONS);
    let items = store.container("items");
    stub.script([
        Reply::status(429).with("x-ms-retry-after-ms", "20"),
        Reply::status(503),
        Reply::body(201, ""),
    ]);
    let started = Instant::now();
    items.create("p", &json!({"id": "a", "pk": "p"})).await.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(20), "retry-after is a floor");
    let stats = store.stats();
    assert_eq!((stats.operations, stats.requests, stats.retries), (1, 3, 2));
    assert_eq!((stats.throttled, stats.failures), (1, 0));
    assert!((stats.request_units - 3.75).abs() < 1e-9, "{}", stats.request_units);

    // A wait that is longer than the budget is not taken; the caller learns what was asked for.
    stub.script([Reply::status(429).with("x-ms-retry-after-ms", "5000")]);
    let error = items.create("p", &json!({"id": "b", "pk": "p"})).await.unwrap_err();
    assert_eq!(error.retry_after(), Some(Duration::from_secs(5)));
    assert!(!error.may_have_been_applied());

    // Attempts are bounded.
    stub.script([Reply::status(503), Reply::status(503), Reply::status(503)]);
    let error = items.create("p", &json!({"id": "c", "pk": "p"})).await.unwrap_err();
    assert!(matches!(error, StoreError::Unavailable { maybe_applied: false, .. }), "{error:?}");
    assert_eq!(store.stats().failures, 2);
}

#[tokio::test]
async fn silence_ends_with_the_deadline() {
    let stub = Stub::start().await;
    let options = StoreOptions { deadline: Duration::from_millis(400), ..OPTIONS };
    let items = store(&stub.connection_string(), options).container("items");
    // Making the first connection may take longer than this deadline; only the answer is at stake.
    while items.warm_up().await.is_err() {}
    stub.script([Reply::Hang]);
    let started = Instant::now();
    let error = items.create("p", &json!({"id": "a", "pk": "p"})).await.unwrap_err();
    assert!(matches!(error, StoreError::Timeout { .. }), "{error:?}");
    assert!(error.may_have_been_applied());
    assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    // The next one is not in its way.
    stub.script([Reply::body(200, "{}")]);
    assert!(items.read::<Value>("p", "a").await.unwrap().is_some());
}

#[tokio::test]
async fn a_store_that_is_down_is_told_quickly_and_used_once_it_is_up() {
    let port = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    let text = format!("AccountEndpoint=http://127.0.0.1:{port}/;AccountKey=c2VjcmV0");
    let store = store(&text, StoreOptions::default());
    let items = store.container("items");
    let error = items.create("p", &json!({"id": "a", "pk": "p"})).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");

    let stub = Stub::start_on(port).await;
    stub.script([Reply::body(201, "")]);
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(error) = store.ping().await {
        assert!(Instant::now() < deadline, "{error:?}");
    }
    items.create("p", &json!({"id": "a", "pk": "p"})).await.unwrap();

    // Down again: what was connected is refused, and a write that never left is known as such.
    drop(stub);
    let started = Instant::now();
    let error = items.create("p", &json!({"id": "b", "pk": "p"})).await.unwrap_err();
    assert!(error.is_transient(), "{error:?}");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    let stub = Stub::start_on(port).await;
    stub.script([Reply::body(200, "{}")]);
    assert!(items.read::<Value>("p", "b").await.unwrap().is_some());
}

#[tokio::test]
async fn what_is_missing_or_refused_is_named() {
    let stub = Stub::start().await;
    stub.without_container();
    let store = store(&stub.connection_string(), OPTIONS);
    let error = store.container("items").read::<Value>("p", "a").await.unwrap_err();
    assert_eq!(error.to_string(), "the store has no db/items");
    assert!(!error.is_transient());
    store.ping().await.unwrap();

    let stub = Stub::start().await;
    let items = items(&stub).await;
    stub.script([
        Reply::status(401),
        Reply::status(404).with("x-ms-substatus", "1003"),
        Reply::status(413),
    ]);
    let value = json!({"id": "a", "pk": "p"});
    let error = items.create("p", &value).await.unwrap_err();
    assert!(matches!(error, StoreError::Unauthorized { .. }), "{error:?}");
    assert!(!format!("{error:?}").contains("c2VjcmV0"), "no key in errors");
    let error = items.create("p", &value).await.unwrap_err();
    assert!(matches!(error, StoreError::NotFound { .. }), "{error:?}");
    let error = items.create("p", &value).await.unwrap_err();
    assert!(matches!(error, StoreError::BadRequest { status: 413, .. }), "{error:?}");
}

#[tokio::test]
async fn callers_carry_small_futures() {
    const FUTURE_BYTES_MAX: usize = 2048;
    fn assert_send<T: Send>(_: &T) {}
    let text = "AccountEndpoint=http://127.0.0.1:1/;AccountKey=c2VjcmV0";
    let items = store(text, OPTIONS).container("items");
    let patch = claim();
    let future = items.patch::<Value>("p", "a", &patch);
    assert_send(&future);
    assert!(size_of_val(&future) < FUTURE_BYTES_MAX, "patch: {}", size_of_val(&future));
    let future = items.batch("p", Vec::new());
    assert_send(&future);
    assert!(size_of_val(&future) < FUTURE_BYTES_MAX, "batch: {}", size_of_val(&future));
    let query = Query::new("SELECT * FROM c");
    let future = items.query::<Value>(&query, Scope::All, 1);
    assert_send(&future);
    assert!(size_of_val(&future) < FUTURE_BYTES_MAX, "query: {}", size_of_val(&future));
}
