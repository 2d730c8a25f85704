//! Attach and refusal, credit, windows, drain, and what a lost connection leaves behind.

use super::*;

#[test]
fn attaches_are_answered_or_refused_as_the_sdks_expect() {
    let mut client = Client::connected(&hub(), 1);
    let said = client.sender(0, "/Q");
    let [Performative::Attach(answer), Performative::Flow(flow)] = &said[..] else {
        panic!("{said:?}")
    };
    assert_eq!((answer.role, answer.max_message_size), (Role::Receiver, Some(262_144)));
    assert_eq!(answer.target, sender(0, "/Q").target);
    assert!(flow.link_credit.unwrap() > 0 && flow.incoming_window > 0);
    let said = client.receiver(1, "q", 0);
    let [Performative::Attach(answer)] = &said[..] else { panic!("{said:?}") };
    assert_eq!((answer.initial_delivery_count, answer.rcv_settle_mode), (Some(0), Some(1)));

    // .NET leaves out initial-delivery-count on request links.
    let dotnet = Attach { initial_delivery_count: None, ..sender(2, "$cbs") };
    assert!(matches!(client.attach(&dotnet)[..], [Performative::Attach(_), Performative::Flow(_)]));

    for (handle, attach, wanted) in [
        (3, receiver(3, "nothing"), condition::NOT_FOUND),
        (4, sender(4, "t/Subscriptions/s"), condition::NOT_ALLOWED),
        (5, sender(5, "q/$DeadLetterQueue"), condition::NOT_ALLOWED),
        (6, receiver(6, "t"), condition::NOT_ALLOWED),
        (7, Attach { target: None, ..sender(7, "q") }, condition::NOT_IMPLEMENTED),
    ] {
        let said = client.attach(&attach);
        let (answer, error) = refusal(&said);
        assert_eq!((answer.handle, &*error.condition), (handle, wanted));
        let refused_end = if attach.role == Role::Sender { &answer.target } else { &answer.source };
        assert!(refused_end.is_none());
    }
    let said = client.receiver(3 + 5, "nothing", 0);
    let text = &refusal(&said[..2]).1.description;
    assert!(text.contains("TrackingId:") && text.contains("SystemTracker:nothing"), "{text}");
    assert!(text.contains("Timestamp:2023-11-14T22:13:20"), "{text}");
}

#[test]
fn transactions_and_shared_sessions_are_declined() {
    let mut client = Client::connected(&hub(), 1);
    let described = |code, fields| {
        let mut out = BytesMut::new();
        put_value(&mut out, &Value::described(code, Value::List(fields)));
        let raw = out.freeze();
        Terminus { raw, address: None, filter: None, is_coordinator: code == 0x30 }
    };
    let coordinator = Attach { target: Some(described(0x30, vec![])), ..sender(0, "") };
    let said = client.attach(&coordinator);
    assert_eq!(refusal(&said).1.condition, condition::NOT_IMPLEMENTED);
    for (handle, filter, wanted) in [
        (1, "com.microsoft:session-filter", condition::NOT_ALLOWED),
        (2, "com.microsoft:non-exclusive-session-filter", condition::NOT_IMPLEMENTED),
    ] {
        let filter = Value::Map(vec![(
            Value::symbol(filter),
            Value::described(0x13_7000_000c, Value::string("s")),
        )]);
        let mut fields = vec![Value::string("q")];
        fields.resize(7, Value::Null);
        fields.push(filter);
        let source = Some(described(SOURCE, fields));
        let said = client.attach(&Attach { source, ..receiver(handle, "") });
        assert_eq!(refusal(&said).1.condition, wanted);
    }
}

#[test]
fn draining_uses_up_the_credit() {
    let mut client = Client::connected(&hub(), 1);
    client.sender(0, "q");
    client.send(0, &message(b"one"));
    client.receiver(1, "q", 0);
    let said = client.flow(1, 0, 10, true);
    assert_eq!(messages(&said).len(), 1);
    let Some(Performative::Flow(flow)) = said.last() else { panic!("{said:?}") };
    assert_eq!((flow.handle, flow.delivery_count), (Some(1), Some(10)));
    assert_eq!((flow.link_credit, flow.drain), (Some(0), true));
    assert!(messages(&client.send(0, &message(b"two"))).is_empty(), "the credit is gone");
    assert_eq!(messages(&client.flow(1, 10, 1, false)).len(), 1);
}

