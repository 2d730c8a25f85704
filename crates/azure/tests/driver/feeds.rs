//! Queries and change feeds, over one range and over several.

use azure_data_cosmos_driver::models::{ChangeFeedStartFrom, CosmosOperation, FeedRange};
use serde_json::{Value, json};

use crate::harness::{Service, WAYS, bytes, code, start};

async fn filled(service: &Service) {
    for n in 0..20 {
        let item = json!({"id": n.to_string(), "pk": format!("p{}", n % 5), "n": n, "t": [n, -n]});
        service.create(item).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_over_one_partition_and_over_all() {
    for way in WAYS {
        let service = start(way).await;
        filled(&service).await;
        let own = |text| service.query(text, Some("p1"));
        assert_eq!(own("SELECT VALUE c.n FROM c ORDER BY c.n DESC").await.unwrap(), [16, 11, 6, 1]);
        assert_eq!(own("SELECT VALUE COUNT(1) FROM c").await.unwrap(), [4], "{way:?}");
        let groups = own("SELECT c.pk, SUM(c.n) AS s FROM c GROUP BY c.pk").await.unwrap();
        assert_eq!(groups, [json!({"pk": "p1", "s": 34})]);
        let joined = own("SELECT VALUE t FROM c JOIN t IN c.t WHERE t < -10").await.unwrap();
        assert_eq!(joined.len(), 2);

        let all = |text| service.query(text, None);
        let ordered = all("SELECT VALUE c.n FROM c ORDER BY c.n").await.unwrap();
        assert_eq!(ordered, (0..20).map(Value::from).collect::<Vec<_>>());
        let top = all("SELECT TOP 3 VALUE c.n FROM c ORDER BY c.n DESC").await.unwrap();
        assert_eq!(top, [19, 18, 17]);
        let slice = all("SELECT VALUE c.n FROM c ORDER BY c.n OFFSET 8 LIMIT 2").await.unwrap();
        assert_eq!(slice, [8, 9]);
        let filtered = all("SELECT * FROM c WHERE c.n >= 15").await.unwrap();
        assert_eq!(filtered.len(), 5);
        assert_eq!(code(own("SELECT nosuch(c.n) FROM c").await).0, 400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_change_feed_has_the_latest_versions() {
    for way in WAYS {
        let service = start(way).await;
        filled(&service).await;
        let feed =
            || CosmosOperation::change_feed(service.container.clone(), Some(FeedRange::full()));
        let beginning = feed().with_change_feed_start(ChangeFeedStartFrom::Beginning);
        let (all, token) = service.drain(beginning, None).await.unwrap();
        let mut seen: Vec<_> = all.iter().map(|c| c["current"]["n"].as_u64().unwrap()).collect();
        seen.sort_unstable();
        assert_eq!(seen, (0..20).collect::<Vec<_>>(), "{way:?}");
        let increment = json!({"operations": [{"op": "incr", "path": "/n", "value": 100}]});
        service.patch("p3", "3", increment).await.unwrap();
        service.run(CosmosOperation::delete_item(service.item("p4", "4"))).await.unwrap();
        let again = feed().with_change_feed_start(ChangeFeedStartFrom::Beginning);
        let (next, _) = service.drain(again, Some(token)).await.unwrap();
        assert_eq!(next.iter().map(|c| &c["current"]["n"]).collect::<Vec<_>>(), [103]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_change_feed_has_all_versions_and_deletes() {
    for way in WAYS {
        let service = start(way).await;
        service.create(json!({"id": "old", "pk": "p"})).await.unwrap();
        let range = || Some(service.range_of("p"));
        let feed = || {
            let container = service.container.clone();
            let feed = CosmosOperation::change_feed_all_versions_and_deletes(container, range());
            feed.with_change_feed_start(ChangeFeedStartFrom::Now)
        };
        let (none, token) = service.drain(feed(), None).await.unwrap();
        assert_eq!(none, Vec::<Value>::new());
        service.create(json!({"id": "1", "pk": "p", "n": 1})).await.unwrap();
        let replace = CosmosOperation::replace_item(service.item("p", "1"));
        let replace = replace.with_body(bytes(&json!({"id": "1", "pk": "p", "n": 2})));
        service.run(replace).await.unwrap();
        service.run(CosmosOperation::delete_item(service.item("p", "1"))).await.unwrap();
        let (changes, _) = service.drain(feed(), Some(token)).await.unwrap();
        let kinds: Vec<_> = changes.iter().map(|c| &c["metadata"]["operationType"]).collect();
        assert_eq!(kinds, ["create", "replace", "delete"], "{way:?}");
        assert_eq!(
            (&changes[1]["current"]["n"], &changes[2]["previous"]["n"]),
            (&json!(2), &json!(2))
        );
        assert_eq!(changes[2]["metadata"]["previousImageLSN"], changes[1]["metadata"]["lsn"]);
    }
}
