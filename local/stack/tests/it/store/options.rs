//! What `stack serve cosmos` can be told, and that it does it.

use std::ffi::OsStr;
use std::path::PathBuf;

use serde_json::{Value, json};

use super::{Caller, DOCS, Folder, now_s};
use crate::role::Role;

/// Keys of one's own: `the account` and `only reads` in Base64.
const ACCOUNT_KEY: &str = "dGhlIGFjY291bnQ=";
const READ_ONLY_KEY: &str = "b25seSByZWFkcw==";

/// A token as the tools of the official emulator mint them, with the account key where the
/// signature would be: `{"alg":"none"}`, then the claims of tenant `t1` for ever.
const TOKEN: &str = "eyJhbGciOiJub25lIn0.eyJ0aWQiOiJ0MSIsImF1ZCI6Imh0dHBzOi8vY29zbW9zLmF6dXJlLmNvbSIsImV4cCI6NDEwMjQ0NDgwMH0.ZEdobElHRmpZMjkxYm5RPQ";

const P: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");

struct Store {
    caller: Caller,
    _role: Role,
    _folder: Folder,
}

/// A store with one container that was started with these options.
async fn start(options: &[&str]) -> Store {
    let folder: PathBuf = std::env::temp_dir().join(format!("store-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&folder).unwrap();
    let folder = Folder(folder);
    let topology = folder.0.join("topology.json");
    let declared = json!({"cosmos": {"databases": [
        {"id": "db", "containers": [{"id": "c", "partitionKey": {"paths": ["/pk"]}}]},
    ]}});
    std::fs::write(&topology, declared.to_string()).unwrap();
    let mut arguments = vec![OsStr::new("cosmos"), OsStr::new("--topology"), topology.as_os_str()];
    arguments.extend(options.iter().map(OsStr::new));
    let role = Role::start(&arguments).await;
    Store { caller: Caller::new(&role), _role: role, _folder: folder }
}

impl Store {
    /// Status of a request that is signed with `key`.
    async fn signed(&self, key: &str, method: &str, path: &str, body: &Value) -> u16 {
        let date = cosmos::auth::http_date(now_s());
        let token = cosmos::auth::sign(key, method, path, &date);
        let headers = [P, ("authorization", token.as_str()), ("x-ms-date", date.as_str())];
        self.caller.send_unsigned(method, path, &headers, body).await.unwrap().0
    }

    /// Status of a request with the development token of a tenant.
    async fn with_token(&self, method: &str, path: &str, body: &Value) -> u16 {
        let token = format!("type%3Daad%26ver%3D1.0%26sig%3D{TOKEN}");
        let date = cosmos::auth::http_date(now_s());
        let headers = [P, ("authorization", token.as_str()), ("x-ms-date", date.as_str())];
        self.caller.send_unsigned(method, path, &headers, body).await.unwrap().0
    }
}

fn item(id: &str) -> Value {
    json!({"id": id, "pk": "p"})
}

#[tokio::test]
async fn keys_of_ones_own() {
    let keys = ["--account-key", ACCOUNT_KEY, "--read-only-key", READ_ONLY_KEY, "--ephemeral"];
    let store = start(&keys).await;
    let path = format!("{DOCS}/1");
    assert_eq!(store.signed(ACCOUNT_KEY, "POST", DOCS, &item("1")).await, 201);
    assert_eq!(store.signed(READ_ONLY_KEY, "GET", &path, &Value::Null).await, 200);
    assert_eq!(store.signed(READ_ONLY_KEY, "POST", DOCS, &item("2")).await, 403);
    assert_eq!(store.signed(READ_ONLY_KEY, "DELETE", &path, &Value::Null).await, 403);
    let emulators = stack::serve::COSMOS_KEY;
    assert_eq!(store.signed(emulators, "GET", &path, &Value::Null).await, 401);
    assert_eq!(store.with_token("GET", &path, &Value::Null).await, 401, "no tenant");
}

#[tokio::test]
async fn tokens_of_a_tenant() {
    let store = start(&["--account-key", ACCOUNT_KEY, "--entra-tenant", "t1"]).await;
    assert_eq!(store.with_token("POST", DOCS, &item("1")).await, 201);
    assert_eq!(store.with_token("GET", &format!("{DOCS}/1"), &Value::Null).await, 200);
    let database = json!({"id": "no"});
    assert_eq!(store.with_token("POST", "/dbs", &database).await, 403, "that takes a key");
    let other = start(&["--account-key", ACCOUNT_KEY, "--entra-tenant", "t2"]).await;
    assert_eq!(other.with_token("POST", DOCS, &item("1")).await, 401);
}

#[tokio::test]
async fn ranges_and_throughput() {
    let store = start(&["--ranges", "3", "--enforce-throughput"]).await;
    let path = "/dbs/db/colls/c/pkranges";
    let (status, ranges) = store.caller.send("GET", path, &[], &Value::Null).await.unwrap();
    assert_eq!((status, &ranges["_count"]), (200, &json!(3)));
    let wide = [("x-ms-documentdb-isquery", "True")];
    let query = json!({"query": "SELECT VALUE COUNT(1) FROM c"});
    let (status, _) = store.caller.send("POST", DOCS, &wide, &query).await.unwrap();
    assert_eq!(status, 400, "crossing partitions must be asked for");
    // Each costs seven hundred of the four hundred request units that there are in a second.
    let mut statuses = Vec::new();
    while !statuses.contains(&429) {
        let id = statuses.len().to_string();
        let large = json!({"id": id, "pk": "p", "text": "x".repeat(1_500_000)});
        let (status, _) = store.caller.send("POST", DOCS, &[P], &large).await.unwrap();
        statuses.push(status);
        assert!(statuses.len() < 1000, "never refused");
    }
    assert_eq!(statuses[0], 201);
}

#[tokio::test]
async fn faults_on_order() {
    let rules = json!([
        {"method": "POST", "path": "/docs", "times": 1,
         "fault": {"kind": "refuse", "status": 449}},
        {"method": "POST", "path": "/docs", "times": 1, "fault": {"kind": "drop"}},
    ]);
    let path = "/admin/faults";
    let without = start(&[]).await;
    let refused = without.caller.send_unsigned("PUT", path, &[], &rules).await.unwrap();
    assert_eq!(refused.0, 404, "only with the option");
    let store = start(&["--faults"]).await;
    let caller = &store.caller;
    assert_eq!(caller.send_unsigned("PUT", path, &[], &rules).await.unwrap().0, 200);
    assert_eq!(caller.send("POST", DOCS, &[P], &item("1")).await.unwrap().0, 449);
    let created = caller.send("POST", DOCS, &[P], &item("1")).await;
    assert!(created.is_none(), "the answer is dropped");
    let (status, _) = caller.send("POST", DOCS, &[P], &item("1")).await.unwrap();
    assert_eq!(status, 409, "what was asked for was done");
}
