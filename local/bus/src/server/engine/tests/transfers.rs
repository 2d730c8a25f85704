//! Messages both ways and their outcomes, to the types the SDKs cast to.

use super::*;

#[test]
fn a_peek_lock_delivery_has_everything_and_the_right_types() {
    let mut client = Client::connected(&hub(), 1);
    client.sender(0, "q");
    client.receiver(1, "q", 1);
    let said = client.send(0, &crate::message::tests::encoded(None, &[], b"body"));
    assert_eq!(outcomes(&said), [(0, None, DeliveryState::Accepted)]);
    let (transfer, payload) = messages(&said).remove(0);
    let tag = transfer.delivery_tag.unwrap();
    assert_eq!((tag.len(), transfer.settled, transfer.message_format), (16, Some(false), Some(0)));

    // The header has a delivery-count even when it is 0.
    let Value::Described(header) = Reader::new(&payload).value().unwrap() else { panic!() };
    assert_eq!(header.0, Value::Ulong(0x70));
    assert_eq!(header.1.as_items().unwrap()[4], Value::Uint(0));

    // The lock token is the tag in the byte order of a .NET Guid.
    let delivery = raw_annotations(&payload, 0x71);
    let token = Uuid::from_slice_le(&tag).unwrap();
    assert_eq!(delivery, [(Value::symbol("x-opt-lock-token"), Value::Uuid(token))]);

    let annotations = raw_annotations(&payload, 0x72);
    let get = |key| crate::amqp::value::get(&annotations, key).unwrap().clone();
    assert_eq!(get("x-opt-enqueued-time"), Value::Timestamp(START_MS));
    assert_eq!(get("x-opt-locked-until"), Value::Timestamp(START_MS + 10_000));
    assert_eq!(get("x-opt-sequence-number"), Value::Long(1));
    assert_eq!(get("x-opt-enqueue-sequence-number"), Value::Long(1));

    // The sender gave no message-id, so the broker did: JavaScript cannot renew locks without.
    let sections = Sections::split(&payload).unwrap();
    let Value::Described(properties) = Reader::new(&sections.properties).value().unwrap() else {
        panic!()
    };
    let id = properties.1.as_items().unwrap()[0].as_text().unwrap().to_owned();
    assert!(id.len() == 32 && id.chars().all(|c| c.is_ascii_hexdigit()), "{id}");
}

#[test]
fn receive_and_delete_delivers_settled_and_without_a_lock() {
    let mut client = Client::connected(&hub(), 1);
    client.sender(0, "q");
    client.send(0, &message(b"body"));
    let attach = Attach { snd_settle_mode: Some(1), rcv_settle_mode: Some(0), ..receiver(1, "q") };
    client.attach(&attach);
    let said = client.flow(1, 0, 5, false);
    let (transfer, payload) = messages(&said).remove(0);
    assert_eq!(transfer.settled, Some(true));
    assert_eq!(raw_annotations(&payload, 0x71), []);
    assert!(client.engine.context.hub.status().queues[0].active == 0);
}

#[test]
fn outcomes_are_echoed_without_errors() {
    let mut client = Client::connected(&hub(), 1);
    client.sender(0, "q");
    client.receiver(1, "q", 10);
    for _ in 0..4 {
        client.send(0, &message(b"body"));
    }
    let info = vec![(Value::symbol("DeadLetterReason"), Value::string("R"))];
    let error = AmqpError { info, ..AmqpError::new(condition::DEAD_LETTER, "") };
    let modified = |undeliverable_here| DeliveryState::Modified {
        undeliverable_here,
        annotations: Vec::new(),
    };
    for (id, asked, answer) in [
        (0, DeliveryState::Accepted, DeliveryState::Accepted),
        (1, DeliveryState::Rejected(Some(error)), DeliveryState::Rejected(None)),
        (2, DeliveryState::Released, DeliveryState::Released),
    ] {
        let said = client.dispose(id, id, false, asked);
        assert_eq!(outcomes(&said), [(id, None, answer)]);
    }
    // The released message came again at once, as delivery 4.
    let said = client.dispose(4, 4, false, modified(false));
    assert_eq!(outcomes(&said), [(4, None, modified(false))]);
    // Locks that are over, or deliveries from another life, are told apart.
    client.now = client.now.plus(10_000);
    let said = client.dispose(3, 3, false, DeliveryState::Accepted);
    assert_eq!(rejected_for(&outcomes(&said)[0].2), condition::MESSAGE_LOCK_LOST);
    let said = client.dispose(77, 77, false, DeliveryState::Accepted);
    assert_eq!(rejected_for(&outcomes(&said)[0].2), condition::NOT_FOUND);
}

#[test]
fn ranges_settle_at_once_and_settled_ones_get_no_answer() {
    let mut client = Client::connected(&hub(), 1);
    client.sender(0, "q");
    client.receiver(1, "q", 10);
    for _ in 0..6 {
        client.send(0, &message(b"body"));
    }
    let said = client.dispose(0, 2, false, DeliveryState::Accepted);
    assert_eq!(outcomes(&said), [(0, Some(2), DeliveryState::Accepted)]);
    assert!(client.dispose(3, 4, true, DeliveryState::Accepted).is_empty());
    let status = client.engine.context.hub.status();
    assert_eq!((status.queues[0].active, status.queues[0].locked), (1, 1));
    // A range of four billion is as cheap as what is in it.
    let said = client.dispose(0, u32::MAX, false, DeliveryState::Accepted);
    assert_eq!(outcomes(&said), [(5, None, DeliveryState::Accepted)]);
}

#[test]
fn oversize_and_malformed_messages_are_rejected_alone() {
    let mut client = Client::connected(&hub(), 1);
    client.sender(0, "q");
    let said = client.send(0, &message(&vec![0; 262_144]));
    assert_eq!(rejected_for(&outcomes(&said)[0].2), condition::MESSAGE_SIZE_EXCEEDED);
    let said = client.send(0, b"\x00\x53\x75\xff");
    assert_eq!(rejected_for(&outcomes(&said)[0].2), condition::DECODE_ERROR);
    let said = client.send(0, &message(&vec![0; 200_000]));
    assert_eq!(outcomes(&said), [(2, None, DeliveryState::Accepted)]);
    client.sender(1, "tiny");
    for _ in 0..5 {
        client.send(1, &message(&vec![0; 200_000]));
    }
    let said = client.send(1, &message(&vec![0; 200_000]));
    assert_eq!(rejected_for(&outcomes(&said)[0].2), condition::RESOURCE_LIMIT);
}

#[test]
fn batches_are_stored_whole_or_not_at_all() {
    const BATCH: u32 = 0x8001_3700;
    let mut client = Client::connected(&hub(), 1);
    client.sender(0, "q");
    let batch = |messages: &[Bytes]| {
        let mut out = BytesMut::new();
        for message in messages {
            put_value(&mut out, &Value::described(0x75, Value::Binary(message.clone())));
        }
        out
    };
    let said = client.send_as(0, BATCH, &batch(&[message(b"1"), message(b"2")]));
    assert_eq!(outcomes(&said), [(0, None, DeliveryState::Accepted)]);
    let broken = Bytes::from_static(b"broken");
    let said = client.send_as(0, BATCH, &batch(&[message(b"3"), broken]));
    assert_eq!(rejected_for(&outcomes(&said)[0].2), condition::DECODE_ERROR);
    assert_eq!(client.engine.context.hub.status().queues[0].active, 2);
}
