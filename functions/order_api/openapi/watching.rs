//! The portal's part of the contract: what changes, how much waits where, and what is stored about
//! one order.

use serde_json::{Value, json};

use super::schemas::{nullable, object, reference};
use super::{Operation, json_body};
use crate::problem::Kind;

/// What a route of the portal asks for and gives, or `None` for one that is described elsewhere.
pub(super) fn operation(method: &str, path: &str) -> Option<Operation> {
    let of_one = |operation: Operation| {
        operation.parameter("path", "id", "The order's id.", reference("OrderId"))
    };
    Some(match (method, path) {
        ("GET", "/api/feed") => feed(),
        ("GET", "/api/ops/system") => {
            Operation::new("showSystem", "How much waits where, and since when")
                .answer(200, "Every place.", json_body("System"))
                .refuse(&[Kind::INTERNAL])
        }
        ("GET", "/api/ops/orders/{id}") => {
            of_one(Operation::new("readRecord", "An order as it is stored, and its events"))
                .answer(200, "The record.", json_body("Record"))
                .refuse(&[Kind::NOT_FOUND, Kind::INTERNAL, Kind::STORE_UNAVAILABLE])
        }
        ("POST", "/api/ops/orders/{id}/duplicate") => {
            let mut operation = of_one(Operation::new(
                "duplicateEvent",
                "Deliver the order's first event once more",
            ))
            .answer(202, "The topic has the copy.", json_body("Duplicate"))
            .refuse(&[
                Kind::MALFORMED_JSON,
                Kind::BODY_INCOMPLETE,
                Kind::FAULTS_SWITCHED_OFF,
                Kind::NOT_FOUND,
                Kind::BODY_TOO_LARGE,
                Kind::UNSUPPORTED_MEDIA_TYPE,
                Kind::INVALID_REQUEST,
                Kind::INTERNAL,
                Kind::STORE_UNAVAILABLE,
                Kind::BROKER_UNAVAILABLE,
            ]);
            operation.object["requestBody"] =
                json!({"required": false, "content": json_body("DuplicateRequest")});
            operation
        }
        _ => return None,
    })
}

fn feed() -> Operation {
    let after = json!({"type": "string", "pattern": "^[0-9]{1,10}$"});
    let mut operation = Operation::new(
        "followOrders",
        "What changes about orders, as it changes; a customer's own",
    )
    .parameter("query", "after", "The `cursor` of an earlier answer.", after)
    .answer_tagged(
        "What has changed since; for `Accept: text/event-stream`, a stream of events \
                 `hello`, `order`, `reset`, `trouble` that ends after 110 s.",
        json_body("Feed"),
    )
    .refuse(&[Kind::INVALID_QUERY, Kind::INTERNAL, Kind::STORE_UNAVAILABLE, Kind::OVERLOADED]);
    operation.object["responses"]["200"]["content"]["text/event-stream"] =
        json!({"schema": {"type": "string"}});
    // A stream has no version.
    operation.object["responses"]["200"]["headers"]["ETag"] = json!({
        "description": "The version; send it back in If-None-Match. None on a stream.",
        "schema": {"type": "string", "minLength": 2},
    });
    operation
}

/// The schemas that the portal meets alone.
pub(super) fn schemas() -> Value {
    let count = json!({"type": "integer", "minimum": 0});
    let moment = json!({"anyOf": [reference("Timestamp"), {"type": "null"}]});
    let why = json!({"type": "string"});
    let place = object(
        &["name", "waiting", "atLeast", "scheduled", "oldestAt"],
        json!({
            "name": {"type": "string"},
            "waiting": count,
            "atLeast": {"type": "boolean"},
            "scheduled": count,
            "oldestAt": moment,
            "unavailable": why,
        }),
    );
    let places = json!({"type": "array", "items": place});
    json!({
        "Feed": object(&["cursor", "reset", "orders"], json!({
            "cursor": {"type": "string"},
            "reset": {"type": "boolean"},
            "orders": {"type": "array", "maxItems": 500, "items": reference("Order")},
        })),
        "System": object(&["at", "local", "apps", "subscriptions", "queues"], json!({
            "at": reference("Timestamp"),
            "local": {"type": "boolean"},
            "topic": {"type": "string"},
            "apps": {"type": "array", "items": {"type": "string"}},
            "subscriptions": places,
            "queues": places,
            "outbox": object(&[], json!({
                "waiting": count, "atLeast": {"type": "boolean"}, "oldestAt": moment,
                "unavailable": why,
            })),
            "orders": object(&[], json!({
                "open": count, "atLeast": {"type": "boolean"}, "deadLettered": count,
                "unavailable": why,
            })),
        })),
        "Record": object(&["document", "events"], json!({
            "document": {"type": "object"},
            "events": {"type": "array", "items": object(&["id", "eventType", "event", "state"],
                json!({
                    "id": {"type": "string"},
                    "eventType": {"type": "string"},
                    "event": {"type": "object"},
                    "state": {"type": "string", "enum": ["pending", "published", "parked"]},
                    "createdAt": reference("Timestamp"),
                    "publishedAt": moment,
                    "parkedReason": nullable("string"),
                }))},
        })),
        "DuplicateRequest": duplicate_request(),
        "Duplicate": object(&["messageId"], json!({"messageId": {"type": "string"}})),
    })
}

fn duplicate_request() -> Value {
    let reason = json!({"type": "string", "minLength": 1, "maxLength": 500, "pattern": "\\S"});
    let mut request = object(&[], json!({ "reason": reason }));
    request["additionalProperties"] = json!(false);
    request
}
