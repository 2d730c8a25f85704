//! Rules of the store, each shown on a clock that only the test moves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use super::*;

/// A log that keeps what it is given, and can be told to refuse.
#[derive(Clone, Default)]
struct Kept {
    commits: Arc<Mutex<Vec<Commit>>>,
    refuses: Arc<Mutex<bool>>,
}

impl CommitLog for Kept {
    fn append(&mut self, commit: &Commit) -> Result<(), LogError> {
        if *self.refuses.lock().unwrap() {
            return Err(LogError("full".to_owned()));
        }
        self.commits.lock().unwrap().push(commit.clone());
        Ok(())
    }
}

const Q: &str = "queue";
const DAY_MS: u64 = 24 * 60 * 60 * 1000;

fn store() -> Store {
    let mut store = Store::new(7, 0, Box::new(Volatile));
    store.create_queue(Q, Metadata::new(), 0).unwrap();
    store
}

fn held(message: &Message) -> (Uuid, Receipt) {
    (message.id, message.receipt)
}

fn texts(messages: &[Message]) -> Vec<&str> {
    messages.iter().map(|message| &*message.text).collect()
}

#[test]
fn a_taken_message_is_invisible_until_its_timeout_and_then_counts_again() {
    let mut store = store();
    for text in ["a", "b", "c"] {
        store.put(Q, text, 0, None, 1_000).unwrap();
    }
    let first = store.take(Q, 2, 30, 1_000).unwrap();
    assert_eq!(texts(&first), ["a", "b"]);
    assert_ne!(first[0].receipt, first[1].receipt);
    assert_eq!(texts(&store.take(Q, 32, 30, 1_001).unwrap()), ["c"]);
    assert!(store.take(Q, 32, 30, 30_999).unwrap().is_empty());
    let again = store.take(Q, 1, 30, 31_000).unwrap();
    assert_eq!((texts(&again), again[0].dequeue_count), (vec!["a"], 2));
    assert_eq!(store.delete(Q, held(&first[0]), 31_000), Err(StoreError::PopReceiptMismatch));
    assert_eq!(store.delete(Q, held(&first[1]), 31_000), Ok(()), "nobody took it since");
    assert_eq!(store.delete(Q, held(&again[0]), 31_000), Ok(()));
    assert_eq!(store.delete(Q, held(&again[0]), 31_000), Err(StoreError::MessageNotFound));
    assert_eq!(store.queue(Q, 31_000).unwrap().approximate_count(31_000), 1);
}

#[test]
fn whoever_waits_longest_is_taken_first() {
    let mut store = store();
    store.put(Q, "later", 10, None, 0).unwrap();
    store.put(Q, "first", 0, None, 1).unwrap();
    store.put(Q, "second", 0, None, 1).unwrap();
    assert_eq!(texts(&store.take(Q, 32, 1, 2).unwrap()), ["first", "second"]);
    assert_eq!(texts(&store.take(Q, 32, 1, 20_000).unwrap()), ["first", "second", "later"]);
}

#[test]
fn an_update_gives_a_new_receipt_and_the_old_one_stops_counting() {
    let mut store = store();
    let put = store.put(Q, "old", 0, None, 0).unwrap();
    let updated = store.update(Q, held(&put), 5, Some("new"), 0).unwrap();
    assert_eq!(store.update(Q, held(&put), 0, None, 0), Err(StoreError::PopReceiptMismatch));
    assert!(store.take(Q, 1, 1, 4_999).unwrap().is_empty());
    let shown = store.update(Q, held(&updated), 0, None, 4_999).unwrap();
    assert_eq!((&*shown.text, shown.dequeue_count), ("new", 0));
    assert_eq!(texts(&store.take(Q, 1, 1, 4_999).unwrap()), ["new"]);
}

