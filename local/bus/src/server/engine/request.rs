//! Requests to `$cbs` and `$management`: who answers, and how a reply finds its way back.
//!
//! <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-request-response>

use std::borrow::Cow;

use bytes::{Bytes, BytesMut};

use super::context::Context;
use super::link::{LinkKind, Node, Waiting};
use super::management;
use super::session::Session;
use crate::amqp::encode::put_value;
use crate::amqp::sections::{Sections, map_section, value_body};
use crate::amqp::{AmqpError, Reader, Value, condition, value};
use crate::limits::{REPLIES_WAITING_BYTES_MAX, REPLIES_WAITING_MAX};

/// A request as a node sees it.
pub(super) struct Request {
    /// Repeated in the reply with its type: Python uses a uuid, .NET a ulong, JavaScript a string.
    message_id: Value,
    reply_to: Option<String>,
    properties: Vec<(Value, Value)>,
    /// The value of the body, null if it has none.
    pub(super) body: Value,
}

/// A node's answer.
pub(super) struct Reply {
    pub(super) status: i32,
    pub(super) description: Cow<'static, str>,
    pub(super) condition: Option<Cow<'static, str>>,
    pub(super) body: Value,
}

impl Reply {
    pub(super) fn ok(body: Value) -> Reply {
        Reply { status: 200, description: "OK".into(), condition: None, body }
    }

    pub(super) fn error(
        status: i32,
        condition: &'static str,
        description: impl Into<Cow<'static, str>>,
    ) -> Reply {
        let (description, condition) = (description.into(), Some(condition.into()));
        Reply { status, description, condition, body: Value::Null }
    }
}

impl Request {
    fn parse(payload: &Bytes) -> Result<Request, AmqpError> {
        let malformed = |error| AmqpError::new(condition::DECODE_ERROR, format!("{error}"));
        let sections = Sections::split(payload).map_err(malformed)?;
        let mut message_id = Value::Null;
        let mut reply_to = None;
        if !sections.properties.is_empty() {
            let mut reader = Reader::new(&sections.properties);
            let (_, mut fields) = reader.composite(&[]).map_err(malformed)?;
            message_id = fields.next().map_err(malformed)?.unwrap_or(Value::Null);
            for _user_id_to_subject in 0..3 {
                fields.skip().map_err(malformed)?;
            }
            reply_to = fields.next().map_err(malformed)?;
        }
        Ok(Request {
            message_id,
            reply_to,
            properties: map_section(&sections.application).map_err(malformed)?,
            body: value_body(&sections.body).map_err(malformed)?.unwrap_or(Value::Null),
        })
    }

    /// An application property.
    pub(super) fn property(&self, name: &str) -> Option<&Value> {
        value::get(&self.properties, name)
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.property(name).and_then(Value::as_text)
    }
}

impl Session {
    /// Answers one request. An error is of the delivery; what a node has to say goes into a reply.
    pub(super) fn on_request(
        &mut self,
        cx: &mut Context,
        handle: u32,
        node: &Node,
        payload: &Bytes,
    ) -> Result<(), AmqpError> {
        let request = Request::parse(payload)?;
        let operation = request.text("operation").unwrap_or_default();
        let (reply, status_key, description_key) = match node {
            Node::Cbs => (put_token(cx, operation, &request), "status-code", "status-description"),
            Node::Management { entity, resource } => (
                management::answer(cx, *entity, resource, operation, &request),
                "statusCode",
                "statusDescription",
            ),
        };
        let mut properties = vec![
            (Value::string(status_key), Value::Int(reply.status)),
            (Value::string(description_key), Value::String(reply.description.into_owned())),
        ];
        if let Some(condition) = reply.condition {
            properties.push((Value::string("errorCondition"), Value::symbol(&condition)));
        }
        let tracking = "com.microsoft:tracking-id";
        if let Some(id) = request.property(tracking) {
            properties.push((Value::string(tracking), id.clone()));
        }
        // message-id, user-id, to, subject, reply-to, correlation-id.
        let mut fields = vec![Value::Null; 5];
        fields.push(request.message_id.clone());
        let mut out = BytesMut::new();
        put_value(&mut out, &Value::described(0x73, Value::List(fields)));
        put_value(&mut out, &Value::described(0x74, Value::Map(properties)));
        put_value(&mut out, &Value::described(0x77, reply.body));
        self.reply(cx, handle, node, request.reply_to.as_deref(), out.freeze())
    }

