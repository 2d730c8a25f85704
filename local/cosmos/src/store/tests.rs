//! The store against simpler ones: a map for transactions, a full scan for queries, a replay for
//! commits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::query::Plan;
use super::*;
use crate::sql::Query;

const NOW_MS: u64 = 1_767_225_600_000;

/// Keeps every commit, and refuses them while told so.
#[derive(Debug, Clone, Default)]
struct Recorder {
    commits: Arc<Mutex<Vec<Commit>>>,
    refusing: Arc<Mutex<bool>>,
}

impl CommitLog for Recorder {
    fn append(&mut self, commit: &Commit) -> Result<(), LogError> {
        if *self.refusing.lock().unwrap() {
            return Err(LogError("full".to_owned()));
        }
        self.commits.lock().unwrap().push(commit.clone());
        Ok(())
    }
}

fn store(log: impl CommitLog + 'static) -> (Store, ContainerRid) {
    let mut store = Store::new(7, Box::new(log));
    store.create_database("db", NOW_MS).unwrap();
    let declared = json!({
        "id": "c",
        "partitionKey": {"paths": ["/pk"]},
        "defaultTtl": -1,
        "uniqueKeyPolicy": {"uniqueKeys": [{"paths": ["/u"]}]},
    });
    let container = store.create_container("db", declared.as_object().unwrap(), NOW_MS).unwrap();
    let rid = container.rid();
    (store, rid)
}

fn key() -> PartitionKey {
    PartitionKey::parse("[\"p\"]").unwrap()
}

fn body(id: u8, n: i64, unique: u8) -> ItemBody {
    let body = json!({"id": id.to_string(), "pk": "p", "n": n, "u": unique});
    ItemBody::parse(&body.to_string()).unwrap()
}

/// An operation of the reference model, over a few ids and few unique values.
#[derive(Debug, Clone)]
enum Step {
    Create(u8, u8),
    Upsert(u8, u8),
    Replace(u8, u8),
    Add(u8, i64),
    AddIf(u8, i64),
    Read(u8),
    Delete(u8),
    DeleteStale(u8),
}

fn step() -> impl Strategy<Value = Step> {
    let (id, unique) = (0..5u8, 0..6u8);
    prop_oneof![
        4 => (id.clone(), unique.clone()).prop_map(|(i, u)| Step::Create(i, u)),
        3 => (id.clone(), unique.clone()).prop_map(|(i, u)| Step::Upsert(i, u)),
        2 => (id.clone(), unique).prop_map(|(i, u)| Step::Replace(i, u)),
        3 => (id.clone(), -3..4i64).prop_map(|(i, n)| Step::Add(i, n)),
        1 => (id.clone(), 0..3i64).prop_map(|(i, n)| Step::AddIf(i, n)),
        2 => id.clone().prop_map(Step::Read),
        2 => id.clone().prop_map(Step::Delete),
        1 => id.prop_map(Step::DeleteStale),
    ]
}

impl Step {
    fn operation(&self) -> Operation {
        let patch = |delta: &i64, condition: Option<String>| {
            let operations = json!([{"op": "incr", "path": "/n", "value": delta}]);
            let body = json!({"operations": operations, "condition": condition});
            Patch::parse(&body.to_string(), &[]).unwrap()
        };
        let mut if_match = None;
        let action = match self {
            Self::Create(id, unique) => Action::Create(body(*id, 0, *unique)),
            Self::Upsert(id, unique) => Action::Upsert(body(*id, 0, *unique)),
            Self::Replace(id, unique) => {
                Action::Replace { id: id.to_string(), body: body(*id, 0, *unique) }
            }
            Self::Add(id, delta) => Action::Patch { id: id.to_string(), patch: patch(delta, None) },
            Self::AddIf(id, n) => {
                let condition = Some(format!("from c where c.n = {n}"));
                Action::Patch { id: id.to_string(), patch: patch(&1, condition) }
            }
            Self::Read(id) => Action::Read { id: id.to_string() },
            Self::Delete(id) => Action::Delete { id: id.to_string() },
            Self::DeleteStale(id) => {
                if_match = Some("\"stale\"".to_owned());
                Action::Delete { id: id.to_string() }
            }
        };
        Operation { action, if_match, if_none_match: None }
    }

