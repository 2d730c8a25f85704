//! Partial document update: the operations, their limits, their effect on one item.
//!
//! Specified by <https://learn.microsoft.com/azure/cosmos-db/partial-document-update>. Works on
//! text and paths; conditions are evaluated by [`crate::sql`], ETags by the transaction.

use serde_json::Value;
use serde_json::value::RawValue;

use super::StoreError;
use super::item::SYSTEM_PROPERTIES;
use super::partition::Path;
use super::tree::Tree;
use crate::limits::{MAX_PATCH_OPERATIONS, MAX_QUERY_BYTES};
use crate::sql::Condition;

/// A checked PATCH.
#[derive(Debug, Clone)]
pub struct Patch {
    operations: Vec<Operation>,
    /// Must be true of the stored item.
    pub condition: Option<Condition>,
}

#[derive(Debug, Clone)]
struct Operation {
    path: Vec<String>,
    action: Action,
}

#[derive(Debug, Clone)]
enum Action {
    Add(String),
    Set(String),
    Replace(String),
    Remove,
    Increment(Number),
    Move { from: Vec<String> },
}

#[derive(Debug, Clone, Copy)]
enum Number {
    Integer(i64),
    Double(f64),
}

impl Patch {
    /// Reads the body of a PATCH: `{"operations": [...], "condition": "from c where ..."}`, or just
    /// the array of operations. `protected` are the partition key paths of the container.
    ///
    /// # Errors
    /// [`StoreError::BadRequest`].
    pub fn parse(body: &str, protected: &[Path]) -> Result<Self, StoreError> {
        #[derive(serde::Deserialize)]
        struct Body<'a> {
            #[serde(borrow)]
            operations: Vec<Wire<'a>>,
            condition: Option<String>,
        }
        let invalid =
            |error: serde_json::Error| StoreError::bad(format!("the patch is malformed: {error}"));
        let (wire, condition) = if body.trim_start().starts_with('[') {
            (serde_json::from_str::<Vec<Wire<'_>>>(body).map_err(invalid)?, None)
        } else {
            let body: Body<'_> = serde_json::from_str(body).map_err(invalid)?;
            (body.operations, body.condition)
        };
        if wire.is_empty() || wire.len() > MAX_PATCH_OPERATIONS {
            return Err(StoreError::bad("a patch must have 1 to 10 operations"));
        }
        let operations = wire
            .into_iter()
            .enumerate()
            .map(|(index, wire)| wire.check(protected).map_err(|error| at(index, &error)))
            .collect::<Result<_, _>>()?;
        let condition = condition
            .filter(|text| !text.trim().is_empty())
            .map(|text| match text.len() > MAX_QUERY_BYTES {
                true => Err(StoreError::bad("the patch condition is too long")),
                false => Condition::parse(&text).map_err(|error| {
                    StoreError::bad(format!("the patch condition is invalid: {error}"))
                }),
            })
            .transpose()?;
        Ok(Self { operations, condition })
    }

    /// The text of `item` after all operations, or an error and no effect.
    ///
    /// # Errors
    /// [`StoreError::BadRequest`] when a target does not fit.
    pub fn apply(&self, item: &str) -> Result<String, StoreError> {
        let mut root = Tree::Text(item.to_owned());
        for (index, operation) in self.operations.iter().enumerate() {
            operation.apply(&mut root).map_err(|error| at(index, &error))?;
        }
        Ok(root.to_text())
    }
}

fn at(index: usize, message: &str) -> StoreError {
    StoreError::bad(format!("For Operation({}): {message}", index + 1))
}

#[derive(serde::Deserialize)]
struct Wire<'a> {
    op: String,
    path: String,
    from: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    value: Option<&'a RawValue>,
}

/// Unlike an `Option`, keeps a given `null` apart from nothing.
fn present<'de, D: serde::Deserializer<'de>>(d: D) -> Result<Option<&'de RawValue>, D::Error> {
    serde::Deserialize::deserialize(d).map(Some)
}

