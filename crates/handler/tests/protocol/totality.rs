//! Any envelope at all: triggers answer, they do not panic.

use handler::envelope::{InvocationRequest, InvocationResponse};
use handler::{
    ChangeFeed, HttpRequest, Invocation, QueueMessage, Reply, ServiceBusBatch, ServiceBusMessage,
    TimerTick, Trigger,
};
use proptest::prelude::*;
use serde_json::{Map, Value};

/// JSON of any shape, with strings that hold JSON more often than chance would have it, and names
/// that triggers look for.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        "[ -~]{0,20}".prop_map(Value::from),
        Just(Value::from("2026-03-01T10:00:00")),
    ];
    leaf.prop_recursive(5, 40, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((name(), inner.clone()), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect::<Map<_, _>>())),
            inner.prop_map(|value| Value::String(value.to_string())),
        ]
    })
}

fn name() -> impl Strategy<Value = String> {
    prop_oneof![
        prop::sample::select(vec![
            "Data",
            "Metadata",
            "MessageId",
            "messageid",
            "LockToken",
            "DeliveryCount",
            "DeliveryCountArray",
            "MessageIdArray",
            "ApplicationProperties",
            "EnqueuedTimeUtc",
            "RetryContext",
            "RetryCount",
            "Method",
            "Headers",
            "Body",
            "Params",
            "ScheduleStatus",
            "Last",
            "IsPastDue",
            "Id",
            "Outputs",
            "Logs",
            "ReturnValue",
        ])
        .prop_map(str::to_owned),
        ".{0,6}",
    ]
}

/// What the host does to metadata before it calls a handler: top-level properties of a text that
/// is a JSON object, but for arrays and nulls, replace what has that name in any case.
fn promote(metadata: &mut Map<String, Value>, text: &str) {
    let Ok(Value::Object(members)) = serde_json::from_str(text.trim()) else { return };
    for (name, value) in members {
        let promoted = match value {
            Value::Null | Value::Array(_) => continue,
            Value::Object(_) => value,
            Value::String(text) => Value::from(Value::from(text).to_string()),
            scalar => Value::from(Value::from(scalar.to_string()).to_string()),
        };
        let key = metadata.keys().find(|key| key.eq_ignore_ascii_case(&name)).cloned();
        metadata.insert(key.unwrap_or(name), promoted);
    }
}

/// Names that a forger would choose, in the case of his choice.
fn forgers_name() -> impl Strategy<Value = String> {
    let known = ["MessageId", "LockToken", "DeliveryCount", "Subject", "ApplicationProperties"];
    (prop::sample::select(known.to_vec()), any::<u32>()).prop_map(|(name, cases)| {
        let flip = |(at, letter): (usize, char)| match cases >> (at % 32) & 1 {
            0 => letter.to_ascii_lowercase(),
            _ => letter.to_ascii_uppercase(),
        };
        name.chars().enumerate().map(flip).collect()
    })
}

fn ask_message(message: &ServiceBusMessage) {
    let _ = (message.message_id(), message.lock_token(), message.delivery_count());
    let _ = (message.sequence_number(), message.enqueued_time(), message.expires_at());
    let _ = (message.content_type(), message.subject(), message.session_id(), message.to());
    let _ = (message.application_properties(), message.sender_trace(), message.base64_body());
    let _ = message.json::<Value>();
    for name in message.shadowed() {
        assert!(message.claimed(name).is_some());
    }
}

