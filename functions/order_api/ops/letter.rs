//! A dead letter, wherever it lies: what it says, why it is there, and what its replay is.
//!
//! A message of the poison queue holds a delivery of billing, wrapped with a reason by the app that
//! gave up on it, or bare when the host did after the last dequeue. It is shown and replayed as
//! the message of the topic that it once was. Storage queues know no sequence numbers, so the
//! number of such a letter is made from the id that the service gave it.

use azure::bus::{Message, MessageState, PropertyValue, Received};
use azure::queue::Shown;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use handler::ServiceBusMessage;
use orders::replay::Lineage;
use orders::{OrderId, Timestamp};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::source::Source;
use crate::delivery::{ATTEMPT, Delivery, ORIGINAL_MESSAGE_ID, TARGET};
use crate::publisher;
use crate::verdict::Trouble;

/// Application property with the number of replays so far.
pub(super) const REPLAY_COUNT: &str = "replay_count";

/// Reason of what the host moved to the poison queue by itself.
const DEQUEUED_TOO_OFTEN: &str = "MaxDequeueCountExceeded";

/// Numbers of poison letters stay below this: every JSON reader keeps them exactly.
const POISON_NUMBER_BITS: u32 = 53;

/// One dead letter.
#[derive(Clone, Debug)]
pub(super) struct Letter {
    /// Its number: the sequence number in the dead-letter queue.
    pub(super) number: i64,
    /// The message.
    pub(super) message: Message,
    /// Why it is here.
    pub(super) reason: Option<String>,
    /// For people.
    pub(super) description: Option<String>,
    /// Failed deliveries, or dequeues of the poison queue.
    pub(super) delivery_count: u32,
    /// When the broker got the message.
    pub(super) enqueued_at: Option<Timestamp>,
    /// Somebody has put it aside: only its number leads to it.
    pub(super) deferred: bool,
}

impl Letter {
    /// The letter that the broker showed or delivered.
    pub(super) fn of_topic(received: Received) -> Self {
        Self {
            number: received.sequence_number,
            reason: received.dead_letter_reason,
            description: received.dead_letter_description,
            delivery_count: received.delivery_count,
            enqueued_at: received.enqueued_at.map(Timestamp::new),
            deferred: received.state == MessageState::Deferred,
            message: received.message,
        }
    }

    /// The letter that a message of the poison queue is.
    pub(super) fn of_poison(shown: &Shown) -> Self {
        let bytes = BASE64.decode(&shown.text).unwrap_or_else(|_| shown.text.clone().into_bytes());
        let Unwrapped { text, reason, description } = unwrap(&bytes);
        let message = match Delivery::of_queue_text(&text) {
            Ok(delivery) => publisher::message(&delivery.event, &delivery.origin),
            Err(_) => Message { message_id: Some(shown.id.clone()), ..Message::new(text) },
        };
        Self {
            number: poison_number(&shown.id),
            message,
            reason: Some(reason),
            description,
            delivery_count: shown.dequeue_count,
            enqueued_at: shown.inserted_at.map(Timestamp::new),
            deferred: false,
        }
    }

    /// The message's own id.
    pub(super) fn message_id(&self) -> &str {
        self.message.message_id.as_deref().unwrap_or_default()
    }

    /// The event in it, if it can be read.
    pub(super) fn event(&self) -> Result<Delivery, Trouble> {
        read(&String::from_utf8_lossy(&self.message.body))
    }

    /// The order that it is about: as a property, which is there without the body, or as the body
    /// says.
    pub(super) fn order_id(&self) -> Option<OrderId> {
        let named = self.text("order_id").and_then(|text| text.parse().ok());
        named.or_else(|| self.event().ok().map(|delivery| delivery.order_id))
    }

    /// Where it comes from.
    pub(super) fn lineage(&self) -> Lineage {
        let count = match self.message.application_properties.get(REPLAY_COUNT) {
            Some(PropertyValue::Long(count)) => u32::try_from(*count).unwrap_or(u32::MAX),
            _ => 0,
        };
        Lineage::of(self.message_id(), self.text(ORIGINAL_MESSAGE_ID), count)
    }

