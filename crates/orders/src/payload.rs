//! Whether an event is what its JSON Schema (`docs/events/`) says: for events that a person has
//! edited. Consumers ask for less; they read the order, and of its event only what names it.
//!
//! Attributes and members that the schema does not know are allowed, as within every version.

use serde::Deserialize;
use serde_json::Value;

use crate::event::{CloudEvent, DATA_CONTENT_TYPE, EventType, SOURCE, event_id};
use crate::limits::{ITEMS_MAX, QUANTITY_MAX, TOTAL_MINOR_MAX, UNIT_PRICE_MINOR_MAX};
use crate::order::Line;
use crate::{Currency, CustomerId, FieldError, OrderId, Timestamp};

/// Characters of a correlation id.
const CORRELATION_ID_CHARS_MAX: usize = 128;

/// What every event says about its order.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct About {
    order_id: OrderId,
    #[serde(rename = "customerId")]
    _customer_id: CustomerId,
    #[serde(rename = "currency")]
    _currency: Currency,
    total_minor: u64,
}

/// What `order.created` says besides.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Created {
    items: Vec<Line>,
    #[serde(rename = "createdAt")]
    _created_at: Timestamp,
}

/// Complains about the first place where an event breaks its schema.
///
/// # Errors
/// The place, as a pointer into the event, and what is wrong there.
pub fn check(event: &CloudEvent) -> Result<(), FieldError> {
    let wrong = |pointer: &str, why: String| Err(FieldError::new(pointer, "schema", why));
    for (pointer, found, wanted) in [
        ("/source", &event.source, SOURCE),
        ("/datacontenttype", &event.datacontenttype, DATA_CONTENT_TYPE),
    ] {
        if found != wanted {
            return wrong(pointer, format!("must be {wanted}"));
        }
    }
    if !(1..=CORRELATION_ID_CHARS_MAX).contains(&event.correlationid.chars().count()) {
        let why = format!("must have 1 to {CORRELATION_ID_CHARS_MAX} characters");
        return wrong("/correlationid", why);
    }
    if event.traceparent.as_deref().is_some_and(|text| !is_traceparent(text)) {
        return wrong("/traceparent", "must be a W3C trace context".to_owned());
    }
    // A list in the order of the members would do for the types below.
    let lines = event.data.get("items").and_then(Value::as_array);
    let lines_are_objects = lines.is_none_or(|lines| lines.iter().all(Value::is_object));
    if !event.data.is_object() || !lines_are_objects {
        return wrong("/data", "must be an object, and so must each of its items".to_owned());
    }
    let about = match About::deserialize(&event.data) {
        Ok(about) => about,
        Err(error) => return wrong("/data", error.to_string()),
    };
    if event.subject != about.order_id.to_string() {
        return wrong("/data/orderId", "must be the subject".to_owned());
    }
    let id = event_id(about.order_id, event.event_type.sequence());
    if event.id != id {
        return wrong("/id", format!("must be {id}"));
    }
    if about.total_minor > TOTAL_MINOR_MAX {
        return wrong("/data/totalMinor", format!("must be at most {TOTAL_MINOR_MAX}"));
    }
    reason(event).or_else(|why| wrong("/data/reason", why))?;
    if event.event_type == EventType::OrderCreated {
        let created = match Created::deserialize(&event.data) {
            Ok(created) => created,
            Err(error) => return wrong("/data", error.to_string()),
        };
        if !(1..=ITEMS_MAX).contains(&created.items.len()) {
            return wrong("/data/items", format!("must have 1 to {ITEMS_MAX} entries"));
        }
        for (index, line) in created.items.iter().enumerate() {
            let pointer = |name: &str| format!("/data/items/{index}/{name}");
            if !(1..=QUANTITY_MAX).contains(&line.quantity) {
                return wrong(
                    &pointer("quantity"),
                    format!("must be between 1 and {QUANTITY_MAX}"),
                );
            }
            if line.unit_price_minor > UNIT_PRICE_MINOR_MAX {
                let why = format!("must be at most {UNIT_PRICE_MINOR_MAX}");
                return wrong(&pointer("unitPriceMinor"), why);
            }
        }
    }
    Ok(())
}

/// Why the order unwinds or ended, of the kinds of events that say so.
fn reason(event: &CloudEvent) -> Result<(), String> {
    const UNDONE: &[&str] = &["inventory: out_of_stock", "billing: payment_declined"];
    let (known, required): (&[&str], bool) = match event.event_type {
        EventType::InventoryRejected => (&["out_of_stock"], true),
        EventType::BillingFailed => (&["payment_declined"], true),
        EventType::OrderFailed => (UNDONE, true),
        EventType::OrderCancelled => (UNDONE, false),
        EventType::OrderCreated | EventType::OrderCancelRequested | EventType::OrderCompleted => {
            return Ok(());
        }
    };
    match event.data.get("reason") {
        None if !required => Ok(()),
        Some(Value::String(reason)) if known.contains(&reason.as_str()) => Ok(()),
        _ => Err(format!("must be {}", known.join(" or "))),
    }
}

/// `00-<32 hexadecimal digits>-<16>-<2>`, in lower case.
fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let hexadecimal = |part: &str| part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    parts.iter().map(|part| part.len()).eq([2, 32, 16, 2])
        && parts[0] == "00"
        && parts.iter().all(|part| hexadecimal(part))
}
