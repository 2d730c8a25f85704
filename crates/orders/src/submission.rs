//! A request to order, parsed: every rule that needs nothing but the request itself, all broken
//! rules reported together.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::field::pointer_segment;
use crate::limits::{FIELD_ERRORS_MAX, ITEMS_MAX, QUANTITY_MAX, UNIT_PRICE_MINOR_MAX};
use crate::order::Line;
use crate::{Catalogue, Currency, CustomerId, FieldError, Service, Sku, idempotency, money};

/// Short for `"faults": {"billing": "fail"}`.
const FORCE_BILLING_FAIL: &str = "force_billing_fail";

/// What a client asks for. Holds only values inside their bounds; prices are still the client's
/// claim until [`Submission::price`] has compared them with the catalogue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Submission {
    customer_id: CustomerId,
    currency: Currency,
    items: Vec<RequestedLine>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    faults: BTreeMap<Service, Fault>,
}

/// One line as the client sent it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestedLine {
    sku: Sku,
    quantity: u32,
    /// The price that the client was shown, if it cares to be told when that has changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    unit_price_minor: Option<u64>,
}

/// A failure that a client asks for, to see the system cope. Refused unless the environment
/// allows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// Every attempt of the service fails as a crash would, until the message is dead-lettered.
    Fail,
    /// The first attempts fail as they do when a dependency is away; the message comes back after
    /// a while.
    Flaky,
    /// The bank says no. Billing only.
    Decline,
    /// The bank takes the money and answers after we have given up waiting. Billing only.
    Late,
    /// The bank takes the money and the answer is lost. Billing only.
    Lost,
}

impl Fault {
    /// Whether the service itself fails, and not the bank.
    #[must_use]
    pub fn fails_the_service(self) -> bool {
        matches!(self, Self::Fail | Self::Flaky)
    }

    /// The faults that a service can be asked for, with their names.
    #[must_use]
    pub fn of(service: Service) -> &'static [(&'static str, Self)] {
        const ALL: [(&str, Fault); 5] = [
            ("fail", Fault::Fail),
            ("flaky", Fault::Flaky),
            ("decline", Fault::Decline),
            ("late", Fault::Late),
            ("lost", Fault::Lost),
        ];
        if service == Service::Billing { &ALL } else { &ALL[..2] }
    }
}

/// Why a request is no submission.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The body is no JSON. Holds where, for a person.
    Malformed(String),
    /// The body is JSON and breaks rules: one entry per bad field, at most
    /// [`FIELD_ERRORS_MAX`].
    Invalid(Vec<FieldError>),
}

impl Submission {
    /// Reads a request body: `{customerId, currency, items: [{sku, quantity, unitPriceMinor?}],
    /// faults?: {<service>: <fault>}, force_billing_fail?: bool}`. Unknown members are errors, so that a misspelt one is never
    /// silently ignored.
    ///
    /// # Errors
    /// [`Refusal::Malformed`] when the body is no JSON, [`Refusal::Invalid`] with every broken
    /// rule otherwise.
    pub fn parse(body: &[u8]) -> Result<Self, Refusal> {
        let value: Value = serde_json::from_slice(body).map_err(|error| {
            Refusal::Malformed(format!("line {}, column {}", error.line(), error.column()))
        })?;
        let mut errors = Errors::default();
        let parsed = parse_body(&value, &mut errors);
        match (parsed, errors.0) {
            (Some(submission), errors) if errors.is_empty() => Ok(submission),
            (_, errors) => Err(Refusal::Invalid(errors)),
        }
    }

    /// Who orders.
    #[must_use]
    pub fn customer_id(&self) -> &CustomerId {
        &self.customer_id
    }

    /// The currency that every price is in.
    #[must_use]
    pub fn currency(&self) -> Currency {
        self.currency
    }

    /// The failures that were asked for.
    #[must_use]
    pub fn faults(&self) -> &BTreeMap<Service, Fault> {
        &self.faults
    }

    /// Lower-case hexadecimal SHA-256 over the parsed request. Two bodies that differ only in
    /// spelling (member order, white space) hash alike.
    #[must_use]
    pub fn payload_hash(&self) -> String {
        // A struct of strings and integers always serialises.
        idempotency::payload_hash(&serde_json::to_vec(self).unwrap_or_default())
    }

