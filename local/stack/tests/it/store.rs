//! The store killed while clients write to it: what was acknowledged is there, batches are whole.

mod options;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use stack::serve::COSMOS_KEY;

use crate::role::Role;

const DOCS: &str = "/dbs/db/colls/c/docs";

/// Deaths of the store in one run.
const KILLS: usize = 4;

/// Acknowledged writes between two of them.
const WRITES_PER_LIFE: usize = 150;

const WRITERS: usize = 6;

struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[derive(Clone)]
struct Caller {
    client: Client<HttpConnector, Full<Bytes>>,
    address: String,
}

impl Caller {
    fn new(role: &Role) -> Self {
        let client = Client::builder(TokioExecutor::new()).build_http();
        Self { client, address: role.address.clone() }
    }

    /// `None` when the store died before it answered.
    async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Option<(u16, Value)> {
        let date = cosmos::auth::http_date(now_s());
        let token = cosmos::auth::sign(COSMOS_KEY, method, path, &date);
        let signed = [("authorization", token.as_str()), ("x-ms-date", date.as_str())];
        self.send_unsigned(method, path, &[&signed, headers].concat(), body).await
    }

    /// The same with no other headers than these.
    async fn send_unsigned(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &Value,
    ) -> Option<(u16, Value)> {
        let uri = format!("http://{}{path}", self.address);
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let request = request.body(Full::new(Bytes::from(body))).unwrap();
        let response = self.client.request(request).await.ok()?;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.ok()?.to_bytes();
        Some((status, serde_json::from_slice(&bytes).unwrap_or(Value::Null)))
    }
}

#[expect(clippy::disallowed_methods, reason = "requests carry the real time")]
fn now_s() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.unwrap().as_secs()
}

async fn start(folder: &Path, topology: &Path) -> Role {
    let option = OsStr::new;
    Role::start(&[
        option("cosmos"),
        option("--topology"),
        topology.as_os_str(),
        option("--data"),
        folder.as_os_str(),
    ])
    .await
}

/// What a writer knows to be there: the ETag of every single item, and the pairs.
#[derive(Default)]
struct Acknowledged {
    etags: BTreeMap<String, String>,
    /// Partition to how far its counter was moved, once per acknowledged batch.
    pairs: BTreeMap<String, u64>,
}

/// Creates, replaces under a condition, and moves two counters together, until the store is gone.
async fn write(caller: Caller, life: usize, me: usize, count: Arc<AtomicUsize>) -> Acknowledged {
    let mut known = Acknowledged::default();
    let pair = format!("pair-{life}-{me}");
    for turn in 0u64.. {
        let id = format!("i-{life}-{me}-{turn}");
        let key = json!([id]).to_string();
        let partition = ("x-ms-documentdb-partitionkey", key.as_str());
        let item = json!({"id": id, "pk": id, "n": 0, "text": "x".repeat(500)});
        let Some((status, created)) = caller.send("POST", DOCS, &[partition], &item).await else {
            return known;
        };
        assert_eq!(status, 201);
        let etag = created["_etag"].as_str().unwrap().to_owned();
        known.etags.insert(id.clone(), etag.clone());
        count.fetch_add(1, Ordering::Relaxed);

        let headers = [partition, ("if-match", etag.as_str())];
        let item = json!({"id": id, "pk": id, "n": 1});
        let path = format!("{DOCS}/{id}");
        // Until the answer is there either version may be.
        known.etags.remove(&id);
        let Some((status, replaced)) = caller.send("PUT", &path, &headers, &item).await else {
            return known;
        };
        assert_eq!(status, 200);
        known.etags.insert(id, replaced["_etag"].as_str().unwrap().to_owned());

        let both = json!([
            {"operationType": "Upsert", "resourceBody": {"id": "a", "pk": pair, "n": turn + 1}},
            {"operationType": "Upsert", "resourceBody": {"id": "b", "pk": pair, "n": turn + 1}},
        ]);
        let key = json!([pair]).to_string();
        let headers = [
            ("x-ms-documentdb-partitionkey", key.as_str()),
            ("x-ms-cosmos-is-batch-request", "True"),
            ("x-ms-cosmos-batch-atomic", "True"),
        ];
        known.pairs.entry(pair.clone()).or_default();
        let Some((status, _)) = caller.send("POST", DOCS, &headers, &both).await else {
            return known;
        };
        assert_eq!(status, 200);
        known.pairs.insert(pair.clone(), turn + 1);
        count.fetch_add(1, Ordering::Relaxed);
    }
    known
}

/// Whatever is read while the store lives must be there after it died, too.
async fn watch(caller: Caller, stop: Arc<AtomicBool>) -> u64 {
    let mut seen = 0;
    while !stop.load(Ordering::Relaxed) {
        let headers = [("a-im", "Incremental Feed"), ("x-ms-max-item-count", "1000")];
        let position = format!("\"{seen}\"");
        let headers = [headers[0], headers[1], ("if-none-match", position.as_str())];
        match caller.send("GET", DOCS, &headers, &Value::Null).await {
            Some((200, page)) => {
                let all = page["Documents"].as_array().unwrap();
                seen = all.iter().filter_map(|d| d["_lsn"].as_u64()).max().unwrap_or(seen);
            }
            Some(_) => tokio::task::yield_now().await,
            None => return seen,
        }
    }
    seen
}

