//! The nine performatives (part 2, section 2.7): decoded from clients, encoded as a server.

use bytes::{Bytes, BytesMut};

use super::condition::AmqpError;
use super::decode::{Composite, DecodeError, FromAmqp, Reader};
use super::encode::{ListWriter, Put, Raw, put_value};
use super::frame::{FrameKind, OpenFrame};
use super::state::DeliveryState;
use super::value::Value;

const OPEN: u64 = 0x10;
const BEGIN: u64 = 0x11;
const ATTACH: u64 = 0x12;
const FLOW: u64 = 0x13;
const TRANSFER: u64 = 0x14;
const DISPOSITION: u64 = 0x15;
const DETACH: u64 = 0x16;
const END: u64 = 0x17;
const CLOSE: u64 = 0x18;
const CODES: &[(u64, &str)] = &[
    (OPEN, "amqp:open:list"),
    (BEGIN, "amqp:begin:list"),
    (ATTACH, "amqp:attach:list"),
    (FLOW, "amqp:flow:list"),
    (TRANSFER, "amqp:transfer:list"),
    (DISPOSITION, "amqp:disposition:list"),
    (DETACH, "amqp:detach:list"),
    (END, "amqp:end:list"),
    (CLOSE, "amqp:close:list"),
];
/// Descriptor of a transaction coordinator target.
const COORDINATOR: u64 = 0x30;
/// Settlement modes: of a sender 0 unsettled, 1 settled, 2 mixed; of a receiver 0 first, 1 second.
pub(crate) const SETTLED: u8 = 1;

/// Who a link end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Sender,
    Receiver,
}

impl Put for Role {
    fn put(self, out: &mut BytesMut) {
        (self == Role::Receiver).put(out);
    }
}

