//! Query requests: the plan, the forms that SDKs send, scopes and paging.

use serde_json::json;

use crate::harness::{DOCS, P, start, start_with};

#[tokio::test]
async fn the_plan_lets_the_client_send_the_query_as_it_is() {
    let service = start().await;
    let ask = [
        ("x-ms-cosmos-is-query-plan-request", "True"),
        ("x-ms-documentdb-isquery", "True"),
        ("content-type", "application/query+json"),
    ];
    let body = json!({"query": "SELECT VALUE COUNT(1) FROM c GROUP BY c.x"}).to_string();
    let plan = service.send("POST", DOCS, &ask, body).await;
    assert_eq!(plan.status, 200);
    let plan = plan.json();
    assert_eq!(plan["queryInfo"]["rewrittenQuery"], "");
    assert_eq!(plan["queryInfo"]["aggregates"], json!([]));
    assert_eq!(plan["queryRanges"][0]["max"], "FF");
    let broken = json!({"query": "SELECT FROM"}).to_string();
    assert_eq!(service.send("POST", DOCS, &ask, broken).await.status, 400);
}

#[tokio::test]
async fn the_order_by_rewritten_by_the_rust_sdk_is_understood() {
    let service = start().await;
    for (id, kind, at) in
        [("a", "order", 1), ("b", "order", 3), ("c", "event", 4), ("d", "order", 2)]
    {
        let key = format!("[\"{id}\"]");
        let body = format!(r#"{{"id":"{id}","pk":"{id}","type":"{kind}","at":{at},"big":[1.50]}}"#);
        let headers = [("x-ms-documentdb-partitionkey", key.as_str())];
        assert_eq!(service.send("POST", DOCS, &headers, body).await.status, 201);
    }
    let text = r#"SELECT VALUE {"_rid": c._rid, "orderByItems": [{"item": c.at}], "payload": c}
        FROM c WHERE (c.type = 'order') AND true ORDER BY c.at DESC"#;
    let answer = service.query(text, &[("x-ms-documentdb-partitionkeyrangeid", "0")]).await;
    let rows = answer.json()["Documents"].as_array().unwrap().clone();
    let order: Vec<_> = rows.iter().map(|row| row["payload"]["id"].as_str().unwrap()).collect();
    assert_eq!(order, ["b", "d", "a"]);
    assert_eq!(rows[0]["orderByItems"], json!([{"item": 3}]));
    assert_eq!(rows[0]["_rid"], rows[0]["payload"]["_rid"]);
    assert!(answer.text.contains("[1.50]"), "the payload keeps its own text");
    let resumed = r#"SELECT VALUE {"_rid": c._rid, "orderByItems": [{"item": c.at}], "payload": {"id": c.id}}
        FROM c WHERE (c.type = 'order') AND ((c.at < 3) OR (c.at = 3 AND c._rid > 'x') OR NOT IS_DEFINED(c.at)) ORDER BY c.at DESC"#;
    let answer = service.query(resumed, &[]).await.json();
    assert_eq!(answer["Documents"][0]["payload"], json!({"id": "d"}));
}

#[tokio::test]
async fn scopes_and_pages() {
    let service = start().await;
    for n in 0..30 {
        service
            .create(json!({"id": n.to_string(), "pk": if n % 3 == 0 { "p" } else { "q" }}))
            .await;
    }
    let mut found = Vec::new();
    let mut token = String::new();
    loop {
        let mut headers = vec![("x-ms-max-item-count", "4"), P];
        if !token.is_empty() {
            headers.push(("x-ms-continuation", &token));
        }
        let page = service.query("SELECT VALUE c.id FROM c", &headers).await;
        let next = page.header("x-ms-continuation").to_owned();
        let page = page.json();
        assert!(page["_count"].as_u64().unwrap() <= 4);
        found.extend(page["Documents"].as_array().unwrap().clone());
        if next.is_empty() {
            break;
        }
        token = next;
    }
    let expected: Vec<_> = (0..30).step_by(3).map(|n| json!(n.to_string())).collect();
    assert_eq!(found, expected);
    let bad = [("x-ms-continuation", "garbage")];
    assert_eq!(service.query("SELECT * FROM c", &bad).await.status, 400);
    let nothing = [("x-ms-start-epk", "3FFF"), ("x-ms-end-epk", "FF")];
    let page = service.query("SELECT VALUE COUNT(1) FROM c", &nothing).await.json();
    assert_eq!(page["Documents"], json!([0]), "no hash lies above 3F");
    let not_hex = [("x-ms-start-epk", "zz")];
    assert_eq!(service.query("SELECT * FROM c", &not_hex).await.status, 400);
    let feed = service.send("GET", DOCS, &[("x-ms-max-item-count", "7")], "").await;
    assert_eq!(feed.json()["_count"], 7);
    assert!(!feed.header("x-ms-continuation").is_empty());
}

#[tokio::test]
async fn broken_queries_are_refused() {
    let service = start().await;
    let query = [("x-ms-documentdb-isquery", "True")];
    for body in [
        String::new(),
        "{}".to_owned(),
        json!({"query": 5}).to_string(),
        json!({"query": "SELECT * FROM c WHERE"}).to_string(),
        json!({"query": "SELECT * FROM c WHERE c.a = @x"}).to_string(),
        json!({"query": format!("SELECT VALUE {}1{}", "(".repeat(5000), ")".repeat(5000))})
            .to_string(),
        json!({"query": format!("SELECT VALUE 1{}", "+1".repeat(5000))}).to_string(),
        json!({"query": format!("SELECT VALUE {}", "x".repeat(600_000))}).to_string(),
    ] {
        let answer = service.send("POST", DOCS, &query, body).await;
        assert_eq!((answer.status, &answer.json()["code"]), (400, &json!("BadRequest")));
    }
    let long = format!("SELECT * FROM c WHERE {}", vec!["c.a = 1"; 5000].join(" OR "));
    assert_eq!(service.query(&long, &[]).await.status, 200, "long chains are not deep");
}

/// A query that exceeds a limit is refused with its name; it never answers with a part.
#[tokio::test]
async fn limits_are_refusals() {
    let service = start().await;
    let most: Vec<u32> = (0..250).collect();
    service.create(json!({"id": "most", "pk": "q", "l": most, "s": ""})).await;
    let joined = "FROM c JOIN x IN c.l JOIN y IN c.l";
    let counted = format!("SELECT VALUE COUNT(1) {joined}");
    let counted = service.query(&counted, &[]).await;
    assert_eq!(counted.json()["Documents"], json!([62_500]), "{}", counted.text);
    let many: Vec<u32> = (0..400).collect();
    service.create(json!({"id": "a", "pk": "p", "l": many, "s": "x".repeat(1 << 20)})).await;
    service.create(json!({"id": "b", "pk": "p", "l": [1], "s": "y"})).await;
    let chosen = format!("SELECT VALUE COUNT(1) {joined} WHERE c.id = 'most' AND x >= 0");
    let chosen = service.query(&chosen, &[]).await;
    assert_eq!(chosen.json()["Documents"], json!([62_500]), "the others are not even joined");
    let nested = "SELECT VALUE 1 FROM x IN c.l JOIN y IN c.l";
    for (text, named) in [
        (format!("SELECT VALUE COUNT(1) {joined}"), "100000 rows"),
        (format!("SELECT x, COUNT(1) AS n {joined} GROUP BY x"), "100000 rows"),
        (format!("SELECT DISTINCT VALUE x {joined}"), "100000 rows"),
        (format!("SELECT VALUE y {joined} ORDER BY y OFFSET 99999 LIMIT 1"), "100000 rows"),
        (format!("SELECT VALUE y {joined} OFFSET 170000 LIMIT 1"), "100000 rows"),
        (format!("SELECT VALUE ARRAY_LENGTH(ARRAY({nested})) FROM c"), "100000 rows"),
        (format!("SELECT c.id FROM c WHERE EXISTS({nested} WHERE x < 0)"), "100000 rows"),
        ("SELECT VALUE CONCAT(c.s, c.s, 'z') FROM c".to_owned(), "2097152 bytes"),
        ("SELECT VALUE LENGTH(c.s || c.s || 'z') FROM c".to_owned(), "2097152 bytes"),
        ("SELECT c.id FROM c WHERE REPLICATE(c.s, 3) = 1".to_owned(), "2097152 bytes"),
        ("SELECT VALUE REPLACE(c.s, 'x', 'xxx') FROM c".to_owned(), "2097152 bytes"),
    ] {
        let answer = service.query(&text, &[]).await;
        assert_eq!(answer.status, 400, "{text}: {}", answer.text);
        assert!(answer.text.contains(named), "{text}: {}", answer.text);
    }
    let condition = format!("FROM c WHERE EXISTS({nested} WHERE x < 0)");
    let operations = json!([{"op": "set", "path": "/n", "value": 1}]);
    let patch = json!({"operations": operations, "condition": condition});
    assert_eq!(service.patch("a", patch.clone()).await.status, 400);
    assert_eq!(service.patch("b", patch).await.status, 412);
}

/// What a query has to hold before its first result is known is bounded: it is refused as a whole,
/// under the name of the limit, and nobody else notices.
#[tokio::test]
async fn memory_of_a_query_is_bounded() {
    const ENOUGH: usize = 1 << 20;
    let (small, large) =
        (start_with(|options| options.max_held_bytes = 30_000).await, start().await);
    let tight = start_with(|options| options.max_held_bytes = ENOUGH).await;
    for service in [&small, &large, &tight] {
        for n in 0..200 {
            let text = format!("{n:03}").repeat(30);
            let item =
                json!({"id": n.to_string(), "pk": "p", "n": n, "g": n % 2, "t": text, "l": [1, 2]});
            assert_eq!(service.create(item).await.status, 201);
        }
    }
    for (text, results) in [
        ("SELECT DISTINCT VALUE c.t FROM c", 200),
        ("SELECT DISTINCT c.n, c.t FROM c ORDER BY c.n", 200),
        ("SELECT c.t, COUNT(1) AS n FROM c GROUP BY c.t", 200),
        ("SELECT VALUE c.t FROM c ORDER BY c.g, c.t", 200),
        ("SELECT VALUE x FROM c JOIN x IN c.l ORDER BY c.t", 400),
        ("SELECT VALUE c.n FROM c ORDER BY c.t, c.n OFFSET 190 LIMIT 5", 5),
        ("SELECT DISTINCT VALUE c.t FROM c OFFSET 190 LIMIT 5", 5),
    ] {
        let refused = small.query(text, &[P]).await;
        assert_eq!(
            (refused.status, &refused.json()["code"]),
            (400, &json!("BadRequest")),
            "{text}"
        );
        assert!(refused.text.contains("30000 bytes"), "{text}: {}", refused.text);
        assert!(refused.text.contains("memory limit of a query"), "{text}: {}", refused.text);
        for service in [&large, &tight] {
            let answer = service.query(text, &[P]).await;
            assert_eq!(answer.json()["_count"], results, "{text}: {}", answer.text);
        }
        let other = small.query("SELECT VALUE COUNT(1) FROM c", &[P]).await;
        assert_eq!(other.json()["Documents"], json!([200]), "others go on");
    }
    for (text, results) in [
        ("SELECT VALUE c.t FROM c", 200),
        ("SELECT TOP 5 VALUE c.t FROM c ORDER BY c.g, c.t", 5),
        ("SELECT VALUE c.t FROM c OFFSET 190 LIMIT 5", 5),
        ("SELECT c.g, MAX(c.t) AS t FROM c GROUP BY c.g", 2),
    ] {
        let answer = small.query(text, &[P]).await;
        assert_eq!(answer.json()["_count"], results, "{text} holds little: {}", answer.text);
    }
    // A group counts with what it has come to, not with what it began with.
    let wide = json!({"id": "wide", "pk": "p", "g": 1, "t": "~".repeat(40_000)}).to_string();
    assert_eq!(small.send("POST", DOCS, &[P], wide).await.status, 201);
    let grown = small.query("SELECT c.g, MAX(c.t) AS t FROM c GROUP BY c.g", &[P]).await;
    assert!((grown.status, grown.text.contains("30000 bytes")) == (400, true), "{}", grown.text);
}

/// What one row is made into is bounded, even if nothing has to be held.
#[tokio::test]
async fn results_of_one_row_are_bounded() {
    let service = start().await;
    let elements: Vec<u32> = (0..200).collect();
    service.create(json!({"id": "a", "pk": "p", "l": elements, "s": "x".repeat(400_000)})).await;
    service.create(json!({"id": "b", "pk": "p", "l": [1], "s": "y"})).await;
    let many = vec!["c.s"; 200].join(",");
    let named: Vec<_> = (0..200).map(|n| format!("c.s AS s{n}")).collect();
    for text in [
        format!("SELECT VALUE [{many}] FROM c"),
        format!("SELECT {} FROM c", named.join(",")),
        format!("SELECT {} FROM c JOIN x IN c.l", named.join(",")),
        format!("SELECT VALUE {{a: [{many}]}} FROM c"),
        format!("SELECT DISTINCT VALUE [{many}] FROM c"),
        format!("SELECT c.id FROM c WHERE ARRAY_LENGTH([{many}]) = 0"),
        "SELECT VALUE ARRAY(SELECT VALUE c.s FROM x IN c.l) FROM c".to_owned(),
        "SELECT VALUE ARRAY_LENGTH(ARRAY(SELECT * FROM x IN [c] JOIN y IN c.l JOIN z IN [c])) FROM c"
            .to_owned(),
    ] {
        let answer = service.query(&text, &[P]).await;
        let end = text.len().min(60);
        assert_eq!(answer.status, 400, "{}", &text[..end]);
        assert!(answer.text.contains("67108864 bytes of one row"), "{}", &text[..end]);
    }
    let few = service.query("SELECT VALUE [c.s, c.s] FROM c WHERE c.id = 'b'", &[P]).await;
    assert_eq!(few.json()["Documents"], json!([["y", "y"]]));
    let all = "SELECT VALUE IS_STRING(c.s) FROM c JOIN x IN c.l";
    assert_eq!(service.query(all, &[P]).await.json()["_count"], 201, "rows are counted one by one");
}

/// The explorer asks for orders that no query has asked for before.
#[tokio::test]
async fn the_explorer_builds_the_index_that_it_needs() {
    let service = start().await;
    for n in 0..300 {
        service.create(json!({"id": n.to_string(), "pk": "p", "n": n})).await;
    }
    let path = "/admin/dbs/db/colls/c/docs";
    let newest = service.send_unsigned("GET", path, &[], "").await.json();
    assert_eq!(newest["items"].as_array().map(Vec::len), Some(100), "{newest}");
    let path = "/admin/dbs/db/colls/c/docs?query=SELECT+VALUE+c.n+FROM+c+ORDER+BY+c.n+DESC&max=2";
    let highest = service.send_unsigned("GET", path, &[], "").await.json();
    assert_eq!(highest["items"], json!([299, 298]));
}

/// Databases, containers and offers know less than items, and say so.
#[tokio::test]
async fn queries_over_what_holds_items() {
    let service = start().await;
    let ask = |path: &'static str, text: &str| {
        let (body, service) = (json!({"query": text}).to_string(), &service);
        async move { service.send("POST", path, &[("x-ms-documentdb-isquery", "True")], body).await }
    };
    let found = ask("/dbs", "SELECT VALUE d.id FROM d WHERE d.id = 'db'").await;
    assert_eq!(found.json()["Databases"], json!(["db"]));
    for text in [
        "SELECT VALUE COUNT(1) FROM c",
        "SELECT * FROM c ORDER BY c.id",
        "SELECT DISTINCT VALUE c.id FROM c",
        "SELECT c.id FROM c GROUP BY c.id",
        "SELECT VALUE p FROM c JOIN p IN c.partitionKey.paths",
    ] {
        assert_eq!(ask("/dbs/db/colls", text).await.status, 400, "{text}");
        assert_eq!(ask("/offers", text).await.status, 400, "{text}");
    }
}