    /// Compares the request with the catalogue and fixes the prices.
    ///
    /// # Errors
    /// One entry per line whose SKU is unknown, whose currency is not the order's, or whose price
    /// is no longer what the client was shown; or one for a total that cannot be charged.
    pub fn price(&self, catalogue: &Catalogue) -> Result<Priced, Vec<FieldError>> {
        let mut errors = Errors::default();
        let mut lines = Vec::with_capacity(self.items.len());
        for (index, line) in self.items.iter().enumerate() {
            let Some(product) = catalogue.get(&line.sku) else {
                errors.at(format!("/items/{index}/sku"), "unknown_sku", "is not sold here");
                continue;
            };
            if product.currency != self.currency {
                let detail = format!("is sold in {} only", product.currency);
                errors.at(format!("/items/{index}/sku"), "other_currency", detail);
            } else if line.unit_price_minor.is_some_and(|seen| seen != product.unit_price_minor) {
                let detail = format!("is now {}", product.unit_price_minor);
                errors.at(format!("/items/{index}/unitPriceMinor"), "price_changed", detail);
            } else {
                lines.push(Line {
                    sku: line.sku.clone(),
                    quantity: line.quantity,
                    unit_price_minor: product.unit_price_minor,
                });
            }
        }
        if !errors.0.is_empty() {
            return Err(errors.0);
        }
        match money::total_minor(lines.iter().map(|line| (line.quantity, line.unit_price_minor))) {
            Some(total_minor) => Ok(Priced { lines, total_minor }),
            None => Err(vec![FieldError::new("/items", "out_of_range", "the total is too large")]),
        }
    }
}

/// The lines of an order at the catalogue's prices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priced {
    pub(crate) lines: Vec<Line>,
    pub(crate) total_minor: u64,
}

/// Collects errors up to the limit.
#[derive(Default)]
struct Errors(Vec<FieldError>);

impl Errors {
    fn at(&mut self, pointer: impl Into<String>, code: &'static str, detail: impl Into<String>) {
        if self.0.len() < FIELD_ERRORS_MAX {
            self.0.push(FieldError::new(pointer, code, detail));
        }
    }

    /// The members of an object; complains about a value of another kind and about every member
    /// that is not among `known`.
    fn object<'v>(
        &mut self,
        value: &'v Value,
        pointer: &str,
        known: &[&str],
    ) -> Option<&'v Map<String, Value>> {
        let Value::Object(members) = value else {
            self.at(pointer, "wrong_type", "must be an object");
            return None;
        };
        for name in members.keys().filter(|name| !known.contains(&name.as_str())) {
            let detail = format!("is not known here; known are {}", known.join(", "));
            self.at(format!("{pointer}/{}", pointer_segment(name)), "unknown_field", detail);
        }
        Some(members)
    }

    /// A required text member, read by `parse`.
    fn text<T>(
        &mut self,
        members: &Map<String, Value>,
        pointer: &str,
        name: &str,
        parse: impl FnOnce(&str) -> Result<T, (&'static str, String)>,
    ) -> Option<T> {
        let pointer = format!("{pointer}/{name}");
        match members.get(name) {
            None => self.at(pointer, "missing", "is required"),
            Some(Value::String(text)) => match parse(text) {
                Ok(parsed) => return Some(parsed),
                Err((code, detail)) => self.at(pointer, code, detail),
            },
            Some(_) => self.at(pointer, "wrong_type", "must be a string"),
        }
        None
    }

    /// A whole number between 1 and `max`.
    fn whole(&mut self, value: &Value, pointer: String, max: u64) -> Option<u64> {
        let Value::Number(number) = value else {
            self.at(pointer, "wrong_type", "must be a whole number");
            return None;
        };
        match number.as_u64() {
            Some(whole) if (1..=max).contains(&whole) => Some(whole),
            None if number.as_f64().is_some_and(|float| float.fract() != 0.0) => {
                self.at(pointer, "not_an_integer", "must be a whole number");
                None
            }
            _ => {
                self.at(pointer, "out_of_range", format!("must be between 1 and {max}"));
                None
            }
        }
    }
}

