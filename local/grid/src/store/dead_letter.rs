//! What a dead letter says: the event, with the reason beside its attributes. Attribute names are
//! lower case, as the service writes them into CloudEvents:
//! <https://learn.microsoft.com/azure/event-grid/delivery-and-retry#cloudevents-10-schema>.

use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::queue::{Delivery, Reason};

/// One line of JSON, without its end.
pub(super) fn line(delivery: &Delivery, reason: Reason) -> String {
    // It was parsed when it was published.
    let mut letter: Map<String, Value> =
        serde_json::from_slice(&delivery.event.body).unwrap_or_default();
    let mut set = |name: &str, value: Value| letter.insert(name.to_owned(), value);
    set("deadletterreason", json!(reason.name()));
    set("deliveryattempts", json!(delivery.attempts));
    set("publishtime", json!(date(delivery.published_ms)));
    if let Some((outcome, begun_ms)) = delivery.last {
        set("lastdeliveryoutcome", json!(outcome.name()));
        set("lastdeliveryattempttime", json!(date(begun_ms)));
        if let Some(status) = outcome.status() {
            set("lasthttpstatuscode", json!(status));
        }
    }
    Value::Object(letter).to_string()
}

fn date(ms: u64) -> Option<String> {
    let nanos = i128::from(ms) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?.format(&Rfc3339).ok()
}
