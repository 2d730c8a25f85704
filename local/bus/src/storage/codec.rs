//! Records as bytes, and back.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::input::{CodecError, Input, put_bytes, put_some_time, put_time};
use super::rules::{put_rule, rule};
use crate::broker::record::{Arrival, QueueId, Record, Removal};
use crate::message::Message;

/// The version of everything in this file. A record of a new kind needs no new version: an older
/// program refuses a kind that it does not know.
const VERSION: u8 = 1;

/// The group goes on in the next record of the journal.
const CONTINUES: u8 = 1;

/// The place of a record that is about none.
const NOWHERE: QueueId = QueueId(u32::MAX);

/// Kinds of records. Numbers are never given twice.
mod kind {
    pub(super) const DECLARED: u8 = 1;
    pub(super) const ENQUEUED: u8 = 2;
    /// With the message of the last `ENQUEUED` before it.
    pub(super) const ENQUEUED_COPY: u8 = 3;
    pub(super) const REMOVED: u8 = 4;
    pub(super) const LOCKED: u8 = 5;
    pub(super) const RENEWED: u8 = 6;
    pub(super) const UNLOCKED: u8 = 7;
    pub(super) const REMEMBERED: u8 = 8;
    pub(super) const RULE_ADDED: u8 = 9;
    pub(super) const RULE_REMOVED: u8 = 10;
    pub(super) const NUMBERED: u8 = 11;
    pub(super) const SESSION_STATE: u8 = 12;
    pub(super) const DEFINED: u8 = 13;
    pub(super) const DROPPED: u8 = 14;
}

const REMOVALS: [(u8, Removal); 7] = [
    (1, Removal::Completed),
    (2, Removal::Expired),
    (3, Removal::DeadLettered),
    (4, Removal::Cancelled),
    (5, Removal::Activated),
    (6, Removal::Deleted),
    (7, Removal::Forwarded),
];

/// Some bytes of a group: where they start and how many there are.
pub(crate) type Span = (usize, u32);

/// Records that happen together, on their way to the journal.
#[derive(Debug, Default)]
pub(crate) struct Group {
    bytes: BytesMut,
    /// The message that a copy may refer to, and where it is in `bytes`.
    message: Option<(Arc<Message>, Span)>,
    /// Where the messages are.
    stored: Vec<(QueueId, i64, Span)>,
    /// A part of the group is written already.
    continued: bool,
}

