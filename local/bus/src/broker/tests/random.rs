//! Random commands: every index stays true to the messages, and the journal tells the whole story.

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::broker::recovery::Cursor;
use crate::storage::{Group, Replay};

/// One step of a random run. Numbers choose among what exists at the time.
#[derive(Debug, Clone, Copy)]
enum Step {
    Send {
        to: u8,
        id: u8,
        ttl_ms: Option<u16>,
        in_ms: Option<u16>,
    },
    Grant {
        receiver: u8,
        credit: u8,
    },
    Fetch {
        receiver: u8,
        max: u8,
    },
    Settle {
        delivery: u8,
        how: u8,
    },
    Renew {
        delivery: u8,
    },
    Deferred {
        delivery: u8,
        delete: bool,
    },
    Cancel {
        sequence: u8,
    },
    Reopen {
        receiver: u8,
    },
    Wait {
        ms: u16,
    },
    /// Takes the next pieces of a snapshot: a few, so that other steps come in between, or all.
    Capture {
        pieces: u8,
    },
    /// The process dies; the next one starts from the snapshot and the journal.
    Crash,
}

fn step() -> impl Strategy<Value = Step> {
    let ttl = proptest::option::weighted(0.2, 0..20_000_u16);
    prop_oneof![
        6 => (any::<u8>(), 0..30_u8, ttl.clone(), ttl)
            .prop_map(|(to, id, ttl_ms, in_ms)| Step::Send { to, id, ttl_ms, in_ms }),
        4 => (any::<u8>(), 0..4_u8).prop_map(|(receiver, credit)| Step::Grant { receiver, credit }),
        4 => (any::<u8>(), 0..4_u8).prop_map(|(receiver, max)| Step::Fetch { receiver, max }),
        6 => (any::<u8>(), 0..6_u8).prop_map(|(delivery, how)| Step::Settle { delivery, how }),
        1 => any::<u8>().prop_map(|delivery| Step::Renew { delivery }),
        1 => (any::<u8>(), any::<bool>())
            .prop_map(|(delivery, delete)| Step::Deferred { delivery, delete }),
        1 => (0..20_u8).prop_map(|sequence| Step::Cancel { sequence }),
        1 => any::<u8>().prop_map(|receiver| Step::Reopen { receiver }),
        3 => (0..12_000_u16).prop_map(|ms| Step::Wait { ms }),
        3 => (1..120_u8).prop_map(|pieces| Step::Capture { pieces }),
        1 => Just(Step::Crash),
    ]
}

const INLETS: [&str; 6] = ["q", "drop", "once", "t", "s", "ring-a"];
const OUTLETS: [&str; 10] = [
    "s",
    "ring-b/$Transfer/$DeadLetterQueue",
    "q",
    "drop",
    "once",
    "q/$DeadLetterQueue",
    "t/Subscriptions/all",
    "t/Subscriptions/billing",
    "t/Subscriptions/marked",
    "t/Subscriptions/all/$DeadLetterQueue",
];

