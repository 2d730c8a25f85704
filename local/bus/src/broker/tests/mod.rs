//! The broker by scenario; under random commands in [`random`].

mod entities;
mod model;
mod random;
mod sessions;

use std::sync::{Arc, Mutex};

use super::record::{Arrival, Record, Removal};
use super::*;
use crate::amqp::Value;
use crate::message::Message;
use crate::message::tests::encoded;

const NAMESPACE: &str = r#"{
    "queues": [
        {"name": "q", "lockDuration": "PT10S", "maxDeliveryCount": 3,
         "deadLetteringOnMessageExpiration": true},
        {"name": "drop", "defaultMessageTimeToLive": "PT5S", "lockDuration": "PT10S"},
        {"name": "once", "requiresDuplicateDetection": true,
         "duplicateDetectionHistoryTimeWindow": "PT20S"},
        {"name": "small", "maxSizeInMegabytes": 1},
        {"name": "s", "requiresSession": true, "lockDuration": "PT10S", "maxDeliveryCount": 3},
        {"name": "relay", "forwardTo": "q", "forwardDeadLetteredMessagesTo": "morgue"},
        {"name": "work", "forwardDeadLetteredMessagesTo": "morgue", "maxDeliveryCount": 1},
        {"name": "morgue"},
        {"name": "ring-a", "forwardTo": "ring-b"}, {"name": "ring-b", "forwardTo": "ring-a"},
        {"name": "brief", "autoDeleteOnIdle": "PT60S"}
    ],
    "topics": [{"name": "t", "requiresDuplicateDetection": true, "subscriptions": [
        {"name": "all"},
        {"name": "billing", "deadLetteringOnFilterEvaluationExceptions": true, "rules": [
            {"name": "r", "sqlExpression": "(target IS NULL OR target = 'billing') AND amount / divisor > 1"}]},
        {"name": "marked", "rules": [
            {"name": "a", "sqlExpression": "mark = 1", "action": "SET seen = mark + 1; REMOVE mark"},
            {"name": "b", "sqlExpression": "mark < 9", "action": "SET sys.Label = 'b'"}]}
    ]}, {"name": "u", "autoDeleteOnIdle": "PT100S", "subscriptions": [
        {"name": "grouped", "requiresSession": true},
        {"name": "onward", "forwardTo": "morgue",
         "rules": [{"name": "r", "sqlExpression": "onward = 1"}]}
    ]}]
}"#;

/// Keeps every record for the test to look at.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<Record>>>);

impl Journal for Kept {
    fn append(&mut self, record: &Record) {
        self.0.lock().unwrap().push(record.clone());
    }
    fn seal(&mut self) -> u64 {
        0
    }
}

/// A broker with a hand on its clock.
struct Bench {
    broker: Broker,
    journal: Kept,
    now: Timestamp,
}

impl Bench {
    fn new() -> Bench {
        let journal = Kept::default();
        let namespace = serde_json::from_str(NAMESPACE).unwrap();
        let broker = Broker::new(&namespace, Box::new(journal.clone()), 7).unwrap();
        Bench { broker, journal, now: Timestamp::from_millis(1_000_000) }
    }

    fn entity(&self, path: &str) -> Entity {
        self.broker.resolve(&normalise(path)).unwrap()
    }

    fn place(&self, path: &str) -> QueueId {
        self.broker.place(self.entity(path))
    }

    fn send(&mut self, to: &str, message: Message) {
        let to = self.entity(to);
        self.broker.publish(self.now, to, vec![message]).unwrap();
    }

    fn wait(&mut self, ms: i64) {
        self.now = self.now.plus(ms);
        self.broker.advance(self.now);
    }

    /// A receiver on `path` with credit.
    fn receiver(&mut self, path: &str, credit: u32) -> ReceiverId {
        let place = self.place(path);
        let id = self.broker.open_receiver(ConnectionId(1), place, ReceiveMode::PeekLock);
        self.broker.grant(self.now, id, credit);
        id
    }

    fn fetch(&mut self, id: ReceiverId) -> Vec<Delivery> {
        self.broker.fetch(self.now, id, u32::MAX).0.into()
    }

