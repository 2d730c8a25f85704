//! Metadata that is only believed where its sender cannot have written it.
//!
//! Before the host calls a handler it looks at the trigger's text, and if that is a JSON object,
//! its top-level properties are copied into the dictionary that becomes `Metadata`, over whatever
//! the broker said, names compared without regard to case. So a message `{"locktoken": "..."}`
//! replaces its own lock token. That is `Utility.ApplyBindingData` in
//! <https://github.com/Azure/azure-functions-host>.
//!
//! The handler receives the very text that the host has looked at, and can therefore tell which
//! names may have been replaced. [`Claims`] answers `None` for those, and for all of them when
//! the text looks like an object that only the host's lenient parser may be able to read
//! (it knows comments, single quotes and unquoted names).

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use time::OffsetDateTime;

use crate::timestamp;

/// Metadata of one message, with what is known about its truth.
#[derive(Clone, Debug)]
pub(crate) struct Claims {
    values: Map<String, Value>,
    promoted: Promoted,
    encoding: Encoding,
}

/// What the sender may have written into the metadata.
#[derive(Clone, Debug)]
enum Promoted {
    /// The text is no object.
    Nothing,
    /// The top-level names of the text, folded.
    Names(BTreeSet<String>),
    /// The text may be an object, but we cannot read it.
    Anything,
}

/// How scalar values are encoded.
#[derive(Clone, Copy, Debug)]
enum Encoding {
    /// As JSON text within a JSON string, or not, as senders like.
    Wrapped,
    /// Natively: elements of the arrays of a batch.
    Native,
}

impl Claims {
    /// The metadata of a single message with that text.
    pub(crate) fn of_message(metadata: Map<String, Value>, text: &str) -> Self {
        Self { values: metadata, promoted: Promoted::by(text), encoding: Encoding::Wrapped }
    }

    /// The metadata of each message of a batch, from `<Name>Array` members with one element per
    /// message. A batch is no text, so nothing is promoted. A member of another length cannot be
    /// matched to the messages, and is left out.
    pub(crate) fn of_batch(metadata: Map<String, Value>, messages: usize) -> Vec<Self> {
        let mut each = vec![Map::new(); messages];
        for (name, value) in metadata {
            let Some(name) = name.strip_suffix("Array") else { continue };
            let Some(items) = crate::invocation::array(value) else { continue };
            if items.len() != messages {
                continue;
            }
            for (values, item) in each.iter_mut().zip(items) {
                values.insert(name.to_owned(), item);
            }
        }
        let claims =
            |values| Self { values, promoted: Promoted::Nothing, encoding: Encoding::Native };
        each.into_iter().map(claims).collect()
    }

