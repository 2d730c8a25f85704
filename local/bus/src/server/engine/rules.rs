//! Rules on the wire: `add-rule`, `remove-rule`, `enumerate-rules`, and their described types.

use super::context::Context;
use super::management::{Outcome, bad_request};
use super::request::Reply;
use crate::amqp::{Value, condition};
use crate::broker::{Entity, QueueId, Rule, RuleError, Timestamp};
use crate::filter::{Action, Correlation, Filter, Scalar, SqlFilter};
use crate::limits::MANAGEMENT_ITEMS_MAX;

const RULE_DESCRIPTION: u64 = 0x0137_0000_0004;
const EMPTY_ACTION: u64 = 0x0137_0000_0005;
const SQL_ACTION: u64 = 0x0137_0000_0006;
/// The filters have one hexadecimal digit fewer than the rest.
const SQL_FILTER: u64 = 0x0013_7000_0006;
const TRUE_FILTER: u64 = 0x0013_7000_0007;
const FALSE_FILTER: u64 = 0x0013_7000_0008;
const CORRELATION_FILTER: u64 = 0x0013_7000_0009;

/// Correlation fields: the name on the wire and the system property, in the order of the list.
const CORRELATION_FIELDS: [(&str, &str); 8] = [
    ("correlation-id", "CorrelationId"),
    ("message-id", "MessageId"),
    ("to", "To"),
    ("reply-to", "ReplyTo"),
    ("label", "Label"),
    ("session-id", "SessionId"),
    ("reply-to-session-id", "ReplyToSessionId"),
    ("content-type", "ContentType"),
];

fn subscription(entity: Entity) -> Result<QueueId, Reply> {
    match entity {
        Entity::Subscription(queue) => Ok(queue),
        _ => Err(Reply::error(400, condition::NOT_ALLOWED, "Only subscriptions have rules.")),
    }
}

fn refused(error: &RuleError) -> Reply {
    let (status, condition) = match error {
        RuleError::Exists(_) => (409, condition::ENTITY_ALREADY_EXISTS),
        RuleError::NotFound(_) => (404, condition::NOT_FOUND),
        RuleError::TooMany => (403, condition::RESOURCE_LIMIT),
    };
    Reply::error(status, condition, error.to_string())
}

pub(super) fn add(cx: &mut Context, entity: Entity, request: &Value) -> Outcome {
    let queue = subscription(entity)?;
    let name = request.get("rule-name").and_then(Value::as_text);
    let name = name.ok_or_else(|| bad_request("The field 'rule-name' is missing."))?;
    let description = request
        .get("rule-description")
        .ok_or_else(|| bad_request("The field 'rule-description' is missing."))?;
    let action = match description.get("sql-rule-action").and_then(|a| a.get("expression")) {
        None => None,
        Some(text) => {
            let text = text.as_text().unwrap_or_default();
            let action = Action::parse(text);
            Some(action.map_err(|error| bad_request(format!("The rule action: {error}.")))?)
        }
    };
    let rule = Rule {
        name: name.to_owned(),
        filter: filter(description)?,
        action,
        created_at: Timestamp::from_millis(0),
    };
    cx.with(|broker, now| broker.add_rule(now, queue, rule)).map_err(|error| refused(&error))?;
    Ok(Reply::ok(Value::Map(Vec::new())))
}

fn filter(description: &Value) -> Result<Filter, Reply> {
    if let Some(sql) = description.get("sql-filter") {
        let text = sql.get("expression").and_then(Value::as_text).unwrap_or_default();
        let given = sql.get("parameters").and_then(Value::as_map).unwrap_or_default();
        let filter = SqlFilter::with_parameters(text, scalars(given)?);
        let filter = filter.map_err(|error| bad_request(format!("The SQL filter: {error}.")))?;
        return Ok(Filter::Sql(filter));
    }
    let Some(given) = description.get("correlation-filter") else {
        return Err(bad_request("The rule has neither a sql-filter nor a correlation-filter."));
    };
    let text = |(wire, property)| {
        given.get(wire).and_then(Value::as_text).map(|text| (property, text.to_owned()))
    };
    let system = CORRELATION_FIELDS.into_iter().filter_map(text).collect();
    let user = scalars(given.get("properties").and_then(Value::as_map).unwrap_or_default())?;
    Ok(Filter::Correlation(Correlation { system, user }))
}

