//! As much AMQP as a load needs: frames made once and patched, answers looked at and not decoded.
//!
//! A general client takes more processor time for a message than the broker does, and both share
//! the machine. What goes over the wire is what any client sends: SASL PLAIN, Open, Begin, Attach,
//! one transfer for each message, one disposition for each settlement, flows for credit.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;

use crate::Result;
use crate::process::Door;

/// The message format of a batch: data sections, each one message.
const BATCH_FORMAT: u32 = 0x8001_3700;

/// Largest frame written: what the broker announces.
const FRAME_BYTES: usize = 65_536;

/// Bytes of a frame that are no payload, rounded up.
const OVERHEAD_BYTES: usize = 64;

/// Frames the session takes before it has to say so; it says so with every flow.
const WINDOW_FRAMES: u32 = 1 << 30;

const BEGIN: u8 = 0x11;
const ATTACH: u8 = 0x12;
const FLOW: u8 = 0x13;
const TRANSFER: u8 = 0x14;
const DISPOSITION: u8 = 0x15;

/// Where the delivery-id of a transfer is in its frame: after the header, the descriptor, the head
/// of the list and the handle.
const DELIVERY_ID_AT: usize = 8 + 3 + 9 + 2;

fn uint(value: u32) -> Vec<u8> {
    [&[0x70][..], &value.to_be_bytes()].concat()
}

fn short(code: u8, bytes: &[u8]) -> Vec<u8> {
    let length = u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    [&[code, length][..], bytes].concat()
}

fn text(text: &str) -> Vec<u8> {
    short(0xa1, text.as_bytes())
}

fn described(code: u8, fields: &[Vec<u8>]) -> Vec<u8> {
    let body = fields.concat();
    let size = u32::try_from(body.len() + 4).unwrap_or(u32::MAX).to_be_bytes();
    let count = u32::try_from(fields.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0x00, 0x53, code, 0xd0][..], &size, &count, &body].concat()
}

fn frame(kind: u8, body: &[&[u8]]) -> Vec<u8> {
    let length = 8 + body.iter().map(|part| part.len()).sum::<usize>();
    let size = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
    [&size[..], &[2, kind, 0, 0], &body.concat()].concat()
}

fn amqp(code: u8, fields: &[Vec<u8>]) -> Vec<u8> {
    frame(0, &[&described(code, fields)])
}

/// Null, true and false.
const NULL: [u8; 1] = [0x40];
const TRUE: [u8; 1] = [0x41];
const FALSE: [u8; 1] = [0x42];

/// A delivery ready to be sent again and again.
pub(crate) struct Prepared {
    frames: Vec<u8>,
}

impl Prepared {
    /// One message with such a body.
    pub(crate) fn single(body: &[u8]) -> Prepared {
        Prepared::of(0, &data(body))
    }

    /// A batch of such messages.
    pub(crate) fn batch(body: &[u8], count: usize) -> Prepared {
        Prepared::of(BATCH_FORMAT, &data(&data(body)).repeat(count))
    }

    fn of(format: u32, payload: &[u8]) -> Prepared {
        let chunks: Vec<&[u8]> = payload.chunks(FRAME_BYTES - OVERHEAD_BYTES).collect();
        let mut frames = Vec::new();
        for (at, chunk) in chunks.iter().enumerate() {
            let more = if at + 1 < chunks.len() { TRUE } else { FALSE };
            let of_first = |field: Vec<u8>| if at == 0 { field } else { NULL.to_vec() };
            let fields = [
                vec![0x52, 0],
                of_first(uint(0)),
                of_first(short(0xa0, b"tag")),
                of_first(uint(format)),
                FALSE.to_vec(),
                more.to_vec(),
            ];
            frames.extend(frame(0, &[&described(TRANSFER, &fields), chunk]));
        }
        Prepared { frames }
    }

    /// Appends it; `stamp` takes the place of the last bytes.
    pub(crate) fn put(&self, out: &mut Vec<u8>, delivery_id: u32, stamp: Option<u64>) {
        let at = out.len() + DELIVERY_ID_AT + 1;
        out.extend_from_slice(&self.frames);
        out[at..at + 4].copy_from_slice(&delivery_id.to_be_bytes());
        if let Some(stamp) = stamp {
            let end = out.len();
            out[end - 8..].copy_from_slice(&stamp.to_be_bytes());
        }
    }
}

fn data(body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0x00, 0x53, 0x75, 0xb0][..], &length, body].concat()
}

/// The answer to one delivery of the broker: accepted; settled by it, or to be answered.
pub(crate) fn put_accepted(out: &mut Vec<u8>, delivery_id: u32, settled: bool) {
    // role receiver, first, last null, settled, accepted.
    let mut body = *b"\x00\x00\x00\x1c\x02\x00\x00\x00\x00\x53\x15\xc0\x0f\x05\x41\x70\
                      \x00\x00\x00\x00\x40\x42\x00\x53\x24\x45";
    body[3] = u8::try_from(body.len()).unwrap_or(u8::MAX);
    body[12] = body[3] - 13;
    body[16..20].copy_from_slice(&delivery_id.to_be_bytes());
    body[21] = if settled { TRUE[0] } else { FALSE[0] };
    out.extend_from_slice(&body);
}

/// Credit for a link that has had `seen` deliveries.
pub(crate) fn put_credit(out: &mut Vec<u8>, seen: u32, credit: u32) {
    let session = [uint(seen), uint(WINDOW_FRAMES), uint(0), uint(WINDOW_FRAMES)];
    let link = [vec![0x52, 0], uint(seen), uint(credit)];
    out.extend(amqp(FLOW, &[&session[..], &link].concat()));
}

