//! Who gets in, what paths and headers mean, and how the connection itself behaves.

use std::time::Duration;

use cosmos::{EMULATOR_KEY, auth};
use listener::testing::Client;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::{DOCS, P, START_MS, start, start_with};

#[tokio::test]
async fn only_signed_requests_get_in() {
    let service = start().await;
    let date = auth::http_date(START_MS / 1000);
    let good = auth::sign(EMULATOR_KEY, "GET", "/dbs/db", &date);
    let wrong_key = auth::sign("bm90IHRoZSBrZXk=", "GET", "/dbs/db", &date);
    let old_date = auth::http_date(START_MS / 1000 - 16 * 60);
    let old = auth::sign(EMULATOR_KEY, "GET", "/dbs/db", &old_date);
    let d = ("x-ms-date", date.as_str());
    for (headers, status) in [
        (vec![("authorization", good.as_str()), d], 200),
        (vec![("authorization", good.as_str()), ("date", date.as_str())], 200),
        (vec![], 401),
        (vec![("authorization", good.as_str())], 401),
        (vec![("authorization", wrong_key.as_str()), d], 401),
        (vec![("authorization", "nonsense"), d], 401),
        (vec![("authorization", "type%3daad%26ver%3d1.0%26sig%3dx.y.z"), d], 401),
        (vec![("authorization", old.as_str()), ("x-ms-date", old_date.as_str())], 403),
    ] {
        let answer = service.send_unsigned("GET", "/dbs/db", &headers, "").await;
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.text);
        if status != 200 {
            let code = if status == 401 { "Unauthorized" } else { "Forbidden" };
            assert_eq!(answer.json()["code"], code);
            assert!(!answer.text.contains(EMULATOR_KEY));
        }
    }
    let elsewhere =
        service.send_unsigned("GET", "/dbs/other", &[("authorization", &good), d], "").await;
    assert_eq!(elsewhere.status, 401, "a signature is good for its own resource only");
}

#[tokio::test]
async fn the_account_names_the_address_that_the_client_used() {
    let service = start().await;
    let answer = service.send("GET", "/", &[], "").await;
    let account = answer.json();
    let endpoint = format!("http://{}/", service.address);
    assert_eq!(account["writableLocations"][0]["databaseAccountEndpoint"], endpoint.as_str());
    assert_eq!(account["readableLocations"][0]["databaseAccountEndpoint"], endpoint.as_str());
    assert_eq!(account["userConsistencyPolicy"]["defaultConsistencyLevel"], "Session");
    assert!(answer.header("x-ms-request-charge").parse::<f64>().is_ok());
    assert!(!answer.header("x-ms-activity-id").is_empty());
    let echoed = service.send("GET", "/", &[("x-ms-activity-id", "mine")], "").await;
    assert_eq!(echoed.header("x-ms-activity-id"), "mine");
}

#[tokio::test]
async fn resources_are_found_by_name_and_by_resource_id_with_any_slashes() {
    let service = start().await;
    let container = service.send("GET", "/dbs/db/colls/c", &[], "").await.json();
    assert_eq!(container["custom"]["kept"], true, "unknown properties are kept");
    let created = service.create(json!({"id": "a", "pk": "p"})).await.json();
    let by_rid = format!("/{}", container["_self"].as_str().unwrap());
    for path in ["/dbs/db/colls/c/", "//dbs/db/colls/c", by_rid.as_str()] {
        let answer = service.send("GET", path, &[], "").await;
        assert_eq!(answer.json()["_rid"], container["_rid"], "{path}");
    }
    let item_self = format!("/{}", created["_self"].as_str().unwrap());
    assert_eq!(service.send("GET", &item_self, &[P], "").await.json(), created);
    let ranges = service.send("GET", &format!("{by_rid}pkranges"), &[], "").await;
    let range = &ranges.json()["PartitionKeyRanges"][0];
    assert_eq!((&range["id"], &range["minInclusive"]), (&json!("0"), &json!("")));
    assert_eq!(range["maxExclusive"], "FF");
    let known = [("if-none-match", ranges.header("etag"))];
    let again = service.send("GET", "/dbs/db/colls/c/pkranges", &known, "").await;
    assert_eq!(again.status, 304, "clients ask until they hear that nothing changed");
    for (path, code) in [
        ("/dbs/none", (404, 0)),
        ("/dbs/db/colls/none", (404, 0)),
        ("/dbs/db/colls/none/docs/x", (404, 1003)),
        ("/dbs/none/colls/c/docs/x", (404, 1003)),
        ("/dbs/db/colls/c/sprocs", (404, 0)),
        ("/nothing", (404, 0)),
    ] {
        assert_eq!(service.send("GET", path, &[P], "").await.code(), code, "{path}");
    }
    assert_eq!(service.send("PUT", "/dbs", &[], "{}").await.status, 405);
}

#[tokio::test]
async fn what_clients_believe_about_the_container_is_checked() {
    let service = start().await;
    let created = service.create(json!({"id": "a", "pk": "p"})).await;
    let rid = created.header("x-ms-content-path").to_owned();
    let lsn: u64 = created.header("lsn").parse().unwrap();
    let path = format!("{DOCS}/a");
    for (header, value, code) in [
        ("x-ms-cosmos-intended-collection-rid", rid.as_str(), (200, 0)),
        ("x-ms-cosmos-intended-collection-rid", "AAAAAA==", (400, 1024)),
        ("x-ms-documentdb-partitionkeyrangeid", "0", (200, 0)),
        ("x-ms-documentdb-partitionkeyrangeid", "7", (410, 1002)),
        ("x-ms-session-token", created.header("x-ms-session-token"), (200, 0)),
        ("x-ms-session-token", &format!("0:-1#{}", lsn + 1), (404, 1002)),
        ("x-ms-session-token", &format!("0:1#{}#0=5", lsn + 1), (404, 1002)),
    ] {
        let answer = service.send("GET", &path, &[P, (header, value)], "").await;
        assert_eq!(answer.code(), code, "{header}: {value}");
    }
    assert_eq!(service.send("DELETE", "/dbs/db/colls/c", &[], "").await.status, 204);
    let same = json!({"id": "c", "partitionKey": {"paths": ["/pk"]}}).to_string();
    assert_eq!(service.send("POST", "/dbs/db/colls", &[], same).await.status, 201);
    let stale = [P, ("x-ms-cosmos-intended-collection-rid", rid.as_str())];
    assert_eq!(service.send("GET", &path, &stale, "").await.code(), (400, 1024));
}

