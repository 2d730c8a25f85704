//! The store by itself: the schedule, what is given up, and that nothing is ever lost or told
//! twice at once, whatever subscribers do.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;

const MINUTE_MS: u64 = 60_000;

fn event(id: usize) -> Event {
    let text = json!({"specversion": "1.0", "id": id.to_string(), "source": "/s", "type": "t",
        "subject": format!("s-{id}")});
    Event::parse(&text.to_string()).unwrap()
}

fn subscription(more: &Value) -> Subscription {
    let mut whole = json!({"name": "one", "endpoint": "http://127.0.0.1:1/",
        "deadLetterDestination": "dead"});
    whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(whole).unwrap()
}

fn topic_with(subscriptions: Vec<Subscription>) -> Topic {
    Topic { name: "orders".to_owned(), input_schema: Schema::CloudEvents, subscriptions }
}

/// A store with topic `orders` and one subscription that has agreed.
fn store(more: &Value) -> Store {
    let mut store = Store::new(1, 7);
    let topic = topic_with(vec![subscription(more)]);
    store.declare(&topic, 0).unwrap();
    agree(&mut store, 0);
    store
}

fn agree(store: &mut Store, now_ms: u64) {
    let work = store.advance(now_ms);
    let [Work::Handshake { ticket, endpoint, .. }] = work.as_slice() else { panic!("{work:?}") };
    store.agreed(ticket, endpoint, true, now_ms);
}

fn publish(store: &mut Store, ids: std::ops::Range<usize>, now_ms: u64) {
    store.publish("orders", ids.map(event).collect(), now_ms).unwrap();
}

/// The one delivery that is due.
fn attempt(store: &mut Store, now_ms: u64) -> (Ticket, u32) {
    let work = store.advance(now_ms);
    let [Work::Deliver { ticket, attempts, .. }] = work.as_slice() else { panic!("{work:?}") };
    (ticket.clone(), *attempts)
}

/// The one dead letter that is due, written.
fn bury(store: &mut Store, now_ms: u64) -> Value {
    let work = store.advance(now_ms);
    let [Work::Bury { ticket, destination, line }] = work.as_slice() else { panic!("{work:?}") };
    assert_eq!(destination, "dead");
    store.buried(ticket, true, now_ms);
    serde_json::from_str(line).unwrap()
}

fn view_of(store: &Store) -> SubscriptionView {
    store.view_of("orders", "one").unwrap()
}

#[test]
fn a_failing_subscriber_is_tried_on_schedule_and_then_dead_lettered() {
    let mut store = store(&json!({"maxDeliveryAttempts": 4}));
    publish(&mut store, 0..1, 1_000);
    let mut now_ms = 1_000;
    for (made, wait_ms) in [10_000, 30_000, 60_000].into_iter().enumerate() {
        let (ticket, attempts) = attempt(&mut store, now_ms);
        assert_eq!(attempts as usize, made);
        store.settle(&ticket, Outcome::Status(500), now_ms, now_ms);
        assert!(store.advance(now_ms + wait_ms - 1).is_empty(), "too early after {made}");
        let due_ms = store.next_ms().unwrap();
        assert!((now_ms + wait_ms..=now_ms + wait_ms * 11 / 10).contains(&due_ms), "{due_ms}");
        now_ms = due_ms;
    }
    let (ticket, _) = attempt(&mut store, now_ms);
    store.settle(&ticket, Outcome::TimedOut, now_ms, now_ms + 30_000);
    let letter = bury(&mut store, now_ms + 30_000);
    assert_eq!(letter["deadletterreason"], "MaxDeliveryAttemptsExceeded");
    assert_eq!(letter["deliveryattempts"], 4);
    assert_eq!(letter["lastdeliveryoutcome"], "TimedOut");
    assert_eq!(letter["publishtime"], "1970-01-01T00:00:01Z");
    assert!(letter["lastdeliveryattempttime"].is_string() && letter["id"] == "0", "{letter}");
    assert_eq!(letter.get("lasthttpstatuscode"), None, "there was no answer");
    let view = view_of(&store);
    assert_eq!((view.counters.dead_lettered, view.counters.failed_attempts), (1, 4));
    assert_eq!(store.view()["held"], 0);
    assert_eq!(store.next_ms(), None);
}

#[test]
fn a_refusal_is_dead_lettered_at_once_or_dropped() {
    for status in [400, 401, 403, 413] {
        let mut store = store(&json!({}));
        publish(&mut store, 0..1, 0);
        let (ticket, _) = attempt(&mut store, 0);
        store.settle(&ticket, Outcome::Status(status), 0, 0);
        let letter = bury(&mut store, 0);
        let reason = letter["deadletterreason"].as_str().unwrap();
        assert!(reason.starts_with("UndeliverableDueToHttp"), "{letter}");
        assert_eq!(letter["lasthttpstatuscode"], status);
    }
    let mut nowhere = store(&json!({"deadLetterDestination": null}));
    publish(&mut nowhere, 0..1, 0);
    let (ticket, _) = attempt(&mut nowhere, 0);
    nowhere.settle(&ticket, Outcome::Status(400), 0, 0);
    assert!(nowhere.advance(0).is_empty());
    assert_eq!(view_of(&nowhere).counters.dropped, 1);
    assert_eq!(nowhere.view()["held"], 0);
}

