//! One session: windows, and which link a performative is for.

use std::collections::{BTreeMap, HashMap, VecDeque};

use bytes::Bytes;

use super::context::{Context, Fault};
use super::link::{Link, LinkKind, Outlet, Unfinished, Unsettled, Waiting};
use crate::amqp::performative::{Begin, Detach, Flow, Performative, put_detach, put_flow};
use crate::amqp::{AmqpError, condition};
use crate::broker::Settlement;
use crate::limits::SESSION_WINDOW_FRAMES;
use crate::server::access::Rights;
use crate::server::operations::faults::{Mishap, Operation};

/// A session. Channel and handles are the client's; we use the same numbers for our side.
pub(super) struct Session {
    pub(super) channel: u16,
    pub(super) links: HashMap<u32, Link>,
    /// Deliveries to the client by delivery-id.
    pub(super) unsettled: BTreeMap<u32, Unsettled>,
    pub(super) waiting: VecDeque<Waiting>,
    pub(super) unfinished: Option<Unfinished>,
    pub(super) next_delivery_id: u32,
    pub(super) next_outgoing_id: u32,
    /// Transfer frames the client takes.
    pub(super) outgoing_window: u32,
    next_incoming_id: u32,
    /// Transfer frames we still take before we must say so.
    incoming_window: u32,
    /// End was sent; only the client's is awaited.
    ended: bool,
}

impl Session {
    pub(super) fn new(channel: u16, begin: &Begin) -> Session {
        Session {
            channel,
            links: HashMap::new(),
            unsettled: BTreeMap::new(),
            waiting: VecDeque::new(),
            unfinished: None,
            next_delivery_id: 0,
            next_outgoing_id: 0,
            outgoing_window: begin.incoming_window,
            next_incoming_id: begin.next_outgoing_id,
            incoming_window: SESSION_WINDOW_FRAMES,
            ended: false,
        }
    }

    pub(super) fn is_ended(&self) -> bool {
        self.ended
    }

    pub(super) fn set_ended(&mut self) {
        self.ended = true;
    }

    /// Acts on a performative of this session.
    pub(super) fn handle(
        &mut self,
        cx: &mut Context,
        performative: Performative,
    ) -> Result<(), Fault> {
        if self.ended {
            return Ok(());
        }
        match performative {
            Performative::Transfer(transfer, payload) => {
                self.next_incoming_id = self.next_incoming_id.wrapping_add(1);
                let Some(left) = self.incoming_window.checked_sub(1) else {
                    let text = "A transfer came outside of the session window.";
                    return Err(Fault::Session(AmqpError::new(condition::WINDOW_VIOLATION, text)));
                };
                self.incoming_window = left;
                self.on_transfer(cx, &transfer, payload)?;
                if self.incoming_window <= SESSION_WINDOW_FRAMES / 2 {
                    self.put_flow(cx, Flow::default());
                }
                Ok(())
            }
            Performative::Disposition(disposition) => {
                self.on_disposition(cx, disposition);
                Ok(())
            }
            Performative::Flow(flow) => self.on_flow(cx, &flow),
            Performative::Attach(attach) => self.on_attach(cx, *attach),
            Performative::Detach(detach) => self.on_detach(cx, &detach),
            Performative::Open(_)
            | Performative::Begin(_)
            | Performative::End(_)
            | Performative::Close(_) => {
                let text = "This performative does not belong to a session.";
                Err(Fault::Connection(AmqpError::new(condition::NOT_ALLOWED, text)))
            }
        }
    }

