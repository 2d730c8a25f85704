//! From a JSON value the handler has answered with to what is written: messages or documents.
//!
//! Source: `HttpScriptInvocationResultExtensions` (base64) and `FunctionBinding` (collections) of
//! the Azure Functions host. Two things surprise: a text that happens to be valid base64 is
//! decoded, and objects are written as indented JSON.

use base64::Engine as _;
use base64::alphabet::STANDARD as ALPHABET;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use serde_json::{Map, Value};

use crate::bindings::DataType;
use crate::invocation::promotion::number_text;

/// As `Convert.FromBase64String`: padding is required, bits left over are ignored.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &ALPHABET,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// What goes into one message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Payload {
    Text(String),
    Bytes(Vec<u8>),
}

/// The value of an output after the host's first step, which ignores what it is for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Decoded<'a> {
    Json(&'a Value),
    /// It was a text in base64.
    Bytes(Vec<u8>),
}

/// Decodes `value` if it is a text in base64, unless the binding asks to keep it.
pub(crate) fn decoded(value: &Value, data_type: DataType) -> Decoded<'_> {
    match value {
        Value::String(text) if data_type != DataType::Binary => {
            from_base64(text).map_or(Decoded::Json(value), Decoded::Bytes)
        }
        _ => Decoded::Json(value),
    }
}

/// The messages for a queue or topic: one, or one per element of a list.
pub(crate) fn messages(value: Decoded<'_>) -> Result<Vec<Payload>, String> {
    match value {
        Decoded::Bytes(bytes) => Ok(vec![Payload::Bytes(bytes)]),
        Decoded::Json(value) => {
            let items = collection(value)?;
            Ok(items.iter().map(|item| Payload::Text(printed(item))).collect())
        }
    }
}

/// The documents for a container: one, or one per element of a list.
pub(crate) fn documents(value: &Decoded<'_>) -> Result<Vec<Map<String, Value>>, String> {
    let Decoded::Json(value) = value else {
        return Err("a text in base64 is decoded to bytes, and bytes are no document".to_owned());
    };
    collection(value)?
        .into_iter()
        .map(|item| match item {
            Value::Object(document) => Ok(document),
            other => Err(format!(
                "a document has to be a JSON object, and this is {}",
                match other {
                    Value::Array(_) => "a list",
                    Value::String(_) => "a text",
                    Value::Number(_) => "a number",
                    Value::Bool(_) => "a boolean",
                    Value::Null | Value::Object(_) => "null",
                }
            )),
        })
        .collect()
}

/// A list as its elements, and a text that looks like JSON as what it says.
fn collection(value: &Value) -> Result<Vec<Value>, String> {
    let parsed = match value {
        Value::String(text) if is_json(text) => serde_json::from_str(text).map_err(|error| {
            format!("the text begins and ends like JSON, so the host reads it as JSON: {error}")
        })?,
        other => other.clone(),
    };
    Ok(match parsed {
        Value::Array(items) => items,
        other => vec![other],
    })
}

/// The host's own rule.
fn is_json(text: &str) -> bool {
    let text = text.trim();
    (text.starts_with('{') && text.ends_with('}')) || (text.starts_with('[') && text.ends_with(']'))
}

/// `ToString()` of the host's JSON tokens.
fn printed(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Number(number) => number_text(number),
        Value::Object(_) | Value::Array(_) => format!("{value:#}"),
    }
}

/// White space is skipped, wherever it is.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let dense: Vec<u8> =
        text.bytes().filter(|byte| !matches!(byte, b' ' | b'\t' | b'\r' | b'\n')).collect();
    BASE64.decode(dense).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn sent(value: &Value, data_type: DataType) -> Result<Vec<Payload>, String> {
        messages(decoded(value, data_type))
    }

    fn text(text: &str) -> Payload {
        Payload::Text(text.to_owned())
    }

    #[test]
    fn golden_messages() {
        let object = "{\n  \"id\": \"a-1\",\n  \"tags\": [\n    1\n  ]\n}";
        for (value, expected) in [
            (json!("hello world"), vec![text("hello world")]),
            (json!({"id": "a-1", "tags": [1]}), vec![text(object)]),
            (json!("{\"id\":\"a-1\",\"tags\":[1]}"), vec![text(object)]),
            (
                json!([{"n": 1}, "two", 3, true, null, 4.0]),
                vec![
                    text("{\n  \"n\": 1\n}"),
                    text("two"),
                    text("3"),
                    text("True"),
                    text(""),
                    text("4"),
                ],
            ),
            (json!(" [\"hello123\", [1]] "), vec![text("hello123"), text("[\n  1\n]")]),
            (json!([]), vec![]),
            (json!(7), vec![text("7")]),
            (json!(false), vec![text("False")]),
        ] {
            assert_eq!(sent(&value, DataType::Undefined), Ok(expected), "{value}");
        }
        let error = sent(&json!("{not json}"), DataType::Undefined).unwrap_err();
        assert!(error.contains("reads it as JSON"), "{error}");
    }

    #[test]
    fn a_text_that_is_valid_base64_becomes_bytes() {
        for (trap, bytes) in [
            ("hello123", vec![0x85, 0xe9, 0x65, 0xa3, 0x5d, 0xb7]),
            ("aGk=", b"hi".to_vec()),
            (" aG\r\nk=\t", b"hi".to_vec()),
            ("aGl=", b"hi".to_vec()),
            ("", vec![]),
        ] {
            let value = json!(trap);
            let expected = Ok(vec![Payload::Bytes(bytes)]);
            assert_eq!(sent(&value, DataType::Undefined), expected, "{trap:?}");
            assert_eq!(sent(&value, DataType::String), expected, "{trap:?}");
            assert_eq!(sent(&value, DataType::Binary), Ok(vec![text(trap)]), "{trap:?}");
        }
        for spared in ["hello", "hello12=3", "aGk", "o-7", "hello 12.", "äöüß"] {
            let value = json!(spared);
            assert_eq!(sent(&value, DataType::Undefined), Ok(vec![text(spared)]), "{spared}");
        }
        // Only the value itself: elements of a list are spared.
        assert_eq!(sent(&json!(["hello123"]), DataType::Undefined), Ok(vec![text("hello123")]));
    }

    #[test]
    fn documents_are_objects_however_they_come() {
        let made = |value: &Value| documents(&decoded(value, DataType::Undefined));
        let one = json!({"id": "d"}).as_object().cloned().unwrap();
        assert_eq!(made(&json!({"id": "d"})), Ok(vec![one.clone()]));
        assert_eq!(made(&json!("[{\"id\":\"d\"},{\"id\":\"d\"}]")), Ok(vec![one.clone(), one]));
        assert_eq!(made(&json!([])), Ok(vec![]));
        for (value, why) in [
            (json!("hello123"), "base64"),
            (json!("hello"), "a text"),
            (json!([{"id": "d"}, 1]), "a number"),
            (json!([null]), "null"),
            (json!([[]]), "a list"),
        ] {
            let error = made(&value).unwrap_err();
            assert!(error.contains(why), "{value}: {error}");
        }
    }
}
