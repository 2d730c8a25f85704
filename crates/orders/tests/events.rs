//! The contract of the events: one of each kind, as this crate makes it, against the examples and
//! schemas that are committed under `docs/events/`. The schemas themselves are evaluated by a
//! validator of their own in `tests/sdk/api`, over these examples and over a running stack's events.

#![allow(clippy::expect_used, clippy::unwrap_used, missing_docs, reason = "a test binary")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use orders::event::CloudEvent;
use orders::order::{Acceptance, Cancellation, PerService};
use orders::{
    Catalogue, Claim, Currency, EventType, Order, OutboxEvent, Product, Service, Sku, Status,
    Submission, Timestamp, saga,
};
use serde_json::{Value, json};

/// Set to anything, it makes the tests write the examples instead of comparing them.
const REGENERATE: &str = "REGENERATE";

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn at(second: i64) -> Timestamp {
    Timestamp::parse("2026-03-01T10:00:00Z").unwrap().plus_ms(second * 1_000)
}

fn accepted() -> (Order, OutboxEvent) {
    let body = br#"{"customerId":"c-42","currency":"EUR","items":[{"sku":"tea","quantity":2}]}"#;
    let submission = Submission::parse(body).unwrap();
    let catalogue = Catalogue::from_iter([Product {
        sku: Sku::parse("tea").unwrap(),
        name: "Tea".to_owned(),
        unit_price_minor: 1_290,
        currency: Currency::parse("EUR").unwrap(),
        available: 10,
    }]);
    let acceptance = Acceptance {
        order_id: "01890a5d-ac96-774b-bcce-b302099a8057".parse().unwrap(),
        at: at(0),
        correlation_id: "basket-7",
        traceparent: Some(TRACE),
    };
    Order::accept(&submission, submission.price(&catalogue).unwrap(), acceptance)
}

fn rejected(service: Service, reason: &str) -> OutboxEvent {
    let claim = Claim { order: accepted().0, service, attempt: 1 };
    *claim.reject(at(1), reason, Some(TRACE)).event.unwrap()
}

/// An order that is undone: `service` said no.
fn undone(service: Service, reason: &str) -> Order {
    let (mut order, _) = accepted();
    order.status.inventory = Status::Released;
    order.status.billing = Status::Released;
    let (status, stage) = match service {
        Service::Inventory => (&mut order.status.inventory, &mut order.stage.inventory),
        _ => (&mut order.status.billing, &mut order.stage.billing),
    };
    *status = Status::Failed;
    stage.outcome = Some(reason.to_owned());
    stage.unwound = true;
    order
}

fn closed(order: &Order) -> OutboxEvent {
    *saga::close(order, at(2), Some(TRACE)).unwrap().event.unwrap()
}

/// One event of each kind, in the order of [`EventType::ALL`].
fn one_of_each() -> Vec<CloudEvent> {
    let (order, created) = accepted();
    let mut completed = order.clone();
    completed.status =
        PerService { inventory: Status::Done, billing: Status::Done, notification: Status::Done };
    let mut cancelled = undone(Service::Billing, "payment_declined");
    cancelled.cancellation = Some(Cancellation { at: at(1) });
    let made = [
        created,
        rejected(Service::Inventory, "out_of_stock"),
        rejected(Service::Billing, "payment_declined"),
        *saga::cancel(&order, at(1), Some(TRACE)).event.unwrap(),
        closed(&completed),
        closed(&undone(Service::Inventory, "out_of_stock")),
        closed(&cancelled),
    ];
    made.into_iter().map(|made| made.event).collect()
}

fn folder() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/events"))
}

fn read(path: &PathBuf) -> Value {
    let text = std::fs::read_to_string(path);
    let text = text.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn names(folder: PathBuf) -> BTreeSet<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let names = entries.map(|name| name.into_string().unwrap());
    names.filter(|name| name.ends_with(".json")).collect()
}

#[test]
fn every_kind_of_event_is_committed_as_it_is_made() {
    for (event, kind) in one_of_each().iter().zip(EventType::ALL) {
        assert_eq!(event.event_type, kind);
        let path = folder().join(format!("examples/{kind}.json"));
        let made = serde_json::to_value(event).unwrap();
        #[expect(clippy::disallowed_methods, reason = "a switch of this test alone")]
        if std::env::var(REGENERATE).is_ok() {
            let text = serde_json::to_string_pretty(&made).unwrap();
            std::fs::write(&path, text + "\n").unwrap();
        }
        assert_eq!(read(&path), made, "{REGENERATE}=1 cargo test -p orders events");
    }
    let kinds = EventType::ALL.map(EventType::as_str);
    let examples = kinds.iter().map(|kind| format!("{kind}.json")).collect();
    assert_eq!(names(folder().join("examples")), examples);
    assert_eq!(names(folder()), kinds.iter().map(|kind| format!("{kind}.v1.json")).collect());
}