#[test]
fn an_event_is_not_delivered_after_its_time() {
    let mut store = store(&json!({"eventTimeToLiveInMinutes": 1}));
    publish(&mut store, 0..1, 0);
    let (ticket, _) = attempt(&mut store, 0);
    // 404 asks for five minutes.
    store.settle(&ticket, Outcome::Status(404), 0, 0);
    assert_eq!(store.next_ms(), Some(MINUTE_MS));
    assert!(store.advance(MINUTE_MS - 1).is_empty());
    let letter = bury(&mut store, MINUTE_MS);
    assert_eq!(letter["deadletterreason"], "TimeToLiveExceeded");
    assert_eq!(letter["lastdeliveryoutcome"], "NotFound");
}

#[test]
fn nothing_is_delivered_before_the_endpoint_has_agreed() {
    let mut store = Store::new(1, 7);
    let topic = topic_with(vec![subscription(&json!({}))]);
    store.declare(&topic, 0).unwrap();
    publish(&mut store, 0..1, 0);
    let mut now_ms = 0;
    for pause_ms in [1_000, 2_000, 4_000] {
        let work = store.advance(now_ms);
        let [Work::Handshake { ticket, endpoint, .. }] = work.as_slice() else {
            panic!("{work:?}")
        };
        assert!(store.advance(now_ms + MINUTE_MS).is_empty(), "one question at a time");
        store.agreed(ticket, endpoint, false, now_ms);
        now_ms = store.next_ms().unwrap();
        assert_eq!(now_ms % 1_000, 0);
        assert!(now_ms >= pause_ms, "{now_ms}");
    }
    agree(&mut store, now_ms);
    attempt(&mut store, now_ms);
    // Another endpoint is asked anew.
    let moved = subscription(&json!({"endpoint": "http://127.0.0.1:2/"}));
    assert_eq!(store.subscribe("orders", moved, now_ms), Ok(false));
    assert!(!view_of(&store).validated);
}

#[test]
fn an_endpoint_that_keeps_failing_is_left_alone_for_a_while() {
    let mut store = store(&json!({}));
    publish(&mut store, 0..100, 0);
    let work = store.advance(0);
    assert_eq!(work.len(), limits::IN_FLIGHT_MAX);
    for one in &work {
        let Work::Deliver { ticket, .. } = one else { panic!("{one:?}") };
        store.settle(ticket, Outcome::Unreachable, 0, 0);
    }
    assert!(view_of(&store).unhealthy);
    assert!(store.advance(9_999).is_empty(), "new events wait as well");
    assert_eq!(store.next_ms(), Some(10_000));
    // One probe; it fails, and the pause doubles.
    let (probe, _) = attempt(&mut store, 10_000);
    store.settle(&probe, Outcome::Unreachable, 10_000, 10_000);
    assert!(store.advance(29_999).is_empty());
    let (probe, _) = attempt(&mut store, 30_000);
    store.settle(&probe, Outcome::Status(200), 30_000, 30_000);
    assert!(!view_of(&store).unhealthy);
    assert_eq!(store.advance(30_000).len(), limits::IN_FLIGHT_MAX);
}

#[test]
fn a_dead_letter_that_cannot_be_written_is_tried_for_four_hours() {
    let mut store = store(&json!({}));
    publish(&mut store, 0..1, 0);
    let (ticket, _) = attempt(&mut store, 0);
    store.settle(&ticket, Outcome::Status(400), 0, 0);
    let (mut now_ms, mut tries) = (0, 0);
    while let [Work::Bury { ticket, .. }] = store.advance(now_ms).as_slice() {
        store.buried(ticket, false, now_ms);
        tries += 1;
        now_ms += 10_000;
    }
    assert_eq!(tries, 4 * 60 * 6 + 1);
    assert_eq!(view_of(&store).counters.dropped, 1);
}

#[test]
fn memory_is_bounded_and_a_request_is_taken_whole_or_not_at_all() {
    let mut store = store(&json!({}));
    let batch = limits::EVENTS_PER_REQUEST_MAX;
    for _ in 0..limits::WAITING_MAX / batch {
        publish(&mut store, 0..batch, 0);
    }
    let refused = store.publish("orders", vec![event(0)], 0);
    assert_eq!(refused, Err(StoreError::Full));
    assert_eq!(view_of(&store).waiting, limits::WAITING_MAX);
    store.unsubscribe("orders", "one").unwrap();
    assert_eq!(store.publish("orders", vec![event(0)], 0), Ok(()), "nobody wants it");
    assert_eq!(store.view()["topics"][0]["unmatched"], 1);
    assert!(matches!(store.publish("other", vec![], 0), Err(StoreError::NoTopic(_))));
}

