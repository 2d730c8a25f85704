//! The store on disk against a map: random operations, time to live, compaction, and crashes that
//! cut the log at any byte. Races and damage apart.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::RwLock;

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::store::feed::{self, Scope, Start};
use crate::store::{
    Action, Component, ContainerRid, ItemBody, Operation, OutcomeKind, PartitionKey, Patch,
    StoreError,
};

const NOW_MS: u64 = 1_767_225_600_000;

/// Small enough that a few dozen writes fill several files.
const SMALL: Settings = Settings {
    fsync: true,
    sizes: Sizes { segment_bytes: 3000, recent_bytes: 900, outdated_bytes: 2000 },
};

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        Self(std::env::temp_dir().join(format!("cosmos-{}", uuid::Uuid::new_v4())))
    }

    fn files(&self) -> Vec<PathBuf> {
        let all = fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap().path());
        let mut logs: Vec<_> =
            all.filter(|path| path.extension().is_some_and(|e| e == "log")).collect();
        logs.sort();
        logs
    }

    /// The directory as a crash leaves it, with the last `cut` bytes of the log missing.
    fn crash(&self, cut: u64) -> Self {
        let copy = Self::new();
        fs::create_dir_all(&copy.0).unwrap();
        for entry in fs::read_dir(&self.0).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, copy.0.join(path.file_name().unwrap())).unwrap();
        }
        let last = copy.files().pop().unwrap();
        let file = fs::OpenOptions::new().write(true).open(last).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(length - cut.min(length)).unwrap();
        copy
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn open(path: &Path) -> (RwLock<Store>, Compactor) {
    let (store, compactor) = super::open(path, 7, SMALL).unwrap();
    (RwLock::new(store), compactor)
}

fn new_store(path: &Path) -> (RwLock<Store>, Compactor, ContainerRid) {
    let (store, compactor) = open(path);
    let rid = {
        let mut store = store.write().unwrap();
        store.create_database("db", NOW_MS).unwrap();
        let declared = json!({
            "id": "c",
            "partitionKey": {"paths": ["/pk"]},
            "defaultTtl": -1,
            "uniqueKeyPolicy": {"uniqueKeys": [{"paths": ["/u"]}]},
        });
        store.create_container("db", declared.as_object().unwrap(), NOW_MS).unwrap().rid()
    };
    (store, compactor, rid)
}

fn settle(store: &RwLock<Store>) {
    let (durability, sequence) = {
        let store = store.read().unwrap();
        (store.durability(), store.sequence())
    };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(durability.reached(sequence)).unwrap();
}

fn key(pk: u8) -> PartitionKey {
    PartitionKey::parse(&json!([pk.to_string()]).to_string()).unwrap()
}

fn body(pk: u8, id: u8, unique: u8, ttl: Option<u8>) -> ItemBody {
    let mut body = json!({"id": id.to_string(), "pk": pk.to_string(), "n": 0, "u": unique});
    if let Some(ttl) = ttl {
        body["ttl"] = (u32::from(ttl) + 1).into();
    }
    ItemBody::parse(&body.to_string()).unwrap()
}

fn plain(action: Action) -> Operation {
    Operation { action, if_match: None, if_none_match: None }
}

#[derive(Debug, Clone)]
enum One {
    Create(u8, u8, Option<u8>),
    Upsert(u8, u8, Option<u8>),
    Add(u8),
    /// Succeeds if the item counts this many.
    Claim(u8, i64),
    Delete(u8),
}

#[derive(Debug, Clone)]
enum Step {
    Batch(u8, Vec<One>),
    Wait(u16),
    Sweep,
    Compact,
    /// Cuts this many bytes off what was written last.
    Crash(u16),
    ChangeTtl(bool),
}

fn one() -> impl Strategy<Value = One> {
    let id = 0..4u8;
    let ttl = prop::option::weighted(0.3, 0..20u8);
    prop_oneof![
        4 => (id.clone(), 0..6u8, ttl.clone()).prop_map(|(i, u, t)| One::Create(i, u, t)),
        3 => (id.clone(), 0..6u8, ttl).prop_map(|(i, u, t)| One::Upsert(i, u, t)),
        3 => id.clone().prop_map(One::Add),
        2 => (id.clone(), 0..3i64).prop_map(|(i, n)| One::Claim(i, n)),
        2 => id.prop_map(One::Delete),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        20 => (0..3u8, vec(one(), 1..4)).prop_map(|(pk, all)| Step::Batch(pk, all)),
        3 => (0..9000u16).prop_map(Step::Wait),
        1 => Just(Step::Sweep),
        2 => Just(Step::Compact),
        2 => (0..700u16).prop_map(Step::Crash),
        1 => any::<bool>().prop_map(Step::ChangeTtl),
    ]
}

