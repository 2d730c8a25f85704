//! Rules as the administration API writes them, and as its clients send them.

use xml::Element;

use super::describe::description;
use super::writer::Writer;
use crate::broker::{Rule, Timestamp};
use crate::filter::{Action, Correlation, Filter, Scalar, SqlFilter};

const SCHEMA: &str = "http://www.w3.org/2001/XMLSchema";

/// Correlation fields: the element and the system property, in the order of the schema.
const CORRELATION_FIELDS: [(&str, &str); 8] = [
    ("CorrelationId", "CorrelationId"),
    ("MessageId", "MessageId"),
    ("To", "To"),
    ("ReplyTo", "ReplyTo"),
    ("Label", "Label"),
    ("SessionId", "SessionId"),
    ("ReplyToSessionId", "ReplyToSessionId"),
    ("ContentType", "ContentType"),
];

/// Writes the description of a rule.
pub(super) fn put(out: &mut Writer, rule: &Rule) {
    out.open(&description("RuleDescription"));
    match &rule.filter {
        Filter::True => put_constant(out, "TrueFilter", "1=1"),
        Filter::False => put_constant(out, "FalseFilter", "1=0"),
        Filter::Sql(filter) => {
            out.open("Filter i:type=\"SqlFilter\"")
                .element("SqlExpression", filter.text())
                .element("CompatibilityLevel", 20)
                .open("Parameters");
            for (name, value) in filter.parameters() {
                put_pair(out, name, value);
            }
            out.close("Parameters").close("Filter");
        }
        Filter::Correlation(filter) => {
            out.open("Filter i:type=\"CorrelationFilter\"");
            for (element, property) in CORRELATION_FIELDS {
                let field = filter.system.iter().find(|(name, _)| *name == property);
                out.optional(element, field.map(|(_, text)| text));
            }
            out.open("Properties");
            for (name, value) in &filter.user {
                put_pair(out, name, value);
            }
            out.close("Properties").close("Filter");
        }
    }
    match &rule.action {
        None => out.open("Action i:type=\"EmptyRuleAction\""),
        Some(action) => out
            .open("Action i:type=\"SqlRuleAction\"")
            .element("SqlExpression", action.text())
            .element("CompatibilityLevel", 20)
            .element("Parameters", ""),
    };
    out.close("Action")
        .element("CreatedAt", rule.created_at)
        .element("Name", &rule.name)
        .close("RuleDescription");
}

fn put_constant(out: &mut Writer, kind: &str, sql: &str) {
    out.open(&format!("Filter i:type=\"{kind}\""))
        .element("SqlExpression", sql)
        .element("CompatibilityLevel", 20)
        .element("Parameters", "")
        .close("Filter");
}

fn put_pair(out: &mut Writer, name: &str, value: &Scalar<'_>) {
    let (kind, text) = match value {
        Scalar::Bool(v) => ("boolean", v.to_string()),
        Scalar::Int(v) if i32::try_from(*v).is_ok() => ("int", v.to_string()),
        Scalar::Int(v) => ("long", v.to_string()),
        Scalar::Float(v) => ("double", v.to_string()),
        Scalar::Text(v) => ("string", v.clone().into_owned()),
        Scalar::Time(v) => ("dateTime", Timestamp::from_millis(*v).to_string()),
        Scalar::Uuid(v) => ("string", v.to_string()),
        Scalar::Null | Scalar::Bytes(_) => ("string", String::new()),
    };
    out.open("KeyValueOfstringanyType")
        .element("Key", name)
        .element(&format!("Value i:type=\"d6p1:{kind}\" xmlns:d6p1=\"{SCHEMA}\""), text)
        .close("KeyValueOfstringanyType");
}

/// A rule as `element` describes it, under the name its address gives it.
pub(super) fn rule(element: &Element, name: &str) -> Result<Rule, String> {
    let action = element.child("Action").and_then(|action| action.child_value("SqlExpression"));
    let action = action.map(Action::parse).transpose();
    Ok(Rule {
        name: name.to_owned(),
        filter: filter(element.child("Filter"))?,
        action: action.map_err(|error| format!("the rule action: {error}"))?,
        created_at: Timestamp::from_millis(0),
    })
}

