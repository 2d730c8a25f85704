//! Operations on a real stack: dead letters grouped, shown, replayed to one subscription alone,
//! discarded; crashes in the middle, two operators at once, bad input; and the trail of it all.

use std::collections::BTreeMap;
use std::time::Duration;

use azure::bus::{Disposition, Message, ReceiverOptions, SubQueue};
use azure::cosmos::{Query, Scope};
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, DONE_WITHIN, TestStack, eventually, order_with, shared, try_send};
use crate::proof;

pub(crate) const JSON: [(&str, &str); 1] = [("content-type", "application/json")];

/// A record that its owner left behind may be taken over after fifteen seconds, and a lock of a
/// dead-letter queue that its owner never gave back ends after a minute.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(90);

pub(crate) async fn act(stack: &TestStack, source: &str, action: &str, body: &Value) -> Answer {
    let path = format!("/api/ops/dead-letters/{source}/{action}");
    stack.send(Method::POST, &path, &JSON, body.to_string()).await
}

async fn replay(stack: &TestStack, source: &str, body: &Value) -> Answer {
    act(stack, source, "replay", body).await
}

fn these(number: i64) -> Value {
    json!({"select": {"sequenceNumbers": [number]}, "reason": "test"})
}

fn these_without_fault(number: i64) -> Value {
    json!({"select": {"sequenceNumbers": [number]}, "reason": "test", "withoutFault": true})
}