    /// What is available on `path` now, locked.
    fn receive(&mut self, path: &str, max: u32) -> Vec<Delivery> {
        let id = self.receiver(path, max);
        let fetched = self.fetch(id);
        self.broker.close_receiver(self.now, id);
        fetched
    }

    fn settle(
        &mut self,
        path: &str,
        delivery: &Delivery,
        how: Settlement,
    ) -> Result<(), SettleError> {
        let place = self.place(path);
        self.broker.settle(self.now, place, delivery.token, how)
    }

    fn ids(&mut self, path: &str) -> Vec<String> {
        let place = self.place(path);
        let peeked = self.broker.peek(self.now, place, 0, 1_000, None);
        peeked.iter().map(|delivery| delivery.message.id().to_owned()).collect()
    }

    fn reason(delivery: &Delivery) -> Option<String> {
        let properties = delivery.message.application_properties();
        crate::amqp::value::get(&properties, "DeadLetterReason")
            .and_then(Value::as_text)
            .map(str::to_owned)
    }
}

fn message(id: &str) -> Message {
    with(id, &[])
}

fn with(id: &str, properties: &[(&str, Value)]) -> Message {
    Message::parse(&encoded(Some(id), properties, b"body")).unwrap()
}

fn abandon() -> Settlement {
    Settlement::Abandon { changes: Vec::new() }
}

#[test]
fn a_lock_is_exclusive_until_settled_or_over() {
    let mut bench = Bench::new();
    bench.send("q", message("a"));
    let first = bench.receive("q", 10).remove(0);
    assert_eq!((first.delivery_count, first.locked_until), (0, bench.now.plus(10_000)));
    assert!(bench.receive("q", 10).is_empty());
    bench.wait(9_999);
    assert!(bench.receive("q", 10).is_empty());
    bench.wait(1);
    let second = bench.receive("q", 10).remove(0);
    assert_eq!((second.delivery_count, second.sequence), (1, first.sequence));
    assert_ne!(second.token, first.token);
    assert_eq!(bench.settle("q", &first, Settlement::Complete), Err(SettleError::LockLost));
    // Renewing starts the duration anew.
    bench.wait(6_000);
    let place = bench.place("q");
    let until = bench.broker.renew(bench.now, place, &[second.token]).unwrap();
    assert_eq!(until, [bench.now.plus(10_000)]);
    assert_eq!(
        bench.broker.renew(bench.now, place, &[second.token, first.token]),
        Err(SettleError::LockLost)
    );
    bench.wait(9_999);
    assert_eq!(bench.settle("q", &second, Settlement::Complete), Ok(()));
    assert_eq!(bench.settle("q", &second, Settlement::Complete), Err(SettleError::LockLost));
    assert!(bench.ids("q").is_empty());
}

#[test]
fn the_last_permitted_failure_dead_letters() {
    let mut bench = Bench::new();
    bench.send("q", message("a"));
    for count in 0..3 {
        let delivery = bench.receive("q", 1).remove(0);
        assert_eq!(delivery.delivery_count, count);
        if count == 1 {
            bench.wait(10_000);
        } else {
            bench.settle("q", &delivery, abandon()).unwrap();
        }
    }
    assert!(bench.receive("q", 1).is_empty());
    let dead = bench.receive("q/$DeadLetterQueue", 1).remove(0);
    assert_eq!(Bench::reason(&dead).as_deref(), Some("MaxDeliveryCountExceeded"));
    assert_eq!((dead.delivery_count, dead.original_sequence), (3, 1));
    // There is no limit, no expiry and no nesting in a dead-letter queue.
    for _ in 0..20 {
        bench.wait(10_000_000);
        let dead = bench.receive("q/$DeadLetterQueue", 1).remove(0);
        let again = Settlement::dead_letter(None, None, Vec::new());
        assert_eq!(bench.settle("q/$DeadLetterQueue", &dead, again), Err(SettleError::AlreadyDead));
        bench.settle("q/$DeadLetterQueue", &dead, abandon()).unwrap();
    }
}

