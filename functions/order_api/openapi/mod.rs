//! `GET /api/openapi.json`: the contract of the HTTP API, OpenAPI 3.1. Put together from the table
//! of routes (who may), the bounds of `orders` (what may be sent) and the operations below (what
//! comes back), and committed as `docs/openapi.json`, so that a change of the contract shows in
//! review.
//!
//! A route of the table without an operation here fails a test.

mod operations;
mod problems;
mod schemas;
mod watching;

use std::sync::LazyLock;

use axum::response::{IntoResponse as _, Response};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use http::{HeaderMap, HeaderValue};
use serde_json::{Map, Value, json};

use super::{content_etag, not_modified, read};
use crate::access::routes::{Need, ROUTES, Route};
use crate::problem::Kind;
use problems::refusals;

/// The document as it is served, and its tag.
static SERVED: LazyLock<(Vec<u8>, HeaderValue)> = LazyLock::new(|| {
    let text = text().into_bytes();
    let etag = content_etag(&text);
    (text, etag)
});

/// The contract.
pub(super) async fn serve(headers: HeaderMap) -> Response {
    let (text, etag) = &*SERVED;
    if let Some(unchanged) = not_modified(&headers, etag) {
        return unchanged;
    }
    let fixed = [
        (CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, HeaderValue::from_static("no-cache")),
        (ETAG, etag.clone()),
    ];
    (fixed, text.as_slice()).into_response()
}

/// The document, as it is committed.
fn text() -> String {
    let mut text = serde_json::to_string_pretty(&document()).unwrap_or_default();
    text.push('\n');
    text
}

fn document() -> Value {
    let mut paths = Map::new();
    for route in &ROUTES {
        if let Some(operation) = operation(route) {
            let path = paths.entry(route.path).or_insert_with(|| json!({}));
            path[route.method.to_ascii_lowercase()] = operation;
        }
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Bulkhead orders",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Submit, follow and cancel orders. Every GET route answers HEAD as \
                well. Members and values may be added: ignore the ones you do not know.",
            "license": {"name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {
            "schemas": schemas::all(),
            "headers": {
                "TraceId": {
                    "description": "The trace under which the request is logged.",
                    "required": true,
                    "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
                },
                "ETag": {
                    "description": "The version; send it back in If-None-Match.",
                    "required": true,
                    "schema": {"type": "string", "minLength": 2},
                },
            },
            "securitySchemes": {
                "bearer": {
                    "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
                    "description": "An access token of the issuer, with app roles in claim `roles`.",
                },
            },
        },
    })
}

/// What a route asks for and gives, or `None` for one that nobody described.
fn operation(route: &Route) -> Option<Value> {
    let described =
        match (route.method, route.path) {
            ("POST", "/api/orders") => submit(),
            ("GET", "/api/orders") => list(),
            ("GET", "/api/orders/{id}") => one(),
            ("POST", "/api/orders/{id}/cancel") => cancel(),
            ("GET", "/api/products") => Operation::new("listProducts", "What can be bought")
                .answer(200, "The products.", json_body("Products")),
            ("GET", "/api/ops/attention") => Operation::new(
                "showAttention",
                "What does not get on by itself",
            )
            .answer(200, "Parked events and late orders.", json_body("Attention")),
            ("GET", "/api/openapi.json") => Operation::new("showContract", "This document")
                .answer_tagged(
                    "The contract.",
                    json!({"application/json": {"schema": {"type": "object"}}}),
                ),
            ("GET", "/healthz") => Operation::new("isAlive", "Whether the process lives").answer(
                200,
                "It does.",
                json_body("Health"),
            ),
            ("GET", "/readyz") => Operation::new("isReady", "Whether orders can be accepted")
                .answer(200, "They can.", json_body("Health"))
                .refuse(&[Kind::STORE_UNAVAILABLE, Kind::INTERNAL, Kind::OUTBOX_NOT_DRAINING]),
            ("GET", "/") => Operation::new("showPortal", "The portal").answer_tagged(
                "The page.",
                json!({"text/html; charset=utf-8": {"schema": {"type": "string"}}}),
            ),
            ("GET", "/{file}") => file(),
            (method, path) => {
                watching::operation(method, path).or_else(|| operations::operation(method, path))?
            }
        };
    Some(described.guarded(route.need))
}

