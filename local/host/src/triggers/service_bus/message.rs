//! A received message, free of AMQP, and what an invocation gets to see of it.
//!
//! Source: `ServiceBusTriggerBindingStrategy` of the Service Bus extension. For one message the
//! text is the trigger value and its JSON properties are promoted over the broker's metadata; for
//! many the names carry the suffix `Array` and nothing is promoted.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::{Map, Value, json};
use time::macros::datetime;
use time::{Duration, OffsetDateTime};
use uuid::Uuid;

use crate::bindings::{DataType, Function, ServiceBusTrigger};
use crate::invocation::envelope::{BindingData, date_time, date_time_with_fraction};
use crate::invocation::promotion::{Nested, promote};
use crate::invocation::{BindingValue, Envelope};

/// `DateTime.MaxValue`, in whole seconds: a message without a time to live.
const NEVER: OffsetDateTime = datetime!(9999-12-31 23:59:59 UTC);

/// `default(DateTimeOffset)`: a message that never was in a broker.
const NO_TIME: OffsetDateTime = datetime!(0001-01-01 00:00 UTC);

/// One message under peek-lock.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    /// The body as bytes, or why it cannot be given to a function.
    pub(crate) body: Result<Vec<u8>, String>,
    pub(crate) message_id: Option<String>,
    pub(crate) content_type: Option<String>,
    pub(crate) subject: Option<String>,
    pub(crate) correlation_id: Option<String>,
    pub(crate) reply_to: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) session_id: Option<String>,
    /// When the lock of the session that it came in ends.
    pub(crate) session_locked_until: Option<OffsetDateTime>,
    pub(crate) reply_to_session_id: Option<String>,
    pub(crate) partition_key: Option<String>,
    pub(crate) transaction_partition_key: Option<String>,
    pub(crate) dead_letter_source: Option<String>,
    /// Including this delivery: 1 at the first one.
    pub(crate) delivery_count: u32,
    pub(crate) lock_token: Uuid,
    pub(crate) locked_until: Option<OffsetDateTime>,
    pub(crate) sequence_number: i64,
    pub(crate) enqueued: OffsetDateTime,
    pub(crate) expires: OffsetDateTime,
    /// JSON scalars, in their own types.
    pub(crate) application_properties: Map<String, Value>,
}

impl Message {
    /// What the admin endpoint makes of a text: a message no broker has touched.
    pub(crate) fn untouched(text: String) -> Self {
        Self {
            body: Ok(text.into_bytes()),
            message_id: None,
            content_type: None,
            subject: None,
            correlation_id: None,
            reply_to: None,
            to: None,
            session_id: None,
            session_locked_until: None,
            reply_to_session_id: None,
            partition_key: None,
            transaction_partition_key: None,
            dead_letter_source: None,
            delivery_count: 0,
            lock_token: Uuid::nil(),
            locked_until: None,
            sequence_number: -1,
            enqueued: NO_TIME,
            expires: NEVER,
            application_properties: Map::new(),
        }
    }

    /// When a message enqueued at `enqueued` with this time to live expires.
    pub(crate) fn expiry(
        enqueued: OffsetDateTime,
        time_to_live: Option<Duration>,
    ) -> OffsetDateTime {
        time_to_live.and_then(|ttl| enqueued.checked_add(ttl)).map_or(NEVER, |at| at.min(NEVER))
    }

    /// W3C trace context the sender has put on the message.
    pub(crate) fn traceparent(&self) -> Option<String> {
        ["Diagnostic-Id", "traceparent"]
            .iter()
            .find_map(|name| self.application_properties.get(*name)?.as_str().map(str::to_owned))
    }

    /// The `Trigger Details` line.
    pub(crate) fn details(&self) -> String {
        let or_null = |text: &Option<String>| text.clone().unwrap_or_else(|| "(null)".to_owned());
        format!(
            "MessageId: {}, SequenceNumber: {}, DeliveryCount: {}, EnqueuedTimeUtc: {}Z, \
             LockedUntilUtc: {}, SessionId: {}",
            or_null(&self.message_id),
            self.sequence_number,
            self.delivery_count,
            date_time(self.enqueued),
            self.locked_until.map_or_else(|| "(null)".to_owned(), date_time_with_fraction),
            or_null(&self.session_id)
        )
    }