impl Wire<'_> {
    fn check(self, protected: &[Path]) -> Result<Operation, String> {
        let path = pointer(&self.path)?;
        guard(&path, protected)?;
        let value = || {
            let value = self.value.map(|value| value.get().to_owned());
            let text = value.ok_or_else(|| "a value is required".to_owned())?;
            // The raw text has only been skipped so far, not read.
            serde_json::from_str::<Value>(&text).map_err(|error| error.to_string())?;
            Ok::<_, String>(text)
        };
        let action = match self.op.to_ascii_lowercase().as_str() {
            "add" => Action::Add(value()?),
            "set" => Action::Set(value()?),
            "replace" => Action::Replace(value()?),
            "remove" => Action::Remove,
            "incr" | "increment" => Action::Increment(
                Number::parse(&value()?).ok_or("the value of incr must be a number")?,
            ),
            "move" => {
                let from = pointer(self.from.as_deref().ok_or("move needs 'from'")?)?;
                guard(&from, protected)?;
                if path.starts_with(&from) {
                    return Err("'path' must not be 'from' or lie below it".to_owned());
                }
                Action::Move { from }
            }
            other => return Err(format!("unknown operation '{other}'")),
        };
        Ok(Operation { path, action })
    }
}

/// Splits a JSON pointer. The root itself cannot be patched.
fn pointer(text: &str) -> Result<Vec<String>, String> {
    let rest = text.strip_prefix('/').ok_or("a path must start with '/'")?;
    if rest.is_empty() {
        return Err("the root of the item cannot be patched".to_owned());
    }
    Ok(rest.split('/').map(|token| token.replace("~1", "/").replace("~0", "~")).collect())
}

/// Refuses what a patch must not touch: the id, the partition key and what contains it, and the
/// properties of the service.
fn guard(path: &[String], protected: &[Path]) -> Result<(), String> {
    let system = |name: &str| name == "id" || SYSTEM_PROPERTIES.contains(&name);
    let touches_key =
        protected.iter().any(|key| key.starts_with(path) || path.starts_with(key.as_slice()));
    if path.first().is_some_and(|name| system(name)) || touches_key {
        return Err(format!("the path '/{}' cannot be patched", path.join("/")));
    }
    Ok(())
}

impl Operation {
    fn apply(&self, root: &mut Tree) -> Result<(), String> {
        match &self.action {
            Action::Add(value) => insert(root, &self.path, Tree::Text(value.clone()), true),
            Action::Set(value) => insert(root, &self.path, Tree::Text(value.clone()), false),
            Action::Replace(value) => {
                *existing(root, &self.path)? = Tree::Text(value.clone());
                Ok(())
            }
            Action::Remove => remove(root, &self.path).map(drop),
            Action::Increment(delta) => increment(root, &self.path, *delta),
            Action::Move { from } => {
                let value = remove(root, from)?;
                insert(root, &self.path, value, true)
            }
        }
    }
}

fn open(tree: &mut Tree) -> Result<&mut Tree, String> {
    tree.open().map_err(|error| error.to_string())?;
    Ok(tree)
}

/// The container of the last token of `path`, which must exist.
fn parent<'a>(root: &'a mut Tree, path: &'a [String]) -> Result<(&'a mut Tree, &'a str), String> {
    let (last, ancestors) = path.split_last().ok_or("the path is empty")?;
    let mut current = root;
    for token in ancestors {
        current = child(current, token)?
            .ok_or_else(|| format!("the parent of '/{}' does not exist", path.join("/")))?;
    }
    Ok((open(current)?, last))
}

fn child<'a>(tree: &'a mut Tree, token: &str) -> Result<Option<&'a mut Tree>, String> {
    Ok(match open(tree)? {
        Tree::Object(properties) => {
            properties.iter_mut().find(|(name, _)| name == token).map(|(_, value)| value)
        }
        Tree::Array(elements) => index(token).and_then(|index| elements.get_mut(index)),
        Tree::Text(_) => None,
    })
}

fn existing<'a>(root: &'a mut Tree, path: &'a [String]) -> Result<&'a mut Tree, String> {
    let (parent, token) = parent(root, path)?;
    child(parent, token)?.ok_or_else(|| format!("'/{}' does not exist", path.join("/")))
}

