//! A broker over a journal on a real disk, with room in memory for a few messages only.

use std::path::PathBuf;
use std::sync::Mutex;

use proptest::prelude::*;

use super::*;
use crate::amqp::Value;
use crate::broker::{
    ConnectionId, Delivery, Entity, ReceiveMode, Rule, Settlement, Timestamp, normalise,
};
use crate::filter::{Action, Correlation, Filter, Scalar, SqlFilter};
use crate::message::Message;
use crate::message::tests::encoded;
use crate::topology::Definition;

const NAMESPACE: &str = r#"{
    "queues": [{"name": "q", "lockDuration": "PT10S"}, {"name": "s", "requiresSession": true}],
    "topics": [{"name": "t", "subscriptions": [{"name": "a"},
        {"name": "b", "rules": [{"name": "r", "sqlExpression": "n > 3"}]}]}]
}"#;

/// Room for three of the messages below.
const MEMORY_BYTES: u64 = 4_000;

const BODY_BYTES: usize = 1_000;

struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// One life of the process.
struct Life {
    broker: Mutex<Broker>,
    log: Arc<Log>,
    recovered: Recovered,
}

impl Life {
    fn begin(scratch: &Scratch, namespace: &str) -> Life {
        let namespace = serde_json::from_str(namespace).unwrap();
        let how = journal::Options { fsync: false, segment_bytes: 20_000 };
        let seed = uuid::Uuid::new_v4().as_u64_pair().0;
        let (broker, log, recovered) =
            recover(&namespace, &scratch.0, how, MEMORY_BYTES, seed).unwrap();
        Life { broker: Mutex::new(broker), log, recovered }
    }

    fn with<R>(&self, command: impl FnOnce(&mut Broker) -> R) -> R {
        let mut broker = self.broker.lock().unwrap();
        let result = command(&mut broker);
        let position = broker.seal();
        self.log.wait_blocking(position).unwrap();
        result
    }

    fn compact(&self) {
        compact(&self.log, &|command| command(&mut self.broker.lock().unwrap())).unwrap();
    }

    fn entity(&self, path: &str) -> Entity {
        self.broker.lock().unwrap().resolve(&normalise(path)).unwrap()
    }

    fn send(&self, path: &str, n: u32) {
        let to = self.entity(path);
        let message = numbered(n);
        self.with(|broker| broker.publish(NOW, to, vec![message])).unwrap();
    }

    fn receive(&self, path: &str, max: u32) -> Vec<Delivery> {
        let entity = self.entity(path);
        self.with(|broker| {
            let place = broker.place(entity);
            let id = broker.open_receiver(ConnectionId(1), place, ReceiveMode::PeekLock);
            broker.grant(NOW, id, max);
            let fetched = broker.fetch(NOW, id, max).0.into();
            broker.close_receiver(NOW, id);
            fetched
        })
    }

    fn settle(&self, path: &str, delivery: &Delivery, how: Settlement) {
        let entity = self.entity(path);
        self.with(|broker| {
            let place = broker.place(entity);
            broker.settle(NOW, place, delivery.token, how)
        })
        .unwrap();
    }

    /// What is in a place, in whatever state.
    fn peek(&self, path: &str) -> Vec<(i64, u32, Arc<Message>)> {
        let entity = self.entity(path);
        let peeked = self.with(|broker| {
            let place = broker.place(entity);
            broker.peek(NOW, place, 0, 10_000, None)
        });
        let seen =
            |delivery: Delivery| (delivery.sequence, delivery.delivery_count, delivery.message);
        peeked.into_iter().map(seen).collect()
    }
}

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn numbered(n: u32) -> Message {
    let body: Vec<u8> = n.to_le_bytes().into_iter().cycle().take(BODY_BYTES).collect();
    let user = [("n", Value::Uint(n))];
    Message::parse(&encoded(Some(&format!("m{n}")), &user, &body)).unwrap()
}

fn scratch() -> Scratch {
    Scratch(std::env::temp_dir().join(format!("bus-storage-{}", uuid::Uuid::new_v4())))
}