async fn check(caller: &Caller, known: &Acknowledged) {
    for (id, etag) in &known.etags {
        let key = json!([id]).to_string();
        let partition = [("x-ms-documentdb-partitionkey", key.as_str())];
        let path = format!("{DOCS}/{id}");
        let (status, item) = caller.send("GET", &path, &partition, &Value::Null).await.unwrap();
        assert_eq!((status, item["_etag"].as_str()), (200, Some(etag.as_str())), "{id}");
    }
    for (pair, acknowledged) in &known.pairs {
        let key = json!([pair]).to_string();
        let partition = [("x-ms-documentdb-partitionkey", key.as_str())];
        let mut counts = Vec::new();
        for id in ["a", "b"] {
            let path = format!("{DOCS}/{id}");
            let read = caller.send("GET", &path, &partition, &Value::Null).await.unwrap();
            counts.push(if read.0 == 404 { 0 } else { read.1["n"].as_u64().unwrap() });
        }
        assert_eq!(counts[0], counts[1], "{pair}: a torn batch");
        assert!(counts[0] >= *acknowledged, "{pair}: {counts:?}, acknowledged {acknowledged}");
    }
}

#[tokio::test]
async fn a_killed_store_has_lost_nothing_that_it_acknowledged() {
    let folder = std::env::temp_dir().join(format!("store-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&folder).unwrap();
    let folder = Folder(folder);
    let topology = folder.0.join("topology.json");
    let declared = json!({"cosmos": {"databases": [
        {"id": "db", "containers": [{"id": "c", "partitionKey": {"paths": ["/pk"]}}]},
    ]}});
    std::fs::write(&topology, declared.to_string()).unwrap();
    let data = folder.0.join("data");
    let mut all = Vec::new();
    let mut seen = 0;
    for life in 0..KILLS {
        let role = start(&data, &topology).await;
        let caller = Caller::new(&role);
        for known in &all {
            check(&caller, known).await;
        }
        let headers = [("x-ms-documentdb-isquery", "True")];
        let query = json!({"query": "SELECT VALUE COUNT(1) FROM c"});
        let (status, _) = caller.send("POST", DOCS, &headers, &query).await.unwrap();
        assert_eq!(status, 200);
        let (count, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let mut writers = tokio::task::JoinSet::new();
        for me in 0..WRITERS {
            writers.spawn(write(caller.clone(), life, me, count.clone()));
        }
        let mut watcher = tokio::task::JoinSet::new();
        watcher.spawn(watch(caller.clone(), stop.clone()));
        while count.load(Ordering::Relaxed) < WRITES_PER_LIFE {
            tokio::task::yield_now().await;
            assert!(!writers.is_empty());
        }
        // SIGKILL, with requests under way.
        drop(role);
        while let Some(known) = writers.join_next().await {
            all.push(known.unwrap());
        }
        stop.store(true, Ordering::Relaxed);
        seen = watcher.join_next().await.unwrap().unwrap().max(seen);
    }
    let role = start(&data, &topology).await;
    let caller = Caller::new(&role);
    for known in &all {
        check(&caller, known).await;
    }
    let headers = [("a-im", "Incremental Feed"), ("if-none-match", "*")];
    let latest = caller.send("GET", DOCS, &headers, &Value::Null).await.unwrap();
    assert_eq!(latest.0, 304);
    let position = format!("\"{seen}\"");
    let headers = [("a-im", "Incremental Feed"), ("if-none-match", position.as_str())];
    let (_, after) = caller.send("GET", DOCS, &headers, &Value::Null).await.unwrap();
    let newer = after["Documents"].as_array().into_iter().flatten();
    assert!(newer.into_iter().all(|d| d["_lsn"].as_u64() > Some(seen)), "a feed seen goes on");
}

#[tokio::test]
async fn a_damaged_store_does_not_start_and_says_why() {
    let folder = std::env::temp_dir().join(format!("store-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir_all(&folder).unwrap();
    let folder = Folder(folder);
    let topology = folder.0.join("topology.json");
    std::fs::write(&topology, r#"{"cosmos": {"databases": [{"id": "db"}]}}"#).unwrap();
    let data = folder.0.join("data");
    drop(start(&data, &topology).await);
    let catalogue = data.join("catalogue.json");
    let text = std::fs::read_to_string(&catalogue).unwrap();
    std::fs::write(&catalogue, text.replace("\"db\"", "\"dc\"")).unwrap();
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_stack"))
        .args(["serve", "cosmos", "--topology"])
        .arg(&topology)
        .arg("--data")
        .arg(&data)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("catalogue.json") && said.contains("checksum"), "{said}");
}