    /// The effect on `model`, id to (n, unique value).
    fn model(&self, model: &mut BTreeMap<u8, (i64, u8)>) -> Result<(), StoreError> {
        let free = |model: &BTreeMap<u8, (i64, u8)>, id: u8, unique: u8| match model
            .iter()
            .any(|(other, (_, taken))| *other != id && *taken == unique)
        {
            true => Err(StoreError::UniqueKeyViolation),
            false => Ok(()),
        };
        let missing = StoreError::ItemMissing;
        match *self {
            Self::Create(id, _) if model.contains_key(&id) => Err(StoreError::AlreadyExists),
            Self::Replace(id, _) if !model.contains_key(&id) => Err(missing),
            Self::Create(id, unique) | Self::Upsert(id, unique) | Self::Replace(id, unique) => {
                free(model, id, unique)?;
                model.insert(id, (0, unique));
                Ok(())
            }
            Self::Add(id, delta) => {
                model.get_mut(&id).ok_or(missing)?.0 += delta;
                Ok(())
            }
            Self::AddIf(id, expected) => {
                let item = model.get_mut(&id).ok_or(missing)?;
                if item.0 != expected {
                    return Err(StoreError::ConditionNotMet);
                }
                item.0 += 1;
                Ok(())
            }
            Self::Read(id) => model.get(&id).map(drop).ok_or(missing),
            Self::Delete(id) => model.remove(&id).map(drop).ok_or(missing),
            Self::DeleteStale(id) => match model.contains_key(&id) {
                true => Err(StoreError::EtagMismatch),
                false => Err(missing),
            },
        }
    }
}

/// Everything that can be observed of a container.
fn snapshot(store: &Store, rid: ContainerRid) -> (u64, Vec<String>) {
    let container = store.container_at(rid).unwrap();
    let page = feed::read(container, &feed::Scope::All, feed::Start::Beginning, 1000, NOW_MS);
    let texts = page.documents.iter().map(|d| String::from_utf8_lossy(&d.text.read()).into_owned());
    (container.lsn(), texts.collect())
}

#[test]
fn unique_values_that_change_hands_within_a_batch_stay_taken() {
    let (mut store, rid) = store(Recorder::default());
    let mut run = |batch: &[Step]| {
        let operations: Vec<_> = batch.iter().map(Step::operation).collect();
        store.execute(rid, &key(), &operations, NOW_MS).map(drop)
    };
    assert!(run(&[Step::Upsert(2, 0)]).is_ok());
    assert!(run(&[Step::Create(1, 1), Step::Delete(2), Step::Upsert(1, 0)]).is_ok());
    let taken = Failure { index: 0, error: StoreError::UniqueKeyViolation };
    assert_eq!(run(&[Step::Upsert(0, 0)]), Err(taken));
}

