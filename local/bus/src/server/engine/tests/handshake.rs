//! Protocol headers, SASL, Open, heartbeats, tokens, and what a mistake costs.

use super::*;

#[test]
fn sasl_offers_what_dotnet_needs_and_checks_plain() {
    for (mechanism, response, good) in [
        ("MSSBCBS", None, true),
        ("ANONYMOUS", Some(&b"me"[..]), true),
        ("EXTERNAL", None, true),
        ("PLAIN", Some(&b"\0Root\0SAS_KEY_VALUE"[..]), true),
        ("PLAIN", Some(&b"\0Root\0SAS_KEY_VALU"[..]), false),
        ("PLAIN", Some(&b"Root"[..]), false),
        ("GSSAPI", None, false),
    ] {
        let mut client = Client::raw(&hub(), 1);
        client.write(&SASL_HEADER);
        let offer = client.bytes();
        assert!(offer.starts_with(&SASL_HEADER));
        for name in ["MSSBCBS", "PLAIN", "ANONYMOUS", "EXTERNAL"] {
            assert!(offer.windows(name.len()).any(|part| part == name.as_bytes()), "{name}");
        }
        client.say(|out| put_init(out, mechanism, response));
        let mut outcome = client.bytes();
        let frame = take_frame(&mut outcome, 512).unwrap().unwrap();
        // sasl-outcome with one field, the code.
        let code = u8::from(!good);
        assert_eq!(
            Reader::new(&frame.body).value().unwrap(),
            Value::described(0x44, Value::List(vec![Value::Ubyte(code)])),
            "{mechanism}"
        );
        client.write(&AMQP_HEADER);
        assert_eq!(client.bytes().starts_with(&AMQP_HEADER), good);
    }
}

#[test]
fn other_protocols_are_told_what_is_spoken_here() {
    let mut client = Client::raw(&hub(), 1);
    client.write(b"GET / HTTP/1.1\r\n\r\n");
    assert_eq!(client.bytes()[..], SASL_HEADER);
    assert!(client.engine.is_finished());
}

/// A heartbeat before Open is an "illegal local state" to fe2o3 clients.
#[test]
fn heartbeats_begin_with_open_and_keep_half_the_peers_interval() {
    let mut client = Client::raw(&hub(), 1);
    client.now = client.now.plus(25_000);
    client.engine.tick(client.now);
    assert!(client.bytes().is_empty());
    client.write(&AMQP_HEADER);
    let open = Open {
        container_id: "test".into(),
        max_frame_size: None,
        channel_max: None,
        idle_time_out: Some(60_000),
    };
    client.say(|out| put_open(out, &open));
    let said = client.take();
    let [Performative::Open(answer)] = &said[..] else { panic!("{said:?}") };
    assert_eq!((answer.max_frame_size, answer.channel_max), (Some(65_536), Some(4_999)));
    assert_eq!(answer.idle_time_out, Some(240_000));
    assert_eq!(client.engine.next_deadline(), client.now.plus(30_000));
    client.now = client.now.plus(30_000);
    client.engine.tick(client.now);
    assert_eq!(client.bytes()[..], [0, 0, 0, 8, 2, 0, 0, 0]);
    assert_eq!(client.engine.next_deadline(), client.now.plus(30_000));
    // A peer that says nothing for twice our time-out is dropped.
    client.now = client.now.plus(480_000);
    client.engine.tick(client.now);
    assert!(matches!(client.take()[..], [Performative::Close(Some(_))]));
}

#[test]
fn who_does_not_say_hello_is_dropped() {
    let mut client = Client::raw(&hub(), 1);
    client.write(b"AMQ");
    assert_eq!(client.engine.next_deadline(), client.now.plus(HANDSHAKE_MS_MAX));
    client.now = client.now.plus(HANDSHAKE_MS_MAX);
    client.engine.tick(client.now);
    assert!(client.engine.is_finished());
}

#[test]
fn a_link_needs_a_token_and_ends_with_it() {
    let mut client = Client::connected(&hub(), 1);
    client.engine.context.grants = Default::default();
    let said = client.sender(0, "amqps://host/q");
    let (attach, error) = refusal(&said);
    assert_eq!(error.condition, condition::UNAUTHORIZED);
    assert!(attach.target.is_none() && attach.source.is_some());
    client.say(|out| put_detach(out, 0, &Detach { handle: 0, closed: true, error: None }));
    assert!(client.take().is_empty(), "our detach came first");

    let seconds = START_MS / 1_000 + 60;
    let put = |key| {
        [
            ("operation", Value::string("put-token")),
            ("type", Value::string("servicebus.windows.net:sastoken")),
            ("name", Value::string("sb://host/q")),
            ("token", Value::string(key)),
        ]
    };
    let token = |key| Value::String(sign(key, "Root", "sb://host/q", seconds));
    // The reply repeats the message-id with its type: uuid, string and ulong all occur.
    for id in [Value::Uuid(Uuid::from_u128(5)), Value::string("5"), Value::Ulong(5)] {
        let (status, correlation, body) = client.ask("$cbs", id.clone(), &put(""), token("wrong"));
        assert_eq!(crate::amqp::value::get(&status, "status-code"), Some(&Value::Int(401)));
        assert_eq!((correlation, body), (id, Value::Null));
    }
    assert_eq!(refusal(&client.sender(0, "q")).1.condition, condition::UNAUTHORIZED);
    let key = "SAS_KEY_VALUE";
    let (status, ..) = client.ask("$cbs", Value::Ulong(6), &put(""), token(key));
    assert_eq!(crate::amqp::value::get(&status, "status-code"), Some(&Value::Int(202)));
    assert!(matches!(client.sender(1, "q")[..], [Performative::Attach(_), Performative::Flow(_)]));
    assert_eq!(refusal(&client.sender(2, "tiny")).1.condition, condition::UNAUTHORIZED);

    assert_eq!(client.engine.next_deadline(), Timestamp::from_millis(seconds * 1_000));
    client.now = Timestamp::from_millis(seconds * 1_000);
    client.engine.tick(client.now);
    let said = client.take();
    let [Performative::Detach(detach)] = &said[..] else { panic!("{said:?}") };
    assert_eq!(detach.handle, 1);
    assert_eq!(detach.error.as_ref().unwrap().condition, condition::UNAUTHORIZED);
}