impl<'a> FromAmqp<'a> for Role {
    fn from_amqp(code: u8, reader: &mut Reader<'a>) -> Result<Role, DecodeError> {
        Ok(if bool::from_amqp(code, reader)? { Role::Receiver } else { Role::Sender })
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Open {
    pub(crate) container_id: String,
    pub(crate) max_frame_size: Option<u32>,
    pub(crate) channel_max: Option<u16>,
    /// Milliseconds.
    pub(crate) idle_time_out: Option<u32>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Begin {
    pub(crate) remote_channel: Option<u16>,
    pub(crate) next_outgoing_id: u32,
    pub(crate) incoming_window: u32,
    pub(crate) outgoing_window: u32,
    pub(crate) handle_max: Option<u32>,
}

/// A source or target: the parts that matter, and its encoding to repeat in the answer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Terminus {
    pub(crate) raw: Bytes,
    pub(crate) address: Option<String>,
    /// The filter set of a source.
    pub(crate) filter: Option<Value>,
    pub(crate) is_coordinator: bool,
}

impl Terminus {
    /// The same terminus, a source, with a value put into its filter set.
    pub(crate) fn with_filter(&self, name: &str, text: &str) -> Terminus {
        const FILTER: usize = 7;
        let Ok(Value::Described(described)) = Reader::new(&self.raw).value() else {
            return self.clone();
        };
        let (descriptor, Value::List(mut fields)) = *described else { return self.clone() };
        if let Some(Value::Map(filters)) = fields.get_mut(FILTER) {
            for (_, value) in filters.iter_mut().filter(|(key, _)| key.as_text() == Some(name)) {
                *value = match std::mem::replace(value, Value::Null) {
                    Value::Described(old) => {
                        Value::Described(Box::new((old.0, Value::string(text))))
                    }
                    _ => Value::string(text),
                };
            }
        }
        let mut out = BytesMut::new();
        put_value(&mut out, &Value::Described(Box::new((descriptor, Value::List(fields)))));
        Terminus { raw: out.freeze(), ..self.clone() }
    }

    fn decode(raw: Bytes) -> Result<Terminus, DecodeError> {
        let mut reader = Reader::new(&raw);
        let code = reader.u8()?;
        let Composite { code, mut fields } = Composite::from_amqp(code, &mut reader)?;
        if code == COORDINATOR {
            return Ok(Terminus { raw, address: None, filter: None, is_coordinator: true });
        }
        let address = fields.next()?;
        for _durable_expiry_timeout_dynamic_properties_mode in 0..6 {
            fields.skip()?;
        }
        let filter = if code == 0x28 { fields.next()? } else { None };
        Ok(Terminus { address, filter, is_coordinator: false, raw: raw.clone() })
    }
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Attach {
    pub(crate) name: String,
    pub(crate) handle: u32,
    pub(crate) role: Role,
    pub(crate) snd_settle_mode: Option<u8>,
    pub(crate) rcv_settle_mode: Option<u8>,
    pub(crate) source: Option<Terminus>,
    pub(crate) target: Option<Terminus>,
    pub(crate) initial_delivery_count: Option<u32>,
    pub(crate) max_message_size: Option<u64>,
    pub(crate) properties: Option<Value>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Flow {
    pub(crate) next_incoming_id: Option<u32>,
    pub(crate) incoming_window: u32,
    pub(crate) next_outgoing_id: u32,
    pub(crate) outgoing_window: u32,
    pub(crate) handle: Option<u32>,
    pub(crate) delivery_count: Option<u32>,
    pub(crate) link_credit: Option<u32>,
    pub(crate) drain: bool,
    pub(crate) echo: bool,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Transfer {
    pub(crate) handle: u32,
    pub(crate) delivery_id: Option<u32>,
    pub(crate) delivery_tag: Option<Bytes>,
    pub(crate) message_format: Option<u32>,
    pub(crate) settled: Option<bool>,
    pub(crate) more: bool,
    pub(crate) aborted: bool,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Disposition {
    pub(crate) role: Role,
    pub(crate) first: u32,
    pub(crate) last: Option<u32>,
    pub(crate) settled: bool,
    pub(crate) state: Option<DeliveryState>,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Detach {
    pub(crate) handle: u32,
    pub(crate) closed: bool,
    pub(crate) error: Option<AmqpError>,
}

/// Any performative. A transfer comes with its payload.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Performative {
    Open(Open),
    Begin(Begin),
    Attach(Box<Attach>),
    Flow(Flow),
    Transfer(Transfer, Bytes),
    Disposition(Disposition),
    Detach(Detach),
    End(Option<AmqpError>),
    Close(Option<AmqpError>),
}

impl Performative {
    /// Decodes a frame body.
    pub(crate) fn decode(body: &Bytes) -> Result<Performative, DecodeError> {
        let mut reader = Reader::new(body);
        let (code, mut f) = reader.composite(CODES)?;
        Ok(match code {
            OPEN => {
                let container_id = f.must("container-id")?;
                f.skip()?; // hostname
                Performative::Open(Open {
                    container_id,
                    max_frame_size: f.next()?,
                    channel_max: f.next()?,
                    idle_time_out: f.next()?,
                })
            }
            BEGIN => Performative::Begin(Begin {
                remote_channel: f.next()?,
                next_outgoing_id: f.must("next-outgoing-id")?,
                incoming_window: f.must("incoming-window")?,
                outgoing_window: f.must("outgoing-window")?,
                handle_max: f.next()?,
            }),
            ATTACH => Performative::Attach(Box::new(Attach {
                name: f.must("name")?,
                handle: f.must("handle")?,
                role: f.must("role")?,
                snd_settle_mode: f.next()?,
                rcv_settle_mode: f.next()?,
                source: f.raw()?.map(Terminus::decode).transpose()?,
                target: f.raw()?.map(Terminus::decode).transpose()?,
                initial_delivery_count: {
                    f.skip()?; // unsettled
                    f.skip()?; // incomplete-unsettled
                    f.next()?
                },
                max_message_size: f.next()?,
                properties: {
                    f.skip()?; // offered-capabilities
                    f.skip()?; // desired-capabilities
                    f.next()?
                },
            })),
            FLOW => Performative::Flow(Flow {
                next_incoming_id: f.next()?,
                incoming_window: f.must("incoming-window")?,
                next_outgoing_id: f.must("next-outgoing-id")?,
                outgoing_window: f.must("outgoing-window")?,
                handle: f.next()?,
                delivery_count: f.next()?,
                link_credit: f.next()?,
                drain: {
                    f.skip()?; // available
                    f.next()?.unwrap_or(false)
                },
                echo: f.next()?.unwrap_or(false),
            }),
            TRANSFER => {
                let transfer = Transfer {
                    handle: f.must("handle")?,
                    delivery_id: f.next()?,
                    delivery_tag: f.next()?,
                    message_format: f.next()?,
                    settled: f.next()?,
                    more: f.next()?.unwrap_or(false),
                    aborted: {
                        f.skip()?; // rcv-settle-mode
                        f.skip()?; // state
                        f.skip()?; // resume
                        f.next()?.unwrap_or(false)
                    },
                };
                Performative::Transfer(transfer, reader.remaining())
            }
            DISPOSITION => Performative::Disposition(Disposition {
                role: f.must("role")?,
                first: f.must("first")?,
                last: f.next()?,
                settled: f.next()?.unwrap_or(false),
                state: f.next()?,
            }),
            DETACH => Performative::Detach(Detach {
                handle: f.must("handle")?,
                closed: f.next()?.unwrap_or(false),
                error: f.next()?,
            }),
            END => Performative::End(f.next()?),
            CLOSE => Performative::Close(f.next()?),
            _ => return Err(DecodeError::Misplaced("this performative")),
        })
    }
}

/// Appends one frame whose body is a composite.
fn put(out: &mut BytesMut, channel: u16, code: u64, fields: impl FnOnce(&mut ListWriter<'_>)) {
    let frame = OpenFrame::begin(out, FrameKind::Amqp, channel);
    let mut list = ListWriter::composite(out, code);
    fields(&mut list);
    list.end();
    frame.end(out);
}

pub(crate) fn put_open(out: &mut BytesMut, open: &Open) {
    put(out, 0, OPEN, |f| {
        f.field(open.container_id.as_str())
            .field(None::<u32>)
            .field(open.max_frame_size)
            .field(open.channel_max)
            .field(open.idle_time_out);
    });
}

pub(crate) fn put_begin(out: &mut BytesMut, channel: u16, begin: &Begin) {
    put(out, channel, BEGIN, |f| {
        f.field(begin.remote_channel)
            .field(begin.next_outgoing_id)
            .field(begin.incoming_window)
            .field(begin.outgoing_window)
            .field(begin.handle_max);
    });
}

pub(crate) fn put_attach(out: &mut BytesMut, channel: u16, attach: &Attach) {
    put(out, channel, ATTACH, |f| {
        f.field(attach.name.as_str())
            .field(attach.handle)
            .field(attach.role)
            .field(attach.snd_settle_mode)
            .field(attach.rcv_settle_mode)
            .field(attach.source.as_ref().map(|t| Raw(&t.raw)))
            .field(attach.target.as_ref().map(|t| Raw(&t.raw)))
            .field(None::<u32>)
            .field(None::<u32>)
            .field(attach.initial_delivery_count)
            .field(attach.max_message_size)
            .field(None::<u32>)
            .field(None::<u32>)
            .field(attach.properties.as_ref());
    });
}

pub(crate) fn put_flow(out: &mut BytesMut, channel: u16, flow: &Flow) {
    put(out, channel, FLOW, |f| {
        f.field(flow.next_incoming_id)
            .field(flow.incoming_window)
            .field(flow.next_outgoing_id)
            .field(flow.outgoing_window)
            .field(flow.handle)
            .field(flow.delivery_count)
            .field(flow.link_credit)
            .field(flow.link_credit.map(|_| 0_u32))
            .field(flow.drain)
            .field(flow.echo);
    });
}

/// Appends a transfer frame whose payload is the concatenation of `payload`.
pub(crate) fn put_transfer(
    out: &mut BytesMut,
    channel: u16,
    transfer: &Transfer,
    payload: &[&[u8]],
) {
    let frame = OpenFrame::begin(out, FrameKind::Amqp, channel);
    ListWriter::composite(out, TRANSFER)
        .field(transfer.handle)
        .field(transfer.delivery_id)
        .field(transfer.delivery_tag.as_ref())
        .field(transfer.message_format)
        .field(transfer.settled)
        .field(transfer.more)
        .end();
    for part in payload {
        out.extend_from_slice(part);
    }
    frame.end(out);
}

pub(crate) fn put_disposition(out: &mut BytesMut, channel: u16, disposition: &Disposition) {
    put(out, channel, DISPOSITION, |f| {
        f.field(disposition.role)
            .field(disposition.first)
            .field(disposition.last)
            .field(disposition.settled)
            .field(disposition.state.as_ref());
    });
}

pub(crate) fn put_detach(out: &mut BytesMut, channel: u16, detach: &Detach) {
    put(out, channel, DETACH, |f| {
        f.field(detach.handle).field(detach.closed).field(detach.error.as_ref());
    });
}

pub(crate) fn put_end(out: &mut BytesMut, channel: u16, error: Option<&AmqpError>) {
    put(out, channel, END, |f| {
        f.field(error);
    });
}

pub(crate) fn put_close(out: &mut BytesMut, error: Option<&AmqpError>) {
    put(out, 0, CLOSE, |f| {
        f.field(error);
    });
}

/// The encoding of a terminus with nothing but an address, as a client sends it.
#[cfg(test)]
pub(crate) fn terminus(code: u64, address: &str) -> Terminus {
    let mut out = BytesMut::new();
    ListWriter::composite(&mut out, code).field(address).end();
    let address = Some(address.to_owned());
    Terminus { raw: out.freeze(), address, filter: None, is_coordinator: false }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::amqp::frame::take_frame;

    fn body(wire: &mut BytesMut) -> Performative {
        let frame = take_frame(wire, 65_536).unwrap().unwrap();
        Performative::decode(&frame.body).unwrap()
    }

    #[test]
    fn performatives_survive_the_wire() {
        let mut out = BytesMut::new();
        let attach = Attach {
            name: "link".into(),
            handle: 3,
            role: Role::Receiver,
            snd_settle_mode: Some(0),
            rcv_settle_mode: Some(1),
            source: Some(terminus(0x28, "queue")),
            target: None,
            initial_delivery_count: None,
            max_message_size: Some(262_144),
            properties: None,
        };
        put_attach(&mut out, 1, &attach);
        assert_eq!(body(&mut out), Performative::Attach(Box::new(attach)));
        let error = AmqpError::new(super::super::condition::NOT_FOUND, "no such queue");
        let disposition = Disposition {
            role: Role::Sender,
            first: 300,
            last: Some(301),
            settled: true,
            state: Some(DeliveryState::Rejected(Some(error.clone()))),
        };
        put_disposition(&mut out, 1, &disposition);
        assert_eq!(body(&mut out), Performative::Disposition(disposition));
        put_close(&mut out, Some(&error));
        assert_eq!(body(&mut out), Performative::Close(Some(error)));
        let transfer = Transfer {
            handle: 1,
            delivery_id: Some(0),
            delivery_tag: Some(Bytes::from_static(&[1; 16])),
            message_format: Some(0),
            settled: Some(false),
            more: true,
            aborted: false,
        };
        put_transfer(&mut out, 0, &transfer, &[b"pay", b"load"]);
        assert_eq!(
            body(&mut out),
            Performative::Transfer(transfer, Bytes::from_static(b"payload"))
        );
    }

    /// An `error` list must carry condition, description and info, whatever is in them.
    #[test]
    fn errors_always_have_three_fields() {
        let mut out = BytesMut::new();
        put_end(&mut out, 0, Some(&AmqpError::new(super::super::condition::NOT_FOUND, "")));
        let frame = take_frame(&mut out, 512).unwrap().unwrap();
        let value = Reader::new(&frame.body).value().unwrap();
        let Value::Described(end) = value else { panic!("{value:?}") };
        let Value::Described(error) = &end.1.as_items().unwrap()[0] else { panic!("{end:?}") };
        let fields = error.1.as_items().unwrap();
        assert_eq!(fields.len(), 3);
        assert_eq!(fields[2], Value::Map(Vec::new()));
    }

    proptest! {
        #[test]
        fn arbitrary_bodies_never_panic(
            code in 0x0f_u8..0x1a,
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut body = vec![0x00, 0x53, code];
            body.extend_from_slice(&bytes);
            let _ = Performative::decode(&body.into());
        }
    }
}
