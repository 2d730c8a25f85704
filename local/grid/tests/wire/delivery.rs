//! The delivering side: handshake, delivery, retry, dead letter.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Act, Got, Subscriber, TIME_SCALE, event, start};

fn declared(name: &str, subscriber: &Subscriber, more: &Value) -> Value {
    let mut whole =
        json!({"name": name, "endpoint": subscriber.url, "deadLetterDestination": "dead"});
    whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    whole
}

fn delivered(view: &Value, count: u64) -> bool {
    view["counters"]["delivered"] == count
}

#[tokio::test]
async fn an_event_reaches_those_who_want_it_with_the_headers_of_the_service() {
    let all = Subscriber::start([]).await;
    let some = Subscriber::start([]).await;
    let service = start(json!([
        declared("all", &all, &json!({})),
        declared(
            "some",
            &some,
            &json!({"includedEventTypes": ["order.completed"],
            "subjectBeginsWith": "a-"})
        ),
    ]))
    .await;
    let wanted = event("3", "order.completed", "a-3");
    let events = json!([
        event("1", "order.created", "a-1"),
        event("2", "order.completed", "b-2"),
        wanted.clone(),
    ]);
    assert_eq!(service.publish(&events).await.status, 200);
    service.until("all", |view| delivered(view, 3)).await;
    service.until("some", |view| delivered(view, 1)).await;
    assert_eq!(all.got(&Method::POST).len(), 3);
    let [got] = &some.got(&Method::POST)[..] else { panic!("one event") };
    assert_eq!(serde_json::from_str::<Value>(&got.body).unwrap(), wanted);
    for (name, value) in [
        ("content-type", "application/cloudevents+json; charset=utf-8"),
        ("aeg-event-type", "Notification"),
        ("aeg-subscription-name", "SOME"),
        ("aeg-delivery-count", "0"),
        ("origin", "eventgrid.azure.net"),
    ] {
        assert_eq!(got.headers.get(name).map(String::as_str), Some(value), "{name}");
    }
    let [asked] = &some.got(&Method::OPTIONS)[..] else { panic!("one handshake") };
    assert_eq!(asked.headers["webhook-request-origin"], "eventgrid.azure.net");
}

#[tokio::test]
async fn a_subscriber_gets_nothing_before_it_agrees() {
    let subscriber = Subscriber::start([]).await;
    subscriber.set_deaf(true);
    let service = start(json!([declared("one", &subscriber, &json!({}))])).await;
    service.publish(&json!([event("1", "t", "s")])).await;
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while subscriber.got(&Method::OPTIONS).len() < 3 {
        assert!(std::time::Instant::now() < deadline, "the handshake is tried again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(subscriber.got(&Method::POST).len(), 0);
    assert_eq!(service.subscription("one").await["validated"], false);
    subscriber.set_deaf(false);
    service.until("one", |view| view["validated"] == true && delivered(view, 1)).await;
}

#[tokio::test]
async fn failures_are_tried_again_with_growing_delays() {
    let acts = [Act::Answer(500), Act::HangUp, Act::Answer(302)];
    let subscriber = Subscriber::start(acts).await;
    let service = start(json!([declared("one", &subscriber, &json!({}))])).await;
    service.publish(&json!([event("1", "t", "s")])).await;
    let view = service.until("one", |view| delivered(view, 1)).await;
    assert_eq!(view["counters"]["failedAttempts"], 3);
    assert_eq!(view["waiting"], 0);
    let got = subscriber.got(&Method::POST);
    let counts: Vec<&str> =
        got.iter().map(|one| one.headers["aeg-delivery-count"].as_str()).collect();
    assert_eq!(counts, ["0", "1", "2", "3"]);
    let pause = |pair: &[Got]| pair[1].at - pair[0].at;
    let pauses: Vec<Duration> = got.windows(2).map(pause).collect();
    for (pause, seconds) in pauses.iter().zip([10, 30, 60]) {
        // A millisecond for rounding.
        let least = Duration::from_secs(seconds) / TIME_SCALE - Duration::from_millis(2);
        assert!(*pause >= least, "{pauses:?}");
    }
    assert!(service.letters("one").is_empty());
}

#[tokio::test]
async fn what_a_subscriber_refuses_is_dead_lettered_at_once() {
    let subscriber = Subscriber::start([Act::Answer(400), Act::Answer(413)]).await;
    let service = start(json!([declared("one", &subscriber, &json!({}))])).await;
    service.publish(&json!([event("1", "t", "s"), event("2", "t", "s")])).await;
    service.until("one", |view| view["counters"]["deadLettered"] == 2).await;
    assert_eq!(subscriber.got(&Method::POST).len(), 2, "no second attempt");
    let letters = service.letters("one");
    let mut outcomes: Vec<&str> =
        letters.iter().map(|letter| letter["lastdeliveryoutcome"].as_str().unwrap()).collect();
    outcomes.sort_unstable();
    assert_eq!(outcomes, ["BadRequest", "PayloadTooLarge"]);
    assert!(letters.iter().all(|letter| letter["deliveryattempts"] == 1), "{letters:?}");
    assert!(letters.iter().all(|letter| letter["data"]["n"] == 1), "the event itself is kept");
}

#[tokio::test]
async fn the_last_attempt_ends_in_a_dead_letter() {
    let subscriber = Subscriber::start(vec![Act::Answer(503); 3]).await;
    let more = json!({"maxDeliveryAttempts": 3});
    let service = start(json!([declared("one", &subscriber, &more)])).await;
    service.publish(&json!([event("1", "t", "s")])).await;
    service.until("one", |view| view["counters"]["deadLettered"] == 1).await;
    assert_eq!(subscriber.got(&Method::POST).len(), 3);
    let [letter] = &service.letters("one")[..] else { panic!("one letter") };
    assert_eq!(letter["deadletterreason"], "MaxDeliveryAttemptsExceeded");
    assert_eq!(letter["lasthttpstatuscode"], 503);
    assert_eq!(letter["lastdeliveryoutcome"], "Busy");
}

#[tokio::test]
async fn a_subscriber_that_never_answers_is_given_up_on_and_tried_again() {
    let subscriber = Subscriber::start([Act::Hang]).await;
    let service = start(json!([declared("one", &subscriber, &json!({}))])).await;
    service.publish(&json!([event("1", "t", "s")])).await;
    let view = service.until("one", |view| delivered(view, 1)).await;
    assert_eq!(view["counters"]["failedAttempts"], 1);
    let got = subscriber.got(&Method::POST);
    let least = grid::limits::ANSWER_WITHIN_MIN;
    assert!(got[1].at - got[0].at >= least, "it had its time");
}

#[tokio::test]
async fn an_endpoint_that_keeps_failing_is_left_alone_and_found_back() {
    let subscriber = Subscriber::start(vec![Act::Answer(500); 12]).await;
    let service = start(json!([declared("one", &subscriber, &json!({}))])).await;
    let events: Vec<Value> = (0..12).map(|n| event(&n.to_string(), "t", "s")).collect();
    service.publish(&json!(events)).await;
    service.until("one", |view| view["unhealthy"] == true).await;
    let view = service.until("one", |view| delivered(view, 12)).await;
    assert_eq!(view["unhealthy"], false);
    assert_eq!(subscriber.got(&Method::POST).len(), 24);
}