    fn on_flow(&mut self, cx: &mut Context, flow: &Flow) -> Result<(), Fault> {
        // Part 2, section 2.5.6: what the peer takes beyond what it has seen of ours.
        let seen = flow.next_incoming_id.unwrap_or(0);
        let under_way = self.next_outgoing_id.wrapping_sub(seen);
        self.outgoing_window = flow.incoming_window.saturating_sub(under_way);
        let Some(handle) = flow.handle else {
            if flow.echo {
                self.put_flow(cx, Flow::default());
            }
            return Ok(());
        };
        let Some(link) = self.links.get_mut(&handle) else {
            let text = format!("Handle {handle} is not attached.");
            return Err(Fault::Session(AmqpError::new(condition::UNATTACHED_HANDLE, text)));
        };
        // Credit counts from the deliveries the client has seen, not from those we have sent.
        // The counts are serial numbers, the credit is not: it may be all there is.
        let credit = |delivery_count: u32| {
            let unseen = delivery_count.wrapping_sub(flow.delivery_count.unwrap_or(0));
            let unseen = if unseen > u32::MAX / 2 { 0 } else { unseen };
            flow.link_credit.unwrap_or(0).saturating_sub(unseen)
        };
        match &mut link.kind {
            LinkKind::Outlet(outlet) => {
                match cx.hub.fault(
                    Operation::Receive,
                    link.resource.as_ref().map(|(path, _)| path.as_str()),
                ) {
                    Some(Mishap::Drop) => {
                        cx.dropped = true;
                        return Ok(());
                    }
                    Some(Mishap::Slow { millis }) => cx.slow_down(millis),
                    Some(Mishap::ServerBusy) => {
                        self.detach(cx, handle, busy());
                        return Ok(());
                    }
                    Some(Mishap::Detach) => {
                        self.detach(cx, handle, detach_forced());
                        return Ok(());
                    }
                    None => {}
                }
                if flow.link_credit.is_some() {
                    outlet.credit = credit(outlet.delivery_count);
                    self.grant(cx, handle, true);
                }
                if flow.drain {
                    self.drain(cx, handle);
                }
            }
            LinkKind::Replies(replies) => {
                replies.credit = credit(replies.delivery_count);
                if flow.drain {
                    replies.delivery_count = replies.delivery_count.wrapping_add(replies.credit);
                    replies.credit = 0;
                    let answer = Flow {
                        handle: Some(handle),
                        delivery_count: Some(replies.delivery_count),
                        link_credit: Some(0),
                        drain: true,
                        ..Flow::default()
                    };
                    self.put_flow(cx, answer);
                }
                self.flush_replies(cx, handle);
            }
            LinkKind::Pending(pending) => {
                // Credit for later counts from nothing delivered.
                pending.credit = credit(0);
            }
            LinkKind::Inlet(_) | LinkKind::Detached => {}
        }
        if flow.echo {
            self.put_link_flow(cx, handle);
        }
        Ok(())
    }

    fn on_detach(&mut self, cx: &mut Context, detach: &Detach) -> Result<(), Fault> {
        let Some(link) = self.links.remove(&detach.handle) else {
            let text = format!("Handle {} is not attached.", detach.handle);
            return Err(Fault::Session(AmqpError::new(condition::UNATTACHED_HANDLE, text)));
        };
        if !matches!(link.kind, LinkKind::Detached) {
            self.release(cx, detach.handle, &link);
            cx.flush_accepted();
            let answer = Detach { handle: detach.handle, closed: detach.closed, error: None };
            put_detach(&mut cx.out, self.channel, &answer);
        }
        Ok(())
    }

    /// Detaches a link from our side.
    pub(super) fn detach(&mut self, cx: &mut Context, handle: u32, error: AmqpError) {
        let Some(link) = self.links.get_mut(&handle) else { return };
        let kind = std::mem::replace(&mut link.kind, LinkKind::Detached);
        let link = Link { name: String::new(), resource: None, kind };
        self.release(cx, handle, &link);
        cx.flush_accepted();
        let detach = Detach { handle, closed: true, error: Some(error) };
        put_detach(&mut cx.out, self.channel, &detach);
    }

    /// Detaches the links whose entity no token covers any more.
    pub(super) fn detach_unauthorized(&mut self, cx: &mut Context) {
        let over = |link: &Link| {
            let over =
                |(resource, rights): &(String, Rights)| !cx.grants.allow(resource, *rights, cx.now);
            !matches!(link.kind, LinkKind::Detached) && link.resource.as_ref().is_some_and(over)
        };
        let handles: Vec<u32> =
            self.links.iter().filter(|(_, link)| over(link)).map(|(handle, _)| *handle).collect();
        for handle in handles {
            let text = "The token for this link has expired or was not renewed.";
            self.detach(cx, handle, AmqpError::new(condition::UNAUTHORIZED, text));
        }
    }