#[test]
fn schemas_and_events_have_the_same_members() {
    let keys = |value: &Value| value.as_object().unwrap().keys().cloned().collect::<BTreeSet<_>>();
    let texts = |value: &Value| {
        let entries = value.as_array().unwrap().iter();
        entries.map(|entry| entry.as_str().unwrap().to_owned()).collect::<BTreeSet<_>>()
    };
    for event in one_of_each() {
        let kind = event.event_type;
        let schema = read(&folder().join(format!("{kind}.v{}.json", event.schemaversion)));
        let made = serde_json::to_value(&event).unwrap();
        for (part, pointer) in [(&made, ""), (&made["data"], "/properties/data")] {
            let schema = schema.pointer(pointer).unwrap();
            // The examples have everything that is optional, too.
            assert_eq!(keys(&schema["properties"]), keys(part), "{kind} {pointer}");
            assert!(texts(&schema["required"]).is_subset(&keys(part)), "{kind} {pointer}");
            assert!(schema.get("additionalProperties").is_none(), "members may be added");
        }
        assert_eq!(schema["properties"]["type"]["const"], made["type"]);
        assert_eq!(schema["properties"]["schemaversion"]["const"], made["schemaversion"]);
    }
}

#[test]
fn a_consumer_ignores_what_it_does_not_know_and_misses_nothing_that_is_optional() {
    for event in one_of_each() {
        let mut newer = serde_json::to_value(&event).unwrap();
        newer["tenant"] = json!("added later");
        let read: CloudEvent = serde_json::from_value(newer).unwrap();
        assert_eq!(read, event);
        // The first events had no trace.
        let mut older = serde_json::to_value(&event).unwrap();
        older.as_object_mut().unwrap().remove("traceparent");
        let read: CloudEvent = serde_json::from_value(older).unwrap();
        assert_eq!(read, CloudEvent { traceparent: None, ..event });
    }
}

#[test]
fn an_edited_event_must_be_what_its_schema_says() {
    let check = |event: &Value| -> Option<String> {
        let event: CloudEvent = serde_json::from_value(event.clone()).unwrap();
        orders::payload::check(&event).err().map(|error| error.pointer)
    };
    for event in one_of_each() {
        let kind = event.event_type;
        let whole = serde_json::to_value(&event).unwrap();
        assert_eq!(check(&whole), None, "{kind}");
        let mut more = whole.clone();
        more["editedby"] = json!("o-1");
        more["data"]["more"] = json!(1);
        assert_eq!(check(&more), None, "{kind}: unknown members are allowed");
        for (pointer, value, place) in [
            ("/id", json!("event:x:1"), "/id"),
            ("/source", json!("/by/hand"), "/source"),
            ("/datacontenttype", json!("text/plain"), "/datacontenttype"),
            ("/correlationid", json!(""), "/correlationid"),
            ("/correlationid", json!("x".repeat(129)), "/correlationid"),
            ("/traceparent", json!("zzz"), "/traceparent"),
            ("/traceparent", json!(TRACE.to_uppercase()), "/traceparent"),
            ("/data", json!([]), "/data"),
            ("/data", json!(["01890a5d-ac96-774b-bcce-b302099a8057", "c", "EUR", 1]), "/data"),
            ("/data", json!({}), "/data"),
            ("/data", json!("text"), "/data"),
            ("/data/orderId", json!("01890a5d-ac96-774b-bcce-b302099a8058"), "/data/orderId"),
            ("/data/customerId", json!("a b"), "/data"),
            ("/data/currency", json!("eur"), "/data"),
            ("/data/totalMinor", json!(-1), "/data"),
            ("/data/totalMinor", json!("1"), "/data"),
            ("/data/totalMinor", json!(1_u64 << 53), "/data/totalMinor"),
        ] {
            let mut edited = whole.clone();
            *edited.pointer_mut(pointer).unwrap() = value;
            assert_eq!(check(&edited).as_deref(), Some(place), "{kind}: {edited:#}");
        }
        let required = read(&folder().join(format!("{kind}.v1.json")));
        for name in required["properties"]["data"]["required"].as_array().unwrap() {
            let mut edited = whole.clone();
            edited["data"].as_object_mut().unwrap().remove(name.as_str().unwrap());
            assert!(check(&edited).is_some(), "{kind} without {name}");
        }
        if whole["data"].get("reason").is_some() {
            let mut edited = whole.clone();
            edited["data"]["reason"] = json!("because");
            assert_eq!(check(&edited).as_deref(), Some("/data/reason"), "{kind}");
        }
    }
    let created = serde_json::to_value(&one_of_each()[0]).unwrap();
    for (items, place) in [
        (json!([]), "/data/items"),
        (json!([{"sku": "tea", "quantity": 0, "unitPriceMinor": 1}]), "/data/items/0/quantity"),
        (json!([{"sku": "tea", "quantity": -1, "unitPriceMinor": 1}]), "/data"),
        (json!([{"sku": "tea", "quantity": 1}]), "/data"),
        (json!([["tea", 1, 1]]), "/data"),
        (
            json!([{"sku": "tea", "quantity": 1, "unitPriceMinor": 1_000_000_001}]),
            "/data/items/0/unitPriceMinor",
        ),
    ] {
        let mut edited = created.clone();
        edited["data"]["items"] = items;
        assert_eq!(check(&edited).as_deref(), Some(place), "{edited:#}");
    }
}