    fn text(bytes: &[u8]) -> String {
        String::from_utf8_lossy(bytes).into_owned()
    }
}

/// The envelope of one message. The error says why the body cannot be handed on.
pub(crate) fn single(
    function: &Function,
    trigger: &ServiceBusTrigger,
    message: &Message,
    client_id: &str,
    now: OffsetDateTime,
) -> Result<Envelope, String> {
    let body = message.body.clone()?;
    let mut metadata = common(trigger, message.session_locked_until, client_id);
    let text = |text: &Option<String>| text.as_ref().map(BindingValue::text);
    let properties = BindingValue::Object(message.application_properties.clone());
    metadata.set("DeliveryCount", BindingValue::Other(json!(message.delivery_count)));
    metadata.set_some("DeadLetterSource", text(&message.dead_letter_source));
    metadata.set("LockToken", BindingValue::text(message.lock_token.to_string()));
    metadata.set("ExpiresAtUtc", BindingValue::DateTime(message.expires));
    metadata.set("ExpiresAt", BindingValue::DateTimeOffset(message.expires));
    metadata.set("EnqueuedTimeUtc", BindingValue::DateTime(message.enqueued));
    metadata.set("EnqueuedTime", BindingValue::DateTimeOffset(message.enqueued));
    metadata.set_some("MessageId", text(&message.message_id));
    metadata.set_some("ContentType", text(&message.content_type));
    metadata.set_some("ReplyTo", text(&message.reply_to));
    metadata.set("SequenceNumber", BindingValue::Other(json!(message.sequence_number)));
    metadata.set_some("To", text(&message.to));
    metadata.set_some("Subject", text(&message.subject));
    metadata.set_some("Label", text(&message.subject));
    metadata.set_some("CorrelationId", text(&message.correlation_id));
    metadata.set("ApplicationProperties", properties.clone());
    metadata.set("UserProperties", properties);
    metadata.set_some("SessionId", text(&message.session_id));
    metadata.set_some("ReplyToSessionId", text(&message.reply_to_session_id));
    metadata.set_some("PartitionKey", text(&message.partition_key));
    metadata.set_some("TransactionPartitionKey", text(&message.transaction_partition_key));
    let data = if trigger.data_type == DataType::Binary {
        BindingValue::Bytes(body)
    } else {
        let text = Message::text(&body);
        promote(&text, Nested::Promoted, &mut metadata);
        BindingValue::text(text)
    };
    Ok(Envelope::new(&function.name, &function.binding, data.encode(), metadata, now))
}

