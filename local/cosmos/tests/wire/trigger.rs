//! What the .NET SDK asks in gateway mode when a Functions host runs a `cosmosDBTrigger`: the account
//! and its containers, leases as items that are guarded by ETags, and the change feed of a range.
//!
//! The requests are those of `microsoft/azure-cosmos-dotnet-v3` (`ChangeFeed/`, `ChangeFeedProcessor/`)
//! and `Azure/azure-webjobs-sdk-extensions`.

use serde_json::{Value, json};

use crate::harness::{Answer, Service, start};

const LEASES: &str = "/dbs/db/colls/leases";
const PREFIX: &str = "host_dbrid_collrid";

fn key(id: &str) -> String {
    json!([id]).to_string()
}

async fn lease(service: &Service, method: &str, body: &Value, etag: Option<&str>) -> Answer {
    let id = body["id"].as_str().unwrap();
    let key = key(id);
    let mut headers = vec![("x-ms-documentdb-partitionkey", key.as_str())];
    headers.extend(etag.map(|etag| ("if-match", etag)));
    let path = match method {
        "POST" => format!("{LEASES}/docs"),
        _ => format!("{LEASES}/docs/{id}"),
    };
    let body = if method == "GET" { String::new() } else { body.to_string() };
    service.send(method, &path, &headers, body).await
}

async fn changes(service: &Service, etag: Option<&str>) -> (u16, Vec<Value>, String) {
    let mut headers = vec![
        ("a-im", "Incremental Feed"),
        ("x-ms-documentdb-partitionkeyrangeid", "0"),
        ("x-ms-max-item-count", "2"),
        ("x-ms-cosmos-sdk-supportedcapabilities", "1"),
    ];
    headers.extend(etag.map(|etag| ("if-none-match", etag)));
    let answer = service.send("GET", "/dbs/db/colls/c/docs", &headers, "").await;
    let found = match answer.status {
        304 => Vec::new(),
        _ => answer.json()["Documents"].as_array().unwrap().clone(),
    };
    (answer.status, found, answer.header("etag").to_owned())
}

#[tokio::test]
async fn a_trigger_finds_its_range_keeps_its_lease_and_reads_on() {
    let service = start().await;
    let account = service.send("GET", "/", &[], "").await.json();
    assert_eq!(account["userConsistencyPolicy"]["defaultConsistencyLevel"], "Session");
    for name in ["writableLocations", "readableLocations"] {
        let endpoint = account[name][0]["databaseAccountEndpoint"].as_str().unwrap();
        assert!(endpoint.contains(&service.address.port().to_string()), "{endpoint}");
    }
    assert!(account["queryEngineConfiguration"].is_string());

    assert_eq!(service.send("GET", LEASES, &[], "").await.status, 404);
    let declared = json!({"id": "leases", "partitionKey": {"paths": ["/id"], "kind": "Hash"}});
    let created = service.send("POST", "/dbs/db/colls", &[], declared.to_string()).await;
    assert_eq!(created.status, 201);
    let again = service.send("POST", "/dbs/db/colls", &[], declared.to_string()).await;
    assert_eq!(again.status, 409, "another instance was faster");

    let incremental = [("a-im", "Incremental Feed")];
    let ranges = service.send("GET", "/dbs/db/colls/c/pkranges", &incremental, "").await;
    assert_eq!(ranges.json()["PartitionKeyRanges"][0]["id"], "0");
    let known = [incremental[0], ("if-none-match", ranges.header("etag"))];
    assert_eq!(service.send("GET", "/dbs/db/colls/c/pkranges", &known, "").await.status, 304);

    // The store of leases: a lock that expires, and a mark that all leases are there.
    let lock = json!({"id": format!("{PREFIX}.lock"), "ttl": 30});
    assert_eq!(lease(&service, "POST", &lock, None).await.status, 201);
    assert_eq!(lease(&service, "POST", &lock, None).await.status, 409);
    let own = json!({
        "id": format!("{PREFIX}..0"), "version": 0, "LeaseToken": "0", "Owner": null,
        "ContinuationToken": null, "properties": {}, "timestamp": "2026-01-01T00:00:00Z", "Mode": "Incremental Feed",
    });
    assert_eq!(lease(&service, "POST", &own, None).await.status, 201);
    let mark = json!({"id": format!("{PREFIX}.info")});
    assert_eq!(lease(&service, "GET", &mark, None).await.status, 404);
    assert_eq!(lease(&service, "POST", &mark, None).await.status, 201);
    assert_eq!(lease(&service, "DELETE", &lock, None).await.status, 204);
    let query = json!({
        "query": "SELECT * FROM c WHERE STARTSWITH(c.id, @prefix)",
        "parameters": [{"name": "@prefix", "value": format!("{PREFIX}..")}],
    });
    let headers = [
        ("x-ms-documentdb-isquery", "True"),
        ("x-ms-documentdb-query-enablecrosspartition", "True"),
    ];
    let found = service.send("POST", &format!("{LEASES}/docs"), &headers, query.to_string()).await;
    let found = found.json()["Documents"].as_array().unwrap().clone();
    assert_eq!((found.len(), &found[0]["LeaseToken"]), (1, &json!("0")));

    // Whoever holds the version takes the lease; whoever does not has lost it.
    let etag = found[0]["_etag"].as_str().unwrap().to_owned();
    let mut mine = found[0].clone();
    mine["Owner"] = "one".into();
    let taken = lease(&service, "PUT", &mine, Some(&etag)).await;
    assert_eq!(taken.status, 200);
    mine["Owner"] = "two".into();
    assert_eq!(lease(&service, "PUT", &mine, Some(&etag)).await.code(), (412, 0));

    let (status, nothing, position) = changes(&service, None).await;
    assert_eq!((status, nothing.len()), (304, 0));
    for n in 0..5 {
        service.create(json!({"id": n.to_string(), "pk": "p", "n": n})).await;
    }
    let (mut seen, mut position) = (Vec::new(), position);
    loop {
        let (status, page, next) = changes(&service, Some(&position)).await;
        if status == 304 {
            break;
        }
        assert!(page.len() <= 2 && page.iter().all(|item| item["_lsn"].is_u64()));
        seen.extend(page.into_iter().map(|item| item["n"].clone()));
        // A checkpoint: the position goes into the lease.
        let held = lease(&service, "GET", &mine, None).await;
        let mut body = held.json();
        body["ContinuationToken"] = next.clone().into();
        assert_eq!(lease(&service, "PUT", &body, Some(held.header("etag"))).await.status, 200);
        position = next;
    }
    assert_eq!(seen, [0, 1, 2, 3, 4].map(Value::from));
    let held = lease(&service, "GET", &mine, None).await.json();
    assert_eq!(changes(&service, held["ContinuationToken"].as_str()).await.0, 304);
}
