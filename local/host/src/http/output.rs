//! From the handler's outputs to the HTTP response, in the JSON envelope mode.
//!
//! Source: `HttpScriptInvocationResultExtensions`, `HttpBinding`, `RawScriptResult`. A member
//! `status` has no effect in a named output, texts are `text/plain` unless the headers say
//! otherwise, and objects are printed with indentation.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value};

use super::client::{Body, full};
use crate::bindings::{Function, OutputKind};
use crate::invocation::Answer;
use crate::outputs::RETURN;

const PLAIN: &str = "text/plain; charset=utf-8";

/// Whether the outputs of an HTTP function have a `status` that has no effect: it is `statusCode`
/// that counts in an output with a name.
pub(crate) fn has_vain_status(function: &Function, answer: &Answer) -> bool {
    let binding = function.outputs.iter().find(|output| output.kind == OutputKind::Http);
    let named = binding.filter(|binding| binding.name != RETURN);
    let described = named.and_then(|binding| {
        let outputs = answer.outputs.as_ref().and_then(|outputs| outputs.get(&binding.name));
        outputs.or_else(|| answer.return_value.get(&binding.name))?.as_object()
    });
    described.is_some_and(|object| {
        get(object, "status").is_some() && get(object, "statusCode").is_none()
    })
}

/// The response, or why there is none (the caller then gets a 500 with an empty body).
pub(crate) fn response(function: &Function, answer: Answer) -> Result<Response<Body>, String> {
    let binding = function.outputs.iter().find(|output| output.kind == OutputKind::Http);
    let Some(binding) = binding else {
        return Ok(match answer.return_value {
            Value::Null => plain(StatusCode::NO_CONTENT, &[]),
            value => with(StatusCode::OK, "application/json; charset=utf-8", value.to_string()),
        });
    };
    if binding.name == RETURN {
        return returned(answer.return_value);
    }
    // Without a binding for it, an object that is returned adds to the outputs.
    let mut outputs = answer.outputs;
    let returns = function.outputs.iter().any(|output| output.name == RETURN);
    if let (Value::Object(members), false) = (answer.return_value, returns) {
        outputs.get_or_insert_default().extend(members);
    }
    let Some(mut outputs) = outputs else { return Ok(plain(StatusCode::NO_CONTENT, &[])) };
    match outputs.remove(&binding.name) {
        None | Some(Value::Null) => Ok(with(StatusCode::OK, PLAIN, "{}".to_owned())),
        Some(Value::Object(described)) => described_response(&described, &["statusCode"]),
        Some(_) => Err(format!(
            "Failed while trying to Deserialize to httpOutputBindingResponse: Outputs.{} is not \
             an object",
            binding.name
        )),
    }
}

fn returned(value: Value) -> Result<Response<Body>, String> {
    let value = match value {
        // A returned text that happens to be valid base64 is taken for bytes ("hello123" is!).
        Value::String(text) => match BASE64.decode(&text) {
            Ok(bytes) if !text.is_empty() => return Ok(plain(StatusCode::OK, &bytes)),
            _ => serde_json::from_str(&text).unwrap_or(Value::String(text)),
        },
        other => other,
    };
    match value {
        Value::Null => Ok(plain(StatusCode::OK, &[])),
        Value::Object(object) if get(&object, "body").is_some() => {
            described_response(&object, &["statusCode", "status"])
        }
        other => Ok(with(StatusCode::OK, PLAIN, printed(&other))),
    }
}

fn described_response(
    described: &Map<String, Value>,
    status_names: &[&str],
) -> Result<Response<Body>, String> {
    let status = status_names.iter().find_map(|name| get(described, name));
    let status = match status {
        None | Some(Value::Null) => StatusCode::OK,
        Some(value) => value
            .as_u64()
            .and_then(|number| u16::try_from(number).ok())
            .or_else(|| value.as_str().and_then(|text| text.trim().parse().ok()))
            .and_then(|number| StatusCode::from_u16(number).ok())
            .ok_or_else(|| format!("statusCode is {value}, which is no HTTP status"))?,
    };
    let body = match get(described, "body") {
        None | Some(Value::Null) => Vec::new(),
        Some(other) => printed(other).into_bytes(),
    };
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(PLAIN));
    if let Some(Value::Object(named)) = get(described, "headers") {
        for (name, value) in named {
            let text = match value {
                Value::String(text) => text.clone(),
                Value::Null => String::new(),
                other => other.to_string(),
            };
            let name: HeaderName =
                name.parse().map_err(|_| format!("'{name}' is no header name"))?;
            let value = HeaderValue::from_str(&text)
                .map_err(|_| format!("the value of the header {name} is not legal"))?;
            headers.insert(name, value);
        }
    }
    Ok(response)
}

