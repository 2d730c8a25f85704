//! A JSON document that is only taken apart where it is touched.
//!
//! PATCH changes a few places of an item. Everything else keeps its text, so that the order of
//! properties and the digits of numbers survive. Knows JSON and nothing else.

use serde_json::value::RawValue;

use super::item::Properties;

/// A value, as text until someone looks inside.
#[derive(Debug, Clone)]
pub(super) enum Tree {
    /// Valid JSON text.
    Text(String),
    /// Properties in their order.
    Object(Vec<(String, Tree)>),
    /// Elements.
    Array(Vec<Tree>),
}

impl Tree {
    /// Opens the value one level, so that it is an object or an array if it is one at all.
    ///
    /// # Errors
    /// When the text is not JSON.
    pub(super) fn open(&mut self) -> Result<(), serde_json::Error> {
        let Self::Text(text) = self else { return Ok(()) };
        match text.trim_start().as_bytes().first() {
            Some(b'{') => {
                let properties = Properties::split(text)?.0;
                let children = properties
                    .into_iter()
                    .map(|(name, value)| (name.into_owned(), Self::Text(value.get().to_owned())))
                    .collect();
                *self = Self::Object(children);
            }
            Some(b'[') => {
                let elements: Vec<&RawValue> = serde_json::from_str(text)?;
                let children =
                    elements.into_iter().map(|value| Self::Text(value.get().to_owned())).collect();
                *self = Self::Array(children);
            }
            _ => {}
        }
        Ok(())
    }

    /// Writes the value as JSON.
    pub(super) fn write(&self, out: &mut String) {
        match self {
            Self::Text(text) => out.push_str(text),
            Self::Object(properties) => {
                out.push('{');
                for (index, (name, value)) in properties.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    out.push_str(&serde_json::Value::from(name.as_str()).to_string());
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
            Self::Array(elements) => {
                out.push('[');
                for (index, value) in elements.iter().enumerate() {
                    if index > 0 {
                        out.push(',');
                    }
                    value.write(out);
                }
                out.push(']');
            }
        }
    }

    /// The value as JSON text.
    pub(super) fn to_text(&self) -> String {
        let mut out = String::new();
        self.write(&mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn untouched_parts_keep_their_text() {
        let mut tree = Tree::Text(r#"{"b" : 1.50, "a":[1 ,2],"q\"":null}"#.to_owned());
        tree.open().unwrap();
        let Tree::Object(properties) = &mut tree else { panic!("not an object") };
        properties[1].1.open().unwrap();
        let Tree::Array(elements) = &mut properties[1].1 else { panic!("not an array") };
        elements.remove(0);
        assert_eq!(tree.to_text(), r#"{"b":1.50,"a":[2],"q\"":null}"#);
    }
}
