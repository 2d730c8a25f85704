//! Bad input: each gets a clear answer in one shape, and nothing is written.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, TestStack, order, shared};

/// Checks that an answer is a problem of this kind; its pointers.
fn problem(answer: &Answer, status: u16, kind: &str) -> Vec<String> {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json", "{answer:?}");
    let body = answer.json();
    assert_eq!(body["type"], format!("/problems/{kind}"), "{body:#}");
    assert_eq!(body["status"], status);
    assert!(body["title"].as_str().is_some_and(|title| !title.is_empty()));
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    errors.iter().map(|error| error["pointer"].as_str().unwrap().to_owned()).collect()
}

fn with(path: &str, value: Value) -> Value {
    let mut body = order();
    body["customerId"] = json!(CUSTOMER);
    match path.rsplit_once('/') {
        Some((parent, name)) => body.pointer_mut(parent).unwrap()[name] = value,
        None => body = value,
    }
    body
}

/// Nobody else orders under this name.
const CUSTOMER: &str = "c-never-accepted";

async fn raw(stack: &TestStack, content_type: &str, body: &[u8]) -> Answer {
    let headers = [("content-type", content_type)];
    stack.send(Method::POST, "/api/orders", &headers, body.to_vec()).await
}

#[tokio::test]
async fn every_bad_order_is_refused_with_its_fields_and_nothing_is_written() {
    let stack = shared().await;
    let hundred_and_one = vec![json!({"sku": "vitamin-c", "quantity": 1}); 101];
    let cases: Vec<(Value, &[&str])> = vec![
        (with("/items/0/quantity", json!(0)), &["/items/0/quantity"]),
        (with("/items/0/quantity", json!(-1)), &["/items/0/quantity"]),
        (with("/items/0/quantity", json!(1.5)), &["/items/0/quantity"]),
        (with("/items/0/quantity", json!("2")), &["/items/0/quantity"]),
        (with("/items/0/quantity", json!(u64::MAX)), &["/items/0/quantity"]),
        (with("/items/0/quantity", json!(1e300)), &["/items/0/quantity"]),
        (with("/items/0/quantity", Value::Null), &["/items/0/quantity"]),
        (with("/items/0/unitPriceMinor", json!(0)), &["/items/0/unitPriceMinor"]),
        (with("/items/0/unitPriceMinor", json!(-5)), &["/items/0/unitPriceMinor"]),
        (with("/items/0/unitPriceMinor", json!(u64::MAX)), &["/items/0/unitPriceMinor"]),
        (with("/items/0/unitPriceMinor", json!(1)), &["/items/0/unitPriceMinor"]),
        (with("/items/0/sku", json!("no-such-thing")), &["/items/0/sku"]),
        (with("/items/0/sku", json!("")), &["/items/0/sku"]),
        (with("/items/0/sku", json!("s".repeat(300))), &["/items/0/sku"]),
        (with("/items", json!([])), &["/items"]),
        (with("/items", json!(hundred_and_one)), &["/items"]),
        (with("/items", json!({})), &["/items"]),
        (with("/customerId", json!("")), &["/customerId"]),
        (with("/customerId", json!("c".repeat(300))), &["/customerId"]),
        (with("/customerId", json!(7)), &["/customerId"]),
        (with("/currency", json!("eur")), &["/currency"]),
        (with("/status", json!("done")), &["/status"]),
        (with("/items/0/price", json!(1)), &["/items/0/price"]),
        (with("/faults", json!({"billing": "explode"})), &["/faults/billing"]),
        (json!([]), &[""]),
        (Value::Null, &[""]),
        (json!({}), &["/customerId", "/currency", "/items"]),
    ];
    for (body, pointers) in cases {
        let answer = stack.post(&body, &[]).await;
        assert_eq!(problem(&answer, 422, "invalid-order"), pointers, "{body}");
        let text = String::from_utf8_lossy(&answer.body);
        assert!(!text.contains("serde") && !text.contains(".rs"), "{text}");
        assert_eq!(answer.json()["traceId"].as_str().unwrap().len(), 32);
    }
    for after in ["", "?limit=100"] {
        let page = stack.get(&format!("/api/orders{after}")).await.json();
        let orders = page["orders"].as_array().unwrap();
        assert!(orders.iter().all(|order| order["customerId"] != CUSTOMER));
    }
}

