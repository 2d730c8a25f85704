//! HTTP functions in the JSON envelope: the request as `Data`, the response from the outputs.
//!
//! Source: `HttpRequestExtensions`, `HttpBinding` of the Azure Functions host and the HTTP
//! extension's `HttpTriggerAttributeBindingProvider`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, header};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;

use super::route::Params;
use crate::bindings::Function;
use crate::invocation::envelope::BindingData;
use crate::invocation::promotion::{Nested, promote};
use crate::invocation::{BindingValue, Envelope};

/// Builds the envelope of an HTTP call. `body` is `None` when none was announced.
pub(crate) fn envelope(
    function: &Function,
    parts: &Parts,
    params: &Params,
    body: Option<&Bytes>,
    now: OffsetDateTime,
) -> Envelope {
    let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let target = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    let query = query(parts.uri.query().unwrap_or_default());
    let mut request = Map::from_iter([
        ("Url".to_owned(), json!(format!("http://{}{target}", host.unwrap_or("localhost")))),
        ("Method".to_owned(), json!(parts.method.as_str())),
        ("Query".to_owned(), Value::Object(query.clone())),
        ("Headers".to_owned(), Value::Object(headers(&parts.headers, |values| json!(values)))),
        ("Params".to_owned(), params.iter().map(|(k, v)| (k.clone(), json!(v))).collect()),
        (
            "Identities".to_owned(),
            json!([{ "AuthenticationType": null, "IsAuthenticated": false, "Claims": [] }]),
        ),
    ]);
    let mut metadata = BindingData::default();
    metadata.set("Query", BindingValue::Object(query.clone()));
    let joined = headers(&parts.headers, |values| json!(values.join(",")));
    metadata.set("Headers", BindingValue::Object(joined));
    // The function key is not binding data.
    for (name, value) in query.iter().filter(|(name, _)| !name.eq_ignore_ascii_case("code")) {
        metadata.set(name, BindingValue::Other(value.clone()));
    }
    for (name, value) in params {
        metadata.set_some(name, value.as_ref().map(BindingValue::text));
    }
    if let Some(body) = body.filter(|body| !body.is_empty()) {
        let media = parts
            .headers
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default()
            .to_ascii_lowercase();
        let text = if is_binary(&media) {
            BASE64.encode(body)
        } else {
            String::from_utf8_lossy(body).into_owned()
        };
        if media.contains("json") {
            promote(&text, Nested::Skipped, &mut metadata);
        }
        request.insert("Body".to_owned(), Value::String(text));
    }
    Envelope::new(&function.name, &function.binding, Value::Object(request), metadata, now)
}

fn is_binary(media: &str) -> bool {
    media.starts_with("application/octet-stream") || media.starts_with("multipart/")
}

fn headers(headers: &HeaderMap, shown: impl Fn(&[String]) -> Value) -> Map<String, Value> {
    headers
        .keys()
        .map(|name| {
            let values: Vec<String> = headers
                .get_all(name)
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .collect();
            (title_case(name.as_str()), shown(&values))
        })
        .collect()
}

/// Kestrel gives header names as sent, and nearly everybody sends `Content-Type`; HTTP libraries
/// that lower the case would change the keys a handler sees.
fn title_case(name: &str) -> String {
    name.split('-')
        .map(|word| {
            let mut chars = word.chars();
            chars.next().map_or_else(String::new, |first| {
                first.to_ascii_uppercase().to_string() + chars.as_str()
            })
        })
        .collect::<Vec<_>>()
        .join("-")
}

/// The last value of a repeated key is joined to the earlier ones with a comma.
fn query(text: &str) -> Map<String, Value> {
    let mut map: Map<String, Value> = Map::new();
    for pair in text.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (key, value) = (decode(key), decode(value));
        match map.get_mut(&key) {
            Some(Value::String(known)) => {
                known.push(',');
                known.push_str(&value);
            }
            _ => {
                map.insert(key, Value::String(value));
            }
        }
    }
    map
}

fn decode(text: &str) -> String {
    percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use http::Request;
    use time::macros::datetime;

    use super::*;
    use crate::bindings::{AuthLevel, HttpTrigger, Output, OutputKind, Trigger};
    use crate::http::route::Template;

    fn orders() -> Function {
        Function {
            name: "Orders".into(),
            binding: "req".to_owned(),
            trigger: Trigger::Http(HttpTrigger {
                methods: vec![],
                template: Template::parse("api/orders/{id}").unwrap(),
                auth: AuthLevel::Anonymous,
            }),
            retry: None,
            outputs: vec![Output { name: "res".to_owned(), kind: OutputKind::Http }],
            http_in_and_out: true,
        }
    }

    #[test]
    fn golden_http_request() {
        let (parts, ()) = Request::post("/api/orders/7?dry=1&code=secret")
            .header("host", "localhost:7071")
            .header("content-type", "application/json")
            .body(())
            .unwrap()
            .into_parts();
        let params = vec![("id".to_owned(), Some("7".to_owned())), ("opt".to_owned(), None)];
        let body = Bytes::from_static(br#"{"qty":3,"nested":{"a":1}}"#);
        let now = datetime!(2026-03-01 10:00:00 UTC);
        let mut sent = envelope(&orders(), &parts, &params, Some(&body), now).to_value();
        assert_eq!(sent["Metadata"]["sys"]["MethodName"], "Orders");
        sent["Metadata"].as_object_mut().unwrap().remove("sys");
        assert_eq!(
            sent,
            json!({
                "Data": { "req": {
                    "Url": "http://localhost:7071/api/orders/7?dry=1&code=secret",
                    "Method": "POST",
                    "Query": { "dry": "1", "code": "secret" },
                    "Headers": { "Content-Type": ["application/json"], "Host": ["localhost:7071"] },
                    "Params": { "id": "7", "opt": null },
                    "Identities": [
                        { "AuthenticationType": null, "IsAuthenticated": false, "Claims": [] }
                    ],
                    "Body": "{\"qty\":3,\"nested\":{\"a\":1}}"
                } },
                "Metadata": {
                    "Query": { "dry": "1", "code": "secret" },
                    "Headers": { "Content-Type": "application/json", "Host": "localhost:7071" },
                    "dry": "\"1\"", "id": "\"7\"", "qty": "\"3\""
                }
            })
        );
    }

    #[test]
    fn binary_bodies_are_base64_and_missing_ones_are_absent() {
        let (parts, ()) = Request::post("/x")
            .header("content-type", "application/octet-stream")
            .body(())
            .unwrap()
            .into_parts();
        let now = datetime!(2026-03-01 10:00:00 UTC);
        let body = Bytes::from_static(&[0, 255]);
        let sent = envelope(&orders(), &parts, &vec![], Some(&body), now).to_value();
        assert_eq!(sent["Data"]["req"]["Body"], "AP8=");
        let sent = envelope(&orders(), &parts, &vec![], None, now).to_value();
        assert!(sent["Data"]["req"].get("Body").is_none());
    }
}
