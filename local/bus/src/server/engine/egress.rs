//! Messages to the client: credit to the broker, deliveries to frames, dispositions back.

use bytes::{Bytes, BytesMut};

use super::context::Context;
use super::link::{LinkKind, Unfinished, Unsettled, Waiting};
use super::session::Session;
use crate::amqp::performative::{Disposition, Flow, Role, Transfer, put_disposition, put_transfer};
use crate::amqp::state::DeliveryState;
use crate::amqp::{AmqpError, Value, condition};
use crate::broker::{Delivery, ReceiveMode, SettleError, Settlement};
use crate::limits::{OUTPUT_HIGH_WATER_BYTES, RECEIVER_DEMAND_MESSAGES_MAX};
use crate::message::{DEAD_LETTER_DESCRIPTION, DEAD_LETTER_REASON, DeliveryMode, put_prefix};
use crate::server::operations::faults::{Mishap, Operation};

/// Bytes of a frame that are not payload: frame header and transfer performative, rounded up.
const TRANSFER_OVERHEAD_BYTES: usize = 80;

impl Session {
    /// Tells the broker how many messages this link takes: its credit, within what the session can
    /// put on the wire soon. Without `anew` only when little of the last grant is left.
    pub(super) fn grant(&mut self, cx: &mut Context, handle: u32, anew: bool) {
        let congested = !self.waiting.is_empty()
            || self.outgoing_window == 0
            || cx.out.len() >= OUTPUT_HIGH_WATER_BYTES;
        let max = cx.hub.limits.unsettled_per_session;
        let full = self.unsettled.len() >= max && !self.forget_lost(cx);
        let room = max.saturating_sub(self.unsettled.len() + self.granted_beside(handle));
        let room = u32::try_from(room).unwrap_or(u32::MAX);
        let Some(LinkKind::Outlet(outlet)) = self.links.get_mut(&handle).map(|link| &mut link.kind)
        else {
            return;
        };
        let wanted = match congested || full || cx.draining {
            true => 0,
            false => outlet.credit.min(RECEIVER_DEMAND_MESSAGES_MAX).min(room),
        };
        cx.starved |= congested;
        if wanted == outlet.granted || !anew && outlet.granted > wanted / 2 {
            return;
        }
        outlet.granted = wanted;
        cx.granted |= wanted > 0;
        let receiver = outlet.receiver;
        cx.with(|broker, now| broker.grant(now, receiver, wanted));
    }

    /// What other links of the session were granted and have not used.
    fn granted_beside(&self, handle: u32) -> usize {
        let others = self.links.iter().filter(|(other, _)| **other != handle);
        let granted = others.map(|(_, link)| match &link.kind {
            LinkKind::Outlet(outlet) => outlet.granted as usize,
            _ => 0,
        });
        granted.sum()
    }

    /// Forgets unsettled deliveries whose lock is over; whether that made room.
    fn forget_lost(&mut self, cx: &mut Context) -> bool {
        let unsettled = &mut self.unsettled;
        cx.with(|broker, now| {
            broker.advance(now);
            unsettled.retain(|_, delivery| broker.is_locked(delivery.queue, delivery.token));
        });
        self.unsettled.len() < cx.hub.limits.unsettled_per_session
    }

    /// Whether something that was fetched is still to be written.
    pub(super) fn is_behind(&self) -> bool {
        self.unfinished.is_some() || !self.waiting.is_empty()
    }

    /// Takes what the broker has assigned to a link.
    pub(super) fn fetch(&mut self, cx: &mut Context, handle: u32) {
        let Some(LinkKind::Outlet(outlet)) = self.links.get_mut(&handle).map(|link| &mut link.kind)
        else {
            return;
        };
        let (receiver, max) = (outlet.receiver, outlet.credit);
        let (fetched, left) = cx.with(|broker, now| broker.fetch(now, receiver, max));
        let count = u32::try_from(fetched.len()).unwrap_or(u32::MAX);
        outlet.credit = outlet.credit.saturating_sub(count);
        outlet.granted = left;
        outlet.delivery_count = outlet.delivery_count.wrapping_add(count);
        self.waiting
            .extend(fetched.into_iter().map(|delivery| Waiting::Message { handle, delivery }));
    }

    /// Writes deliveries as long as the session window and the output buffer have room, then asks
    /// for more on links that have credit left.
    pub(super) fn pump(&mut self, cx: &mut Context) {
        while self.outgoing_window > 0 && cx.out.len() < OUTPUT_HIGH_WATER_BYTES {
            if self.unfinished.is_some() {
                self.continue_delivery(cx);
            } else {
                match self.waiting.pop_front() {
                    Some(Waiting::Message { handle, delivery }) => {
                        self.start_delivery(cx, handle, &delivery);
                    }
                    Some(Waiting::Reply { handle, message }) => {
                        cx.reply_bytes -= message.len();
                        self.start_reply(cx, handle, &message);
                    }
                    None => break,
                }
            }
        }
        if self.is_behind() {
            cx.starved = true;
            return;
        }
        let hungry = |(handle, link): (&u32, &super::link::Link)| match &link.kind {
            LinkKind::Outlet(outlet) if outlet.granted < outlet.credit => Some(*handle),
            _ => None,
        };
        let hungry: Vec<u32> = self.links.iter().filter_map(hungry).collect();
        for handle in hungry {
            self.grant(cx, handle, false);
        }
    }