#[test]
fn outcomes_change_properties_and_counts_as_documented() {
    let mut bench = Bench::new();
    bench.send("q", with("a", &[("n", Value::Int(1))]));
    let changes = vec![(Value::symbol("n"), Value::Int(2))];
    let first = bench.receive("q", 1).remove(0);
    bench.settle("q", &first, Settlement::Release).unwrap();
    let second = bench.receive("q", 1).remove(0);
    assert_eq!(second.delivery_count, 0, "a released message was not tried");
    bench.settle("q", &second, Settlement::Defer { changes }).unwrap();
    assert!(bench.receive("q", 1).is_empty());
    let place = bench.place("q");
    let get = |bench: &mut Bench| {
        bench.broker.receive_deferred(bench.now, place, &[1], ReceiveMode::PeekLock, None)
    };
    let deferred = get(&mut bench).unwrap().remove(0);
    assert_eq!(deferred.delivery_count, 1);
    assert_eq!(deferred.message.application_properties(), [(Value::string("n"), Value::Int(2))]);
    assert!(get(&mut bench).is_none(), "it is locked");
    // A deferred message goes back to being deferred.
    bench.wait(10_000);
    assert!(bench.receive("q", 1).is_empty());
    let again = get(&mut bench).unwrap().remove(0);
    assert_eq!(again.delivery_count, 2);
    let dead = Settlement::dead_letter(Some("R"), Some(&"d".repeat(5_000)), Vec::new());
    bench.settle("q", &again, dead).unwrap();
    let dead = bench.receive("q/$DeadLetterQueue", 1).remove(0);
    assert_eq!(Bench::reason(&dead).as_deref(), Some("R"));
    let properties = dead.message.application_properties();
    let text = crate::amqp::value::get(&properties, "DeadLetterErrorDescription").unwrap();
    assert_eq!(text.as_text().unwrap().len(), 4_096);
    assert_eq!(dead.delivery_count, 2);
}

#[test]
fn lives_end_when_nobody_holds_the_message() {
    let mut bench = Bench::new();
    let short = || {
        let mut short = message("short");
        short.header.ttl = Some(1_000);
        short
    };
    bench.send("q", short());
    bench.send("drop", message("default"));
    assert_eq!(bench.broker.next_deadline(), bench.now.plus(1_000));
    bench.wait(999);
    assert_eq!(bench.ids("q"), ["short"]);
    bench.wait(1);
    let dead = bench.receive("q/$DeadLetterQueue", 1).remove(0);
    assert_eq!(Bench::reason(&dead).as_deref(), Some("TTLExpiredException"));
    bench.wait(3_999);
    assert_eq!(bench.ids("drop"), ["default"]);
    bench.wait(1);
    assert!(bench.ids("drop").is_empty() && bench.ids("drop/$DeadLetterQueue").is_empty());
    // Under a lock life goes on; it ends with the lock.
    bench.send("q", short());
    let held = bench.receive("q", 1).remove(0);
    bench.wait(5_000);
    assert_eq!(bench.ids("q").len(), 1);
    bench.settle("q", &held, abandon()).unwrap();
    assert!(bench.ids("q").is_empty());
    // A time to live of zero is over at once, and a waiting receiver does not see the message.
    let receiver = bench.receiver("q", 1);
    let mut dead_on_arrival = message("zero");
    dead_on_arrival.header.ttl = Some(0);
    bench.send("drop", dead_on_arrival);
    bench.wait(0);
    assert!(bench.ids("drop").is_empty());
    assert!(bench.fetch(receiver).is_empty());
}

#[test]
fn scheduled_messages_appear_in_time_and_can_be_taken_back() {
    let mut bench = Bench::new();
    let later = |id: &str, at: Timestamp| {
        let mut later = message(id);
        later.scheduled_for = Some(at);
        later
    };
    let (due, q, t) = (bench.now.plus(5_000), bench.entity("q"), bench.entity("t"));
    let one = later("one", due);
    let numbers = bench.broker.schedule(bench.now, q, vec![one, later("two", due)]).unwrap();
    assert_eq!(numbers, [1, 2]);
    bench.broker.publish(bench.now, t, vec![later("topic", due)]).unwrap();
    bench.send("q", later("past", bench.now.plus(-1)));
    assert_eq!(bench.receive("q", 9).len(), 1, "a time in the past is now");
    assert_eq!(bench.broker.status(bench.now, 0, 0).topics[0].scheduled, 1);
    assert!(!bench.broker.cancel(bench.now, q, &[1, 3]), "all or nothing");
    assert!(bench.broker.cancel(bench.now, q, &[1]));
    let receiver = bench.receiver("q", 5);
    bench.wait(4_999);
    assert!(bench.fetch(receiver).is_empty());
    assert!(bench.ids("t/Subscriptions/all").is_empty());
    bench.wait(1);
    let arrived = bench.fetch(receiver).remove(0);
    assert_eq!((arrived.message.id(), arrived.original_sequence), ("two", 2));
    assert!(arrived.sequence > 3);
    assert_eq!(arrived.enqueued_at, due);
    assert_eq!(bench.ids("t/Subscriptions/all"), ["topic"]);
    assert!(!bench.broker.cancel(bench.now, q, &[2]), "too late");
}