fn insert(root: &mut Tree, path: &[String], value: Tree, shift: bool) -> Result<(), String> {
    let (parent, token) = parent(root, path)?;
    match parent {
        Tree::Object(properties) => {
            match properties.iter_mut().find(|(name, _)| name == token) {
                Some((_, slot)) => *slot = value,
                None => properties.push((token.to_owned(), value)),
            }
            Ok(())
        }
        Tree::Array(elements) => {
            let length = elements.len();
            let at = if token == "-" { length } else { index(token).unwrap_or(usize::MAX) };
            match at {
                _ if at > length => Err(format!("the index '{token}' is out of range")),
                _ if shift || at == length => {
                    elements.insert(at, value);
                    Ok(())
                }
                _ => {
                    elements[at] = value;
                    Ok(())
                }
            }
        }
        Tree::Text(_) => Err(format!("the parent of '/{}' is not a container", path.join("/"))),
    }
}

fn remove(root: &mut Tree, path: &[String]) -> Result<Tree, String> {
    let (parent, token) = parent(root, path)?;
    let removed = match parent {
        Tree::Object(properties) => {
            let at = properties.iter().position(|(name, _)| name == token);
            at.map(|at| properties.remove(at).1)
        }
        Tree::Array(elements) => {
            index(token).filter(|at| *at < elements.len()).map(|at| elements.remove(at))
        }
        Tree::Text(_) => None,
    };
    removed.ok_or_else(|| format!("'/{}' does not exist", path.join("/")))
}

fn increment(root: &mut Tree, path: &[String], delta: Number) -> Result<(), String> {
    let (parent, token) = parent(root, path)?;
    let Some(slot) = child(parent, token)? else {
        return insert(root, path, Tree::Text(delta.text()), false);
    };
    let current = match slot {
        Tree::Text(text) => Number::parse(text),
        Tree::Object(_) | Tree::Array(_) => None,
    };
    let sum = current
        .ok_or_else(|| format!("'/{}' is not a number", path.join("/")))?
        .plus(delta)
        .ok_or("the sum is out of range")?;
    *slot = Tree::Text(sum.text());
    Ok(())
}

fn index(token: &str) -> Option<usize> {
    // JSON pointers know no sign and no leading zero.
    let plain = token == "0" || !token.starts_with('0');
    (plain && token.bytes().all(|b| b.is_ascii_digit())).then(|| token.parse().ok()).flatten()
}

