//! The operations of an entity's `$management` node.
//!
//! <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-request-response>

use bytes::{Bytes, BytesMut};
use uuid::Uuid;

use super::context::Context;
use super::egress::settle_error;
use super::ingress::{refused, unacceptable};
use super::request::{Reply, Request};
use super::{rules, sessions};
use crate::amqp::{Value, condition};
use crate::broker::{Delivery, Entity, QueueId, ReceiveMode, Settlement, Timestamp};
use crate::limits::{
    BATCH_DELETE_MESSAGES_MAX, MANAGEMENT_ITEMS_MAX, PEEK_BYTES_MAX, PEEK_MESSAGES_MAX,
};
use crate::message::{DeliveryMode, Message, put_message};
use crate::server::access::Rights;

/// Either reply is an answer; the second kind ends an operation early.
pub(super) type Outcome = Result<Reply, Reply>;

/// Carries out one operation.
pub(super) fn answer(
    cx: &mut Context,
    entity: Entity,
    resource: &str,
    operation: &str,
    request: &Request,
) -> Reply {
    let name = operation.strip_prefix("com.microsoft:").unwrap_or(operation);
    let needed = match name {
        "schedule-message" | "cancel-scheduled-message" => Rights::SEND,
        _ => Rights::LISTEN,
    };
    if !cx.grants.allow(resource, needed, cx.now) {
        let text = format!(
            "Unauthorized access. '{}' claim(s) are required to perform this operation.",
            needed.name()
        );
        return Reply::error(401, condition::UNAUTHORIZED, text);
    }
    let queue = cx.with(|broker, _| broker.place(entity));
    let outcome = match name {
        "renew-lock" => renew_lock(cx, queue, &request.body),
        "peek-message" => peek(cx, queue, &request.body),
        "schedule-message" => schedule(cx, entity, &request.body),
        "cancel-scheduled-message" => cancel(cx, entity, &request.body),
        "receive-by-sequence-number" => receive_deferred(cx, queue, &request.body),
        "update-disposition" => update_disposition(cx, queue, &request.body),
        "batch-delete-messages" => delete_batch(cx, queue, &request.body),
        "add-rule" => rules::add(cx, entity, &request.body),
        "remove-rule" => rules::remove(cx, entity, &request.body),
        "enumerate-rules" => rules::enumerate(cx, entity, &request.body),
        "renew-session-lock" => sessions::renew(cx, queue, &request.body),
        "get-session-state" => sessions::state(cx, queue, &request.body),
        "set-session-state" => sessions::set_state(cx, queue, &request.body),
        "get-message-sessions" => sessions::list(cx, queue, &request.body),
        _ => {
            let text = format!("The operation '{operation}' is not implemented.");
            Err(Reply::error(501, condition::NOT_IMPLEMENTED, text))
        }
    };
    outcome.unwrap_or_else(|reply| reply)
}

pub(super) fn bad_request(text: impl Into<String>) -> Reply {
    Reply::error(400, condition::ARGUMENT_ERROR, text.into())
}

pub(super) fn field<'a>(body: &'a Value, name: &str) -> Result<&'a Value, Reply> {
    body.get(name).ok_or_else(|| bad_request(format!("The field '{name}' is missing.")))
}

fn items<'a>(body: &'a Value, name: &str) -> Result<&'a [Value], Reply> {
    let items = field(body, name)?.as_items();
    let items = items.ok_or_else(|| bad_request(format!("The field '{name}' is not a list.")))?;
    if items.len() > MANAGEMENT_ITEMS_MAX {
        let text = format!("The field '{name}' has more than {MANAGEMENT_ITEMS_MAX} items.");
        return Err(bad_request(text));
    }
    Ok(items)
}

/// Sequence numbers; the JavaScript client sends them as eight raw bytes.
fn sequences(body: &Value) -> Result<Vec<i64>, Reply> {
    let number = |item: &Value| match item {
        Value::Binary(bytes) => bytes.as_ref().try_into().ok().map(i64::from_be_bytes),
        other => other.as_i64(),
    };
    let numbers: Option<Vec<i64>> = items(body, "sequence-numbers")?.iter().map(number).collect();
    numbers.ok_or_else(|| bad_request("A sequence number is not a long."))
}