#[test]
fn a_message_ends_with_its_time_to_live_whoever_holds_it() {
    let mut store = store();
    let message = store.put(Q, "x", 0, Some(10), 0).unwrap();
    assert_eq!(store.put(Q, "x", 10, Some(10), 0), Err(StoreError::VisibilityBeyondExpiry));
    assert_eq!(
        store.update(Q, held(&message), 11, None, 0),
        Err(StoreError::VisibilityBeyondExpiry)
    );
    let taken = store.take(Q, 1, 60, 9_999).unwrap();
    assert_eq!(store.delete(Q, held(&taken[0]), 10_000), Err(StoreError::MessageNotFound));
    let queue = store.queue(Q, 10_000).unwrap();
    assert_eq!((queue.approximate_count(9_999), queue.approximate_count(10_000)), (1, 0));
    assert!(store.sweep(10_000));
    assert!(!store.sweep(10_000));
    store.put(Q, "for ever", 0, None, 10_000).unwrap();
    assert_eq!(store.queue(Q, 0).unwrap().visible(10_000 * DAY_MS).count(), 1);
}

#[test]
fn a_queue_is_created_once_and_its_name_rests_after_deletion() {
    let mut store = Store::new(1, 30_000, Box::new(Volatile));
    let metadata = Metadata::from([("a".to_owned(), "1".to_owned())]);
    assert_eq!(store.create_queue(Q, metadata.clone(), 0), Ok(Creation::Created));
    assert_eq!(store.create_queue(Q, metadata.clone(), 0), Ok(Creation::Unchanged));
    assert_eq!(store.create_queue(Q, Metadata::new(), 0), Err(StoreError::QueueAlreadyExists));
    store.put(Q, "gone", 0, None, 0).unwrap();
    store.drop_queue(Q, 0).unwrap();
    assert_eq!(store.put(Q, "x", 0, None, 1), Err(StoreError::QueueBeingDeleted));
    assert_eq!(store.create_queue(Q, Metadata::new(), 29_999), Err(StoreError::QueueBeingDeleted));
    assert_eq!(store.put(Q, "x", 0, None, 30_000), Err(StoreError::QueueNotFound));
    assert_eq!(store.create_queue(Q, Metadata::new(), 30_000), Ok(Creation::Created));
    assert_eq!(store.queue(Q, 30_000).unwrap().approximate_count(30_000), 0);
}

#[test]
fn listings_go_on_where_they_stopped() {
    let mut store = Store::new(1, 0, Box::new(Volatile));
    for name in ["beta", "alpha-1", "alpha-2", "alpha-3", "gamma"] {
        store.create_queue(name, Metadata::new(), 0).unwrap();
    }
    let names = |prefix: &str, marker: &str, limit| {
        let (page, next) = store.list(prefix, marker, limit);
        let names = page.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(" ");
        (names, next.unwrap_or_default().to_owned())
    };
    let answer = |names: &str, next: &str| (names.to_owned(), next.to_owned());
    assert_eq!(names("alpha", "", 2), answer("alpha-1 alpha-2", "alpha-3"));
    assert_eq!(names("alpha", "alpha-3", 2), answer("alpha-3", ""));
    assert_eq!(names("", "", 9), answer("alpha-1 alpha-2 alpha-3 beta gamma", ""));
    assert_eq!(names("b", "c", 9), answer("", ""));
}

#[test]
fn what_the_log_refuses_did_not_happen() {
    let log = Kept::default();
    let mut store = Store::new(1, 0, Box::new(log.clone()));
    store.create_queue(Q, Metadata::new(), 0).unwrap();
    let message = store.put(Q, "x", 0, Some(1), 0).unwrap();
    *log.refuses.lock().unwrap() = true;
    let refused = Err(StoreError::LogUnavailable);
    assert_eq!(store.put(Q, "y", 0, None, 0), refused);
    assert_eq!(store.take(Q, 1, 1, 0), Err(StoreError::LogUnavailable));
    assert_eq!(store.delete(Q, held(&message), 0), Err(StoreError::LogUnavailable));
    assert!(!store.sweep(5_000), "a log that refuses must not keep the sweeper running");
    *log.refuses.lock().unwrap() = false;
    assert_eq!(store.take(Q, 9, 1, 0).unwrap()[0].dequeue_count, 1);
    assert!(store.sweep(5_000));
}