#[tokio::test]
async fn bodies_are_bounded_and_must_be_whole() {
    let service = start().await;
    let huge = vec![b' '; 5 * 1024 * 1024];
    // The server may close before it has read everything; over the limit it never says yes.
    let answer = service.send("POST", DOCS, &[P], huge).await;
    assert_eq!(answer.status, 413);
    let utf8 = service.send("POST", DOCS, &[P], vec![b'{', b'"', 0xFF, b'"', b'}']).await;
    assert_eq!(utf8.status, 400);
    for body in ["", "nonsense", "[]", "{}", r#"{"id":5,"pk":"p"}"#, r#"{"id":"a","pk":"p""#] {
        let answer = service.send("POST", DOCS, &[P], body).await;
        assert_eq!(answer.code(), (400, 0), "{body}");
        assert_eq!(answer.json()["code"], "BadRequest");
    }
    let mut socket = TcpStream::connect(service.address).await.unwrap();
    let head = "POST /dbs HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nshort";
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.shutdown().await.unwrap();
    let mut answer = Vec::new();
    let read = timeout(Duration::from_secs(10), socket.read_to_end(&mut answer)).await;
    read.expect("the server gives up on half a body").unwrap();
    assert!(!answer.starts_with(b"HTTP/1.1 2"));
}

#[tokio::test]
async fn binary_bodies_are_read_and_text_is_answered() {
    let service = start().await;
    let mut body = vec![0x80, 0xEA, 0x0A, 0x2C, 0x81, b'a', 0x82, b'p', b'k', 0x81, b'p'];
    body[2] = (body.len() - 3) as u8;
    let answer = service.send("POST", DOCS, &[P], body.clone()).await;
    assert_eq!((answer.status, &answer.json()["pk"]), (201, &json!("p")));
    body.truncate(6);
    assert_eq!(service.send("POST", DOCS, &[P], body).await.code(), (400, 0));
}

#[tokio::test]
async fn http_2_without_tls_works_the_same() {
    let service = start().await;
    let date = auth::http_date(START_MS / 1000);
    let token = auth::sign(EMULATOR_KEY, "GET", "/", &date);
    let headers = [("authorization", token.as_str()), ("x-ms-date", &date)];
    let answer = service.send_by(&Client::http2(), "GET", "/", &headers, "").await;
    assert_eq!(answer.status, 200);
    let endpoint = format!("http://{}/", service.address);
    assert_eq!(answer.json()["writableLocations"][0]["databaseAccountEndpoint"], endpoint);
}

#[tokio::test]
async fn a_budget_of_request_units_makes_429() {
    let service = start_with(|options| options.request_units_per_second = Some(10.0)).await;
    let mut refused = None;
    for n in 0..10 {
        let answer = service.create(json!({"id": n.to_string(), "pk": "p"})).await;
        if answer.status != 201 {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("ten writes cost more than ten units");
    assert_eq!(refused.code(), (429, 3200));
    let wait: u64 = refused.header("x-ms-retry-after-ms").parse().unwrap();
    service.advance_ms(wait + 100);
    assert_eq!(service.create(json!({"id": "later", "pk": "p"})).await.status, 201);
}

#[tokio::test]
async fn shutdown_does_not_wait_for_idle_connections() {
    let service = start().await;
    assert_eq!(service.send("GET", "/dbs", &[], "").await.status, 200);
    let idle = TcpStream::connect(service.address).await.unwrap();
    service.shutdown.cancel();
    let ended = timeout(Duration::from_secs(10), service.running).await;
    ended.expect("the server ends").unwrap().unwrap();
    drop(idle);
}

#[tokio::test]
async fn offers_are_enough_for_throughput_calls() {
    let service = start().await;
    let offers = service.send("GET", "/offers", &[], "").await.json();
    let offer = offers["Offers"][0].clone();
    assert_eq!(offer["content"]["offerThroughput"], 400);
    let path = format!("/offers/{}", offer["id"].as_str().unwrap());
    let mut changed: Value = offer.clone();
    changed["content"]["offerThroughput"] = json!(900);
    assert_eq!(service.send("PUT", &path, &[], changed.to_string()).await.status, 200);
    let again = service.send("GET", &path, &[], "").await.json();
    assert_eq!(again["content"]["offerThroughput"], 900);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_is_no_failure_of_the_data_directory() {
    let folder = std::env::temp_dir().join(format!("cosmos-stop-{}", uuid::Uuid::new_v4()));
    // Often, because it is a matter of who is told first.
    for _ in 0..30 {
        let service = start_with(|options| options.data = Some(folder.clone())).await;
        service.create(json!({"id": uuid::Uuid::new_v4().to_string(), "pk": "a"})).await;
        service.shutdown.cancel();
        service.running.await.unwrap().unwrap();
    }
    std::fs::remove_dir_all(folder).unwrap();
}
