//! Messages from the client: frames to deliveries, deliveries to the broker, and the answer.

use bytes::{Bytes, BytesMut};

use super::context::{Context, Fault};
use super::link::{Destination, Inlet, LinkKind, NotKept, Partial};
use super::session::{Session, busy, detach_forced};
use crate::amqp::performative::Transfer;
use crate::amqp::sections::{Sections, data_sections};
use crate::amqp::{AmqpError, condition};
use crate::broker::{Entity, PublishError};
use crate::limits::{BATCH_MESSAGES_MAX, UNFINISHED_BYTES_MAX};
use crate::message::{Message, MessageError};
use crate::server::operations::faults::{Mishap, Operation};

/// Message format of a batch: data sections, each one encoded message.
const BATCH_FORMAT: u32 = 0x8001_3700;

/// A delivery that has arrived in full.
struct Arrived {
    delivery_id: u32,
    format: u32,
    settled: bool,
    payload: Result<Bytes, NotKept>,
}

impl Session {
    pub(super) fn on_transfer(
        &mut self,
        cx: &mut Context,
        transfer: &Transfer,
        payload: Bytes,
    ) -> Result<(), Fault> {
        let handle = transfer.handle;
        let max_bytes = cx.hub.max_message_bytes;
        let inlet = match self.links.get_mut(&handle).map(|link| &mut link.kind) {
            Some(LinkKind::Inlet(inlet)) => inlet,
            Some(LinkKind::Detached) => return Ok(()),
            _ => {
                let text = format!("Handle {handle} is not a link to send on.");
                return Err(Fault::Session(AmqpError::new(condition::UNATTACHED_HANDLE, text)));
            }
        };
        cx.unfinished_bytes -= inlet.unfinished_bytes();
        let room = UNFINISHED_BYTES_MAX.max(max_bytes).saturating_sub(cx.unfinished_bytes);
        let assembled = inlet.assemble(transfer, payload, max_bytes, room);
        cx.unfinished_bytes += inlet.unfinished_bytes();
        let arrived = match assembled {
            Ok(Some(arrived)) => arrived,
            Ok(None) => return Ok(()),
            Err(error) => {
                self.detach(cx, handle, error);
                return Ok(());
            }
        };
        let destination = inlet.to.clone();
        if let Destination::Entity(_) = destination {
            let resource = self.links.get(&handle).and_then(super::link::Link::path);
            let refused = match cx.hub.fault(Operation::Send, resource) {
                _ if cx.draining => Some(busy()),
                Some(Mishap::ServerBusy) => Some(busy()),
                Some(Mishap::Drop) => {
                    cx.dropped = true;
                    return Ok(());
                }
                Some(Mishap::Detach) => {
                    self.detach(cx, handle, detach_forced());
                    return Ok(());
                }
                Some(Mishap::Slow { millis }) => {
                    cx.slow_down(millis);
                    None
                }
                None => None,
            };
            if let Some(error) = refused {
                if !arrived.settled {
                    cx.reject(self.channel, arrived.delivery_id, error);
                }
                self.top_up(cx, handle);
                return Ok(());
            }
        }
        self.accept_delivery(cx, handle, &destination, arrived);
        self.top_up(cx, handle);
        Ok(())
    }

    fn accept_delivery(
        &mut self,
        cx: &mut Context,
        handle: u32,
        destination: &Destination,
        arrived: Arrived,
    ) {
        let verdict = match (arrived.payload, destination) {
            (Err(NotKept::TooMuch), _) => Err(busy()),
            (Err(NotKept::TooLarge), _) => Err(AmqpError::new(
                condition::MESSAGE_SIZE_EXCEEDED,
                format!(
                    "The received message (delivery-id:{}) exceeds the limit ({} bytes) currently \
                     allowed on the link.",
                    arrived.delivery_id, cx.hub.max_message_bytes
                ),
            )),
            (Ok(payload), Destination::Entity(entity)) => {
                publish(cx, *entity, arrived.format, &payload)
            }
            (Ok(payload), Destination::Node(node)) => self.on_request(cx, handle, node, &payload),
        };
        match verdict {
            _ if arrived.settled => {}
            Ok(()) => cx.accept(self.channel, arrived.delivery_id),
            Err(error) => cx.reject(self.channel, arrived.delivery_id, error),
        }
    }

    /// Renews a sender's credit once half is used.
    fn top_up(&mut self, cx: &mut Context, handle: u32) {
        if let Some(LinkKind::Inlet(inlet)) = self.links.get_mut(&handle).map(|link| &mut link.kind)
            && inlet.credit <= inlet.credit_max / 2
        {
            inlet.credit = inlet.credit_max;
            self.put_link_flow(cx, handle);
        }
    }
}