    /// Sends what there is, then declares the rest of the credit used: the client waits for that.
    pub(super) fn drain(&mut self, cx: &mut Context, handle: u32) {
        let credit = |session: &Session| match session.links.get(&handle).map(|link| &link.kind) {
            Some(LinkKind::Outlet(outlet)) => outlet.credit,
            _ => 0,
        };
        loop {
            let before = credit(self);
            self.fetch(cx, handle);
            self.pump(cx);
            if [0, before].contains(&credit(self)) {
                break;
            }
        }
        let Some(LinkKind::Outlet(outlet)) = self.links.get_mut(&handle).map(|link| &mut link.kind)
        else {
            return;
        };
        outlet.delivery_count = outlet.delivery_count.wrapping_add(outlet.credit);
        outlet.credit = 0;
        outlet.granted = 0;
        let (receiver, delivery_count) = (outlet.receiver, outlet.delivery_count);
        cx.with(|broker, now| broker.grant(now, receiver, 0));
        let flow = Flow {
            handle: Some(handle),
            delivery_count: Some(delivery_count),
            link_credit: Some(0),
            drain: true,
            ..Flow::default()
        };
        self.put_flow(cx, flow);
    }

    fn start_delivery(&mut self, cx: &mut Context, handle: u32, delivery: &Delivery) {
        let Some(LinkKind::Outlet(outlet)) = self.links.get(&handle).map(|link| &link.kind) else {
            return;
        };
        let (mode, queue) = (outlet.mode, outlet.queue);
        let delivery_id = self.next_delivery_id;
        self.next_delivery_id = delivery_id.wrapping_add(1);
        let (settled, tag, delivery_mode) = match mode {
            ReceiveMode::PeekLock => {
                let token = delivery.token;
                self.unsettled.insert(delivery_id, Unsettled { queue, token });
                // The byte order of a .NET Guid, in which clients read the lock token.
                (false, Bytes::copy_from_slice(&token.to_bytes_le()), DeliveryMode::PeekLock)
            }
            ReceiveMode::ReceiveAndDelete => {
                let tag = Bytes::copy_from_slice(&delivery_id.to_be_bytes());
                (true, tag, DeliveryMode::ReceiveAndDelete)
            }
        };
        let mut prefix = std::mem::take(&mut cx.scratch);
        prefix.clear();
        put_prefix(&mut prefix, delivery, delivery_mode);
        let transfer = Transfer {
            handle,
            delivery_id: Some(delivery_id),
            delivery_tag: Some(tag),
            message_format: Some(0),
            settled: Some(settled),
            more: false,
            aborted: false,
        };
        self.send(cx, transfer, &prefix, delivery.message.bare());
        cx.scratch = prefix;
    }

    fn start_reply(&mut self, cx: &mut Context, handle: u32, message: &[u8]) {
        let delivery_id = self.next_delivery_id;
        self.next_delivery_id = delivery_id.wrapping_add(1);
        let transfer = Transfer {
            handle,
            delivery_id: Some(delivery_id),
            delivery_tag: Some(Bytes::copy_from_slice(&delivery_id.to_be_bytes())),
            message_format: Some(0),
            // Clients do not settle replies.
            settled: Some(true),
            more: false,
            aborted: false,
        };
        self.send(cx, transfer, message, &[]);
    }

    /// Writes a delivery, or its first frame if it takes several.
    fn send(&mut self, cx: &mut Context, transfer: Transfer, head: &[u8], tail: &[u8]) {
        let room = cx.frame_bytes - TRANSFER_OVERHEAD_BYTES;
        if head.len() + tail.len() <= room {
            self.put_frame(cx, &transfer, &[head, tail]);
            return;
        }
        let mut rest = BytesMut::with_capacity(head.len() + tail.len());
        rest.extend_from_slice(head);
        rest.extend_from_slice(tail);
        let mut rest = rest.freeze();
        let first = rest.split_to(room);
        let handle = transfer.handle;
        self.put_frame(cx, &Transfer { more: true, ..transfer }, &[&first]);
        self.unfinished = Some(Unfinished { handle, rest });
    }

    fn continue_delivery(&mut self, cx: &mut Context) {
        let Some(Unfinished { handle, mut rest }) = self.unfinished.take() else { return };
        let room = cx.frame_bytes - TRANSFER_OVERHEAD_BYTES;
        let next = rest.split_to(room.min(rest.len()));
        let more = !rest.is_empty();
        self.put_frame(cx, &Transfer { handle, more, ..Transfer::default() }, &[&next]);
        if more {
            self.unfinished = Some(Unfinished { handle, rest });
        }
    }

    fn put_frame(&mut self, cx: &mut Context, transfer: &Transfer, payload: &[&[u8]]) {
        put_transfer(&mut cx.out, self.channel, transfer, payload);
        self.next_outgoing_id = self.next_outgoing_id.wrapping_add(1);
        self.outgoing_window = self.outgoing_window.saturating_sub(1);
    }

