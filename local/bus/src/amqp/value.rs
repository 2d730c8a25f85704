//! Any AMQP value (part 1, types), owned.
//!
//! Used where the shape is the sender's choice: annotations, application properties, management
//! bodies. Performatives have typed structs of their own and never pass through here.

use bytes::Bytes;
use uuid::Uuid;

/// One AMQP 1.0 value. Variants are named after the specification's primitive types.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    Ubyte(u8),
    Ushort(u16),
    Uint(u32),
    Ulong(u64),
    Byte(i8),
    Short(i16),
    Int(i32),
    Long(i64),
    Float(f32),
    Double(f64),
    /// Decimals are carried, never computed with.
    Decimal32([u8; 4]),
    Decimal64([u8; 8]),
    Decimal128([u8; 16]),
    Char(char),
    /// Milliseconds since the Unix epoch.
    Timestamp(i64),
    Uuid(Uuid),
    Binary(Bytes),
    String(String),
    Symbol(String),
    List(Vec<Value>),
    /// Pairs in the order they came.
    Map(Vec<(Value, Value)>),
    /// Elements of one type.
    Array(Vec<Value>),
    /// Descriptor and value.
    Described(Box<(Value, Value)>),
}

impl Value {
    /// A symbol.
    pub(crate) fn symbol(text: &str) -> Value {
        Value::Symbol(text.to_owned())
    }

    /// A string.
    pub(crate) fn string(text: &str) -> Value {
        Value::String(text.to_owned())
    }

    /// A described value whose descriptor is a numeric code.
    pub(crate) fn described(code: u64, value: Value) -> Value {
        Value::Described(Box::new((Value::Ulong(code), value)))
    }

    /// The text of a string or symbol.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match self {
            Value::String(text) | Value::Symbol(text) => Some(text),
            _ => None,
        }
    }

    /// Any integer type, or a timestamp, that fits an `i64`.
    pub(crate) fn as_i64(&self) -> Option<i64> {
        match *self {
            Value::Ubyte(n) => Some(n.into()),
            Value::Ushort(n) => Some(n.into()),
            Value::Uint(n) => Some(n.into()),
            Value::Ulong(n) => n.try_into().ok(),
            Value::Byte(n) => Some(n.into()),
            Value::Short(n) => Some(n.into()),
            Value::Int(n) => Some(n.into()),
            Value::Long(n) | Value::Timestamp(n) => Some(n),
            _ => None,
        }
    }

    /// The items of a list or array.
    pub(crate) fn as_items(&self) -> Option<&[Value]> {
        match self {
            Value::List(items) | Value::Array(items) => Some(items),
            _ => None,
        }
    }

    /// The pairs of a map.
    pub(crate) fn as_map(&self) -> Option<&[(Value, Value)]> {
        match self {
            Value::Map(pairs) => Some(pairs),
            _ => None,
        }
    }

    /// The value under a text key, whether the key is a string or a symbol.
    pub(crate) fn get(&self, key: &str) -> Option<&Value> {
        get(self.as_map()?, key)
    }
}

/// The value under a text key in a list of pairs; null counts as absent.
pub(crate) fn get<'a>(pairs: &'a [(Value, Value)], key: &str) -> Option<&'a Value> {
    pairs
        .iter()
        .find(|(k, _)| k.as_text() == Some(key))
        .map(|(_, v)| v)
        .filter(|v| !matches!(v, Value::Null))
}
