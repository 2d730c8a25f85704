//! The JSON bodies that the host and the handler exchange, as they are on the wire.
//!
//! Shared by both sides: a Functions host writes [`InvocationRequest`] and reads
//! [`InvocationResponse`], a handler the other way round. What the values mean is not known here;
//! see <https://learn.microsoft.com/azure/azure-functions/functions-custom-handlers>.
//!
//! Reading is tolerant where the real host is, or where senders differ: member names in any case,
//! unknown members ignored, `null` for an absent member.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// `{"Data": {...}, "Metadata": {...}}`: what the host posts to `/<function>`.
///
/// Most values are JSON text within a JSON string; [`crate::Invocation`] and the typed triggers
/// undo that.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InvocationRequest {
    /// The trigger and further input bindings, by binding name.
    pub data: Map<String, Value>,
    /// Facts about the trigger, **some of which its sender can forge**; see
    /// [the crate's documentation](crate#metadata-can-be-forged).
    pub metadata: Map<String, Value>,
}

/// `{"Outputs": {...}, "Logs": [...], "ReturnValue": ...}`: what the handler answers.
///
/// A member without content is left out. The result is never less than `{}`: an empty body, or
/// `null`, would leave the host waiting for ever.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
pub struct InvocationResponse {
    /// Values for output bindings, by binding name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub outputs: Map<String, Value>,
    /// Lines for the log of the invocation; the host drops them when it failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub logs: Vec<String>,
    /// Value for the output binding named `$return`.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub return_value: Value,
}

impl<'de> Deserialize<'de> for InvocationRequest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut members = Map::deserialize(deserializer)?;
        let data = object(take(&mut members, "Data"), "Data").map_err(D::Error::custom)?;
        let metadata =
            object(take(&mut members, "Metadata"), "Metadata").map_err(D::Error::custom)?;
        Ok(Self { data, metadata })
    }
}

impl<'de> Deserialize<'de> for InvocationResponse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut members = Map::deserialize(deserializer)?;
        let outputs = object(take(&mut members, "Outputs"), "Outputs").map_err(D::Error::custom)?;
        let logs = match take(&mut members, "Logs") {
            Value::Null => Vec::new(),
            Value::Array(lines) => lines.into_iter().map(line).collect(),
            _ => return Err(D::Error::custom("Logs is not an array")),
        };
        Ok(Self { outputs, logs, return_value: take(&mut members, "ReturnValue") })
    }
}

/// The text behind a value that may be JSON text within a JSON string, as the host encodes nearly
/// everything: a string that holds JSON is opened once, anything else is left as it is.
#[must_use]
pub fn open(value: &Value) -> Value {
    match value {
        Value::String(text) => serde_json::from_str(text).unwrap_or_else(|_| value.clone()),
        other => other.clone(),
    }
}

/// The host's encoding of a value, the inverse of [`open`]: objects stay as they are, everything
/// else becomes its JSON text within a JSON string.
#[must_use]
pub fn wrap(value: Value) -> Value {
    match value {
        Value::Object(_) => value,
        other => Value::String(other.to_string()),
    }
}

/// The member of that name in any case, the exact one first.
fn take(members: &mut Map<String, Value>, name: &str) -> Value {
    if let Some(value) = members.remove(name) {
        return value;
    }
    let spelled = members.keys().find(|key| key.eq_ignore_ascii_case(name)).cloned();
    spelled.and_then(|key| members.remove(&key)).unwrap_or_default()
}

fn object(value: Value, name: &str) -> Result<Map<String, Value>, String> {
    match value {
        Value::Null => Ok(Map::new()),
        Value::Object(members) => Ok(members),
        _ => Err(format!("{name} is not an object")),
    }
}

fn line(value: Value) -> String {
    match value {
        Value::String(line) => line,
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_come_in_any_case_and_go_in_pascal_case() {
        let request: InvocationRequest = serde_json::from_value(
            json!({"data": {"order": "\"hi\""}, "METADATA": null, "Else": 1}),
        )
        .unwrap();
        assert_eq!(
            serde_json::to_value(&request).unwrap(),
            json!({"Data": {"order": "\"hi\""}, "Metadata": {}})
        );
        let response: InvocationResponse = serde_json::from_value(
            json!({"outputs": {"a": 1}, "LOGS": ["one", 2], "returnValue": [3], "x": 0}),
        )
        .unwrap();
        assert_eq!(
            serde_json::to_value(&response).unwrap(),
            json!({"Outputs": {"a": 1}, "Logs": ["one", "2"], "ReturnValue": [3]})
        );
        assert_eq!(serde_json::to_string(&InvocationResponse::default()).unwrap(), "{}");
    }

    #[test]
    fn what_is_no_envelope_is_refused() {
        for body in ["null", "[]", "1", "\"x\"", r#"{"Data":[]}"#, r#"{"Metadata":1}"#] {
            assert!(serde_json::from_str::<InvocationRequest>(body).is_err(), "{body}");
        }
        for body in ["null", "[]", r#"{"Outputs":[]}"#, r#"{"Logs":"x"}"#] {
            assert!(serde_json::from_str::<InvocationResponse>(body).is_err(), "{body}");
        }
    }

    #[test]
    fn opening_undoes_wrapping() {
        for value in [json!("hi"), json!(""), json!(7), json!(true), json!([1]), json!({"a": 1})] {
            assert_eq!(open(&wrap(value.clone())), value);
        }
        assert_eq!(open(&json!("plain text")), json!("plain text"));
    }
}