#[test]
fn duplicates_are_dropped_within_the_window_batches_included() {
    let mut bench = Bench::new();
    let once = bench.entity("once");
    bench.broker.publish(bench.now, once, vec![message("a"), message("a"), message("b")]).unwrap();
    assert_eq!(bench.ids("once"), ["a", "b"]);
    let mut keyed = message("a");
    keyed.partition_key = Some("k".into());
    bench.send("once", keyed);
    assert_eq!(bench.ids("once").len(), 3, "another partition key, another message");
    bench.wait(19_999);
    bench.send("once", message("a"));
    assert_eq!(bench.ids("once").len(), 3);
    // The window counts from the first, not from the last that was dropped.
    bench.wait(1);
    bench.send("once", message("a"));
    assert_eq!(bench.ids("once").len(), 4);
    // Messages without an id are never duplicates of each other.
    for _ in 0..2 {
        bench.send("once", Message::parse(&encoded(None, &[], b"")).unwrap());
    }
    assert_eq!(bench.ids("once").len(), 6);
}

#[test]
fn rules_copy_change_and_fail() {
    let mut bench = Bench::new();
    let amount = |n, by| vec![("amount", Value::Int(n)), ("divisor", Value::Int(by))];
    bench.send("t", with("passes", &amount(6, 2)));
    bench.send("t", with("fails", &amount(6, 6)));
    let mut elsewhere = amount(6, 2);
    elsewhere.push(("target", Value::string("other")));
    bench.send("t", with("elsewhere", &elsewhere));
    bench.send("t", with("error", &amount(1, 0)));
    bench.send("t", with("marked", &[("mark", Value::Int(1))]));
    assert_eq!(
        bench.ids("t/Subscriptions/all"),
        ["passes", "fails", "elsewhere", "error", "marked"]
    );
    assert_eq!(bench.ids("t/Subscriptions/billing"), ["passes"]);
    let dead = bench.receive("t/Subscriptions/billing/$DeadLetterQueue", 1).remove(0);
    assert_eq!(Bench::reason(&dead).as_deref(), Some("FilterEvaluationException"));
    // Each rule with an action makes a copy of its own.
    let copies = bench.receive("t/Subscriptions/marked", 9);
    let properties: Vec<_> =
        copies.iter().map(|copy| copy.message.application_properties()).collect();
    assert_eq!(
        properties,
        [
            vec![
                (Value::string("seen"), Value::Long(2)),
                (Value::string("RuleName"), Value::string("a")),
            ],
            vec![
                (Value::string("mark"), Value::Int(1)),
                (Value::string("RuleName"), Value::string("b")),
            ],
        ]
    );
    assert_eq!(copies[1].message.property_fields()[3], Value::string("b"));
    assert_eq!(copies[0].original_sequence, copies[1].original_sequence);
}

#[test]
fn rules_can_be_changed_while_running() {
    let mut bench = Bench::new();
    let all = bench.place("t/Subscriptions/all");
    bench.broker.remove_rule(bench.now, all, "$default").unwrap();
    assert_eq!(
        bench.broker.remove_rule(bench.now, all, "$Default"),
        Err(RuleError::NotFound("$Default".into()))
    );
    bench.send("t", message("nobody"));
    let rule = Rule { name: "late".into(), ..Rule::default_rule() };
    bench.broker.add_rule(bench.now, all, rule.clone()).unwrap();
    assert_eq!(bench.broker.add_rule(bench.now, all, rule), Err(RuleError::Exists("late".into())));
    bench.send("t", message("one"));
    assert_eq!(bench.ids("t/Subscriptions/all"), ["one"]);
}