#[test]
fn credit_and_windows_are_kept_to() {
    let hub = hub();
    let mut client = Client::connected(&hub, 1);
    client.say(|out| put_begin(out, 1, &begin(2)));
    client.take();
    client.sender(0, "q");
    for _ in 0..5 {
        client.send(0, &message(&[7; 3_000]));
    }
    client.say(|out| put_attach(out, 1, &receiver(0, "q")));
    client.take();
    // Frames of 1,024 bytes: each message takes four, and two fit the window.
    let grant = |client: &mut Client, window: u32, seen| {
        let flow = Flow {
            next_incoming_id: Some(seen),
            incoming_window: window,
            outgoing_window: 1_000,
            handle: Some(0),
            delivery_count: Some(0),
            link_credit: Some(2),
            ..Flow::default()
        };
        client.say(|out| put_flow(out, 1, &flow));
        let said = client.take();
        said.iter().filter(|said| matches!(said, Performative::Transfer(..))).count()
    };
    assert_eq!(grant(&mut client, 2, 0), 2);
    assert_eq!(grant(&mut client, 3, 2), 3);
    assert_eq!(grant(&mut client, 100, 5), 3, "two messages of four frames, then no credit");
    // A client that sends beyond its own credit is detached, not served.
    let credit = crate::limits::SENDER_CREDIT_MESSAGES;
    let mut flooder = Client::connected(&hub, 2);
    flooder.sender(0, "q");
    let session = flooder.engine.sessions.get_mut(&0).unwrap();
    let Some(link::LinkKind::Inlet(inlet)) = session.links.get_mut(&0).map(|link| &mut link.kind)
    else {
        panic!("there is no sender link");
    };
    assert_eq!(inlet.credit, credit);
    inlet.credit = 0;
    let said = flooder.send(0, &message(b"x"));
    let [Performative::Detach(detach)] = &said[..] else { panic!("{said:?}") };
    let error = detach.error.as_ref().unwrap();
    assert_eq!(error.condition, condition::TRANSFER_LIMIT_EXCEEDED);
}

#[test]
fn senders_never_run_out_of_credit_or_window() {
    let mut client = Client::connected(&hub(), 1);
    client.sender(0, "q");
    let (mut credit, mut window) = (1_000_u32, 5_000_u32);
    for sent in 0..12_000_u32 {
        credit = credit.checked_sub(1).expect("credit in time");
        window = window.checked_sub(1).expect("window in time");
        for said in client.send(0, &message(b"x")) {
            if let Performative::Flow(flow) = said {
                if let Some(granted) = flow.link_credit {
                    credit = flow.delivery_count.unwrap() + granted - (sent + 1);
                }
                window = flow.next_incoming_id.unwrap() + flow.incoming_window - (sent + 1);
            }
        }
    }
}

#[test]
fn a_lost_connection_gives_back_what_it_had_not_been_sent() {
    let hub = hub();
    let mut gone = Client::connected(&hub, 1);
    gone.sender(0, "q");
    gone.receiver(1, "q", 1);
    gone.send(0, &message(b"sent"));
    gone.flow(1, 1, 1, false);
    let mut other = Client::connected(&hub, 2);
    other.sender(0, "q");
    // Assigned to the first connection, which does not come to fetch it.
    other.send(0, &message(b"assigned"));
    drop(gone);
    let said = other.receiver(1, "q", 5);
    let (_, payload) = &messages(&said)[0];
    assert!(payload.ends_with(b"assigned") && messages(&said).len() == 1);
    // What was sent stays locked: its receiver may settle it over another link.
    other.now = other.now.plus(10_000);
    hub.with(None, |broker| broker.advance(other.now));
    other.engine.deliver(other.now);
    assert!(messages(&other.take())[0].1.ends_with(b"sent"));
}

/// More than is granted at once, and no settlement that would make the engine look again.
#[test]
fn all_the_credit_is_used_without_the_client_saying_anything() {
    let mut client = Client::connected(&hub(), 1);
    client.sender(0, "q");
    let wanted = 2 * crate::limits::RECEIVER_DEMAND_MESSAGES_MAX + 7;
    for _ in 0..wanted {
        client.send(0, &message(b"x"));
    }
    client.attach(&Attach { snd_settle_mode: Some(1), ..receiver(1, "q") });
    let flow = Flow {
        next_incoming_id: Some(client.engine.sessions[&0].next_outgoing_id),
        incoming_window: u32::MAX,
        handle: Some(1),
        delivery_count: Some(0),
        link_credit: Some(wanted),
        ..Flow::default()
    };
    client.say(|out| put_flow(out, 0, &flow));
    assert_eq!(messages(&client.take()).len(), wanted as usize);
}
