//! Envelopes as the host writes them, one file per form, and what the triggers read from them.

use std::path::{Path, PathBuf};

use handler::envelope::{InvocationRequest, InvocationResponse};
use handler::{
    ChangeFeed, HttpRequest, Invocation, QueueMessage, ServiceBusBatch, ServiceBusMessage,
    TimerTick, Trigger,
};
use serde_json::{Value, json};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

pub(crate) fn text(name: &str) -> String {
    std::fs::read_to_string(path(&format!("{name}.json"))).unwrap()
}

fn read<T: Trigger>(name: &str) -> T {
    let request = serde_json::from_str(&text(name)).unwrap();
    T::from_invocation(Invocation::new("function", request)).unwrap()
}

#[test]
fn every_request_survives_a_round_trip() {
    let mut requests = 0;
    for entry in std::fs::read_dir(path("")).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().unwrap().to_str().unwrap().starts_with("response") {
            continue;
        }
        let wire: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
        let request: InvocationRequest = serde_json::from_value(wire.clone()).unwrap();
        assert_eq!(serde_json::to_value(&request).unwrap(), wire, "{}", path.display());
        requests += 1;
    }
    assert!(requests > 20, "only {requests} fixtures were found");
}

#[test]
fn a_response_is_read_in_any_case_and_written_in_one() {
    let response: InvocationResponse = serde_json::from_str(&text("response_any_case")).unwrap();
    assert_eq!(response.logs, ["charged o-41"]);
    let written = serde_json::to_value(&response).unwrap();
    assert_eq!(written["Outputs"]["res"]["statusCode"], 201);
    assert_eq!(written.as_object().unwrap().len(), 2, "{written}");
    let again: InvocationResponse = serde_json::from_value(written).unwrap();
    assert_eq!(again, response);
}