fn submit() -> Operation {
    let mut operation = Operation::new("submitOrder", "Submit an order")
        .header(
            "Idempotency-Key",
            "Names the order that is meant: the same key with the same \
            content creates nothing new. Keys belong to one customer.",
            json!({
                "type": "string", "pattern": "^[!-~]+$", "minLength": 1,
                "maxLength": orders::limits::IDEMPOTENCY_KEY_CHARS_MAX,
            }),
        )
        .header(
            "X-Correlation-Id",
            "Kept with the order, its messages and its log lines.",
            json!({
                "type": "string", "pattern": "^[!-~]+$", "minLength": 1, "maxLength": 128,
            }),
        )
        .answer(202, "The order is committed.", json_body("Receipt"))
        .refuse(&[
            Kind::MALFORMED_JSON,
            Kind::BODY_INCOMPLETE,
            Kind::INVALID_HEADER,
            Kind::OTHER_CUSTOMER,
            Kind::BODY_TOO_LARGE,
            Kind::UNSUPPORTED_MEDIA_TYPE,
            Kind::INVALID_ORDER,
            Kind::KEY_REUSED,
            Kind::TOO_MANY_ORDERS,
            Kind::INTERNAL,
            Kind::STORE_UNAVAILABLE,
            Kind::OVERLOADED,
        ]);
    operation.object["requestBody"] = json!({"required": true, "content": json_body("Submission")});
    let headers = &mut operation.object["responses"]["202"]["headers"];
    headers["Location"] = json!({
        "description": "Where the order is.", "required": true,
        "schema": {"type": "string", "pattern": "^/api/orders/[0-9a-f-]{36}$"},
    });
    headers["Idempotency-Replayed"] = json!({
        "description": "The answer is that of an earlier request.",
        "schema": {"type": "string", "const": "true"},
    });
    operation
}

fn list() -> Operation {
    let about_limit = "Orders of one page.";
    let about_after = "The `next` of an earlier page.";
    Operation::new("listOrders", "The newest orders, page by page; a customer's own only")
        .parameter(
            "query",
            "limit",
            about_limit,
            json!({
                "type": "integer", "minimum": 1, "maximum": read::PAGE_ORDERS_MAX,
                "default": read::PAGE_ORDERS_DEFAULT,
            }),
        )
        .parameter(
            "query",
            "after",
            about_after,
            json!({
                "type": "string", "pattern": "^[A-Za-z0-9_-]+$",
                "maxLength": read::CONTINUATION_CHARS_MAX,
            }),
        )
        .answer_tagged("A page.", json_body("Page"))
        .refuse(&[Kind::INVALID_QUERY, Kind::INTERNAL, Kind::STORE_UNAVAILABLE])
}

fn one() -> Operation {
    Operation::new("readOrder", "One order; another customer's is not there")
        .parameter("path", "id", "The order's id.", json!({"$ref": "#/components/schemas/OrderId"}))
        .answer_tagged("The order.", json_body("Order"))
        .refuse(&[Kind::NOT_FOUND, Kind::INTERNAL, Kind::STORE_UNAVAILABLE])
}

fn cancel() -> Operation {
    Operation::new("cancelOrder", "Take an order back while nobody has set out to charge for it")
        .parameter("path", "id", "The order's id.", json!({"$ref": "#/components/schemas/OrderId"}))
        .answer(202, "The order, which has a cancellation from then on.", json_body("Order"))
        .refuse(&[
            Kind::NOT_FOUND,
            Kind::ORDER_CLOSED,
            Kind::ORDER_UNWINDING,
            Kind::PAYMENT_BEGUN,
            Kind::INTERNAL,
            Kind::STORE_UNAVAILABLE,
        ])
}

fn file() -> Operation {
    let text = json!({"schema": {"type": "string"}});
    Operation::new("showPortalFile", "A file of the portal")
        .parameter("path", "file", "Its name.", json!({"type": "string", "minLength": 1}))
        .answer_tagged(
            "The file.",
            json!({
                "text/html; charset=utf-8": text,
                "text/javascript; charset=utf-8": text,
                "text/css; charset=utf-8": text,
                "image/svg+xml": text,
            }),
        )
        .refuse(&[Kind::NOT_FOUND])
}

/// JSON of a named schema, as the content of a body.
fn json_body(schema: &str) -> Value {
    json!({"application/json": {"schema": {"$ref": format!("#/components/schemas/{schema}")}}})
}