#[tokio::test]
async fn every_bad_request_is_refused_in_the_same_shape() {
    let stack = shared().await;
    for body in [&b""[..], b"{", b"{\"a\":1}}", b"\xff\xfe", b"nonsense", b"{\"quantity\":1e999}"] {
        problem(&raw(&stack, "application/json", body).await, 400, "malformed-json");
    }
    let valid = order().to_string().into_bytes();
    for content_type in ["text/plain", "application/xml", "", "multipart/form-data"] {
        let answer = raw(&stack, content_type, &valid).await;
        problem(&answer, 415, "unsupported-media-type");
    }
    let spelt = raw(&stack, "Application/JSON; charset=utf-8", &valid).await;
    assert_eq!(spelt.status, 202, "{spelt:?}");

    let padded = |bytes: usize| [&valid[..], &vec![b' '; bytes - valid.len()]].concat();
    assert_eq!(raw(&stack, "application/json", &padded(64 * 1024)).await.status, 202);
    let large = raw(&stack, "application/json", &padded(64 * 1024 + 1)).await;
    problem(&large, 413, "body-too-large");
    let huge = raw(&stack, "application/json", &padded(5 * 1024 * 1024)).await;
    problem(&huge, 413, "body-too-large");

    for key in ["", "a b", &"k".repeat(129)] {
        let answer = stack.post(&order(), &[("idempotency-key", key)]).await;
        problem(&answer, 400, "invalid-header");
    }

    for (method, path, allow) in [
        (Method::DELETE, "/api/orders", "GET, HEAD, POST"),
        (Method::PUT, "/api/orders", "GET, HEAD, POST"),
        (Method::POST, "/api/products", "GET, HEAD"),
        (Method::PATCH, "/api/orders/01890a5d-ac96-774b-bcce-b302099a8057", "GET, HEAD"),
        (Method::POST, "/", "GET, HEAD"),
    ] {
        let answer = stack.send(method, path, &[], "").await;
        problem(&answer, 405, "method-not-allowed");
        assert_eq!(answer.header("allow"), allow);
    }

    let long = format!("/api/orders/{}", "x".repeat(300));
    for path in [
        "/api/orders/01890a5d-ac96-774b-bcce-b302099a8057",
        "/api/orders/",
        "/api/orders/1",
        &long,
        "/api/orders/%00",
        "/api/orders/..%2f..%2fetc",
        "/api/nothing",
        "/nothing.js",
        "/api",
    ] {
        problem(&stack.get(path).await, 404, "not-found");
    }
    for query in ["limit=0", "limit=101", "limit=x", "after=zzz", "sort=asc"] {
        let answer = stack.get(&format!("/api/orders?{query}")).await;
        let pointer = format!("/{}", query.split('=').next().unwrap());
        assert_eq!(problem(&answer, 400, "invalid-query"), [pointer]);
    }
}

#[tokio::test]
async fn faults_are_refused_where_they_are_switched_off() {
    let stack = TestStack::start_with(&["--no-faults"]).await;
    let mut body = order();
    body["faults"] = json!({"billing": "fail"});
    let answer = stack.post(&body, &[]).await;
    assert_eq!(problem(&answer, 422, "invalid-order"), ["/faults"]);
    assert_eq!(stack.get("/api/products").await.json()["faultsAllowed"], false);
}

#[tokio::test]
async fn one_customer_cannot_take_the_share_of_the_others() {
    let stack = TestStack::start_with(&["--set", "CUSTOMER_ORDERS_PER_SECOND=2"]).await;
    // At one instant: how fast the machine is must not matter.
    let body = order();
    let answers = futures::future::join_all((0..20).map(|_| stack.post(&body, &[]))).await;
    let accepted = answers.iter().filter(|answer| answer.status == 202).count();
    assert!(accepted >= 4, "the burst is granted: {accepted}");
    let refused = answers.iter().find(|answer| answer.status == 429);
    let refused = refused.expect("twenty at once are too many");
    assert_eq!(refused.json()["type"], "/problems/too-many-orders");
    assert!(refused.header("retry-after").parse::<u64>().unwrap() >= 1);
    let mut other = order();
    other["customerId"] = "c-other".into();
    assert_eq!(stack.post(&other, &[]).await.status, 202, "nobody pays for another");
}

#[tokio::test]
async fn a_document_that_somebody_has_spoilt_hides_no_other() {
    let stack = TestStack::start().await;
    let [spoilt, sound] = [stack.submit(&order()).await, stack.submit(&order()).await];
    for id in [&spoilt, &sound] {
        stack.until_quiet(id).await;
    }
    let orders = stack.store().container("orders");
    let spoil = azure::cosmos::Patch::new().set("/customerId", json!(7));
    let done = orders.patch::<Value>(&spoilt, &spoilt, &spoil).await.unwrap();
    assert!(matches!(done, azure::cosmos::PatchOutcome::Applied(_)), "{done:?}");

    let page = stack.get("/api/orders?limit=100").await;
    assert_eq!(page.status, 200, "{page:?}");
    let listed = page.json();
    let ids: Vec<&Value> =
        listed["orders"].as_array().unwrap().iter().map(|order| &order["orderId"]).collect();
    assert_eq!(ids, [sound.as_str()]);
    // A full page has a successor, though it shows less.
    let first = stack.get("/api/orders?limit=1").await.json();
    assert!(first["next"].is_string(), "{first:#}");
    assert!(stack.full_log().contains("a document cannot be read"), "{}", stack.log());
    let next = stack.submit(&order()).await;
    stack.until_completed(&next).await;
}