/// What a client may do next. Indexes choose among what the test has seen so far.
#[derive(Debug, Clone)]
enum Step {
    Put { visibility: u64, ttl: Option<u64> },
    Take { limit: usize, visibility: u64 },
    Update { receipt: usize, visibility: u64 },
    Delete { receipt: usize },
    Wait { ms: u64 },
    Sweep,
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (0..4_u64, prop::option::of(1..8_u64))
            .prop_map(|(visibility, ttl)| Step::Put { visibility, ttl }),
        4 => (1..4_usize, 1..5_u64)
            .prop_map(|(limit, visibility)| Step::Take { limit, visibility }),
        2 => (0..64_usize, 0..5_u64)
            .prop_map(|(receipt, visibility)| Step::Update { receipt, visibility }),
        3 => (0..64_usize).prop_map(|receipt| Step::Delete { receipt }),
        3 => (0..3_000_u64).prop_map(|ms| Step::Wait { ms }),
        1 => Just(Step::Sweep),
        1 => Just(Step::Clear),
    ];
    prop::collection::vec(step, 0..80)
}

/// What a test knows about a message without looking into the store.
#[derive(Debug, Clone, Copy)]
struct Known {
    expires_at_ms: u64,
    visible_at_ms: u64,
    receipt: Receipt,
    dequeue_count: u64,
    removed: bool,
}

