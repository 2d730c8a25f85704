//! What the handler's answer to an invocation means.
//!
//! Source: `DefaultHttpWorkerService` of the Azure Functions host. The odd row is an empty answer:
//! the host never sets a result, so the invocation hangs until `functionTimeout`.

use http::{HeaderMap, StatusCode, header};
use serde_json::{Map, Value};

/// A successful answer.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Answer {
    /// By output binding name. `None` when the member is missing.
    pub(crate) outputs: Option<Map<String, Value>>,
    /// To be logged for the function.
    pub(crate) logs: Vec<String>,
    pub(crate) return_value: Value,
}

/// How an answer is taken.
#[derive(Debug, PartialEq)]
pub(crate) enum Verdict {
    Success(Answer),
    /// The invocation failed, for the given reason.
    Failure(String),
    /// No result will ever be set.
    Hang,
}

/// Judges a complete answer.
pub(crate) fn judge(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Verdict {
    if status.is_redirection() {
        return Verdict::Failure(format!(
            "the handler answered {status}; the Azure host would follow the redirect, this one \
             does not"
        ));
    }
    if !status.is_success() {
        return Verdict::Failure(format!(
            "Response status code does not indicate success: {} ({}).",
            status.as_u16(),
            status.canonical_reason().unwrap_or_default()
        ));
    }
    if body.is_empty() {
        return Verdict::Hang;
    }
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = content_type.and_then(|text| text.split(';').next()).map(str::trim);
    let is_json = media_type.is_some_and(|media| {
        media.eq_ignore_ascii_case("application/json") || media.eq_ignore_ascii_case("text/json")
    });
    if !is_json {
        return Verdict::Failure(format!(
            "Invalid HttpResponseMessage: the content type is {}, and the host reads \
             application/json or text/json only. The work may have been done; answer with \
             Content-Type: application/json and at least {{}}",
            content_type.map_or_else(|| "missing".to_owned(), |text| format!("\"{text}\""))
        ));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => read(object),
        Ok(Value::Null) => Verdict::Hang,
        Ok(other) => Verdict::Failure(format!(
            "Invalid HttpResponseMessage: the body is {}, and an object is expected",
            kind(&other)
        )),
        Err(error) => {
            Verdict::Failure(format!("Invalid HttpResponseMessage: malformed JSON ({error})"))
        }
    }
}

fn read(object: Map<String, Value>) -> Verdict {
    let mut answer = Answer::default();
    for (name, value) in object {
        match name.to_ascii_lowercase().as_str() {
            "outputs" => match value {
                Value::Null => {}
                Value::Object(outputs) => answer.outputs = Some(outputs),
                other => {
                    return Verdict::Failure(format!(
                        "Invalid HttpResponseMessage: Outputs is {}, and an object is expected",
                        kind(&other)
                    ));
                }
            },
            "logs" => match value {
                Value::Null => {}
                Value::Array(lines) => {
                    answer.logs = lines
                        .into_iter()
                        .map(|line| match line {
                            Value::String(text) => text,
                            other => other.to_string(),
                        })
                        .collect();
                }
                other => {
                    return Verdict::Failure(format!(
                        "Invalid HttpResponseMessage: Logs is {}, and a list is expected",
                        kind(&other)
                    ));
                }
            },
            "returnvalue" => answer.return_value = value,
            _ => {}
        }
    }
    Verdict::Success(answer)
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn judged(status: u16, content_type: &str, body: &str) -> Verdict {
        let mut headers = HeaderMap::new();
        if !content_type.is_empty() {
            headers.insert(header::CONTENT_TYPE, content_type.parse().unwrap());
        }
        judge(StatusCode::from_u16(status).unwrap(), &headers, body.as_bytes())
    }

    #[test]
    fn the_matrix() {
        const JSON: &str = "application/json; charset=utf-8";
        let empty = Verdict::Success(Answer::default());
        assert_eq!(judged(200, JSON, "{}"), empty);
        assert_eq!(judged(201, "text/json", r#"{"unknown":1}"#), empty);
        let Verdict::Success(answer) =
            judged(200, JSON, r#"{"outputs":{"a":1},"LOGS":["x",2],"returnValue":"r"}"#)
        else {
            panic!("names are read in any case")
        };
        assert_eq!(answer.outputs.unwrap(), *json!({"a": 1}).as_object().unwrap());
        assert_eq!((answer.logs, answer.return_value), (vec!["x".into(), "2".into()], json!("r")));

        for (status, content_type, body) in [(200, JSON, ""), (204, "", ""), (200, JSON, "null")] {
            assert_eq!(judged(status, content_type, body), Verdict::Hang, "{status} {body}");
        }
        for (status, content_type, body, why) in [
            (200, "text/plain", "{}", "text/plain"),
            (200, "", "{}", "missing"),
            (200, JSON, "{", "malformed"),
            (200, JSON, "{} x", "malformed"),
            (200, JSON, "[]", "a list"),
            (200, JSON, "1", "a number"),
            (200, JSON, r#"{"Outputs":[]}"#, "Outputs is a list"),
            (302, JSON, "{}", "302"),
            (404, JSON, "{}", "404"),
            (500, "", "", "500"),
        ] {
            let Verdict::Failure(reason) = judged(status, content_type, body) else {
                panic!("{status} {content_type} {body} has to fail")
            };
            assert!(reason.contains(why), "{reason}");
        }
    }
}
