//! Writes: preconditions, PATCH in both body forms, batches, bulk requests, minimal answers.

use serde_json::{Value, json};

use crate::harness::{DOCS, P, start};

const BATCH: [(&str, &str); 3] = [
    ("x-ms-cosmos-is-batch-request", "True"),
    ("x-ms-cosmos-batch-atomic", "True"),
    ("x-ms-cosmos-batch-continue-on-error", "False"),
];

#[tokio::test]
async fn an_item_and_its_etag() {
    let service = start().await;
    let created = service.create(json!({"id": "a", "pk": "p", "n": 1.10})).await;
    assert_eq!(created.status, 201);
    assert_eq!(created.json()["_etag"].as_str().unwrap(), created.header("etag"));
    assert_eq!(created.json()["_ts"], 1_767_225_600);
    let path = format!("{DOCS}/a");
    let same = [P, ("if-none-match", created.header("etag"))];
    let unchanged = service.send("GET", &path, &same, "").await;
    assert_eq!((unchanged.status, unchanged.text.as_str()), (304, ""));
    let new = r#"{"id":"a","pk":"p","n":2}"#;
    let stale = [P, ("if-match", "\"stale\"")];
    assert_eq!(service.send("PUT", &path, &stale, new).await.code(), (412, 0));
    assert_eq!(service.send("DELETE", &path, &stale, "").await.code(), (412, 0));
    let only_new = [P, ("x-ms-documentdb-is-upsert", "True"), ("if-none-match", "*")];
    assert_eq!(service.send("POST", DOCS, &only_new, new).await.code(), (412, 0));
    let minimal = [P, ("if-match", created.header("etag")), ("prefer", "return=minimal")];
    let replaced = service.send("PUT", &path, &minimal, new).await;
    assert_eq!((replaced.status, replaced.text.as_str()), (200, ""));
    assert_ne!(replaced.header("etag"), created.header("etag"));
    let any = [P, ("if-match", "*")];
    assert_eq!(service.send("DELETE", &path, &any, "").await.status, 204);
    assert_eq!(service.send("DELETE", &path, &any, "").await.code(), (404, 0));
}

#[tokio::test]
async fn the_partition_key_header_must_agree() {
    let service = start().await;
    let body = r#"{"id":"a","pk":"p"}"#;
    let header = |value| [("x-ms-documentdb-partitionkey", value)];
    for (headers, code) in [
        (&[][..], (400, 0)),
        (&header("[\"other\"]"), (400, 1001)),
        (&header("[{}]"), (400, 1001)),
        (&header("not json"), (400, 0)),
        (&header("[\"p\",\"q\"]"), (400, 0)),
        (&header("[\"p\"]"), (201, 0)),
    ] {
        assert_eq!(service.send("POST", DOCS, headers, body).await.code(), code, "{headers:?}");
    }
    let path = format!("{DOCS}/a");
    assert_eq!(service.send("GET", &path, &[], "").await.code(), (400, 0));
    assert_eq!(service.send("GET", &path, &header("[\"other\"]"), "").await.code(), (404, 0));
    let moved = r#"{"id":"a","pk":"other"}"#;
    assert_eq!(service.send("PUT", &path, &[P], moved).await.code(), (400, 1001));
    let renamed = r#"{"id":"b","pk":"p"}"#;
    assert_eq!(service.send("PUT", &path, &[P], renamed).await.code(), (400, 0));
}

#[tokio::test]
async fn patch_takes_both_forms_and_honours_its_condition() {
    let service = start().await;
    let first = service.create(json!({"id": "a", "pk": "p", "state": "pending"})).await;
    let claim = json!([{"op": "set", "path": "/state", "value": "claimed"}]);
    let condition = "from c where c.state = 'pending'";
    let conditional = json!({"operations": claim, "condition": condition});
    let bare = service.patch("a", json!([{"op": "incr", "path": "/n", "value": 2}])).await;
    assert_eq!((bare.status, &bare.json()["n"]), (200, &json!(2)));
    let claimed = service.patch("a", conditional.clone()).await;
    assert_eq!((claimed.status, &claimed.json()["state"]), (200, &json!("claimed")));
    assert_eq!(service.patch("a", conditional.clone()).await.status, 412);
    assert_eq!(service.read("a").await.header("etag"), claimed.header("etag"));
    let path = format!("{DOCS}/a");
    let stale = [P, ("if-match", first.header("etag"))];
    let holds = json!({"operations": claim, "condition": "from c where c.state = 'claimed'"});
    let both = service.send("PATCH", &path, &stale, holds.to_string()).await;
    assert_eq!(both.status, 412, "the condition holds, the ETag does not");
    assert_eq!(service.patch("none", conditional).await.code(), (404, 0));
    for bad in ["", "{}", "[]", "nonsense", r#"{"operations":[{"op":"set"}]}"#] {
        assert_eq!(service.send("PATCH", &path, &[P], bad).await.code(), (400, 0), "{bad}");
    }
    let quiet = [P, ("x-ms-cosmos-populate-content-response-on-write", "false")];
    let quiet = service.send("PATCH", &path, &quiet, claim.to_string()).await;
    assert_eq!((quiet.status, quiet.text.as_str()), (200, ""));
}

