//! What the bodies hold. Bounds and names come from the types that enforce them.

use orders::history::Happening;
use orders::limits::{
    CUSTOMER_ID_CHARS_MAX, ERROR_CHARS_MAX, FIELD_ERRORS_MAX, ITEMS_MAX, QUANTITY_MAX,
    SKU_CHARS_MAX, TOTAL_MINOR_MAX, UNIT_PRICE_MINOR_MAX,
};
use orders::submission::Fault;
use orders::{Notice, Overall, Service, Status};
use serde_json::{Map, Value, json};

use super::read::PAGE_ORDERS_MAX;
use super::{operations, problems, watching};
use crate::outbox::sweep::STUCK_ORDERS_MAX;

/// Every schema, by name.
pub(super) fn all() -> Value {
    let mut all = of_orders();
    for more in [operations::schemas(), watching::schemas()] {
        if let (Value::Object(all), Value::Object(more)) = (&mut all, more) {
            all.extend(more);
        }
    }
    all
}

fn of_orders() -> Value {
    json!({
        "OrderId": {
            "type": "string", "format": "uuid",
            "pattern": "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$",
        },
        "CustomerId": {
            "type": "string", "minLength": 1, "maxLength": CUSTOMER_ID_CHARS_MAX,
            "pattern": "^[A-Za-z0-9_.@:+-]+$",
        },
        "Sku": {
            "type": "string", "minLength": 1, "maxLength": SKU_CHARS_MAX,
            "pattern": "^[A-Za-z0-9_.-]+$",
        },
        "Currency": {"description": "ISO 4217.", "type": "string", "pattern": "^[A-Z]{3}$"},
        "Timestamp": {
            "description": "RFC 3339 in UTC with six decimals.",
            "type": "string", "format": "date-time",
            "pattern": "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{6}Z$",
        },
        "Amount": {
            "description": "In the currency's smallest unit.",
            "type": "integer", "minimum": 0, "maximum": TOTAL_MINOR_MAX,
        },
        "Quantity": {"type": "integer", "minimum": 1, "maximum": QUANTITY_MAX},
        "Submission": submission(),
        "Faults": faults(),
        "Receipt": object(&["orderId", "status", "links"], json!({
            "orderId": reference("OrderId"),
            "status": {"const": Overall::Accepted},
            "warning": {"type": "string"},
            "links": reference("Links"),
        })),
        "Links": object(&["self"], json!({
            "self": {"type": "string", "pattern": "^/api/orders/[0-9a-f-]{36}$"},
        })),
        "Order": order(),
        "Line": object(&["sku", "quantity", "unitPriceMinor"], json!({
            "sku": reference("Sku"),
            "quantity": reference("Quantity"),
            "unitPriceMinor": reference("Amount"),
        })),
        "Status": {"type": "string", "enum": [
            Status::Pending, Status::Processing, Status::Done, Status::Failed,
            Status::DeadLettered, Status::Released, Status::Refunded,
        ]},
        "Stage": stage(),
        "HistoryEntry": object(&["at", "what"], json!({
            "at": reference("Timestamp"),
            "service": reference("Service"),
            "what": {"type": "string", "enum": [
                Happening::Accepted, Happening::AttemptFailed, Happening::RetryScheduled,
                Happening::DeadLettered, Happening::Done, Happening::Failed, Happening::Released,
                Happening::Refunded, Happening::CancelRequested, Happening::Completed,
                Happening::OrderFailed, Happening::Cancelled,
            ]},
            "attempt": {"type": "integer", "minimum": 1},
            "since": reference("Timestamp"),
            "note": {"type": "string"},
        })),
        "CustomerMessage": object(&["at", "notice", "subject", "text"], json!({
            "at": reference("Timestamp"),
            "notice": {"type": "string", "enum": [
                Notice::Received, Notice::Completed, Notice::Failed, Notice::Cancelled,
            ]},
            "subject": {"type": "string"},
            "text": {"type": "string"},
        })),
        "Service": {"type": "string", "enum": Service::ALL},
        "Page": object(&["orders", "next"], json!({
            "orders": {
                "type": "array", "maxItems": PAGE_ORDERS_MAX, "items": reference("Order"),
            },
            "next": nullable("string"),
        })),
        "Products": object(&["products", "faultsAllowed"], json!({
            "products": {"type": "array", "items": object(
                &["sku", "name", "unitPriceMinor", "currency", "available"],
                json!({
                    "sku": reference("Sku"),
                    "name": {"type": "string"},
                    "unitPriceMinor": reference("Amount"),
                    "currency": reference("Currency"),
                    "available": {"type": "integer", "minimum": 0},
                }),
            )},
            "faultsAllowed": {"type": "boolean"},
        })),
        "Attention": attention(),
        "Health": object(&["status"], json!({"status": {"enum": ["ok", "ready"]}})),
        "Problem": problem(),
        "ProblemType": problems::types(),
    })
}

/// An object of these properties, which may have others as well.
pub(super) fn object(required: &[&str], properties: Value) -> Value {
    let mut object = json!({"type": "object", "required": required});
    object["properties"] = properties;
    object
}

pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

pub(super) fn nullable(kind: &str) -> Value {
    json!({"type": [kind, "null"]})
}

