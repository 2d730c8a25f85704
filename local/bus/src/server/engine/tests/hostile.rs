//! Bytes and performatives from anybody: errors, never a panic.

use proptest::prelude::*;

use super::*;
use crate::limits::{LINK_NAME_BYTES_MAX, UNFINISHED_BYTES_MAX};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn arbitrary_bytes_never_panic(
        frames in proptest::collection::vec(
            (0..3_u16, 0x10..0x19_u8, proptest::collection::vec(any::<u8>(), 0..60)), 1..12)
    ) {
        let mut client = Client::connected(&hub(), 1);
        client.sender(0, "q");
        client.receiver(1, "q", 3);
        for (channel, code, fields) in frames {
            let mut input = BytesMut::new();
            let frame = crate::amqp::frame::OpenFrame::begin(&mut input, FrameKind::Amqp, channel);
            input.extend_from_slice(&[0x00, 0x53, code]);
            input.extend_from_slice(&fields);
            frame.end(&mut input);
            client.engine.receive(&mut input, client.now);
        }
    }

    /// Structured nonsense gets further than bytes do: well-formed performatives in any order.
    #[test]
    fn arbitrary_performatives_never_panic(
        said in proptest::collection::vec(
            (0..7_u8, 0..3_u32, 0..5_u32, any::<bool>(), any::<bool>()), 1..40)
    ) {
        let mut client = Client::connected(&hub(), 1);
        for (kind, handle, number, one, two) in said {
            let mut input = BytesMut::new();
            let out = &mut input;
            match kind {
                0 => put_attach(out, 0, &sender(handle, "q")),
                1 => put_attach(out, 0, &receiver(handle, if one { "q" } else { "$cbs" })),
                2 => put_flow(out, 0, &Flow {
                    handle: Some(handle),
                    incoming_window: number,
                    link_credit: Some(number),
                    delivery_count: Some(number),
                    drain: one,
                    echo: two,
                    ..Flow::default()
                }),
                3 => put_transfer(out, 0, &Transfer {
                    handle,
                    delivery_id: Some(number),
                    more: one,
                    aborted: two,
                    ..Transfer::default()
                }, &[&message(b"x")]),
                4 => put_disposition(out, 0, &Disposition {
                    role: Role::Receiver,
                    first: number,
                    last: Some(handle),
                    settled: one,
                    state: two.then_some(DeliveryState::Accepted),
                }),
                5 => put_detach(out, 0, &Detach { handle, closed: one, error: None }),
                _ => put_begin(out, u16::from(one), &begin(number)),
            }
            client.engine.receive(&mut input, client.now);
            client.now = client.now.plus(i64::from(number) * 1_000);
            client.engine.tick(client.now);
        }
        let hub = Arc::clone(&client.engine.context.hub);
        drop(client);
        let status = hub.status();
        prop_assert!(status.queues[0].locked <= status.queues[0].active);
    }
}

/// A list in a list in a list, deeper than any value may be.
fn deep() -> Value {
    (0..=crate::limits::VALUE_DEPTH_MAX).fold(Value::Null, |inner, _| Value::List(vec![inner]))
}

#[test]
fn deep_nesting_costs_the_delivery_or_the_connection() {
    let hub = hub();
    let mut client = Client::connected(&hub, 1);
    client.sender(0, "q");
    let mut nested = BytesMut::new();
    let pairs = vec![(Value::string("k"), deep())];
    put_value(&mut nested, &Value::described(0x74, Value::Map(pairs)));
    put_value(&mut nested, &Value::described(0x75, Value::Binary(Bytes::new())));
    let said = client.send(0, &nested);
    assert_eq!(rejected_for(&outcomes(&said)[0].2), condition::DECODE_ERROR);
    assert_eq!(outcomes(&client.send(0, &message(b"x")))[0].2, DeliveryState::Accepted);
    let said = client.attach(&Attach { properties: Some(deep()), ..sender(1, "q") });
    assert_eq!(closed_with(&said), condition::DECODE_ERROR);
    // Sixty kilobytes of described values, each the descriptor of the next.
    let mut client = Client::connected(&hub, 2);
    client.say(|out| {
        let frame = crate::amqp::frame::OpenFrame::begin(out, FrameKind::Amqp, 0);
        out.extend_from_slice(&[0; 60_000]);
        frame.end(out);
    });
    assert_eq!(closed_with(&client.take()), condition::DECODE_ERROR);
}

