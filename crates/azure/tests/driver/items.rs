//! Items, patches, batches, and what holds them.

use azure_data_cosmos_driver::models::{CosmosOperation, DatabaseReference, Precondition};
use azure_data_cosmos_driver::options::OperationOptions;
use serde_json::{Value, json};

use crate::harness::{WAYS, Way, bytes, code, start};

#[tokio::test(flavor = "multi_thread")]
async fn an_item_from_creation_to_deletion() {
    for way in WAYS {
        let service = start(way).await;
        let item = json!({"id": "1", "pk": "p", "n": 1.5, "deep": [{"a": null}, "ü"]});
        let created = service.create(item.clone()).await.unwrap();
        assert_eq!((&created["deep"], &created["n"]), (&item["deep"], &item["n"]), "{way:?}");
        assert_eq!(service.read("p", "1").await.unwrap(), created);
        assert_eq!(code(service.create(item).await), (409, 0));

        let etag = created["_etag"].as_str().unwrap().to_owned();
        let replace = |n: u32| {
            CosmosOperation::replace_item(service.item("p", "1"))
                .with_body(bytes(&json!({"id": "1", "pk": "p", "n": n})))
                .with_precondition(Precondition::if_match(etag.clone()))
        };
        let replaced = service.run(replace(2)).await.unwrap();
        assert_eq!((&replaced["n"], &replaced["_rid"]), (&json!(2), &created["_rid"]));
        assert_eq!(code(service.run(replace(3)).await), (412, 0));

        let upsert = CosmosOperation::upsert_item(service.item("p", ""));
        let upserted = upsert.with_body(bytes(&json!({"id": "1", "pk": "p", "n": 4})));
        assert_eq!(service.run(upserted).await.unwrap()["n"], 4);
        let unchanged = service.read("p", "1").await.unwrap();
        let known = unchanged["_etag"].as_str().unwrap().to_owned();
        let again = CosmosOperation::read_item(service.item("p", "1"))
            .with_precondition(Precondition::if_none_match(known));
        let again = service.run_with(again, OperationOptions::default()).await;
        let status = match again {
            Ok(response) => u16::from(response.status().status_code()),
            Err(error) => u16::from(error.status().status_code()),
        };
        assert_eq!(status, 304);

        service.run(CosmosOperation::delete_item(service.item("p", "1"))).await.unwrap();
        assert_eq!(code(service.read("p", "1").await), (404, 0));
        let mismatch = CosmosOperation::create_item(service.item("other", ""));
        let mismatch = mismatch.with_body(bytes(&json!({"id": "2", "pk": "p"})));
        assert_eq!(code(service.run(mismatch).await), (400, 1001));
        let large = json!({"id": "l", "pk": "p", "x": "x".repeat(2 << 20)});
        assert_eq!(code(service.create(large).await).0, 413);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_with_and_without_a_condition() {
    for way in WAYS {
        let service = start(way).await;
        service.create(json!({"id": "1", "pk": "p", "n": 1, "l": [1]})).await.unwrap();
        let all = json!([
            {"op": "set", "path": "/s", "value": "x"},
            {"op": "add", "path": "/l/0", "value": 0},
            {"op": "replace", "path": "/n", "value": 2},
            {"op": "incr", "path": "/counted", "value": 3},
            {"op": "move", "from": "/s", "path": "/moved"},
            {"op": "remove", "path": "/l/1"},
        ]);
        let patch = json!({"operations": all, "condition": "from c where c.n = 1"});
        let patched = service.patch("p", "1", patch.clone()).await.unwrap();
        for (name, value) in [("moved", json!("x")), ("l", json!([0])), ("counted", json!(3))] {
            assert_eq!(patched[name], value, "{way:?}");
        }
        assert_eq!(code(service.patch("p", "1", patch).await).0, 412);
        let one = |op: Value| json!({"operations": [op]});
        let into_nothing = one(json!({"op": "set", "path": "/no/where", "value": 1}));
        assert_eq!(code(service.patch("p", "1", into_nothing).await).0, 400);
        let identity = one(json!({"op": "set", "path": "/id", "value": "2"}));
        assert_eq!(code(service.patch("p", "1", identity).await).0, 400);
        let many: Vec<_> =
            (0..11).map(|n| json!({"op": "set", "path": "/n", "value": n})).collect();
        assert_eq!(code(service.patch("p", "1", json!({"operations": many})).await).0, 400);
        let set = one(json!({"op": "set", "path": "/n", "value": 1}));
        assert_eq!(code(service.patch("p", "none", set).await), (404, 0));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_are_whole_or_not_at_all() {
    let statuses = |results: &Value| -> Vec<u64> {
        results.as_array().unwrap().iter().map(|r| r["statusCode"].as_u64().unwrap()).collect()
    };
    for way in WAYS {
        let service = start(way).await;
        let create = |id: &str| json!({"operationType": "Create", "resourceBody": {"id": id, "pk": "p", "n": 1}});
        let increment = json!({"operations": [{"op": "incr", "path": "/n", "value": 1}]});
        let good = json!([
            create("a"),
            {"operationType": "Patch", "id": "a", "resourceBody": increment},
            {"operationType": "Read", "id": "a"},
        ]);
        let results = service.batch("p", good).await.unwrap();
        assert_eq!(statuses(&results), [201, 200, 200], "{way:?}");
        assert_eq!(results[2]["resourceBody"]["n"], 2);
        let stale = json!({"operationType": "Upsert", "ifMatch": "\"stale\"", "resourceBody": {"id": "a", "pk": "p"}});
        let results = service.batch("p", json!([create("b"), stale, create("c")])).await.unwrap();
        assert_eq!(statuses(&results), [424, 412, 424]);
        assert_eq!(code(service.read("p", "b").await), (404, 0));
        let many: Vec<_> = (0..101).map(|n| create(&format!("m{n}"))).collect();
        assert_eq!(code(service.batch("p", json!(many)).await).0, 400);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn databases_and_containers() {
    let service = start(Way::default()).await;
    let create = CosmosOperation::create_database(service.account.clone());
    service.run(create.with_body(bytes(&json!({"id": "own"})))).await.unwrap();
    let database = || DatabaseReference::from_name(service.account.clone(), "own");
    let declared = json!({"id": "h", "partitionKey": {"paths": ["/a", "/b"], "kind": "MultiHash", "version": 2}});
    let create = || CosmosOperation::create_container(database()).with_body(bytes(&declared));
    service.run(create()).await.unwrap();
    assert_eq!(code(service.run(create()).await), (409, 0));
    let options = OperationOptions::default();
    let container = service.driver.resolve_container_by_name("own", "h", options).await.unwrap();
    let read = service.run(CosmosOperation::read_container(container.clone())).await.unwrap();
    assert_eq!(read["partitionKey"]["paths"], json!(["/a", "/b"]));
    service.run(CosmosOperation::delete_container(container)).await.unwrap();
    service.run(CosmosOperation::delete_database(database())).await.unwrap();
    assert_eq!(code(service.run(CosmosOperation::read_database(database())).await).0, 404);
}