    /// Gives back what a link holds in the broker.
    fn release(&mut self, cx: &mut Context, handle: u32, link: &Link) {
        if self.unfinished.as_ref().is_some_and(|unfinished| unfinished.handle == handle) {
            self.unfinished = None;
        }
        let (mine, others): (VecDeque<_>, VecDeque<_>) =
            self.waiting.drain(..).partition(|waiting| waiting.handle() == handle);
        self.waiting = others;
        let (receiver, queue) = match &link.kind {
            LinkKind::Outlet(Outlet { receiver, queue, .. }) => (*receiver, *queue),
            LinkKind::Pending(pending) => (pending.receiver, pending.queue),
            LinkKind::Replies(replies) => {
                let unsent = mine.iter().map(|waiting| match waiting {
                    Waiting::Reply { message, .. } => message.len(),
                    Waiting::Message { .. } => 0,
                });
                let waiting = replies.waiting.iter().map(Bytes::len);
                cx.reply_bytes -= unsent.chain(waiting).sum::<usize>();
                return;
            }
            LinkKind::Inlet(inlet) => {
                cx.unfinished_bytes -= inlet.unfinished_bytes();
                return;
            }
            LinkKind::Detached => return,
        };
        let channel = self.channel;
        cx.session_waits.retain(|(_, at, of)| (*at, *of) != (channel, handle));
        cx.receivers.remove(&receiver);
        cx.with(|broker, now| broker.close_receiver(now, receiver));
        for waiting in mine {
            if let Waiting::Message { delivery, .. } = waiting {
                // A lock that has ended meanwhile needs no release.
                let release = Settlement::Release;
                let _ = cx.with(|broker, now| broker.settle(now, queue, delivery.token, release));
            }
        }
    }

    /// Takes back the credit of every receiver in the broker.
    pub(super) fn stop_granting(&mut self, cx: &mut Context) {
        let handles: Vec<u32> = self.links.keys().copied().collect();
        for handle in handles {
            self.grant(cx, handle, true);
        }
    }

    /// Gives back what the whole session holds.
    pub(super) fn end(&mut self, cx: &mut Context) {
        let links = std::mem::take(&mut self.links);
        for (handle, link) in &links {
            self.release(cx, *handle, link);
        }
        self.unsettled.clear();
    }

    /// Writes a flow with this session's windows. Clients count frames against the window and stop
    /// at zero, so every flow renews it.
    pub(super) fn put_flow(&mut self, cx: &mut Context, flow: Flow) {
        self.incoming_window = SESSION_WINDOW_FRAMES;
        let flow = Flow {
            next_incoming_id: Some(self.next_incoming_id),
            incoming_window: self.incoming_window,
            next_outgoing_id: self.next_outgoing_id,
            outgoing_window: SESSION_WINDOW_FRAMES,
            ..flow
        };
        put_flow(&mut cx.out, self.channel, &flow);
    }

    /// Writes a flow with a link's state as well.
    pub(super) fn put_link_flow(&mut self, cx: &mut Context, handle: u32) {
        let Some(link) = self.links.get(&handle) else { return };
        let (delivery_count, credit) = match &link.kind {
            LinkKind::Inlet(inlet) => (inlet.delivery_count, inlet.credit),
            LinkKind::Outlet(outlet) => (outlet.delivery_count, outlet.credit),
            LinkKind::Replies(replies) => (replies.delivery_count, replies.credit),
            LinkKind::Pending(_) | LinkKind::Detached => return,
        };
        let flow = Flow {
            handle: Some(handle),
            delivery_count: Some(delivery_count),
            link_credit: Some(credit),
            ..Flow::default()
        };
        self.put_flow(cx, flow);
    }
}

/// What the service says when it has too much to do.
pub(super) fn busy() -> AmqpError {
    let text = "The server is busy. Retry the operation after some time.";
    AmqpError::new(condition::SERVER_BUSY, text)
}

/// What the service says when it moves an entity.
pub(super) fn detach_forced() -> AmqpError {
    AmqpError::new(condition::DETACH_FORCED, "The link was detached by force.")
}
