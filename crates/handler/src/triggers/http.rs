//! `httpTrigger` in the JSON mode: a request within an invocation.
//!
//! This is what a function gets whose app does not proxy HTTP, or that has outputs besides the
//! HTTP one. It loses repeated query parameters and every body without a length. Where there is a
//! choice, proxy (`"enableProxyingHttpRequest": true`) and use [`App::http`](crate::App::http).
//! <https://learn.microsoft.com/azure/azure-functions/functions-custom-handlers>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::envelope;
use crate::invocation::{DecodeError, Invocation, Trigger};

/// A request to an HTTP function in JSON mode; the answer is an [`HttpOutput`](crate::HttpOutput).
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct HttpRequest {
    /// The method.
    pub method: Method,
    /// The URL as the client wrote it. Its query may hold a function key (`code`): do not log it.
    pub url: String,
    /// Query parameters; repeated ones are joined by commas, by the host.
    pub query: Map<String, Value>,
    /// Headers. Those that are no legal HTTP are left out.
    pub headers: HeaderMap,
    /// Parameters of the route; an optional one that is absent is left out.
    pub params: Map<String, Value>,
    /// Identities that the platform has established, as .NET prints them.
    pub identities: Vec<Value>,
    /// The body; empty when it came without a length, which the host does not pass on.
    pub body: Vec<u8>,
}

impl HttpRequest {
    /// The body as JSON.
    ///
    /// # Errors
    /// It is no JSON, or not of this shape.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_slice(&self.body)
    }

    /// A parameter of the query.
    #[must_use]
    pub fn query(&self, name: &str) -> Option<&str> {
        self.query.get(name)?.as_str()
    }

    /// A parameter of the route.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<&str> {
        self.params.get(name)?.as_str()
    }
}

impl Trigger for HttpRequest {
    fn from_invocation(invocation: Invocation) -> Result<Self, DecodeError> {
        let (value, _) = invocation.into_single()?;
        let Value::Object(mut request) = envelope::open(&value) else {
            return Err(DecodeError::Shape("an HTTP request"));
        };
        let method = request.get("Method").and_then(Value::as_str);
        let method = method.and_then(|method| method.parse().ok());
        let headers = headers(&object(request.remove("Headers")));
        let mut params = object(request.remove("Params"));
        params.retain(|_, value| !value.is_null());
        Ok(Self {
            method: method.ok_or(DecodeError::Shape("an HTTP request"))?,
            url: request.get("Url").and_then(Value::as_str).unwrap_or_default().to_owned(),
            query: object(request.remove("Query")),
            params,
            identities: match request.remove("Identities") {
                Some(Value::Array(identities)) => identities,
                _ => Vec::new(),
            },
            body: body(request.remove("Body"), &headers)?,
            headers,
        })
    }
}

fn object(value: Option<Value>) -> Map<String, Value> {
    match value {
        Some(Value::Object(members)) => members,
        _ => Map::new(),
    }
}

/// Values are arrays in `Data` and joined strings in `Metadata`; both are understood.
fn headers(members: &Map<String, Value>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, values) in members {
        let Ok(name) = name.parse::<HeaderName>() else { continue };
        for value in values.as_array().map_or(std::slice::from_ref(values), Vec::as_slice) {
            let value = value.as_str().and_then(|value| HeaderValue::from_str(value).ok());
            if let Some(value) = value {
                headers.append(&name, value);
            }
        }
    }
    headers
}

/// The host sends octet streams and multipart bodies in base64, everything else as text.
fn body(value: Option<Value>, headers: &HeaderMap) -> Result<Vec<u8>, DecodeError> {
    let text = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::String(text)) => text,
        Some(native) => return Ok(native.to_string().into_bytes()),
    };
    let media_type = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let media_type = media_type.unwrap_or_default().trim().to_ascii_lowercase();
    if media_type.starts_with("application/octet-stream") || media_type.starts_with("multipart/") {
        return Ok(STANDARD.decode(text)?);
    }
    Ok(text.into_bytes())
}
