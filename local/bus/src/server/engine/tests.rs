//! The engine against raw frames: what each SDK sends and what it must get, byte for byte where it
//! matters. The clock is a number and there is no socket.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use uuid::Uuid;

use super::*;
use crate::amqp::encode::put_value;
use crate::amqp::performative::{
    Attach, Detach, Disposition, Flow, Role, Terminus, Transfer, put_attach, put_detach,
    put_disposition, put_flow, put_transfer, terminus,
};
use crate::amqp::sasl::put_init;
use crate::amqp::sections::{Sections, map_section, value_body};
use crate::amqp::state::DeliveryState;
use crate::amqp::{Reader, Value};
use crate::broker::{Broker, NoJournal};
use crate::server::access::SharedAccessKey;
use crate::server::access::tests::sign;

const NAMESPACE: &str = r#"{"queues": [{"name": "q", "lockDuration": "PT10S"},
    {"name": "tiny", "maxSizeInMegabytes": 1}],
    "topics": [{"name": "t", "subscriptions": [{"name": "s"}]}]}"#;
const SOURCE: u64 = 0x28;
const TARGET: u64 = 0x29;
const START_MS: i64 = 1_700_000_000_000;

/// One client talking to an engine of its own, over a hub that may be shared.
struct Client {
    engine: Engine,
    now: Timestamp,
    next_delivery: u32,
}

fn hub() -> Arc<Hub> {
    let namespace = serde_json::from_str(NAMESPACE).unwrap();
    let broker = Broker::new(&namespace, Box::new(NoJournal), 1).unwrap();
    let key = SharedAccessKey::new("Root".into(), "SAS_KEY_VALUE".into());
    Arc::new(Hub::new(broker, key, 262_144))
}

impl Client {
    fn raw(hub: &Arc<Hub>, id: u64) -> Client {
        let now = Timestamp::from_millis(START_MS);
        let engine = Engine::new(Arc::clone(hub), ConnectionId(id), now);
        Client { engine, now, next_delivery: 0 }
    }

    /// Open, one session on channel 0, and rights on everything.
    fn connected(hub: &Arc<Hub>, id: u64) -> Client {
        let mut client = Client::raw(hub, id);
        client.write(&AMQP_HEADER);
        let open = Open {
            container_id: "test".into(),
            max_frame_size: Some(1_024),
            channel_max: None,
            idle_time_out: None,
        };
        client.say(|out| put_open(out, &open));
        client.say(|out| put_begin(out, 0, &begin(1_000)));
        client.engine.context.grants.add("", Timestamp::NEVER);
        client.take();
        client
    }

    fn write(&mut self, bytes: &[u8]) {
        let mut input = BytesMut::from(bytes);
        self.engine.receive(&mut input, self.now);
    }

    fn say(&mut self, write: impl FnOnce(&mut BytesMut)) {
        let mut input = BytesMut::new();
        write(&mut input);
        self.engine.receive(&mut input, self.now);
        assert!(input.is_empty());
    }

    /// The bytes written since last asked.
    fn bytes(&mut self) -> BytesMut {
        let bytes = std::mem::take(self.engine.output());
        self.engine.flushed(self.now);
        bytes
    }

    /// The performatives written since last asked.
    fn take(&mut self) -> Vec<Performative> {
        let mut performatives = Vec::new();
        loop {
            let mut bytes = self.bytes();
            if bytes.is_empty() {
                return performatives;
            }
            while bytes.starts_with(b"AMQP") {
                bytes.advance(8);
            }
            while let Some(frame) = take_frame(&mut bytes, u32::MAX).unwrap() {
                if frame.kind == FrameKind::Amqp && !frame.body.is_empty() {
                    performatives.push(Performative::decode(&frame.body).unwrap());
                }
            }
            assert!(bytes.is_empty());
        }
    }

    fn attach(&mut self, attach: &Attach) -> Vec<Performative> {
        self.say(|out| put_attach(out, 0, attach));
        self.take()
    }