impl Group {
    pub(crate) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Whether there is something to write: records, or the end of a group whose beginning is.
    pub(crate) fn is_unfinished(&self) -> bool {
        self.continued || !self.bytes.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// What there is so far; `continues` when more of the same group follows.
    pub(crate) fn finish(&mut self, continues: bool) -> &[u8] {
        self.continued = continues;
        self.begin();
        if let Some(flags) = self.bytes.get_mut(1) {
            *flags = if continues { CONTINUES } else { 0 };
        }
        &self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.message = None;
        self.stored.clear();
    }

    /// The places and numbers of its messages, and where each is in what [`finish`](Group::finish)
    /// returned.
    pub(crate) fn stored(&self) -> &[(QueueId, i64, Span)] {
        &self.stored
    }

    fn begin(&mut self) {
        if self.bytes.is_empty() {
            self.bytes.put_slice(&[VERSION, 0]);
        }
    }

    pub(crate) fn put(&mut self, record: &Record) {
        self.begin();
        let out = &mut self.bytes;
        let mut begin = |kind, queue: &QueueId| {
            out.put_u8(kind);
            out.put_u32_le(queue.0);
        };
        match record {
            Record::Declared { queue, path } => {
                begin(kind::DECLARED, queue);
                put_bytes(out, path.as_bytes());
            }
            Record::Enqueued {
                queue,
                sequence,
                original_sequence,
                enqueued_at,
                expires_at,
                delivery_count,
                arrival,
                message,
            } => {
                let same = |(last, _): &&(Arc<Message>, Span)| Arc::ptr_eq(last, message);
                let copy = self.message.as_ref().filter(same).map(|(_, span)| *span);
                begin(if copy.is_some() { kind::ENQUEUED_COPY } else { kind::ENQUEUED }, queue);
                out.put_i64_le(*sequence);
                out.put_i64_le(*original_sequence);
                put_time(out, *enqueued_at);
                put_some_time(out, *expires_at);
                out.put_u32_le(*delivery_count);
                let due = match arrival {
                    Arrival::Now => None,
                    Arrival::At(due) => Some(*due),
                };
                put_some_time(out, due);
                let span = copy.unwrap_or_else(|| {
                    let span = store(message, out);
                    self.message = Some((Arc::clone(message), span));
                    span
                });
                self.stored.push((*queue, *sequence, span));
            }
            Record::Removed { queue, sequence, removal } => {
                begin(kind::REMOVED, queue);
                out.put_i64_le(*sequence);
                let known = REMOVALS.iter().find(|(_, known)| known == removal);
                out.put_u8(known.map_or(0, |(code, _)| *code));
            }
            Record::Locked { queue, sequence, token, until } => {
                begin(kind::LOCKED, queue);
                out.put_i64_le(*sequence);
                out.put_slice(token.as_bytes());
                put_time(out, *until);
            }
            Record::Renewed { queue, sequence, until } => {
                begin(kind::RENEWED, queue);
                out.put_i64_le(*sequence);
                put_time(out, *until);
            }
            Record::Unlocked { queue, sequence, delivery_count, deferred, changed } => {
                begin(kind::UNLOCKED, queue);
                out.put_i64_le(*sequence);
                out.put_u32_le(*delivery_count);
                out.put_u8(u8::from(*deferred));
                out.put_u8(u8::from(changed.is_some()));
                if let Some(message) = changed {
                    self.stored.push((*queue, *sequence, store(message, out)));
                }
            }
            Record::Remembered { queue, key, until } => {
                begin(kind::REMEMBERED, queue);
                put_bytes(out, key.as_bytes());
                put_time(out, *until);
            }
            Record::RuleAdded { queue, rule } => {
                begin(kind::RULE_ADDED, queue);
                put_rule(out, rule);
            }
            Record::RuleRemoved { queue, name } => {
                begin(kind::RULE_REMOVED, queue);
                put_bytes(out, name.as_bytes());
            }
            Record::Numbered { queue, sequence } => {
                begin(kind::NUMBERED, queue);
                out.put_i64_le(*sequence);
            }
            Record::SessionState { queue, session, state, at } => {
                begin(kind::SESSION_STATE, queue);
                put_bytes(out, session.as_bytes());
                put_time(out, *at);
                out.put_u8(u8::from(state.is_some()));
                if let Some(state) = state {
                    put_bytes(out, state);
                }
            }
            Record::Defined { definition, at } => {
                begin(kind::DEFINED, &NOWHERE);
                put_time(out, *at);
                // Texts and numbers only, which JSON always takes.
                let text = serde_json::to_vec(&**definition).unwrap_or_default();
                put_bytes(out, &text);
            }
            Record::Dropped { path } => {
                begin(kind::DROPPED, &NOWHERE);
                put_bytes(out, path.as_bytes());
            }
        }
    }
}

fn store(message: &Message, out: &mut BytesMut) -> Span {
    let start = out.len();
    message.store(out);
    // Bounded by the largest message.
    (start, u32::try_from(out.len() - start).unwrap_or(u32::MAX))
}

/// Reads the records of one record of the journal; whether their group goes on in the next.
pub(crate) fn read_group(
    bytes: &[u8],
    mut each: impl FnMut(Record, Option<Span>),
) -> Result<bool, CodecError> {
    let mut input = Input::new(bytes);
    let version = input.u8()?;
    if version != VERSION {
        return Err(CodecError::Version(version));
    }
    let continues = input.u8()? & CONTINUES != 0;
    let mut message = None;
    while !input.is_empty() {
        let (record, span) = record(&mut input, &mut message)?;
        each(record, span);
    }
    Ok(continues)
}

fn record(
    input: &mut Input<'_>,
    last: &mut Option<(Arc<Message>, Span)>,
) -> Result<(Record, Option<Span>), CodecError> {
    let kind = input.u8()?;
    let queue = QueueId(input.u32()?);
    let mut span = None;
    let record = match kind {
        kind::DECLARED => Record::Declared { queue, path: Arc::from(input.text("path")?) },
        kind::ENQUEUED | kind::ENQUEUED_COPY => {
            let (sequence, original_sequence) = (input.i64()?, input.i64()?);
            let enqueued_at = input.time()?;
            let expires_at = input.some_time()?;
            let delivery_count = input.u32()?;
            let arrival = input.some_time()?.map_or(Arrival::Now, Arrival::At);
            if kind == kind::ENQUEUED {
                *last = Some(restore(input)?);
            }
            let (message, at) = last.clone().ok_or(CodecError::Field("copy"))?;
            span = Some(at);
            Record::Enqueued {
                queue,
                sequence,
                original_sequence,
                enqueued_at,
                expires_at,
                delivery_count,
                arrival,
                message,
            }
        }
        kind::REMOVED => {
            let sequence = input.i64()?;
            let code = input.u8()?;
            let known = REMOVALS.iter().find(|(known, _)| *known == code);
            let (_, removal) = known.ok_or(CodecError::Field("removal"))?;
            Record::Removed { queue, sequence, removal: *removal }
        }
        kind::LOCKED => Record::Locked {
            queue,
            sequence: input.i64()?,
            token: input.uuid()?,
            until: input.time()?,
        },
        kind::RENEWED => Record::Renewed { queue, sequence: input.i64()?, until: input.time()? },
        kind::UNLOCKED => Record::Unlocked {
            queue,
            sequence: input.i64()?,
            delivery_count: input.u32()?,
            deferred: input.u8()? != 0,
            changed: match input.u8()? {
                0 => None,
                _ => {
                    let (message, at) = restore(input)?;
                    span = Some(at);
                    Some(message)
                }
            },
        },
        kind::REMEMBERED => {
            Record::Remembered { queue, key: Arc::from(input.text("key")?), until: input.time()? }
        }
        kind::RULE_ADDED => Record::RuleAdded { queue, rule: Arc::new(rule(input)?) },
        kind::RULE_REMOVED => {
            Record::RuleRemoved { queue, name: input.text("rule name")?.to_owned() }
        }
        kind::NUMBERED => Record::Numbered { queue, sequence: input.i64()? },
        kind::SESSION_STATE => Record::SessionState {
            queue,
            session: Arc::from(input.text("session")?),
            at: input.time()?,
            state: match input.u8()? {
                0 => None,
                _ => Some(Bytes::copy_from_slice(input.bytes()?)),
            },
        },
        kind::DEFINED => {
            let at = input.time()?;
            let definition = serde_json::from_slice(input.bytes()?);
            let definition = definition.map_err(|_| CodecError::Field("definition"))?;
            Record::Defined { definition: Arc::new(definition), at }
        }
        kind::DROPPED => Record::Dropped { path: Arc::from(input.text("path")?) },
        kind => return Err(CodecError::Kind(kind)),
    };
    Ok((record, span))
}

fn restore(input: &mut Input<'_>) -> Result<(Arc<Message>, Span), CodecError> {
    let start = input.position();
    let message = Arc::new(Message::restore(input)?);
    let length = input.position() - start;
    Ok((message, (start, u32::try_from(length).unwrap_or(u32::MAX))))
}