    /// A property that is text.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        match self.message.application_properties.get(name)? {
            PropertyValue::String(text) => Some(text),
            _ => None,
        }
    }

    /// The replay `count` of this letter: a new message, for one subscription alone. An edited
    /// event takes the place of the original with everything that follows from it.
    pub(super) fn replay(&self, source: Source, count: u32, edited: Option<&Delivery>) -> Message {
        let lineage = self.lineage();
        let id = lineage.message_id(source.name(), self.number, count);
        let mut message = match edited {
            Some(delivery) => publisher::message(&delivery.event, &id),
            None => self.message.clone(),
        };
        message.message_id = Some(id);
        // The topic's own limits apply to the new message.
        message.scheduled_enqueue_time = None;
        message.time_to_live = None;
        // A fresh start: its delayed copies are counted from zero, and go back to it.
        message.application_properties.remove(ATTEMPT);
        message
            .with_property(TARGET, source.target())
            .with_property(ORIGINAL_MESSAGE_ID, lineage.root)
            .with_property(REPLAY_COUNT, count)
    }

    /// The body as JSON or text; `encoding` says which, or `base64` for what is neither.
    pub(super) fn body(&self) -> (Value, &'static str) {
        let body = &self.message.body;
        if let Ok(value) = serde_json::from_slice(body) {
            return (value, "json");
        }
        match std::str::from_utf8(body) {
            Ok(text) => (text.into(), "text"),
            Err(_) => (BASE64.encode(body).into(), "base64"),
        }
    }

    /// The application properties.
    pub(super) fn properties(&self) -> Map<String, Value> {
        let properties = self.message.application_properties.iter();
        properties.map(|(name, value)| (name.clone(), plain(value))).collect()
    }
}

/// Reads an event as its consumers do.
pub(super) fn read(text: &str) -> Result<Delivery, Trouble> {
    Delivery::of_message(&ServiceBusMessage::new(text))
}

/// What the apps or the host put into the poison queue.
struct Unwrapped {
    text: String,
    reason: String,
    description: Option<String>,
}

fn unwrap(bytes: &[u8]) -> Unwrapped {
    let text = String::from_utf8_lossy(bytes).into_owned();
    let wrapped: Option<Map<String, Value>> = serde_json::from_str(&text).ok();
    let of = |name: &str| wrapped.as_ref()?.get(name)?.as_str().map(str::to_owned);
    match (of("reason"), wrapped.as_ref().and_then(|wrapped| wrapped.get("message"))) {
        (Some(reason), Some(message)) => {
            let text = message.as_str().map_or_else(|| message.to_string(), str::to_owned);
            Unwrapped { text, reason, description: of("description") }
        }
        _ => Unwrapped { text, reason: DEQUEUED_TOO_OFTEN.to_owned(), description: None },
    }
}

/// A number for a message of a Storage queue.
fn poison_number(id: &str) -> i64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&Sha256::digest(id.as_bytes())[..8]);
    let number = u64::from_be_bytes(bytes) >> (u64::BITS - POISON_NUMBER_BITS);
    i64::try_from(number).unwrap_or_default()
}

