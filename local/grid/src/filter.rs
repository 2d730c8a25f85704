//! Advanced filters: what a subscription wants to know about the values in an event.
//!
//! Operators, limits and what a missing key means:
//! <https://learn.microsoft.com/azure/event-grid/event-filtering#advanced-filtering>.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::limits;

/// One condition; all of a subscription have to hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AdvancedFilter {
    /// The attribute, or a path into the data: `subject`, `data.customer.id`.
    pub key: String,
    /// What is asked of its value.
    pub operator_type: Operator,
    /// For operators with one value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
    /// For operators with several; one has to fit. A range is a list of two numbers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub values: Option<Vec<Value>>,
}

/// What may be asked of a value. Texts are compared without case.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names of the service")]
pub enum Operator {
    NumberIn,
    NumberNotIn,
    NumberLessThan,
    NumberGreaterThan,
    NumberLessThanOrEquals,
    NumberGreaterThanOrEquals,
    NumberInRange,
    NumberNotInRange,
    BoolEquals,
    StringContains,
    StringNotContains,
    StringBeginsWith,
    StringNotBeginsWith,
    StringEndsWith,
    StringNotEndsWith,
    StringIn,
    StringNotIn,
    IsNullOrUndefined,
    IsNotNull,
}

/// What an operator compares with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operands {
    None,
    Number,
    Bool,
    Numbers,
    Ranges,
    Texts,
}

impl Operator {
    fn operands(self) -> Operands {
        use Operator as O;
        match self {
            O::NumberLessThan
            | O::NumberGreaterThan
            | O::NumberLessThanOrEquals
            | O::NumberGreaterThanOrEquals => Operands::Number,
            O::BoolEquals => Operands::Bool,
            O::NumberIn | O::NumberNotIn => Operands::Numbers,
            O::NumberInRange | O::NumberNotInRange => Operands::Ranges,
            O::IsNullOrUndefined | O::IsNotNull => Operands::None,
            O::StringContains
            | O::StringNotContains
            | O::StringBeginsWith
            | O::StringNotBeginsWith
            | O::StringEndsWith
            | O::StringNotEndsWith
            | O::StringIn
            | O::StringNotIn => Operands::Texts,
        }
    }

    /// The operator that this one denies; a missing value fits the denial.
    fn denied(self) -> Option<Self> {
        use Operator as O;
        Some(match self {
            O::NumberNotIn => O::NumberIn,
            O::NumberNotInRange => O::NumberInRange,
            O::StringNotContains => O::StringContains,
            O::StringNotBeginsWith => O::StringBeginsWith,
            O::StringNotEndsWith => O::StringEndsWith,
            O::StringNotIn => O::StringIn,
            _ => return None,
        })
    }
}