fn per_service(schema: &str) -> Value {
    let of_each: Map<String, Value> =
        Service::ALL.iter().map(|s| (s.as_str().to_owned(), reference(schema))).collect();
    object(&Service::ALL.map(Service::as_str), Value::Object(of_each))
}

fn submission() -> Value {
    let mut line = object(
        &["sku", "quantity"],
        json!({
            "sku": reference("Sku"),
            "quantity": reference("Quantity"),
            "unitPriceMinor": {
                "description": "The price that was shown; the order is refused if it has changed.",
                "type": "integer", "minimum": 1, "maximum": UNIT_PRICE_MINOR_MAX,
            },
        }),
    );
    line["additionalProperties"] = false.into();
    let mut submission = object(
        &["customerId", "currency", "items"],
        json!({
            "customerId": reference("CustomerId"),
            "currency": reference("Currency"),
            "items": {"type": "array", "minItems": 1, "maxItems": ITEMS_MAX, "items": line},
            "faults": reference("Faults"),
        }),
    );
    submission["additionalProperties"] = false.into();
    submission["examples"] = json!([{
        "customerId": "c-42", "currency": "EUR", "items": [{"sku": "vitamin-c", "quantity": 2}],
    }]);
    submission
}

fn faults() -> Value {
    let of_each: Map<String, Value> = Service::ALL
        .iter()
        .map(|&service| {
            let names: Vec<_> = Fault::of(service).iter().map(|(name, _)| *name).collect();
            (service.as_str().to_owned(), json!({"type": "string", "enum": names}))
        })
        .collect();
    json!({
        "description": "Failures on purpose, where the environment allows them.",
        "type": "object", "properties": of_each, "additionalProperties": false,
    })
}

fn order() -> Value {
    object(
        &[
            "orderId",
            "customerId",
            "currency",
            "totalMinor",
            "items",
            "createdAt",
            "correlationId",
            "overall",
            "status",
            "stage",
            "links",
        ],
        json!({
            "orderId": reference("OrderId"),
            "customerId": reference("CustomerId"),
            "currency": reference("Currency"),
            "totalMinor": reference("Amount"),
            "items": {
                "type": "array", "minItems": 1, "maxItems": ITEMS_MAX, "items": reference("Line"),
            },
            "createdAt": reference("Timestamp"),
            "correlationId": {"type": "string", "minLength": 1},
            "overall": {"type": "string", "enum": [
                Overall::Accepted, Overall::Completed, Overall::Failed, Overall::Cancelled,
            ]},
            "status": per_service("Status"),
            "stage": per_service("Stage"),
            "cancellation": object(&["at"], json!({"at": reference("Timestamp")})),
            "history": {
                "description": "Of one order only.",
                "type": "array", "items": reference("HistoryEntry"),
            },
            "messages": {
                "description": "What the customer was told; of one order only.",
                "type": "array", "items": reference("CustomerMessage"),
            },
            "faults": reference("Faults"),
            "links": reference("Links"),
        }),
    )
}

fn stage() -> Value {
    let moment = json!({"anyOf": [reference("Timestamp"), {"type": "null"}]});
    object(
        &["attempt", "leaseUntil", "owner", "outcome", "error", "calls", "unwound", "updatedAt"],
        json!({
            "attempt": {"type": "integer", "minimum": 0},
            "leaseUntil": {
                "description": "Milliseconds since 1970; 0 when nobody holds it.",
                "type": "integer", "minimum": 0,
            },
            "owner": nullable("string"),
            "outcome": nullable("string"),
            "error": {"type": ["string", "null"], "maxLength": ERROR_CHARS_MAX},
            "calls": {"type": "integer", "minimum": 0},
            "handedOverAt": reference("Timestamp"),
            "unwound": {"type": "boolean"},
            "updatedAt": moment,
        }),
    )
}

fn attention() -> Value {
    object(
        &["parkedEvents", "stuckOrders"],
        json!({
            "parkedEvents": {"type": "array", "items": object(
                &["eventId", "orderId", "eventType", "createdAt", "reason"],
                json!({
                    "eventId": {"type": "string"},
                    "orderId": reference("OrderId"),
                    "eventType": {"type": "string"},
                    "createdAt": reference("Timestamp"),
                    "reason": nullable("string"),
                }),
            )},
            "stuckOrders": {"type": "array", "maxItems": STUCK_ORDERS_MAX, "items": object(
                &["orderId", "customerId", "createdAt", "waitsFor"],
                json!({
                    "orderId": reference("OrderId"),
                    "customerId": reference("CustomerId"),
                    "createdAt": reference("Timestamp"),
                    "waitsFor": {"type": "array", "items": {"type": "string"}},
                }),
            )},
        }),
    )
}

fn problem() -> Value {
    let mut problem = object(
        &["type", "title", "status", "traceId"],
        json!({
            "type": reference("ProblemType"),
            "title": {"type": "string", "minLength": 1},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string"},
            "traceId": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
            "errors": {"type": "array", "maxItems": FIELD_ERRORS_MAX, "items": object(
                &["pointer", "code", "detail"],
                json!({
                    "pointer": {"type": "string"},
                    "code": {"type": "string", "pattern": "^[a-z_]+$"},
                    "detail": {"type": "string"},
                }),
            )},
        }),
    );
    problem["description"] = "RFC 9457. Branch on `type`.".into();
    problem
}
