//! Links that receive by session: asking for one, waiting for one, losing it.
//!
//! <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-protocol-guide>

use super::context::Context;
use super::link::{LinkKind, Outlet, Pending};
use super::session::Session;
use crate::amqp::performative::Attach;
use crate::amqp::{AmqpError, Value, condition};
use crate::broker::{Event, Lost, QueueId, ReceiveMode, ReceiverId, SessionOffer, Timestamp};
use crate::limits::{SESSION_WAIT_MS, SESSION_WAIT_MS_MAX};

/// The filter with which a client asks for a session.
pub(super) const SESSION_FILTER: &str = "com.microsoft:session-filter";

/// A session that several receivers share, which is not offered.
pub(super) const SHARED_SESSION_FILTER: &str = "com.microsoft:non-exclusive-session-filter";

/// Milliseconds between the year 1, from which .NET counts its ticks, and 1970.
const TICKS_EPOCH_MS: i64 = 62_135_596_800_000;

/// Ticks of 100 ns in a millisecond.
const TICKS_PER_MS: i64 = 10_000;

/// The session an attach asks for: none, any, or a named one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    NoSession,
    Any,
    Named(String),
}

impl Wanted {
    pub(super) fn of(attach: &Attach) -> Result<Wanted, AmqpError> {
        let filter = attach.source.as_ref().and_then(|source| source.filter.as_ref());
        let filters = filter.and_then(Value::as_map).unwrap_or_default();
        let find = |name: &str| filters.iter().find(|(key, _)| key.as_text() == Some(name));
        if find(SHARED_SESSION_FILTER).is_some() {
            let text = "Sessions that several receivers share are not implemented.";
            return Err(AmqpError::new(condition::NOT_IMPLEMENTED, text));
        }
        let Some((_, value)) = find(SESSION_FILTER) else { return Ok(Wanted::NoSession) };
        let value = match value {
            Value::Described(described) => &described.1,
            plain => plain,
        };
        match value {
            Value::Null => Ok(Wanted::Any),
            Value::String(name) | Value::Symbol(name) => Ok(Wanted::Named(name.clone())),
            _ => {
                let text = "The session filter is neither null nor a string.";
                Err(AmqpError::new(condition::INVALID_FIELD, text))
            }
        }
    }
}

/// What is known of a link that asks for a session.
pub(super) fn ask(
    cx: &mut Context,
    attach: &mut Attach,
    queue: QueueId,
    mode: ReceiveMode,
    wanted: &Wanted,
) -> Result<LinkKind, AmqpError> {
    let name = match wanted {
        Wanted::Named(name) => Some(name.as_str()),
        _ => None,
    };
    let id = cx.id;
    match cx.with(|broker, now| broker.open_session(now, id, queue, mode, name)) {
        SessionOffer::Accepted { receiver, session, until } => {
            accept(attach, &session, until);
            Ok(LinkKind::Outlet(outlet(receiver, queue, mode, 0)))
        }
        SessionOffer::Waiting(receiver) => {
            let attach = attach.clone();
            Ok(LinkKind::Pending(Box::new(Pending { attach, receiver, queue, mode, credit: 0 })))
        }
        SessionOffer::Taken => {
            let text = format!(
                "The requested session '{}' cannot be accepted. It may be locked by another \
                 receiver.",
                name.unwrap_or_default()
            );
            Err(AmqpError::new(condition::SESSION_CANNOT_BE_LOCKED, text))
        }
    }
}

fn outlet(receiver: ReceiverId, queue: QueueId, mode: ReceiveMode, credit: u32) -> Outlet {
    Outlet { receiver, queue, mode, credit, granted: 0, delivery_count: 0 }
}

/// Makes of an attach the answer that grants a session.
fn accept(attach: &mut Attach, session: &str, until: Timestamp) {
    attach.source =
        attach.source.as_ref().map(|source| source.with_filter(SESSION_FILTER, session));
    let ticks = until.as_millis().saturating_add(TICKS_EPOCH_MS).saturating_mul(TICKS_PER_MS);
    let until = (Value::symbol("com.microsoft:locked-until-utc"), Value::Long(ticks));
    attach.properties = Some(Value::Map(vec![until]));
}

/// Until when an attach may wait: what the client says, within reason.
pub(super) fn wait_until(attach: &Attach, now: Timestamp) -> Timestamp {
    let asked = attach.properties.as_ref().and_then(|p| p.get("com.microsoft:timeout"));
    let asked = asked.and_then(Value::as_i64).filter(|ms| *ms > 0);
    now.plus(asked.unwrap_or(SESSION_WAIT_MS).min(SESSION_WAIT_MS_MAX))
}

impl Session {
    /// Acts on what happened to a receiver by itself.
    pub(super) fn on_event(&mut self, cx: &mut Context, handle: u32, receiver: ReceiverId) {
        match cx.with(|broker, _| broker.take_event(receiver)) {
            None => {}
            Some(Event::Lost(lost)) => {
                let error = match lost {
                    Lost::SessionLock => AmqpError::new(
                        condition::SESSION_LOCK_LOST,
                        "The session lock has expired on the MessageSession. Accept a new \
                         MessageSession.",
                    ),
                    Lost::Deleted => {
                        let text = "The messaging entity was deleted.";
                        AmqpError::new(condition::NOT_FOUND, text)
                    }
                    Lost::Disabled => {
                        let text = "The messaging entity hands out no messages any more.";
                        AmqpError::new(condition::ENTITY_DISABLED, text)
                    }
                };
                if let Some(pending) = self.take_pending(cx, handle) {
                    self.refuse(cx, pending.attach, error);
                } else {
                    self.detach(cx, handle, error);
                }
            }
            Some(Event::Accepted { session, until }) => {
                let Some(link) = self.links.get_mut(&handle) else { return };
                let LinkKind::Pending(pending) = &mut link.kind else { return };
                let credit = pending.credit;
                let kind = outlet(pending.receiver, pending.queue, pending.mode, credit);
                let mut attach = pending.attach.clone();
                link.kind = LinkKind::Outlet(kind);
                let channel = self.channel;
                cx.session_waits.retain(|(_, at, of)| (*at, *of) != (channel, handle));
                accept(&mut attach, &session, until);
                self.answer(cx, attach);
                if credit > 0 {
                    self.grant(cx, handle, true);
                }
            }
        }
    }

    /// No session came in time.
    pub(super) fn stop_waiting(&mut self, cx: &mut Context, handle: u32) {
        let Some(pending) = self.take_pending(cx, handle) else {
            cx.session_waits.pop_first();
            return;
        };
        let text = "No session with messages became free within the time-out.";
        self.refuse(cx, pending.attach, AmqpError::new(condition::TIMEOUT, text));
    }

    /// Takes a waiting link away, with its receiver.
    fn take_pending(&mut self, cx: &mut Context, handle: u32) -> Option<Box<Pending>> {
        let link = self.links.get_mut(&handle)?;
        if !matches!(link.kind, LinkKind::Pending(_)) {
            return None;
        }
        let LinkKind::Pending(pending) = std::mem::replace(&mut link.kind, LinkKind::Detached)
        else {
            return None;
        };
        let channel = self.channel;
        cx.session_waits.retain(|(_, at, of)| (*at, *of) != (channel, handle));
        cx.receivers.remove(&pending.receiver);
        cx.with(|broker, now| broker.close_receiver(now, pending.receiver));
        Some(pending)
    }
}