fn parse_body(value: &Value, errors: &mut Errors) -> Option<Submission> {
    const KNOWN: [&str; 5] = ["customerId", "currency", "items", "faults", FORCE_BILLING_FAIL];
    let members = errors.object(value, "", &KNOWN)?;
    let customer_id = errors.text(members, "", "customerId", |text| {
        CustomerId::parse(text).map_err(|error| (error.code(), error.to_string()))
    });
    let currency = errors.text(members, "", "currency", |text| {
        Currency::parse(text).map_err(|error| ("invalid_currency", error.to_string()))
    });
    let items = match members.get("items") {
        None => {
            errors.at("/items", "missing", "is required");
            None
        }
        Some(Value::Array(items)) if items.is_empty() || items.len() > ITEMS_MAX => {
            let detail = format!("must hold between 1 and {ITEMS_MAX} items");
            errors.at("/items", "out_of_range", detail);
            None
        }
        Some(Value::Array(items)) => Some(
            items
                .iter()
                .enumerate()
                .filter_map(|(index, item)| parse_line(item, index, errors))
                .collect(),
        ),
        Some(_) => {
            errors.at("/items", "wrong_type", "must be an array");
            None
        }
    };
    let mut faults = members.get("faults").map_or_else(BTreeMap::new, |v| parse_faults(v, errors));
    match members.get(FORCE_BILLING_FAIL) {
        None | Some(Value::Bool(false)) => {}
        Some(Value::Bool(true)) => drop(faults.insert(Service::Billing, Fault::Fail)),
        Some(_) => {
            errors.at(format!("/{FORCE_BILLING_FAIL}"), "wrong_type", "must be true or false");
        }
    }
    Some(Submission { customer_id: customer_id?, currency: currency?, items: items?, faults })
}

fn parse_line(value: &Value, index: usize, errors: &mut Errors) -> Option<RequestedLine> {
    let pointer = format!("/items/{index}");
    let members = errors.object(value, &pointer, &["sku", "quantity", "unitPriceMinor"])?;
    let sku = errors.text(members, &pointer, "sku", |text| {
        Sku::parse(text).map_err(|error| (error.code(), error.to_string()))
    });
    let quantity = match members.get("quantity") {
        Some(value) => errors.whole(value, format!("{pointer}/quantity"), QUANTITY_MAX.into()),
        None => {
            errors.at(format!("{pointer}/quantity"), "missing", "is required");
            None
        }
    };
    let unit_price_minor = members.get("unitPriceMinor").map(|value| {
        errors.whole(value, format!("{pointer}/unitPriceMinor"), UNIT_PRICE_MINOR_MAX)
    });
    Some(RequestedLine {
        sku: sku?,
        quantity: u32::try_from(quantity?).ok()?,
        unit_price_minor: match unit_price_minor {
            Some(price) => Some(price?),
            None => None,
        },
    })
}