fn printed(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(true) => "True".to_owned(),
        Value::Bool(false) => "False".to_owned(),
        Value::Object(_) | Value::Array(_) => format!("{value:#}"),
        other => other.to_string(),
    }
}

fn get<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

fn plain(status: StatusCode, body: &[u8]) -> Response<Body> {
    let mut response = Response::new(full(body.to_vec()));
    *response.status_mut() = status;
    response
}

fn with(status: StatusCode, content_type: &'static str, body: String) -> Response<Body> {
    let mut response = Response::new(full(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;
    use serde_json::json;

    use super::*;
    use crate::bindings::{AuthLevel, HttpTrigger, Output, Trigger};
    use crate::http::route::Template;

    fn function(output: Option<&str>) -> Function {
        Function {
            name: "F".into(),
            binding: "req".to_owned(),
            trigger: Trigger::Http(HttpTrigger {
                methods: vec![],
                template: Template::parse("f").unwrap(),
                auth: AuthLevel::Anonymous,
            }),
            retry: None,
            outputs: output
                .map(|name| Output { name: name.to_owned(), kind: OutputKind::Http })
                .into_iter()
                .collect(),
            http_in_and_out: output.is_some(),
        }
    }

    async fn shown(output: Option<&str>, answer: Value) -> Result<(u16, String, String), String> {
        let answer = Answer {
            outputs: answer.get("Outputs").and_then(Value::as_object).cloned(),
            logs: vec![],
            return_value: answer.get("ReturnValue").cloned().unwrap_or_default(),
        };
        let response = response(&function(output), answer)?;
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let content_type =
            parts.headers.get(header::CONTENT_TYPE).map_or("", |v| v.to_str().unwrap());
        let text = String::from_utf8_lossy(&body).into_owned();
        Ok((parts.status.as_u16(), content_type.to_owned(), text))
    }

    #[tokio::test]
    async fn outputs_become_responses_as_in_the_azure_host() {
        let object = json!({"ok": true});
        let indented = "{\n  \"ok\": true\n}";
        for (output, answer, expected) in [
            (
                Some("res"),
                json!({"Outputs":{"res":{"statusCode":201,"body":object}}}),
                (201, PLAIN, indented),
            ),
            (
                Some("res"),
                json!({"Outputs":{"res":{"statusCode":"202","body":"hello123"}}}),
                (202, PLAIN, "hello123"),
            ),
            (
                Some("res"),
                json!({"Outputs":{"res":{"status":500,"body":true}}}),
                (200, PLAIN, "True"),
            ),
            (
                Some("res"),
                json!({"Outputs":{"res":{"body":"{}",
                "headers":{"content-type":"application/json"}}}}),
                (200, "application/json", "{}"),
            ),
            (Some("res"), json!({"Outputs":{"other":1}}), (200, PLAIN, "{}")),
            (Some("res"), json!({}), (204, "", "")),
            (Some("res"), json!({"ReturnValue":{"res":{"statusCode":418}}}), (418, PLAIN, "")),
            (
                Some("$return"),
                json!({"ReturnValue":"hello123"}),
                (200, "", "\u{85}\u{e9}\u{65}\u{fffd}"),
            ),
            (Some("$return"), json!({"ReturnValue":"hello world"}), (200, PLAIN, "hello world")),
            (
                Some("$return"),
                json!({"ReturnValue":{"status":404,"body":"no"}}),
                (404, PLAIN, "no"),
            ),
            (Some("$return"), json!({}), (200, "", "")),
            (None, json!({"ReturnValue":[1]}), (200, "application/json; charset=utf-8", "[1]")),
            (None, json!({}), (204, "", "")),
        ] {
            let (status, content_type, body) = shown(output, answer.clone()).await.unwrap();
            if answer == json!({"ReturnValue":"hello123"}) {
                assert_ne!(body, "hello123", "valid base64 is decoded");
                continue;
            }
            assert_eq!((status, content_type.as_str(), body.as_str()), expected, "{answer}");
        }
        for wrong in [
            json!({"Outputs":{"res":"text"}}),
            json!({"Outputs":{"res":{"statusCode":"abc"}}}),
            json!({"Outputs":{"res":{"headers":{"x y":"1"}}}}),
        ] {
            assert!(shown(Some("res"), wrong.clone()).await.is_err(), "{wrong}");
        }
    }
}