proptest! {
    #[test]
    fn batches_do_what_a_map_does_or_nothing(batches in vec(vec(step(), 1..6), 1..20)) {
        let log = Recorder::default();
        let (mut store, rid) = store(log.clone());
        let mut model = BTreeMap::new();
        for batch in batches {
            let operations: Vec<_> = batch.iter().map(Step::operation).collect();
            let before = snapshot(&store, rid);
            let result = store.execute(rid, &key(), &operations, NOW_MS);
            let mut next = model.clone();
            let expected = batch.iter().enumerate().try_for_each(|(index, step)| {
                step.model(&mut next).map_err(|error| Failure { index, error })
            });
            match (result, expected) {
                (Ok(outcomes), Ok(())) => {
                    prop_assert_eq!(outcomes.len(), batch.len());
                    model = next;
                }
                (Err(failure), Err(expected)) => {
                    prop_assert_eq!(failure, expected);
                    prop_assert_eq!(snapshot(&store, rid), before, "a failed batch left a trace");
                }
                (result, expected) => prop_assert!(false, "{result:?} but {expected:?}"),
            }
            let container = store.container_at(rid).unwrap();
            prop_assert_eq!(container.len(), model.len());
            for (id, (n, unique)) in &model {
                let stored = container.get(&key(), &id.to_string(), NOW_MS).unwrap();
                let value: Value = serde_json::from_slice(&stored.text.read()).unwrap();
                prop_assert_eq!((&value["n"], &value["u"]), (&json!(n), &json!(unique)));
            }
        }
        let mut replayed = Store::new(7, Box::new(Volatile));
        log.commits.lock().unwrap().iter().for_each(|commit| replayed.apply(commit));
        prop_assert_eq!(snapshot(&replayed, rid), snapshot(&store, rid));
        prop_assert_eq!(replayed.sequence(), store.sequence());
    }
}

#[test]
fn what_the_log_refuses_did_not_happen() {
    let log = Recorder::default();
    let (mut store, rid) = store(log.clone());
    let create = [Step::Create(1, 1).operation()];
    *log.refusing.lock().unwrap() = true;
    let failure = store.execute(rid, &key(), &create, NOW_MS).unwrap_err();
    assert_eq!(failure.error, StoreError::LogUnavailable);
    assert_eq!(store.create_database("x", NOW_MS), Err(StoreError::LogUnavailable));
    assert!(store.container_at(rid).unwrap().is_empty());
    *log.refusing.lock().unwrap() = false;
    store.execute(rid, &key(), &create, NOW_MS).unwrap();
    let sequences: Vec<_> = log.commits.lock().unwrap().iter().map(|c| c.sequence).collect();
    assert_eq!(sequences, [1, 2, 3], "a refused commit leaves no gap");
}

#[test]
fn the_same_calls_make_the_same_store() {
    let run = || {
        let (mut store, rid) = store(Volatile);
        let steps = [Step::Create(1, 1), Step::Create(2, 2), Step::Add(1, 4), Step::Delete(2)];
        for (at, step) in steps.iter().enumerate() {
            store.execute(rid, &key(), &[step.operation()], NOW_MS + at as u64).unwrap();
        }
        snapshot(&store, rid)
    };
    assert_eq!(run(), run());
}

#[test]
fn an_item_rewritten_within_a_batch_has_one_place_in_the_feed() {
    let (mut store, rid) = store(Volatile);
    let steps = [Step::Create(1, 1), Step::Add(1, 1), Step::Create(2, 2), Step::Add(1, 1)];
    let operations: Vec<_> = steps.iter().map(Step::operation).collect();
    let outcomes = store.execute(rid, &key(), &operations, NOW_MS).unwrap();
    let etags: std::collections::BTreeSet<_> =
        outcomes.iter().map(|o| o.document.as_ref().unwrap().etag()).collect();
    assert_eq!(etags.len(), 4, "every version has its own ETag");
    assert_eq!(snapshot(&store, rid).1.len(), 2);
}

/// Documents with few distinct values of several types, some of them absent.
fn documents() -> impl Strategy<Value = Vec<Value>> {
    let scalar = prop_oneof![
        Just(None),
        Just(Some(json!(null))),
        (0..4i64).prop_map(|n| Some(json!(n))),
        (0..3i64).prop_map(|n| Some(json!(n as f64 + 0.5))),
        "[ab]{0,2}".prop_map(|s| Some(json!(s))),
        any::<bool>().prop_map(|b| Some(json!(b))),
        Just(Some(json!([1]))),
    ];
    let document = (scalar.clone(), scalar.clone(), scalar).prop_map(|(a, b, d)| {
        let all = [("a", a), ("b", b), ("d", d)];
        Value::Object(all.into_iter().filter_map(|(name, v)| Some((name.to_owned(), v?))).collect())
    });
    vec(document, 270..300)
}

