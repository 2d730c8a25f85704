//! Messages: put, get, peek, update, delete, clear.

use bytes::Bytes;
use http::{HeaderName, StatusCode};
use uuid::Uuid;
use xml::Element;

use super::State;
use super::reply::{Answer, Refusal, Reply};
use super::request::Request;
use crate::date;
use crate::limits::{
    DEFAULT_TTL_SECONDS, DEFAULT_VISIBILITY_SECONDS, MAX_MESSAGE_BYTES, MAX_MESSAGES_PER_REQUEST,
    MAX_TTL_SECONDS, MAX_VISIBILITY_SECONDS, XML_BOUNDS,
};
use crate::store::{Message, Receipt, StoreError};

/// Put Message.
pub(super) fn put(
    state: &State,
    request: &Request,
    queue: &str,
    body: &Bytes,
    now_ms: u64,
) -> Answer {
    let visibility = request.number("visibilitytimeout", 0..=MAX_VISIBILITY_SECONDS)?;
    let ttl = match request.parameter("messagettl") {
        Some("-1") => None,
        // Azurite does not call it out of range.
        Some("0") => return Err(Refusal::invalid_parameter("messagettl", "0")),
        _ => {
            Some(request.number("messagettl", 1..=MAX_TTL_SECONDS)?.unwrap_or(DEFAULT_TTL_SECONDS))
        }
    };
    let text = text_of(body)?;
    let message = state.store().put(queue, &text, visibility.unwrap_or(0), ttl, now_ms)?;
    Ok(Reply::xml(StatusCode::CREATED, list([&message], &[Part::Receipt])))
}

/// Get Messages.
pub(super) fn get(state: &State, request: &Request, queue: &str, now_ms: u64) -> Answer {
    let count = request.count("numofmessages", MAX_MESSAGES_PER_REQUEST, 1)?;
    let visibility = request.number("visibilitytimeout", 1..=MAX_VISIBILITY_SECONDS)?;
    let visibility = visibility.unwrap_or(DEFAULT_VISIBILITY_SECONDS);
    let messages = state.store().take(queue, count, visibility, now_ms)?;
    Ok(Reply::xml(StatusCode::OK, list(&messages, &[Part::Receipt, Part::Content])))
}

/// Peek Messages.
pub(super) fn peek(state: &State, request: &Request, queue: &str, now_ms: u64) -> Answer {
    let count = request.count("numofmessages", MAX_MESSAGES_PER_REQUEST, 1)?;
    let store = state.store();
    let messages = store.queue(queue, now_ms)?.visible(now_ms).take(count);
    Ok(Reply::xml(StatusCode::OK, list(messages, &[Part::Content])))
}

/// Clear Messages.
pub(super) fn clear(state: &State, queue: &str, now_ms: u64) -> Answer {
    state.store().clear(queue, now_ms)?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// Update Message. Without a body only the visibility changes.
pub(super) fn update(
    state: &State,
    request: &Request,
    queue: &str,
    id: &str,
    body: &Bytes,
    now_ms: u64,
) -> Answer {
    let held = held(request, id)?;
    request.required("visibilitytimeout")?;
    let visibility = request.number("visibilitytimeout", 0..=MAX_VISIBILITY_SECONDS)?;
    let text = if body.is_empty() { None } else { Some(text_of(body)?) };
    let visibility = visibility.unwrap_or_default();
    let message = state.store().update(queue, held, visibility, text.as_deref(), now_ms)?;
    let (receipt, visible) = ("x-ms-popreceipt", "x-ms-time-next-visible");
    Ok(Reply::empty(StatusCode::NO_CONTENT)
        .header(HeaderName::from_static(receipt), message.receipt)
        .header(HeaderName::from_static(visible), date::rfc1123(message.visible_at_ms)))
}

/// Delete Message.
pub(super) fn delete(
    state: &State,
    request: &Request,
    queue: &str,
    id: &str,
    now_ms: u64,
) -> Answer {
    state.store().delete(queue, held(request, id)?, now_ms)?;
    Ok(Reply::empty(StatusCode::NO_CONTENT))
}

/// The message that a client says it holds.
fn held(request: &Request, id: &str) -> Result<(Uuid, Receipt), Refusal> {
    let name = "popreceipt";
    let receipt = request.required(name)?;
    let receipt = Receipt::parse(receipt).map_err(|_| Refusal::invalid_parameter(name, receipt))?;
    // Ids are ours: what is no id was never the id of a message.
    let id = Uuid::parse_str(id).map_err(|_| StoreError::MessageNotFound)?;
    Ok((id, receipt))
}

/// The text in the body of a put or an update.
fn text_of(body: &Bytes) -> Result<String, Refusal> {
    let mut root = Element::parse(body, XML_BOUNDS)?;
    if root.name != "QueueMessage" {
        return Err(Refusal::missing_xml_node("QueueMessage"));
    }
    let text = root.children.iter_mut().find(|child| child.name == "MessageText");
    let text = text.ok_or(Refusal::missing_xml_node("MessageText"))?;
    if !text.children.is_empty() {
        return Err(Refusal::xml_node("MessageText"));
    }
    if text.text.len() > MAX_MESSAGE_BYTES {
        return Err(Refusal::too_large());
    }
    Ok(std::mem::take(&mut text.text))
}

/// What a listing says about a message besides its id and its times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Receipt,
    Content,
}

fn list<'a>(messages: impl IntoIterator<Item = &'a Message>, parts: &[Part]) -> String {
    let messages = messages.into_iter().map(|message| {
        let expires = date::rfc1123(message.expires_at_ms.unwrap_or(u64::MAX));
        let mut elements = vec![
            Element::text("MessageId", message.id.to_string()),
            Element::text("InsertionTime", date::rfc1123(message.inserted_at_ms)),
            Element::text("ExpirationTime", expires),
        ];
        if parts.contains(&Part::Receipt) {
            elements.extend([
                Element::text("PopReceipt", message.receipt.to_string()),
                Element::text("TimeNextVisible", date::rfc1123(message.visible_at_ms)),
            ]);
        }
        if parts.contains(&Part::Content) {
            elements.extend([
                Element::text("DequeueCount", message.dequeue_count.to_string()),
                Element::text("MessageText", &*message.text),
            ]);
        }
        Element::of("QueueMessage", elements)
    });
    Element::of("QueueMessagesList", messages.collect()).document()
}
