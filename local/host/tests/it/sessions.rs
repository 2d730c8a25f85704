//! `serviceBusTrigger` with `isSessionsEnabled`: order, sharing, renewal, loss and hand-over of
//! sessions, against a real broker.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::app::{PATIENCE, Running};
use crate::service_bus::{Broker, Publisher, start_with};

fn trigger(more: &Value) -> Value {
    let mut binding = json!({ "type": "serviceBusTrigger", "name": "turn", "direction": "in",
        "queueName": "turns", "isSessionsEnabled": true, "connection": "OrdersBus" });
    for (name, value) in more.as_object().unwrap() {
        binding[name] = value.clone();
    }
    json!([binding])
}

/// A host for the queue `turns` that gives an idle session back after a second.
async fn start(broker: &Broker, more: Value, options: Value) -> Running {
    start_with(broker.connection_string(), "Turn", trigger(&more), |host| {
        let service_bus = &mut host["extensions"]["serviceBus"];
        *service_bus = json!({ "sessionIdleTimeout": "00:00:01" });
        for (name, value) in options.as_object().unwrap() {
            service_bus[name] = value.clone();
        }
    })
    .await
}

async fn becomes(broker: &Broker, wanted: (usize, usize), host: &Running) {
    let deadline = Instant::now() + PATIENCE;
    while broker.queue("turns") != wanted {
        let seen = broker.queue("turns");
        assert!(Instant::now() < deadline, "{seen:?} is not {wanted:?}:\n{}", host.log.text());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One line of metadata, decoded.
fn text(call: &Value, name: &str) -> String {
    serde_json::from_str(call["envelope"]["Metadata"][name].as_str().unwrap()).unwrap()
}

fn number(call: &Value, name: &str) -> u64 {
    call["envelope"]["Metadata"][name].as_str().unwrap().parse().unwrap()
}

/// The sequence numbers that a host was called with, by session.
async fn by_session(host: &Running, count: usize) -> BTreeMap<String, Vec<u64>> {
    let mut seen = BTreeMap::<String, Vec<u64>>::new();
    for call in host.log.said("INVOKED", count).await {
        seen.entry(text(&call, "SessionId")).or_default().push(number(&call, "SequenceNumber"));
    }
    seen
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_come_in_order_and_as_many_at_a_time_as_allowed() {
    let broker = Broker::anywhere().await;
    let mut publisher = Publisher::connect(broker.address, "turns").await;
    for number in 0..4 {
        for session in ["a", "b", "c"] {
            let id = format!("{session}-{number}");
            publisher.send_in(Some(session), &id, &json!({ "delayMs": 100 })).await;
        }
    }
    let host = start(&broker, json!({}), json!({ "maxConcurrentSessions": 2 })).await;
    becomes(&broker, (0, 0), &host).await;
    let calls = host.log.said("INVOKED", 12).await;
    let sessions: BTreeMap<&str, String> =
        calls.iter().map(|call| (call["id"].as_str().unwrap(), text(call, "SessionId"))).collect();
    host.log.wait_for("Executed 'Functions.Turn' (Succeeded", 12).await;
    let (mut running, mut most) = (BTreeSet::new(), 0);
    for line in host.log.lines("'Functions.Turn'") {
        let session = &sessions[line.invocation_id.unwrap().to_string().as_str()];
        if line.text.starts_with("Executing") {
            assert!(running.insert(session), "one at a time of {session}:\n{}", host.log.text());
            most = most.max(running.len());
        } else if line.text.starts_with("Executed") {
            running.remove(session);
        }
    }
    assert_eq!(most, 2, "{}", host.log.text());
    let seen = by_session(&host, 12).await;
    assert_eq!(seen.len(), 3);
    for numbers in seen.values() {
        assert!(numbers.is_sorted() && numbers.len() == 4, "{seen:?}");
    }
    let metadata = &calls[0]["envelope"]["Metadata"];
    let until = metadata["SessionActions"]["SessionLockedUntil"].as_str().unwrap();
    assert!(until.ends_with("+00:00"), "{metadata}");
    let log = host.stop().await;
    assert_eq!(log.lines("Receiving from sessions of turns").len(), 1);
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_message_comes_again_before_the_next_of_its_session() {
    let broker = Broker::anywhere().await;
    let mut publisher = Publisher::connect(broker.address, "turns").await;
    for (id, asked) in [("1", "fail"), ("2", "ok"), ("3", "ok")] {
        publisher.send_in(Some("s"), id, &json!({ "do": asked })).await;
    }
    let host = start(&broker, json!({}), json!({})).await;
    becomes(&broker, (0, 1), &host).await;
    let calls = host.log.said("INVOKED", 5).await;
    let seen: Vec<(u64, u64)> = calls
        .iter()
        .map(|call| (number(call, "SequenceNumber"), number(call, "DeliveryCount")))
        .collect();
    assert_eq!(seen, [(1, 1), (1, 2), (1, 3), (2, 1), (3, 1)]);
    host.stop().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lock_of_a_session_is_renewed_and_no_longer_than_allowed() {
    let broker = Broker::anywhere().await;
    let mut publisher = Publisher::connect(broker.address, "turns").await;
    // The lock lasts three seconds.
    publisher.send_in(Some("s"), "slow", &json!({ "delayMs": 7_000 })).await;
    let host = start(&broker, json!({}), json!({})).await;
    host.log.wait_for("Executed 'Functions.Turn' (Succeeded", 1).await;
    becomes(&broker, (0, 0), &host).await;
    let log = host.stop().await;
    assert_eq!(log.lines("INVOKED").len(), 1, "delivered once");

    let renewal = json!({ "maxAutoLockRenewalDuration": "00:00:00" });
    let host = start(&broker, json!({}), renewal).await;
    publisher.send_in(Some("s"), "lost", &json!({ "delayMs": 4_000 })).await;
    let lost = host.log.wait_for("The lock of session 's' of turns is lost", 1).await;
    assert!(lost[0].text.contains("Fix:"), "{lost:?}");
    host.log.wait_for("is not settled, as its session is lost", 1).await;
    let again = host.log.said("INVOKED", 2).await.remove(1);
    assert_eq!(number(&again, "DeliveryCount"), 2);
    host.stop().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_sessions_make_room_and_a_stop_hands_over() {
    let broker = Broker::anywhere().await;
    let mut publisher = Publisher::connect(broker.address, "turns").await;
    let one = json!({ "maxConcurrentSessions": 1 });
    let host = start(&broker, json!({}), one.clone()).await;
    for session in ["a", "b", "c"] {
        publisher.send_in(Some(session), session, &json!({})).await;
    }
    assert_eq!(by_session(&host, 3).await.len(), 3, "one after the other");
    // Held, with nothing more in it: whoever comes next gets it without waiting for its lock.
    let long = json!({ "maxConcurrentSessions": 1, "sessionIdleTimeout": "00:10:00" });
    host.stop().await;
    let first = start(&broker, json!({}), long).await;
    publisher.send_in(Some("d"), "d-1", &json!({})).await;
    assert_eq!(by_session(&first, 1).await["d"].len(), 1);
    becomes(&broker, (0, 0), &first).await;
    first.stop().await;
    let second = start(&broker, json!({}), one).await;
    publisher.send_in(Some("d"), "d-2", &json!({})).await;
    assert_eq!(by_session(&second, 1).await["d"].len(), 1);
    becomes(&broker, (0, 0), &second).await;
    second.stop().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_of_one_session() {
    let broker = Broker::anywhere().await;
    let mut publisher = Publisher::connect(broker.address, "turns").await;
    for number in 0..3 {
        for session in ["a", "b"] {
            publisher.send_in(Some(session), &format!("{session}-{number}"), &json!({})).await;
        }
    }
    let more = json!({ "cardinality": "many", "dataType": "string" });
    let host = start(&broker, more, json!({})).await;
    becomes(&broker, (0, 0), &host).await;
    let mut counted = BTreeMap::<String, usize>::new();
    for call in host.log.said("INVOKED", 2).await {
        let sessions = call["envelope"]["Metadata"]["SessionIdArray"].as_str().unwrap();
        let sessions: Vec<String> = serde_json::from_str(sessions).unwrap();
        let distinct: BTreeSet<&String> = sessions.iter().collect();
        assert_eq!(distinct.len(), 1, "{sessions:?}");
        *counted.entry(sessions[0].clone()).or_default() += sessions.len();
    }
    assert_eq!(counted, BTreeMap::from([("a".to_owned(), 3), ("b".to_owned(), 3)]));
    host.stop().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hosts_share_sessions_and_a_killed_handler_costs_none() {
    let broker = Broker::anywhere().await;
    let mut publisher = Publisher::connect(broker.address, "turns").await;
    for number in 0..6 {
        for session in ["a", "b", "c", "d"] {
            let id = format!("{session}-{number}");
            publisher.send_in(Some(session), &id, &json!({ "delayMs": 150 })).await;
        }
    }
    let two = json!({ "maxConcurrentSessions": 2 });
    let mut one = start(&broker, json!({}), two.clone()).await;
    let other = start(&broker, json!({}), two).await;
    one.log.said("INVOKED", 1).await;
    other.log.said("INVOKED", 1).await;
    crate::app::kill(one.pid().await);
    becomes(&broker, (0, 0), &other).await;
    let mut done = BTreeMap::<String, BTreeSet<u64>>::new();
    for host in [&one, &other] {
        let counts = by_session(host, 1).await;
        for (session, numbers) in counts {
            assert!(numbers.is_sorted(), "{session}: {numbers:?}");
            done.entry(session).or_default().extend(numbers);
        }
    }
    assert!(done.len() == 4 && done.values().all(|numbers| numbers.len() == 6), "{done:?}");
    one.stop().await;
    other.stop().await;
    broker.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_where_there_are_none_are_said_and_the_other_way_round() {
    let broker = Broker::anywhere().await;
    for (queue, sessions, expected) in
        [("work", true, "does not require sessions"), ("turns", false, "requires sessions")]
    {
        let more = json!({ "queueName": queue, "isSessionsEnabled": sessions });
        let host = start(&broker, more, json!({})).await;
        let lines = host.log.wait_for(&format!("Not receiving from {queue}"), 1).await;
        assert!(lines[0].text.contains(expected), "{lines:?}");
        host.stop().await;
    }
    broker.stop().await;
}
