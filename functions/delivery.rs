//! One delivery of an event, read and judged: what is not an event that we know is poison, and
//! says why.
//!
//! The body decides. Metadata can be forged by a property of the body with the same name (the host
//! copies the one over the other), so an event that hides metadata we settle by is refused.

use handler::ServiceBusMessage;
use orders::event::SCHEMA_VERSION;
use orders::{CloudEvent, OrderId};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::verdict::Trouble;

/// Application properties of a delayed copy: whom it is for, the how-manieth copy it is, and the
/// message that it goes back to. See "Message contract" in `ARCHITECTURE.md`.
pub const TARGET: &str = "target";
/// See [`TARGET`].
pub const ATTEMPT: &str = "attempt";
/// See [`TARGET`].
pub const ORIGINAL_MESSAGE_ID: &str = "original_message_id";

/// Metadata that settling and retrying depend on.
const SETTLED_BY: [&str; 5] =
    ["ApplicationProperties", "DeliveryCount", "LockToken", "MessageId", "UserProperties"];

/// An event that was delivered to a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Delivery {
    /// The event.
    pub event: CloudEvent,
    /// The order it is about.
    pub order_id: OrderId,
    /// How often this event came back as a delayed copy: 0 for the original.
    pub attempt: u32,
    /// The message that every copy goes back to.
    pub origin: String,
}

impl Delivery {
    /// Reads a message of the topic.
    ///
    /// # Errors
    /// [`Trouble::Poison`] with the rule that the message breaks.
    pub fn of_message(message: &ServiceBusMessage) -> Result<Self, Trouble> {
        let (event, order_id) = read_event(message.body())?;
        let property = |name| message.application_property(name);
        let attempt = property(ATTEMPT).as_ref().and_then(whole).unwrap_or(0);
        // A replay names the message that it repeats too, but its own copies must go back to the
        // replay: ids of copies that were seen before would be taken for duplicates.
        let origin = match property(ORIGINAL_MESSAGE_ID) {
            Some(Value::String(id)) if attempt > 0 => id,
            _ => message.message_id().unwrap_or_else(|| event.id.clone()),
        };
        Ok(Self { event, order_id, attempt, origin })
    }

    /// Reads what [`Delivery`] itself serialises to: the payment in its queue.
    ///
    /// # Errors
    /// [`Trouble::Poison`] with the rule that the text breaks.
    pub fn of_queue_text(text: &str) -> Result<Self, Trouble> {
        let value: Value = serde_json::from_str(text)
            .map_err(|error| Trouble::poison("not-json", error.to_string()))?;
        read_event(value["event"].to_string().as_bytes())?;
        serde_json::from_value(value)
            .map_err(|error| Trouble::poison("not-a-payment", error.to_string()))
    }
}

/// A number that older clients may have written as text.
fn whole(value: &Value) -> Option<u32> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    u32::try_from(number).ok()
}

/// The event in a body. The version is judged before the shape, which may have changed with it.
fn read_event(body: &[u8]) -> Result<(CloudEvent, OrderId), Trouble> {
    let value: Value = serde_json::from_slice(body)
        .map_err(|error| Trouble::poison("not-json", format!("the body is no JSON: {error}")))?;
    let members = value
        .as_object()
        .ok_or_else(|| Trouble::poison("not-a-cloudevent", "the body is no JSON object"))?;
    let hides = |name: &&String| SETTLED_BY.iter().any(|known| known.eq_ignore_ascii_case(name));
    if let Some(name) = members.keys().find(hides) {
        let why = format!("property {name} of the event hides the broker's");
        return Err(Trouble::poison("forged-metadata", why));
    }
    if members.get("specversion").and_then(Value::as_str) != Some("1.0") {
        return Err(Trouble::poison("not-a-cloudevent", "specversion is not 1.0"));
    }
    match members.get("schemaversion").and_then(Value::as_u64) {
        Some(version) if version == u64::from(SCHEMA_VERSION) => {}
        Some(version) => {
            let why = format!("schema version {version} is not known here");
            return Err(Trouble::poison("unknown-schema-version", why));
        }
        None => return Err(Trouble::poison("not-a-cloudevent", "schemaversion is no number")),
    }
    let event: CloudEvent = serde_json::from_value(value)
        .map_err(|error| Trouble::poison("not-a-cloudevent", error.to_string()))?;
    let order_id = event
        .subject
        .parse()
        .map_err(|_| Trouble::poison("invalid-subject", "the event's subject is no order id"))?;
    Ok((event, order_id))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const ORDER: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn event() -> Value {
        json!({
            "specversion": "1.0", "id": format!("event:{ORDER}:1"), "source": "/bulkhead/orders",
            "type": "order.created", "subject": ORDER, "time": "2026-03-01T10:00:00Z",
            "datacontenttype": "application/json", "schemaversion": 1, "correlationid": "c",
            "data": {},
        })
    }

    fn judge(body: &Value) -> Result<Delivery, &'static str> {
        Delivery::of_message(&ServiceBusMessage::new(body.to_string())).map_err(|trouble| {
            match trouble {
                Trouble::Poison { reason, .. } => reason,
                other => panic!("{other:?}"),
            }
        })
    }

    #[test]
    fn each_kind_of_poison_has_its_reason() {
        assert_eq!(judge(&event()).unwrap().attempt, 0);
        let with = |name: &str, value: Value| {
            let mut event = event();
            event[name] = value;
            judge(&event).unwrap_err()
        };
        assert_eq!(with("specversion", json!("0.3")), "not-a-cloudevent");
        assert_eq!(with("schemaversion", json!(2)), "unknown-schema-version");
        assert_eq!(with("schemaversion", json!("one")), "not-a-cloudevent");
        assert_eq!(with("type", json!("order.exploded")), "not-a-cloudevent");
        assert_eq!(with("subject", json!("7")), "invalid-subject");
        assert_eq!(with("time", json!(7)), "not-a-cloudevent");
        assert_eq!(with("MessageId", json!("forged")), "forged-metadata");
        assert_eq!(with("deliverycount", json!(99)), "forged-metadata");
        assert_eq!(judge(&json!([1])).unwrap_err(), "not-a-cloudevent");
        let text = Delivery::of_message(&ServiceBusMessage::new("{"));
        assert!(matches!(text, Err(Trouble::Poison { reason: "not-json", .. })));
    }

    #[test]
    fn a_payment_reads_back_as_it_was_written() {
        let delivery = judge(&event()).unwrap();
        let text = serde_json::to_string(&delivery).unwrap();
        assert_eq!(Delivery::of_queue_text(&text).unwrap(), delivery);
        for bad in ["", "7", "{}", r#"{"event":{}}"#] {
            assert!(matches!(Delivery::of_queue_text(bad), Err(Trouble::Poison { .. })), "{bad}");
        }
        let mut other = serde_json::to_value(&delivery).unwrap();
        other["event"]["schemaversion"] = json!(9);
        let judged = Delivery::of_queue_text(&other.to_string());
        assert!(matches!(judged, Err(Trouble::Poison { reason: "unknown-schema-version", .. })));
    }
}
