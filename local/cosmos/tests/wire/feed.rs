//! The change feed and time to live, on a clock that only the test moves.

use cosmos::auth::http_date;
use serde_json::{Value, json};

use crate::harness::{Answer, DOCS, P, START_MS, Service, start};

const FEED: (&str, &str) = ("a-im", "Incremental Feed");

async fn poll(service: &Service, headers: &[(&str, &str)]) -> Answer {
    service.send("GET", DOCS, &[&[FEED], headers].concat(), "").await
}

fn ids(answer: &Answer) -> Vec<String> {
    let documents = answer.json()["Documents"].as_array().unwrap().clone();
    documents.iter().map(|d| d["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn a_feed_is_read_to_its_end_and_resumed() {
    let service = start().await;
    for (id, pk) in [("a", "p"), ("b", "q"), ("c", "p")] {
        service.create(json!({"id": id, "pk": pk})).await;
    }
    let now = poll(&service, &[("if-none-match", "*")]).await;
    assert_eq!(now.status, 304);
    let first = poll(&service, &[("x-ms-max-item-count", "2")]).await;
    assert_eq!((first.status, ids(&first)), (200, vec!["a".to_owned(), "b".to_owned()]));
    assert_eq!(first.header("x-ms-item-count"), "2");
    let second = poll(&service, &[("if-none-match", first.header("etag"))]).await;
    assert_eq!(ids(&second), ["c"]);
    let end = poll(&service, &[("if-none-match", second.header("etag"))]).await;
    assert_eq!((end.status, end.header("etag")), (304, now.header("etag")));
    service.patch("a", json!([{"op": "set", "path": "/n", "value": 1}])).await;
    service.send("DELETE", &format!("{DOCS}/c"), &[P], "").await;
    let resumed = poll(&service, &[("if-none-match", now.header("etag"))]).await;
    assert_eq!(ids(&resumed), ["a"]);
    let after = poll(&service, &[("if-none-match", resumed.header("etag"))]).await;
    assert_eq!(after.status, 304);
    let all = poll(&service, &[]).await;
    assert_eq!(ids(&all), ["b", "a"], "latest versions only, in the order of writing");
    assert_eq!(ids(&poll(&service, &[P]).await), ["a"]);
    assert_eq!(poll(&service, &[("if-none-match", "junk")]).await.status, 400);
    let deletes = [("a-im", "Full-Fidelity Feed")];
    assert_eq!(service.send("GET", DOCS, &deletes, "").await.status, 400);
}

#[tokio::test]
async fn changes_come_plain_or_in_envelopes() {
    let service = start().await;
    let created = service.create(json!({"id": "a", "pk": "p"})).await;
    let lsn: u64 = created.header("lsn").parse().unwrap();
    let plain = poll(&service, &[]).await.json();
    assert_eq!(plain["Documents"][0]["_lsn"], lsn);
    let format = ("x-ms-cosmos-changefeed-wire-format-version", "2021-09-15");
    let wrapped = poll(&service, &[format]).await.json();
    let change: &Value = &wrapped["Documents"][0];
    assert_eq!(change["current"], created.json());
    assert_eq!(change["metadata"]["lsn"], lsn);
    assert_eq!(change["metadata"]["crts"], START_MS / 1000);
}

#[tokio::test]
async fn a_feed_can_start_at_a_time() {
    let service = start().await;
    service.create(json!({"id": "early", "pk": "p"})).await;
    service.advance_ms(60_000);
    service.create(json!({"id": "late", "pk": "p"})).await;
    let from = |second: u64| http_date(START_MS / 1000 + second);
    let all = poll(&service, &[("if-modified-since", &from(0))]).await;
    assert_eq!(ids(&all), ["early", "late"]);
    let some = poll(&service, &[("if-modified-since", &from(30))]).await;
    assert_eq!(ids(&some), ["late"]);
    let none = poll(&service, &[("if-modified-since", &from(61))]).await;
    assert_eq!(none.status, 304);
    service.create(json!({"id": "next", "pk": "p"})).await;
    let next = poll(&service, &[("if-none-match", none.header("etag"))]).await;
    assert_eq!(ids(&next), ["next"]);
}

#[tokio::test]
async fn items_expire_to_the_second_everywhere() {
    let service = start().await;
    service.create(json!({"id": "short", "pk": "p", "ttl": 10})).await;
    service.create(json!({"id": "long", "pk": "p", "ttl": 100})).await;
    service.create(json!({"id": "ever", "pk": "p"})).await;
    service.advance_ms(9_999);
    assert_eq!(service.read("short").await.status, 200);
    service.advance_ms(1);
    assert_eq!(service.read("short").await.code(), (404, 0));
    let left = service.query("SELECT VALUE c.id FROM c ORDER BY c.id", &[P]).await.json();
    assert_eq!(left["Documents"], json!(["ever", "long"]));
    assert_eq!(ids(&poll(&service, &[]).await), ["long", "ever"]);
    assert_eq!(ids(&poll(&service, &[P]).await), ["long", "ever"]);
    assert_eq!(
        service.patch("short", json!([{"op": "set", "path": "/n", "value": 1}])).await.status,
        404
    );
    assert_eq!(service.create(json!({"id": "short", "pk": "p"})).await.status, 201);
    let renewed = json!([{"op": "set", "path": "/ttl", "value": 20}]);
    assert_eq!(service.patch("long", renewed).await.status, 200, "counts from the patch");
    service.advance_ms(19_999);
    assert_eq!(service.read("long").await.status, 200);
    service.advance_ms(1);
    assert_eq!(service.read("long").await.status, 404);
    assert_eq!(service.read("ever").await.status, 200);
}
