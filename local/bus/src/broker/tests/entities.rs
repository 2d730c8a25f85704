//! Entities that forward, rest, go away and come at run time.

use super::*;
use crate::topology::{EntityStatus, Queue as QueueSpec, Span};

fn defined(change: impl FnOnce(&mut QueueSpec), name: &str) -> Definition {
    let mut queue = QueueSpec::named(name.into());
    change(&mut queue);
    Definition::Queue(queue)
}

#[test]
fn messages_move_on_and_dead_letters_too() {
    let mut bench = Bench::new();
    bench.send("relay", message("a"));
    assert!(bench.ids("relay").is_empty());
    let got = bench.receive("q", 1).remove(0);
    assert_eq!((got.message.id(), got.original_sequence, got.sequence), ("a", 1, 1));
    bench.send("work", message("b"));
    let got = bench.receive("work", 1).remove(0);
    bench.settle("work", &got, abandon()).unwrap();
    assert!(bench.ids("work/$DeadLetterQueue").is_empty());
    let dead = bench.receive("morgue", 1).remove(0);
    assert_eq!(Bench::reason(&dead).as_deref(), Some("MaxDeliveryCountExceeded"));
    let source = crate::amqp::value::get(&dead.message.annotations, "x-opt-deadletter-source");
    assert_eq!(source.and_then(Value::as_text), Some("work"));
    assert_eq!(dead.delivery_count, 0);
    // From a subscription, and by its rules.
    bench.send("u", with("c", &[("onward", Value::Int(1))]));
    bench.send("u", message("d"));
    bench.settle("morgue", &dead, Settlement::Complete).unwrap();
    assert_eq!(bench.ids("morgue"), ["c"]);
}

#[test]
fn what_cannot_move_on_is_kept_with_the_reason() {
    let mut bench = Bench::new();
    bench.send("ring-a", message("round"));
    // Four moves: the ring's second queue has it last.
    let stuck = ["ring-a", "ring-b"]
        .map(|path| bench.receive(&format!("{path}/$Transfer/$DeadLetterQueue"), 9));
    let stuck: Vec<_> = stuck.into_iter().flatten().collect();
    assert_eq!(stuck.len(), 1);
    assert_eq!(Bench::reason(&stuck[0]).as_deref(), Some("MaxTransferHopCountExceeded"));
    // The target is disabled, then gone.
    let off = defined(|queue| queue.status = EntityStatus::SendDisabled, "morgue");
    bench.broker.update(bench.now, off).unwrap();
    bench.send("u", with("e", &[("onward", Value::Int(1))]));
    bench.broker.delete(bench.now, "morgue").unwrap();
    bench.send("u", with("f", &[("onward", Value::Int(1))]));
    let stuck = bench.receive("u/Subscriptions/onward/$Transfer/$DeadLetterQueue", 9);
    let reasons: Vec<_> = stuck.iter().filter_map(Bench::reason).collect();
    assert_eq!(reasons, ["MessagingEntityDisabled", "MessagingEntityNotFound"]);
}

#[test]
fn a_status_stops_one_side_or_both() {
    let mut bench = Bench::new();
    bench.send("q", message("a"));
    let receiver = bench.receiver("q", 0);
    let q = |status| {
        defined(
            |queue| {
                queue.status = status;
                queue.lock_duration = Span::from_millis(10_000);
            },
            "q",
        )
    };
    let to = bench.entity("q");
    for (status, sends, receives) in [
        (EntityStatus::SendDisabled, false, true),
        (EntityStatus::ReceiveDisabled, true, false),
        (EntityStatus::Disabled, false, false),
        (EntityStatus::Active, true, true),
    ] {
        bench.broker.update(bench.now, q(status)).unwrap();
        let sent = bench.broker.publish(bench.now, to, vec![message("b")]);
        assert_eq!(sent.is_ok(), sends, "{status:?}");
        assert!(sends || matches!(sent, Err(PublishError::Disabled(_))));
        let place = bench.place("q");
        assert_eq!(bench.broker.can_receive(place), receives, "{status:?}");
        let lost = bench.broker.take_event(receiver);
        assert_eq!(lost.is_some(), !receives, "{status:?}");
    }
}

#[test]
fn entities_come_change_and_go_while_it_runs() {
    let mut bench = Bench::new();
    let new = || defined(|queue| queue.max_delivery_count = 1, "fresh");
    bench.broker.create(bench.now, new()).unwrap();
    assert_eq!(bench.broker.create(bench.now, new()), Err(EntityError::Exists("fresh".into())));
    bench.send("fresh", message("a"));
    let receiver = bench.receiver("Fresh", 1);
    let got = bench.fetch(receiver).remove(0);
    bench.broker.delete(bench.now, "FRESH").unwrap();
    assert_eq!(bench.broker.take_event(receiver), Some(Event::Lost(Lost::Deleted)));
    assert_eq!(bench.broker.resolve("fresh"), None);
    assert_eq!(bench.broker.resolve("fresh/$deadletterqueue"), None);
    let old = bench.broker.settle(bench.now, QueueId(0), got.token, Settlement::Complete);
    assert_eq!(old, Err(SettleError::LockLost));
    bench.broker.close_receiver(bench.now, receiver);
    // One with the same name is another one.
    bench.broker.create(bench.now, new()).unwrap();
    assert!(bench.ids("fresh").is_empty());
    let session = defined(|queue| queue.requires_session = true, "fresh");
    assert!(matches!(bench.broker.update(bench.now, session), Err(EntityError::Invalid(_))));
    let nowhere = defined(|queue| queue.forward_to = Some("nowhere".into()), "fresh");
    assert!(matches!(bench.broker.update(bench.now, nowhere), Err(EntityError::Invalid(_))));
    // What waits is moved when the queue starts to forward.
    bench.send("fresh", message("b"));
    let onward = defined(|queue| queue.forward_to = Some("morgue".into()), "fresh");
    bench.broker.update(bench.now, onward).unwrap();
    assert_eq!(bench.ids("morgue"), ["b"]);
    // A topic takes its subscriptions along.
    bench.broker.delete(bench.now, "t").unwrap();
    assert_eq!(bench.broker.resolve("t/subscriptions/all"), None);
    assert!(bench.broker.registered("t/Subscriptions/all").is_none());
    bench.wait(1);
}