fn tokens(body: &Value) -> Result<Vec<Uuid>, Reply> {
    let token = |item: &Value| match item {
        Value::Uuid(token) => Some(*token),
        Value::Binary(bytes) => Uuid::from_slice(bytes).ok(),
        _ => None,
    };
    let tokens: Option<Vec<Uuid>> = items(body, "lock-tokens")?.iter().map(token).collect();
    tokens.ok_or_else(|| bad_request("A lock token is not a uuid."))
}

/// A body with one field.
pub(super) fn body(name: &str, value: Value) -> Value {
    Value::Map(vec![(Value::string(name), value)])
}

pub(super) fn lock_lost(error: crate::broker::SettleError) -> Reply {
    let error = settle_error(error);
    Reply {
        status: if error.condition == condition::NOT_ALLOWED { 400 } else { 410 },
        description: error.description.into(),
        condition: Some(error.condition),
        body: Value::Null,
    }
}

fn renew_lock(cx: &mut Context, queue: QueueId, request: &Value) -> Outcome {
    let tokens = tokens(request)?;
    if cx.with(|broker, _| broker.has_sessions(queue)) {
        let text = "The lock of a message in a session is the session's.";
        return Err(Reply::error(400, condition::NOT_ALLOWED, text));
    }
    let renewed = cx.with(|broker, now| broker.renew(now, queue, &tokens));
    let until = renewed.map_err(lock_lost)?;
    let until = until.into_iter().map(|at| Value::Timestamp(at.as_millis())).collect();
    Ok(Reply::ok(body("expirations", Value::Array(until))))
}

fn peek(cx: &mut Context, queue: QueueId, request: &Value) -> Outcome {
    let from = field(request, "from-sequence-number")?.as_i64().unwrap_or(0);
    let count = field(request, "message-count")?.as_i64().unwrap_or(0);
    let count = usize::try_from(count).unwrap_or(0);
    if count == 0 {
        return Err(bad_request("The message-count is not above zero."));
    }
    let without_body = request.get("omit-message-body") == Some(&Value::Bool(true));
    let count = count.min(PEEK_MESSAGES_MAX);
    let session = request.get("session-id").and_then(Value::as_text);
    let peeked = cx.with(|broker, now| broker.peek(now, queue, from, count, session));
    let mut bytes = 0;
    let mut messages = Vec::new();
    for delivery in &peeked {
        let message = encode(delivery, DeliveryMode::Peek { without_body });
        bytes += message.len();
        if bytes > PEEK_BYTES_MAX && !messages.is_empty() {
            break;
        }
        messages.push(body("message", Value::Binary(message)));
    }
    if messages.is_empty() {
        return Ok(Reply {
            condition: Some(condition::MESSAGE_NOT_FOUND.into()),
            description: "No messages".into(),
            status: 204,
            body: body("messages", Value::List(messages)),
        });
    }
    Ok(Reply::ok(body("messages", Value::List(messages))))
}

fn encode(delivery: &Delivery, mode: DeliveryMode) -> Bytes {
    let mut out = BytesMut::new();
    put_message(&mut out, delivery, mode);
    out.freeze()
}

fn schedule(cx: &mut Context, entity: Entity, request: &Value) -> Outcome {
    let mut messages = Vec::new();
    for item in items(request, "messages")? {
        let Value::Binary(encoded) = field(item, "message")? else {
            return Err(bad_request("A message to schedule is not binary."));
        };
        if encoded.len() as u64 > cx.hub.max_message_bytes {
            let text = "A message to schedule exceeds the maximum message size.";
            return Err(Reply::error(400, condition::MESSAGE_SIZE_EXCEEDED, text));
        }
        let message = Message::parse(encoded).map_err(|error| {
            let error = unacceptable(&error);
            Reply { condition: Some(error.condition), ..bad_request(error.description) }
        })?;
        if message.scheduled_for.is_none() {
            return Err(bad_request("A message to schedule has no scheduled enqueue time."));
        }
        messages.push(message);
    }
    let scheduled = cx.with(|broker, now| broker.schedule(now, entity, messages));
    let sequences = scheduled.map_err(|error| {
        let error = refused(&error);
        let status = if error.condition == condition::RESOURCE_LIMIT { 403 } else { 400 };
        let description = error.description.into();
        Reply { status, description, condition: Some(error.condition), body: Value::Null }
    })?;
    let sequences = sequences.into_iter().map(Value::Long).collect();
    Ok(Reply::ok(body("sequence-numbers", Value::Array(sequences))))
}

