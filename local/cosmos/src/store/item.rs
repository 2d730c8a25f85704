//! Item bodies: what a client sent, checked, with its own text kept.
//!
//! The stored text is the client's text with the system properties at the end. It is never
//! re-serialised: order of properties and digits of numbers stay what they were, and a read costs
//! no JSON work at all.

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;
use serde::de::{Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::StoreError;
use crate::limits::{MAX_ID_BYTES, MAX_ITEM_BYTES};

/// Properties that the service owns. Sent ones are replaced.
pub(super) const SYSTEM_PROPERTIES: [&str; 5] = ["_rid", "_self", "_etag", "_ts", "_attachments"];

/// A well-formed item that is not stored yet.
#[derive(Debug, Clone)]
pub struct ItemBody {
    /// Its `id`.
    pub id: String,
    /// Its `ttl` in seconds, -1 for never; `None` leaves it to the container.
    pub ttl: Option<i32>,
    /// The item as a value, for keys and indexes; without system properties.
    pub value: Value,
    /// The text up to, not including, the closing brace; without system properties.
    open_text: String,
}

/// The system properties of a stored item.
#[derive(Debug, Clone, Copy)]
pub struct SystemProperties<'a> {
    /// `_rid`.
    pub rid: &'a str,
    /// `_self`.
    pub self_link: &'a str,
    /// `_etag`, with its quotes.
    pub etag: &'a str,
    /// `_ts`, epoch seconds.
    pub ts: u64,
}

impl ItemBody {
    /// Checks a body.
    ///
    /// # Errors
    /// [`StoreError::TooLarge`], or [`StoreError::BadRequest`] when it is not a JSON object with a
    /// usable `id` and `ttl`.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        if text.len() > MAX_ITEM_BYTES {
            return Err(StoreError::TooLarge { actual: text.len(), limit: MAX_ITEM_BYTES });
        }
        let mut value: Value = serde_json::from_str(text)
            .map_err(|error| StoreError::bad(format!("the body is not valid JSON: {error}")))?;
        let Some(object) = value.as_object_mut() else {
            return Err(StoreError::bad("an item must be a JSON object"));
        };
        SYSTEM_PROPERTIES.iter().for_each(|name| drop(object.remove(*name)));
        let id = match object.get("id") {
            Some(Value::String(id)) => id.clone(),
            _ => return Err(StoreError::bad("an item needs an 'id' that is a string")),
        };
        check_id(&id)?;
        let ttl = match object.get("ttl") {
            None => None,
            Some(ttl) => Some(
                ttl.as_i64()
                    .and_then(|ttl| i32::try_from(ttl).ok())
                    .filter(|ttl| *ttl == -1 || *ttl > 0)
                    .ok_or_else(|| {
                        StoreError::bad("the ttl of an item must be -1 or a positive integer")
                    })?,
            ),
        };
        let open_text = open_text(text)?;
        Ok(Self { id, ttl, value, open_text })
    }

    /// The text to store.
    pub fn compose(&self, system: SystemProperties<'_>) -> Bytes {
        let mut text = String::with_capacity(self.open_text.len() + 240);
        text.push_str(&self.open_text);
        let comma = if self.open_text.len() > 1 { "," } else { "" };
        let SystemProperties { rid, self_link, etag, ts } = system;
        // None of these can contain a character that JSON escapes, except the quotes of the ETag.
        let etag = etag.trim_matches('"');
        text.push_str(&format!(
            "{comma}\"_rid\":\"{rid}\",\"_self\":\"{self_link}\",\"_etag\":\"\\\"{etag}\\\"\",\
             \"_attachments\":\"attachments/\",\"_ts\":{ts}}}"
        ));
        text.shrink_to_fit();
        Bytes::from(text)
    }
}

/// Checks an item id against the published rules.
///
/// # Errors
/// [`StoreError::BadRequest`].
pub fn check_id(id: &str) -> Result<(), StoreError> {
    if id.is_empty() || id.len() > MAX_ID_BYTES || id.contains(['/', '\\', '?', '#']) {
        return Err(StoreError::bad(
            "an id must have 1 to 1023 bytes and none of the characters / \\ ? #",
        ));
    }
    Ok(())
}