    /// The value as the host sent it, true or not.
    pub(crate) fn claimed(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// Those of the host's names that the sender has replaced, or may have. The sender's own
    /// names, which are promoted as well, replace nothing.
    pub(crate) fn shadowed(&self, names: &[&'static str]) -> impl Iterator<Item = &'static str> {
        names
            .iter()
            .copied()
            .filter(|name| self.values.contains_key(*name) && self.is_shadowed(name))
    }

    fn is_shadowed(&self, name: &str) -> bool {
        match &self.promoted {
            Promoted::Nothing => false,
            Promoted::Names(names) => names.contains(&fold(name)),
            Promoted::Anything => true,
        }
    }

    fn believed(&self, name: &str) -> Option<&Value> {
        (!self.is_shadowed(name)).then(|| self.values.get(name)).flatten()
    }

    pub(crate) fn string(&self, name: &str) -> Option<String> {
        let Value::String(text) = self.believed(name)? else { return None };
        match self.encoding {
            Encoding::Native => Some(text.clone()),
            Encoding::Wrapped => match serde_json::from_str(text) {
                Ok(Value::String(inner)) => Some(inner),
                // A sender that does not wrap: the text, even if it happens to be a number.
                Ok(_) | Err(_) => Some(text.clone()),
            },
        }
    }

    /// A whole number. A promoted number is a string within the string, so that one is refused
    /// here once more.
    pub(crate) fn integer(&self, name: &str) -> Option<i64> {
        match self.believed(name)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    pub(crate) fn time(&self, name: &str) -> Option<OffsetDateTime> {
        timestamp::parse(&self.string(name)?)
    }

    /// An object, native or within a string.
    pub(crate) fn object(&self, name: &str) -> Option<Map<String, Value>> {
        match crate::envelope::open(self.believed(name)?) {
            Value::Object(members) => Some(members),
            _ => None,
        }
    }
}

impl Promoted {
    fn by(text: &str) -> Self {
        // The host looks for a brace after white space, in a comparison that also skips
        // characters without any width.
        let invisible = |c: char| {
            c.is_whitespace()
                || c.is_control()
                || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}' | '\u{feff}')
        };
        if !text.trim_start_matches(invisible).starts_with('{') {
            return Self::Nothing;
        }
        match serde_json::from_str::<TopLevelNames>(text) {
            Ok(TopLevelNames(names)) => Self::Names(names),
            Err(_) => Self::Anything,
        }
    }
}

/// A form that is equal for names that differ in case only, by any notion of case: the host's own
/// knows fewer equal names than this.
fn fold(name: &str) -> String {
    name.to_uppercase().to_lowercase()
}

/// The folded property names of a JSON object, without its values.
struct TopLevelNames(BTreeSet<String>);

impl<'de> Deserialize<'de> for TopLevelNames {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> Visitor<'de> for Names {
            type Value = TopLevelNames;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(
                self,
                mut members: A,
            ) -> Result<TopLevelNames, A::Error> {
                let mut names = BTreeSet::new();
                while let Some((name, IgnoredAny)) = members.next_entry::<String, _>()? {
                    names.insert(fold(&name));
                }
                Ok(TopLevelNames(names))
            }
        }
        deserializer.deserialize_map(Names)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NAMES: [&str; 5] =
        ["MessageId", "DeliveryCount", "Subject", "EnqueuedTimeUtc", "ApplicationProperties"];

    fn claims(text: &str) -> Claims {
        let metadata = json!({
            "MessageId": "\"m-1\"", "DeliveryCount": "3", "Subject": "unwrapped",
            "EnqueuedTimeUtc": "2026-03-01T10:00:00", "ApplicationProperties": {"region": "eu"},
        });
        let Value::Object(metadata) = metadata else { unreachable!() };
        Claims::of_message(metadata, text)
    }

    #[test]
    fn what_no_property_of_the_body_names_is_believed() {
        for text in ["", "hello {MessageId}", "[1]", "\"{}\"", "{}", r#"{"other": 1}"#, "3"] {
            let claims = claims(text);
            assert_eq!(claims.string("MessageId").as_deref(), Some("m-1"), "{text}");
            assert_eq!(claims.string("Subject").as_deref(), Some("unwrapped"));
            assert_eq!(claims.integer("DeliveryCount"), Some(3));
            assert_eq!(claims.object("ApplicationProperties").unwrap()["region"], "eu");
            assert_eq!(claims.time("EnqueuedTimeUtc").unwrap().unix_timestamp(), 1_772_359_200);
            assert_eq!(claims.shadowed(&NAMES).count(), 0);
        }
    }

    #[test]
    fn what_the_body_names_is_not() {
        for text in [
            r#"{"MessageId": "forged"}"#,
            r#"{"messageid": "forged"}"#,
            r#" {"MESSAGEID": ["arrays are not promoted, but why risk it"]}"#,
            r#"{"me\u017f\u017fageId": "long s is an S in some alphabets"}"#,
            r#"{"Message\u0049d": 1}"#,
        ] {
            let claims = claims(text);
            assert_eq!(claims.string("MessageId"), None, "{text}");
            assert_eq!(claims.integer("DeliveryCount"), Some(3), "{text}");
            assert_eq!(claims.shadowed(&NAMES).collect::<Vec<_>>(), ["MessageId"]);
            assert!(claims.claimed("MessageId").is_some());
        }
    }

    #[test]
    fn an_object_that_only_the_host_can_read_makes_everything_doubtful() {
        for text in [
            "{'MessageId': 'forged'}",
            "{MessageId: 'forged'}",
            "/**/{}",
            "{/* comment */ \"MessageId\": 1}",
            "\u{feff}{'MessageId': 1}",
            "{\"a\": 1,}",
            "{} trailing",
        ] {
            let claims = claims(text);
            let all = claims.shadowed(&NAMES).count();
            let readable_by_no_parser = text.starts_with('/');
            assert_eq!(all, if readable_by_no_parser { 0 } else { 5 }, "{text}");
        }
    }

    #[test]
    fn a_promoted_number_does_not_look_like_one_of_the_broker() {
        let metadata = Map::from_iter([("DeliveryCount".to_owned(), json!("\"1\""))]);
        assert_eq!(Claims::of_message(metadata, "not the text").integer("DeliveryCount"), None);
    }

    #[test]
    fn arrays_of_a_batch_are_matched_or_ignored() {
        let metadata = json!({
            "MessageIdArray": "[\"1\",\"m-2\"]", "DeliveryCountArray": [1, 2],
            "LockTokenArray": "[\"only one\"]", "sys": {"MethodName": "x"},
        });
        let Value::Object(metadata) = metadata else { unreachable!() };
        let each = Claims::of_batch(metadata, 2);
        assert_eq!(each[0].string("MessageId").as_deref(), Some("1"));
        assert_eq!(each[1].integer("DeliveryCount"), Some(2));
        assert_eq!(each[0].string("LockToken"), None);
    }
}