    fn sender(&mut self, handle: u32, address: &str) -> Vec<Performative> {
        self.attach(&sender(handle, address))
    }

    /// A peek-lock receiver with credit.
    fn receiver(&mut self, handle: u32, address: &str, credit: u32) -> Vec<Performative> {
        let mut said = self.attach(&receiver(handle, address));
        said.extend(self.flow(handle, 0, credit, false));
        said
    }

    fn flow(&mut self, handle: u32, count: u32, credit: u32, drain: bool) -> Vec<Performative> {
        let flow = Flow {
            next_incoming_id: Some(self.engine.sessions[&0].next_outgoing_id),
            incoming_window: 1_000,
            outgoing_window: 1_000,
            handle: Some(handle),
            delivery_count: Some(count),
            link_credit: Some(credit),
            drain,
            ..Flow::default()
        };
        self.say(|out| put_flow(out, 0, &flow));
        self.take()
    }

    fn send(&mut self, handle: u32, payload: &[u8]) -> Vec<Performative> {
        self.send_as(handle, 0, payload)
    }

    fn send_as(&mut self, handle: u32, format: u32, payload: &[u8]) -> Vec<Performative> {
        let delivery_id = self.next_delivery;
        self.next_delivery += 1;
        let chunks: Vec<&[u8]> = payload.chunks(60_000).collect();
        let last = chunks.len() - 1;
        for (at, chunk) in chunks.into_iter().enumerate() {
            let transfer = Transfer {
                handle,
                delivery_id: (at == 0).then_some(delivery_id),
                delivery_tag: (at == 0).then(|| Bytes::from_static(b"tag")),
                message_format: (at == 0).then_some(format),
                settled: Some(false),
                more: at != last,
                aborted: false,
            };
            self.say(|out| put_transfer(out, 0, &transfer, &[chunk]));
        }
        self.take()
    }

    fn dispose(
        &mut self,
        first: u32,
        last: u32,
        settled: bool,
        state: DeliveryState,
    ) -> Vec<Performative> {
        let disposition = Disposition {
            role: Role::Receiver,
            first,
            last: Some(last),
            settled,
            state: Some(state),
        };
        self.say(|out| put_disposition(out, 0, &disposition));
        self.take()
    }

    /// Asks a node on links 10 and 11 and returns status properties, correlation-id and body.
    fn ask(
        &mut self,
        node: &str,
        id: Value,
        properties: &[(&str, Value)],
        body: Value,
    ) -> (Vec<(Value, Value)>, Value, Value) {
        if !self.engine.sessions[&0].links.contains_key(&10) {
            self.sender(10, node);
            let reply = Attach { target: Some(terminus(TARGET, "reply")), ..receiver(11, node) };
            self.attach(&reply);
            self.flow(11, 0, 50, false);
        }
        let mut out = BytesMut::new();
        let reply_to = Value::string("reply");
        let fields = vec![id, Value::Null, Value::Null, Value::Null, reply_to];
        put_value(&mut out, &Value::described(0x73, Value::List(fields)));
        let pairs = properties.iter().map(|(k, v)| (Value::string(k), v.clone())).collect();
        put_value(&mut out, &Value::described(0x74, Value::Map(pairs)));
        put_value(&mut out, &Value::described(0x77, body));
        let said = self.send(10, &out);
        let reply = messages(&said).pop().expect("a reply");
        assert_eq!(reply.0.settled, Some(true), "nobody settles replies");
        let sections = Sections::split(&reply.1).unwrap();
        let Value::Described(properties) = Reader::new(&sections.properties).value().unwrap()
        else {
            panic!("no properties");
        };
        let correlation = properties.1.as_items().unwrap()[5].clone();
        let status = map_section(&sections.application).unwrap();
        (status, correlation, value_body(&sections.body).unwrap().unwrap())
    }
}

fn begin(window: u32) -> Begin {
    Begin {
        remote_channel: None,
        next_outgoing_id: 0,
        incoming_window: window,
        outgoing_window: 1_000,
        handle_max: None,
    }
}

