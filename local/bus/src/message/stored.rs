//! A message as the journal keeps it: what was parsed once is not parsed again.

use std::sync::Arc;

use bytes::{BufMut as _, Bytes, BytesMut};

use super::Message;
use crate::amqp::encode::put_value;
use crate::amqp::sections::Header;
use crate::amqp::{Reader, Value};
use crate::broker::Timestamp;
use crate::storage::input::{CodecError, Input, put_bytes, put_time};

/// Which optional parts follow, one bit each.
const DURABLE: u8 = 1;
const DURABLE_IS_TRUE: u8 = 2;
const PRIORITY: u8 = 4;
const TTL: u8 = 8;
const ID: u8 = 16;
const SESSION: u8 = 32;
const PARTITION: u8 = 64;
const SCHEDULED: u8 = 128;

impl Message {
    /// Appends the message.
    pub(crate) fn store(&self, out: &mut BytesMut) {
        let Header { durable, priority, ttl } = self.header;
        let mut flags = 0;
        for (flag, present) in [
            (DURABLE, durable.is_some()),
            (DURABLE_IS_TRUE, durable == Some(true)),
            (PRIORITY, priority.is_some()),
            (TTL, ttl.is_some()),
            (ID, self.id.is_some()),
            (SESSION, self.session_id.is_some()),
            (PARTITION, self.partition_key.is_some()),
            (SCHEDULED, self.scheduled_for.is_some()),
        ] {
            flags |= if present { flag } else { 0 };
        }
        out.put_u8(flags);
        if let Some(priority) = priority {
            out.put_u8(priority);
        }
        if let Some(ttl) = ttl {
            out.put_u32_le(ttl);
        }
        let texts = [self.id.as_deref(), self.session_id.as_deref(), self.partition_key.as_deref()];
        for text in texts.into_iter().flatten() {
            put_bytes(out, text.as_bytes());
        }
        if let Some(at) = self.scheduled_for {
            put_time(out, at);
        }
        let mut annotations = BytesMut::new();
        if !self.annotations.is_empty() {
            put_value(&mut annotations, &Value::Map(self.annotations.clone()));
        }
        put_bytes(out, &annotations);
        for at in [self.application_at, self.body_at] {
            out.put_u32_le(u32::try_from(at).unwrap_or(u32::MAX));
        }
        put_bytes(out, &self.bare);
    }

    /// Reads a message that [`store`](Message::store) has written.
    pub(crate) fn restore(input: &mut Input<'_>) -> Result<Message, CodecError> {
        let flags = input.u8()?;
        let has = |flag: u8| flags & flag != 0;
        let header = Header {
            durable: has(DURABLE).then_some(has(DURABLE_IS_TRUE)),
            priority: if has(PRIORITY) { Some(input.u8()?) } else { None },
            ttl: if has(TTL) { Some(input.u32()?) } else { None },
        };
        let mut text = |flag, name| match has(flag) {
            true => input.text(name).map(Some),
            false => Ok(None),
        };
        let id = text(ID, "message-id")?.map(Arc::from);
        let session_id = text(SESSION, "session-id")?.map(str::to_owned);
        let partition_key = text(PARTITION, "partition-key")?.map(str::to_owned);
        let scheduled_for: Option<Timestamp> =
            if has(SCHEDULED) { Some(input.time()?) } else { None };
        let annotations = match input.bytes()? {
            [] => Vec::new(),
            encoded => match Reader::new(&Bytes::copy_from_slice(encoded)).value() {
                Ok(Value::Map(pairs)) => pairs,
                _ => return Err(CodecError::Field("annotations")),
            },
        };
        let (application_at, body_at) = (input.u32()? as usize, input.u32()? as usize);
        // An allocation of its own: the record's buffer goes.
        let bare = Bytes::copy_from_slice(input.bytes()?);
        if application_at > body_at || body_at > bare.len() {
            return Err(CodecError::Field("sections"));
        }
        Ok(Message {
            header,
            annotations,
            bare,
            application_at,
            body_at,
            id,
            session_id,
            partition_key,
            scheduled_for,
        })
    }
}