impl Inlet {
    /// Adds one frame. The result is a complete delivery, or `None` while there is more to come,
    /// of which at most `room` bytes are kept.
    fn assemble(
        &mut self,
        transfer: &Transfer,
        payload: Bytes,
        max_bytes: u64,
        room: u64,
    ) -> Result<Option<Arrived>, AmqpError> {
        if self.partial.is_none() {
            let Some(delivery_id) = transfer.delivery_id else {
                let text = "The first transfer of a delivery has no delivery-id.";
                return Err(AmqpError::new(condition::INVALID_FIELD, text));
            };
            let Some(left) = self.credit.checked_sub(1) else {
                let text = "A transfer came without link credit.";
                return Err(AmqpError::new(condition::TRANSFER_LIMIT_EXCEEDED, text));
            };
            self.credit = left;
            self.delivery_count = self.delivery_count.wrapping_add(1);
            let fits = fits(payload.len(), max_bytes, if transfer.more { room } else { u64::MAX });
            let (format, settled) =
                (transfer.message_format.unwrap_or(0), transfer.settled.unwrap_or(false));
            if !transfer.more {
                let payload = fits.map(|()| payload);
                let arrived = Arrived { delivery_id, format, settled, payload };
                return Ok((!transfer.aborted).then_some(arrived));
            }
            let payload = fits.map(|()| BytesMut::from(&payload[..]));
            self.partial = Some(Partial { delivery_id, format, settled, payload });
            return Ok(None);
        }
        let Some(partial) = &mut self.partial else { return Ok(None) };
        if transfer.delivery_id.is_some_and(|id| id != partial.delivery_id) {
            let text = "A delivery began before the one before it was complete.";
            return Err(AmqpError::new(condition::INVALID_FIELD, text));
        }
        partial.settled |= transfer.settled.unwrap_or(false);
        if let Ok(so_far) = &mut partial.payload {
            match fits(so_far.len() + payload.len(), max_bytes, room) {
                Ok(()) => so_far.extend_from_slice(&payload),
                Err(not_kept) => partial.payload = Err(not_kept),
            }
        }
        if transfer.more && !transfer.aborted {
            return Ok(None);
        }
        let complete = self.partial.take().filter(|_| !transfer.aborted);
        Ok(complete.map(|Partial { delivery_id, format, settled, payload }| Arrived {
            delivery_id,
            format,
            settled,
            payload: payload.map(BytesMut::freeze),
        }))
    }
}

/// Whether a delivery of `bytes` may be kept.
fn fits(bytes: usize, max_bytes: u64, room: u64) -> Result<(), NotKept> {
    match bytes as u64 {
        bytes if bytes > max_bytes => Err(NotKept::TooLarge),
        bytes if bytes > room => Err(NotKept::TooMuch),
        _ => Ok(()),
    }
}

fn publish(
    cx: &mut Context,
    entity: Entity,
    format: u32,
    payload: &Bytes,
) -> Result<(), AmqpError> {
    let messages = if format == BATCH_FORMAT {
        unbatch(payload)?
    } else {
        vec![Message::parse(payload).map_err(|error| unacceptable(&error))?]
    };
    cx.with(|broker, now| broker.publish(now, entity, messages)).map_err(|error| refused(&error))
}

fn unbatch(payload: &Bytes) -> Result<Vec<Message>, AmqpError> {
    let decode = |error| AmqpError::new(condition::DECODE_ERROR, format!("The batch: {error}"));
    let envelope = Sections::split(payload).map_err(decode)?;
    let encoded = data_sections(&envelope.body, BATCH_MESSAGES_MAX).map_err(decode)?;
    encoded
        .iter()
        .map(|message| Message::parse(message).map_err(|error| unacceptable(&error)))
        .collect()
}

/// The condition for a message that cannot be stored.
pub(super) fn unacceptable(error: &MessageError) -> AmqpError {
    let condition = match error {
        MessageError::Decode(_) => condition::DECODE_ERROR,
        MessageError::LongId(_) => condition::ARGUMENT_ERROR,
        MessageError::LargeProperties => condition::MESSAGE_SIZE_EXCEEDED,
    };
    AmqpError::new(condition, error.to_string())
}

/// The condition for an entity that does not take a message.
pub(super) fn refused(error: &PublishError) -> AmqpError {
    let condition = match error {
        PublishError::NotAllowed | PublishError::NoSession => condition::NOT_ALLOWED,
        PublishError::Deleted(_) => condition::NOT_FOUND,
        PublishError::Disabled(_) => condition::ENTITY_DISABLED,
        PublishError::Full { .. } | PublishError::NoMemory(_) => condition::RESOURCE_LIMIT,
    };
    AmqpError::new(condition, error.to_string())
}
