//! Names of queues, topics, databases with `{property}` in them, resolved per invocation from what
//! is known about its trigger item.
//!
//! Reference: <https://learn.microsoft.com/azure/azure-functions/functions-bindings-expressions-patterns>.

use crate::invocation::Envelope;

/// A name with or without properties in braces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EntityName {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    /// A path of property names, joined by dots.
    Property(String),
}

impl EntityName {
    /// Reads `text`; the error says what is wrong with its braces.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let (mut parts, mut rest) = (Vec::new(), text);
        while let Some(start) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(start);
            let inner = from.strip_prefix('{').and_then(|from| from.split_once('}'));
            let Some((property, after)) = inner.filter(|(name, _)| !name.contains('{')) else {
                return Err(format!("\"{text}\" has a brace without its partner"));
            };
            if property.trim().is_empty() {
                return Err(format!("\"{text}\" has empty braces"));
            }
            parts.push(Part::Literal(before.to_owned()));
            parts.push(Part::Property(property.trim().to_owned()));
            rest = after;
        }
        parts.push(Part::Literal(rest.to_owned()));
        Ok(Self { text: text.to_owned(), parts })
    }

    /// The name, if it is the same for every invocation.
    pub(crate) fn fixed(&self) -> Option<&str> {
        matches!(self.parts.as_slice(), [Part::Literal(_)]).then_some(self.text.as_str())
    }

    /// The name for the invocation with `envelope`.
    pub(crate) fn resolve(&self, envelope: &Envelope) -> Result<String, String> {
        let mut name = String::new();
        for part in &self.parts {
            match part {
                Part::Literal(text) => name.push_str(text),
                Part::Property(path) => {
                    let value = envelope.property(path).ok_or_else(|| {
                        format!(
                            "the name \"{}\" needs {{{path}}}, and this trigger item has no such \
                             value; it has: {}",
                            self.text,
                            envelope.properties().join(", ")
                        )
                    })?;
                    name.push_str(&value);
                }
            }
        }
        Ok(name)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Map, json};
    use time::macros::datetime;

    use super::*;
    use crate::invocation::BindingValue;
    use crate::invocation::envelope::BindingData;

    fn resolved(name: &str) -> Result<String, String> {
        let mut data = BindingData::default();
        data.set("MessageId", BindingValue::text("m-1"));
        data.set("DequeueCount", BindingValue::Other(json!(3)));
        let customer = Map::from_iter([("tier".to_owned(), json!("gold"))]);
        data.set("customer", BindingValue::Object(customer));
        data.set("QueueTrigger", BindingValue::text("the text"));
        let item = BindingValue::text("the text").encode();
        let now = datetime!(2026-03-01 10:00 UTC);
        let envelope = Envelope::new("F", "job", item, data, now);
        EntityName::parse(name)?.resolve(&envelope)
    }

    #[test]
    fn properties_come_from_the_binding_data() {
        for (name, expected) in [
            ("orders", "orders"),
            ("audit-{messageid}", "audit-m-1"),
            ("{customer.tier}-{ DequeueCount }-x", "gold-3-x"),
            ("{queueTrigger}", "the text"),
        ] {
            assert_eq!(resolved(name).as_deref(), Ok(expected), "{name}");
        }
        for (name, why) in [
            ("{region}", "it has: DequeueCount, MessageId, customer"),
            ("{customer}", "{customer}"),
            ("{customer.name}", "{customer.name}"),
            ("{a", "partner"),
            ("a}", "partner"),
            ("{a{b}}", "partner"),
            ("{}", "empty"),
        ] {
            let error = resolved(name).unwrap_err();
            assert!(error.contains(why), "{name}: {error}");
        }
        assert_eq!(EntityName::parse("orders").unwrap().fixed(), Some("orders"));
        assert_eq!(EntityName::parse("{a}").unwrap().fixed(), None);
    }
}