#[tokio::test]
async fn batches_succeed_or_leave_no_trace() {
    let service = start().await;
    let headers = [&BATCH[..], &[P]].concat();
    let send = |operations: Value| {
        let (service, headers) = (&service, &headers);
        async move { service.send("POST", DOCS, headers, operations.to_string()).await }
    };
    let answer = send(json!([
        {"operationType": "Create", "resourceBody": {"id": "a", "pk": "p", "n": 1}},
        {"operationType": "Patch", "id": "a", "resourceBody": {
            "operations": [{"op": "incr", "path": "/n", "value": 1}],
            "condition": "from c where c.n = 1"}},
        {"operationType": "Read", "id": "a"},
    ]))
    .await;
    assert_eq!(answer.status, 200);
    let results = answer.json();
    assert_eq!(results[2]["resourceBody"]["n"], 2);
    assert_eq!(results[1]["eTag"], results[2]["eTag"]);
    let lsn = answer.header("lsn").to_owned();
    let failed = send(json!([
        {"operationType": "Upsert", "resourceBody": {"id": "b", "pk": "p"}},
        {"operationType": "Replace", "id": "a", "ifMatch": "\"stale\"",
         "resourceBody": {"id": "a", "pk": "p"}},
        {"operationType": "Delete", "id": "a"},
    ]))
    .await;
    assert_eq!(failed.status, 207);
    let codes: Vec<_> =
        failed.json().as_array().unwrap().iter().map(|r| r["statusCode"].clone()).collect();
    assert_eq!(codes, [424, 412, 424]);
    assert_eq!(failed.header("lsn"), lsn, "nothing was committed");
    assert_eq!(service.read("b").await.status, 404);
    for (operations, code) in [
        (json!([]), (400, 0)),
        (json!({}), (400, 0)),
        (json!([{"operationType": "Fly", "id": "a"}]), (400, 0)),
        (json!([{"operationType": "Create"}]), (400, 0)),
        (json!([{"operationType": "Create", "resourceBody": {"id": "x", "pk": "q"}}]), (400, 1001)),
        (json!(vec![json!({"operationType": "Read", "id": "a"}); 101]), (400, 0)),
        (
            json!([{"operationType": "Create", "resourceBody": {"id": "x", "pk": "p", "t": "x".repeat(2_100_000)}}]),
            (413, 0),
        ),
    ] {
        assert_eq!(send(operations.clone()).await.code(), code);
    }
}

#[tokio::test]
async fn bulk_operations_stand_alone() {
    let service = start().await;
    let headers = [
        ("x-ms-cosmos-is-batch-request", "True"),
        ("x-ms-cosmos-batch-atomic", "False"),
        ("x-ms-cosmos-batch-continue-on-error", "True"),
        ("x-ms-documentdb-partitionkeyrangeid", "0"),
    ];
    let operations = json!([
        {"operationType": "Create", "partitionKey": "[\"x\"]", "resourceBody": {"id": "a", "pk": "x"}},
        {"operationType": "Create", "partitionKey": "[\"x\"]", "resourceBody": {"id": "a", "pk": "x"}},
        {"operationType": "Create", "partitionKey": "[\"y\"]", "resourceBody": {"id": "a", "pk": "y"}},
        {"operationType": "Read", "partitionKey": "[\"y\"]", "id": "a"},
    ]);
    let answer = service.send("POST", DOCS, &headers, operations.to_string()).await;
    assert_eq!(answer.status, 207);
    let codes: Vec<_> =
        answer.json().as_array().unwrap().iter().map(|r| r["statusCode"].clone()).collect();
    assert_eq!(codes, [201, 409, 201, 200]);
}
