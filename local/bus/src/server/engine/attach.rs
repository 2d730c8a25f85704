//! What an attach asks for, whether it may have it, and the answer.

use std::collections::VecDeque;

use super::context::{Context, Fault};
use super::holds::{Wanted, ask, wait_until};
use super::link::{Destination, Inlet, Link, LinkKind, Node, Outlet, ReplyLink};
use super::session::Session;
use crate::amqp::performative::{Attach, Detach, Role, SETTLED, put_attach, put_detach};
use crate::amqp::{AmqpError, condition};
use crate::broker::{Address, Entity, ReceiveMode};
use crate::limits::{
    ADDRESS_BYTES_MAX, LINK_NAME_BYTES_MAX, REQUEST_CREDIT_MESSAGES, SENDER_CREDIT_MESSAGES,
};
use crate::server::access::Rights;

impl Session {
    pub(super) fn on_attach(&mut self, cx: &mut Context, mut attach: Attach) -> Result<(), Fault> {
        let handle = attach.handle;
        if self.links.contains_key(&handle) {
            let text = format!("Handle {handle} is in use.");
            return Err(Fault::Session(AmqpError::new(condition::HANDLE_IN_USE, text)));
        }
        let max = cx.hub.limits.links_per_session;
        if handle as usize >= max {
            let text = format!("A session has at most {max} links.");
            return Err(Fault::Connection(AmqpError::new(condition::FRAMING_ERROR, text)));
        }
        let (resource, kind) = match plan(cx, &mut attach) {
            Ok(planned) => planned,
            Err(error) => {
                tracing::debug!(condition = %error.condition, "attach refused: {}", error.description);
                self.refuse(cx, attach, error);
                return Ok(());
            }
        };
        if let LinkKind::Outlet(outlet) = &kind {
            cx.receivers.insert(outlet.receiver, (self.channel, handle));
        }
        if let LinkKind::Pending(pending) = &kind {
            cx.receivers.insert(pending.receiver, (self.channel, handle));
            let until = wait_until(&attach, cx.now);
            cx.session_waits.insert((until, self.channel, handle));
            self.links.insert(handle, Link { name: attach.name, resource, kind });
            return Ok(());
        }
        let grants_credit = matches!(kind, LinkKind::Inlet(_));
        self.links.insert(handle, Link { name: attach.name.clone(), resource, kind });
        self.answer(cx, attach);
        if grants_credit {
            self.put_link_flow(cx, handle);
        }
        Ok(())
    }

    /// Answers with the same termini, which is how a client knows it got what it asked for.
    pub(super) fn answer(&self, cx: &mut Context, attach: Attach) {
        let from_us = attach.role == Role::Receiver;
        let answer = Attach {
            role: if from_us { Role::Sender } else { Role::Receiver },
            initial_delivery_count: from_us.then_some(0),
            max_message_size: Some(cx.hub.max_message_bytes),
            ..attach
        };
        put_attach(&mut cx.out, self.channel, &answer);
    }

    /// Refuses: an answer whose terminus on our side is null, followed by a Detach with the reason.
    pub(super) fn refuse(&mut self, cx: &mut Context, attach: Attach, error: AmqpError) {
        let (handle, from_us) = (attach.handle, attach.role == Role::Receiver);
        let answer = match from_us {
            true => Attach { source: None, ..attach },
            false => Attach { target: None, ..attach },
        };
        self.links
            .insert(handle, Link { name: String::new(), resource: None, kind: LinkKind::Detached });
        self.answer(cx, answer);
        put_detach(&mut cx.out, self.channel, &Detach { handle, closed: true, error: Some(error) });
    }
}

/// Decides what the link will be.
fn plan(
    cx: &mut Context,
    attach: &mut Attach,
) -> Result<(Option<(String, Rights)>, LinkKind), AmqpError> {
    let terminus = match attach.role {
        Role::Sender => attach.target.as_ref(),
        Role::Receiver => attach.source.as_ref(),
    };
    if terminus.is_some_and(|terminus| terminus.is_coordinator) {
        let text = "Transactions are not implemented.";
        return Err(AmqpError::new(condition::NOT_IMPLEMENTED, text));
    }
    let Some(address) = terminus.and_then(|terminus| terminus.address.as_deref()) else {
        let text = "A link without an address, or a dynamic one, is not implemented.";
        return Err(AmqpError::new(condition::NOT_IMPLEMENTED, text));
    };
    if attach.name.len() > LINK_NAME_BYTES_MAX {
        let text = format!("The name of a link has at most {LINK_NAME_BYTES_MAX} bytes.");
        return Err(AmqpError::new(condition::INVALID_FIELD, text));
    }
    if address.len() > ADDRESS_BYTES_MAX {
        let text = format!("An address has at most {ADDRESS_BYTES_MAX} bytes.");
        return Err(AmqpError::new(condition::NOT_FOUND, text));
    }
    // What a token must cover: the entity, or its management node alone.
    let (path, resource, is_management) = match Address::parse(address) {
        Address::Cbs => return Ok((None, node_link(attach, Node::Cbs))),
        Address::Management(path) => (path.clone(), format!("{path}/$management"), true),
        Address::Entity(path) => (path.clone(), path, false),
    };
    // Which of its operations a token allows, a management node looks at one by one.
    let rights = match (is_management, attach.role) {
        (true, _) => Rights::default(),
        (false, Role::Sender) => Rights::SEND,
        (false, Role::Receiver) => Rights::LISTEN,
    };
    if !cx.grants.allow(&resource, rights, cx.now) {
        let text = format!(
            "Unauthorized access. '{}' claim(s) are required to perform this operation. \
             Resource: '{resource}'. {}",
            rights.name(),
            cx.tracking(&path)
        );
        return Err(AmqpError::new(condition::UNAUTHORIZED, text));
    }
    let Some(entity) = cx.with(|broker, _| broker.resolve(&path)) else {
        return Err(AmqpError::new(condition::NOT_FOUND, cx.not_found_text(&path)));
    };
    let kind = if is_management {
        node_link(attach, Node::Management { entity, resource: resource.clone() })
    } else if attach.role == Role::Sender {
        inlet(cx, entity, &path)?
    } else {
        outlet(cx, attach, entity, &path)?
    };
    Ok((Some((resource, rights)), kind))
}

