//! Promotion: the top-level properties of a JSON body land in Metadata, over what the broker says.
//!
//! Source: `Utility.ApplyBindingData` of the Azure Functions host. A sender can therefore forge
//! `MessageId` or `DeliveryCount`; a handler must not trust Metadata.

use serde_json::{Map, Number, Value};
use time::format_description::BorrowedFormatItem;
use time::format_description::well_known::Iso8601;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime, UtcOffset};

use super::envelope::{BindingData, BindingValue};

/// `DateTime.ToString()` in the invariant culture.
const INVARIANT: &[BorrowedFormatItem<'_>] =
    format_description!("[month]/[day]/[year] [hour]:[minute]:[second]");

/// Whether nested objects are promoted too. The message triggers do it, the HTTP trigger does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Nested {
    Promoted,
    Skipped,
}

/// Adds the properties of `text` to `metadata` if it is a JSON object; otherwise does nothing.
pub(crate) fn promote(text: &str, nested: Nested, metadata: &mut BindingData) {
    if !text.trim_start().starts_with('{') {
        return;
    }
    let Ok(object) = serde_json::from_str::<Map<String, Value>>(text) else { return };
    for (name, value) in object {
        let promoted = match value {
            Value::Null | Value::Array(_) => continue,
            Value::Object(_) if nested == Nested::Skipped => continue,
            Value::Object(object) => BindingValue::Object(object),
            Value::Bool(true) => BindingValue::text("True"),
            Value::Bool(false) => BindingValue::text("False"),
            Value::Number(number) => BindingValue::text(number_text(&number)),
            Value::String(text) => BindingValue::text(invariant_date(&text).unwrap_or(text)),
        };
        metadata.promote(&name, promoted);
    }
}

/// .NET prints a whole floating point number without a fraction.
pub(crate) fn number_text(number: &Number) -> String {
    match number.as_f64() {
        Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e15 => {
            format!("{float:.0}")
        }
        _ => number.to_string(),
    }
}

/// The JSON reader of the host takes a text that looks like an ISO date and time for one.
fn invariant_date(text: &str) -> Option<String> {
    let looks_like_one = (19..=40).contains(&text.len())
        && text.as_bytes().get(10) == Some(&b'T')
        && text.as_bytes().first().is_some_and(u8::is_ascii_digit);
    if !looks_like_one {
        return None;
    }
    let time = OffsetDateTime::parse(text, &Iso8601::DEFAULT)
        .map(|time| time.to_offset(UtcOffset::UTC))
        .or_else(|_| {
            PrimitiveDateTime::parse(text, &Iso8601::DEFAULT).map(|time| time.assume_utc())
        })
        .ok()?;
    time.format(INVARIANT).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use time::macros::datetime;

    use super::super::envelope::Envelope;
    use super::*;

    fn promoted(text: &str, nested: Nested) -> Value {
        let mut metadata = BindingData::default();
        metadata.set("MessageId", BindingValue::text("m-1"));
        promote(text, nested, &mut metadata);
        let now = datetime!(2026-03-01 10:00:00 UTC);
        let mut value = Envelope::new("F", "b", json!(null), metadata, now).to_value();
        let mut metadata = value["Metadata"].take();
        metadata.as_object_mut().unwrap().remove("sys");
        metadata
    }

    #[test]
    fn scalars_become_strings_first_and_overwrite_in_any_case() {
        let text = r#"{"messageId":"forged","n":2,"f":1.5,"w":3.0,"t":true,"z":null,"l":[1],
            "o":{"x":1},"d":"2026-03-01T09:15:30Z","e":"2026-03-01T11:15:30.25+02:00",
            "day":"2026-03-01","retryTrigger":"gone"}"#;
        assert_eq!(
            promoted(text, Nested::Promoted),
            json!({
                "MessageId": "\"forged\"", "n": "\"2\"", "f": "\"1.5\"", "w": "\"3\"",
                "t": "\"True\"", "o": {"x": 1}, "d": "\"03/01/2026 09:15:30\"",
                "e": "\"03/01/2026 09:15:30\"", "day": "\"2026-03-01\""
            })
        );
        assert!(promoted(text, Nested::Skipped).get("o").is_none());
    }

    #[test]
    fn what_is_no_json_object_promotes_nothing() {
        for text in ["hello", "[{\"a\":1}]", "{\"a\":", "", "12"] {
            assert_eq!(promoted(text, Nested::Promoted), json!({"MessageId": "\"m-1\""}), "{text}");
        }
    }
}