struct Run {
    bench: Bench,
    receivers: Vec<(&'static str, ReceiverId)>,
    deliveries: Vec<(&'static str, Delivery)>,
    disk: Disk,
    /// A snapshot that is being taken.
    snapshot: Option<(Cursor, Disk)>,
}

/// What a crash leaves: a snapshot, and the records of the journal since it was started.
#[derive(Default)]
struct Disk {
    snapshot: Vec<Vec<u8>>,
    journal_from: usize,
}

/// One group as the journal has it.
fn group(records: &[Record]) -> Vec<u8> {
    let mut group = Group::default();
    records.iter().for_each(|record| group.put(record));
    group.finish(false).to_vec()
}

/// A receiver, for some session where there are sessions.
fn open(bench: &mut Bench, path: &str, credit: u32) -> ReceiverId {
    let place = bench.place(path);
    let (connection, mode) = (ConnectionId(1), ReceiveMode::PeekLock);
    let id = if !bench.broker.has_sessions(place) {
        return bench.receiver(path, credit);
    } else {
        match bench.broker.open_session(bench.now, connection, place, mode, None) {
            SessionOffer::Accepted { receiver, .. } | SessionOffer::Waiting(receiver) => receiver,
            SessionOffer::Taken => unreachable!("no session was named"),
        }
    };
    bench.broker.grant(bench.now, id, credit);
    id
}

impl Run {
    fn new() -> Run {
        let mut bench = Bench::new();
        let receivers = OUTLETS.iter().cycle().take(14);
        let receivers = receivers.map(|path| (*path, open(&mut bench, path, 0))).collect();
        let (deliveries, disk, snapshot) = (Vec::new(), Disk::default(), None);
        Run { bench, receivers, deliveries, disk, snapshot }
    }

    fn capture(&mut self, pieces: u8) {
        let broker = &self.bench.broker;
        let mut records = Vec::new();
        let mut put = |record: &Record| records.push(record.clone());
        let (mut cursor, mut disk) = match self.snapshot.take() {
            Some(started) => started,
            None => {
                let cursor = broker.capture_entities(&mut put);
                let journal_from = self.bench.journal.0.lock().unwrap().len();
                (cursor, Disk { snapshot: vec![group(&records)], journal_from })
            }
        };
        records.clear();
        for _ in 0..pieces {
            if !cursor.is_at_end() {
                broker.capture(&mut cursor, &mut |record| records.push(record.clone()));
            }
        }
        disk.snapshot.push(group(&records));
        match cursor.is_at_end() {
            true => self.disk = disk,
            false => self.snapshot = Some((cursor, disk)),
        }
    }

    /// The broker that a start would make of what is on disk.
    fn restarted(&self) -> Broker {
        let namespace = serde_json::from_str(NAMESPACE).unwrap();
        let seed = self.bench.journal.0.lock().unwrap().len() as u64 + 1_000;
        let mut broker = Broker::new(&namespace, Box::new(NoJournal), seed).unwrap();
        let mut replay = Replay::default();
        for bytes in &self.disk.snapshot {
            replay.group(&mut broker, bytes, None).unwrap();
        }
        let records = self.bench.journal.0.lock().unwrap();
        for record in &records[self.disk.journal_from..] {
            replay.group(&mut broker, &group(std::slice::from_ref(record)), None).unwrap();
        }
        broker
    }

    /// Whether a restart would bring everything back.
    fn compare(&self, broker: &Broker) {
        for (queue, same) in self.bench.broker.queues.iter().zip(&broker.queues) {
            same.check();
            assert_eq!(queue.lasting(), same.lasting(), "{}", queue.path);
            assert_eq!(queue.next_sequence(), same.next_sequence(), "{}", queue.path);
            let known = |queue: &Queue| {
                let window = queue.duplicates.as_ref();
                window.map(|window| window.known_at(self.bench.broker.now))
            };
            assert_eq!(known(queue), known(same), "{}", queue.path);
        }
    }

    fn crash(&mut self) {
        let mut broker = self.restarted();
        self.compare(&broker);
        broker.adopt(Box::new(self.bench.journal.clone()));
        broker.now = self.bench.broker.now;
        self.bench.broker = broker;
        self.snapshot = None;
        for (path, id) in &mut self.receivers {
            *id = open(&mut self.bench, path, 0);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Capture { pieces } => return self.capture(pieces),
            Step::Crash => return self.crash(),
            _ => {}
        }
        let Run { bench, receivers, deliveries, .. } = self;
        let receiver_at = |n: u8| usize::from(n) % receivers.len();
        let delivery = |n: u8| {
            let at = usize::from(n).checked_rem(deliveries.len());
            at.map(|at| deliveries[at].clone())
        };
        match step {
            Step::Send { to, id, ttl_ms, in_ms } => {
                let properties = [
                    ("mark", Value::Int(i32::from(id % 3))),
                    ("amount", Value::Int(i32::from(id))),
                    ("divisor", Value::Int(i32::from(id % 4))),
                ];
                let mut message = with(&format!("m{id}"), &properties);
                message.session_id = Some(format!("s{}", id % 3));
                message.header.ttl = ttl_ms.map(u32::from);
                message.scheduled_for = in_ms.map(|ms| bench.now.plus(i64::from(ms)));
                bench.send(INLETS[usize::from(to) % INLETS.len()], message);
            }
            Step::Grant { receiver, credit } => {
                let (_, id) = receivers[receiver_at(receiver)];
                bench.broker.grant(bench.now, id, u32::from(credit));
            }
            Step::Fetch { receiver, max } => {
                let (path, id) = receivers[receiver_at(receiver)];
                for fetched in bench.broker.fetch(bench.now, id, u32::from(max)).0 {
                    assert!(fetched.locked_until > bench.broker.now);
                    deliveries.push((path, fetched));
                }
            }
            Step::Settle { delivery: n, how } => {
                let Some((path, delivery)) = delivery(n) else { return };
                let changes = vec![(Value::symbol("changed"), Value::Int(i32::from(n)))];
                let how = match how {
                    0 => Settlement::Release,
                    1 => Settlement::Abandon { changes },
                    2 => Settlement::Defer { changes },
                    3 => Settlement::dead_letter(Some("R"), None, changes),
                    _ => Settlement::Complete,
                };
                let _ = bench.settle(path, &delivery, how);
            }
            Step::Renew { delivery: n } => {
                let Some((path, delivery)) = delivery(n) else { return };
                let place = bench.place(path);
                let _ = bench.broker.renew(bench.now, place, &[delivery.token]);
            }
            Step::Deferred { delivery: n, delete } => {
                let Some((path, delivery)) = delivery(n) else { return };
                let place = bench.place(path);
                let mode =
                    if delete { ReceiveMode::ReceiveAndDelete } else { ReceiveMode::PeekLock };
                let numbers = [delivery.sequence];
                let got = bench.broker.receive_deferred(bench.now, place, &numbers, mode, None);
                deliveries.extend(got.into_iter().flatten().map(|delivery| (path, delivery)));
            }
            Step::Cancel { sequence } => {
                let q = bench.entity("q");
                bench.broker.cancel(bench.now, q, &[i64::from(sequence)]);
            }
            Step::Reopen { receiver } => {
                let at = receiver_at(receiver);
                let (path, id) = receivers[at];
                bench.broker.close_receiver(bench.now, id);
                receivers[at] = (path, open(bench, path, 1));
            }
            Step::Wait { ms } => bench.wait(i64::from(ms)),
            Step::Capture { .. } | Step::Crash => {}
        }
    }

    /// What must hold after every step.
    fn check(&self) {
        let broker = &self.bench.broker;
        for queue in &broker.queues {
            queue.check();
            let served = queue.waiting.is_empty() || queue.first_available().is_none();
            assert!(served || queue.sessions.is_some());
            assert!(broker.next_deadline() <= queue.next_deadline());
        }
    }

    /// What the journal as a whole must say.
    fn audit(&self) {
        let records = self.bench.journal.0.lock().unwrap();
        let mut present: HashMap<(QueueId, i64), u32> = HashMap::new();
        let mut last: HashMap<QueueId, i64> = HashMap::new();
        let mut tokens = HashSet::<Uuid>::new();
        let mut moved = Vec::new();
        for record in records.iter() {
            match record {
                Record::Enqueued { queue, sequence, delivery_count, arrival, .. } => {
                    // Numbers are unique and, in a place, in the order of arrival.
                    assert!(last.insert(*queue, *sequence).is_none_or(|last| last < *sequence));
                    assert!(present.insert((*queue, *sequence), *delivery_count).is_none());
                    if *arrival == Arrival::Now
                        && let Some(count) = moved.pop()
                    {
                        assert!(*delivery_count == count || *delivery_count == count + 1);
                    }
                }
                Record::Removed { queue, sequence, removal } => {
                    let count = present.remove(&(*queue, *sequence)).unwrap();
                    // What is dead-lettered arrives in the next record.
                    if *removal == Removal::DeadLettered {
                        moved.push(count);
                    }
                }
                Record::Locked { queue, sequence, token, .. } => {
                    assert!(present.contains_key(&(*queue, *sequence)));
                    assert!(tokens.insert(*token), "a lock token was given twice");
                }
                Record::Unlocked { queue, sequence, delivery_count, .. } => {
                    let count = present.get_mut(&(*queue, *sequence)).unwrap();
                    assert!(*delivery_count == *count || *delivery_count == *count + 1);
                    *count = *delivery_count;
                }
                _ => {}
            }
        }
        assert!(moved.is_empty());
        let left: usize = self.bench.broker.queues.iter().map(|queue| queue.counts().0).sum();
        assert_eq!(left, present.len(), "enqueued = removed + left");

        drop(records);
        self.compare(&self.restarted());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_sequence_of_commands_breaks_the_rules(
        steps in proptest::collection::vec(step(), 1..120)
    ) {
        let mut run = Run::new();
        for step in steps {
            run.step(step);
            run.check();
        }
        run.audit();
    }
}
