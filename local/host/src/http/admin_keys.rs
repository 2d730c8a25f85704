//! `/admin/host/keys` and `/admin/functions/{name}/keys`: see, set, make up and remove keys.

use http::{Method, Response, StatusCode};
use serde_json::{Value, json};

use super::admin::json_response;
use super::client::Body;
use super::keys::{Keys, MASTER, Scope, Set};
use super::proxy::status;

/// Answers a request for the keys of `scope`; `name` is the rest of the path, `body` what was sent.
pub(super) fn answer(
    keys: &Keys,
    scope: &Scope,
    method: &Method,
    name: Option<&str>,
    body: &[u8],
) -> Response<Body> {
    let shown = |name: &str, value: &str| json!({ "name": name, "value": value });
    match (method, name) {
        (&Method::GET, None) => match keys.list(scope) {
            Some(list) => {
                let list: Vec<Value> = list.iter().map(|(n, v)| shown(n, v)).collect();
                json_response(StatusCode::OK, &json!({ "keys": list, "links": [] }))
            }
            None => status(StatusCode::NOT_FOUND),
        },
        (&Method::GET, Some(name)) => match keys.get(scope, name) {
            Some(value) => json_response(StatusCode::OK, &shown(name, &value)),
            None => status(StatusCode::NOT_FOUND),
        },
        (&Method::POST | &Method::PUT, Some(name)) => {
            let given = serde_json::from_slice::<Value>(body).unwrap_or_default();
            let value = given.get("value").and_then(Value::as_str).map(str::to_owned);
            if *method == Method::PUT && value.is_none() {
                return status(StatusCode::BAD_REQUEST);
            }
            match keys.set(scope, name, value.filter(|_| *method == Method::PUT)) {
                Some(Set::Created(value)) => {
                    json_response(StatusCode::CREATED, &shown(name, &value))
                }
                Some(Set::Changed(value)) => json_response(StatusCode::OK, &shown(name, &value)),
                Some(Set::Refused) => status(StatusCode::BAD_REQUEST),
                None => status(StatusCode::NOT_FOUND),
            }
        }
        (&Method::DELETE, Some(MASTER)) => status(StatusCode::BAD_REQUEST),
        (&Method::DELETE, Some(name)) if keys.remove(scope, name) => status(StatusCode::NO_CONTENT),
        (&Method::DELETE, Some(_)) => status(StatusCode::NOT_FOUND),
        _ => status(StatusCode::METHOD_NOT_ALLOWED),
    }
}
