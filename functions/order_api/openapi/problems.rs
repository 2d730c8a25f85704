//! Problems in the contract: every kind there is, and which of them an operation answers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::problem::Kind;

/// The schema of a problem's `type`.
pub(super) fn types() -> Value {
    let kinds = Kind::ALL.iter().map(|kind| {
        let about = format!("{}: {}", kind.status().as_u16(), kind.about());
        json!({"const": kind.uri(), "description": about})
    });
    json!({
        "description": "What a client branches on. The address shows the problem explained, for people.",
        "oneOf": kinds.collect::<Vec<_>>(),
    })
}

/// The answers with problems of these kinds, one per status.
pub(super) fn refusals(kinds: &[Kind]) -> BTreeMap<String, Value> {
    let mut of_status: BTreeMap<u16, Vec<Kind>> = BTreeMap::new();
    // In the order of the list, whoever asked.
    for &kind in Kind::ALL.iter().filter(|kind| kinds.contains(kind)) {
        of_status.entry(kind.status().as_u16()).or_default().push(kind);
    }
    of_status
        .into_iter()
        .map(|(status, kinds)| (status.to_string(), answer(status, &kinds)))
        .collect()
}

fn answer(status: u16, kinds: &[Kind]) -> Value {
    let about: Vec<&str> = kinds.iter().map(|kind| kind.about()).collect();
    let types: Vec<String> = kinds.iter().map(|kind| kind.uri()).collect();
    let mut headers = json!({"X-Trace-Id": {"$ref": "#/components/headers/TraceId"}});
    let wait = json!({"type": "integer", "minimum": 1});
    if status == 401 {
        headers["WWW-Authenticate"] = json!({"required": true, "schema": {"type": "string"}});
    } else if [429, 503].contains(&status) {
        headers["Retry-After"] =
            json!({"description": "In seconds.", "required": true, "schema": wait});
    }
    json!({
        "description": about.join(" "),
        "headers": headers,
        "content": {"application/problem+json": {"schema": {
            "allOf": [{"$ref": "#/components/schemas/Problem"}],
            "properties": {"type": {"enum": types}, "status": {"const": status}},
        }}},
    })
}