#[test]
fn negative_credit_is_an_error_and_credit_that_is_used_up_is_none() {
    let hub = hub();
    let mut client = Client::connected(&hub, 1);
    client.sender(0, "q");
    for _ in 0..5 {
        client.send(0, &message(b"x"));
    }
    assert_eq!(messages(&client.receiver(1, "q", 3)).len(), 3);
    // Counted from nothing seen, one credit is two fewer than were used.
    assert!(messages(&client.flow(1, 0, 1, false)).is_empty());
    assert_eq!(messages(&client.flow(1, 3, 1, false)).len(), 1);
    assert_eq!(messages(&client.flow(1, 4, u32::MAX, false)).len(), 1);
    client.say(|out| {
        let frame = crate::amqp::frame::OpenFrame::begin(out, FrameKind::Amqp, 0);
        let mut fields = vec![Value::Uint(0); 6];
        fields.push(Value::Int(-1));
        put_value(out, &Value::described(0x13, Value::List(fields)));
        frame.end(out);
    });
    assert_eq!(closed_with(&client.take()), condition::DECODE_ERROR);
}

#[test]
fn a_wrong_channel_closes_the_connection() {
    let hub = hub();
    for (channel, wanted) in [
        (0, condition::ILLEGAL_STATE),
        (CHANNEL_MAX + 1, condition::RESOURCE_LIMIT),
        (u16::MAX, condition::RESOURCE_LIMIT),
    ] {
        let mut client = Client::connected(&hub, 1);
        client.say(|out| put_begin(out, channel, &begin(10)));
        assert_eq!(closed_with(&client.take()), wanted, "{channel}");
    }
    for channel in [1, u16::MAX] {
        let mut client = Client::connected(&hub, 1);
        client.say(|out| put_attach(out, channel, &sender(0, "q")));
        assert_eq!(closed_with(&client.take()), condition::NOT_ALLOWED, "{channel}");
    }
    // A handle beyond the announced ones is as wrong as a channel.
    let mut client = Client::connected(&hub, 1);
    let handle = u32::try_from(crate::limits::LINKS_PER_SESSION_MAX).unwrap();
    assert_eq!(closed_with(&client.sender(handle, "q")), condition::FRAMING_ERROR);
}

/// Twelve megabytes for a client that asks for all of them and takes no byte: most of them there
/// before it comes, or one after another while it is there.
#[test]
fn what_is_kept_for_a_client_that_does_not_read_is_bounded() {
    for before in [200, 0] {
        keeps_little_of(before, 250 - before);
    }
}

fn keeps_little_of(before: usize, after: usize) {
    let hub = hub();
    let mut sender = Client::connected(&hub, 1);
    sender.sender(0, "q");
    let body = vec![7; 50_000];
    for _ in 0..before {
        sender.send(0, &message(&body));
    }
    let mut slow = Client::connected(&hub, 2);
    ask_for_all(&mut slow, 1);
    for _ in 0..after {
        slow.engine.deliver(slow.now);
        sender.send(0, &message(&body));
    }
    let kept = slow.engine.output().len();
    assert!(kept < OUTPUT_HIGH_WATER_BYTES + 2 * PEER_FRAME_BYTES as usize, "{kept} bytes");
    // Locked for it: what is written, what it was assigned and what is behind it in the session.
    let locked = hub.status().queues[0].locked;
    assert!((20..70).contains(&locked), "{locked} of 250");
    let got = messages(&slow.take());
    assert_eq!(got.len(), 250, "everything comes once it reads");
}

fn ask_for_all(client: &mut Client, handle: u32) {
    client.attach(&receiver(handle, "q"));
    let flow = Flow {
        next_incoming_id: Some(0),
        incoming_window: u32::MAX,
        handle: Some(handle),
        delivery_count: Some(0),
        link_credit: Some(u32::MAX),
        ..Flow::default()
    };
    client.say(|out| put_flow(out, 0, &flow));
}

/// Forty megabytes for thirty links of one connection, each of which could have one.
#[test]
fn what_is_kept_for_a_client_that_does_not_read_does_not_grow_with_its_links() {
    let hub = hub();
    let mut slow = Client::connected(&hub, 2);
    for handle in 1..=30 {
        ask_for_all(&mut slow, handle);
    }
    let mut sender = Client::connected(&hub, 1);
    sender.sender(0, "q");
    let body = vec![7; 50_000];
    for _ in 0..800 {
        slow.engine.deliver(slow.now);
        sender.send(0, &message(&body));
    }
    // What is written, four megabytes, and a message for each link.
    let locked = hub.status().queues[0].locked;
    assert!((80..200).contains(&locked), "{locked} of 800");
    let mut got = 0;
    while let some @ 1.. = messages(&slow.take()).len() {
        got += some;
    }
    assert_eq!(got, 800, "everything comes once it reads");
}