/// What the broker said.
pub(crate) enum Said<'a> {
    /// A message, and its last eight bytes.
    Delivery {
        id: u32,
        stamp: &'a [u8],
    },
    /// So many deliveries are settled.
    Settled(u32),
    Other,
}

/// One connection with one link.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    /// Whether the broker answers what is settled.
    pub(crate) answers_settlement: bool,
    input: Vec<u8>,
    /// What of `input` was looked at, and what of it was read.
    at: usize,
    end: usize,
}

impl Wire {
    pub(crate) fn sender(door: &Door, queue: &str) -> Result<Wire> {
        let target = described(0x29, &[text(&format!("{}{queue}", door.prefix))]);
        let source = described(0x28, &[text("load")]);
        Wire::open(door, &FALSE, &NULL, source, target)
    }

    /// For peek-lock, without credit.
    pub(crate) fn receiver(door: &Door, queue: &str) -> Result<Wire> {
        let source = described(0x28, &[text(&format!("{}{queue}", door.prefix))]);
        let target = described(0x29, &[text("load")]);
        Wire::open(door, &TRUE, &[0x50, u8::from(door.answers_settlement)], source, target)
    }

    fn open(
        door: &Door,
        role: &[u8],
        settle: &[u8],
        source: Vec<u8>,
        target: Vec<u8>,
    ) -> Result<Wire> {
        let stream = TcpStream::connect(door.address)?;
        stream.set_nodelay(true)?;
        let plain = short(0xa0, format!("\0{}\0{}", door.user, door.password).as_bytes());
        let window = uint(WINDOW_FRAMES);
        let attach = [
            text("link"),
            vec![0x52, 0],
            role.to_vec(),
            NULL.to_vec(),
            settle.to_vec(),
            source,
            target,
            NULL.to_vec(),
            NULL.to_vec(),
            uint(0),
        ];
        let hello = [
            b"AMQP\x03\x01\x00\x00".to_vec(),
            frame(1, &[&described(0x41, &[short(0xa3, b"PLAIN"), plain])]),
            b"AMQP\x00\x01\x00\x00".to_vec(),
            amqp(0x10, &[text("load")]),
            amqp(BEGIN, &[NULL.to_vec(), uint(0), window.clone(), window]),
            amqp(ATTACH, &attach),
        ];
        let answers_settlement = door.answers_settlement;
        let input = vec![0; 4 * FRAME_BYTES];
        let mut wire = Wire { stream, answers_settlement, input, at: 0, end: 0 };
        wire.stream.write_all(&hello.concat())?;
        let mut attached = false;
        while !attached {
            wire.read()?;
            while let Some((code, _)) = wire.next_frame()? {
                attached |= code == ATTACH;
            }
        }
        Ok(wire)
    }

    /// Waits for bytes.
    pub(crate) fn read(&mut self) -> Result<()> {
        self.input.copy_within(self.at..self.end, 0);
        (self.at, self.end) = (0, self.end - self.at);
        match self.stream.read(&mut self.input[self.end..])? {
            0 => Err("the broker hung up".into()),
            count => {
                self.end += count;
                Ok(())
            }
        }
    }

    /// The next thing that was said and has arrived whole.
    pub(crate) fn next(&mut self) -> Result<Option<Said<'_>>> {
        let Some((code, body)) = self.next_frame()? else { return Ok(None) };
        Ok(Some(match code {
            TRANSFER => {
                let mut fields = Fields::of(body);
                let _handle = fields.uint();
                let id = fields.uint().ok_or("a transfer without delivery-id")?;
                Said::Delivery { id, stamp: &body[body.len() - 8..] }
            }
            DISPOSITION => {
                let mut fields = Fields::of(body);
                let _role = fields.uint();
                let first = fields.uint().ok_or("a disposition without first")?;
                let last = fields.uint().unwrap_or(first);
                if !body.windows(3).any(|bytes| bytes == [0x00, 0x53, 0x24]) {
                    return Err("something was not accepted".into());
                }
                Said::Settled(last - first + 1)
            }
            _ => Said::Other,
        }))
    }

    /// Code and bytes of the next performative; 0 for what is none.
    fn next_frame(&mut self) -> Result<Option<(u8, &[u8])>> {
        let bytes = &self.input[self.at..self.end];
        let Some(&head) = bytes.first_chunk::<8>() else { return Ok(None) };
        if head.starts_with(b"AMQP") {
            self.at += 8;
            return Ok(Some((0, &[])));
        }
        let length = u32::from_be_bytes([head[0], head[1], head[2], head[3]]) as usize;
        let Some(body) = bytes.get(8..length) else { return Ok(None) };
        self.at += length;
        let code = body.get(2).copied().filter(|_| head[5] == 0).unwrap_or(0);
        if [0x16, 0x17, 0x18].contains(&code) {
            return Err(String::from_utf8_lossy(body).into());
        }
        Ok(Some((code, body)))
    }
}

/// The first fields of a performative, which are small.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn of(body: &'a [u8]) -> Fields<'a> {
        let head = if body.get(3) == Some(&0xc0) { 6 } else { 12 };
        Fields(body.get(head..).unwrap_or_default())
    }

    /// The next field if it is an unsigned number; passes over what has no bytes of its own.
    fn uint(&mut self) -> Option<u32> {
        let (&code, rest) = self.0.split_first()?;
        let (value, bytes) = match code {
            0x43 => (Some(0), 0),
            0x52 => (rest.first().map(|byte| u32::from(*byte)), 1),
            0x70 => (rest.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)), 4),
            _ => (None, 0),
        };
        self.0 = rest.get(bytes..).unwrap_or_default();
        value
    }
}
