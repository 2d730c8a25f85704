//! The change feed and time to live, on a clock that only the test moves.

use cosmos::auth::http_date;
use serde_json::{Value, json};

use crate::harness::{Answer, DOCS, P, START_MS, Service, start, start_with};

const FEED: (&str, &str) = ("a-im", "Incremental Feed");
const ALL_VERSIONS: (&str, &str) = ("a-im", "Full-Fidelity Feed");

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
}

/// What happened, as `event id position`.
fn events(answer: &Answer) -> Vec<String> {
    let changes = answer.json()["Documents"].as_array().cloned().unwrap_or_default();
    let told = changes.iter().map(|change| {
        let (metadata, image) = (&change["metadata"], change.get("current"));
        let id = image.or_else(|| change.get("previous")).unwrap()["id"].as_str().unwrap();
        let previous = &metadata["previousImageLSN"];
        format!("{} {id} {previous}", metadata["operationType"].as_str().unwrap())
    });
    told.collect()
}

async fn poll_all(service: &Service, headers: &[(&str, &str)]) -> Answer {
    service.send("GET", DOCS, &[&[ALL_VERSIONS], headers].concat(), "").await
}

#[tokio::test]
async fn all_versions_and_deletes() {
    let folder = std::env::temp_dir().join(format!("cosmos-{}", uuid::Uuid::new_v4()));
    let kept = |options: &mut cosmos::Options| options.data = Some(folder.clone());
    let service = start_with(kept).await;
    service.create(json!({"id": "a", "pk": "p"})).await;
    for headers in [vec![], vec![("if-modified-since", "Sun, 06 Nov 1994 08:49:37 GMT")]] {
        assert_eq!(poll_all(&service, &headers).await.status, 400, "neither beginning nor time");
    }
    let now = poll_all(&service, &[("if-none-match", "*")]).await;
    assert_eq!(now.status, 304);
    service.patch("a", json!([{"op": "set", "path": "/n", "value": 1}])).await;
    service.create(json!({"id": "b", "pk": "q", "ttl": 1})).await;
    service.send("DELETE", &format!("{DOCS}/a"), &[P], "").await;
    service.advance_ms(2000);
    // The write finds what has expired and removes it first.
    service.create(json!({"id": "b", "pk": "q"})).await;
    let from_now = [("if-none-match", now.header("etag"))];
    let all = ["replace a 1", "create b null", "delete a 2", "delete b 3", "create b null"];
    let answer = poll_all(&service, &from_now).await;
    assert_eq!(events(&answer), all);
    let expired = &answer.json()["Documents"][3]["metadata"];
    assert_eq!(expired["timeToLiveExpired"], true);
    assert_eq!((&expired["id"], &expired["partitionKey"]), (&json!("b"), &json!({"pk": "q"})));
    assert_eq!(events(&poll_all(&service, &[from_now[0], P]).await), [all[0], all[2]]);
    // Page by page.
    let (mut position, mut paged) = (now.header("etag").to_owned(), Vec::new());
    loop {
        let next = [("if-none-match", position.as_str()), ("x-ms-max-item-count", "2")];
        let page = poll_all(&service, &next).await;
        if page.status == 304 {
            break;
        }
        paged.extend(events(&page));
        position = page.header("etag").to_owned();
    }
    assert_eq!(paged, all);
    // A copy of the disk as a kill would leave it tells the same.
    let copy = folder.with_extension("copy");
    std::fs::create_dir_all(&copy).unwrap();
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.join(path.file_name().unwrap())).unwrap();
    }
    let again = start_with(|options| options.data = Some(copy.clone())).await;
    again.advance_ms(2000);
    let answer = poll_all(&again, &from_now).await;
    assert_eq!(events(&answer), all, "{}", answer.text);
    // What is older than the retention is refused, not left out.
    again.advance_ms(11 * 60 * 1000);
    let late = poll_all(&again, &from_now).await;
    assert_eq!(late.status, 400, "{}", late.text);
    assert!(late.text.contains("start from now"), "{}", late.text);
    std::fs::remove_dir_all(&folder).unwrap();
    std::fs::remove_dir_all(&copy).unwrap();
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