#[test]
fn time_can_be_made_to_pass_faster() {
    let mut store = Store::new(100, 7);
    let topic = topic_with(vec![subscription(&json!({}))]);
    store.declare(&topic, 0).unwrap();
    agree(&mut store, 0);
    publish(&mut store, 0..1, 0);
    let (ticket, _) = attempt(&mut store, 0);
    store.settle(&ticket, Outcome::Status(500), 0, 0);
    assert!((100..=110).contains(&store.next_ms().unwrap()));
}

#[derive(Clone, Debug)]
enum Step {
    Publish(usize),
    /// Settles the work under way at this place.
    Settle(usize, u16),
    Pass(u64),
    Move,
    Recreate,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let status = prop::sample::select(vec![200_u16, 204, 301, 400, 404, 413, 429, 500, 503, 0]);
    let step = prop_oneof![
        3 => (1..4_usize).prop_map(Step::Publish),
        8 => (0..8_usize, status).prop_map(|(place, status)| Step::Settle(place, status)),
        4 => (0..400_000_u64).prop_map(Step::Pass),
        1 => Just(Step::Move),
        1 => Just(Step::Recreate),
    ];
    prop::collection::vec(step, 0..120)
}

proptest! {
    /// Whatever subscribers answer, and however the subscription changes meanwhile: every event is
    /// in exactly one place, no event is under way twice, and no attempt is made beyond the limit.
    #[test]
    fn nothing_is_lost(steps in steps(), attempts_max in 1..6_u32, minutes in 1..30_u32) {
        let more = json!({"maxDeliveryAttempts": attempts_max,
            "eventTimeToLiveInMinutes": minutes});
        let mut store = Store::new(1, 3);
        let topic =
            topic_with(vec![subscription(&more)]);
        store.declare(&topic, 0).unwrap();
        let (mut now_ms, mut next, mut port) = (0, 0, 1);
        let mut under_way: Vec<Work> = Vec::new();
        let mut made = BTreeMap::<String, u32>::new();
        for step in steps {
            match step {
                Step::Publish(count) => {
                    publish(&mut store, next..next + count, now_ms);
                    next += count;
                }
                Step::Pass(ms) => now_ms += ms,
                Step::Move => {
                    port += 1;
                    let mut moved = subscription(&more);
                    moved.endpoint = format!("http://127.0.0.1:{port}/");
                    store.subscribe("orders", moved, now_ms).unwrap();
                }
                Step::Recreate => {
                    store.unsubscribe("orders", "one").unwrap();
                    store.subscribe("orders", subscription(&more), now_ms).unwrap();
                    made.clear();
                }
                Step::Settle(place, status) if !under_way.is_empty() => {
                    let outcome = match status {
                        0 => Outcome::TimedOut,
                        status => Outcome::Status(status),
                    };
                    match under_way.remove(place % under_way.len()) {
                        Work::Handshake { ticket, endpoint, .. } => {
                            store.agreed(&ticket, &endpoint, status < 400, now_ms);
                        }
                        Work::Deliver { ticket, .. } => {
                            store.settle(&ticket, outcome, now_ms, now_ms);
                        }
                        Work::Bury { ticket, .. } => store.buried(&ticket, status < 400, now_ms),
                    }
                }
                Step::Settle(..) => {}
            }
            for work in store.advance(now_ms) {
                if let Work::Deliver { event, attempts, .. } = &work {
                    prop_assert!(*attempts < attempts_max);
                    let count = made.entry(event.id.clone()).or_default();
                    prop_assert_eq!(*count, *attempts, "under way twice, or counted wrong");
                    *count += 1;
                }
                under_way.push(work);
            }
            let view = view_of(&store);
            let Counters { matched, delivered, dead_lettered, dropped, .. } = view.counters;
            let held = (view.waiting + view.in_flight) as u64;
            prop_assert_eq!(matched, delivered + dead_lettered + dropped + held);
            prop_assert_eq!(store.view()["held"].as_u64().unwrap(), held);
            prop_assert!(view.in_flight <= limits::IN_FLIGHT_MAX + limits::BURIALS_MAX);
            // The loop can never spin: what is due now has been handed out.
            prop_assert!(store.next_ms().is_none_or(|next_ms| next_ms > now_ms));
        }
    }

    #[test]
    fn no_request_makes_it_panic(
        body in prop::collection::vec(any::<u8>(), 0..200),
        batch in any::<bool>(),
    ) {
        use crate::event::{BATCH, SINGLE, parse};
        let _ = parse(Schema::CloudEvents, "/orders", if batch { BATCH } else { SINGLE }, &body);
    }
}