impl Number {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        text.bytes().next().filter(|b| b.is_ascii_digit() || *b == b'-')?;
        match text.parse() {
            Ok(integer) => Some(Self::Integer(integer)),
            Err(_) => text.parse().ok().filter(|n: &f64| n.is_finite()).map(Self::Double),
        }
    }

    fn plus(self, delta: Self) -> Option<Self> {
        let double = |number| match number {
            Self::Integer(integer) => integer as f64,
            Self::Double(double) => double,
        };
        if let (Self::Integer(a), Self::Integer(b)) = (self, delta)
            && let Some(sum) = a.checked_add(b)
        {
            return Some(Self::Integer(sum));
        }
        let sum = double(self) + double(delta);
        sum.is_finite().then_some(Self::Double(sum))
    }

    fn text(self) -> String {
        match self {
            Self::Integer(integer) => integer.to_string(),
            Self::Double(double) => Value::from(double).to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patch(item: &str, operations: &str) -> Result<String, StoreError> {
        Patch::parse(operations, &[vec!["pk".to_owned()], vec!["a".to_owned(), "key".to_owned()]])?
            .apply(item)
    }

    #[test]
    fn operations_have_their_documented_effect() {
        let item = r#"{"id":"1","n":1,"l":[1,2,3],"o":{"x/y":{"z":1}},"f":0.1}"#;
        for (operations, expected) in [
            (r#"[{"op":"add","path":"/l/1","value":9}]"#, r#""l":[1,9,2,3]"#),
            (r#"[{"op":"add","path":"/l/-","value":9}]"#, r#""l":[1,2,3,9]"#),
            (r#"[{"op":"add","path":"/l/3","value":9}]"#, r#""l":[1,2,3,9]"#),
            (r#"[{"op":"set","path":"/l/1","value":9}]"#, r#""l":[1,9,3]"#),
            (r#"[{"op":"set","path":"/o/x~1y/z","value":null}]"#, r#""o":{"x/y":{"z":null}}"#),
            (r#"[{"op":"replace","path":"/n","value":{"a": 1}}]"#, r#""n":{"a": 1}"#),
            (r#"[{"op":"remove","path":"/l/0"}]"#, r#""l":[2,3]"#),
            (r#"[{"op":"incr","path":"/n","value":-3}]"#, r#""n":-2"#),
            (r#"[{"op":"incr","path":"/n","value":0.5}]"#, r#""n":1.5"#),
            (r#"[{"op":"incr","path":"/new","value":4}]"#, r#""new":4"#),
            (r#"[{"op":"move","from":"/n","path":"/m"}]"#, r#""m":1"#),
            (r#"[{"op":"move","from":"/l/0","path":"/l/-"}]"#, r#""l":[2,3,1]"#),
            (r#"[{"op":"set","path":"/ttl","value":5}]"#, r#""ttl":5"#),
            (r#"{"operations":[{"op":"add","path":"/q","value":1}]}"#, r#""q":1"#),
        ] {
            let result = patch(item, operations).unwrap();
            assert!(result.contains(expected), "{operations}: {result}");
        }
        let both = r#"[{"op":"add","path":"/q","value":{}},{"op":"add","path":"/q/r","value":1}]"#;
        assert!(patch(item, both).unwrap().contains(r#""q":{"r":1}"#), "operations see each other");
    }

    #[test]
    fn misfits_are_refused() {
        let item = r#"{"id":"1","n":1,"s":"x","l":[1],"a":{"key":1,"b":2}}"#;
        for operations in [
            "[]",
            "{}",
            r#"[{"op":"add","path":"/l/2","value":1}]"#,
            r#"[{"op":"add","path":"/l/01","value":1}]"#,
            r#"[{"op":"add","path":"/no/deep","value":1}]"#,
            r#"[{"op":"add","path":"/x"}]"#,
            r#"[{"op":"add","path":"","value":1}]"#,
            r#"[{"op":"add","path":"/","value":1}]"#,
            r#"[{"op":"add","path":"x","value":1}]"#,
            r#"[{"op":"replace","path":"/no","value":1}]"#,
            r#"[{"op":"remove","path":"/no"}]"#,
            r#"[{"op":"incr","path":"/s","value":1}]"#,
            r#"[{"op":"incr","path":"/n","value":"1"}]"#,
            r#"[{"op":"move","from":"/no","path":"/x"}]"#,
            r#"[{"op":"move","from":"/a","path":"/a/c"}]"#,
            r#"[{"op":"move","from":"/n","path":"/n"}]"#,
            r#"[{"op":"move","path":"/x"}]"#,
            r#"[{"op":"jump","path":"/x","value":1}]"#,
            r#"[{"op":"set","path":"/id","value":"2"}]"#,
            r#"[{"op":"set","path":"/_ts","value":2}]"#,
            r#"[{"op":"set","path":"/_etag","value":"2"}]"#,
            r#"[{"op":"set","path":"/pk","value":2}]"#,
            r#"[{"op":"set","path":"/a","value":{}}]"#,
            r#"[{"op":"set","path":"/a/key","value":2}]"#,
            r#"[{"op":"move","from":"/a/key","path":"/x"}]"#,
            r#"[{"op":"move","from":"/n","path":"/pk"}]"#,
        ] {
            assert!(
                matches!(patch(item, operations), Err(StoreError::BadRequest(_))),
                "{operations}"
            );
        }
        let one = r#"{"op":"set","path":"/x","value":1}"#;
        assert!(patch(item, &format!("[{}]", [one; 10].join(","))).is_ok());
        assert!(patch(item, &format!("[{}]", [one; 11].join(","))).is_err());
        assert!(
            patch(item, &format!(r#"{{"operations":[{one}],"condition":"from c where"}}"#))
                .is_err()
        );
    }
}
