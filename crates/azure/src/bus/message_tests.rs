//! Tests of [`super`]: what a message looks like on the wire, in both directions.

use time::macros::datetime;

use super::*;

fn full() -> Message {
    Message {
        body: Bytes::from_static(b"{\"id\":1}"),
        message_id: Some("event-1".into()),
        content_type: Some("application/cloudevents+json".into()),
        correlation_id: Some("order-1".into()),
        subject: Some("created".into()),
        application_properties: BTreeMap::new(),
        scheduled_enqueue_time: Some(datetime!(2026-11-21 10:00:00.5 UTC)),
        time_to_live: Some(Duration::from_secs(90)),
    }
    .with_property("text", "a")
    .with_property("long", 1i64 << 40)
    .with_property("double", 0.5)
    .with_property("bool", true)
    .with_property("uuid", Uuid::from_u128(7))
    .with_property("at", datetime!(2026-11-21 10:00 UTC))
    .with_property("null", PropertyValue::Null)
    .with_property("bytes", PropertyValue::Bytes(Bytes::from_static(&[0, 255])))
}

#[test]
fn messages_survive_the_wire() {
    let received = decode(&encode(&full()).unwrap()).unwrap();
    assert_eq!(received.message, full());
    assert_eq!((received.delivery_count, received.lock_token), (0, None));
    let plain = Message::new("x");
    assert_eq!(decode(&encode(&plain).unwrap()).unwrap().message, plain);
}

#[test]
fn the_wire_form_is_that_of_the_protocol() {
    let message =
        Message { message_id: Some("m".into()), ..Message::new("x") }.with_property("n", 1i64);
    assert_eq!(
        encode(&message).unwrap(),
        [
            // properties: list8, 1 field: message-id str8 "m"
            0x00, 0x53, 0x73, 0xc0, 0x04, 0x01, 0xa1, 0x01, b'm',
            // application-properties: map8 with 2 items: str8 "n", smalllong 1
            0x00, 0x53, 0x74, 0xc1, 0x06, 0x02, 0xa1, 0x01, b'n', 0x55, 0x01,
            // data: vbin8 "x"
            0x00, 0x53, 0x75, 0xa0, 0x01, b'x',
        ]
    );
}

#[test]
fn what_the_broker_adds_is_read() {
    let mut message = to_amqp(&Message::new("x").with_property("kept", "k"));
    message.header = Some(Header::builder().delivery_count(2).build());
    message.message_annotations = Some(
        MessageAnnotations::builder()
            .insert(SEQUENCE_NUMBER, Value::Long(17))
            .insert(ENQUEUED_TIME, Value::Timestamp(Timestamp::from_milliseconds(1000)))
            .insert(LOCKED_UNTIL, Value::Timestamp(Timestamp::from_milliseconds(61_000)))
            .insert(DEAD_LETTER_SOURCE, Value::String("orders".into()))
            .insert(MESSAGE_STATE, Value::Int(2))
            .build(),
    );
    if let Some(properties) = &mut message.application_properties {
        properties.0.insert(DEAD_LETTER_REASON.into(), "poison".into());
        properties.0.insert(DEAD_LETTER_DESCRIPTION.into(), "not JSON".into());
    }
    let bytes = serde_amqp::to_vec(&__private::Serializable(message)).unwrap();
    let received = decode(&bytes).unwrap();
    assert_eq!((received.sequence_number, received.delivery_count), (17, 2));
    assert_eq!(received.enqueued_at, Some(datetime!(1970-01-01 00:00:01 UTC)));
    assert_eq!(received.locked_until, Some(datetime!(1970-01-01 00:01:01 UTC)));
    assert_eq!(received.state, MessageState::Scheduled);
    assert_eq!(received.dead_letter_reason.as_deref(), Some("poison"));
    assert_eq!(received.dead_letter_description.as_deref(), Some("not JSON"));
    assert_eq!(received.dead_letter_source.as_deref(), Some("orders"));
    assert_eq!(received.message, Message::new("x").with_property("kept", "k"));
    assert!(matches!(decode(&bytes[..5]), Err(BusError::Protocol { .. })));
}

#[test]
fn batches_are_split_by_size_and_keep_their_order() {
    let messages: Vec<Message> = (0..10).map(|n| Message::new(vec![n; 1000])).collect();
    let shape = |max_bytes| -> Vec<usize> {
        pack(&messages, max_bytes)
            .unwrap()
            .iter()
            .map(|packet| match packet {
                Packet::One(_) => 1,
                Packet::Many(batch) => {
                    let whole = &batch.message;
                    let bytes = serde_amqp::to_vec(&__private::Serializable(whole)).unwrap();
                    assert!(bytes.len() <= max_bytes, "{} > {max_bytes}", bytes.len());
                    assert_eq!(batch.message_format, 0x8001_3700);
                    whole.body.len()
                }
            })
            .collect()
    };
    assert_eq!(shape(1 << 18), [10]);
    assert_eq!(shape(4700), [4, 4, 2]);
    assert_eq!(shape(10), [1; 10]);
    let packets = pack(&messages[3..5], 1 << 18).unwrap();
    let [Packet::Many(batch)] = packets.as_slice() else {
        panic!("two small messages fit into one batch");
    };
    let bodies: Vec<u8> =
        batch.message.body.iter().map(|data| decode(&data.0).unwrap().message.body[0]).collect();
    assert_eq!(bodies, [3, 4]);
    assert!(pack(&[], 1 << 18).unwrap().is_empty());
}

#[test]
fn lock_tokens_come_in_the_byte_order_of_dotnet() {
    let tag = [0x04, 0x03, 0x02, 0x01, 0x06, 0x05, 0x08, 0x07, 9, 10, 11, 12, 13, 14, 15, 16];
    let token = lock_token(&tag).unwrap();
    assert_eq!(token.to_string(), "01020304-0506-0708-090a-0b0c0d0e0f10");
    assert_eq!(lock_token(&[1, 2, 3, 4]), None);
}

#[test]
fn dead_letter_texts_are_cut_at_a_character() {
    let text = "é".repeat(5000);
    assert_eq!(dead_letter_text(&text).chars().count(), 4096);
    assert_eq!(dead_letter_text("short"), "short");
}