/// The properties of a JSON object in their order, with their text untouched.
pub(super) struct Properties<'a>(pub(super) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'a> Properties<'a> {
    /// Splits the text of an object. When a name occurs twice the last one counts.
    ///
    /// # Errors
    /// When it is not an object.
    pub(super) fn split(text: &'a str) -> Result<Self, serde_json::Error> {
        let mut deserializer = serde_json::Deserializer::from_str(text);
        deserializer.deserialize_map(PropertiesVisitor)
    }
}

struct PropertiesVisitor;

impl<'de> Visitor<'de> for PropertiesVisitor {
    type Value = Properties<'de>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut properties: Vec<(Cow<'de, str>, &'de RawValue)> = Vec::new();
        while let Some(Name(name)) = map.next_key()? {
            let value = map.next_value()?;
            properties.push((name, value));
        }
        if has_duplicates(&properties) {
            let mut seen = std::collections::HashSet::new();
            properties.reverse();
            properties.retain(|(name, _)| seen.insert(name.clone()));
            properties.reverse();
        }
        Ok(Properties(properties))
    }
}

fn has_duplicates(properties: &[(Cow<'_, str>, &RawValue)]) -> bool {
    let mut names: Vec<&str> = properties.iter().map(|(name, _)| name.as_ref()).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

/// A property name, borrowed unless it contains an escape.
struct Name<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> serde::Deserialize<'de> for Name<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NameVisitor;
        impl<'de> Visitor<'de> for NameVisitor {
            type Value = Name<'de>;
            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a property name")
            }
            fn visit_borrowed_str<E>(self, name: &'de str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Borrowed(name)))
            }
            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(Name(Cow::Owned(name.to_owned())))
            }
        }
        deserializer.deserialize_str(NameVisitor)
    }
}

fn open_text(text: &str) -> Result<String, StoreError> {
    let properties = Properties::split(text).map_err(|error| StoreError::bad(error.to_string()))?;
    let mut out = String::with_capacity(text.len() + 240);
    out.push('{');
    for (name, value) in &properties.0 {
        if SYSTEM_PROPERTIES.contains(&name.as_ref()) {
            continue;
        }
        if out.len() > 1 {
            out.push(',');
        }
        out.push_str(&Value::from(name.as_ref()).to_string());
        out.push(':');
        out.push_str(value.get());
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_and_system_properties_are_replaced() {
        let body = ItemBody::parse(
            r#"{"z": 1.10, "_etag":"old", "id":"a\"b","n":123456789012345678901,"z":2.50, "\u0061":[ ]}"#,
        )
        .unwrap();
        let system = SystemProperties { rid: "R", self_link: "S", etag: "\"E\"", ts: 7 };
        let text = body.compose(system);
        assert_eq!(
            std::str::from_utf8(&text).unwrap(),
            r#"{"id":"a\"b","n":123456789012345678901,"z":2.50,"a":[ ],"_rid":"R","_self":"S","_etag":"\"E\"","_attachments":"attachments/","_ts":7}"#
        );
        assert!(serde_json::from_slice::<Value>(&text).is_ok());
    }

    #[test]
    fn bodies_are_refused() {
        for bad in [
            "",
            "[]",
            "{}",
            r#"{"id":1}"#,
            r#"{"id":""}"#,
            r#"{"id":"a/b"}"#,
            r#"{"id":"a","ttl":0}"#,
            r#"{"id":"a","ttl":null}"#,
            r#"{"id":"a","ttl":1.5}"#,
            r#"{"id":"a","x":"\ud800"}"#,
            r#"{"id":"a","x":1e999}"#,
            r#"{"id":"a"} x"#,
        ] {
            assert!(matches!(ItemBody::parse(bad), Err(StoreError::BadRequest(_))), "{bad}");
        }
        let deep = format!(r#"{{"id":"a","x":{}{}}}"#, "[".repeat(5000), "]".repeat(5000));
        assert!(ItemBody::parse(&deep).is_err());
        let large = format!(r#"{{"id":"a","x":"{}"}}"#, "y".repeat(MAX_ITEM_BYTES));
        assert!(matches!(ItemBody::parse(&large), Err(StoreError::TooLarge { .. })));
    }
}