pub(crate) async fn get(stack: &TestStack, path: &str) -> Value {
    let answer = stack.get(path).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

/// The dead letters of one order at a source.
async fn letters(stack: &TestStack, source: &str, order: &str) -> Vec<Value> {
    let page = get(stack, &format!("/api/ops/dead-letters/{source}?limit=200")).await;
    let lines = page["deadLetters"].as_array().unwrap().iter();
    lines.filter(|line| line["orderId"] == order).cloned().collect()
}

/// Waits for the order's dead letter at a source; its number.
async fn letter(stack: &TestStack, source: &str, order: &str) -> i64 {
    eventually(&format!("{order} has a dead letter in {source}"), || async {
        letters(stack, source, order).await.first()?["sequenceNumber"].as_i64()
    })
    .await
}

/// Submits an order whose part is given up on; its id and the number of its dead letter.
async fn given_up(stack: &TestStack, service: &str) -> (String, i64) {
    let id = stack.submit(&order_with(json!({service: "fail"}))).await;
    stack.until(&id, "given up on", |order| order["status"][service] == "dead-lettered").await;
    let number = letter(stack, &format!("{service}-sub"), &id).await;
    (id, number)
}

/// What the audit trail says about a dead letter, newest first.
async fn trail(stack: &TestStack, source: &str, number: i64) -> Vec<Value> {
    let page = get(stack, "/api/ops/audit?limit=200").await;
    let about = |entry: &&Value| entry["source"] == source && entry["sequenceNumber"] == number;
    page["entries"].as_array().unwrap().iter().filter(about).cloned().collect()
}

pub(crate) fn problem(answer: &Answer, status: u16, name: &str) {
    assert_eq!(answer.status, status, "{name}: {answer:?}");
    assert_eq!(answer.header("content-type"), "application/problem+json");
    assert_eq!(answer.json()["type"], format!("/problems/{name}"), "{answer:?}");
}

#[tokio::test]
async fn a_failed_payment_is_grouped_shown_and_replayed_to_billing_alone() {
    let stack = TestStack::start().await;
    let initial = proof::stock(&stack).await;
    let (id, number) = given_up(&stack, "billing").await;
    let before = stack
        .until(&id, "done elsewhere", |order| {
            order["status"]["inventory"] == "done" && order["status"]["notification"] == "done"
        })
        .await;

    // Nothing was handed over: the failing came first.
    assert!(before["stage"]["billing"]["handedOverAt"].is_null(), "{before:#}");
    let overview = get(&stack, "/api/ops/dead-letters").await;
    let billing = overview["sources"].as_array().unwrap().iter();
    let billing = billing.clone().find(|source| source["source"] == "billing-sub").unwrap();
    assert_eq!(billing["count"], 1, "{overview:#}");
    let reasons = json!([{"reason": "MaxDeliveryCountExceeded", "count": 1}]);
    assert_eq!(billing["groups"], reasons, "{overview:#}");
    assert!(billing["oldestAgeSeconds"].as_i64().unwrap() >= 0, "{overview:#}");

    let path = format!("/api/ops/dead-letters/billing-sub/{number}");
    let shown = get(&stack, &path).await;
    assert_eq!(shown["body"]["subject"], id, "{shown:#}");
    assert_eq!(shown["properties"]["event_type"], "order.created");
    assert_eq!(shown["deliveryCount"], 3);
    assert_eq!(shown["order"]["status"]["billing"], "dead-lettered");
    assert!(shown["order"]["history"].as_array().unwrap().len() >= 4);

    // A dry run says what would happen, and nothing happens.
    let mut dry = these_without_fault(number);
    dry["dryRun"] = true.into();
    let told = replay(&stack, "billing-sub", &dry).await;
    assert_eq!(told.status, 200, "{told:?}");
    let item = &told.json()["results"][0];
    assert_eq!(item["outcome"], "would-replay", "{item:#}");
    assert_eq!((&item["reopened"], &item["faultRemoved"]), (&json!(true), &json!(true)));
    assert_eq!(stack.order(&id).await, before, "a dry run changes nothing");
    assert_eq!(letters(&stack, "billing-sub", &id).await.len(), 1);
    assert!(trail(&stack, "billing-sub", number).await.is_empty());

    let answer = replay(&stack, "billing-sub", &these_without_fault(number)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let item = answer.json()["results"][0].clone();
    assert_eq!(item["outcome"], "replayed", "{item:#}");
    assert_eq!(item["replayedAs"], format!("event:{id}:1#billing-sub.{number}#r1"));
    let after = stack.until_completed(&id).await;
    for service in ["inventory", "notification"] {
        assert_eq!(after["stage"][service], before["stage"][service], "{service} ran again");
    }
    assert!(after.get("faults").is_none(), "{after:#}");
    assert!(after["stage"]["billing"]["handedOverAt"].is_string(), "{after:#}");
    let history = after["history"].as_array().unwrap();
    assert!(history.iter().any(|e| e["what"] == "replayed" && e["service"] == "billing"));
    assert!(letters(&stack, "billing-sub", &id).await.is_empty());
    assert_eq!(stack.ledger_of(&id).await, ["captured"]);

    let entries = trail(&stack, "billing-sub", number).await;
    assert_eq!(entries.len(), 1, "{entries:#?}");
    assert_eq!(entries[0]["outcome"], "replayed");
    assert_eq!(
        (&entries[0]["actor"], &entries[0]["reason"]),
        (&json!("developer"), &json!("test"))
    );
    assert_eq!(entries[0]["orderId"], id);

    // Once more: told who did it, and nothing changes.
    let again = replay(&stack, "billing-sub", &these(number)).await;
    problem(&again, 409, "already-replayed");
    let entries = trail(&stack, "billing-sub", number).await;
    assert_eq!((entries.len(), &entries[0]["outcome"]), (2, &json!("refused")), "{entries:#?}");
    proof::prove(&stack, &[id], &initial).await;
}

#[tokio::test]
async fn a_replay_that_fails_again_comes_back_until_the_loop_ends() {
    let stack = TestStack::start().await;
    let (id, mut number) = given_up(&stack, "notification").await;
    for count in 1..=5 {
        let answer = replay(&stack, "notification-sub", &these(number)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        let item = answer.json()["results"][0].clone();
        assert_eq!(item["replayCount"], count, "{item:#}");
        let last = number;
        number = eventually("it is dead-lettered again", || async {
            let found = letters(&stack, "notification-sub", &id).await;
            found.iter().filter_map(|l| l["sequenceNumber"].as_i64()).find(|n| *n != last)
        })
        .await;
    }
    let refused = replay(&stack, "notification-sub", &these(number)).await;
    problem(&refused, 409, "replay-limit");
    let left = letters(&stack, "notification-sub", &id).await;
    assert_eq!((left.len(), &left[0]["replays"]), (1, &json!(5)), "{left:#?}");
    // Given up on for good, with a reason.
    problem(
        &act(&stack, "notification-sub", "discard", &json!({"select": {"all": true}})).await,
        422,
        "invalid-request",
    );
    let answer = act(&stack, "notification-sub", "discard", &these(number)).await;
    assert_eq!(answer.json()["results"][0]["outcome"], "discarded", "{answer:?}");
    assert!(letters(&stack, "notification-sub", &id).await.is_empty());
    problem(
        &act(&stack, "notification-sub", "discard", &these(number)).await,
        409,
        "already-discarded",
    );
    let outcomes: Vec<Value> = trail(&stack, "notification-sub", number)
        .await
        .iter()
        .map(|entry| json!([entry["action"], entry["outcome"]]))
        .collect();
    assert_eq!(
        outcomes,
        [
            json!(["discard", "refused"]),
            json!(["discard", "discarded"]),
            json!(["replay", "refused"])
        ]
    );
}

#[tokio::test]
async fn a_crash_in_the_middle_of_a_replay_neither_loses_nor_doubles() {
    let stack = TestStack::start().await;
    let initial = proof::stock(&stack).await;
    let (mut crashed, mut ids) = (Vec::new(), Vec::new());
    for point in ["ops.before-send", "ops.after-send", "ops.after-mark", "ops.after-complete"] {
        let (id, number) = given_up(&stack, "billing").await;
        crashed.push((point, id, number, these_without_fault(number).to_string()));
    }
    let (path, base) = ("/api/ops/dead-letters/billing-sub/replay", &stack.endpoints.http);
    for (point, _, _, body) in &crashed {
        stack.arm(point, "abort");
        eventually(&format!("the replay dies at {point}"), || async {
            // Nobody may answer yet: the last death is not long ago.
            let answer = try_send(base, Method::POST, path, &JSON, body.clone()).await;
            let died = !stack.is_armed(point);
            let lost = answer.is_none_or(|answer| answer.status.is_server_error());
            assert!(lost || !died, "{point}: who died has answered");
            died.then_some(())
        })
        .await;
    }
    // The locks of the dead run out side by side.
    for (point, id, number, body) in crashed {
        // As an operator would: again, until it is said to be done.
        let deadline = std::time::Instant::now() + TAKEN_OVER_WITHIN;
        loop {
            let answer = try_send(base, Method::POST, path, &JSON, body.clone()).await;
            // The host's own answer, while the handler starts again, has no body.
            let answer = answer.filter(|answer| !answer.status.is_server_error());
            let told = answer.map(|answer| (answer.status.as_u16(), answer.json()));
            match &told {
                Some((200, report)) => {
                    let outcome = report["results"][0]["outcome"].as_str().unwrap();
                    assert!(["replayed", "finished"].contains(&outcome), "{point}: {report:#}");
                    break;
                }
                Some((409, problem)) if problem["type"] == "/problems/already-replayed" => break,
                _ => {}
            }
            assert!(std::time::Instant::now() < deadline, "{point}: {told:?}\n{}", stack.log());
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        stack.until_completed(&id).await;
        assert!(letters(&stack, "billing-sub", &id).await.is_empty(), "{point}");
        assert_eq!(stack.ledger_of(&id).await, ["captured"], "{point}");
        let recorded = trail(&stack, "billing-sub", number).await;
        let done = recorded.iter().filter(|entry| entry["outcome"] == "replayed");
        assert_eq!(done.count(), 1, "{point}: {recorded:#?}");
        ids.push(id);
    }
    proof::prove(&stack, &ids, &initial).await;
}

#[tokio::test]
async fn two_operators_at_once_replay_it_once() {
    let stack = shared().await;
    let (id, number) = given_up(&stack, "billing").await;
    let body = these_without_fault(number);
    let answers =
        futures::future::join_all((0..4).map(|_| replay(&stack, "billing-sub", &body))).await;
    let (done, refused): (Vec<&Answer>, Vec<_>) =
        answers.iter().partition(|answer| answer.status == 200);
    assert_eq!(done.len(), 1, "{answers:?}");
    assert!(refused.iter().all(|answer| answer.status == 409), "{answers:?}");
    let mut outcomes: Vec<Value> = trail(&stack, "billing-sub", number).await;
    outcomes.retain(|entry| entry["outcome"] == "refused");
    assert_eq!(outcomes.len(), refused.len(), "each is in the audit trail: {outcomes:#?}");
    let after = stack.until_completed(&id).await;
    let replays = after["history"].as_array().unwrap().iter().filter(|e| e["what"] == "replayed");
    assert_eq!(replays.count(), 1, "{after:#}");
    assert_eq!(stack.ledger_of(&id).await, ["captured"]);
}

#[tokio::test]
async fn poison_is_edited_or_discarded_and_bystanders_stay_as_they_are() {
    let stack = TestStack::start().await;
    let (id, number) = given_up(&stack, "billing").await;
    // Bystanders, before and after: of no order at all.
    let topic = stack.bus().sender("orders");
    let poison = |name: &str| {
        let message =
            Message { message_id: Some(name.to_owned()), ..Message::new("no event at all") };
        message.with_property("event_type", "order.created").with_property("target", "billing-sub")
    };
    for name in ["poison-1", "poison-2"] {
        topic.send(&poison(name)).await.unwrap();
    }
    let all = eventually("all three are dead-lettered", || async {
        let page = get(&stack, "/api/ops/dead-letters/billing-sub").await;
        let found = page["deadLetters"].as_array().unwrap().clone();
        (found.len() == 3).then_some(found)
    })
    .await;
    let counts = |letters: &[Value]| -> BTreeMap<i64, Value> {
        letters
            .iter()
            .map(|l| (l["sequenceNumber"].as_i64().unwrap(), l["deliveryCount"].clone()))
            .collect()
    };
    let first = |reason: &'static str| format!("/api/ops/dead-letters/billing-sub?reason={reason}");
    let filtered = get(&stack, &first("not-json")).await;
    assert_eq!(filtered["deadLetters"].as_array().unwrap().len(), 2, "{filtered:#}");
    let page = get(&stack, "/api/ops/dead-letters/billing-sub?limit=2").await;
    let next = page["next"].as_str().unwrap();
    let rest = get(&stack, &format!("/api/ops/dead-letters/billing-sub?after={next}")).await;
    assert_eq!(rest["deadLetters"].as_array().unwrap().len(), 1, "{rest:#}");
    assert!(rest["next"].is_null());

    // An edited body must be an event, of the same order, of the same kind.
    let shown = get(&stack, &format!("/api/ops/dead-letters/billing-sub/{number}")).await;
    let with = |path: &str, value: Value| {
        let mut body = these_without_fault(number);
        body["body"] = shown["body"].clone();
        body["body"][path] = value;
        body
    };
    for (edit, pointer) in [
        (with("schemaversion", json!(9)), "/body"),
        (with("specversion", json!("0.3")), "/body"),
        (with("MessageId", json!("forged")), "/body"),
        (with("data", json!({})), "/body/data"),
        (with("source", json!("/by/hand")), "/body/source"),
        (with("traceparent", json!("zzz")), "/body/traceparent"),
        (with("subject", json!(uuid::Uuid::new_v4().to_string())), "/body/subject"),
        (with("type", json!("order.completed")), "/body/type"),
    ] {
        let refused = replay(&stack, "billing-sub", &edit).await;
        problem(&refused, 422, "invalid-request");
        assert_eq!(refused.json()["errors"][0]["pointer"], pointer, "{refused:?}");
        let newest = &trail(&stack, "billing-sub", number).await[0];
        assert_eq!((&newest["outcome"], &newest["reason"]), (&json!("refused"), &json!("test")));
        assert!(newest["detail"].as_str().unwrap().contains(pointer), "{newest:#}");
    }
    let page = get(&stack, "/api/ops/dead-letters/billing-sub").await;
    assert_eq!(counts(page["deadLetters"].as_array().unwrap()), counts(&all), "nothing changed");

    // The last of the three, so that the others come by.
    let poisoned = filtered["deadLetters"].as_array().unwrap();
    let last = poisoned[1]["sequenceNumber"].as_i64().unwrap();
    let answer = act(&stack, "billing-sub", "discard", &these(last)).await;
    assert_eq!(answer.json()["results"][0]["outcome"], "discarded", "{answer:?}");
    let page = get(&stack, "/api/ops/dead-letters/billing-sub").await;
    let left = page["deadLetters"].as_array().unwrap();
    let mut expected = counts(&all);
    expected.remove(&last);
    assert_eq!(counts(left), expected, "bystanders are released, not abandoned");

    // An edit that keeps the rules takes the place of the original.
    let answer = replay(&stack, "billing-sub", &with("editedby", json!("o-1"))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    stack.until_completed(&id).await;
    let entry = &trail(&stack, "billing-sub", number).await[0];
    assert_eq!((&entry["edited"], &entry["outcome"]), (&json!(true), &json!("replayed")));

    // All that is left, by reason, at most one: it fails again, as a new letter.
    let body = json!({"select": {"reason": "not-json"}, "limit": 1, "reason": "why not"});
    let answer = replay(&stack, "billing-sub", &body).await;
    assert_eq!(answer.json()["counts"], json!({"replayed": 1}), "{answer:?}");
    eventually("it is back", || async {
        let page = get(&stack, "/api/ops/dead-letters/billing-sub").await;
        let lines = page["deadLetters"].as_array().unwrap();
        lines.iter().any(|line| line["replays"] == 1).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_dead_letter_that_another_tool_has_put_aside_is_shown_and_replayed_like_the_others() {
    let stack = TestStack::start().await;
    let (put_aside, number) = given_up(&stack, "billing").await;
    let options = ReceiverOptions { sub_queue: SubQueue::DeadLetter };
    let tool = stack.bus().receiver("orders", Some("billing-sub"), options);
    let taken = tool.receive(1, Duration::from_secs(10)).await.unwrap();
    assert_eq!(taken[0].sequence_number, number);
    tool.settle(&[&taken[0]], &Disposition::Deferred).await.unwrap();
    let (bystander, _) = given_up(&stack, "billing").await;
    let shown = letters(&stack, "billing-sub", &put_aside).await;
    assert_eq!(shown[0]["deferred"], true, "{shown:#?}");
    assert_eq!(letters(&stack, "billing-sub", &bystander).await[0]["deferred"], false);
    let whole = get(&stack, &format!("/api/ops/dead-letters/billing-sub/{number}")).await;
    assert_eq!((&whole["deferred"], &whole["body"]["subject"]), (&json!(true), &json!(put_aside)));

    // While the tool works on it nobody else can have it, and it is said so.
    let held = tool.receive_deferred(number).await.unwrap().expect("it is deferred");
    problem(&replay(&stack, "billing-sub", &these(number)).await, 409, "locked");
    tool.abandon(&held).await.unwrap();
    assert_eq!(letters(&stack, "billing-sub", &put_aside).await[0]["deferred"], true);

    // Both kinds in one request.
    let all = json!({"select": {"all": true}, "reason": "mended", "withoutFault": true});
    let answer = replay(&stack, "billing-sub", &all).await;
    assert_eq!(answer.json()["counts"], json!({"replayed": 2}), "{answer:?}");
    for id in [&put_aside, &bystander] {
        stack.until_completed(id).await;
        assert_eq!(stack.ledger_of(id).await, ["captured"]);
        assert!(letters(&stack, "billing-sub", id).await.is_empty());
    }
    problem(&replay(&stack, "billing-sub", &these(number)).await, 409, "already-replayed");
}

#[tokio::test]
async fn a_payment_in_the_poison_queue_goes_back_through_billing() {
    let stack = TestStack::start().await;
    let initial = proof::stock(&stack).await;
    // The order is damaged before it is paid: the bank refuses a charge of nothing, which no retry
    // cures.
    stack.hold("billing.before-hand-over");
    let id = stack.submit(&order_with(json!({}))).await;
    let orders = stack.store().container("orders");
    let total = stack.order(&id).await["totalMinor"].clone();
    let damage = |to: Value| azure::cosmos::Patch::new().set("/totalMinor", to);
    let damaged = orders.patch::<Value>(&id, &id, &damage(json!(0))).await.unwrap();
    assert!(matches!(damaged, azure::cosmos::PatchOutcome::Applied(_)), "{damaged:?}");
    stack.release("billing.before-hand-over");
    stack.until(&id, "given up on", |o| o["status"]["billing"] == "dead-lettered").await;
    let number = letter(&stack, "payments-poison", &id).await;
    let shown = get(&stack, &format!("/api/ops/dead-letters/payments-poison/{number}")).await;
    assert_eq!(shown["reason"], "bank-refused-request", "{shown:#}");
    assert_eq!(shown["target"], "billing-sub");
    assert_eq!(shown["body"]["subject"], id);
    let overview = get(&stack, "/api/ops/dead-letters").await;
    let sources = overview["sources"].as_array().unwrap();
    assert!(sources.iter().any(|s| s["source"] == "payments-poison" && s["count"] == 1));

    orders.patch::<Value>(&id, &id, &damage(total)).await.unwrap();
    let answer = replay(&stack, "payments-poison", &these(number)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.json()["results"][0]["outcome"], "replayed", "{answer:?}");
    let after = stack.until_completed(&id).await;
    assert_eq!(after["stage"]["inventory"]["attempt"], 1, "{after:#}");
    assert_eq!(stack.ledger_of(&id).await, ["captured"]);
    let again = replay(&stack, "payments-poison", &these(number)).await;
    problem(&again, 409, "already-replayed");
    assert!(letters(&stack, "payments-poison", &id).await.is_empty());
    proof::prove(&stack, &[id], &initial).await;
}

/// The newest line of the trail that nobody else can have written.
pub(crate) async fn newest(stack: &TestStack, reason: &str) -> Value {
    let page = get(stack, "/api/ops/audit?limit=200").await;
    let mut entries = page["entries"].as_array().unwrap().iter();
    entries.find(|entry| entry["reason"] == reason).cloned().unwrap_or_default()
}

#[tokio::test]
async fn bad_input_is_refused_in_words_and_written_down() {
    let stack = shared().await;
    for source in ["payments", "orders", "billing-sub%2F..", "Billing-Sub"] {
        let reason = format!("looking for {source}");
        let all = json!({"select": {"all": true}, "reason": reason});
        problem(&replay(&stack, source, &all).await, 404, "not-found");
        let entry = newest(&stack, &reason).await;
        assert_eq!(entry["outcome"], "refused", "{source}: {entry:#}");
        assert!(entry["detail"].as_str().unwrap().starts_with("/problems/not-found"), "{entry:#}");
    }
    // What is no text is nowhere, in the same shape as anything else.
    for path in
        ["/api/ops/dead-letters/%ff", "/api/ops/dead-letters/billing-sub/%ff", "/api/orders/%ff"]
    {
        problem(&stack.get(path).await, 404, "not-found");
    }
    problem(&replay(&stack, "%ff", &these(1)).await, 404, "not-found");
    problem(&stack.cancel("%ff").await, 404, "not-found");
    let mut gone = these(999_999_999);
    for (source, action) in
        [("inventory-sub", "replay"), ("payments-poison", "replay"), ("inventory-sub", "discard")]
    {
        gone["reason"] = format!("{action} {source}").into();
        problem(&act(&stack, source, action, &gone).await, 404, "gone");
        let entry = newest(&stack, &format!("{action} {source}")).await;
        assert_eq!(
            (&entry["action"], &entry["sequenceNumber"], &entry["outcome"]),
            (&json!(action), &json!(999_999_999), &json!("refused")),
            "{entry:#}"
        );
    }
    let over = json!({"select": {"all": true}, "reason": "over the limit", "limit": 1_001});
    problem(&replay(&stack, "inventory-sub", &over).await, 422, "invalid-request");
    let entry = newest(&stack, "over the limit").await;
    assert!(entry["detail"].as_str().unwrap().contains("/limit"), "{entry:#}");
    for body in [
        json!({}),
        json!([]),
        json!({"select": {"all": true}}),
        json!({"select": {"all": true}, "reason": "r", "limit": 1_001}),
        json!({"select": {"all": true}, "reason": "r", "body": {}}),
        json!({"select": {"sequenceNumbers": (0..1_001).collect::<Vec<_>>()}, "reason": "r"}),
        json!({"select": {"all": true}, "reason": "x".repeat(501)}),
    ] {
        problem(&replay(&stack, "inventory-sub", &body).await, 422, "invalid-request");
    }
    let fault = json!({"select": {"all": true}, "reason": "r", "withoutFault": true});
    problem(&act(&stack, "inventory-sub", "discard", &fault).await, 422, "invalid-request");
    let path = "/api/ops/dead-letters/inventory-sub/replay";
    problem(&stack.send(Method::POST, path, &JSON, "{").await, 400, "malformed-json");
    problem(&stack.send(Method::POST, path, &[], "{}").await, 415, "unsupported-media-type");
    problem(&stack.send(Method::GET, path, &[], "").await, 405, "method-not-allowed");
    for path in [
        "/api/ops/dead-letters/inventory-sub?limit=0",
        "/api/ops/dead-letters/inventory-sub?limit=201",
        "/api/ops/dead-letters/inventory-sub?after=-1",
        "/api/ops/dead-letters/inventory-sub?after=x",
        "/api/ops/dead-letters/inventory-sub?sort=asc",
        "/api/ops/audit?after=x",
        "/api/ops/audit?reason=x",
    ] {
        problem(&stack.get(path).await, 400, "invalid-query");
    }
    problem(&stack.get("/api/ops/dead-letters/nowhere").await, 404, "not-found");
    problem(&stack.get("/api/ops/dead-letters/inventory-sub/x").await, 404, "not-found");
    problem(&stack.get("/api/ops/dead-letters/inventory-sub/7777777").await, 404, "gone");

    // Each attempt is in the trail, with who and what; looking is not an attempt.
    let query = Query::new("SELECT * FROM c WHERE c.outcome = 'refused' AND c.action != 'access'");
    let audit = stack.store().container("audit");
    let refused: Vec<Value> = audit.query(&query, Scope::All, 1_000).await.unwrap();
    assert!(refused.len() >= 15, "{refused:#?}");
    for entry in &refused {
        assert_eq!(entry["actor"], "developer", "{entry:#}");
        let detail = entry["detail"].as_str().unwrap();
        assert!(!detail.is_empty(), "{entry:#}");
    }
    // Pages follow each other without a gap.
    let first = get(&stack, "/api/ops/audit?limit=3").await;
    let after = first["next"].as_str().unwrap();
    let second = get(&stack, &format!("/api/ops/audit?limit=3&after={after}")).await;
    let keys: Vec<String> = [first, second]
        .iter()
        .flat_map(|page| page["entries"].as_array().unwrap().clone())
        .map(|entry| format!("{}~{}", entry["at"].as_str().unwrap(), entry["id"].as_str().unwrap()))
        .collect();
    assert!(keys.len() == 6 && keys.is_sorted_by(|a, b| a > b), "{keys:?}");
}

#[tokio::test]
async fn the_command_line_shows_and_replays_what_the_api_does() {
    let stack = TestStack::start().await;
    let (id, number) = given_up(&stack, "notification").await;
    let url = stack.endpoints.http.clone();
    let dlq = move |arguments: Vec<String>| {
        let url = url.clone();
        async move {
            let run = tokio::task::spawn_blocking(move || {
                std::process::Command::new(crate::harness::binary("stack"))
                    .arg("dlq")
                    .args(arguments)
                    .args(["--url", &url])
                    .output()
                    .unwrap()
            });
            let output = tokio::time::timeout(DONE_WITHIN, run).await.unwrap().unwrap();
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            (output.status.success(), text(&output.stdout), text(&output.stderr))
        }
    };
    let words = |line: &str| line.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let (ok, table, _) = dlq(words("list")).await;
    assert!(ok && table.contains("notification-sub"), "{table}");
    assert!(table.contains("MaxDeliveryCountExceeded"), "{table}");
    let (ok, table, _) = dlq(words("list notification-sub")).await;
    assert!(ok && table.contains(&id), "{table}");
    let (ok, shown, _) = dlq(words(&format!("show notification-sub {number} --json"))).await;
    assert!(ok, "{shown}");
    assert_eq!(serde_json::from_str::<Value>(&shown).unwrap()["orderId"], id);
    let (ok, _, error) = dlq(words("show notification-sub 424242")).await;
    assert!(!ok && error.contains("not there"), "{error}");
    let line = format!("replay notification-sub --number {number} --without-fault --reason fixed");
    let (ok, table, error) = dlq(words(&line)).await;
    assert!(ok && table.contains("replayed"), "{table}{error}");
    stack.until_completed(&id).await;
    let (ok, table, _) = dlq(words("audit")).await;
    assert!(ok && table.contains("fixed") && table.contains("developer"), "{table}");

    // What was refused, why, and how often.
    let (ok, _, error) = dlq(words("discard notification-sub --number 424242 --reason oops")).await;
    assert!(!ok && error.contains("/problems/gone"), "{error}");
    let mallory = [("x-development-principal", "c-mallory;roles=orders.read")];
    for _ in 0..3 {
        let refused = stack.send(Method::GET, "/api/ops/audit", &mallory, "").await;
        problem(&refused, 403, "forbidden");
    }
    let told = eventually("those alike are told of with their number", || async {
        let (ok, table, error) = dlq(words("audit --limit 50")).await;
        assert!(ok, "{table}{error}");
        let counted: Vec<&str> = table.lines().filter(|l| l.contains("c-mallory")).collect();
        (counted.len() >= 2).then_some(table)
    })
    .await;
    assert!(told.contains("detail=/problems/gone: "), "{told}");
    assert!(told.contains("detail=/problems/forbidden: the role is missing"), "{told}");
    let (ok, _, error) =
        dlq(words("list --header x-development-principal:;roles=orders.read")).await;
    assert!(!ok && error.contains("403") && error.contains("ops.read"), "{error}");
}
