//! The contract, `docs/openapi.json`, against a running stack: it is what is served, it names every
//! member of an answer, and what it says about roles holds for every operation in it, also for
//! those that are added later.

use std::collections::BTreeSet;

use http::Method;
use serde_json::{Value, json};

use crate::harness::{TestStack, order_with, shared};

/// Every role there is.
const ROLES: [&str; 4] = ["orders.read", "orders.write", "ops.read", "ops.replay"];

fn document() -> Value {
    serde_json::from_str(include_str!("../docs/openapi.json")).unwrap()
}

/// Every operation: method, path, object.
fn operations(document: &Value) -> Vec<(Method, String, Value)> {
    let mut found = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let method = method.to_ascii_uppercase().parse().unwrap();
            found.push((method, path.clone(), operation.clone()));
        }
    }
    found
}

/// A path with something in place of each parameter.
fn filled_in(path: &str) -> String {
    let segments = path.split('/').map(|segment| match segment {
        "{file}" => "app.js".to_owned(),
        _ if segment.starts_with('{') => uuid::Uuid::new_v4().to_string(),
        _ => segment.to_owned(),
    });
    segments.collect::<Vec<_>>().join("/")
}

async fn status(stack: &TestStack, method: &Method, path: &str, principal: &str) -> u16 {
    let headers = [("x-development-principal", principal), ("content-type", "application/json")];
    stack.send(method.clone(), path, &headers, "").await.status.as_u16()
}

#[tokio::test]
async fn every_operation_is_refused_to_whoever_lacks_its_roles() {
    let stack = shared().await;
    for (method, path, operation) in operations(&document()) {
        let what = format!("{method} {path}");
        let path = filled_in(&path);
        let alternatives = operation["security"].as_array().expect(&what);
        let nobody = status(&stack, &method, &path, "").await;
        if alternatives.is_empty() {
            assert!(![401, 403].contains(&nobody), "{what} is public: {nobody}");
            continue;
        }
        assert_eq!(nobody, 401, "{what} by nobody");
        let enough: BTreeSet<&str> = alternatives
            .iter()
            .flat_map(|alternative| alternative["bearer"].as_array().unwrap())
            .map(|role| role.as_str().unwrap())
            .collect();
        let others = ROLES.into_iter().filter(|role| !enough.contains(role));
        let others = others.collect::<Vec<_>>().join(",");
        let refused = status(&stack, &method, &path, &format!("c-1;roles={others}")).await;
        assert_eq!(refused == 403, !enough.is_empty(), "{what} with {others}: {refused}");
        for role in enough {
            let admitted = status(&stack, &method, &path, &format!("c-1;roles={role}")).await;
            assert!(![401, 403].contains(&admitted), "{what} with {role}: {admitted}");
        }
    }
}

/// Complains about every member of `value` that `schema` does not name.
fn all_named(document: &Value, schema: &Value, value: &Value, place: &str) {
    let schema = match schema["$ref"].as_str() {
        Some(reference) => document.pointer(&reference[1..]).expect(reference),
        None => schema,
    };
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let place = format!("{place}/{name}");
                // A moment or null: nothing below it to name.
                let named = schema["properties"].get(name);
                all_named(document, named.unwrap_or_else(|| panic!("{place}")), member, &place);
            }
        }
        Value::Array(entries) => {
            for entry in entries {
                all_named(document, &schema["items"], entry, &format!("{place}/-"));
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn the_contract_names_every_member_of_an_answer() {
    let stack = TestStack::start().await;
    let document = document();
    assert_eq!(stack.get("/api/openapi.json").await.json(), document);
    let named = |schema: &str, value: &Value| {
        all_named(&document, &document["components"]["schemas"][schema], value, schema);
    };
    let faults = json!({"billing": "decline", "notification": "flaky"});
    let answer = stack.post(&order_with(faults), &[]).await;
    named("Receipt", &answer.json());
    let id = answer.json()["orderId"].as_str().unwrap().to_owned();
    let told = |order: &Value| {
        order["messages"].as_array().unwrap().iter().any(|message| message["notice"] == "failed")
    };
    let order = stack.until(&id, "told how it ended", told).await;
    assert!(order["history"].as_array().unwrap().len() > 3 && !order["faults"].is_null());
    named("Order", &order);
    named("Page", &stack.get("/api/orders").await.json());
    named("Products", &stack.get("/api/products").await.json());
    named("Attention", &stack.get("/api/ops/attention").await.json());
    named("Health", &stack.get("/readyz").await.json());
    let refused = stack.post(&json!({"customerId": 7}), &[]).await;
    assert!(!refused.json()["errors"].as_array().unwrap().is_empty());
    named("Problem", &refused.json());
    named("Problem", &stack.get("/api/nothing").await.json());
}
