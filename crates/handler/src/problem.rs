//! Answers to requests that reach no handler of the app: RFC 9457 `application/problem+json`.
//!
//! Nothing internal is in them; what is worth knowing about a failure is in the log.

use axum::body::Body;
use http::{HeaderValue, Response, StatusCode, header};
use serde_json::{Map, Value};

const PROBLEM_JSON: HeaderValue = HeaderValue::from_static("application/problem+json");

/// A problem with no type of its own, so its title is that of the status.
pub(crate) fn problem(status: StatusCode, detail: &str) -> Response<Body> {
    with(status, detail, [])
}

/// The same with further members.
pub(crate) fn with<const N: usize>(
    status: StatusCode,
    detail: &str,
    further: [(&str, Value); N],
) -> Response<Body> {
    let mut members = Map::new();
    members.insert("type".into(), "about:blank".into());
    members.insert("title".into(), status.canonical_reason().unwrap_or("Error").into());
    members.insert("status".into(), status.as_u16().into());
    members.insert("detail".into(), detail.into());
    members.extend(further.into_iter().map(|(name, value)| (name.to_owned(), value)));
    let mut response = Response::new(Body::from(Value::Object(members).to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, PROBLEM_JSON);
    response
}

/// Has the connection closed after the response: what is left of the request cannot be trusted,
/// or will not be read.
pub(crate) fn closing(mut response: Response<Body>) -> Response<Body> {
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}
