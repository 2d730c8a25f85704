//! The operations of `$management`, asked as the SDKs ask.

use super::*;

#[test]
fn management_answers_every_operation() {
    let hub = hub();
    let mut owner = Client::connected(&hub, 1);
    owner.sender(0, "q");
    owner.receiver(1, "q", 1);
    let (transfer, _) = messages(&owner.send(0, &message(b"body"))).remove(0);
    let token = Uuid::from_slice_le(&transfer.delivery_tag.unwrap()).unwrap();

    let mut other = Client::connected(&hub, 2);
    let mut ask = |operation: &str, body: Vec<(&str, Value)>| {
        let body = Value::Map(body.into_iter().map(|(k, v)| (Value::string(k), v)).collect());
        let operation = Value::String(format!("com.microsoft:{operation}"));
        let tracking = ("com.microsoft:tracking-id", Value::string("track"));
        let (status, correlation, body) = other.ask(
            "q/$management",
            Value::string("1"),
            &[("operation", operation), tracking],
            body,
        );
        assert_eq!(correlation, Value::string("1"));
        let get = |key| crate::amqp::value::get(&status, key).cloned();
        assert_eq!(get("com.microsoft:tracking-id"), Some(Value::string("track")));
        let condition = get("errorCondition").map(|c| c.as_text().unwrap().to_owned());
        (get("statusCode").unwrap().as_i64().unwrap(), condition, body)
    };
    let tokens = |token| ("lock-tokens", Value::Array(vec![Value::Uuid(token)]));
    let numbers = |n| ("sequence-numbers", Value::Array(vec![Value::Long(n)]));

    let (status, _, body) = ask("renew-lock", vec![tokens(token)]);
    let until = Value::Array(vec![Value::Timestamp(START_MS + 10_000)]);
    assert_eq!((status, body.get("expirations")), (200, Some(&until)));
    let (status, condition, _) = ask("renew-lock", vec![tokens(Uuid::nil())]);
    assert_eq!((status, condition.as_deref()), (410, Some(condition::MESSAGE_LOCK_LOST)));

    let peek =
        |from| vec![("from-sequence-number", Value::Long(from)), ("message-count", Value::Int(5))];
    let (status, _, body) = ask("peek-message", peek(0));
    assert_eq!((status, body.get("messages").unwrap().as_items().unwrap().len()), (200, 1));
    let (status, condition, _) = ask("peek-message", peek(9));
    assert_eq!((status, condition.as_deref()), (204, Some(condition::MESSAGE_NOT_FOUND)));

    let settle = |status, token| vec![("disposition-status", Value::string(status)), tokens(token)];
    assert_eq!(ask("update-disposition", settle("defered", token)).0, 200);
    assert_eq!(ask("update-disposition", settle("completed", token)).0, 410);
    assert_eq!(ask("update-disposition", settle("nonsense", token)).0, 400);
    let locked = vec![numbers(1), ("receiver-settle-mode", Value::Uint(1))];
    let (status, _, body) = ask("receive-by-sequence-number", locked.clone());
    let first = &body.get("messages").unwrap().as_items().unwrap()[0];
    let Some(Value::Uuid(token)) = first.get("lock-token") else { panic!("{first:?}") };
    assert_eq!(status, 200);
    let (status, condition, _) = ask("receive-by-sequence-number", locked);
    assert_eq!((status, condition.as_deref()), (404, Some(condition::MESSAGE_NOT_FOUND)));
    assert_eq!(ask("update-disposition", settle("completed", *token)).0, 200);

    let mut scheduled = BytesMut::new();
    let at = Value::Timestamp(START_MS + 1_000);
    let annotations = vec![(Value::symbol("x-opt-scheduled-enqueue-time"), at)];
    put_value(&mut scheduled, &Value::described(0x72, Value::Map(annotations)));
    scheduled.extend_from_slice(&message(b"later"));
    let item = |bytes| Value::Map(vec![(Value::string("message"), Value::Binary(bytes))]);
    let plan = |bytes| vec![("messages", Value::List(vec![item(bytes)]))];
    let (status, _, body) = ask("schedule-message", plan(scheduled.freeze()));
    let sequences = body.get("sequence-numbers").cloned();
    assert_eq!((status, sequences), (200, Some(Value::Array(vec![Value::Long(2)]))));
    assert_eq!(ask("schedule-message", plan(message(b"no time"))).0, 400);
    // JavaScript writes a long as eight raw bytes.
    let raw = Value::List(vec![Value::Binary(Bytes::copy_from_slice(&2_i64.to_be_bytes()))]);
    assert_eq!(ask("cancel-scheduled-message", vec![("sequence-numbers", raw)]).0, 200);
    let (status, condition, _) = ask("cancel-scheduled-message", vec![numbers(2)]);
    assert_eq!((status, condition.as_deref()), (404, Some(condition::MESSAGE_NOT_FOUND)));

    assert_eq!(ask("batch-delete-messages", vec![("message-count", Value::Int(9))]).0, 204);
    assert_eq!(ask("enumerate-rules", vec![("top", Value::Int(9))]).0, 400);
    assert_eq!(ask("get-session-state", vec![]).0, 400);
    let (status, condition, _) = ask("make-coffee", vec![]);
    assert_eq!((status, condition.as_deref()), (501, Some(condition::NOT_IMPLEMENTED)));
}

