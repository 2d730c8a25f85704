//! What an operator asks for: bodies and query parameters, parsed with one error per field.

use std::collections::{BTreeMap, BTreeSet};

use orders::FieldError;
use serde_json::{Map, Value};

use super::letter;
use crate::delivery::Delivery;
use crate::store::audit::Action;
use crate::verdict::Trouble;

/// Dead letters that one request replays or discards at most: a few seconds' work, which an
/// operator waits for and every proxy on the way allows.
pub(super) const SELECTION_MAX: usize = 1_000;

/// Characters of a reason: a sentence or two, and a ticket.
const REASON_CHARS_MAX: usize = 500;

/// Characters of a dead-letter reason that is filtered by; Service Bus takes no longer ones.
const FILTER_CHARS_MAX: usize = 4_096;

/// Which dead letters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Select {
    /// These.
    Numbers(BTreeSet<i64>),
    /// Those with this reason.
    Reason(String),
    /// All.
    All,
}

/// A replay or a discard, as asked for.
#[derive(Clone, Debug)]
pub(super) struct Order {
    pub(super) select: Select,
    /// At most this many, oldest first. Without it a selection of more than [`SELECTION_MAX`] is
    /// refused.
    pub(super) limit: Option<usize>,
    pub(super) without_fault: bool,
    pub(super) edited: Option<Box<Delivery>>,
    pub(super) dry_run: bool,
    /// Why.
    pub(super) reason: String,
}

/// What a request says about itself, whether or not it is valid: for the audit trail.
#[derive(Debug, Default)]
pub(in crate::order_api) struct Asked {
    pub(in crate::order_api) reason: String,
    /// The one dead letter that is meant, if there is just one.
    pub(super) sequence_number: Option<i64>,
}

impl Asked {
    pub(in crate::order_api) fn of(body: &Value) -> Self {
        let reason = body["reason"].as_str().unwrap_or_default();
        let reason = reason.trim().chars().take(REASON_CHARS_MAX).collect();
        let sequence_number = match body["select"]["sequenceNumbers"].as_array().map(Vec::as_slice)
        {
            Some([number]) => number.as_i64(),
            _ => None,
        };
        Self { reason, sequence_number }
    }
}

/// Why an experiment is made, from a body that may be left out: `{"reason": "…"}`.
pub(in crate::order_api) fn reason(body: &Value) -> Result<Option<String>, Vec<FieldError>> {
    let wrong = || vec![FieldError::new("", "wrong_type", "must be an object")];
    let members = body.as_object().ok_or_else(wrong)?;
    let mut read = Reader { members, errors: Vec::new() };
    read.only(&["reason"]);
    let reason = if members.is_empty() { None } else { read.reason() };
    if read.errors.is_empty() { Ok(reason) } else { Err(read.errors) }
}

struct Reader<'a> {
    members: &'a Map<String, Value>,
    errors: Vec<FieldError>,
}

impl Order {
    /// Parses a body that is JSON.
    pub(super) fn parse(body: &Value, action: Action) -> Result<Self, Vec<FieldError>> {
        let wrong = |why| vec![FieldError::new("", "wrong_type", why)];
        let members = body.as_object().ok_or_else(|| wrong("must be an object"))?;
        let mut read = Reader { members, errors: Vec::new() };
        let known: &[&str] = match action {
            Action::Replay => &["select", "limit", "dryRun", "reason", "withoutFault", "body"],
            Action::Discard => &["select", "limit", "dryRun", "reason"],
        };
        read.only(known);
        let select = read.select();
        let limit = read.limit();
        let without_fault = read.flag("withoutFault");
        let dry_run = read.flag("dryRun");
        let reason = read.reason();
        let edited = read.edited(select.as_ref());
        match (select, reason) {
            (Some(select), Some(reason)) if read.errors.is_empty() => {
                Ok(Self { select, limit, without_fault, edited, dry_run, reason })
            }
            _ => Err(read.errors),
        }
    }

    /// The one dead letter that is meant, if the client named exactly one.
    pub(super) fn single(&self) -> Option<i64> {
        match &self.select {
            Select::Numbers(numbers) if numbers.len() == 1 => numbers.first().copied(),
            _ => None,
        }
    }
}

