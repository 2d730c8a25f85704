//! The table of what is supported in `docs/local-services.md`, row by row against the service.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};

use crate::harness::{Answer, DOCS, P, Service, start_with};

/// The column that speaks of this service, by feature.
fn table() -> BTreeMap<String, String> {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/local-services.md");
    let text = std::fs::read_to_string(file).unwrap();
    let table = text.split("| feature | here |").nth(1).unwrap();
    let rows = table.lines().skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| {
        let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
        (cells[0].to_owned(), cells[1].to_owned())
    })
    .collect()
}

async fn batch(service: &Service, operations: &Value) -> Answer {
    let headers =
        [P, ("x-ms-cosmos-is-batch-request", "True"), ("x-ms-cosmos-batch-atomic", "True")];
    service.send("POST", DOCS, &headers, operations.to_string()).await
}

async fn container(service: &Service, declared: &Value) -> u16 {
    service.send("POST", "/dbs/db/colls", &[], declared.to_string()).await.status
}

/// Whether a query over two items gives this.
async fn gives(service: &Service, text: &str, expected: &Value) -> bool {
    let answer = service.query(text, &[]).await;
    answer.status == 200 && answer.json()["Documents"] == *expected
}

/// What the service really does about a feature, in the words of the table.
async fn probe(service: &Service, feature: &str) -> String {
    let no = |answer: &Answer| format!("no, {}", answer.status);
    let yes = |holds: bool| if holds { "yes".to_owned() } else { "no".to_owned() };
    match feature {
        "items: create, read, replace, upsert, delete" => {
            let created = service.create(json!({"id": "i", "pk": "p"})).await.status;
            let path = format!("{DOCS}/i");
            let body = r#"{"id":"i","pk":"p","n":1}"#;
            let replaced = service.send("PUT", &path, &[P], body).await.status;
            let upsert = [P, ("x-ms-documentdb-is-upsert", "True")];
            let upserted = service.send("POST", DOCS, &upsert, body).await.status;
            let read = service.read("i").await.status;
            let deleted = service.send("DELETE", &path, &[P], "").await.status;
            yes([created, replaced, upserted, read, deleted] == [201, 200, 200, 200, 204])
        }
        "patch with a condition" => {
            let set = json!([{"op": "set", "path": "/n", "value": 1}]);
            let patch = |condition: &str| json!({"operations": set, "condition": condition});
            let refused = service.patch("a", patch("from c where c.n = 77")).await.status;
            let done = service.patch("a", patch("from c where c.n = 1")).await.status;
            yes((refused, done) == (412, 200))
        }
        "batch: atomic, at most 100 operations" => {
            let create = |id: &str| json!({"operationType": "Create", "resourceBody": {"id": id, "pk": "p"}});
            let torn = batch(service, &json!([create("new"), create("a")])).await.status;
            let left = service.read("new").await.status;
            let many: Vec<_> = (0..101).map(|n| create(&format!("m{n}"))).collect();
            yes((torn, left, batch(service, &json!(many)).await.status) == (207, 404, 400))
        }
        "`If-Match` inside a batch" => {
            let stale = json!([
                {"operationType": "Upsert", "resourceBody": {"id": "a", "pk": "p"}, "ifMatch": "x"}
            ]);
            yes(batch(service, &stale).await.json()[0]["statusCode"] == 412)
        }
        "time to live" => {
            service.create(json!({"id": "short", "pk": "p", "ttl": 1})).await;
            service.advance_ms(2000);
            yes(service.read("short").await.status == 404)
        }
        "unique keys" => {
            let declared = json!({"id": "u", "partitionKey": {"paths": ["/pk"]},
                "uniqueKeyPolicy": {"uniqueKeys": [{"paths": ["/u"]}]}});
            container(service, &declared).await;
            let create = |id: &str| json!({"id": id, "pk": "p", "u": 1}).to_string();
            let path = "/dbs/db/colls/u/docs";
            let first = service.send("POST", path, &[P], create("1")).await.status;
            let second = service.send("POST", path, &[P], create("2")).await.status;
            yes((first, second) == (201, 409))
        }
        "hierarchical partition keys" => {
            let key = json!({"paths": ["/a", "/b"], "kind": "MultiHash", "version": 2});
            container(service, &json!({"id": "h", "partitionKey": key})).await;
            let header = [("x-ms-documentdb-partitionkey", r#"["x","y"]"#)];
            let body = r#"{"id":"1","a":"x","b":"y"}"#;
            yes(service.send("POST", "/dbs/db/colls/h/docs", &header, body).await.status == 201)
        }
        "ORDER BY several properties" => {
            let text = "SELECT VALUE c.id FROM c ORDER BY c.k, c.n DESC";
            yes(gives(service, text, &json!(["b", "a"])).await)
        }
        "GROUP BY with aggregates" => {
            let text = "SELECT c.k, SUM(c.n) AS n FROM c GROUP BY c.k";
            yes(gives(service, text, &json!([{"k": 1, "n": 3}])).await)
        }
        "GROUP BY with ORDER BY" => {
            let text = "SELECT c.k FROM c GROUP BY c.k ORDER BY c.k";
            no(&service.query(text, &[]).await)
        }
        "subqueries, EXISTS, ARRAY" => {
            let text = "SELECT VALUE ARRAY(SELECT VALUE t FROM t IN c.l WHERE t > 1) FROM c \
                        WHERE EXISTS(SELECT VALUE t FROM t IN c.l)";
            yes(gives(service, text, &json!([[2]])).await)
        }
        "change feed, latest version" => {
            let answer = service.send("GET", DOCS, &[("a-im", "Incremental Feed")], "").await;
            yes(answer.status == 200 && answer.json()["_count"] == 2)
        }
        "change feed, all versions and deletes" => {
            let mode = ("a-im", "Full-Fidelity Feed");
            let now = service.send("GET", DOCS, &[mode, ("if-none-match", "*")], "").await;
            service.send("DELETE", &format!("{DOCS}/a"), &[P], "").await;
            let from_now = [mode, ("if-none-match", now.header("etag"))];
            let answer = service.send("GET", DOCS, &from_now, "").await;
            let change = &answer.json()["Documents"][0];
            yes(change["metadata"]["operationType"] == "delete" && change["previous"]["id"] == "a")
        }
        "several partition key ranges" => {
            let strict = start_with(|options| options.partition_key_ranges = 4).await;
            let answer = strict.send("GET", "/dbs/db/colls/c/pkranges", &[], "").await;
            yes(answer.json()["_count"] == 4)
        }
        "session tokens" => {
            let ahead = [P, ("x-ms-session-token", "0:-1#999999")];
            let answer = service.send("GET", &format!("{DOCS}/a"), &ahead, "").await;
            yes(answer.code() == (404, 1002))
        }
        "stored procedures, triggers, functions" => {
            no(&service.send("GET", "/dbs/db/colls/c/sprocs", &[], "").await)
        }
        "users and permissions" => no(&service.send("GET", "/dbs/db/users", &[], "").await),
        // Killed for real in `local/stack/tests/it/store.rs`; here only what is left on the disk.
        "survives SIGKILL" => {
            let folder = std::env::temp_dir().join(format!("cosmos-{}", uuid::Uuid::new_v4()));
            let first = start_with(|options| options.data = Some(folder.clone())).await;
            first.create(json!({"id": "kept", "pk": "p"})).await;
            let copy = folder.with_extension("copy");
            std::fs::create_dir_all(&copy).unwrap();
            for entry in std::fs::read_dir(&folder).unwrap() {
                let path = entry.unwrap().path();
                std::fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
            }
            let second = start_with(|options| options.data = Some(copy.clone())).await;
            let found = second.read("kept").await.status;
            std::fs::remove_dir_all(&folder).unwrap();
            std::fs::remove_dir_all(&copy).unwrap();
            yes(found == 200)
        }
        "direct mode, several regions" => {
            let account = service.send("GET", "/", &[], "").await.json();
            yes(account["writableLocations"].as_array().map_or(0, Vec::len) > 1)
        }
        other => panic!("'{other}' has no probe"),
    }
}

#[tokio::test]
async fn the_table_tells_the_truth() {
    let table = table();
    assert!(table.len() >= 19, "{table:?}");
    for (feature, stated) in table {
        let service = start_with(|_| {}).await;
        service.create(json!({"id": "a", "pk": "p", "k": 1, "n": 1})).await;
        service.create(json!({"id": "b", "pk": "p", "k": 1, "n": 2, "l": [1, 2]})).await;
        assert_eq!(probe(&service, &feature).await, stated, "{feature}");
    }
}
