//! What a dead letter says: the event, with the reason beside its attributes. Names are
//! in lower case in CloudEvents, and in camel case in the Event Grid schema:
//! <https://learn.microsoft.com/azure/event-grid/delivery-and-retry#cloudevents-10-schema>.

use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::queue::{Delivery, Reason};
use crate::event::Schema;

/// One line of JSON, without its end.
pub(super) fn line(delivery: &Delivery, reason: Reason) -> String {
    let mut letter = delivery.event.members();
    let lower_case = delivery.event.schema == Schema::CloudEvents;
    let mut set = |name: &str, value: Value| {
        let name = if lower_case { name.to_ascii_lowercase() } else { name.to_owned() };
        letter.insert(name, value)
    };
    set("deadLetterReason", json!(reason.name()));
    set("deliveryAttempts", json!(delivery.attempts));
    set("publishTime", json!(date(delivery.published_ms)));
    if let Some((outcome, begun_ms)) = delivery.last {
        set("lastDeliveryOutcome", json!(outcome.name()));
        set("lastDeliveryAttemptTime", json!(date(begun_ms)));
        if let Some(status) = outcome.status() {
            set("lastHttpStatusCode", json!(status));
        }
    }
    Value::Object(letter).to_string()
}

fn date(ms: u64) -> Option<String> {
    let nanos = i128::from(ms) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?.format(&Rfc3339).ok()
}