impl AdvancedFilter {
    /// Checks it by itself.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let Self { key, operator_type, value, values } = self;
        let wrong = |why: &str| Err(format!("advancedFilters: {operator_type:?} of {key:?} {why}"));
        if key.is_empty() || key.len() > limits::FILTER_TEXT_CHARS_MAX {
            return Err("advancedFilters: a key is empty or too long".to_owned());
        }
        let list = values.as_deref().unwrap_or_default();
        if list.len() > limits::FILTER_VALUES_MAX {
            return wrong("has too many values");
        }
        let is_range = |value: &Value| {
            let pair = value.as_array().filter(|pair| pair.len() == 2);
            pair.is_some_and(|pair| pair.iter().all(Value::is_number))
        };
        let is_text = |value: &Value| {
            let text = value.as_str();
            text.is_some_and(|text| text.chars().count() <= limits::FILTER_TEXT_CHARS_MAX)
        };
        let all = |fits: &dyn Fn(&Value) -> bool| {
            value.is_none() && !list.is_empty() && list.iter().all(fits)
        };
        let one = |fits: fn(&Value) -> bool| values.is_none() && value.as_ref().is_some_and(fits);
        match operator_type.operands() {
            Operands::None if value.is_none() && values.is_none() => Ok(()),
            Operands::None => wrong("takes no value"),
            Operands::Number if one(Value::is_number) => Ok(()),
            Operands::Number => wrong("takes a number as its value"),
            Operands::Bool if one(Value::is_boolean) => Ok(()),
            Operands::Bool => wrong("takes true or false as its value"),
            Operands::Numbers if all(&Value::is_number) => Ok(()),
            Operands::Numbers => wrong("takes numbers as its values"),
            Operands::Ranges if all(&is_range) => Ok(()),
            Operands::Ranges => wrong("takes pairs of numbers as its values"),
            Operands::Texts if all(&is_text) => Ok(()),
            Operands::Texts => wrong("takes texts as its values"),
        }
    }

    /// How many values it compares with.
    pub(crate) fn values(&self) -> usize {
        usize::from(self.value.is_some()) + self.values.as_ref().map_or(0, Vec::len)
    }

    /// Whether an event with these attributes fits. With `into_arrays`, one element of a list is
    /// enough, and a list as a whole never fits.
    pub(crate) fn holds(&self, event: &Map<String, Value>, into_arrays: bool) -> bool {
        let found = look_up(event, &self.key);
        let present = found.filter(|value| !value.is_null());
        match (self.operator_type, self.operator_type.denied()) {
            (Operator::IsNullOrUndefined, _) => present.is_none(),
            (Operator::IsNotNull, _) => present.is_some(),
            (operator, None) => present.is_some_and(|v| self.any(operator, v, into_arrays)),
            (_, Some(denied)) => !present.is_some_and(|v| self.any(denied, v, into_arrays)),
        }
    }

    fn any(&self, operator: Operator, found: &Value, into_arrays: bool) -> bool {
        match found {
            Value::Array(items) if into_arrays => {
                items.iter().any(|item| self.fits(operator, item))
            }
            single => self.fits(operator, single),
        }
    }

    fn fits(&self, operator: Operator, found: &Value) -> bool {
        use Operator as O;
        let values = self.values.as_deref().unwrap_or_default();
        let number = found.as_f64();
        let compared = |fits: fn(f64, f64) -> bool| {
            let wanted = self.value.as_ref().and_then(Value::as_f64);
            number.zip(wanted).is_some_and(|(found, wanted)| fits(found, wanted))
        };
        let text = |fits: fn(&str, &str) -> bool| {
            found.as_str().map(str::to_lowercase).is_some_and(|found| {
                let wanted = values.iter().filter_map(Value::as_str).map(str::to_lowercase);
                wanted.into_iter().any(|wanted| fits(&found, &wanted))
            })
        };
        match operator {
            O::NumberLessThan => compared(|found, wanted| found < wanted),
            O::NumberGreaterThan => compared(|found, wanted| found > wanted),
            O::NumberLessThanOrEquals => compared(|found, wanted| found <= wanted),
            O::NumberGreaterThanOrEquals => compared(|found, wanted| found >= wanted),
            O::NumberIn => {
                number.is_some_and(|found| values.iter().any(|v| v.as_f64() == Some(found)))
            }
            O::NumberInRange => number.is_some_and(|found| {
                let ends = values
                    .iter()
                    .filter_map(|pair| Some((pair.get(0)?.as_f64()?, pair.get(1)?.as_f64()?)));
                ends.into_iter().any(|(least, most)| (least..=most).contains(&found))
            }),
            O::BoolEquals => found.is_boolean() && Some(found) == self.value.as_ref(),
            O::StringContains => text(|found, wanted| found.contains(wanted)),
            O::StringBeginsWith => text(|found, wanted| found.starts_with(wanted)),
            O::StringEndsWith => text(|found, wanted| found.ends_with(wanted)),
            O::StringIn => text(|found, wanted| found == wanted),
            _ => false,
        }
    }
}

/// What Azure calls the attributes of CloudEvents in the key of a filter.
const ALIASES: [(&str, &str); 2] = [("eventid", "id"), ("eventtype", "type")];