/// An item as the model knows it.
#[derive(Debug, Clone, PartialEq)]
struct Known {
    n: i64,
    unique: u8,
    ttl: Option<u8>,
    written_s: u64,
    /// Everything that a client sees of it: text with ETag, `_ts` and `_rid`, and its LSN.
    seen: (String, u64),
}

type Model = BTreeMap<(u8, u8), Known>;

fn operation(pk: u8, one: &One) -> Operation {
    let patch = |condition: Value| {
        let body = json!({
            "operations": [{"op": "incr", "path": "/n", "value": 1}],
            "condition": condition,
        });
        Patch::parse(&body.to_string(), &[]).unwrap()
    };
    plain(match one {
        One::Create(id, unique, ttl) => Action::Create(body(pk, *id, *unique, *ttl)),
        One::Upsert(id, unique, ttl) => Action::Upsert(body(pk, *id, *unique, *ttl)),
        One::Add(id) => Action::Patch { id: id.to_string(), patch: patch(Value::Null) },
        One::Claim(id, n) => {
            let patch = patch(format!("from c where c.n = {n}").into());
            Action::Patch { id: id.to_string(), patch }
        }
        One::Delete(id) => Action::Delete { id: id.to_string() },
    })
}

/// What an operation does to the model.
fn predict(model: &mut Model, pk: u8, one: &One, now_s: u64) -> Result<(), StoreError> {
    let taken = |model: &Model, id: u8, unique: u8| {
        model.iter().any(|((p, i), known)| *p == pk && *i != id && known.unique == unique)
    };
    match one {
        One::Create(id, unique, ttl) | One::Upsert(id, unique, ttl) => {
            if matches!(one, One::Create(..)) && model.contains_key(&(pk, *id)) {
                return Err(StoreError::AlreadyExists);
            }
            if taken(model, *id, *unique) {
                return Err(StoreError::UniqueKeyViolation);
            }
            let seen = (String::new(), 0);
            let known = Known { n: 0, unique: *unique, ttl: *ttl, written_s: now_s, seen };
            model.insert((pk, *id), known);
        }
        One::Add(id) | One::Claim(id, _) => {
            let known = model.get_mut(&(pk, *id)).ok_or(StoreError::ItemMissing)?;
            if matches!(one, One::Claim(_, n) if *n != known.n) {
                return Err(StoreError::ConditionNotMet);
            }
            known.n += 1;
            known.written_s = now_s;
        }
        One::Delete(id) => {
            model.remove(&(pk, *id)).ok_or(StoreError::ItemMissing)?;
        }
    }
    Ok(())
}

struct Run {
    folder: Folder,
    store: RwLock<Store>,
    compactor: Compactor,
    rid: ContainerRid,
    now_ms: u64,
    ttl_on: bool,
    model: Model,
    /// The model after every commit of the account that changed items, and whether TTL was on.
    history: BTreeMap<u64, Model>,
    /// The last file and how much of it no crash can take away any more.
    floor: (PathBuf, u64),
}

impl Run {
    fn new() -> Self {
        let folder = Folder::new();
        let (store, compactor, rid) = new_store(&folder.0);
        let (model, sequence) = (Model::new(), store.read().unwrap().sequence());
        let history = BTreeMap::from([(sequence, model.clone())]);
        let floor = (PathBuf::new(), 0);
        let now_ms = NOW_MS;
        Self { folder, store, compactor, rid, now_ms, ttl_on: true, model, history, floor }
    }

    fn forget_expired(&mut self) {
        let (now_ms, ttl_on) = (self.now_ms, self.ttl_on);
        self.model.retain(|_, known| {
            let ttl = known.ttl.filter(|_| ttl_on);
            ttl.is_none_or(|ttl| (known.written_s + u64::from(ttl) + 1) * 1000 > now_ms)
        });
    }

    fn step(&mut self, step: &Step) {
        self.forget_expired();
        match step {
            Step::Batch(pk, all) => self.batch(*pk, all),
            Step::Wait(ms) => self.now_ms += u64::from(*ms),
            Step::Sweep => drop(self.store.write().unwrap().sweep(self.now_ms)),
            Step::Compact => {
                self.compactor.run(&self.store, self.now_ms).unwrap();
                self.raise_floor();
            }
            Step::Crash(cut) => self.crash(u64::from(*cut)),
            Step::ChangeTtl(on) => self.change_ttl(*on),
        }
        self.forget_expired();
        self.check();
    }