#[test]
fn service_bus_message_with_all_that_the_broker_says() {
    let message: ServiceBusMessage = read("service_bus_json");
    let order: Value = message.json().unwrap();
    assert_eq!(order["customer"]["id"], "c-3");
    assert!(message.text().starts_with(r#"{"orderId":"o-41","total":1999"#));
    assert_eq!(message.body(), message.text().as_bytes());
    assert_eq!(message.message_id().as_deref(), Some("m-41"));
    assert_eq!(message.delivery_count(), Some(3));
    // Beyond what a double holds exactly.
    assert_eq!(message.sequence_number(), Some(9_007_199_254_740_993));
    let lock = message.lock_token().unwrap().to_string();
    assert_eq!(lock, "c0a1e6de-2f6b-4b3a-8d2b-52cf0f0cbb11");
    assert_eq!(message.content_type().as_deref(), Some("application/cloudevents+json"));
    assert_eq!(message.subject().as_deref(), Some("order.created"));
    assert_eq!(message.correlation_id().as_deref(), Some("corr-5"));
    assert_eq!(message.session_id().as_deref(), Some("s-1"));
    assert_eq!(message.partition_key().as_deref(), Some("o-41"));
    assert_eq!(message.to().as_deref(), Some("billing"));
    assert_eq!(message.reply_to().as_deref(), Some("answers"));
    assert_eq!(message.reply_to_session_id().as_deref(), Some("a-1"));
    assert_eq!(message.dead_letter_source(), None);
    assert_eq!(message.enqueued_time().unwrap().unix_timestamp(), 1_777_879_811);
    assert_eq!(message.expires_at().unwrap().unix_timestamp(), 1_777_879_811 + 14 * 86_400);
    assert_eq!(message.application_property("attempt"), Some(json!(2)));
    assert_eq!(message.application_property("express"), Some(json!(true)));
    let trace = message.sender_trace().unwrap();
    assert_eq!(trace.trace_id().to_string(), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(message.shadowed().count(), 0);
}

#[test]
fn service_bus_bodies_of_every_kind() {
    let plain: ServiceBusMessage = read("service_bus_text");
    assert_eq!(plain.text(), "hello, plain text");
    assert!(plain.json::<Value>().is_err());
    // An id that looks like a number is still the sender's text.
    assert_eq!(plain.message_id().as_deref(), Some("12345"));

    let replaced: ServiceBusMessage = read("service_bus_replaced_bytes");
    assert_eq!(replaced.text(), "caf\u{fffd}");

    let binary: ServiceBusMessage = read("service_bus_binary");
    assert_eq!(binary.base64_body().unwrap(), [0, 159, 146, 150]);
    assert_eq!(binary.delivery_count(), Some(3));
    assert!(plain.base64_body().is_err());

    for name in ["service_bus_encoded_once", "service_bus_native"] {
        let lean: ServiceBusMessage = read(name);
        assert_eq!(lean.json::<Value>().unwrap()["total"], 1999, "{name}");
        assert_eq!(lean.message_id().as_deref(), Some("m-47"), "{name}");
        assert_eq!(lean.delivery_count(), Some(1), "{name}");
        assert_eq!(lean.application_property("order_id"), Some(json!("o-41")), "{name}");
        assert_eq!(lean.enqueued_time().unwrap().millisecond(), 250, "{name}");
    }
}

#[test]
fn forged_metadata_is_not_believed() {
    let message: ServiceBusMessage = read("service_bus_forged");
    assert_eq!(message.message_id(), None);
    assert_eq!(message.delivery_count(), None);
    assert_eq!(message.lock_token(), None);
    assert_eq!(message.application_properties(), None);
    assert_eq!(message.sender_trace(), None);
    // What the body does not name is the broker's.
    assert_eq!(message.correlation_id().as_deref(), Some("corr-5"));
    assert!(message.sequence_number().is_some());
    // The claim itself can be looked at, for a log.
    assert_eq!(message.claimed("MessageId"), Some(&json!("\"forged\"")));
    let mut shadowed: Vec<_> = message.shadowed().collect();
    shadowed.sort_unstable();
    let expected = ["ApplicationProperties", "DeliveryCount", "LockToken", "MessageId"];
    assert_eq!(shadowed, expected);

    // An object to the host's parser, and nothing to ours.
    let message: ServiceBusMessage = read("service_bus_forged_leniently");
    assert_eq!(message.message_id(), None);
    assert_eq!(message.sequence_number(), None);
}

#[test]
fn service_bus_batches_of_every_kind() {
    for name in ["service_bus_batch_json", "service_bus_batch_string", "service_bus_batch_binary"] {
        let batch: ServiceBusBatch = read(name);
        let [first, second] = &batch.messages[..] else { panic!("{name}") };
        assert_eq!(first.message_id().as_deref(), Some("m-51"), "{name}");
        assert_eq!(second.message_id().as_deref(), Some("52"), "{name}");
        // A batch promotes nothing, so the body cannot forge.
        assert_eq!(first.delivery_count(), Some(1), "{name}");
        assert_eq!(second.delivery_count(), Some(4), "{name}");
        assert_eq!(second.sequence_number(), Some(52), "{name}");
        assert_eq!(first.enqueued_time().unwrap().millisecond(), 127, "{name}");
        assert!(second.lock_token().unwrap().to_string().ends_with("0a52"), "{name}");
        assert_eq!(second.application_property("order_id"), Some(json!("o-52")), "{name}");
        // One subject for two messages: whose is it?
        assert_eq!(first.subject(), None, "{name}");
    }
    let json: ServiceBusBatch = read("service_bus_batch_json");
    assert_eq!(json.messages[1].json::<Value>().unwrap()["orderId"], "o-52");
    let string: ServiceBusBatch = read("service_bus_batch_string");
    assert_eq!(string.messages[0].text(), r#"{"orderId":"o-51","deliveryCount":99}"#);
    assert_eq!(string.messages[1].text(), "plain text");
    let binary: ServiceBusBatch = read("service_bus_batch_binary");
    assert_eq!(binary.messages[1].base64_body().unwrap(), [0xff, 0]);

    let single: InvocationRequest = serde_json::from_str(&text("service_bus_text")).unwrap();
    let error = ServiceBusBatch::from_invocation(Invocation::new("f", single)).unwrap_err();
    assert!(error.to_string().contains("cardinality"), "{error}");
}

#[test]
fn queue_messages() {
    let message: QueueMessage = read("queue_json");
    assert_eq!(message.json::<Value>().unwrap()["amountMinor"], 1999);
    assert_eq!(message.dequeue_count(), Some(2));
    assert_eq!(message.id().as_deref(), Some("8f0f7a3a-2a0e-4d8e-9d43-5f8a3c1b9e70"));
    assert_eq!(message.pop_receipt().as_deref(), Some("AgAAAAMAAAAAAAAAb2=="));
    assert_eq!(message.insertion_time().unwrap().unix_timestamp(), 1_777_879_811);
    assert!(message.expiration_time() > message.next_visible_time());

    let clash: QueueMessage = read("queue_id_clash");
    assert_eq!(clash.id(), None);
    assert_eq!(clash.dequeue_count(), Some(2));
    assert_eq!(clash.shadowed().collect::<Vec<_>>(), ["Id"]);

    let text: QueueMessage = read("queue_text");
    assert_eq!(text.text(), "1999");
}

#[test]
fn pages_of_the_change_feed() {
    for name in ["change_feed", "change_feed_encoded_once", "change_feed_native"] {
        let feed: ChangeFeed = read(name);
        assert_eq!(feed.documents.len(), 2, "{name}");
        assert_eq!(feed.documents[0]["_etag"], "\"0a00c1f2-0000-0d00-0000-6816c1f30000\"");
        assert_eq!(feed.documents[0]["createdAt"], "2026-05-04T07:30:11Z");
    }
    let feed: ChangeFeed = read("change_feed");
    let retry = feed.retry.unwrap();
    assert_eq!((retry.retry_count, retry.max_retry_count), (2, None));

    // A document that the function cannot read does not hide the others.
    #[derive(serde::Deserialize)]
    struct Created {
        #[serde(rename = "createdAt")]
        created_at: String,
    }
    let created: Vec<_> = feed.json::<Created>().collect();
    assert_eq!(created[0].as_ref().unwrap().created_at, "2026-05-04T07:30:11Z");
    assert!(created[1].is_err());
}

#[test]
fn ticks_of_a_timer() {
    let tick: TimerTick = read("timer");
    assert!(tick.is_past_due);
    let status = tick.schedule_status.unwrap();
    assert_eq!(status.next.unwrap() - status.last.unwrap(), time::Duration::MINUTE);
    assert_eq!(tick.retry.unwrap().max_retry_count, Some(3));
    let tick: TimerTick = read("timer_unmonitored");
    assert!(!tick.is_past_due && tick.schedule_status.is_none() && tick.retry.is_none());
}

#[test]
fn http_requests_in_json() {
    let request: HttpRequest = read("http_json");
    assert_eq!(request.method, "PUT");
    assert!(request.url.ends_with("/api/stock/tea?dry=1&tag=a,b"));
    assert_eq!((request.query("tag"), request.query("nope")), (Some("a,b"), None));
    assert_eq!((request.param("sku"), request.param("shelf")), (Some("tea"), None));
    assert_eq!(request.headers["host"], "localhost:7071");
    assert_eq!(request.headers.get_all("x-twice").iter().count(), 2);
    assert_eq!(request.headers.len(), 4);
    assert_eq!(request.json::<Value>().unwrap()["available"], 3);
    assert_eq!(request.identities.len(), 1);
    assert_eq!(read::<HttpRequest>("http_octets").body, [255, 0, 1]);
    assert!(read::<HttpRequest>("http_bodiless").body.is_empty());
}

#[test]
fn one_of_several_inputs_is_chosen_by_name() {
    let request: InvocationRequest = serde_json::from_value(json!({
        "Data": {"order": "\"hello\"", "settings": "{\"limit\":3}"}, "Metadata": {},
    }))
    .unwrap();
    let invocation = Invocation::new("charge", request);
    let error = ServiceBusMessage::from_invocation(invocation.clone()).unwrap_err().to_string();
    assert!(error.contains("order, settings"), "{error}");
    let order = invocation.select("order").unwrap();
    assert_eq!(ServiceBusMessage::from_invocation(order).unwrap().text(), "hello");
    assert_eq!(invocation.input::<Value>("settings").unwrap()["limit"], 3);
    assert!(invocation.select("nope").is_err() && invocation.input::<Value>("nope").is_err());
    let nothing = Invocation::new("charge", InvocationRequest::default());
    assert!(ServiceBusMessage::from_invocation(nothing).is_err());
}
