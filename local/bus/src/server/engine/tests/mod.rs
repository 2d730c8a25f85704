//! The engine against raw frames: what each SDK sends and what it must get, byte for byte where it
//! matters. The clock is a number and there is no socket.

mod handshake;
mod hostile;
mod links;
mod nodes;
mod transfers;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
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
use crate::server::access::tests::sign;
use crate::server::access::{Keys, Rights};

const NAMESPACE: &str = r#"{"queues": [{"name": "q", "lockDuration": "PT10S"},
    {"name": "tiny", "maxSizeInMegabytes": 1}],
    "topics": [{"name": "t", "subscriptions": [{"name": "s"}]}]}"#;
const SOURCE: u64 = 0x28;
const TARGET: u64 = 0x29;
/// Largest frame the client takes; nothing larger may come.
const PEER_FRAME_BYTES: u32 = 1_024;
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
    let key = Keys::new("Root".into(), "SAS_KEY_VALUE".into(), &[]);
    Arc::new(Hub::new(broker, None, key, 262_144))
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
            max_frame_size: Some(PEER_FRAME_BYTES),
            channel_max: None,
            idle_time_out: None,
        };
        client.say(|out| put_open(out, &open));
        client.say(|out| put_begin(out, 0, &begin(1_000)));
        client.engine.context.grants.add("", Rights::ALL, Timestamp::NEVER);
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
            while let Some(frame) = take_frame(&mut bytes, PEER_FRAME_BYTES).unwrap() {
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
        properties: None,
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

fn closed_with(said: &[Performative]) -> &str {
    match said.last() {
        Some(Performative::Close(Some(error))) => &error.condition,
        other => panic!("{other:?} is not a close with an error"),
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
