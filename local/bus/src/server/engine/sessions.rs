//! The operations on sessions of an entity's `$management` node.
//!
//! <https://learn.microsoft.com/azure/service-bus-messaging/service-bus-amqp-request-response>

use super::context::Context;
use super::management::{Outcome, bad_request, body, field, lock_lost};
use super::request::Reply;
use crate::amqp::{Value, condition};
use crate::broker::{QueueId, SettleError, Timestamp};
use crate::limits::{MANAGEMENT_ITEMS_MAX, SESSION_STATE_BYTES_MAX};

/// Later than this, `last-updated-time` stands for "all sessions with messages": the end of the
/// year 9999 less a day, because clients round it in different ways.
const ALL_SESSIONS_MS: i64 = 253_402_214_400_000;

/// The session a request is about.
fn session_id(request: &Value) -> Result<&str, Reply> {
    let id = field(request, "session-id")?.as_text();
    id.ok_or_else(|| bad_request("The session-id is not a string."))
}

/// Where messages come by session, only whoever holds it may go on.
pub(super) fn must_hold(cx: &Context, queue: QueueId, session: Option<&str>) -> Result<(), Reply> {
    let (id, session) = (cx.id, session.unwrap_or_default());
    cx.with(|broker, _| match broker.has_sessions(queue) && !broker.holds(id, queue, session) {
        true => Err(lock_lost(SettleError::SessionLost)),
        false => Ok(()),
    })
}

fn with_sessions(cx: &Context, queue: QueueId) -> Result<(), Reply> {
    match cx.with(|broker, _| broker.has_sessions(queue)) {
        true => Ok(()),
        false => {
            let text = "The entity does not support sessions.";
            Err(Reply::error(400, condition::NOT_ALLOWED, text))
        }
    }
}

pub(super) fn renew(cx: &mut Context, queue: QueueId, request: &Value) -> Outcome {
    with_sessions(cx, queue)?;
    let session = session_id(request)?;
    must_hold(cx, queue, Some(session))?;
    let until = cx.with(|broker, now| broker.renew_session(now, queue, session));
    let until = until.map_err(lock_lost)?;
    Ok(Reply::ok(body("expiration", Value::Timestamp(until.as_millis()))))
}

pub(super) fn state(cx: &mut Context, queue: QueueId, request: &Value) -> Outcome {
    with_sessions(cx, queue)?;
    let session = session_id(request)?;
    must_hold(cx, queue, Some(session))?;
    let state = cx.with(|broker, now| broker.session_state(now, queue, session));
    let state = state.map_err(lock_lost)?;
    Ok(Reply::ok(body("session-state", state.map_or(Value::Null, Value::Binary))))
}

pub(super) fn set_state(cx: &mut Context, queue: QueueId, request: &Value) -> Outcome {
    with_sessions(cx, queue)?;
    let session = session_id(request)?;
    must_hold(cx, queue, Some(session))?;
    let state = match request.get("session-state") {
        None => None,
        // What is kept must not hold on to the request it came in.
        Some(Value::Binary(state)) => Some(bytes::Bytes::copy_from_slice(state)),
        Some(Value::String(state)) => Some(bytes::Bytes::copy_from_slice(state.as_bytes())),
        Some(_) => return Err(bad_request("The session-state is not binary.")),
    };
    if state.as_ref().is_some_and(|state| state.len() > SESSION_STATE_BYTES_MAX) {
        let text = format!("The session-state exceeds {SESSION_STATE_BYTES_MAX} bytes.");
        return Err(Reply::error(403, condition::RESOURCE_LIMIT, text));
    }
    let set = cx.with(|broker, now| broker.set_session_state(now, queue, session, state));
    set.map_err(lock_lost)?;
    Ok(Reply::ok(Value::Map(Vec::new())))
}

pub(super) fn list(cx: &mut Context, queue: QueueId, request: &Value) -> Outcome {
    with_sessions(cx, queue)?;
    let number = |name| {
        let number = request.get(name).and_then(Value::as_i64).unwrap_or(0);
        usize::try_from(number).unwrap_or(0)
    };
    let (skip, top) = (number("skip"), number("top").min(MANAGEMENT_ITEMS_MAX));
    let after = request.get("last-updated-time").and_then(Value::as_i64);
    let after = after.filter(|ms| *ms < ALL_SESSIONS_MS).map(Timestamp::from_millis);
    let names = cx.with(|broker, _| broker.session_names(queue, after));
    let page: Vec<Value> =
        names.iter().skip(skip).take(top).map(|name| Value::string(name)).collect();
    if page.is_empty() {
        let text = "No more sessions.";
        return Err(Reply::error(204, condition::SESSION_NOT_FOUND, text));
    }
    let skip = Value::Int(i32::try_from(skip + page.len()).unwrap_or(i32::MAX));
    Ok(Reply::ok(Value::Map(vec![
        (Value::string("skip"), skip),
        (Value::string("sessions-ids"), Value::Array(page)),
    ])))
}
