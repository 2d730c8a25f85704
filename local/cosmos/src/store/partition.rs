//! Partition keys: their definition in a container, their values in items and headers.
//!
//! Specified by <https://learn.microsoft.com/azure/cosmos-db/partitioning-overview> and
//! <https://learn.microsoft.com/azure/cosmos-db/hierarchical-partition-keys>. Knows no documents
//! beyond the JSON value it takes a key out of.

use std::sync::Arc;

use serde_json::Value;

use super::StoreError;
use super::epk::{self, Scheme};
use crate::limits::{MAX_PARTITION_KEY_BYTES, MAX_PARTITION_KEY_PATHS};

/// A path of property names below the root of an item, such as `["address", "city"]`.
pub(crate) type Path = Vec<String>;

/// One value of a partition key.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Component {
    /// The property is absent; written `{}` in headers.
    Undefined,
    /// JSON `null`.
    Null,
    /// A boolean.
    Bool(bool),
    /// The bits of a double; negative zero is stored as zero.
    Number(u64),
    /// A string.
    String(Box<str>),
}

/// The values of all components, in the order of the definition.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct PartitionKey(pub Vec<Component>);

/// A logical partition as items refer to it.
#[derive(Debug, PartialEq, Eq)]
pub struct Partition {
    /// Its key.
    pub key: PartitionKey,
    /// Where it lies in the hash space.
    pub epk: Box<[u8]>,
}

/// The `partitionKey` of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    /// Where each component is found in an item.
    pub paths: Vec<Path>,
    /// How the components are hashed.
    pub scheme: Scheme,
}

impl PartitionKey {
    /// Reads the JSON array of the `x-ms-documentdb-partitionkey` header.
    ///
    /// # Errors
    /// [`StoreError::BadRequest`] when it is not an array of scalars.
    pub fn parse(header: &str) -> Result<Self, StoreError> {
        let invalid = || StoreError::bad("the partition key header is not a JSON array of scalars");
        let Ok(Value::Array(values)) = serde_json::from_str::<Value>(header) else {
            return Err(invalid());
        };
        let components = values
            .iter()
            .map(|value| match value {
                Value::Object(object) if object.is_empty() => Some(Component::Undefined),
                other => Component::from_value(Some(other)),
            })
            .collect::<Option<Vec<_>>>()
            .ok_or_else(invalid)?;
        if components.is_empty() || components.iter().any(Component::is_too_long) {
            return Err(StoreError::bad("the partition key is empty or too long"));
        }
        Ok(Self(components))
    }
}

impl PartitionKey {
    /// Appends the bytes that stand for it; no key is a prefix of another.
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.0.len() as u8);
        for component in &self.0 {
            match component {
                Component::Undefined => out.push(0),
                Component::Null => out.push(1),
                Component::Bool(flag) => out.push(2 + u8::from(*flag)),
                Component::Number(bits) => {
                    out.push(4);
                    out.extend_from_slice(&bits.to_le_bytes());
                }
                Component::String(text) => {
                    out.push(5);
                    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
                    out.extend_from_slice(text.as_bytes());
                }
            }
        }
    }
}

impl Component {
    fn from_value(value: Option<&Value>) -> Option<Self> {
        Some(match value {
            None => Self::Undefined,
            Some(Value::Null) => Self::Null,
            Some(Value::Bool(flag)) => Self::Bool(*flag),
            // Adding zero turns negative zero into zero, which must be the same partition.
            Some(Value::Number(number)) => Self::Number((number.as_f64()? + 0.0).to_bits()),
            Some(Value::String(text)) => Self::String(text.as_str().into()),
            Some(Value::Array(_) | Value::Object(_)) => return None,
        })
    }

    fn is_too_long(&self) -> bool {
        matches!(self, Self::String(text) if text.len() > MAX_PARTITION_KEY_BYTES)
    }
}