#[test]
fn credit_is_served_in_the_order_it_came() {
    let mut bench = Bench::new();
    let (first, second) = (bench.receiver("q", 2), bench.receiver("q", 2));
    // More credit does not cost a receiver its place.
    bench.broker.grant(bench.now, first, 2);
    for id in ["a", "b", "c"] {
        bench.send("q", message(id));
    }
    assert_eq!(bench.broker.woken().collect::<Vec<_>>(), [ConnectionId(1)]);
    assert_eq!(bench.broker.ready(ConnectionId(1)), [first, second]);
    let ids = |deliveries: Vec<Delivery>| {
        deliveries.iter().map(|delivery| delivery.message.id().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(ids(bench.fetch(first)), ["a", "b"]);
    // What was assigned but not fetched is not lost with its receiver, nor counted as tried.
    bench.broker.close_receiver(bench.now, second);
    let third = bench.receiver("q", 5);
    let fetched = bench.fetch(third);
    assert_eq!(fetched[0].delivery_count, 0);
    assert_eq!(ids(fetched), ["c"]);
    // Credit that was taken back is not used.
    bench.broker.grant(bench.now, third, 0);
    bench.send("q", message("d"));
    assert!(bench.fetch(third).is_empty());
    bench.broker.grant(bench.now, third, 5);
    assert_eq!(ids(bench.broker.fetch(bench.now, third, 0).0.into()), Vec::<String>::new());
    assert_eq!(ids(bench.receive("q", 1)), ["d"], "fetched beyond its credit: released");
}

#[test]
fn receive_and_delete_takes_what_it_fetches() {
    let mut bench = Bench::new();
    let place = bench.place("q");
    let connection = ConnectionId(1);
    let id = bench.broker.open_receiver(connection, place, ReceiveMode::ReceiveAndDelete);
    bench.broker.grant(bench.now, id, 1);
    for name in ["a", "b"] {
        bench.send("q", message(name));
    }
    assert_eq!(bench.ids("q"), ["a", "b"], "assigned, not yet fetched");
    assert_eq!(bench.fetch(id).len(), 1);
    assert_eq!(bench.ids("q"), ["b"]);
}

#[test]
fn full_entities_and_wrong_ends_refuse() {
    let mut bench = Bench::new();
    let small = bench.entity("small");
    let large = || Message::parse(&encoded(None, &[], &vec![0; 400_000])).unwrap();
    bench.broker.publish(bench.now, small, vec![large(), large()]).unwrap();
    let full = bench.broker.publish(bench.now, small, vec![message("x"), large()]);
    assert!(matches!(full, Err(PublishError::Full { max_bytes: 1_048_576, .. })), "{full:?}");
    assert_eq!(bench.ids("small").len(), 2, "none of a refused batch is stored");
    let delivery = bench.receive("small", 1).remove(0);
    bench.settle("small", &delivery, Settlement::Complete).unwrap();
    bench.broker.publish(bench.now, small, vec![large()]).unwrap();
    for path in ["t/Subscriptions/all", "q/$DeadLetterQueue"] {
        let to = bench.entity(path);
        let refused = bench.broker.publish(bench.now, to, vec![message("x")]);
        assert_eq!(refused, Err(PublishError::NotAllowed));
    }
}

#[test]
fn bulk_deletion_spares_what_is_locked_or_newer() {
    let mut bench = Bench::new();
    for id in ["held", "old", "older"] {
        bench.send("q", message(id));
    }
    bench.receive("q", 1);
    let until = bench.now;
    bench.wait(10);
    bench.send("q", message("new"));
    let place = bench.place("q");
    assert_eq!(bench.broker.delete_batch(bench.now, place, 9, until), 2);
    assert_eq!(bench.ids("q"), ["held", "new"]);
}

#[test]
fn a_clock_that_steps_back_changes_nothing() {
    let mut bench = Bench::new();
    bench.send("q", message("a"));
    let held = bench.receive("q", 1).remove(0);
    bench.wait(5_000);
    bench.now = bench.now.plus(-4_000_000);
    bench.broker.advance(bench.now);
    bench.settle("q", &held, Settlement::Complete).unwrap();
}