impl Reader<'_> {
    fn error(&mut self, pointer: &str, code: &'static str, detail: &str) {
        if self.errors.len() < orders::limits::FIELD_ERRORS_MAX {
            self.errors.push(FieldError::new(pointer, code, detail));
        }
    }

    /// Complains about members other than these.
    fn only(&mut self, known: &[&str]) {
        for name in self.members.keys().filter(|name| !known.contains(&name.as_str())) {
            let shown: String = name.chars().take(64).collect();
            self.error(&format!("/{shown}"), "unknown_field", "is not known here");
        }
    }

    fn flag(&mut self, name: &str) -> bool {
        match self.members.get(name) {
            None => false,
            Some(Value::Bool(flag)) => *flag,
            Some(_) => {
                self.error(&format!("/{name}"), "wrong_type", "must be true or false");
                false
            }
        }
    }

    fn limit(&mut self) -> Option<usize> {
        let limit = self.members.get("limit")?;
        let number = limit.as_u64().and_then(|number| usize::try_from(number).ok());
        let within = number.filter(|number| (1..=SELECTION_MAX).contains(number));
        if within.is_none() {
            let detail = format!("must be between 1 and {SELECTION_MAX}");
            self.error("/limit", "out_of_range", &detail);
        }
        within
    }

    fn reason(&mut self) -> Option<String> {
        let Some(reason) = self.members.get("reason") else {
            self.error("/reason", "missing", "is required: why is this done?");
            return None;
        };
        let Some(reason) = reason.as_str() else {
            self.error("/reason", "wrong_type", "must be a string");
            return None;
        };
        let reason = reason.trim();
        if reason.is_empty() {
            self.error("/reason", "empty", "must not be blank");
        } else if reason.chars().count() > REASON_CHARS_MAX {
            let detail = format!("must have at most {REASON_CHARS_MAX} characters");
            self.error("/reason", "too_long", &detail);
        } else {
            return Some(reason.to_owned());
        }
        None
    }

    fn select(&mut self) -> Option<Select> {
        let members = match self.members.get("select") {
            Some(Value::Object(members)) => members,
            Some(_) => {
                self.error("/select", "wrong_type", "must be an object");
                return None;
            }
            None => {
                self.error("/select", "missing", "is required");
                return None;
            }
        };
        let mut members = members.iter();
        let (Some((name, value)), None) = (members.next(), members.next()) else {
            let detail = "must have one member: sequenceNumbers, reason or all";
            self.error("/select", "malformed", detail);
            return None;
        };
        match (name.as_str(), value) {
            ("sequenceNumbers", Value::Array(numbers)) => self.numbers(numbers),
            ("reason", Value::String(reason)) if reason.chars().count() <= FILTER_CHARS_MAX => {
                Some(Select::Reason(reason.clone()))
            }
            ("all", Value::Bool(true)) => Some(Select::All),
            ("sequenceNumbers", _) => {
                self.error("/select/sequenceNumbers", "wrong_type", "must be an array");
                None
            }
            ("reason", _) => {
                self.error("/select/reason", "wrong_type", "must be a reason as listed");
                None
            }
            ("all", _) => {
                self.error("/select/all", "unknown_value", "must be true");
                None
            }
            _ => {
                let detail = "known are sequenceNumbers, reason, all";
                self.error("/select", "unknown_field", detail);
                None
            }
        }
    }

    fn numbers(&mut self, numbers: &[Value]) -> Option<Select> {
        let pointer = "/select/sequenceNumbers";
        if numbers.is_empty() || numbers.len() > SELECTION_MAX {
            let detail = format!("must have 1 to {SELECTION_MAX} entries");
            self.error(pointer, "out_of_range", &detail);
            return None;
        }
        let mut found = BTreeSet::new();
        for (index, number) in numbers.iter().enumerate() {
            match number.as_i64() {
                Some(number) if number >= 0 => drop(found.insert(number)),
                _ => self.error(
                    &format!("{pointer}/{index}"),
                    "not_an_integer",
                    "must be the sequence number of a dead letter",
                ),
            }
        }
        Some(Select::Numbers(found))
    }

    fn edited(&mut self, select: Option<&Select>) -> Option<Box<Delivery>> {
        let body = self.members.get("body")?;
        let single = matches!(select, Some(Select::Numbers(numbers)) if numbers.len() == 1);
        if !single {
            let detail = "goes with a single sequence number only";
            self.error("/body", "not_allowed", detail);
            return None;
        }
        match letter::read(&body.to_string()) {
            Ok(delivery) => Some(Box::new(delivery)),
            Err(trouble) => {
                let reason = match &trouble {
                    Trouble::Poison { reason, .. } => reason,
                    _ => "not-a-cloudevent",
                };
                let detail = format!("would be dead-lettered: {reason}: {}", trouble.text());
                self.error("/body", "schema", &detail);
                None
            }
        }
    }
}

/// Query parameters of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub(super) limit: usize,
    pub(super) after: Option<String>,
    pub(super) reason: Option<String>,
}