fn cancel(cx: &mut Context, entity: Entity, request: &Value) -> Outcome {
    let sequences = sequences(request)?;
    if cx.with(|broker, now| broker.cancel(now, entity, &sequences)) {
        Ok(Reply::ok(Value::Map(Vec::new())))
    } else {
        let text = "A message with this sequence number is not scheduled.";
        Err(Reply::error(404, condition::MESSAGE_NOT_FOUND, text))
    }
}

fn receive_deferred(cx: &mut Context, queue: QueueId, request: &Value) -> Outcome {
    let sequences = sequences(request)?;
    // The receiver's settle mode: 0 settles first, which deletes; 1 locks.
    let (mode, delivery_mode) =
        match request.get("receiver-settle-mode").and_then(Value::as_i64).unwrap_or(1) {
            0 => (ReceiveMode::ReceiveAndDelete, DeliveryMode::ReceiveAndDelete),
            _ => (ReceiveMode::PeekLock, DeliveryMode::PeekLock),
        };
    let session = request.get("session-id").and_then(Value::as_text);
    sessions::must_hold(cx, queue, session)?;
    let received =
        cx.with(|broker, now| broker.receive_deferred(now, queue, &sequences, mode, session));
    let Some(deliveries) = received else {
        let text = "A message with this sequence number is not deferred.";
        return Err(Reply::error(404, condition::MESSAGE_NOT_FOUND, text));
    };
    let messages = deliveries.iter().map(|delivery| {
        let message = Value::Binary(encode(delivery, delivery_mode));
        let mut fields = vec![(Value::string("message"), message)];
        if mode == ReceiveMode::PeekLock {
            fields.push((Value::string("lock-token"), Value::Uuid(delivery.token)));
        }
        Value::Map(fields)
    });
    Ok(Reply::ok(body("messages", Value::List(messages.collect()))))
}

fn update_disposition(cx: &mut Context, queue: QueueId, request: &Value) -> Outcome {
    let tokens = tokens(request)?;
    let text = |name| request.get(name).and_then(Value::as_text);
    let changes = match request.get("properties-to-modify") {
        Some(Value::Map(pairs)) => pairs.clone(),
        _ => Vec::new(),
    };
    let settlement = match text("disposition-status").unwrap_or_default() {
        "completed" => Settlement::Complete,
        "abandoned" => Settlement::Abandon { changes },
        // The protocol's own spelling.
        "defered" | "deferred" => Settlement::Defer { changes },
        "suspended" => Settlement::dead_letter(
            text("deadletter-reason"),
            text("deadletter-description"),
            changes,
        ),
        other => return Err(bad_request(format!("The disposition '{other}' is not known."))),
    };
    cx.with(|broker, now| {
        broker.advance(now);
        // All or none: a lock that is lost must not leave the others settled.
        if !tokens.iter().all(|token| broker.is_locked(queue, *token)) {
            return Err(broker.lock_lost(queue));
        }
        tokens.iter().try_for_each(|token| broker.settle(now, queue, *token, settlement.clone()))
    })
    .map_err(lock_lost)?;
    Ok(Reply::ok(Value::Map(Vec::new())))
}

fn delete_batch(cx: &mut Context, queue: QueueId, request: &Value) -> Outcome {
    let count = field(request, "message-count")?.as_i64().unwrap_or(0);
    let count = usize::try_from(count).unwrap_or(0).min(BATCH_DELETE_MESSAGES_MAX);
    let until = request.get("enqueued-time-utc").and_then(Value::as_i64);
    let until = until.map_or(cx.now, Timestamp::from_millis);
    let deleted = cx.with(|broker, now| broker.delete_batch(now, queue, count, until));
    let deleted = Value::Int(i32::try_from(deleted).unwrap_or(i32::MAX));
    let status = if deleted == Value::Int(0) { 204 } else { 200 };
    Ok(Reply { status, ..Reply::ok(body("message-count", deleted)) })
}