    fn batch(&mut self, pk: u8, all: &[One]) {
        let operations: Vec<_> = all.iter().map(|one| operation(pk, one)).collect();
        let mut after = self.model.clone();
        let mut expected = Ok(());
        for (index, one) in all.iter().enumerate() {
            if let Err(error) = predict(&mut after, pk, one, self.now_ms / 1000) {
                expected = Err((index, error));
                break;
            }
        }
        let mut store = self.store.write().unwrap();
        let result = store.execute(self.rid, &key(pk), &operations, self.now_ms);
        match (expected, result) {
            (Ok(()), Ok(outcomes)) => {
                for document in outcomes.into_iter().filter_map(|outcome| outcome.document) {
                    let id = document.id.parse().unwrap();
                    let text = String::from_utf8(document.text.read().to_vec()).unwrap();
                    if let Some(known) = after.get_mut(&(pk, id)) {
                        known.seen = (text, document.lsn);
                    }
                }
                self.model = after;
                self.history.insert(store.sequence(), self.model.clone());
            }
            (Err((index, error)), Err(failure)) => {
                assert_eq!((failure.index, failure.error), (index, error));
            }
            (expected, result) => panic!("{expected:?}, but {result:?}"),
        }
    }

    fn change_ttl(&mut self, on: bool) {
        let mut store = self.store.write().unwrap();
        let mut declared = store.container_at(self.rid).unwrap().settings().properties.clone();
        declared.remove("defaultTtl");
        if on {
            declared.insert("defaultTtl".to_owned(), json!(-1));
        }
        store.replace_container("db", "c", &declared, self.now_ms).unwrap();
        self.ttl_on = on;
        self.history.insert(store.sequence(), self.model.clone());
        drop(store);
        self.raise_floor();
    }

    /// Settings and compactions go on only after everything before them is on the disk.
    fn raise_floor(&mut self) {
        settle(&self.store);
        let last = self.folder.files().pop().unwrap();
        let length = fs::metadata(&last).unwrap().len();
        self.floor = (last.file_name().unwrap().into(), length);
    }

    /// What is on the disk, less the last bytes, must be a state that there has been.
    fn crash(&mut self, cut: u64) {
        settle(&self.store);
        let last = self.folder.files().pop().unwrap();
        let floor = match self.floor.0.as_os_str() == last.file_name().unwrap() {
            true => self.floor.1,
            false => segment::HEAD_BYTES as u64,
        };
        let written = fs::metadata(&last).unwrap().len() - floor;
        let copy = self.folder.crash(cut.min(written));
        let (store, compactor) = open(&copy.0);
        let sequence = store.read().unwrap().sequence();
        self.model = self.history.range(..=sequence).next_back().unwrap().1.clone();
        self.history.split_off(&(sequence + 1));
        self.history.insert(sequence, self.model.clone());
        (self.store, self.compactor) = (store, compactor);
        self.folder = copy;
    }

