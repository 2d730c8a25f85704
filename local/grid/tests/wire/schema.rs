//! The Event Grid schema, its handshake, Storage queues, advanced filters, metrics.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::Method;
use listener::testing::Client;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::harness::{Act, Service, Subscriber, event, start, start_with};

const OWN: &str = "EventGridSchema";

fn own(id: &str, kind: &str, data: &Value) -> Value {
    json!({"id": id, "eventType": kind, "subject": format!("s/{id}"), "data": data,
        "eventTime": "2026-01-01T00:00:00Z", "dataVersion": "1.0"})
}

async fn delivered(service: &Service, name: &str, count: u64) {
    service.until(name, |view| view["counters"]["delivered"] == count).await;
}

fn bodies(subscriber: &Subscriber) -> Vec<Value> {
    let got = subscriber.got(&Method::POST).into_iter();
    let events = got.filter(|got| got.headers["aeg-event-type"] == "Notification");
    events.map(|got| serde_json::from_str(&got.body).unwrap()).collect()
}

#[tokio::test]
async fn events_of_the_services_own_schema_reach_those_who_echo_the_code() {
    let (plain, cloud) = (Subscriber::start([]).await, Subscriber::start([]).await);
    let service = start_with(
        OWN,
        json!([
            {"name": "plain", "endpoint": plain.url},
            {"name": "cloud", "endpoint": cloud.url,
                "eventDeliverySchema": "CloudEventSchemaV1_0"},
        ]),
    )
    .await;
    let answer = service.publish_own(&json!([own("1", "order.created", &json!({"n": 1}))])).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    delivered(&service, "plain", 1).await;
    delivered(&service, "cloud", 1).await;
    let [body] = &bodies(&plain)[..] else { panic!("one event") };
    let mut expected = own("1", "order.created", &json!({"n": 1}));
    expected["topic"] = json!("/orders");
    expected["metadataVersion"] = json!("1");
    assert_eq!(*body, json!([expected]), "a list of one");
    let first = &plain.got(&Method::POST)[0];
    assert_eq!(first.headers["aeg-event-type"], "SubscriptionValidation");
    let [body] = &bodies(&cloud)[..] else { panic!("one event") };
    assert_eq!((&body["type"], &body["source"]), (&json!("order.created"), &json!("/orders")));
    assert_eq!(cloud.got(&Method::OPTIONS).len(), 1, "the other handshake");

    for wrong in [json!([own("", "t", &json!(1))]), own("1", "t", &json!(1))] {
        assert_eq!(service.publish_own(&wrong).await.code(), (400, "BadRequest".to_owned()));
    }
    let metrics = service.send("GET", "/admin/metrics", &[], "").await.json();
    let topic = &metrics["orders"];
    assert_eq!((&topic["PublishSuccessCount"], &topic["PublishFailCount"]), (&json!(1), &json!(2)));
    assert_eq!(topic["subscriptions"]["plain"]["DeliverySuccessCount"], 1);
}