fn filter(element: Option<&Element>) -> Result<Filter, String> {
    let Some(element) = element else { return Ok(Filter::True) };
    match element.kind.as_deref() {
        Some("TrueFilter") => Ok(Filter::True),
        Some("FalseFilter") => Ok(Filter::False),
        Some("SqlFilter") => {
            let text = element.child_value("SqlExpression").unwrap_or_default();
            let parameters = pairs(element.child("Parameters"))?;
            let filter = SqlFilter::with_parameters(text, parameters);
            filter.map(Filter::Sql).map_err(|error| format!("the SQL filter: {error}"))
        }
        Some("CorrelationFilter") => {
            let field = |(element_name, property)| {
                element.child_value(element_name).map(|text| (property, text.to_owned()))
            };
            let system = CORRELATION_FIELDS.into_iter().filter_map(field).collect();
            Ok(Filter::Correlation(Correlation {
                system,
                user: pairs(element.child("Properties"))?,
            }))
        }
        other => Err(format!("the filter type `{}` is not known", other.unwrap_or_default())),
    }
}

fn pairs(element: Option<&Element>) -> Result<Vec<(String, Scalar<'static>)>, String> {
    let pair = |pair: &Element| {
        let name = pair.child_value("Key").ok_or("a property has no name")?;
        let value = pair.child("Value").ok_or_else(|| format!("`{name}` has no value"))?;
        Ok((name.to_owned(), scalar(name, value)?))
    };
    element.map_or(Ok(Vec::new()), |all| all.children.iter().map(pair).collect())
}

fn scalar(name: &str, value: &Element) -> Result<Scalar<'static>, String> {
    let text = value.text.trim();
    let kind = value.kind.as_deref().unwrap_or("string");
    let bad = || format!("the value `{text}` of `{name}` is no {kind}");
    Ok(match kind {
        "string" | "guid" | "char" | "anyURI" => Scalar::Text(value.text.clone().into()),
        "boolean" => Scalar::Bool(text.parse().map_err(|_| bad())?),
        "int" | "long" | "short" | "byte" | "unsignedInt" | "unsignedShort" | "unsignedByte"
        | "unsignedLong" => Scalar::Int(text.parse().map_err(|_| bad())?),
        "double" | "float" | "decimal" => Scalar::Float(text.parse().map_err(|_| bad())?),
        "dateTime" => Scalar::Time(millis(text).ok_or_else(bad)?),
        _ => return Err(format!("the type `{kind}` of `{name}` is not one filters have")),
    })
}

/// Milliseconds since 1970; a time without an offset is UTC.
fn millis(text: &str) -> Option<i64> {
    use time::format_description::well_known::Rfc3339;
    let parse = |text: &str| time::OffsetDateTime::parse(text, &Rfc3339).ok();
    let at = parse(text).or_else(|| parse(&format!("{text}Z")))?;
    i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_comes_back_as_it_was_sent() {
        let text = r#"<entry><RuleDescription><Filter i:type="SqlFilter">
            <SqlExpression>a = @p AND b &lt; @q</SqlExpression>
            <Parameters>
              <KeyValueOfstringanyType><Key>@p</Key><Value i:type="d:int">5</Value>
              </KeyValueOfstringanyType>
              <KeyValueOfstringanyType><Key>@q</Key><Value i:type="d:dateTime">2026-01-02T03:04:05</Value>
              </KeyValueOfstringanyType>
            </Parameters></Filter>
            <Action i:type="SqlRuleAction"><SqlExpression>SET c = 1</SqlExpression></Action>
            </RuleDescription></entry>"#;
        let read = |text: &str| {
            let root = Element::parse(text.as_bytes(), crate::limits::XML_BOUNDS).unwrap();
            rule(root.find("RuleDescription").unwrap(), "r").unwrap()
        };
        let first = read(text);
        let mut out = Writer::document();
        put(&mut out, &first);
        assert_eq!(read(&out.finish().unwrap()), first);
        let correlation = r#"<RuleDescription><Filter i:type="CorrelationFilter"><Label>x</Label>
            <Properties><KeyValueOfstringanyType><Key>t</Key><Value i:type="d:boolean">true</Value>
            </KeyValueOfstringanyType></Properties></Filter></RuleDescription>"#;
        let second = read(correlation);
        let mut out = Writer::document();
        put(&mut out, &second);
        assert_eq!(read(&out.finish().unwrap()), second);
    }
}