    /// Hands a reply to the link the client listens on: of the same node, preferably the one that
    /// `reply-to` names.
    fn reply(
        &mut self,
        cx: &mut Context,
        request_handle: u32,
        node: &Node,
        reply_to: Option<&str>,
        message: Bytes,
    ) -> Result<(), AmqpError> {
        let name = self.links.get(&request_handle).map(|link| link.name.clone());
        let rank = |link: &super::link::Link| match &link.kind {
            LinkKind::Replies(replies) if replies.node == *node => {
                let named = reply_to.is_some()
                    && (replies.target.as_deref() == reply_to || reply_to == Some(&link.name));
                Some((named, Some(&link.name) == name.as_ref()))
            }
            _ => None,
        };
        let best = self
            .links
            .iter()
            .filter_map(|(handle, link)| Some((rank(link)?, *handle)))
            .max_by_key(|(rank, handle)| (*rank, std::cmp::Reverse(*handle)));
        let Some((_, handle)) = best else {
            let text = "There is no link on this session to send the reply on.";
            return Err(AmqpError::new(condition::NOT_ALLOWED, text));
        };
        if let Some(LinkKind::Replies(replies)) =
            self.links.get_mut(&handle).map(|link| &mut link.kind)
        {
            let bytes = cx.reply_bytes + message.len();
            if replies.waiting.len() >= REPLIES_WAITING_MAX || bytes > REPLIES_WAITING_BYTES_MAX {
                let text = "Too many replies wait for link credit.";
                return Err(AmqpError::new(condition::RESOURCE_LIMIT, text));
            }
            cx.reply_bytes = bytes;
            replies.waiting.push_back(message);
        }
        self.flush_replies(cx, handle);
        Ok(())
    }

    /// Sends replies as far as the client has given credit.
    pub(super) fn flush_replies(&mut self, cx: &mut Context, handle: u32) {
        if let Some(LinkKind::Replies(replies)) =
            self.links.get_mut(&handle).map(|link| &mut link.kind)
        {
            while replies.credit > 0 {
                let Some(message) = replies.waiting.pop_front() else { break };
                replies.credit -= 1;
                replies.delivery_count = replies.delivery_count.wrapping_add(1);
                self.waiting.push_back(Waiting::Reply { handle, message });
            }
        }
        self.pump(cx);
    }
}

/// `put-token`: remembers that this connection may use the audience.
fn put_token(cx: &mut Context, operation: &str, request: &Request) -> Reply {
    if operation != "put-token" {
        return Reply::error(400, condition::NOT_ALLOWED, "The operation is not put-token.");
    }
    let (Some(audience), Some(token)) = (request.text("name"), request.body.as_text()) else {
        let text = "A put-token request has a name and a token.";
        return Reply::error(400, condition::INVALID_FIELD, text);
    };
    let rules = |path: &str| cx.hub.with(None, |broker| broker.access_rules(path));
    match cx.hub.keys.verify(token, audience, None, cx.now, rules) {
        Ok((expires_at, rights)) => {
            cx.grants.add(audience, rights, expires_at);
            Reply { description: "Accepted".into(), status: 202, ..Reply::ok(Value::Null) }
        }
        Err(error) => {
            tracing::info!(%audience, %error, "token refused");
            // The last claim counts: what an earlier one allowed is over.
            cx.claim_failed |= cx.grants.revoke(audience);
            Reply::error(401, condition::UNAUTHORIZED, format!("InvalidSignature: {error}."))
        }
    }
}
