//! The audit trail on a real stack: what is done besides dead letters, and what was refused.

use std::time::Duration;

use azure::bus::Message;
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, TestStack, eventually, order_with};
use crate::ops::{JSON, act, get, newest, problem};

/// Sends an order's event once more.
async fn duplicate(stack: &TestStack, id: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let path = format!("/api/ops/orders/{id}/duplicate");
    stack.send(Method::POST, &path, headers, body.to_owned()).await
}

/// What the trail says about one kind of deed, newest first.
async fn deeds(stack: &TestStack, action: &str) -> Vec<Value> {
    let page = get(stack, "/api/ops/audit?limit=200").await;
    let entries = page["entries"].as_array().unwrap().iter();
    entries.filter(|entry| entry["action"] == action).cloned().collect()
}

#[tokio::test]
async fn an_event_that_is_delivered_twice_on_purpose_is_in_the_trail_and_so_is_every_refusal() {
    let stack = TestStack::start().await;
    let id = stack.submit(&order_with(json!({}))).await;
    let before = stack.until_quiet(&id).await;
    let operator = [("x-development-principal", "o-1;roles=ops.replay"), JSON[0]];
    let why = json!({"reason": " does it hold? "}).to_string();
    let sent = duplicate(&stack, &id, &operator, &why).await;
    assert_eq!(sent.status, 202, "{sent:?}");
    let silent = duplicate(&stack, &id, &operator[..1], "").await;
    assert_eq!(silent.status, 202, "{silent:?}");
    let done = deeds(&stack, "duplicate").await;
    assert_eq!(done.len(), 2, "{done:#?}");
    for (entry, (answer, reason)) in
        done.iter().zip([(&silent, "(none given)"), (&sent, "does it hold?")])
    {
        assert_eq!((&entry["actor"], &entry["outcome"]), (&json!("o-1"), &json!("done")));
        assert_eq!((&entry["reason"], &entry["orderId"]), (&json!(reason), &json!(id)));
        assert_eq!(
            (&entry["source"], &entry["replayedAs"]),
            (&json!("orders"), &answer.json()["messageId"])
        );
        assert_eq!(entry["messageId"], format!("event:{id}:1"), "{entry:#}");
    }

    let nowhere = uuid::Uuid::new_v4().to_string();
    for (order, headers, body, status, kind) in [
        (&*nowhere, &operator[..], "", 404, "not-found"),
        ("no-id", &operator, "", 404, "not-found"),
        (&id, &operator, "{", 400, "malformed-json"),
        (&id, &operator, "[]", 422, "invalid-request"),
        (&id, &operator, r#"{"reason": " "}"#, 422, "invalid-request"),
        (&id, &operator, r#"{"reason": "r", "times": 7}"#, 422, "invalid-request"),
        (&id, &operator[..1], r#"{"reason": "r"}"#, 415, "unsupported-media-type"),
    ] {
        problem(&duplicate(&stack, order, headers, body).await, status, kind);
        let entry = &deeds(&stack, "duplicate").await[0];
        assert_eq!((&entry["actor"], &entry["outcome"]), (&json!("o-1"), &json!("refused")));
        let detail = entry["detail"].as_str().unwrap();
        assert!(detail.starts_with(&format!("/problems/{kind}")), "{entry:#}");
        let about = if order == "no-id" { Value::Null } else { json!(order) };
        assert_eq!(entry["orderId"], about, "{entry:#}");
    }
    // Who lacks the role is told so, and the trail has who and which order.
    let reader = [("x-development-principal", "r-1;roles=ops.read")];
    problem(&duplicate(&stack, &id, &reader, "").await, 403, "forbidden");
    let denied = eventually("the denial is written down", || async {
        let entries = deeds(&stack, "access").await;
        entries.into_iter().find(|entry| entry["actor"] == "r-1")
    })
    .await;
    assert_eq!(denied["source"], "POST /api/ops/orders/{id}/duplicate", "{denied:#}");
    assert_eq!(denied["orderId"], id, "{denied:#}");

    let after = stack.until_quiet(&id).await;
    assert_eq!(after["stage"]["billing"]["calls"], before["stage"]["billing"]["calls"]);
    assert_eq!(stack.ledger_of(&id).await, ["captured"]);
}

#[tokio::test]
async fn where_failures_are_switched_off_so_are_experiments_and_who_tried_is_in_the_trail() {
    let stack = TestStack::start_with(&["--no-faults"]).await;
    let id = stack.submit(&order_with(json!({}))).await;
    stack.until_quiet(&id).await;
    problem(&duplicate(&stack, &id, &[], "").await, 403, "faults-switched-off");
    let refused = &deeds(&stack, "duplicate").await[0];
    assert_eq!((&refused["outcome"], &refused["orderId"]), (&json!("refused"), &json!(id)));
    let record = get(&stack, &format!("/api/ops/orders/{id}")).await;
    assert_eq!(record["events"].as_array().unwrap().len(), 2, "created and completed: {record:#}");

    let faulty = stack.post(&order_with(json!({"billing": "fail"})), &[]).await;
    problem(&faulty, 422, "invalid-order");
    eventually("the order that asked for a failure is written down", || async {
        let entries = deeds(&stack, "access").await;
        let detail = |entry: &Value| entry["detail"].as_str().unwrap().to_owned();
        entries.into_iter().find(|entry| {
            entry["source"] == "POST /api/orders" && detail(entry).contains("failures on purpose")
        })
    })
    .await;
}

#[tokio::test]
async fn every_switch_of_the_local_stack_is_in_the_trail() {
    let stack = TestStack::start().await;
    let push = |path: &str, headers: &'static [(&str, &str)], body: &Value| {
        let (path, body) = (format!("/api/ops/local/{path}"), body.to_string());
        let stack = &stack;
        async move { stack.send(Method::POST, &path, headers, body).await }
    };
    const OPERATOR: &[(&str, &str)] =
        &[("x-development-principal", "o-1;roles=ops.replay"), JSON[0]];
    let pause = json!({"seconds": 60, "reason": "what if?"});
    assert_eq!(push("processes/subscriber/pause", OPERATOR, &pause).await.status, 200);
    assert_eq!(push("processes/subscriber/resume", OPERATOR, &json!({})).await.status, 200);
    assert_eq!(push("processes/nobody/kill", OPERATOR, &json!({})).await.status, 404);
    let untyped = &OPERATOR[..1];
    problem(&push("bank/v1/script", untyped, &json!({})).await, 415, "unsupported-media-type");
    let told: Vec<Value> = deeds(&stack, "local")
        .await
        .iter()
        .map(|entry| json!([entry["actor"], entry["source"], entry["outcome"], entry["reason"]]))
        .collect();
    assert_eq!(
        told,
        [
            json!(["o-1", "bank/v1/script", "refused", "(none given)"]),
            json!(["o-1", "processes/nobody/kill", "refused", "(none given)"]),
            json!(["o-1", "processes/subscriber/resume", "done", "(none given)"]),
            json!(["o-1", "processes/subscriber/pause", "done", "what if?"]),
        ]
    );
    // The store itself can be paused, and brought back by who can no longer be written down first.
    assert_eq!(push("processes/cosmos/pause", OPERATOR, &pause).await.status, 200);
    // It was begun before the store stood still; its end can only be written afterwards.
    assert_eq!(push("processes/cosmos/resume", OPERATOR, &json!({})).await.status, 200);
    eventually("the store answers, and knows who brought it back", || async {
        let entries = deeds(&stack, "local").await;
        entries
            .into_iter()
            .find(|e| e["source"] == "processes/cosmos/resume" && e["outcome"] == "done")
    })
    .await;
    eventually("the end of the pause is written down as well", || async {
        let entries = deeds(&stack, "local").await;
        entries
            .into_iter()
            .find(|e| e["source"] == "processes/cosmos/pause" && e["outcome"] == "done")
    })
    .await;
    let refused = stack.send(Method::DELETE, "/api/ops/local/processes", &[], "").await;
    problem(&refused, 405, "method-not-allowed");
}

#[tokio::test]
async fn more_than_one_request_may_move_is_refused_and_nothing_is_moved() {
    const LETTERS: usize = 1_001;
    const SEND: usize = 200;
    let stack = TestStack::start().await;
    // Expired on arrival: the broker itself moves them, and no consumer has to fail on each.
    let topic = stack.bus().sender("orders");
    for first in (0..LETTERS).step_by(SEND) {
        let messages: Vec<Message> = (first..LETTERS.min(first + SEND))
            .map(|n| {
                let message = Message {
                    message_id: Some(format!("old-{n}")),
                    time_to_live: Some(Duration::from_millis(1)),
                    ..Message::new("not an event")
                };
                message
                    .with_property("event_type", "order.created")
                    .with_property("target", "notification-sub")
            })
            .collect();
        topic.send_batch(&messages).await.unwrap();
    }
    let dead = || async {
        let overview = get(&stack, "/api/ops/dead-letters").await;
        let sources = overview["sources"].as_array().unwrap().clone();
        sources.into_iter().find(|source| source["source"] == "notification-sub").unwrap()
    };
    let before = eventually("all of them are dead-lettered", || async {
        let found = dead().await;
        (found["count"] == LETTERS).then_some(found["groups"].clone())
    })
    .await;
    // A consumer may have been faster with some of them: then there are two reasons.
    let reason = before[0]["reason"].clone();
    for (action, select) in [
        ("replay", json!({"all": true})),
        ("discard", json!({"all": true})),
        ("replay", json!({"reason": reason})),
    ] {
        let many = before[0]["count"] == LETTERS || select["all"] == true;
        for dry_run in [true, false] {
            let why = format!("{action} {select} {dry_run}");
            let body = json!({"select": select, "reason": why, "dryRun": dry_run});
            if !many {
                continue;
            }
            let refused = act(&stack, "notification-sub", action, &body).await;
            problem(&refused, 422, "too-many-selected");
            let told = refused.json();
            assert_eq!(told["status"], 422);
            assert_eq!(told["title"], "The selection is too large for one request.");
            let detail = told["detail"].as_str().unwrap();
            assert!(detail.contains("1001") && detail.contains("takes 1000"), "{detail}");
            assert_eq!(told["traceId"], refused.header("x-trace-id"));
            let entry = newest(&stack, &why).await;
            assert_eq!((&entry["action"], &entry["outcome"]), (&json!(action), &json!("refused")));
            assert_eq!(
                (&entry["source"], &entry["actor"]),
                (&json!("notification-sub"), &json!("developer"))
            );
            assert!(entry["sequenceNumber"].is_null(), "{entry:#}");
            let detail = entry["detail"].as_str().unwrap();
            assert!(detail.starts_with("/problems/too-many-selected: "), "{entry:#}");
        }
    }
    let after = dead().await;
    assert_eq!((&after["count"], &after["groups"]), (&json!(LETTERS), &before), "nothing moved");

    // With a limit the oldest go first, and it is said that there are more.
    let body = json!({"select": {"all": true}, "reason": "old", "limit": 1_000});
    let answer = act(&stack, "notification-sub", "discard", &body).await.json();
    assert_eq!((&answer["more"], &answer["counts"]), (&json!(true), &json!({"discarded": 1_000})));
    assert_eq!(dead().await["count"], 1);
}