#[test]
fn rules_are_added_listed_and_removed_over_the_wire() {
    let mut client = Client::connected(&hub(), 1);
    let mut ask = |operation: &str, body: Value| {
        let operation = [("operation", Value::String(format!("com.microsoft:{operation}")))];
        let node = "t/Subscriptions/s/$management";
        let (status, _, body) = client.ask(node, Value::Ulong(1), &operation, body);
        (crate::amqp::value::get(&status, "statusCode").unwrap().as_i64().unwrap(), body)
    };
    let map = |pairs: Vec<(&str, Value)>| {
        Value::Map(pairs.into_iter().map(|(k, v)| (Value::string(k), v)).collect())
    };
    let add = |name: &str, kind: &str, filter: Value| {
        let description = map(vec![(kind, filter), ("sql-rule-action", Value::Null)]);
        map(vec![("rule-name", Value::string(name)), ("rule-description", description)])
    };
    let sql = |text: &str| map(vec![("expression", Value::string(text))]);
    assert_eq!(ask("add-rule", add("sql", "sql-filter", sql("a = 1"))).0, 200);
    assert_eq!(ask("add-rule", add("sql", "sql-filter", sql("a = 1"))).0, 409);
    assert_eq!(ask("add-rule", add("bad", "sql-filter", sql("a ="))).0, 400);
    let fields =
        map(vec![("label", Value::string("x")), ("properties", map(vec![("n", Value::Int(1))]))]);
    assert_eq!(ask("add-rule", add("corr", "correlation-filter", fields)).0, 200);
    let page = map(vec![("top", Value::Int(10)), ("skip", Value::Int(1))]);
    let (status, body) = ask("enumerate-rules", page);
    assert_eq!(status, 200);
    let rules: Vec<(Value, Vec<Value>)> = body
        .get("rules")
        .unwrap()
        .as_items()
        .unwrap()
        .iter()
        .map(|rule| match rule.get("rule-description").unwrap() {
            Value::Described(d) => (d.0.clone(), d.1.as_items().unwrap().to_vec()),
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(rules.iter().all(|(code, _)| *code == Value::Ulong(0x137_0000_0004)));
    let names: Vec<_> = rules.iter().map(|(_, fields)| fields[2].clone()).collect();
    assert_eq!(names, [Value::string("sql"), Value::string("corr")]);
    let filter =
        Value::described(0x13_7000_0006, Value::List(vec![Value::string("a = 1"), Value::Null]));
    assert_eq!(rules[0].1[0], filter);
    let remove = |name: &str| map(vec![("rule-name", Value::string(name))]);
    assert_eq!(ask("remove-rule", remove("SQL")).0, 200);
    assert_eq!(ask("remove-rule", remove("sql")).0, 404);
    let page = map(vec![("top", Value::Int(10)), ("skip", Value::Int(9))]);
    assert_eq!(ask("enumerate-rules", page).0, 204);
}