    fn check(&self) {
        let store = self.store.read().unwrap();
        let container = store.container_at(self.rid).unwrap();
        let mut found = BTreeMap::new();
        let page = feed::read(container, &Scope::All, Start::Beginning, usize::MAX, self.now_ms);
        let order: Vec<_> = page.documents.iter().map(|d| (d.lsn, d.ordinal)).collect();
        assert!(order.is_sorted(), "the feed is in the order of the writes");
        for document in &page.documents {
            let text = String::from_utf8(document.text.read().to_vec()).unwrap();
            let Component::String(pk) = &document.partition.key.0[0] else { panic!() };
            let place = (pk.parse::<u8>().unwrap(), document.id.parse::<u8>().unwrap());
            let by_id = container.get(&document.partition.key, &document.id, self.now_ms);
            assert_eq!(by_id, Some(document), "by id and by feed are the same");
            assert!(text.contains(&document.etag().replace('"', "\\\"")));
            found.insert(place, (text, document.lsn));
        }
        let expected: BTreeMap<_, _> =
            self.model.iter().map(|(place, known)| (*place, known.seen.clone())).collect();
        assert_eq!(found, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]

    #[test]
    fn the_disk_agrees_with_the_model(steps in vec(step(), 1..60)) {
        let mut run = Run::new();
        for step in &steps {
            run.step(step);
        }
        run.crash(0);
        run.forget_expired();
        run.check();
    }
}

#[test]
fn one_of_many_claims_wins_and_stays_the_winner() {
    let folder = Folder::new();
    let (store, _, rid) = new_store(&folder.0);
    let items = 20u8;
    for id in 0..items {
        let create = plain(Action::Create(body(0, id, id, None)));
        store.write().unwrap().execute(rid, &key(0), &[create], NOW_MS).unwrap();
    }
    let winners: Vec<(u8, u8)> = std::thread::scope(|scope| {
        let claim = |worker: u8| {
            let store = &store;
            move || {
                let mut won = Vec::new();
                for id in 0..items {
                    let patch = json!({
                        "operations": [{"op": "set", "path": "/owner", "value": worker}],
                        "condition": "from c where NOT IS_DEFINED(c.owner)",
                    });
                    let patch = Patch::parse(&patch.to_string(), &[]).unwrap();
                    let action = Action::Patch { id: id.to_string(), patch };
                    let mut locked = store.write().unwrap();
                    let result = locked.execute(rid, &key(0), &[plain(action)], NOW_MS);
                    drop(locked);
                    match result {
                        Ok(outcomes) => {
                            assert_eq!(outcomes[0].kind, OutcomeKind::Replaced);
                            won.push((id, worker));
                        }
                        Err(failure) => assert_eq!(failure.error, StoreError::ConditionNotMet),
                    }
                }
                won
            }
        };
        let workers: Vec<_> = (0..8).map(|worker| scope.spawn(claim(worker))).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert_eq!(winners.len(), usize::from(items), "each item has one owner");
    settle(&store);
    let copy = folder.crash(0);
    let (recovered, _) = open(&copy.0);
    let recovered = recovered.read().unwrap();
    for (id, worker) in winners {
        let container = recovered.container_at(rid).unwrap();
        let document = container.get(&key(0), &id.to_string(), NOW_MS).unwrap();
        let value: Value = serde_json::from_slice(&document.text.read()).unwrap();
        assert_eq!(value["owner"], worker);
    }
}

#[test]
fn damage_anywhere_stops_the_start() {
    let folder = Folder::new();
    let (store, _, rid) = new_store(&folder.0);
    for id in 0..12 {
        let create = plain(Action::Create(body(0, id, id, None)));
        store.write().unwrap().execute(rid, &key(0), &[create], NOW_MS).unwrap();
    }
    settle(&store);
    let whole = folder.crash(0);
    let mut files = whole.files();
    assert!(files.len() > 1, "several files are needed here");
    files.push(whole.0.join("catalogue.json"));
    for file in &files {
        let bytes = fs::read(file).unwrap();
        for at in (0..bytes.len()).step_by(7).chain([bytes.len() - 1]) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            fs::write(file, &damaged).unwrap();
            match super::open(&whole.0, 7, SMALL).err() {
                Some(StorageError::Corrupt { path, .. }) => assert_eq!(path, *file),
                other => panic!("byte {at} of {}: {other:?}", file.display()),
            }
        }
        fs::write(file, &bytes).unwrap();
    }
    fs::remove_file(&files[0]).unwrap();
    let missing = super::open(&whole.0, 7, SMALL).err();
    assert!(matches!(missing, Some(StorageError::Corrupt { .. })), "{missing:?}");
    assert!(matches!(super::open(&folder.0, 7, SMALL).err(), Some(StorageError::InUse { .. })));
}

#[test]
fn old_files_go_and_numbers_do_not_come_back() {
    let folder = Folder::new();
    let (store, compactor, rid) = new_store(&folder.0);
    let now_ms = NOW_MS;
    let run = |action| {
        store.write().unwrap().execute(rid, &key(0), &[plain(action)], now_ms).unwrap();
    };
    run(Action::Create(body(0, 0, 0, None)));
    for _ in 0..200 {
        run(Action::Upsert(body(0, 1, 1, None)));
    }
    settle(&store);
    run(Action::Delete { id: "1".to_owned() });
    run(Action::Upsert(body(0, 0, 0, None)));
    settle(&store);
    let before = folder.files().len();
    while compactor.is_wanted() {
        compactor.run(&store, now_ms).unwrap();
    }
    let lsn = store.read().unwrap().container_at(rid).unwrap().lsn();
    assert!(folder.files().len() < before / 4, "{before} files, now {}", folder.files().len());
    settle(&store);
    compactor.run(&store, now_ms).unwrap();
    let copy = folder.crash(0);
    let (recovered, _) = open(&copy.0);
    let mut recovered = recovered.write().unwrap();
    let container = recovered.container_at(rid).unwrap();
    assert_eq!((container.lsn(), container.len(), container.next_number), (lsn, 1, 3));
    let create = plain(Action::Create(body(0, 2, 2, None)));
    let outcomes = recovered.execute(rid, &key(0), &[create], now_ms).unwrap();
    assert_eq!(outcomes[0].document.as_ref().unwrap().number, 3);
}
