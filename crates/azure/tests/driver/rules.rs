//! Containers with rules of their own: keys of several levels, unique keys, lifetimes; and batches
//! that break them.

use std::time::{Duration, Instant};

use azure_data_cosmos_driver::models::{
    ContainerReference, CosmosOperation, DatabaseReference, ItemReference, PartitionKey,
};
use azure_data_cosmos_driver::options::OperationOptions;
use serde_json::{Value, json};

use crate::harness::{Service, WAYS, Way, bytes, code, start};

async fn container(service: &Service, declared: Value) -> ContainerReference {
    let database = DatabaseReference::from_name(service.account.clone(), "db");
    let create = CosmosOperation::create_container(database).with_body(bytes(&declared));
    service.run(create).await.unwrap();
    let (id, options) = (declared["id"].as_str().unwrap(), OperationOptions::default());
    service.driver.resolve_container_by_name("db", id, options).await.unwrap()
}

fn item(container: &ContainerReference, key: impl Into<PartitionKey>, id: &str) -> ItemReference {
    ItemReference::from_name(container, key.into(), id.to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_several_levels() {
    for way in WAYS {
        let service = start(way).await;
        let paths = json!({"paths": ["/tenant", "/user"], "kind": "MultiHash", "version": 2});
        let own = container(&service, json!({"id": "h", "partitionKey": paths})).await;
        let key = || ("t".to_owned(), "u".to_owned());
        let body = json!({"id": "1", "tenant": "t", "user": "u", "n": 1});
        let create = || CosmosOperation::create_item(item(&own, key(), "")).with_body(bytes(&body));
        service.run(create()).await.unwrap();
        assert_eq!(code(service.run(create()).await), (409, 0), "{way:?}");
        let read = |user: &str| {
            let key = ("t".to_owned(), user.to_owned());
            service.run(CosmosOperation::read_item(item(&own, key, "1")))
        };
        assert_eq!(read("u").await.unwrap()["n"], 1);
        assert_eq!(code(read("other").await), (404, 0));
        let operations = json!([{"operationType": "Patch", "id": "1", "resourceBody": {
            "operations": [{"op": "incr", "path": "/n", "value": 1}],
        }}]);
        let batch = CosmosOperation::batch(own.clone(), PartitionKey::from(key()));
        let results = service.run(batch.with_body(bytes(&operations))).await.unwrap();
        assert_eq!(results[0]["resourceBody"]["n"], 2);
        service.run(CosmosOperation::delete_item(item(&own, key(), "1"))).await.unwrap();
        assert_eq!(code(read("u").await), (404, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unique_keys_hold_within_a_partition() {
    let service = start(Way::default()).await;
    let declared = json!({
        "id": "people",
        "partitionKey": {"paths": ["/pk"]},
        "uniqueKeyPolicy": {"uniqueKeys": [{"paths": ["/email"]}]},
    });
    let own = container(&service, declared).await;
    let create = |id: &str, pk: &'static str, email: &str| {
        let body = json!({"id": id, "pk": pk, "email": email});
        service.run(CosmosOperation::create_item(item(&own, pk, "")).with_body(bytes(&body)))
    };
    create("1", "p", "a@x").await.unwrap();
    assert_eq!(code(create("2", "p", "a@x").await), (409, 0));
    create("2", "q", "a@x").await.unwrap();
    create("2", "p", "b@x").await.unwrap();
    let taken = json!({"operations": [{"op": "set", "path": "/email", "value": "a@x"}]});
    let patch = CosmosOperation::patch_item(item(&own, "p", "2")).with_body(bytes(&taken));
    assert_eq!(code(service.run(patch).await), (409, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_is_gone() {
    let service = start(Way::default()).await;
    service.create(json!({"id": "short", "pk": "p", "ttl": 1})).await.unwrap();
    service.create(json!({"id": "ever", "pk": "p"})).await.unwrap();
    let end = Instant::now() + Duration::from_secs(30);
    while service.read("p", "short").await.is_ok() {
        assert!(Instant::now() < end, "it does not expire");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let left = service.query("SELECT VALUE c.id FROM c", Some("p")).await.unwrap();
    assert_eq!(left, ["ever"]);
    service.create(json!({"id": "short", "pk": "p"})).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_batch_may_not_be() {
    let service = start(Way::default()).await;
    let create = |id: usize, pk: &str| {
        let body = json!({"id": id.to_string(), "pk": pk});
        json!({"operationType": "Create", "resourceBody": body})
    };
    let many: Vec<_> = (0..101).map(|id| create(id, "p")).collect();
    assert_eq!(code(service.batch("p", Value::from(many)).await).0, 400);
    assert_eq!(code(service.batch("p", json!([create(0, "q")])).await), (400, 1001));
    let text = "x".repeat(2 << 20);
    let large =
        json!([{"operationType": "Create", "resourceBody": {"id": "l", "pk": "p", "text": text}}]);
    assert_eq!(code(service.batch("p", large).await).0, 413);
    let nothing = service.query("SELECT * FROM c", Some("p")).await.unwrap();
    assert!(nothing.is_empty());
}