const FILTERS: [&str; 9] = [
    "true",
    "c.a = 1",
    "c.a = 1 AND c.b = 'a'",
    "c.a = 'b' AND c.d > 0",
    "c.d >= 1 AND c.d < 2.5",
    "c.b = true AND c.a != 3",
    "1 = c.a AND c.d BETWEEN 0 AND 2",
    "c.d > 'a' AND IS_DEFINED(c.b)",
    "c.a = null OR c.b = 2",
];

const ORDERS: [&str; 6] = [
    "",
    "ORDER BY c.d",
    "ORDER BY c.d DESC",
    "ORDER BY c.a",
    "ORDER BY c.b DESC, c.d ASC",
    "ORDER BY c.d DESC OFFSET 3 LIMIT 40",
];

fn results(
    store: &mut Store,
    rid: ContainerRid,
    text: &str,
    page_items: usize,
    scope: &feed::Scope,
    whole_scan: bool,
) -> Vec<String> {
    let (mut all, mut continuation) = (Vec::new(), None::<String>);
    loop {
        let query = Arc::new(Query::parse(text, &Map::new()).unwrap());
        let container = store.container_at(rid).unwrap();
        let mut plan = Plan::new(query, scope.clone(), continuation.as_deref(), container).unwrap();
        if whole_scan {
            plan.scan_everything();
        }
        let mut run = plan.run(Some(page_items), NOW_MS, None);
        loop {
            match run.fetch(store.container_at(rid).unwrap()) {
                query::Fetched::IndexMissing(shape) => store.prepare(rid, &shape),
                query::Fetched::Candidates(candidates) => {
                    if run.evaluate(&candidates).is_break() {
                        break;
                    }
                }
            }
        }
        let page = run.finish().unwrap();
        let text = format!("[{}]", String::from_utf8(page.results).unwrap());
        let values: Vec<Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(values.len(), page.count);
        assert!(page.count <= page_items);
        all.extend(values.iter().map(Value::to_string));
        match page.continuation {
            Some(next) => continuation = Some(next),
            None => return all,
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Indexes and pages are ways to get there; the results are those of one scan.
    #[test]
    fn indexed_and_paged_results_are_those_of_a_scan(
        documents in documents(),
        filter in 0..FILTERS.len(),
        order in 0..ORDERS.len(),
        page_items in 1..60usize,
        partitioned in any::<bool>(),
    ) {
        let (mut store, rid) = store(Volatile);
        // One partition far too large to be scanned, one small.
        for (n, document) in documents.iter().cycle().take(900).enumerate() {
            let mut document = document.clone();
            let pk = if n % 5 == 0 { "small" } else { "p" };
            document["id"] = json!(n.to_string());
            document["pk"] = json!(pk);
            document["u"] = json!(n);
            let action = Action::Create(ItemBody::parse(&document.to_string()).unwrap());
            let operation = Operation { action, if_match: None, if_none_match: None };
            let key = PartitionKey::parse(&json!([pk]).to_string()).unwrap();
            store.execute(rid, &key, &[operation], NOW_MS).unwrap();
        }
        let scope = match partitioned {
            true => feed::Scope::Partition(key()),
            false => feed::Scope::All,
        };
        let (filter, order) = (FILTERS[filter], ORDERS[order]);
        let text = format!("SELECT VALUE c.id FROM c WHERE {filter} {order}");
        let mut scanned = results(&mut store, rid, &text, 10_000, &scope, true);
        let mut paged = results(&mut store, rid, &text, page_items, &scope, false);
        if order.is_empty() {
            scanned.sort();
            paged.sort();
        }
        prop_assert_eq!(paged, scanned);
    }
}