#[tokio::test]
async fn consent_can_be_given_by_hand() {
    let subscriber = Subscriber::start([]).await;
    subscriber.set_hesitant();
    let one = json!([{"name": "one", "endpoint": subscriber.url}]);
    let service = start_with(OWN, one).await;
    service.publish_own(&json!([own("1", "t", &json!(1))])).await;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    while subscriber.got(&Method::POST).is_empty() {
        assert!(tokio::time::Instant::now() < deadline, "nobody has asked");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(service.subscription("one").await["validated"], false);
    let asked: Value = serde_json::from_str(&subscriber.got(&Method::POST)[0].body).unwrap();
    let url = asked[0]["data"]["validationUrl"].as_str().unwrap().to_owned();
    let target = url.strip_prefix(&format!("http://{}", service.address)).unwrap();
    let wrong = format!("{target}x");
    assert_eq!(service.send("GET", &wrong, &[], "").await.status, 404);
    assert!(bodies(&subscriber).is_empty(), "nothing before consent");
    assert_eq!(service.send("GET", target, &[], "").await.status, 200);
    delivered(&service, "one", 1).await;
    assert_eq!(bodies(&subscriber).len(), 1);
}

#[tokio::test]
async fn a_storage_queue_takes_events_in_base64() {
    let options = queue::Options { queues: vec!["events".to_owned()], ..Default::default() };
    let server = queue::Server::bind(options).await.unwrap();
    let (address, stop) = (server.local_addr(), CancellationToken::new());
    let mut running = JoinSet::new();
    let stopping = stop.clone();
    running.spawn(async move { server.run(stopping).await.unwrap() });
    let endpoint = format!("http://{address}/devstoreaccount1");
    let service = start(json!([
        {"name": "taken", "endpoint": endpoint, "storageQueue": {"queueName": "events",
            "messageTimeToLiveInSeconds": 600}},
        {"name": "missing", "endpoint": endpoint, "storageQueue": {"queueName": "nowhere"},
            "maxDeliveryAttempts": 1, "deadLetterDestination": "dead"},
    ]))
    .await;
    let sent = event("1", "order.created", "s");
    assert_eq!(service.publish(&json!([sent])).await.status, 200);
    delivered(&service, "taken", 1).await;
    let target = "/devstoreaccount1/events/messages";
    let date = queue::auth::http_date(listener::Clock::system().now_ms());
    let headers = [("x-ms-date", &*date), ("x-ms-version", "2021-12-02")];
    let signed = headers.map(|(name, value)| {
        (http::HeaderName::from_static(name), http::HeaderValue::from_str(value).unwrap())
    });
    let (account, key) = (queue::EMULATOR_ACCOUNT, queue::EMULATOR_KEY);
    let token = queue::auth::sign(account, key, "GET", target, &signed.into_iter().collect(), 0);
    let headers = [headers[0], headers[1], ("authorization", &*token)];
    let answer = Client::default().send(address, "GET", target, &headers, "").await;
    let text = answer.text.split("<MessageText>").nth(1).unwrap().split('<').next().unwrap();
    let message: Value = serde_json::from_slice(&BASE64.decode(text).unwrap()).unwrap();
    assert_eq!(message, sent);

    service.until("missing", |view| view["counters"]["deadLettered"] == 1).await;
    let [letter] = &service.letters("missing")[..] else { panic!("one dead letter") };
    assert_eq!(letter["deadletterreason"], "MaxDeliveryAttemptsExceeded");
    assert_eq!(letter["lastdeliveryoutcome"], "NotFound");
    stop.cancel();
    running.join_next().await;
}

#[tokio::test]
async fn only_events_that_fit_every_filter_are_delivered() {
    let subscriber = Subscriber::start([]).await;
    let filters = json!([
        {"key": "data.total", "operatorType": "NumberGreaterThan", "value": 10},
        {"key": "eventType", "operatorType": "StringNotContains", "values": ["test"]},
    ]);
    let one = json!([{"name": "one", "endpoint": subscriber.url, "advancedFilters": filters}]);
    let service = start_with(OWN, one).await;
    let events = json!([
        own("1", "order.created", &json!({"total": 5})),
        own("2", "order.created", &json!({"total": 50})),
        own("3", "order.test", &json!({"total": 50})),
        own("4", "order.created", &json!({})),
    ]);
    assert_eq!(service.publish_own(&events).await.status, 200);
    delivered(&service, "one", 1).await;
    assert_eq!(bodies(&subscriber)[0][0]["id"], "2");
    let metrics = service.send("GET", "/admin/metrics", &[], "").await.json();
    assert_eq!(metrics["orders"]["UnmatchedEventCount"], 3);
    let wrong = json!({"endpoint": subscriber.url, "advancedFilters": [
        {"key": "a", "operatorType": "NumberIn", "value": 1}]});
    let target = "/admin/topics/orders/subscriptions/two";
    let answer = service.send("PUT", target, &[], wrong.to_string()).await;
    assert_eq!(answer.code(), (400, "BadRequest".to_owned()));
}

#[tokio::test]
async fn a_dead_letter_is_written_as_its_schema_has_it() {
    let subscriber = Subscriber::start([Act::Answer(400)]).await;
    let one = json!([{"name": "one", "endpoint": subscriber.url,
        "deadLetterDestination": "dead"}]);
    let service = start_with(OWN, one).await;
    service.publish_own(&json!([own("1", "t", &json!(1))])).await;
    service.until("one", |view| view["counters"]["deadLettered"] == 1).await;
    let [letter] = &service.letters("one")[..] else { panic!("one dead letter") };
    assert_eq!(letter["deadLetterReason"], "UndeliverableDueToHttpBadRequest");
    assert_eq!((&letter["deliveryAttempts"], &letter["eventType"]), (&json!(1), &json!("t")));
    assert_eq!(letter["lastHttpStatusCode"], 400);
}