#[test]
fn a_backlog_stays_on_disk_and_comes_back_byte_for_byte() {
    let scratch = scratch();
    let mut life = Life::begin(&scratch, NAMESPACE);
    for n in 0..200 {
        life.send("q", n);
    }
    for round in 0..4 {
        let bytes = life.broker.lock().unwrap().memory_bytes();
        assert!(bytes <= MEMORY_BYTES + 1_200, "{bytes} bytes in memory");
        if round == 1 {
            life.compact();
        }
        if round == 2 {
            drop(life);
            life = Life::begin(&scratch, NAMESPACE);
            assert_eq!(life.recovered.messages, 160);
        }
        for delivery in life.receive("q", 20) {
            let n = u32::try_from(delivery.sequence - 1).unwrap();
            let expected = numbered(n);
            assert_eq!(delivery.message.bare(), expected.bare());
            life.settle("q", &delivery, Settlement::Complete);
        }
    }
    assert_eq!(life.peek("q").len(), 120);
    assert_eq!(life.peek("q")[0].0, 81);
}

#[test]
fn what_was_created_and_changed_at_run_time_is_there_again() {
    let scratch = scratch();
    let life = Life::begin(&scratch, NAMESPACE);
    let created: Definition =
        serde_json::from_str(r#"{"queue": {"name": "later", "maxDeliveryCount": 7}}"#).unwrap();
    let subscription: Definition =
        serde_json::from_str(r#"{"subscription": {"topic": "t", "subscription": {"name": "c"}}}"#)
            .unwrap();
    life.with(|broker| broker.create(NOW, created)).unwrap();
    life.with(|broker| broker.create(NOW, subscription)).unwrap();
    let rule = |name: &str, filter, action| Rule {
        name: name.to_owned(),
        filter,
        action,
        created_at: NOW,
    };
    let correlation = Filter::Correlation(Correlation {
        system: vec![("Label", "x".to_owned())],
        user: vec![("n".to_owned(), Scalar::Int(5)), ("f".to_owned(), Scalar::Float(0.5))],
    });
    let sql = Filter::Sql(SqlFilter::parse("n = 5").unwrap());
    let action = Some(Action::parse("SET seen = n + 1").unwrap());
    let a = life.entity("t/Subscriptions/a");
    let b = life.entity("t/Subscriptions/b");
    life.with(|broker| {
        let (a, b) = (broker.place(a), broker.place(b));
        broker.remove_rule(NOW, a, "$Default").unwrap();
        broker.add_rule(NOW, a, rule("sql", sql, action)).unwrap();
        broker.add_rule(NOW, b, rule("correlation", correlation, None)).unwrap();
    });
    life.send("later", 1);
    life.send("t", 5);
    let seen = |life: &Life| {
        let rules = |path: &str| {
            let entity = life.entity(path);
            life.with(|broker| {
                let place = broker.place(entity);
                broker.rules(place).to_vec()
            })
        };
        (
            ["later", "t/Subscriptions/a", "t/Subscriptions/b", "t/Subscriptions/c"]
                .map(|path| life.peek(path)),
            [rules("t/Subscriptions/a"), rules("t/Subscriptions/b")],
        )
    };
    let before = seen(&life);
    assert_eq!(before.0.each_ref().map(Vec::len), [1, 1, 1, 1]);
    drop(life);
    let life = Life::begin(&scratch, NAMESPACE);
    assert_eq!(seen(&life), before);
    life.compact();
    drop(life);
    let life = Life::begin(&scratch, NAMESPACE);
    assert_eq!(seen(&life), before);
    // Nobody declares the queue any more; what was in it is passed over and said.
    life.send("q", 9);
    drop(life);
    let life = Life::begin(&scratch, r#"{"queues": [{"name": "other"}]}"#);
    let undeclared = &life.recovered.undeclared;
    assert!(undeclared.contains(&("q".to_owned(), 1)), "{undeclared:?}");
    assert_eq!(life.peek("later").len(), 1);
}

#[test]
fn deferred_messages_stay_deferred() {
    let scratch = scratch();
    let mut life = Life::begin(&scratch, NAMESPACE);
    life.send("q", 1);
    for delivery in life.receive("q", 1) {
        life.settle("q", &delivery, Settlement::Defer { changes: Vec::new() });
    }
    // From the journal, then from a snapshot.
    for _ in 0..2 {
        drop(life);
        life = Life::begin(&scratch, NAMESPACE);
        life.compact();
        assert_eq!(life.peek("q").len(), 1);
        assert!(life.receive("q", 1).is_empty());
    }
}

/// How many messages are left of `count` once the byte at each of `places` was damaged and the
/// journal repaired.
fn left_after_damage(count: u32, compacted: bool, at: impl Fn(usize) -> usize) -> usize {
    let scratch = scratch();
    let life = Life::begin(&scratch, NAMESPACE);
    let created: Definition = serde_json::from_str(r#"{"queue": {"name": "late"}}"#).unwrap();
    life.with(|broker| broker.create(Timestamp::from_millis(0), created)).unwrap();
    if compacted {
        life.compact();
    }
    for n in 0..count {
        life.send(if n % 2 == 0 { "q" } else { "late" }, n);
    }
    if compacted {
        life.compact();
    }
    drop(life);
    let files = std::fs::read_dir(&scratch.0).unwrap().map(|file| file.unwrap().path());
    let wanted = if compacted { "snapshot" } else { "log" };
    let mut files: Vec<_> =
        files.filter(|path| path.extension().is_some_and(|kind| kind == wanted)).collect();
    files.sort();
    let mut bytes = std::fs::read(&files[0]).unwrap();
    let at = at(bytes.len());
    bytes[at] ^= 0x10;
    std::fs::write(&files[0], bytes).unwrap();
    let how = journal::Options { fsync: false, segment_bytes: 20_000 };
    let namespace = serde_json::from_str(NAMESPACE).unwrap();
    assert!(recover(&namespace, &scratch.0, how, MEMORY_BYTES, 1).is_err());
    let repaired = journal::repair(&scratch.0).unwrap();
    assert_eq!(repaired.losses.len(), 1);
    let life = Life::begin(&scratch, NAMESPACE);
    life.peek("q").len() + life.peek("late").len()
}

#[test]
fn a_damaged_byte_costs_what_is_around_it_and_no_more() {
    // The declarations of a snapshot, and those of the run in a segment.
    assert_eq!(left_after_damage(200, true, |_| 60), 200);
    assert_eq!(left_after_damage(10, false, |_| 60), 10);
    let left = left_after_damage(400, true, |bytes| bytes / 2);
    assert!((250..400).contains(&left), "{left}");
}

#[test]
fn a_group_that_is_written_in_parts_is_one_group() {
    let scratch = scratch();
    let life = Life::begin(&scratch, NAMESPACE);
    let q = life.entity("q");
    let count = 3 * crate::limits::GROUP_BYTES / BODY_BYTES;
    let messages = (0..u32::try_from(count).unwrap()).map(numbered).collect();
    let before = life.log.durable().borrow().position;
    life.with(|broker| broker.publish(NOW, q, messages)).unwrap();
    assert!(life.log.durable().borrow().position > before + 2);
    drop(life);
    let life = Life::begin(&scratch, NAMESPACE);
    assert_eq!(life.recovered.messages, count);
    for (n, (_, _, message)) in (0..).zip(life.peek("q")) {
        assert_eq!(message.bare(), numbered(n).bare());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Sends, receipts, snapshots and restarts in any order: every message is where it was, with
    /// its count and its bytes.
    #[test]
    fn lives_end_at_any_time(steps in proptest::collection::vec(0..12_u8, 1..80)) {
        let scratch = scratch();
        let mut life = Life::begin(&scratch, NAMESPACE);
        let paths = ["q", "q/$DeadLetterQueue", "t/Subscriptions/a", "t/Subscriptions/b"];
        let mut sent = 0;
        for step in steps {
            match step {
                0..=4 => {
                    life.send(if step < 3 { "q" } else { "t" }, sent);
                    sent += 1;
                }
                5..=8 => {
                    let path = if step == 8 { "t/Subscriptions/a" } else { "q" };
                    for delivery in life.receive(path, 2) {
                        let changes = vec![(Value::symbol("k"), Value::Uint(sent))];
                        let how = match step {
                            5 => Settlement::Complete,
                            6 => Settlement::Abandon { changes },
                            _ => Settlement::dead_letter(Some("R"), None, changes),
                        };
                        life.settle(path, &delivery, how);
                    }
                }
                9 | 10 => life.compact(),
                _ => {
                    let before = paths.map(|path| life.peek(path));
                    drop(life);
                    life = Life::begin(&scratch, NAMESPACE);
                    prop_assert_eq!(paths.map(|path| life.peek(path)), before);
                }
            }
        }
    }
}