fn trace_header() -> Value {
    json!({"X-Trace-Id": {"$ref": "#/components/headers/TraceId"}})
}

/// An operation object that grows.
struct Operation {
    object: Value,
    problems: Vec<Kind>,
}

impl Operation {
    fn new(id: &str, summary: &str) -> Self {
        let object =
            json!({"operationId": id, "summary": summary, "parameters": [], "responses": {}});
        Self { object, problems: Vec::new() }
    }

    fn parameter(mut self, place: &str, name: &str, about: &str, schema: Value) -> Self {
        let mut parameter = json!({
            "in": place, "name": name, "description": about, "required": place == "path",
        });
        parameter["schema"] = schema;
        if let Value::Array(parameters) = &mut self.object["parameters"] {
            parameters.push(parameter);
        }
        self
    }

    fn header(self, name: &str, about: &str, schema: Value) -> Self {
        self.parameter("header", name, about, schema)
    }

    fn answer(mut self, status: u16, about: &str, content: Value) -> Self {
        let mut answer = json!({"description": about, "headers": trace_header()});
        answer["content"] = content;
        self.object["responses"][status.to_string()] = answer;
        self
    }

    /// 200 with an ETag, or 304.
    fn answer_tagged(self, about: &str, content: Value) -> Self {
        let condition = json!({"type": "string", "pattern": "^[ -~]*$"});
        let about_condition = "The ETag of an answer that is still there.";
        let mut this =
            self.header("If-None-Match", about_condition, condition).answer(200, about, content);
        let tag = json!({"$ref": "#/components/headers/ETag"});
        this.object["responses"]["200"]["headers"]["ETag"] = tag.clone();
        this.object["responses"]["304"] =
            json!({"description": "Nothing has changed.", "headers": {"ETag": tag}});
        this.object["responses"]["304"]["headers"]["X-Trace-Id"] =
            trace_header()["X-Trace-Id"].take();
        this
    }

    /// The problems that it answers, beside those of [`Self::guarded`].
    fn refuse(mut self, kinds: &[Kind]) -> Self {
        self.problems.extend(kinds);
        self
    }

    /// The operation with what the guard adds: who may, and how others are refused.
    fn guarded(mut self, need: Need) -> Value {
        self.object["security"] = match need {
            Need::Public => json!([]),
            Need::SignedIn => json!([{"bearer": []}]),
            // Alternatives: each is enough.
            Need::AnyOf(roles) => roles.iter().map(|role| json!({"bearer": [role]})).collect(),
        };
        if need != Need::Public {
            self.problems.extend([
                Kind::UNTRUSTED_PRINCIPAL,
                Kind::UNAUTHENTICATED,
                Kind::ISSUER_UNAVAILABLE,
            ]);
        }
        if matches!(need, Need::AnyOf(_)) {
            self.problems.push(Kind::FORBIDDEN);
        }
        for (status, answer) in refusals(&self.problems) {
            self.object["responses"][status] = answer;
        }
        self.object
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Set to anything, it makes the test write the document instead of comparing it.
    const REGENERATE: &str = "REGENERATE";

    #[test]
    fn the_committed_document_is_the_one_that_is_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/openapi.json");
        #[expect(clippy::disallowed_methods, reason = "a switch of this test alone")]
        if std::env::var(REGENERATE).is_ok() {
            std::fs::write(path, text()).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            committed == text(),
            "docs/openapi.json is another one: {REGENERATE}=1 cargo test -p functions openapi"
        );
    }

    #[test]
    fn every_route_is_described_and_every_reference_leads_somewhere() {
        let document = document();
        for route in &ROUTES {
            let operation = &document["paths"][route.path][route.method.to_ascii_lowercase()];
            assert!(operation["responses"].is_object(), "{} {}", route.method, route.path);
        }
        let text = document.to_string();
        for reference in text.split("\"$ref\":\"#").skip(1) {
            let pointer = reference.split('"').next().unwrap();
            assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere");
        }
        let ids: Vec<&str> = text
            .split("\"operationId\":\"")
            .skip(1)
            .filter_map(|rest| rest.split('"').next())
            .collect();
        assert_eq!(ids.len(), ROUTES.len());
        assert!(ids.iter().all(|id| ids.iter().filter(|other| *other == id).count() == 1));
    }
}