#[test]
fn replies_that_nobody_reads_stop_the_requests() {
    let hub = hub();
    let mut client = Client::connected(&hub, 1);
    client.sender(0, "q");
    let body = vec![7; 20_000];
    for _ in 0..10 {
        client.send(0, &message(&body));
    }
    let peek = [("operation", Value::string("com.microsoft:peek-message"))];
    let body = Value::Map(vec![
        (Value::string("from-sequence-number"), Value::Long(0)),
        (Value::string("message-count"), Value::Int(100)),
    ]);
    client.ask("q/$management", Value::Ulong(1), &peek, body.clone());
    let mut out = BytesMut::new();
    let fields =
        vec![Value::Ulong(2), Value::Null, Value::Null, Value::Null, Value::string("reply")];
    put_value(&mut out, &Value::described(0x73, Value::List(fields)));
    let pairs = peek.iter().map(|(k, v)| (Value::string(k), v.clone())).collect();
    put_value(&mut out, &Value::described(0x74, Value::Map(pairs)));
    put_value(&mut out, &Value::described(0x77, body));
    let wide = Flow { next_incoming_id: Some(0), incoming_window: u32::MAX, ..Flow::default() };
    client.say(|out| put_flow(out, 0, &wide));
    let mut input = BytesMut::new();
    for _ in 0..40 {
        let transfer = Transfer {
            handle: 10,
            delivery_id: Some(client.next_delivery),
            delivery_tag: Some(Bytes::from_static(b"tag")),
            message_format: Some(0),
            settled: Some(false),
            ..Transfer::default()
        };
        client.next_delivery += 1;
        put_transfer(&mut input, 0, &transfer, &[&out]);
    }
    client.engine.receive(&mut input, client.now);
    assert!(!input.is_empty() && !client.engine.resumes());
    let kept = client.engine.output().len() + client.engine.context.reply_bytes;
    assert!(kept < 4 * OUTPUT_HIGH_WATER_BYTES, "{kept} bytes");
    // Once it reads, the rest is answered.
    let mut answered = 0;
    while !input.is_empty() {
        answered += messages(&client.take()).len();
        assert!(client.engine.resumes());
        client.engine.receive(&mut input, client.now);
    }
    answered += messages(&client.take()).len();
    assert_eq!(answered, 40);
    assert_eq!(client.engine.context.reply_bytes, 0);
}

/// Twenty megabytes of deliveries that do not end, on eighty links.
#[test]
fn what_is_kept_of_unfinished_deliveries_does_not_grow_with_their_links() {
    let mut client = Client::connected(&hub(), 1);
    let frame = vec![7; 50_000];
    let transfer = |handle: u32, more: bool| Transfer {
        handle,
        delivery_id: Some(handle),
        delivery_tag: Some(Bytes::from_static(b"tag")),
        message_format: Some(0),
        settled: Some(false),
        more,
        ..Transfer::default()
    };
    for handle in 0..80 {
        client.sender(handle, "q");
        for _ in 0..5 {
            client.say(|out| put_transfer(out, 0, &transfer(handle, true), &[&frame]));
        }
        assert!(client.engine.context.unfinished_bytes <= UNFINISHED_BYTES_MAX);
    }
    client.take();
    assert!(client.engine.context.unfinished_bytes > UNFINISHED_BYTES_MAX - 262_144);
    // The last one was not kept; its sender may try again.
    client.say(|out| put_transfer(out, 0, &transfer(79, false), &[]));
    let said = outcomes(&client.take());
    assert_eq!(rejected_for(&said[0].2), condition::SERVER_BUSY);
    // What is complete makes room, and what is given up.
    for handle in 0..40 {
        client.say(|out| put_transfer(out, 0, &transfer(handle, false), &[]));
    }
    for handle in 40..79 {
        let detach = Detach { handle, closed: true, error: None };
        client.say(|out| put_detach(out, 0, &detach));
    }
    client.take();
    assert_eq!(client.engine.context.unfinished_bytes, 0);
    assert_eq!(outcomes(&client.send(79, &message(&frame)))[0].2, DeliveryState::Accepted);
}

#[test]
fn a_link_with_an_endless_name_is_refused() {
    let mut client = Client::connected(&hub(), 1);
    let attach = Attach { name: "n".repeat(LINK_NAME_BYTES_MAX + 1), ..sender(0, "q") };
    client.say(|out| put_attach(out, 0, &attach));
    // The answer is longer than the frames of this client.
    let said = client.bytes();
    let has = |text: &str| said.windows(text.len()).any(|part| part == text.as_bytes());
    assert!(has(condition::INVALID_FIELD) && has("The name of a link"), "{said:?}");
}