proptest! {
    /// A plain model goes along with the store: every message that was put is exactly one of
    /// visible, invisible, removed and expired, in both, and only the latest receipt ever works.
    #[test]
    fn no_message_is_lost_doubled_or_deleted_by_a_stale_receipt(steps in steps()) {
        let log = Kept::default();
        let mut store = Store::new(3, 0, Box::new(log.clone()));
        store.create_queue(Q, Metadata::new(), 0).unwrap();
        let mut known: BTreeMap<Uuid, Known> = BTreeMap::new();
        let mut receipts: Vec<(Uuid, Receipt)> = Vec::new();
        let mut now_ms = 0;
        for step in steps {
            match step {
                Step::Put { visibility, ttl } => {
                    let put = store.put(Q, "x", visibility, ttl, now_ms);
                    prop_assert_eq!(put.is_err(), ttl.is_some_and(|ttl| visibility >= ttl));
                    if let Ok(message) = put {
                        receipts.push(held(&message));
                        let earlier = known.insert(message.id, Known {
                            expires_at_ms: ttl.map_or(u64::MAX, |ttl| now_ms + ttl * 1000),
                            visible_at_ms: now_ms + visibility * 1000,
                            receipt: message.receipt,
                            dequeue_count: 0,
                            removed: false,
                        });
                        prop_assert!(earlier.is_none(), "an id came back");
                    }
                }
                Step::Take { limit, visibility } => {
                    let ready = known.values().filter(|m| is_ready(m, now_ms)).count();
                    let taken = store.take(Q, limit, visibility, now_ms).unwrap();
                    prop_assert_eq!(taken.len(), ready.min(limit));
                    for message in taken {
                        let model = known.get_mut(&message.id).unwrap();
                        prop_assert!(is_ready(model, now_ms), "handed out while invisible");
                        model.dequeue_count += 1;
                        prop_assert_eq!(message.dequeue_count, model.dequeue_count);
                        prop_assert!(!receipts.contains(&held(&message)), "a receipt came back");
                        model.receipt = message.receipt;
                        model.visible_at_ms = now_ms + visibility * 1000;
                        receipts.push(held(&message));
                    }
                }
                Step::Update { receipt, visibility } if !receipts.is_empty() => {
                    let held_now = receipts[receipt % receipts.len()];
                    let model = known.get_mut(&held_now.0).unwrap();
                    let until = now_ms + visibility * 1000;
                    let answer = store.update(Q, held_now, visibility, None, now_ms);
                    let too_late = until > model.expires_at_ms;
                    let works = match expected(model, held_now.1, now_ms) {
                        Ok(()) if too_late => Err(StoreError::VisibilityBeyondExpiry),
                        works => works,
                    };
                    prop_assert_eq!(answer.as_ref().map(|_| ()).map_err(Clone::clone), works);
                    if let Ok(message) = answer {
                        model.receipt = message.receipt;
                        model.visible_at_ms = until;
                        receipts.push(held(&message));
                    }
                }
                Step::Delete { receipt } if !receipts.is_empty() => {
                    let held_now = receipts[receipt % receipts.len()];
                    let model = known.get_mut(&held_now.0).unwrap();
                    let works = expected(model, held_now.1, now_ms);
                    prop_assert_eq!(store.delete(Q, held_now, now_ms), works.clone());
                    model.removed |= works.is_ok();
                }
                Step::Update { .. } | Step::Delete { .. } => {}
                Step::Wait { ms } => now_ms += ms,
                Step::Sweep => while store.sweep(now_ms) {},
                Step::Clear => {
                    store.clear(Q, now_ms).unwrap();
                    known.values_mut().for_each(|model| model.removed = true);
                }
            }
            let queue = store.queue(Q, now_ms).unwrap();
            let visible: BTreeSet<Uuid> = queue.visible(now_ms).map(|m| m.id).collect();
            let there: BTreeSet<Uuid> = queue.messages(now_ms).map(|m| m.id).collect();
            let of = |wanted: &dyn Fn(&Known) -> bool| {
                known.iter().filter(|(_, m)| wanted(m)).map(|(id, _)| *id).collect()
            };
            let expected_there: BTreeSet<Uuid> =
                of(&|m| !m.removed && m.expires_at_ms > now_ms);
            let expected_visible: BTreeSet<Uuid> = of(&|m| is_ready(m, now_ms));
            prop_assert_eq!(queue.approximate_count(now_ms), there.len());
            prop_assert_eq!(there, expected_there);
            prop_assert_eq!(visible, expected_visible);
        }
        let mut replayed = Store::new(3, 0, Box::new(Volatile));
        for commit in log.commits.lock().unwrap().iter() {
            prop_assert_eq!(commit.sequence, replayed.sequence() + 1);
            replayed.replay(commit.clone());
        }
        prop_assert_eq!(replayed.sequence(), store.sequence());
        prop_assert_eq!(replayed.queue(Q, now_ms), store.queue(Q, now_ms));
        let mut restored = Store::new(3, 0, Box::new(Volatile));
        for record in store.snapshot() {
            let kept = serde_json::to_vec(&record).unwrap();
            restored.restore(serde_json::from_slice(&kept).unwrap());
        }
        prop_assert_eq!(restored.sequence(), store.sequence());
        prop_assert_eq!(restored.queue(Q, now_ms), store.queue(Q, now_ms));
        let commits = log.commits.lock().unwrap().clone();
        for commit in commits {
            let kept = serde_json::to_vec(&Record::Commit(commit.clone())).unwrap();
            prop_assert_eq!(serde_json::from_slice::<Record>(&kept).unwrap(), Record::Commit(commit));
        }
        let (one, other) = (store.put(Q, "x", 0, None, now_ms), replayed.put(Q, "x", 0, None, now_ms));
        prop_assert_eq!(&one, &other);
        prop_assert_eq!(one, restored.put(Q, "x", 0, None, now_ms));
    }
}

fn is_ready(model: &Known, now_ms: u64) -> bool {
    !model.removed && model.expires_at_ms > now_ms && model.visible_at_ms <= now_ms
}

fn expected(model: &Known, receipt: Receipt, now_ms: u64) -> Result<(), StoreError> {
    if model.removed || model.expires_at_ms <= now_ms {
        Err(StoreError::MessageNotFound)
    } else if model.receipt != receipt {
        Err(StoreError::PopReceiptMismatch)
    } else {
        Ok(())
    }
}