fn plain(value: &PropertyValue) -> Value {
    match value {
        PropertyValue::Null => Value::Null,
        PropertyValue::Bool(value) => json!(value),
        PropertyValue::Long(value) => json!(value),
        PropertyValue::Double(value) => json!(value),
        PropertyValue::String(value) => json!(value),
        PropertyValue::Uuid(value) => json!(value.to_string()),
        PropertyValue::Timestamp(value) => json!(Timestamp::new(*value)),
        PropertyValue::Bytes(value) => json!(BASE64.encode(value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ORDER: &str = "01890a5d-ac96-774b-bcce-b302099a8057";

    fn event() -> Value {
        json!({
            "specversion": "1.0", "id": format!("event:{ORDER}:1"), "source": "/bulkhead/orders",
            "type": "order.created", "subject": ORDER, "time": "2026-03-01T10:00:00Z",
            "datacontenttype": "application/json", "schemaversion": 1, "correlationid": "c",
            "data": {"totalMinor": 1},
        })
    }

    fn letter() -> Letter {
        let delivery = read(&event().to_string()).unwrap();
        let message = publisher::message(&delivery.event, &format!("event:{ORDER}:1"))
            .with_property("traceparent", "00-a-b-01")
            .with_property("tenant", "x")
            .with_property(ATTEMPT, 4);
        Letter {
            number: 7,
            message: Message { time_to_live: Some(std::time::Duration::from_secs(1)), ..message },
            reason: None,
            description: None,
            delivery_count: 3,
            enqueued_at: None,
            deferred: false,
        }
    }

    #[test]
    fn a_replay_is_a_new_message_for_one_subscription_that_keeps_what_the_old_one_said() {
        let letter = letter();
        let replay = letter.replay(Source::ALL[1], 1, None);
        let id = format!("event:{ORDER}:1#billing-sub.7#r1");
        assert_eq!(replay.message_id.as_deref(), Some(&id[..]));
        assert_eq!(replay.body, letter.message.body);
        assert_eq!((replay.correlation_id.as_deref(), replay.time_to_live), (Some("c"), None));
        let properties = Letter { message: replay, ..letter.clone() }.properties();
        assert_eq!(
            Value::Object(properties),
            json!({
                "event_type": "order.created", "order_id": ORDER, "correlation_id": "c",
                "schema_version": 1, "traceparent": "00-a-b-01", "tenant": "x",
                "target": "billing-sub", "original_message_id": format!("event:{ORDER}:1"),
                "replay_count": 1,
            })
        );
        let mut changed = event();
        changed["data"]["totalMinor"] = 2.into();
        let edited = read(&changed.to_string()).unwrap();
        let replay = letter.replay(Source::Poison, 2, Some(&edited));
        let replayed = Letter { message: replay, ..letter };
        assert_eq!(replayed.body().0["data"]["totalMinor"], 2);
        assert_eq!(replayed.text(TARGET), Some("billing-sub"));
        assert_eq!(replayed.lineage().replays, 2);
    }

    #[test]
    fn poison_is_read_as_the_message_that_it_was() {
        let shown = |text: &str| Shown {
            id: "3f1c".to_owned(),
            inserted_at: None,
            dequeue_count: 1,
            text: BASE64.encode(text),
        };
        let inner = json!({"event": event(), "orderId": ORDER, "attempt": 2, "origin": "m"});
        let wrapped = json!({"reason": "r", "description": "d", "at": "x", "message": inner});
        let by_app = Letter::of_poison(&shown(&wrapped.to_string()));
        assert_eq!(
            (by_app.reason.as_deref(), by_app.description.as_deref()),
            (Some("r"), Some("d"))
        );
        assert_eq!((by_app.message_id(), by_app.order_id()), ("m", ORDER.parse().ok()));
        let by_host = Letter::of_poison(&shown(&inner.to_string()));
        assert_eq!(by_host.reason.as_deref(), Some(DEQUEUED_TOO_OFTEN));
        assert_eq!(by_host.message, by_app.message);
        assert_eq!(by_host.number, by_app.number);
        assert!((0..1 << POISON_NUMBER_BITS).contains(&by_host.number));
        for (text, body) in [("hello", json!("hello")), ("[1]", json!([1]))] {
            let garbage = Letter::of_poison(&shown(text));
            assert_eq!((garbage.body().0, garbage.order_id()), (body, None));
            assert!(garbage.event().is_err());
        }
        // Not base64 at all: somebody else's doing.
        let raw = Letter::of_poison(&Shown { text: "{oops".to_owned(), ..shown("") });
        assert_eq!(raw.body(), (json!("{oops"), "text"));
    }
}