    pub(super) fn on_disposition(&mut self, cx: &mut Context, disposition: Disposition) {
        // What the client says about its own deliveries was settled by our answer.
        if disposition.role == Role::Sender {
            return;
        }
        match cx.hub.fault(Operation::Settle, None) {
            Some(Mishap::Drop) => return cx.dropped = true,
            Some(Mishap::Slow { millis }) => cx.slow_down(millis),
            Some(Mishap::ServerBusy | Mishap::Detach) | None => {}
        }
        let Disposition { first, last, settled, state, .. } = disposition;
        let last = last.unwrap_or(first);
        let state = match state {
            Some(DeliveryState::Received) | None if !settled => return,
            Some(state) => state,
            None => DeliveryState::Released,
        };
        let ids: Vec<u32> = if first <= last {
            self.unsettled.range(first..=last).map(|(id, _)| *id).collect()
        } else {
            // Delivery-ids are serial numbers and wrap around.
            let before = self.unsettled.range(first..).map(|(id, _)| *id);
            before.chain(self.unsettled.range(..=last).map(|(id, _)| *id)).collect()
        };
        if ids.is_empty() && !settled {
            let text = "The delivery is not known on this link.";
            let unknown = AmqpError::new(condition::NOT_FOUND, text);
            self.answer_disposition(cx, first, last, DeliveryState::Rejected(Some(unknown)));
            return;
        }
        let mut answers: Vec<(u32, u32, DeliveryState)> = Vec::new();
        for id in ids {
            let Some(delivery) = self.unsettled.remove(&id) else { continue };
            let answer = match settlement(&state) {
                Ok(settlement) => {
                    let result = cx.with(|broker, now| {
                        broker.settle(now, delivery.queue, delivery.token, settlement)
                    });
                    match result {
                        // The outcome alone: an error within `rejected` would mean that settling
                        // failed.
                        Ok(()) => bare_outcome(&state),
                        Err(error) => DeliveryState::Rejected(Some(settle_error(error))),
                    }
                }
                Err(error) => DeliveryState::Rejected(Some(error)),
            };
            match answers.last_mut() {
                Some((_, last, same)) if last.wrapping_add(1) == id && *same == answer => {
                    *last = id
                }
                _ => answers.push((id, id, answer)),
            }
        }
        if !settled {
            for (first, last, answer) in answers {
                self.answer_disposition(cx, first, last, answer);
            }
        }
    }

    fn answer_disposition(&self, cx: &mut Context, first: u32, last: u32, state: DeliveryState) {
        let disposition = Disposition {
            role: Role::Sender,
            first,
            last: (last != first).then_some(last),
            settled: true,
            state: Some(state),
        };
        put_disposition(&mut cx.out, self.channel, &disposition);
    }
}

/// The condition for a settlement that was not possible.
pub(super) fn settle_error(error: SettleError) -> AmqpError {
    let condition = match error {
        SettleError::LockLost => condition::MESSAGE_LOCK_LOST,
        SettleError::SessionLost => condition::SESSION_LOCK_LOST,
        SettleError::AlreadyDead => condition::NOT_ALLOWED,
    };
    AmqpError::new(condition, error.to_string())
}

/// What a client means by an outcome.
fn settlement(state: &DeliveryState) -> Result<Settlement, AmqpError> {
    Ok(match state {
        DeliveryState::Accepted => Settlement::Complete,
        DeliveryState::Released | DeliveryState::Received => Settlement::Release,
        DeliveryState::Modified { undeliverable_here: false, annotations } => {
            Settlement::Abandon { changes: annotations.clone() }
        }
        DeliveryState::Modified { undeliverable_here: true, annotations } => {
            Settlement::Defer { changes: annotations.clone() }
        }
        DeliveryState::Rejected(None) => Settlement::dead_letter(None, None, Vec::new()),
        DeliveryState::Rejected(Some(error)) => {
            let has = |key: &str| crate::amqp::value::get(&error.info, key).is_some();
            // A plain AMQP client says why in the error itself.
            let reason = error.condition != condition::DEAD_LETTER && !has(DEAD_LETTER_REASON);
            let described = !error.description.is_empty() && !has(DEAD_LETTER_DESCRIPTION);
            let present = |(_, value): &&(Value, Value)| !matches!(value, Value::Null);
            Settlement::dead_letter(
                reason.then_some(&error.condition),
                described.then_some(&error.description),
                error.info.iter().filter(present).cloned().collect(),
            )
        }
        DeliveryState::Other(_) => {
            let text = "Transactional settlement is not implemented.";
            return Err(AmqpError::new(condition::NOT_IMPLEMENTED, text));
        }
    })
}

fn bare_outcome(state: &DeliveryState) -> DeliveryState {
    match state {
        DeliveryState::Rejected(_) => DeliveryState::Rejected(None),
        DeliveryState::Modified { undeliverable_here, .. } => DeliveryState::Modified {
            undeliverable_here: *undeliverable_here,
            annotations: Vec::new(),
        },
        other => other.clone(),
    }
}