/// The value at a path; the names of attributes are found in any case, those in the data as
/// they are written.
fn look_up<'a>(event: &'a Map<String, Value>, key: &str) -> Option<&'a Value> {
    let (first, rest) =
        key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
    let named = |name: &str| event.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    let alias = || ALIASES.iter().find(|(alias, _)| alias.eq_ignore_ascii_case(first));
    let value = named(first).or_else(|| named(alias()?.1))?.1;
    rest.into_iter().flat_map(|rest| rest.split('.')).try_fold(value, |value, name| value.get(name))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn event() -> Map<String, Value> {
        let event = json!({"id": "1", "type": "order.created", "subject": "Shops/7", "data": {
            "total": 12.5, "express": true, "note": null, "tags": ["Gift", "fragile"],
            "customer": {"id": "c-1"}, "count": 3}});
        event.as_object().unwrap().clone()
    }

    fn filter(key: &str, operator: &str, more: &Value) -> AdvancedFilter {
        let mut whole = json!({"key": key, "operatorType": operator});
        whole.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(whole).unwrap()
    }

    #[test]
    fn every_operator_has_its_meaning() {
        let value = |value: Value| json!({ "value": value });
        let values = |values: Value| json!({ "values": values });
        for (key, operator, more, expected) in [
            ("data.total", "NumberLessThan", value(json!(13)), true),
            ("data.total", "NumberLessThan", value(json!(12.5)), false),
            ("data.total", "NumberLessThanOrEquals", value(json!(12.5)), true),
            ("data.total", "NumberGreaterThan", value(json!(12)), true),
            ("data.count", "NumberGreaterThanOrEquals", value(json!(3.0)), true),
            ("data.count", "NumberIn", values(json!([1, 3])), true),
            ("data.count", "NumberNotIn", values(json!([1, 3])), false),
            ("data.count", "NumberInRange", values(json!([[5, 9], [2, 3]])), true),
            ("data.count", "NumberNotInRange", values(json!([[5, 9]])), true),
            ("data.express", "BoolEquals", value(json!(true)), true),
            ("data.express", "BoolEquals", value(json!(false)), false),
            ("TYPE", "StringContains", values(json!(["CREATED"])), true),
            ("EventType", "StringIn", values(json!(["order.created"])), true),
            ("eventId", "IsNotNull", json!({}), true),
            ("type", "StringNotContains", values(json!(["x", "done"])), true),
            ("Subject", "StringBeginsWith", values(json!(["shops/"])), true),
            ("subject", "StringNotBeginsWith", values(json!(["shops/"])), false),
            ("subject", "StringEndsWith", values(json!(["/8", "/7"])), true),
            ("subject", "StringNotEndsWith", values(json!(["/8"])), true),
            ("data.customer.id", "StringIn", values(json!(["C-1"])), true),
            ("data.customer.id", "StringNotIn", values(json!(["C-1"])), false),
            ("data.note", "IsNullOrUndefined", json!({}), true),
            ("data.nothing", "IsNullOrUndefined", json!({}), true),
            ("data.count", "IsNotNull", json!({}), true),
            // Of another kind, or missing: only a denial fits.
            ("data.total", "StringContains", values(json!(["12"])), false),
            ("subject", "NumberIn", values(json!([7])), false),
            ("data.nothing", "NumberLessThan", value(json!(1)), false),
            ("data.nothing", "StringNotIn", values(json!(["a"])), true),
            ("data.Customer.id", "StringIn", values(json!(["c-1"])), false),
        ] {
            let filter = filter(key, operator, &more);
            assert_eq!(filter.check(), Ok(()), "{key} {operator}");
            assert_eq!(filter.holds(&event(), false), expected, "{key} {operator} {more}");
        }
        let gift = filter("data.tags", "StringIn", &values(json!(["gift"])));
        assert!(!gift.holds(&event(), false) && gift.holds(&event(), true));
        let none = filter("data.tags", "StringNotIn", &values(json!(["gift"])));
        assert!(none.holds(&event(), false) && !none.holds(&event(), true));
    }

    #[test]
    fn operands_have_to_be_of_the_right_kind() {
        for (operator, more, why) in [
            ("NumberIn", json!({"value": 1}), "numbers"),
            ("NumberIn", json!({"values": []}), "numbers"),
            ("NumberLessThan", json!({"value": "1"}), "a number"),
            ("NumberInRange", json!({"values": [1, 2]}), "pairs"),
            ("BoolEquals", json!({"values": [true]}), "true or false"),
            ("StringIn", json!({"values": [1]}), "texts"),
            ("StringIn", json!({"values": ["x".repeat(513)]}), "texts"),
            ("StringIn", json!({"values": vec!["x"; 26]}), "too many"),
            ("IsNotNull", json!({"value": 1}), "no value"),
        ] {
            let error = filter("data.x", operator, &more).check().unwrap_err();
            assert!(error.contains(why), "{operator} {more}: {error}");
        }
        assert!(filter("", "IsNotNull", &json!({})).check().is_err());
    }
}