#[test]
fn what_is_locked_when_forwarding_begins_follows_when_it_is_free() {
    let mut bench = Bench::new();
    for id in ["abandoned", "released", "expired", "deferred"] {
        bench.send("q", message(id));
    }
    let got = bench.receive("q", 4);
    let onward = defined(|queue| queue.forward_to = Some("morgue".into()), "q");
    bench.broker.update(bench.now, onward).unwrap();
    bench.settle("q", &got[0], abandon()).unwrap();
    bench.settle("q", &got[1], Settlement::Release).unwrap();
    bench.settle("q", &got[3], Settlement::Defer { changes: Vec::new() }).unwrap();
    assert_eq!(bench.ids("morgue"), ["abandoned", "released"]);
    bench.wait(60_000);
    assert_eq!(bench.ids("morgue"), ["abandoned", "released", "expired"]);
    assert_eq!(bench.ids("q"), ["deferred"]);
}

#[test]
fn a_changed_window_holds_for_what_comes_next() {
    let mut bench = Bench::new();
    let unique = |ms| {
        let change = |queue: &mut QueueSpec| {
            queue.requires_duplicate_detection = true;
            queue.duplicate_detection_history_time_window = Span::from_millis(ms);
        };
        defined(change, "recent")
    };
    bench.broker.create(bench.now, unique(60_000)).unwrap();
    bench.send("recent", message("long"));
    bench.broker.update(bench.now, unique(5_000)).unwrap();
    bench.send("recent", message("short"));
    bench.wait(5_000);
    bench.send("recent", message("long"));
    bench.send("recent", message("short"));
    assert_eq!(bench.ids("recent"), ["long", "short", "short"]);
    bench.wait(55_000);
    bench.send("recent", message("long"));
    assert_eq!(bench.ids("recent"), ["long", "short", "short", "long"]);
}

#[test]
fn idle_entities_go_and_used_ones_stay() {
    let mut bench = Bench::new();
    bench.wait(0);
    bench.wait(50_000);
    bench.send("brief", message("a"));
    bench.wait(59_999);
    assert!(bench.broker.resolve("brief").is_some());
    // The topic was not used at all, nor was any subscription of it.
    assert!(bench.broker.resolve("u").is_none());
    assert!(bench.broker.resolve("u/subscriptions/grouped").is_none());
    let receiver = bench.receiver("brief", 0);
    bench.wait(300_000);
    assert!(bench.broker.resolve("brief").is_some(), "somebody is attached");
    bench.broker.close_receiver(bench.now, receiver);
    let mut late = message("later");
    late.scheduled_for = Some(bench.now.plus(200_000));
    bench.send("brief", late);
    bench.wait(150_000);
    assert!(bench.broker.resolve("brief").is_some(), "a message waits for its time");
    bench.wait(60_000);
    bench.wait(61_000);
    assert!(bench.broker.resolve("brief").is_none());
}

#[test]
fn as_many_entities_as_documented_and_no_more() {
    let mut bench = Bench::new();
    let below = |known: &&crate::broker::Registered| {
        matches!(*known.definition, Definition::Subscription { .. })
    };
    let of_topic = |known: &&crate::broker::Registered| known.definition.path().starts_with("t/");
    let all = bench.broker.all_registered().count();
    let before = all - bench.broker.all_registered().filter(below).count();
    let declared = bench.broker.all_registered().filter(of_topic).count();
    let subscription = |n: usize| {
        let subscription = serde_json::from_str(&format!(r#"{{"name": "more-{n}"}}"#)).unwrap();
        Definition::Subscription { topic: "t".into(), subscription }
    };
    let mut refused = None;
    let mut subscriptions = 0;
    while refused.is_none() {
        refused = bench.broker.create(bench.now, subscription(subscriptions)).err();
        subscriptions += usize::from(refused.is_none());
    }
    assert_eq!(refused, Some(EntityError::TooMany));
    assert_eq!(subscriptions + declared, 2_000);
    // Subscriptions do not count among queues and topics.
    let mut queues = 0;
    let refused = loop {
        match bench.broker.create(bench.now, defined(|_| {}, &format!("queue-{queues}"))) {
            Ok(()) => queues += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, EntityError::TooMany);
    assert_eq!(queues + before, 10_000);
    bench.send("queue-0", message("a"));
    assert_eq!(bench.ids("queue-0"), ["a"]);
}
