//! Many clients at once: whatever one of them was answered is in the log, with a wait for the disk
//! and without one.

use std::path::{Path, PathBuf};
use std::sync::RwLock;

use serde_json::json;

use super::{Settings, Sizes};
use crate::store::{Action, ContainerRid, ItemBody, Operation, PartitionKey, Store};

const NOW_MS: u64 = 1_767_225_600_000;
const CLIENTS: usize = 8;
const ITEMS: usize = 200;

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn folder() -> Folder {
    Folder(std::env::temp_dir().join(format!("cosmos-{}", uuid::Uuid::new_v4())))
}

fn settings(fsync: bool) -> Settings {
    // Files are rolled all the time.
    let sizes = Sizes { segment_bytes: 20_000, recent_bytes: 900, outdated_bytes: 2000 };
    Settings { fsync, sizes }
}

fn open(path: &Path, fsync: bool) -> Store {
    super::open(path, 7, settings(fsync)).unwrap().0
}

fn copied(from: &Path) -> Folder {
    let copy = folder();
    std::fs::create_dir_all(&copy.0).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.0.join(path.file_name().unwrap())).unwrap();
    }
    copy
}

/// Creates items one after the other, each once the last one was answered.
fn client(store: &RwLock<Store>, rid: ContainerRid, name: usize) {
    let key = PartitionKey::parse(&json!([name.to_string()]).to_string()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for n in 0..ITEMS {
        let body = json!({"id": n.to_string(), "pk": name.to_string()}).to_string();
        let action = Action::Create(ItemBody::parse(&body).unwrap());
        let operation = Operation { action, if_match: None, if_none_match: None };
        let (durability, sequence) = {
            let mut store = store.write().unwrap();
            store.execute(rid, &key, &[operation], NOW_MS).unwrap();
            (store.durability(), store.sequence())
        };
        runtime.block_on(durability.reached(sequence)).unwrap();
    }
}

#[test]
fn what_was_answered_is_in_the_log() {
    for fsync in [true, false] {
        let data = folder();
        let mut store = open(&data.0, fsync);
        store.create_database("db", NOW_MS).unwrap();
        let declared = json!({"id": "c", "partitionKey": {"paths": ["/pk"]}});
        let declared = declared.as_object().unwrap();
        let rid = store.create_container("db", declared, NOW_MS).unwrap().rid();
        let store = RwLock::new(store);
        std::thread::scope(|scope| {
            let store = &store;
            for name in 0..CLIENTS {
                scope.spawn(move || client(store, rid, name));
            }
        });
        // The process is still there: nothing was written because it ends.
        let copy = copied(&data.0);
        let recovered = open(&copy.0, fsync);
        let container = recovered.container_at(rid).unwrap();
        assert_eq!(container.len(), CLIENTS * ITEMS, "fsync {fsync}");
        assert_eq!(container.lsn(), (CLIENTS * ITEMS) as u64);
    }
}

/// Changes that nobody waits for, such as the removal of what has expired.
#[test]
fn what_nobody_waits_for_is_written_in_the_end() {
    let data = folder();
    let rid = {
        let mut store = open(&data.0, false);
        store.create_database("db", NOW_MS).unwrap();
        let declared = json!({"id": "c", "partitionKey": {"paths": ["/pk"]}, "defaultTtl": 1});
        let rid =
            store.create_container("db", declared.as_object().unwrap(), NOW_MS).unwrap().rid();
        let key = PartitionKey::parse("[\"p\"]").unwrap();
        let body = ItemBody::parse(r#"{"id":"1","pk":"p"}"#).unwrap();
        let action = Action::Create(body);
        let operation = Operation { action, if_match: None, if_none_match: None };
        store.execute(rid, &key, &[operation], NOW_MS).unwrap();
        assert!(!store.sweep(NOW_MS + 5000));
        assert_eq!(store.container_at(rid).unwrap().lsn(), 2);
        rid
    };
    let store = open(&data.0, false);
    let container = store.container_at(rid).unwrap();
    assert_eq!((container.lsn(), container.len()), (2, 0));
}