impl Wanted {
    /// Parses the parameters; `known` are the ones that this list has besides `limit`.
    pub(super) fn parse(
        parameters: &BTreeMap<String, String>,
        known: &[&str],
        limit_default: usize,
        limit_max: usize,
    ) -> Result<Self, Vec<FieldError>> {
        let mut wanted = Self { limit: limit_default, after: None, reason: None };
        let mut errors = Vec::new();
        for (name, value) in parameters {
            match name.as_str() {
                "limit" => match value.parse() {
                    Ok(limit) if (1..=limit_max).contains(&limit) => wanted.limit = limit,
                    _ => {
                        let detail = format!("must be between 1 and {limit_max}");
                        errors.push(FieldError::new("/limit", "out_of_range", detail));
                    }
                },
                "after" if known.contains(&"after") => wanted.after = Some(value.clone()),
                "reason" if known.contains(&"reason") => wanted.reason = Some(value.clone()),
                _ => {
                    let shown: String = name.chars().take(64).collect();
                    let detail =
                        format!("is not known here; known are limit, {}", known.join(", "));
                    errors.push(FieldError::new(format!("/{shown}"), "unknown_field", detail));
                }
            }
        }
        if errors.is_empty() { Ok(wanted) } else { Err(errors) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn parse(body: &Value) -> Result<Order, Vec<String>> {
        Order::parse(body, Action::Replay).map_err(|errors| {
            errors.iter().map(|error| format!("{} {}", error.pointer, error.code)).collect()
        })
    }

    #[test]
    fn what_is_meant_is_said_completely_or_refused_field_by_field() {
        let order = parse(&json!({"select": {"sequenceNumbers": [3, 1, 3]}, "reason": " fixed "}));
        let order = order.unwrap();
        assert_eq!(order.select, Select::Numbers([1, 3].into()));
        assert_eq!((order.reason.as_str(), order.single(), order.dry_run), ("fixed", None, false));
        let all = json!({"select": {"all": true}, "reason": "r", "limit": 5, "dryRun": true,
            "withoutFault": true});
        let all = parse(&all).unwrap();
        assert!(all.select == Select::All && all.limit == Some(5) && all.dry_run);
        assert!(all.without_fault && all.edited.is_none());
        for (select, error) in [
            (json!({}), "/select malformed"),
            (json!({"all": true, "reason": "x"}), "/select malformed"),
            (json!({"all": false}), "/select/all unknown_value"),
            (json!({"everything": true}), "/select unknown_field"),
            (json!({"sequenceNumbers": []}), "/select/sequenceNumbers out_of_range"),
            (json!({"sequenceNumbers": vec![1; 1_001]}), "/select/sequenceNumbers out_of_range"),
            (json!({"sequenceNumbers": [1, "2"]}), "/select/sequenceNumbers/1 not_an_integer"),
            (json!({"sequenceNumbers": [1.5]}), "/select/sequenceNumbers/0 not_an_integer"),
            (json!({"sequenceNumbers": [-1]}), "/select/sequenceNumbers/0 not_an_integer"),
            (json!({"sequenceNumbers": 7}), "/select/sequenceNumbers wrong_type"),
            (json!({"reason": 7}), "/select/reason wrong_type"),
            (json!("all"), "/select wrong_type"),
        ] {
            let body = json!({"select": select, "reason": "r"});
            assert_eq!(parse(&body).unwrap_err(), [error], "{body}");
        }
        let body = json!({"limit": 0, "dryRun": "yes", "force": true, "reason": "  "});
        assert_eq!(
            parse(&body).unwrap_err(),
            [
                "/force unknown_field",
                "/select missing",
                "/limit out_of_range",
                "/dryRun wrong_type",
                "/reason empty"
            ]
        );
        assert_eq!(parse(&json!([])).unwrap_err(), [" wrong_type"]);
    }

    #[test]
    fn an_edited_body_is_for_one_letter_and_must_be_an_event() {
        let edit = |select: Value, body: Value| {
            parse(&json!({"select": select, "reason": "r", "body": body})).unwrap_err()
        };
        let one = json!({"sequenceNumbers": [1]});
        assert_eq!(edit(json!({"all": true}), json!({})), ["/body not_allowed"]);
        assert_eq!(edit(one.clone(), json!({})), ["/body schema"]);
        assert_eq!(edit(one.clone(), json!("text")), ["/body schema"]);
        let body = json!({"select": one, "reason": "r", "body": {}, "withoutFault": true});
        let errors = Order::parse(&body, Action::Discard).unwrap_err();
        assert!(errors.len() >= 2, "a discard edits nothing: {errors:?}");
    }
}