fn parse_faults(value: &Value, errors: &mut Errors) -> BTreeMap<Service, Fault> {
    let known = Service::ALL.map(Service::as_str);
    let Some(members) = errors.object(value, "/faults", &known) else { return BTreeMap::new() };
    let mut faults = BTreeMap::new();
    for service in Service::ALL {
        match members.get(service.as_str()) {
            None => {}
            Some(value) => {
                let known = Fault::of(service);
                let fault = known.iter().find(|(name, _)| value.as_str() == Some(name));
                match fault {
                    Some((_, fault)) => drop(faults.insert(service, *fault)),
                    None => {
                        let names: Vec<_> = known.iter().map(|(name, _)| *name).collect();
                        let detail = format!("must be one of {}", names.join(", "));
                        errors.at(format!("/faults/{service}"), "unknown_value", detail);
                    }
                }
            }
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn valid() -> Value {
        json!({"customerId": "c-1", "currency": "EUR", "items": [{"sku": "a", "quantity": 2}]})
    }

    fn catalogue() -> Catalogue {
        let product = |sku: &str, price: u64, currency: &str| crate::Product {
            sku: Sku::parse(sku).unwrap(),
            name: sku.to_owned(),
            unit_price_minor: price,
            currency: Currency::parse(currency).unwrap(),
            available: 10,
        };
        Catalogue::from_iter([product("a", 1_290, "EUR"), product("usd", 5, "USD")])
    }

    fn errors(body: &Value) -> Vec<(String, &'static str)> {
        match Submission::parse(body.to_string().as_bytes()) {
            Err(Refusal::Invalid(errors)) => {
                errors.into_iter().map(|error| (error.pointer, error.code)).collect()
            }
            other => panic!("expected field errors, got {other:?}"),
        }
    }

    #[test]
    fn each_bad_field_is_named_once_and_all_of_them_together() {
        let body = json!({
            "customerId": "", "currency": "euro", "status": "done",
            "items": [
                {"sku": "a", "quantity": 0},
                {"sku": "a", "quantity": -1, "unitPriceMinor": 0},
                {"sku": "a b", "quantity": 18_446_744_073_709_551_615_u64},
                {"quantity": 1.5, "price": 1},
                7,
            ],
            "faults": {"billing": "explode", "shipping": "fail"},
        });
        let expected = [
            ("/status", "unknown_field"),
            ("/customerId", "empty"),
            ("/currency", "invalid_currency"),
            ("/items/0/quantity", "out_of_range"),
            ("/items/1/quantity", "out_of_range"),
            ("/items/1/unitPriceMinor", "out_of_range"),
            ("/items/2/sku", "invalid_characters"),
            ("/items/2/quantity", "out_of_range"),
            ("/items/3/price", "unknown_field"),
            ("/items/3/sku", "missing"),
            ("/items/3/quantity", "not_an_integer"),
            ("/items/4", "wrong_type"),
            ("/faults/shipping", "unknown_field"),
            ("/faults/billing", "unknown_value"),
        ]
        .map(|(pointer, code)| (pointer.to_owned(), code));
        assert_eq!(errors(&body), expected);
    }

    #[test]
    fn shapes_and_bounds() {
        assert_eq!(errors(&json!([])), [(String::new(), "wrong_type")]);
        assert_eq!(errors(&json!({})).len(), 3);
        let mut body = valid();
        for (count, ok) in [(0, false), (1, true), (ITEMS_MAX, true), (ITEMS_MAX + 1, false)] {
            body["items"] = vec![json!({"sku": "a", "quantity": 1}); count].into();
            let parsed = Submission::parse(body.to_string().as_bytes());
            assert_eq!(parsed.is_ok(), ok, "{count} items");
        }
        let mut flood = valid();
        flood["items"] = vec![json!({"sku": "", "quantity": 0, "x": 1}); ITEMS_MAX].into();
        assert_eq!(errors(&flood).len(), FIELD_ERRORS_MAX);
        let mut odd = valid();
        odd["a/b~c"] = json!(1);
        assert_eq!(errors(&odd), [("/a~1b~0c".to_owned(), "unknown_field")]);
        assert!(matches!(Submission::parse(b"{\"a\":"), Err(Refusal::Malformed(_))));
        assert!(matches!(Submission::parse(b"\xff"), Err(Refusal::Malformed(_))));
        let deep = [vec![b'['; 5_000], vec![b']'; 5_000]].concat();
        assert!(matches!(Submission::parse(&deep), Err(Refusal::Malformed(_))));
    }

    #[test]
    fn a_forced_billing_failure_is_a_fault_like_any_other() {
        let mut short = valid();
        short["force_billing_fail"] = json!(true);
        let mut long = valid();
        long["faults"] = json!({"billing": "fail"});
        let parse = |body: &Value| Submission::parse(body.to_string().as_bytes()).unwrap();
        assert_eq!(parse(&short), parse(&long));
        assert_eq!(parse(&short).payload_hash(), parse(&long).payload_hash());
        short["force_billing_fail"] = json!("yes");
        assert_eq!(errors(&short), [("/force_billing_fail".to_owned(), "wrong_type")]);
    }

    #[test]
    fn the_hash_sees_content_and_not_spelling() {
        let hash = |text: &str| Submission::parse(text.as_bytes()).unwrap().payload_hash();
        let one = r#"{"customerId":"c","currency":"EUR","items":[{"sku":"a","quantity":2}]}"#;
        let spelt =
            r#" {"items":[{"quantity":2, "sku":"a"}], "currency":"EUR", "customerId":"c"} "#;
        assert_eq!(hash(one), hash(spelt));
        assert_ne!(hash(one), hash(&one.replace('2', "3")));
        assert_eq!(hash(one).len(), 64);
    }

    #[test]
    fn the_catalogue_has_the_last_word_on_prices() {
        let price = |items: Value| {
            let mut body = valid();
            body["items"] = items;
            Submission::parse(body.to_string().as_bytes()).unwrap().price(&catalogue())
        };
        let priced = price(json!([{"sku": "a", "quantity": 2}, {"sku": "a", "quantity": 1}]));
        assert_eq!(priced.unwrap().total_minor, 3 * 1_290);
        assert!(price(json!([{"sku": "a", "quantity": 1, "unitPriceMinor": 1_290}])).is_ok());
        let refused = price(json!([
            {"sku": "a", "quantity": 1, "unitPriceMinor": 1},
            {"sku": "nope", "quantity": 1},
            {"sku": "usd", "quantity": 1},
        ]))
        .unwrap_err();
        let found: Vec<_> = refused.iter().map(|e| (e.pointer.as_str(), e.code)).collect();
        assert_eq!(
            found,
            [
                ("/items/0/unitPriceMinor", "price_changed"),
                ("/items/1/sku", "unknown_sku"),
                ("/items/2/sku", "other_currency"),
            ]
        );
    }
}
