//! Services that know nothing yet, as the official emulators do when they start, are given what the
//! topology declares.

use std::path::Path;

use serde_json::json;
use stack::declare::{Declared, Options, declare};
use stack::topology::Topology;
use stack::workspace::Workspace;

use crate::role::Role;

#[tokio::test]
async fn what_is_missing_is_created_once_and_the_seed_is_written_once() {
    let folder = std::env::temp_dir().join(format!("bulkhead-declare-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&folder).unwrap();
    let nothing = folder.join("topology.json");
    let empty = json!({
        "cosmos": { "databases": [] },
        "storage": { "queues": [] },
    });
    std::fs::write(&nothing, empty.to_string()).unwrap();
    let start = |role: &'static str| {
        let nothing = nothing.clone();
        async move { Role::start(&[role.as_ref(), "--topology".as_ref(), nothing.as_os_str()]).await }
    };
    let (cosmos, queue) = (start("cosmos").await, start("queue").await);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap();
    let workspace = Workspace { root, binaries: folder.clone(), apps: folder.clone() };
    let topology = Topology::read(&workspace.topology()).unwrap();
    let options = Options {
        cosmos: format!("http://{}", cosmos.address),
        queue: format!("http://{}/{}", queue.address, queue::EMULATOR_ACCOUNT),
    };

    let (databases, containers) = topology.containers();
    let queues = topology.storage["queues"].as_array().unwrap().len();
    let first = declare(&workspace, &topology, &options).await.unwrap();
    assert_eq!(first.created, databases + containers + queues);
    assert!(first.seeded > 0);
    let again = declare(&workspace, &topology, &options).await.unwrap();
    assert_eq!(again, Declared::default(), "a second run would put sold stock back");
    std::fs::remove_dir_all(folder).unwrap();
}
