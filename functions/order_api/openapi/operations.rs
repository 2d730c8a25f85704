//! The operators' part of the contract: dead letters, their replay, and who did what.

use serde_json::{Value, json};

use super::schemas::{nullable, object, reference};
use super::{Operation, json_body};
use crate::problem::Kind;

/// What a route of operators asks for and gives, or `None` for one that is described elsewhere.
pub(super) fn operation(method: &str, path: &str) -> Option<Operation> {
    const DEAD_LETTERS: &str = "/api/ops/dead-letters";
    let below = path.strip_prefix(DEAD_LETTERS);
    Some(match (method, path, below) {
        ("GET", "/api/ops/audit", _) => audit(),
        ("GET", _, Some("")) => {
            Operation::new("countDeadLetters", "How many dead letters there are, and why")
                .answer(200, "Every source.", json_body("DeadLetterOverview"))
                .refuse(&[Kind::INTERNAL, Kind::STORE_UNAVAILABLE, Kind::BROKER_UNAVAILABLE])
        }
        ("GET", _, Some("/{source}")) => list(),
        ("GET", _, Some("/{source}/{number}")) => one(),
        ("POST", _, Some("/{source}/replay")) => {
            act("replayDeadLetters", "Send dead letters again, to their own subscription alone")
        }
        ("POST", _, Some("/{source}/discard")) => {
            act("discardDeadLetters", "Remove dead letters, with a reason")
        }
        _ => return None,
    })
}

fn list() -> Operation {
    let limit = json!({"type": "integer", "minimum": 1, "maximum": 200, "default": 50});
    let after = json!({"type": "string", "minLength": 1, "maxLength": 512});
    let reason = json!({"type": "string", "minLength": 1});
    source(Operation::new("listDeadLetters", "Dead letters of one source, oldest first"))
        .parameter("query", "limit", "Dead letters of one page.", limit)
        .parameter("query", "after", "The `next` of an earlier page.", after)
        .parameter("query", "reason", "Only those with this reason.", reason)
        .answer(200, "A page.", json_body("DeadLetterPage"))
        .refuse(&[Kind::INVALID_QUERY, Kind::NOT_FOUND, Kind::INTERNAL, Kind::BROKER_UNAVAILABLE])
}

fn one() -> Operation {
    let number = json!({"type": "integer", "minimum": 0, "maximum": i64::MAX});
    source(Operation::new("readDeadLetter", "One dead letter, with the order beside it"))
        .parameter("path", "number", "Its sequence number.", number)
        .answer(200, "The dead letter.", json_body("DeadLetterInFull"))
        .refuse(&[
            Kind::NOT_FOUND,
            Kind::GONE,
            Kind::INTERNAL,
            Kind::STORE_UNAVAILABLE,
            Kind::BROKER_UNAVAILABLE,
        ])
}

fn act(id: &str, summary: &str) -> Operation {
    let mut operation = source(Operation::new(id, summary))
        .answer(200, "What became of each.", json_body("OperatorReport"))
        .refuse(&[
            Kind::MALFORMED_JSON,
            Kind::BODY_INCOMPLETE,
            Kind::NOT_FOUND,
            Kind::GONE,
            Kind::ALREADY_REPLAYED,
            Kind::ALREADY_DISCARDED,
            Kind::IN_PROGRESS,
            Kind::LOCKED,
            Kind::REPLAY_LIMIT,
            Kind::BODY_TOO_LARGE,
            Kind::UNSUPPORTED_MEDIA_TYPE,
            Kind::INVALID_REQUEST,
            Kind::TOO_MANY_SELECTED,
            Kind::NOT_ROUTABLE,
            Kind::INTERNAL,
            Kind::STORE_UNAVAILABLE,
            Kind::BROKER_UNAVAILABLE,
        ]);
    operation.object["requestBody"] =
        json!({"required": true, "content": json_body("OperatorRequest")});
    operation
}

fn audit() -> Operation {
    let limit = json!({"type": "integer", "minimum": 1, "maximum": 200, "default": 50});
    let after = json!({"type": "string", "minLength": 1, "maxLength": 512});
    Operation::new("listAudit", "Who did what, newest first")
        .parameter("query", "limit", "Entries of one page.", limit)
        .parameter("query", "after", "The `next` of an earlier page.", after)
        .answer(200, "A page.", json_body("AuditPage"))
        .refuse(&[Kind::INVALID_QUERY, Kind::INTERNAL, Kind::STORE_UNAVAILABLE])
}

fn source(operation: Operation) -> Operation {
    operation.parameter("path", "source", "Where it lies.", reference("DeadLetterSource"))
}

