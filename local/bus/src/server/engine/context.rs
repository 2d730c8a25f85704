//! What every part of one connection works with.

use std::cell::Cell;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use bytes::BytesMut;
use journal::Position;

use crate::amqp::AmqpError;
use crate::amqp::performative::{Disposition, Role, put_disposition};
use crate::amqp::state::DeliveryState;
use crate::broker::{Broker, ConnectionId, ReceiverId, Timestamp};
use crate::limits::FRAME_BYTES_MIN;
use crate::server::access::Grants;
use crate::server::hub::Hub;

/// How much of the connection a mistake costs. A link's mistake is answered where it happens.
#[derive(Debug)]
pub(super) enum Fault {
    Session(AmqpError),
    Connection(AmqpError),
}

/// Everything of a connection that is not a session.
pub(super) struct Context {
    pub(super) hub: Arc<Hub>,
    pub(super) id: ConnectionId,
    pub(super) now: Timestamp,
    /// The one output buffer.
    pub(super) out: BytesMut,
    /// Largest frame the peer takes.
    pub(super) frame_bytes: usize,
    pub(super) grants: Grants,
    /// Channel and handle of each receiver of this connection.
    pub(super) receivers: HashMap<ReceiverId, (u16, u32)>,
    /// Attaches that wait for a session: until when, channel and handle.
    pub(super) session_waits: BTreeSet<(Timestamp, u16, u32)>,
    /// Whether deliveries wait for room in the output buffer.
    pub(super) starved: bool,
    /// A receiver was granted something since this was last looked at.
    pub(super) granted: bool,
    /// Bytes of replies that wait for credit, the session window or room in the output buffer.
    pub(super) reply_bytes: usize,
    /// Bytes of deliveries that have not arrived in full.
    pub(super) unfinished_bytes: u64,
    /// Header and annotations of the delivery being encoded; kept for its capacity.
    pub(super) scratch: BytesMut,
    /// What waits in `out` may be told once the journal is durable up to here.
    pub(super) told_at: Cell<Position>,
    /// Nothing is handed out or taken any more.
    pub(super) draining: bool,
    /// How long the client may still settle what it has.
    pub(super) drain_until: Option<Timestamp>,
    /// A fault holds everything back until then.
    pub(super) slow_until: Timestamp,
    /// A token that links depended on was not renewed: they end.
    pub(super) claim_failed: bool,
    /// A fault ends the connection.
    pub(super) dropped: bool,
    /// Deliveries accepted in a row but not yet answered: channel, first and last.
    accepted: Option<(u16, u32, u32)>,
}

impl Context {
    pub(super) fn new(hub: Arc<Hub>, id: ConnectionId, now: Timestamp) -> Context {
        Context {
            hub,
            id,
            now,
            out: BytesMut::new(),
            frame_bytes: FRAME_BYTES_MIN as usize,
            grants: Grants::default(),
            receivers: HashMap::new(),
            session_waits: BTreeSet::new(),
            starved: false,
            granted: false,
            reply_bytes: 0,
            unfinished_bytes: 0,
            scratch: BytesMut::new(),
            told_at: Cell::new(0),
            draining: false,
            drain_until: None,
            slow_until: Timestamp::from_millis(i64::MIN),
            claim_failed: false,
            dropped: false,
            accepted: None,
        }
    }

    /// Runs a broker command on behalf of this connection.
    pub(super) fn with<R>(&self, command: impl FnOnce(&mut Broker, Timestamp) -> R) -> R {
        let (result, position) =
            self.hub.with_position(Some(self.id), |broker| command(broker, self.now));
        self.told_at.set(position);
        result
    }

    /// Says nothing for so long.
    pub(super) fn slow_down(&mut self, millis: u32) {
        self.slow_until = self.now.plus(i64::from(millis));
    }

    /// Answers a stored message. Answers to consecutive deliveries become one frame.
    pub(super) fn accept(&mut self, channel: u16, delivery_id: u32) {
        match &mut self.accepted {
            Some((same, _, last)) if *same == channel && last.wrapping_add(1) == delivery_id => {
                *last = delivery_id;
            }
            _ => {
                self.flush_accepted();
                self.accepted = Some((channel, delivery_id, delivery_id));
            }
        }
    }

    /// Writes what [`accept`](Context::accept) has collected.
    pub(super) fn flush_accepted(&mut self) {
        if let Some((channel, first, last)) = self.accepted.take() {
            let disposition = Disposition {
                role: Role::Receiver,
                first,
                last: (last != first).then_some(last),
                settled: true,
                state: Some(DeliveryState::Accepted),
            };
            put_disposition(&mut self.out, channel, &disposition);
        }
    }

    /// Answers a delivery that was not accepted.
    pub(super) fn reject(&mut self, channel: u16, delivery_id: u32, error: AmqpError) {
        self.flush_accepted();
        let disposition = Disposition {
            role: Role::Receiver,
            first: delivery_id,
            last: None,
            settled: true,
            state: Some(DeliveryState::Rejected(Some(error))),
        };
        put_disposition(&mut self.out, channel, &disposition);
    }

    /// The text for an entity that is not there, as the service writes it.
    pub(super) fn not_found_text(&self, path: &str) -> String {
        format!(
            "The messaging entity '{path}' could not be found. To know more visit \
             https://aka.ms/sbResourceMgrExceptions. {}",
            self.tracking(path)
        )
    }

    /// What the service appends to its error texts.
    pub(super) fn tracking(&self, path: &str) -> String {
        format!(
            "TrackingId:{}_B{}, SystemTracker:{path}, Timestamp:{}",
            uuid::Uuid::new_v4(),
            self.id.0,
            iso(self.now)
        )
    }
}

/// A time as `2026-01-31T12:00:00`.
fn iso(at: Timestamp) -> String {
    let nanos = i128::from(at.as_millis()) * 1_000_000;
    match time::OffsetDateTime::from_unix_timestamp_nanos(nanos) {
        Ok(at) => {
            let (date, hour, minute, second) = (at.date(), at.hour(), at.minute(), at.second());
            format!("{date}T{hour:02}:{minute:02}:{second:02}")
        }
        Err(_) => at.as_millis().to_string(),
    }
}
