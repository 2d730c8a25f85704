//! Every problem that a client can meet, by its name: the last segment of its `type`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// Name, status, and what it says. `docs/api.md` says what to do about each; a test compares.
pub(super) const PROBLEMS: [(&str, u16, &str); 33] = [
    ("malformed-json", 400, "The body is no JSON."),
    ("body-incomplete", 400, "The connection ended before the body did."),
    ("invalid-header", 400, "A header is not valid."),
    ("invalid-query", 400, "A query parameter is not valid."),
    ("untrusted-principal", 400, "A header says who is asking, and nobody vouches for it."),
    ("unauthenticated", 401, "Who is asking cannot be made out."),
    ("forbidden", 403, "The role is missing."),
    ("other-customer", 403, "The order is for another customer."),
    ("not-found", 404, "There is nothing here."),
    ("gone", 404, "The dead letter is not there."),
    ("method-not-allowed", 405, "The method is not supported here."),
    ("order-closed", 409, "The order has ended."),
    ("order-unwinding", 409, "The order is being undone already."),
    ("payment-begun", 409, "The payment has been made or is being made."),
    ("already-replayed", 409, "Somebody replayed it before."),
    ("already-discarded", 409, "Somebody discarded it before."),
    ("in-progress", 409, "Somebody is at it."),
    ("locked", 409, "The dead letter cannot be taken right now."),
    ("replay-limit", 409, "It was replayed as often as it may be."),
    ("body-too-large", 413, "The body is too large."),
    ("unsupported-media-type", 415, "The content type is not supported."),
    ("invalid-order", 422, "The order breaks at least one rule."),
    ("invalid-request", 422, "The request breaks at least one rule."),
    ("too-many-selected", 422, "More are selected than one request may move."),
    ("not-routable", 422, "Nobody would get a replay of this."),
    ("idempotency-key-reused", 422, "The Idempotency-Key was used for another order."),
    ("too-many-orders", 429, "This customer sends more orders than its rate allows."),
    ("internal", 500, "A defect of ours."),
    ("outbox-not-draining", 503, "Events do not leave the outbox."),
    ("store-unavailable", 503, "The order store cannot be reached."),
    ("broker-unavailable", 503, "Dead letters cannot be reached."),
    ("overloaded", 503, "The order store is too slow for what is asked of it."),
    ("issuer-unavailable", 503, "Credentials cannot be checked at the moment."),
];

/// The answers with these problems, one per status.
pub(super) fn refusals(names: &[&str]) -> BTreeMap<String, Value> {
    let mut of_status: BTreeMap<u16, Vec<(&str, &str)>> = BTreeMap::new();
    for &(name, status, about) in PROBLEMS.iter().filter(|(name, ..)| names.contains(name)) {
        of_status.entry(status).or_default().push((name, about));
    }
    of_status
        .into_iter()
        .map(|(status, problems)| (status.to_string(), answer(status, &problems)))
        .collect()
}

fn answer(status: u16, problems: &[(&str, &str)]) -> Value {
    let about: Vec<&str> = problems.iter().map(|(_, about)| *about).collect();
    let types: Vec<String> = problems.iter().map(|(name, _)| format!("/problems/{name}")).collect();
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documents_know_the_same_problems_as_the_code() {
        let known: Vec<(&str, u16)> = PROBLEMS.iter().map(|(n, status, _)| (*n, *status)).collect();
        let told: Vec<(&str, u16)> = include_str!("../../../docs/api.md")
            .lines()
            .filter_map(|line| {
                let (name, rest) = line.strip_prefix("| `/problems/")?.split_once("` | ")?;
                Some((name, rest.get(..3)?.parse().ok()?))
            })
            .collect();
        assert_eq!(known, told, "docs/api.md has others");
        // Where problems are made, each names itself on the line of its status or the next.
        for source in [include_str!("../../problem.rs"), include_str!("../cancel.rs")] {
            let made = ["Self::new(StatusCode::", "return conflict("];
            for call in made.iter().flat_map(|made| source.split(made).skip(1)) {
                let name = call.split('"').nth(1).unwrap();
                assert!(known.iter().any(|(known, _)| *known == name), "{name} is in no table");
            }
        }
    }
}