proptest! {
    #[test]
    fn no_envelope_makes_a_trigger_panic(envelope in json()) {
        let _ = serde_json::from_value::<InvocationResponse>(envelope.clone());
        let Ok(request) = serde_json::from_value::<InvocationRequest>(envelope) else {
            return Ok(());
        };
        let invocation = Invocation::new("f", request);
        let _ = TimerTick::from_invocation(invocation.clone());
        let _ = HttpRequest::from_invocation(invocation.clone());
        let _ = ServiceBusMessage::from_invocation(invocation);
    }

    #[test]
    fn no_trigger_or_metadata_makes_one_panic(
        value in json(),
        metadata in prop::collection::vec((name(), json()), 0..8),
    ) {
        let request = InvocationRequest {
            data: Map::from_iter([("x".to_owned(), value)]),
            metadata: metadata.into_iter().collect(),
        };
        let invocation = Invocation::new("f", request);
        // One trigger is always there, so these two cannot fail, whatever it is.
        ask_message(&ServiceBusMessage::from_invocation(invocation.clone()).unwrap());
        let queue = QueueMessage::from_invocation(invocation.clone()).unwrap();
        let _ = (queue.id(), queue.dequeue_count(), queue.insertion_time(), queue.pop_receipt());
        if let Ok(batch) = ServiceBusBatch::from_invocation(invocation.clone()) {
            batch.messages.iter().for_each(ask_message);
        }
        if let Ok(feed) = ChangeFeed::from_invocation(invocation.clone()) {
            prop_assert_eq!(feed.json::<Value>().count(), feed.documents.len());
        }
        let _ = TimerTick::from_invocation(invocation.clone());
        let _ = HttpRequest::from_invocation(invocation);
    }

    #[test]
    fn what_is_believed_is_the_brokers(
        properties in prop::collection::vec((forgers_name(), json()), 0..4),
        spaces in " {0,2}",
    ) {
        let text = spaces + &Value::Object(properties.into_iter().collect()).to_string();
        let truth = serde_json::json!({
            "MessageId": "\"m-1\"", "LockToken": "\"c0a1e6de-2f6b-4b3a-8d2b-52cf0f0cbb11\"",
            "DeliveryCount": "3", "Subject": "\"s\"", "ApplicationProperties": {"a": 1},
        });
        let Value::Object(mut metadata) = truth else { unreachable!() };
        promote(&mut metadata, &text);
        let wrapped = Value::from(Value::from(text).to_string());
        let data = Map::from_iter([("x".to_owned(), wrapped)]);
        let invocation = Invocation::new("f", InvocationRequest { data, metadata });
        let message = ServiceBusMessage::from_invocation(invocation).unwrap();
        let names: Vec<_> = message.shadowed().collect();
        let doubted = |name| names.contains(&name);
        let token = message.lock_token().map(|token| token.to_string());
        for (name, believed, truth) in [
            ("MessageId", message.message_id(), "m-1"),
            ("LockToken", token, "c0a1e6de-2f6b-4b3a-8d2b-52cf0f0cbb11"),
            ("DeliveryCount", message.delivery_count().map(|count| count.to_string()), "3"),
            ("Subject", message.subject(), "s"),
            (
                "ApplicationProperties",
                message.application_properties().map(|all| Value::from(all).to_string()),
                "{\"a\":1}",
            ),
        ] {
            let expected = (!doubted(name)).then_some(truth);
            prop_assert_eq!(believed.as_deref(), expected, "{}", name);
        }
    }

    #[test]
    fn text_survives_the_hosts_encoding(body in ".*") {
        let wrapped = Value::from(Value::from(body.clone()).to_string());
        let request = InvocationRequest {
            data: Map::from_iter([("x".to_owned(), wrapped)]),
            ..InvocationRequest::default()
        };
        let invocation = Invocation::new("f", request);
        let message = ServiceBusMessage::from_invocation(invocation).unwrap();
        prop_assert_eq!(message.text(), body);
    }

    #[test]
    fn a_reply_is_an_object_whatever_is_put_into_it(value in json(), line in ".*") {
        let reply = Reply::done().output("o", &value).return_value(&value).log(line);
        let envelope = serde_json::to_value(reply.into_envelope().unwrap()).unwrap();
        prop_assert!(envelope.is_object());
        let sent = &envelope["Outputs"]["o"];
        match value {
            Value::String(text) => {
                prop_assert_eq!(serde_json::from_str::<String>(sent.as_str().unwrap()).unwrap(), text);
            }
            other => prop_assert_eq!(sent, &other),
        }
    }
}