fn node_link(attach: &Attach, node: Node) -> LinkKind {
    match attach.role {
        Role::Sender => LinkKind::Inlet(Inlet {
            to: Destination::Node(node),
            credit: REQUEST_CREDIT_MESSAGES,
            credit_max: REQUEST_CREDIT_MESSAGES,
            // The .NET client omits the mandatory initial-delivery-count on these links.
            delivery_count: attach.initial_delivery_count.unwrap_or(0),
            partial: None,
        }),
        Role::Receiver => LinkKind::Replies(ReplyLink {
            node,
            target: attach.target.as_ref().and_then(|target| target.address.clone()),
            credit: 0,
            delivery_count: 0,
            waiting: VecDeque::new(),
        }),
    }
}

fn inlet(cx: &Context, entity: Entity, path: &str) -> Result<LinkKind, AmqpError> {
    match entity {
        Entity::Queue(_) | Entity::Topic(_) if !cx.with(|broker, _| broker.can_send(entity)) => {
            let text = format!("Messaging entity '{path}' is currently disabled for sending.");
            Err(AmqpError::new(condition::ENTITY_DISABLED, text))
        }
        Entity::Queue(_) | Entity::Topic(_) => Ok(LinkKind::Inlet(Inlet {
            to: Destination::Entity(entity),
            credit: SENDER_CREDIT_MESSAGES,
            credit_max: SENDER_CREDIT_MESSAGES,
            delivery_count: 0,
            partial: None,
        })),
        Entity::Subscription(_) | Entity::DeadLetter(_) => {
            let text = format!("Messages cannot be sent to '{path}'.");
            Err(AmqpError::new(condition::NOT_ALLOWED, text))
        }
    }
}

fn outlet(
    cx: &mut Context,
    attach: &mut Attach,
    entity: Entity,
    path: &str,
) -> Result<LinkKind, AmqpError> {
    if let Entity::Topic(_) = entity {
        let text = format!("Messages are received from subscriptions of '{path}', not from it.");
        return Err(AmqpError::new(condition::NOT_ALLOWED, text));
    }
    let wanted = Wanted::of(attach)?;
    let (queue, has_sessions, can_receive, forwards) = cx.with(|broker, _| {
        let queue = broker.place(entity);
        (queue, broker.has_sessions(queue), broker.can_receive(queue), broker.forwards(queue))
    });
    if !can_receive {
        let text = format!("Messaging entity '{path}' is currently disabled for receiving.");
        return Err(AmqpError::new(condition::ENTITY_DISABLED, text));
    }
    if forwards {
        let text = format!("A receiver cannot be created on '{path}', which forwards messages.");
        return Err(AmqpError::new(condition::NOT_ALLOWED, text));
    }
    let mode = match attach.snd_settle_mode {
        Some(SETTLED) => ReceiveMode::ReceiveAndDelete,
        _ => ReceiveMode::PeekLock,
    };
    match (wanted, has_sessions) {
        (Wanted::NoSession, false) => {}
        (Wanted::NoSession, true) => {
            let text = format!(
                "It is not possible for an entity that requires sessions, '{path}', to create a \
                 non-sessionful message receiver."
            );
            return Err(AmqpError::new(condition::NOT_ALLOWED, text));
        }
        (_, false) => {
            let text = format!(
                "A sessionful message receiver cannot be created on '{path}', which does not \
                 require sessions."
            );
            return Err(AmqpError::new(condition::NOT_ALLOWED, text));
        }
        (wanted, true) => return ask(cx, attach, queue, mode, &wanted),
    }
    let id = cx.id;
    let receiver = cx.with(|broker, _| broker.open_receiver(id, queue, mode));
    Ok(LinkKind::Outlet(Outlet { receiver, queue, mode, credit: 0, granted: 0, delivery_count: 0 }))
}