/// Names with values a filter can compare.
fn scalars(pairs: &[(Value, Value)]) -> Result<Vec<(String, Scalar<'static>)>, Reply> {
    let mut scalars = Vec::new();
    for (name, value) in pairs {
        let name = name.as_text().unwrap_or_default();
        let value = match value {
            Value::Bool(v) => Scalar::Bool(*v),
            Value::String(v) | Value::Symbol(v) => Scalar::Text(v.clone().into()),
            Value::Float(v) => Scalar::Float(f64::from(*v)),
            Value::Double(v) => Scalar::Float(*v),
            Value::Timestamp(v) => Scalar::Time(*v),
            Value::Uuid(v) => Scalar::Uuid(*v),
            other => match other.as_i64() {
                Some(v) => Scalar::Int(v),
                None => {
                    let text = format!("The property '{name}' has a type filters do not have.");
                    return Err(bad_request(text));
                }
            },
        };
        scalars.push((name.to_owned(), value));
    }
    Ok(scalars)
}

pub(super) fn remove(cx: &mut Context, entity: Entity, request: &Value) -> Outcome {
    let queue = subscription(entity)?;
    let name = request.get("rule-name").and_then(Value::as_text);
    let name = name.ok_or_else(|| bad_request("The field 'rule-name' is missing."))?;
    let removed = cx.with(|broker, now| broker.remove_rule(now, queue, name));
    removed.map_err(|error| refused(&error))?;
    Ok(Reply::ok(Value::Map(Vec::new())))
}

pub(super) fn enumerate(cx: &mut Context, entity: Entity, request: &Value) -> Outcome {
    let queue = subscription(entity)?;
    let number = |name| {
        let number = request.get(name).and_then(Value::as_i64).unwrap_or(0);
        usize::try_from(number).unwrap_or(0)
    };
    let (skip, top) = (number("skip"), number("top").min(MANAGEMENT_ITEMS_MAX));
    let rules = cx.with(|broker, _| broker.rules(queue).to_vec());
    let page = rules
        .iter()
        .skip(skip)
        .take(top)
        .map(|rule| Value::Map(vec![(Value::string("rule-description"), describe(rule))]));
    let page: Vec<Value> = page.collect();
    let status = if page.is_empty() { 204 } else { 200 };
    let body = Value::Map(vec![(Value::string("rules"), Value::Array(page))]);
    Ok(Reply { status, ..Reply::ok(body) })
}

fn describe(rule: &Rule) -> Value {
    let empty = |code| Value::described(code, Value::List(Vec::new()));
    let filter = match &rule.filter {
        Filter::True => empty(TRUE_FILTER),
        Filter::False => empty(FALSE_FILTER),
        Filter::Sql(filter) => {
            let fields = vec![Value::string(filter.text()), Value::Null];
            Value::described(SQL_FILTER, Value::List(fields))
        }
        Filter::Correlation(filter) => {
            let field = |(_, property): (&str, &str)| {
                let mut fields = filter.system.iter();
                let found = fields.find(|(name, _)| *name == property);
                found.map_or(Value::Null, |(_, text)| Value::string(text))
            };
            let mut fields: Vec<Value> = CORRELATION_FIELDS.into_iter().map(field).collect();
            let user = filter
                .user
                .iter()
                .map(|(name, value)| (Value::string(name), crate::message::from_scalar(value)));
            fields.push(Value::Map(user.collect()));
            Value::described(CORRELATION_FILTER, Value::List(fields))
        }
    };
    let action = match &rule.action {
        None => empty(EMPTY_ACTION),
        Some(action) => {
            let fields = vec![Value::string(action.text()), Value::Null];
            Value::described(SQL_ACTION, Value::List(fields))
        }
    };
    let created_at = Value::Timestamp(rule.created_at.as_millis());
    let fields = vec![filter, action, Value::string(&rule.name), created_at];
    Value::described(RULE_DESCRIPTION, Value::List(fields))
}
