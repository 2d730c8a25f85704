//! One order, end to end, through real processes.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{TestStack, eventually, order, shared};

#[tokio::test]
async fn an_order_is_accepted_and_all_three_services_finish_it() {
    let stack = shared().await;
    let fixture: Value = serde_json::from_str(include_str!("fixtures/order.json")).unwrap();
    let answer = stack.post(&fixture, &[("x-correlation-id", "corr-77")]).await;
    assert_eq!(answer.status, 202, "{answer:?}");
    let receipt = answer.json();
    let id = receipt["orderId"].as_str().unwrap();
    let path = format!("/api/orders/{id}");
    assert_eq!(answer.header("location"), path);
    let warning = "No Idempotency-Key was sent: the same request again makes another order.";
    let links = json!({"self": path});
    let mut expected =
        json!({"orderId": id, "status": "accepted", "warning": warning, "links": links});
    assert_eq!(receipt, expected);
    let keyed = [("idempotency-key", "tell-me")];
    let with_key = stack.post(&fixture, &keyed).await.json();
    expected = json!({"orderId": with_key["orderId"], "status": "accepted",
        "links": with_key["links"]});
    assert_eq!(with_key, expected, "nothing to warn of");

    let done = stack.until_quiet(id).await;
    let statuses = json!({"inventory": "done", "billing": "done", "notification": "done"});
    assert_eq!(done["status"], statuses);
    assert_eq!(done["totalMinor"], 2 * 1290 + 1850);
    assert_eq!(done["correlationId"], "corr-77");
    let history: Vec<&str> =
        done["history"].as_array().unwrap().iter().map(|e| e["what"].as_str().unwrap()).collect();
    assert_eq!(history.first(), Some(&"accepted"));
    assert_eq!(history.last(), Some(&"completed"));
    assert_eq!(history.iter().filter(|what| **what == "done").count(), 3);
    for service in ["inventory", "billing", "notification"] {
        assert_eq!(done["stage"][service]["attempt"], 1, "{done:#}");
    }

    // A second reader with the version in hand is told that nothing has changed.
    let first = stack.get(&path).await;
    let etag = first.header("etag").to_owned();
    let again = stack.send(Method::GET, &path, &[("if-none-match", &etag)], "").await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
    assert_eq!(again.header("etag"), etag);
    let head = stack.send(Method::HEAD, &path, &[], "").await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));

    let page = stack.get("/api/orders?limit=1&after=").await;
    assert_eq!(page.status, 400, "an empty continuation is none: {page:?}");

    // The outbox knows that the topic has the event.
    let orders = stack.store().container("orders");
    let event_id = format!("event:{id}:1");
    let event = eventually("the event is marked published", || async {
        let found = orders.read::<Value>(id, &event_id).await.unwrap().unwrap().value;
        (found["state"] == "published").then_some(found)
    })
    .await;
    assert_eq!(event["event"]["type"], "order.created");
    assert!(event["ttl"].as_i64().unwrap() > 0);
}

#[tokio::test]
async fn the_newest_orders_come_first_page_by_page() {
    let stack = shared().await;
    let mut submitted = Vec::new();
    for _ in 0..5 {
        submitted.push(stack.submit(&order()).await);
    }
    let mut seen = Vec::new();
    let mut sorted = Vec::new();
    let mut next = String::new();
    // Other tests add orders meanwhile: new ones at the front must not disturb the pages behind.
    for _ in 0..200 {
        let page = stack.get(&format!("/api/orders?limit=2{next}")).await.json();
        for order in page["orders"].as_array().unwrap() {
            assert!(order.get("history").is_none() && order.get("payloadHash").is_none());
            seen.push(order["orderId"].as_str().unwrap().to_owned());
            sorted.push(order["createdAt"].as_str().unwrap().to_owned());
        }
        if submitted.iter().all(|id| seen.contains(id)) || page["next"].is_null() {
            break;
        }
        next = format!("&after={}", page["next"].as_str().unwrap());
    }
    let mine: Vec<_> = seen.iter().filter(|id| submitted.contains(id)).collect();
    assert_eq!(mine, submitted.iter().rev().collect::<Vec<_>>(), "each once, newest first");
    assert!(sorted.is_sorted_by(|a, b| a >= b), "{sorted:?}");
}