impl Definition {
    /// Reads the `partitionKey` property of a container.
    ///
    /// # Errors
    /// [`StoreError::BadRequest`] when it is malformed.
    pub fn parse(value: Option<&Value>) -> Result<Self, StoreError> {
        let value = value.ok_or_else(|| StoreError::bad("a container needs a partitionKey"))?;
        let paths = value
            .get("paths")
            .and_then(Value::as_array)
            .filter(|paths| !paths.is_empty() && paths.len() <= MAX_PARTITION_KEY_PATHS)
            .ok_or_else(|| StoreError::bad("partitionKey.paths must hold 1 to 3 paths"))?
            .iter()
            .map(|path| path.as_str().and_then(parse_path))
            .collect::<Option<Vec<_>>>()
            .ok_or_else(|| StoreError::bad("a partition key path must look like /a/b"))?;
        let version = value.get("version").and_then(Value::as_u64).unwrap_or(2);
        let scheme = match (value.get("kind").and_then(Value::as_str).unwrap_or("Hash"), version) {
            ("Hash", 1) if paths.len() == 1 => Scheme::HashV1,
            ("Hash", 2) if paths.len() == 1 => Scheme::HashV2,
            ("MultiHash", 2) => Scheme::MultiHash,
            _ => return Err(StoreError::bad("partitionKey kind, version and paths do not agree")),
        };
        Ok(Self { paths, scheme })
    }

    /// The key that `item` belongs to.
    ///
    /// # Errors
    /// [`StoreError::BadRequest`] when a component is an array, an object or too long.
    pub fn extract(&self, item: &Value) -> Result<PartitionKey, StoreError> {
        let components = self
            .paths
            .iter()
            .map(|path| Component::from_value(lookup(item, path)))
            .collect::<Option<Vec<_>>>()
            .filter(|components| !components.iter().any(Component::is_too_long))
            .ok_or_else(|| StoreError::bad("the partition key value must be a short scalar"))?;
        Ok(PartitionKey(components))
    }

    /// Whether `key` names exactly one logical partition.
    pub fn is_complete(&self, key: &PartitionKey) -> bool {
        key.0.len() == self.paths.len()
    }

    /// Whether `key` names the leading components of hierarchical keys.
    pub fn is_prefix(&self, key: &PartitionKey) -> bool {
        self.scheme == Scheme::MultiHash && key.0.len() < self.paths.len()
    }

    /// The logical partition of a complete key.
    pub fn partition(&self, key: PartitionKey) -> Arc<Partition> {
        let epk = epk::effective(&key.0, self.scheme).into_boxed_slice();
        Arc::new(Partition { key, epk })
    }
}

/// Splits `/a/"b c"/d`; `None` when it is not a path of properties.
pub(super) fn parse_path(text: &str) -> Option<Path> {
    let mut rest = text.strip_prefix('/')?;
    let mut path = Vec::new();
    loop {
        let (segment, next) = match rest.strip_prefix('"') {
            Some(quoted) => {
                let end = quoted.find('"')?;
                (&quoted[..end], &quoted[end + 1..])
            }
            None => rest.split_at(rest.find('/').unwrap_or(rest.len())),
        };
        if segment.is_empty() {
            return None;
        }
        path.push(segment.to_owned());
        match next.strip_prefix('/') {
            Some(more) => rest = more,
            None if next.is_empty() => return Some(path),
            None => return None,
        }
    }
}

/// The value at `path` of `item`; properties only, arrays are not entered.
pub(super) fn lookup<'a>(item: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(item, |value, name| value.as_object()?.get(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn header_and_item_agree() {
        let definition =
            Definition::parse(Some(&json!({"paths": ["/a/b", "/c"], "kind": "MultiHash"})))
                .unwrap();
        let key = definition.extract(&json!({"a": {"b": "x"}})).unwrap();
        assert_eq!(key, PartitionKey::parse(r#"["x", {}]"#).unwrap());
        assert!(definition.is_complete(&key));
        assert!(definition.is_prefix(&PartitionKey::parse(r#"["x"]"#).unwrap()));
        assert_eq!(
            PartitionKey::parse("[-0.0]").unwrap(),
            PartitionKey::parse("[0]").unwrap(),
            "both zeros are one partition"
        );
        for bad in ["", "null", "[]", "[[1]]", r#"[{"a":1}]"#, r#""x""#] {
            assert!(PartitionKey::parse(bad).is_err(), "{bad}");
        }
        assert!(definition.extract(&json!({"a": {"b": []}})).is_err());
    }

    #[test]
    fn definitions_are_checked() {
        for bad in [
            json!(null),
            json!({"paths": []}),
            json!({"paths": ["a"]}),
            json!({"paths": ["/a//b"]}),
            json!({"paths": ["/a", "/b"], "kind": "Hash"}),
            json!({"paths": ["/a", "/b", "/c", "/d"], "kind": "MultiHash"}),
        ] {
            assert!(Definition::parse(Some(&bad)).is_err(), "{bad}");
        }
        assert_eq!(parse_path(r#"/a/"b c"/d"#).unwrap(), ["a", "b c", "d"]);
    }
}