fn sender(handle: u32, address: &str) -> Attach {
    Attach {
        name: format!("link-{handle}"),
        handle,
        role: Role::Sender,
        snd_settle_mode: Some(0),
        rcv_settle_mode: Some(0),
        source: Some(terminus(SOURCE, "here")),
        target: Some(terminus(TARGET, address)),
        initial_delivery_count: Some(0),
        max_message_size: None,
    }
}

fn receiver(handle: u32, address: &str) -> Attach {
    Attach {
        role: Role::Receiver,
        rcv_settle_mode: Some(1),
        source: Some(terminus(SOURCE, address)),
        target: Some(terminus(TARGET, "here")),
        initial_delivery_count: None,
        ..sender(handle, address)
    }
}

/// The complete deliveries among performatives, frames joined.
fn messages(said: &[Performative]) -> Vec<(Transfer, Bytes)> {
    let mut messages: Vec<(Transfer, BytesMut)> = Vec::new();
    let mut continues = false;
    for performative in said {
        let Performative::Transfer(transfer, payload) = performative else { continue };
        match messages.last_mut() {
            Some((_, so_far)) if continues => so_far.extend_from_slice(payload),
            _ => messages.push((transfer.clone(), BytesMut::from(&payload[..]))),
        }
        continues = transfer.more;
    }
    messages.into_iter().map(|(transfer, payload)| (transfer, payload.freeze())).collect()
}

fn message(body: &[u8]) -> Bytes {
    crate::message::tests::encoded(Some("id"), &[], body)
}

fn outcomes(said: &[Performative]) -> Vec<(u32, Option<u32>, DeliveryState)> {
    said.iter()
        .filter_map(|performative| match performative {
            Performative::Disposition(d) => {
                assert!(d.settled);
                Some((d.first, d.last, d.state.clone().unwrap()))
            }
            _ => None,
        })
        .collect()
}

fn rejected_for(state: &DeliveryState) -> &str {
    match state {
        DeliveryState::Rejected(Some(error)) => &error.condition,
        other => panic!("{other:?} is not rejected with an error"),
    }
}

fn refusal(said: &[Performative]) -> (&Attach, &AmqpError) {
    match said {
        [
            Performative::Attach(attach),
            Performative::Detach(Detach { closed: true, error: Some(error), .. }),
        ] => (attach, error),
        other => panic!("{other:?} is not a refusal"),
    }
}

fn raw_annotations(payload: &Bytes, section: u64) -> Vec<(Value, Value)> {
    let mut reader = Reader::new(payload);
    while !reader.is_empty() {
        if let Value::Described(described) = reader.value().unwrap()
            && described.0 == Value::Ulong(section)
        {
            return described.1.as_map().unwrap().to_vec();
        }
    }
    panic!("there is no section {section:x}");
}

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
fn transactions_and_sessions_are_declined() {
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
    let filter = Value::Map(vec![(
        Value::symbol("com.microsoft:session-filter"),
        Value::described(0x13_7000_000c, Value::string("s")),
    )]);
    let mut fields = vec![Value::string("q")];
    fields.resize(7, Value::Null);
    fields.push(filter);
    let source = Some(described(SOURCE, fields));
    let said = client.attach(&Attach { source, ..receiver(1, "") });
    assert_eq!(refusal(&said).1.condition, condition::NOT_ALLOWED);
}

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
    gone.engine.finish(gone.now);
    let said = other.receiver(1, "q", 5);
    let (_, payload) = &messages(&said)[0];
    assert!(payload.ends_with(b"assigned") && messages(&said).len() == 1);
    // What was sent stays locked: its receiver may settle it over another link.
    other.now = other.now.plus(10_000);
    hub.with(None, |broker| broker.advance(other.now));
    other.engine.deliver(other.now);
    assert!(messages(&other.take())[0].1.ends_with(b"sent"));
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
        client.engine.finish(client.now);
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
        client.engine.finish(client.now);
        let status = client.engine.context.hub.status();
        prop_assert!(status.queues[0].locked <= status.queues[0].active);
    }
}