/// The schemas that only operators meet.
pub(super) fn schemas() -> Value {
    let count = json!({"type": "integer", "minimum": 0});
    let moment = json!({"anyOf": [reference("Timestamp"), {"type": "null"}]});
    let any_order = json!({"anyOf": [reference("OrderId"), {"type": "null"}]});
    let line = json!({
        "source": reference("DeadLetterSource"),
        "sequenceNumber": count,
        "messageId": {"type": "string"},
        "eventType": nullable("string"),
        "orderId": any_order,
        "reason": nullable("string"),
        "description": nullable("string"),
        "deliveryCount": count,
        "enqueuedAt": moment,
        "replays": count,
        "deferred": {"type": "boolean"},
    });
    let mut whole = line.clone();
    for (name, schema) in [
        ("replaysMax", count.clone()),
        ("target", json!({"type": "string"})),
        ("contentType", nullable("string")),
        ("subject", nullable("string")),
        ("correlationId", nullable("string")),
        ("properties", json!({"type": "object"})),
        ("body", json!({})),
        ("bodyEncoding", json!({"type": "string", "enum": ["json", "text", "base64"]})),
        ("unreadable", nullable("string")),
        ("order", json!({"anyOf": [reference("Order"), {"type": "null"}]})),
        ("audit", json!({"type": "array", "items": reference("AuditEntry")})),
    ] {
        whole[name] = schema;
    }
    let known = ["source", "sequenceNumber", "messageId", "deliveryCount"];
    json!({
        "DeadLetterSource": {"type": "string", "enum": [
            "inventory-sub", "billing-sub", "notification-sub", "payments-poison",
        ]},
        "DeadLetterOverview": object(&["sources"], json!({"sources": {"type": "array", "items":
            object(&["source", "count", "atLeast", "groups"], json!({
                "source": reference("DeadLetterSource"),
                "count": count,
                "atLeast": {"type": "boolean"},
                "oldestAt": moment,
                "oldestAgeSeconds": nullable("integer"),
                "groups": {"type": "array", "items": object(&["reason", "count"], json!({
                    "reason": nullable("string"), "count": count,
                }))},
                "unavailable": nullable("string"),
            })),
        }})),
        "DeadLetter": object(&known, line),
        "DeadLetterInFull": object(&known, whole),
        "DeadLetterPage": object(&["source", "deadLetters", "next"], json!({
            "source": reference("DeadLetterSource"),
            "deadLetters": {"type": "array", "maxItems": 200, "items": reference("DeadLetter")},
            "next": nullable("string"),
        })),
        "OperatorRequest": request(),
        "OperatorReport": report(&count, &any_order),
        "AuditEntry": object(&["id", "day", "at", "actor", "action", "source", "outcome"], json!({
            "id": {"type": "string"},
            "day": {"type": "string"},
            "at": reference("Timestamp"),
            "actor": {"type": "string"},
            "action": {"type": "string", "enum": [
                "replay", "discard", "duplicate", "local", "access",
            ]},
            "source": {"type": "string"},
            "sequenceNumber": nullable("integer"),
            "messageId": nullable("string"),
            "orderId": nullable("string"),
            "reason": {"type": "string"},
            "outcome": {"type": "string", "enum": [
                "begun", "sent", "replayed", "discarded", "done", "failed", "refused", "unknown",
            ]},
            "detail": nullable("string"),
            "replayedAs": nullable("string"),
            "edited": {"type": "boolean"},
            "finishedBy": nullable("string"),
            "count": nullable("integer"),
            "traceId": nullable("string"),
        })),
        "AuditPage": object(&["entries", "next"], json!({
            "entries": {"type": "array", "maxItems": 200, "items": reference("AuditEntry")},
            "next": nullable("string"),
        })),
    })
}

fn request() -> Value {
    let numbers = json!({
        "type": "array", "minItems": 1, "maxItems": 1_000,
        "items": {"type": "integer", "minimum": 0, "maximum": i64::MAX},
    });
    let text = json!({"type": "string", "minLength": 1, "maxLength": 500});
    let mut request = object(
        &["select", "reason"],
        json!({
            "select": {"oneOf": [
                object(&["sequenceNumbers"], json!({"sequenceNumbers": numbers})),
                object(&["reason"], json!({"reason": {"type": "string", "minLength": 1}})),
                object(&["all"], json!({"all": {"const": true}})),
            ]},
            "reason": text,
            "limit": {"type": "integer", "minimum": 1, "maximum": 1_000},
            "dryRun": {"type": "boolean"},
            "withoutFault": {"type": "boolean"},
            "body": {"type": "object"},
        }),
    );
    request["additionalProperties"] = json!(false);
    request
}

fn report(count: &Value, any_order: &Value) -> Value {
    let item = object(
        &["sequenceNumber", "outcome", "reopened", "faultRemoved"],
        json!({
            "sequenceNumber": count,
            "outcome": {"type": "string", "enum": [
                "replayed", "finished", "sent", "discarded", "would-replay", "would-discard",
                "already-replayed", "already-discarded", "in-progress", "locked", "gone",
                "loop-limit", "not-routable", "failed",
            ]},
            "detail": {"type": "string"},
            "messageId": nullable("string"),
            "orderId": any_order,
            "part": reference("Status"),
            "reopened": {"type": "boolean"},
            "faultRemoved": {"type": "boolean"},
            "replayedAs": {"type": "string"},
            "replayCount": count,
        }),
    );
    object(
        &["source", "action", "dryRun", "selected", "more", "counts", "results"],
        json!({
            "source": reference("DeadLetterSource"),
            "action": {"type": "string", "enum": ["replay", "discard"]},
            "dryRun": {"type": "boolean"},
            "selected": count,
            "more": {"type": "boolean"},
            "counts": {"type": "object", "additionalProperties": count},
            "results": {"type": "array", "items": item},
        }),
    )
}
