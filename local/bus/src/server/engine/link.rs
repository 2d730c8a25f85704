//! The four kinds of links and what each keeps.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use crate::amqp::performative::Attach;
use crate::broker::{Delivery, Entity, QueueId, ReceiveMode, ReceiverId};
use crate::server::access::Rights;

/// A node that answers requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Node {
    Cbs,
    /// `$management` of an entity; `resource` is what a token must cover.
    Management {
        entity: Entity,
        resource: String,
    },
}

/// A transfer that has not arrived in full.
#[derive(Debug)]
pub(super) struct Partial {
    pub(super) delivery_id: u32,
    pub(super) format: u32,
    pub(super) settled: bool,
    pub(super) payload: Result<BytesMut, NotKept>,
}

/// Why what arrives of a delivery is passed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotKept {
    /// It exceeds the largest message.
    TooLarge,
    /// Too much else of this connection has not arrived in full.
    TooMuch,
}

/// A link on which the client sends: messages or requests.
#[derive(Debug)]
pub(super) struct Inlet {
    pub(super) to: Destination,
    pub(super) credit: u32,
    pub(super) credit_max: u32,
    /// Deliveries seen, the delivery-count of AMQP.
    pub(super) delivery_count: u32,
    pub(super) partial: Option<Partial>,
}

impl Inlet {
    /// Bytes kept of a delivery that has not arrived in full.
    pub(super) fn unfinished_bytes(&self) -> u64 {
        let kept = self.partial.as_ref().and_then(|partial| partial.payload.as_ref().ok());
        kept.map_or(0, |payload| payload.len() as u64)
    }
}

/// Where an inlet leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Destination {
    Entity(Entity),
    Node(Node),
}

/// A link on which the client receives messages.
#[derive(Debug)]
pub(super) struct Outlet {
    pub(super) receiver: ReceiverId,
    pub(super) queue: QueueId,
    pub(super) mode: ReceiveMode,
    pub(super) credit: u32,
    /// How much of the credit the broker was granted and has not used.
    pub(super) granted: u32,
    pub(super) delivery_count: u32,
}

/// A link on which the client receives replies.
#[derive(Debug)]
pub(super) struct ReplyLink {
    pub(super) node: Node,
    /// The client's own address for it.
    pub(super) target: Option<String>,
    pub(super) credit: u32,
    pub(super) delivery_count: u32,
    /// Replies without credit, encoded.
    pub(super) waiting: VecDeque<Bytes>,
}

/// A link on which the client will receive, once there is a session for it.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) attach: Attach,
    pub(super) receiver: ReceiverId,
    pub(super) queue: QueueId,
    pub(super) mode: ReceiveMode,
    /// Credit the client has given already.
    pub(super) credit: u32,
}

#[derive(Debug)]
pub(super) enum LinkKind {
    Inlet(Inlet),
    Outlet(Outlet),
    Replies(ReplyLink),
    /// A link that waits for a session; it is not answered yet.
    Pending(Box<Pending>),
    /// We have detached it; only the client's Detach is awaited.
    Detached,
}

#[derive(Debug)]
pub(super) struct Link {
    pub(super) name: String,
    /// What a token must cover, and allow; `None` for `$cbs`.
    pub(super) resource: Option<(String, Rights)>,
    pub(super) kind: LinkKind,
}

impl Link {
    /// The path of what it is attached to, normalised.
    pub(super) fn path(&self) -> Option<&str> {
        self.resource.as_ref().map(|(path, _)| path.as_str())
    }
}

/// A delivery on the wire that its receiver has not settled.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unsettled {
    pub(super) queue: QueueId,
    pub(super) token: Uuid,
}

/// What waits for the session window or for room in the output buffer.
#[derive(Debug)]
pub(super) enum Waiting {
    Message { handle: u32, delivery: Delivery },
    Reply { handle: u32, message: Bytes },
}

impl Waiting {
    pub(super) fn handle(&self) -> u32 {
        match self {
            Waiting::Message { handle, .. } | Waiting::Reply { handle, .. } => *handle,
        }
    }
}

/// A delivery of which some frames were sent.
#[derive(Debug)]
pub(super) struct Unfinished {
    pub(super) handle: u32,
    pub(super) rest: Bytes,
}
