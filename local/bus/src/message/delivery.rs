//! A stored message as one receiver sees it: header and annotations for this delivery, then the
//! bare message untouched.
//!
//! Types matter: the .NET client casts annotations to exactly long, timestamp, string and int, and
//! needs a delivery-count even when it is 0.

use bytes::BytesMut;

use crate::amqp::encode::{ListWriter, MapWriter, Millis, Put, Symbol};
use crate::broker::{Delivery, MessageState};

/// For whom a message is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeliveryMode {
    /// Locked for the receiver.
    PeekLock,
    /// Gone from the entity.
    ReceiveAndDelete,
    /// Looked at only.
    Peek { without_body: bool },
}

/// Appends header, delivery annotations and message annotations.
pub(crate) fn put_prefix(out: &mut BytesMut, delivery: &Delivery, mode: DeliveryMode) {
    let header = &delivery.message.header;
    ListWriter::composite(out, 0x70)
        .field(header.durable)
        .field(header.priority)
        .field(delivery.ttl_ms().or(header.ttl))
        .field(None::<bool>)
        .field(delivery.delivery_count)
        .end();

    put_section(out, 0x71);
    let mut map = MapWriter::begin(out);
    if mode == DeliveryMode::PeekLock {
        map.pair(Symbol("x-opt-lock-token"), delivery.token);
    }
    map.end();

    put_section(out, 0x72);
    let mut map = MapWriter::begin(out);
    map.pair(Symbol("x-opt-enqueued-time"), Millis(delivery.enqueued_at.as_millis()))
        .pair(Symbol("x-opt-sequence-number"), delivery.sequence)
        .pair(Symbol("x-opt-enqueue-sequence-number"), delivery.original_sequence);
    match mode {
        DeliveryMode::PeekLock => {
            map.pair(Symbol("x-opt-locked-until"), Millis(delivery.locked_until.as_millis()));
        }
        DeliveryMode::Peek { .. } => {
            let state = match delivery.state {
                MessageState::Active => 0_i32,
                MessageState::Deferred => 1,
                MessageState::Scheduled => 2,
            };
            map.pair(Symbol("x-opt-message-state"), state);
        }
        DeliveryMode::ReceiveAndDelete => {}
    }
    for (key, value) in &delivery.message.annotations {
        map.pair(key, value);
    }
    map.end();
}

/// Appends the whole message.
pub(crate) fn put_message(out: &mut BytesMut, delivery: &Delivery, mode: DeliveryMode) {
    put_prefix(out, delivery, mode);
    if mode == (DeliveryMode::Peek { without_body: true }) {
        out.extend_from_slice(&delivery.message.bare_without_body());
    } else {
        out.extend_from_slice(delivery.message.bare());
    }
}

fn put_section(out: &mut BytesMut, code: u64) {
    out.extend_from_slice(&[0x00]);
    code.put(out);
}