#[test]
fn a_token_that_is_not_renewed_ends_its_links_at_once() {
    let mut client = Client::connected(&hub(), 1);
    client.engine.context.grants = Default::default();
    let seconds = START_MS / 1_000 + 60;
    let put = |name: &str| {
        [
            ("operation", Value::string("put-token")),
            ("type", Value::string("servicebus.windows.net:sastoken")),
            ("name", Value::string(name)),
        ]
    };
    let token = |key, name| Value::String(sign(key, "Root", name, seconds));
    for name in ["sb://host/q", "sb://host/tiny"] {
        client.ask("$cbs", Value::Ulong(1), &put(name), token("SAS_KEY_VALUE", name));
    }
    client.sender(0, "q");
    client.sender(1, "tiny");
    // A later token that is good leaves the link alone.
    let name = "sb://host/q";
    client.ask("$cbs", Value::Ulong(2), &put(name), token("SAS_KEY_VALUE", name));
    assert_eq!(outcomes(&client.send(0, &message(b"x")))[0].2, DeliveryState::Accepted);
    let (handle, next) = (10, client.next_delivery);
    let mut request = BytesMut::new();
    let fields =
        vec![Value::Ulong(3), Value::Null, Value::Null, Value::Null, Value::string("reply")];
    put_value(&mut request, &Value::described(0x73, Value::List(fields)));
    let pairs = put(name).iter().map(|(k, v)| (Value::string(k), v.clone())).collect();
    put_value(&mut request, &Value::described(0x74, Value::Map(pairs)));
    put_value(&mut request, &Value::described(0x77, token("revoked", name)));
    let said = client.send(handle, &request);
    assert_eq!(client.next_delivery, next + 1);
    assert_eq!(messages(&said).len(), 1, "the reply says 401");
    let detached: Vec<_> = said
        .iter()
        .filter_map(|said| match said {
            Performative::Detach(detach) => {
                Some((detach.handle, &*detach.error.as_ref().unwrap().condition))
            }
            _ => None,
        })
        .collect();
    assert_eq!(detached, [(0, condition::UNAUTHORIZED)]);
    assert_eq!(outcomes(&client.send(1, &message(b"x")))[0].2, DeliveryState::Accepted);
}

#[test]
fn a_server_that_stops_answers_what_is_settled_and_then_closes() {
    let hub = hub();
    let mut client = Client::connected(&hub, 1);
    let mut idle = Client::connected(&hub, 2);
    client.sender(0, "q");
    for _ in 0..3 {
        client.send(0, &message(b"x"));
    }
    assert_eq!(messages(&client.receiver(1, "q", 2)).len(), 2);
    for client in [&mut client, &mut idle] {
        client.engine.drain(client.now);
    }
    assert_eq!(closed_with(&idle.take()), condition::CONNECTION_FORCED);
    assert!(client.take().is_empty(), "two deliveries are not settled");
    let said = client.send(0, &message(b"late"));
    assert_eq!(rejected_for(&outcomes(&said)[0].2), condition::SERVER_BUSY);
    let said = client.dispose(0, 0, false, DeliveryState::Accepted);
    assert_eq!(outcomes(&said), [(0, None, DeliveryState::Accepted)]);
    let said = client.dispose(1, 1, false, DeliveryState::Accepted);
    assert!(matches!(said[..], [Performative::Disposition(_), Performative::Close(Some(_))]));
    assert_eq!(closed_with(&said), condition::CONNECTION_FORCED);
    assert_eq!(hub.status().queues[0].active, 1, "the third was not handed out");

    // Who settles nothing is waited for no longer than that.
    let mut client = Client::connected(&hub, 3);
    assert_eq!(messages(&client.receiver(1, "q", 1)).len(), 1);
    client.engine.drain(client.now);
    assert_eq!(client.engine.next_deadline(), client.now.plus(DRAIN_MS));
    client.now = client.now.plus(DRAIN_MS);
    client.engine.tick(client.now);
    assert_eq!(closed_with(&client.take()), condition::CONNECTION_FORCED);
}

#[test]
fn mistakes_cost_the_session_or_the_connection_but_nothing_else() {
    let mut client = Client::connected(&hub(), 1);
    client.say(|out| put_flow(out, 0, &Flow { handle: Some(9), ..Flow::default() }));
    let said = client.take();
    let [Performative::End(Some(error))] = &said[..] else { panic!("{said:?}") };
    assert_eq!(error.condition, condition::UNATTACHED_HANDLE);
    client.say(|out| put_end(out, 0, None));
    assert!(client.take().is_empty());
    client.say(|out| put_begin(out, 0, &begin(10)));
    assert!(matches!(client.take()[..], [Performative::Begin(_)]), "the channel is free again");
    client.say(|out| put_end(out, 7, None));
    client.say(|out| put_flow(out, 7, &Flow::default()));
    assert!(matches!(client.take()[..], [Performative::Close(Some(_))]));
    assert!(client.engine.is_closing() && !client.engine.is_finished());
    client.say(|out| put_close(out, None));
    assert!(client.engine.is_finished());
}