/// The envelope of a batch. The error names the message that spoils it.
pub(crate) fn batch(
    function: &Function,
    trigger: &ServiceBusTrigger,
    messages: &[Message],
    client_id: &str,
    now: OffsetDateTime,
) -> Result<Envelope, String> {
    let bodies = messages
        .iter()
        .map(|message| {
            let id = message.message_id.as_deref().unwrap_or_default();
            let body = message.body.as_ref().map_err(|why| format!("message '{id}': {why}"))?;
            Ok(match trigger.data_type {
                DataType::Binary => Value::String(BASE64.encode(body)),
                DataType::String => Value::String(Message::text(body)),
                DataType::Undefined => serde_json::from_slice(body).map_err(|error| {
                    format!(
                        "message '{id}' is not JSON ({error}); one such message fails its whole \
                         batch unless the binding has \"dataType\": \"string\""
                    )
                })?,
            })
        })
        .collect::<Result<Vec<Value>, String>>()?;

    let session_locked_until = messages.first().and_then(|message| message.session_locked_until);
    let mut metadata = common(trigger, session_locked_until, client_id);
    let mut array = |name: &str, of: &dyn Fn(&Message) -> Value| {
        let list: Vec<Value> = messages.iter().map(of).collect();
        metadata.set(&format!("{name}Array"), BindingValue::Other(Value::Array(list)));
    };
    let utc = |time| json!(date_time_with_fraction(time));
    let offset = |time| json!(offset(time));
    array("DeliveryCount", &|m| json!(m.delivery_count));
    array("DeadLetterSource", &|m| json!(m.dead_letter_source));
    array("LockToken", &|m| json!(m.lock_token.to_string()));
    array("ExpiresAtUtc", &|m| utc(m.expires));
    array("ExpiresAt", &|m| offset(m.expires));
    array("EnqueuedTimeUtc", &|m| utc(m.enqueued));
    array("EnqueuedTime", &|m| offset(m.enqueued));
    array("MessageId", &|m| json!(m.message_id));
    array("ContentType", &|m| json!(m.content_type));
    array("ReplyTo", &|m| json!(m.reply_to));
    array("SequenceNumber", &|m| json!(m.sequence_number));
    array("To", &|m| json!(m.to));
    array("Subject", &|m| json!(m.subject));
    array("Label", &|m| json!(m.subject));
    array("CorrelationId", &|m| json!(m.correlation_id));
    array("ApplicationProperties", &|m| json!(m.application_properties));
    array("UserProperties", &|m| json!(m.application_properties));
    array("SessionId", &|m| json!(m.session_id));
    array("ReplyToSessionId", &|m| json!(m.reply_to_session_id));
    array("PartitionKey", &|m| json!(m.partition_key));
    array("TransactionPartitionKey", &|m| json!(m.transaction_partition_key));
    let data = BindingValue::Other(Value::Array(bodies)).encode();
    Ok(Envelope::new(&function.name, &function.binding, data, metadata, now))
}

/// A time inside an object, where its fraction of a second is kept.
fn offset(time: OffsetDateTime) -> String {
    date_time_with_fraction(time).replace('Z', "+00:00")
}

