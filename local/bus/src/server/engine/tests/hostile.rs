//! Bytes and performatives from anybody: errors, never a panic.

use proptest::prelude::*;

use super::*;

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