#[tokio::test]
async fn a_page_that_has_not_changed_is_not_sent_again() {
    // A stack of its own: nobody adds orders in between.
    let stack = TestStack::start().await;
    let id = stack.submit(&order()).await;
    stack.until_completed(&id).await;
    let first = stack.get("/api/orders").await;
    let etag = first.header("etag").to_owned();
    let known = [("if-none-match", etag.as_str())];
    let again = stack.send(Method::GET, "/api/orders", &known, "").await;
    assert_eq!((again.status.as_u16(), again.body.len()), (304, 0));
    stack.submit(&order()).await;
    let changed = stack.send(Method::GET, "/api/orders", &known, "").await;
    assert_eq!(changed.status, 200);
    assert_eq!(changed.json()["orders"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_repeated_request_is_one_order() {
    let stack = shared().await;
    let key = format!("key-{}", uuid::Uuid::new_v4());
    let headers = [("idempotency-key", key.as_str())];
    let body = order();
    let (a, b, c, d) = tokio::join!(
        stack.post(&body, &headers),
        stack.post(&body, &headers),
        stack.post(&body, &headers),
        stack.post(&body, &headers),
    );
    let answers = [a, b, c, d];
    let id = answers[0].json()["orderId"].clone();
    assert!(answers.iter().all(|answer| answer.status == 202 && answer.json()["orderId"] == id));
    let fresh = answers.iter().filter(|answer| answer.header("idempotency-replayed").is_empty());
    assert_eq!(fresh.count(), 1, "exactly one of them created it");

    let mut other = body.clone();
    other["items"][0]["quantity"] = json!(3);
    let refused = stack.post(&other, &headers).await;
    assert_eq!(refused.status, 422);
    assert_eq!(refused.json()["type"], "/problems/idempotency-key-reused");
    other["customerId"] = json!("c-other");
    let elsewhere = stack.post(&other, &headers).await;
    assert_eq!(elsewhere.status, 202);
    assert_ne!(elsewhere.json()["orderId"], id, "keys belong to one customer");
    stack.until_completed(id.as_str().unwrap()).await;
}

#[tokio::test]
async fn a_billing_failure_ends_in_the_dead_letter_queue_and_nobody_else_notices() {
    let stack = shared().await;
    let mut body = order();
    body["faults"] = json!({"billing": "fail"});
    let id = stack.submit(&body).await;
    let ended = stack
        .until(&id, "dead-lettered", |order| {
            order["status"]["billing"] == "dead-lettered"
                && order["status"]["inventory"] == "done"
                && order["status"]["notification"] == "done"
        })
        .await;
    assert_eq!(ended["overall"], "accepted");
    assert_eq!(ended["stage"]["billing"]["attempt"], 3, "the configured deliveries");
    assert_eq!(ended["stage"]["inventory"]["attempt"], 1);
    assert_eq!(ended["stage"]["notification"]["attempt"], 1);

    let bus = stack.bus();
    let dead_letters = bus.management("orders/Subscriptions/billing-sub/$DeadLetterQueue");
    let message_id = format!("event:{id}:1");
    let dead = eventually("the message is in the dead-letter queue", || async {
        let messages = dead_letters.peek(1, 100).await.unwrap();
        messages.into_iter().find(|m| m.message.message_id.as_deref() == Some(&message_id))
    })
    .await;
    assert_eq!(dead.dead_letter_reason.as_deref(), Some("MaxDeliveryCountExceeded"), "{dead:?}");
    let property = |name: &str| dead.message.application_properties.get(name).cloned();
    assert_eq!(property("order_id"), Some(id.as_str().into()));
    assert_eq!(property("event_type"), Some("order.created".into()));
    for quiet in ["inventory-sub", "notification-sub"] {
        let path = format!("orders/Subscriptions/{quiet}/$DeadLetterQueue");
        assert!(bus.management(&path).peek(0, 10).await.unwrap().is_empty(), "{quiet}");
    }
}

#[tokio::test]
async fn the_portal_and_the_health_routes_are_there() {
    let stack = shared().await;
    let page = stack.get("/").await;
    assert_eq!(page.status, 200);
    assert!(page.header("content-security-policy").contains("default-src 'self'"));
    assert_eq!(page.header("x-content-type-options"), "nosniff");
    let html = String::from_utf8(page.body.to_vec()).unwrap();
    for reference in html.split(['"']).filter(|r| r.starts_with('/') && r.contains('.')) {
        assert_eq!(stack.get(reference).await.status, 200, "{reference}");
    }
    assert_eq!(stack.get("/healthz").await.json(), json!({"status": "ok"}));
    assert_eq!(stack.get("/readyz").await.json(), json!({"status": "ready"}));
    let products = stack.get("/api/products").await.json();
    assert_eq!(products["faultsAllowed"], true);
    let skus: Vec<_> = products["products"].as_array().unwrap().iter().collect();
    assert!(skus.iter().any(|p| p["sku"] == "vitamin-c" && p["unitPriceMinor"] == 1290));
}