/// Remains of .NET objects that the host sends along; of use is at most the end of the lock of a
/// session.
fn common(
    trigger: &ServiceBusTrigger,
    session_locked_until: Option<OffsetDateTime>,
    client_id: &str,
) -> BindingData {
    let mut metadata = BindingData::default();
    for name in
        ["MessageReceiver", "MessageSession", "MessageActions", "SessionActions", "ReceiveActions"]
    {
        metadata.set(name, BindingValue::Object(Map::new()));
    }
    if let Some(until) = session_locked_until {
        let actions = Map::from_iter([("SessionLockedUntil".to_owned(), json!(offset(until)))]);
        metadata.set("SessionActions", BindingValue::Object(actions));
    }
    let host = &trigger.connection.host;
    let client = Map::from_iter([
        ("FullyQualifiedNamespace".to_owned(), json!(host)),
        ("IsClosed".to_owned(), json!(false)),
        ("TransportType".to_owned(), json!(0)),
        ("Identifier".to_owned(), json!(format!("{host}-{client_id}"))),
    ]);
    metadata.set("Client", BindingValue::Object(client));
    metadata
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bindings::{Cardinality, Trigger};
    use crate::config::connection::ServiceBusConnection;

    fn trigger(cardinality: Cardinality, data_type: DataType) -> ServiceBusTrigger {
        ServiceBusTrigger {
            entity: "orders/Subscriptions/billing".to_owned(),
            connection: ServiceBusConnection {
                setting: "OrdersBus".to_owned(),
                host: "demo.servicebus.windows.net".to_owned(),
                port: 5672,
                key_name: "n".to_owned(),
                key: "k".to_owned(),
            },
            cardinality,
            data_type,
            auto_complete: true,
            sessions: false,
            max_batch_messages: 1000,
        }
    }

    fn function(trigger: ServiceBusTrigger) -> Function {
        Function {
            name: "Billing".into(),
            binding: "order".to_owned(),
            trigger: Trigger::ServiceBus(trigger),
            retry: None,
            outputs: vec![],
            http_in_and_out: false,
        }
    }

    fn message(body: &[u8]) -> Message {
        Message {
            message_id: Some("m-123".to_owned()),
            content_type: Some("application/json".to_owned()),
            subject: Some("order-created".to_owned()),
            correlation_id: Some("corr-9".to_owned()),
            delivery_count: 1,
            lock_token: "0f9a5a2e-8a5e-4c0e-9d6e-0b5b7c1f2a11".parse().unwrap(),
            sequence_number: 42,
            enqueued: datetime!(2026-03-01 10:00:00.127 UTC),
            expires: datetime!(2026-03-15 10:00:00.127 UTC),
            application_properties: Map::from_iter([("region".to_owned(), json!("eu"))]),
            ..Message::untouched(String::from_utf8_lossy(body).into_owned())
        }
    }

    fn sent_single(data_type: DataType, message: &Message) -> Value {
        let trigger = trigger(Cardinality::One, data_type);
        let now = datetime!(2026-03-01 10:00:00.512 UTC);
        let sent = single(&function(trigger.clone()), &trigger, message, "3f", now).unwrap();
        let mut sent = sent.to_value();
        let sys = sent["Metadata"]["sys"].take();
        assert_eq!(
            (&sys["MethodName"], &sys["UtcNow"]),
            (&json!("Billing"), &json!("2026-03-01T10:00:00.512Z"))
        );
        assert_eq!(sys["RandGuid"].as_str().unwrap().len(), 36);
        sent["Metadata"].as_object_mut().unwrap().remove("sys");
        sent
    }

    #[test]
    fn golden_one_message() {
        let text = r#"{"orderId":"o-7","qty":2,"customer":{"id":"c-1"}}"#;
        assert_eq!(
            sent_single(DataType::Undefined, &message(text.as_bytes())),
            json!({
                "Data": {
                    "order": "\"{\\\"orderId\\\":\\\"o-7\\\",\\\"qty\\\":2,\\\"customer\\\":{\\\"id\\\":\\\"c-1\\\"}}\""
                },
                "Metadata": {
                    "MessageReceiver": {}, "MessageSession": {}, "MessageActions": {},
                    "SessionActions": {}, "ReceiveActions": {},
                    "Client": {
                        "FullyQualifiedNamespace": "demo.servicebus.windows.net",
                        "IsClosed": false, "TransportType": 0,
                        "Identifier": "demo.servicebus.windows.net-3f"
                    },
                    "DeliveryCount": "1",
                    "LockToken": "\"0f9a5a2e-8a5e-4c0e-9d6e-0b5b7c1f2a11\"",
                    "ExpiresAtUtc": "2026-03-15T10:00:00",
                    "ExpiresAt": "2026-03-15T10:00:00+00:00",
                    "EnqueuedTimeUtc": "2026-03-01T10:00:00",
                    "EnqueuedTime": "2026-03-01T10:00:00+00:00",
                    "MessageId": "\"m-123\"",
                    "ContentType": "\"application/json\"",
                    "SequenceNumber": "42",
                    "Subject": "\"order-created\"", "Label": "\"order-created\"",
                    "CorrelationId": "\"corr-9\"",
                    "ApplicationProperties": { "region": "eu" },
                    "UserProperties": { "region": "eu" },
                    "orderId": "\"o-7\"", "qty": "\"2\"", "customer": { "id": "c-1" }
                }
            })
        );
    }

    #[test]
    fn bodies_of_every_kind() {
        let sent = sent_single(DataType::Undefined, &message(b"hello"));
        assert_eq!(sent["Data"]["order"], "\"hello\"");
        let mut invalid = message(b"");
        invalid.body = Ok(vec![b'a', 0xff]);
        let sent = sent_single(DataType::String, &invalid);
        assert_eq!(sent["Data"]["order"], "\"a\u{fffd}\"");
        let sent = sent_single(DataType::Binary, &invalid);
        assert_eq!(sent["Data"]["order"], "Yf8=", "one level, plain base64");
        let text = br#"{"MessageId":"forged","deliverycount":99}"#;
        let sent = sent_single(DataType::Binary, &message(text));
        assert_eq!(sent["Metadata"]["MessageId"], "\"m-123\"", "no promotion of binary");
        let sent = sent_single(DataType::Undefined, &message(text));
        assert_eq!(sent["Metadata"]["MessageId"], "\"forged\"");
        assert_eq!(sent["Metadata"]["DeliveryCount"], "\"99\"");
        let mut sequence = message(b"");
        sequence.body = Err("an AMQP sequence".to_owned());
        let trigger = trigger(Cardinality::One, DataType::Undefined);
        assert!(single(&function(trigger.clone()), &trigger, &sequence, "", NEVER).is_err());
    }

    #[test]
    fn golden_many_messages() {
        let mut second = message(br#"{"orderId":"o-8"}"#);
        second.message_id = Some("m-124".to_owned());
        second.sequence_number = 43;
        let messages = [message(br#"{"orderId":"o-7"}"#), second];
        let sent = |data_type, messages: &[Message]| {
            let trigger = trigger(Cardinality::Many, data_type);
            batch(&function(trigger.clone()), &trigger, messages, "3f", NEVER).map(|e| e.to_value())
        };
        let strings = sent(DataType::String, &messages).unwrap();
        assert_eq!(
            strings["Data"]["order"],
            "[\"{\\\"orderId\\\":\\\"o-7\\\"}\",\"{\\\"orderId\\\":\\\"o-8\\\"}\"]"
        );
        let objects = sent(DataType::Undefined, &messages).unwrap();
        assert_eq!(objects["Data"]["order"], "[{\"orderId\":\"o-7\"},{\"orderId\":\"o-8\"}]");
        let binary = sent(DataType::Binary, &messages).unwrap();
        assert_eq!(
            binary["Data"]["order"],
            "[\"eyJvcmRlcklkIjoiby03In0=\",\"eyJvcmRlcklkIjoiby04In0=\"]"
        );
        let metadata = &strings["Metadata"];
        for (name, expected) in [
            ("MessageIdArray", "[\"m-123\",\"m-124\"]"),
            ("DeliveryCountArray", "[1,1]"),
            ("SequenceNumberArray", "[42,43]"),
            ("EnqueuedTimeUtcArray", "[\"2026-03-01T10:00:00.127Z\",\"2026-03-01T10:00:00.127Z\"]"),
            ("ApplicationPropertiesArray", "[{\"region\":\"eu\"},{\"region\":\"eu\"}]"),
        ] {
            assert_eq!(metadata[name], expected, "{name}");
        }
        assert!(metadata.get("orderId").is_none(), "no promotion in a batch");
        let error = sent(DataType::Undefined, &[message(b"plain")]).unwrap_err();
        assert!(error.contains("m-123") && error.contains("dataType"), "{error}");
    }

    #[test]
    fn a_message_of_a_session_says_which_and_until_when() {
        let mut first = message(b"{}");
        first.session_id = Some("s-1".to_owned());
        first.session_locked_until = Some(datetime!(2026-03-01 10:00:30.25 UTC));
        let sent = sent_single(DataType::Undefined, &first);
        assert_eq!(sent["Metadata"]["SessionId"], "\"s-1\"");
        let actions = json!({ "SessionLockedUntil": "2026-03-01T10:00:30.25+00:00" });
        assert_eq!(sent["Metadata"]["SessionActions"], actions);
        let trigger = trigger(Cardinality::Many, DataType::String);
        let sent = batch(&function(trigger.clone()), &trigger, &[first], "3f", NEVER).unwrap();
        let sent = sent.to_value();
        assert_eq!(sent["Metadata"]["SessionIdArray"], "[\"s-1\"]");
        assert_eq!(sent["Metadata"]["SessionActions"], actions);
    }

    #[test]
    fn expiry_is_capped_where_dotnet_caps_it() {
        let at = datetime!(2026-03-01 10:00 UTC);
        assert_eq!(Message::expiry(at, Some(Duration::days(14))), datetime!(2026-03-15 10:00 UTC));
        assert_eq!(Message::expiry(at, None), NEVER);
        assert_eq!(Message::expiry(at, Some(Duration::weeks(1_000_000))), NEVER);
    }
}
