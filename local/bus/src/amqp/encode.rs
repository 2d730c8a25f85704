//! AMQP values to bytes (part 1, section 1.2).
//!
//! Everything is appended to the connection's one output buffer. Sizes of compound values are
//! written afterwards into the place kept for them, so nothing is measured or built twice.

use bytes::{BufMut, Bytes, BytesMut};
use uuid::Uuid;

use super::value::Value;

/// A value that knows its AMQP encoding.
pub(crate) trait Put: Sized {
    fn put(self, out: &mut BytesMut);
    /// Null fields at the end of a composite are left out.
    fn is_null(&self) -> bool {
        false
    }
}

/// Text encoded as a symbol.
pub(crate) struct Symbol<'a>(pub(crate) &'a str);

/// Milliseconds since the Unix epoch encoded as a timestamp.
pub(crate) struct Millis(pub(crate) i64);

/// An encoding produced or received earlier, copied as it is.
pub(crate) struct Raw<'a>(pub(crate) &'a [u8]);

impl<T: Put> Put for Option<T> {
    fn put(self, out: &mut BytesMut) {
        match self {
            Some(value) => value.put(out),
            None => out.put_u8(0x40),
        }
    }
    fn is_null(&self) -> bool {
        self.as_ref().is_none_or(|value| value.is_null())
    }
}

impl Put for bool {
    fn put(self, out: &mut BytesMut) {
        out.put_u8(if self { 0x41 } else { 0x42 });
    }
}

impl Put for u8 {
    fn put(self, out: &mut BytesMut) {
        out.put_slice(&[0x50, self]);
    }
}

impl Put for u16 {
    fn put(self, out: &mut BytesMut) {
        out.put_u8(0x60);
        out.put_u16(self);
    }
}

impl Put for u32 {
    fn put(self, out: &mut BytesMut) {
        match u8::try_from(self) {
            Ok(0) => out.put_u8(0x43),
            Ok(small) => out.put_slice(&[0x52, small]),
            Err(_) => {
                out.put_u8(0x70);
                out.put_u32(self);
            }
        }
    }
}

impl Put for u64 {
    fn put(self, out: &mut BytesMut) {
        match u8::try_from(self) {
            Ok(0) => out.put_u8(0x44),
            Ok(small) => out.put_slice(&[0x53, small]),
            Err(_) => {
                out.put_u8(0x80);
                out.put_u64(self);
            }
        }
    }
}

impl Put for i32 {
    fn put(self, out: &mut BytesMut) {
        out.put_u8(0x71);
        out.put_i32(self);
    }
}

/// Always eight bytes: the JavaScript client takes longs as raw bytes of exactly that width.
impl Put for i64 {
    fn put(self, out: &mut BytesMut) {
        out.put_u8(0x81);
        out.put_i64(self);
    }
}

impl Put for Millis {
    fn put(self, out: &mut BytesMut) {
        out.put_u8(0x83);
        out.put_i64(self.0);
    }
}

impl Put for Uuid {
    fn put(self, out: &mut BytesMut) {
        out.put_u8(0x98);
        out.put_slice(self.as_bytes());
    }
}

impl Put for &str {
    fn put(self, out: &mut BytesMut) {
        put_variable(out, 0xa1, self.as_bytes());
    }
}

impl Put for Symbol<'_> {
    fn put(self, out: &mut BytesMut) {
        put_variable(out, 0xa3, self.0.as_bytes());
    }
}

impl Put for &[u8] {
    fn put(self, out: &mut BytesMut) {
        put_variable(out, 0xa0, self);
    }
}

impl Put for &Bytes {
    fn put(self, out: &mut BytesMut) {
        put_variable(out, 0xa0, self);
    }
}

impl Put for Raw<'_> {
    fn put(self, out: &mut BytesMut) {
        out.put_slice(self.0);
    }
}

impl Put for &Value {
    fn put(self, out: &mut BytesMut) {
        put_value(out, self);
    }
    fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }
}

/// `small` is the format code of the one-byte-length form; the four-byte form is 0x10 above it.
fn put_variable(out: &mut BytesMut, small: u8, content: &[u8]) {
    match u8::try_from(content.len()) {
        Ok(length) => out.put_slice(&[small, length]),
        Err(_) => {
            out.put_u8(small + 0x10);
            put_length(out, content.len());
        }
    }
    out.put_slice(content);
}

/// A length or count. Nothing that is encoded here comes near 4 GiB: messages and frames are
/// limited long before.
fn put_length(out: &mut BytesMut, length: usize) {
    out.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
}

fn patch_u32(out: &mut BytesMut, at: usize, value: usize) {
    let value = u32::try_from(value).unwrap_or(u32::MAX);
    out[at..at + 4].copy_from_slice(&value.to_be_bytes());
}

/// Any value.
pub(crate) fn put_value(out: &mut BytesMut, value: &Value) {
    match value {
        Value::Null => out.put_u8(0x40),
        Value::Bool(v) => v.put(out),
        Value::Uint(v) => v.put(out),
        Value::Ulong(v) => v.put(out),
        Value::Binary(v) => v.put(out),
        Value::String(v) => v.as_str().put(out),
        Value::Symbol(v) => Symbol(v).put(out),
        Value::Described(described) => {
            out.put_u8(0x00);
            put_value(out, &described.0);
            put_value(out, &described.1);
        }
        wide => {
            out.put_u8(wide_code(wide));
            put_wide(out, wide);
        }
    }
}

/// The format code of the widest form, the one usable for all elements of an array.
fn wide_code(value: &Value) -> u8 {
    match value {
        Value::Null => 0x40,
        Value::Bool(_) => 0x56,
        Value::Ubyte(_) => 0x50,
        Value::Ushort(_) => 0x60,
        Value::Uint(_) => 0x70,
        Value::Ulong(_) => 0x80,
        Value::Byte(_) => 0x51,
        Value::Short(_) => 0x61,
        Value::Int(_) => 0x71,
        Value::Long(_) => 0x81,
        Value::Float(_) => 0x72,
        Value::Double(_) => 0x82,
        Value::Decimal32(_) => 0x74,
        Value::Decimal64(_) => 0x84,
        Value::Decimal128(_) => 0x94,
        Value::Char(_) => 0x73,
        Value::Timestamp(_) => 0x83,
        Value::Uuid(_) => 0x98,
        Value::Binary(_) => 0xb0,
        Value::String(_) => 0xb1,
        Value::Symbol(_) => 0xb3,
        Value::List(_) => 0xd0,
        Value::Map(_) => 0xd1,
        Value::Array(_) => 0xf0,
        Value::Described(_) => 0x00,
    }
}

/// The content that follows [`wide_code`].
fn put_wide(out: &mut BytesMut, value: &Value) {
    match value {
        Value::Null => {}
        Value::Bool(v) => out.put_u8(u8::from(*v)),
        Value::Ubyte(v) => out.put_u8(*v),
        Value::Ushort(v) => out.put_u16(*v),
        Value::Uint(v) => out.put_u32(*v),
        Value::Ulong(v) => out.put_u64(*v),
        Value::Byte(v) => out.put_i8(*v),
        Value::Short(v) => out.put_i16(*v),
        Value::Int(v) => out.put_i32(*v),
        Value::Long(v) | Value::Timestamp(v) => out.put_i64(*v),
        Value::Float(v) => out.put_f32(*v),
        Value::Double(v) => out.put_f64(*v),
        Value::Decimal32(v) => out.put_slice(v),
        Value::Decimal64(v) => out.put_slice(v),
        Value::Decimal128(v) => out.put_slice(v),
        Value::Char(v) => out.put_u32(u32::from(*v)),
        Value::Uuid(v) => out.put_slice(v.as_bytes()),
        Value::Binary(v) => {
            put_length(out, v.len());
            out.put_slice(v);
        }
        Value::String(v) | Value::Symbol(v) => {
            put_length(out, v.len());
            out.put_slice(v.as_bytes());
        }
        Value::List(items) => {
            let sized = Gap::begin(out);
            put_length(out, items.len());
            for item in items {
                put_value(out, item);
            }
            sized.end(out);
        }
        Value::Map(pairs) => {
            let sized = Gap::begin(out);
            put_length(out, pairs.len() * 2);
            for (key, value) in pairs {
                put_value(out, key);
                put_value(out, value);
            }
            sized.end(out);
        }
        Value::Array(items) => put_array(out, items),
        Value::Described(described) => {
            put_value(out, &described.0);
            put_value(out, &described.1);
        }
    }
}

fn put_array(out: &mut BytesMut, items: &[Value]) {
    let sized = Gap::begin(out);
    put_length(out, items.len());
    match items.first() {
        None => out.put_u8(0x40),
        Some(Value::Described(first)) => {
            out.put_u8(0x00);
            put_value(out, &first.0);
            out.put_u8(wide_code(&first.1));
            for item in items {
                if let Value::Described(described) = item {
                    put_wide(out, &described.1);
                }
            }
        }
        Some(first) => {
            out.put_u8(wide_code(first));
            for item in items {
                put_wide(out, item);
            }
        }
    }
    sized.end(out);
}

/// The place kept for a four-byte size.
struct Gap {
    at: usize,
}

impl Gap {
    fn begin(out: &mut BytesMut) -> Gap {
        let at = out.len();
        out.put_u32(0);
        Gap { at }
    }

    fn end(self, out: &mut BytesMut) {
        let size = out.len() - self.at - 4;
        patch_u32(out, self.at, size);
    }
}

/// Writes a list (usually the fields of a composite) element by element.
pub(crate) struct ListWriter<'a> {
    out: &'a mut BytesMut,
    at: usize,
    count: usize,
    nulls: usize,
}

impl<'a> ListWriter<'a> {
    /// A composite type: descriptor and the list of its fields.
    pub(crate) fn composite(out: &'a mut BytesMut, code: u64) -> ListWriter<'a> {
        out.put_u8(0x00);
        code.put(out);
        ListWriter::list(out)
    }

    fn list(out: &'a mut BytesMut) -> ListWriter<'a> {
        let at = out.len();
        out.put_slice(&[0xd0, 0, 0, 0, 0, 0, 0, 0, 0]);
        ListWriter { out, at, count: 0, nulls: 0 }
    }

    /// The next field.
    pub(crate) fn field(&mut self, value: impl Put) -> &mut Self {
        if value.is_null() {
            self.nulls += 1;
            return self;
        }
        self.place(|out| value.put(out))
    }

    /// The next field, written by `write`.
    pub(crate) fn place(&mut self, write: impl FnOnce(&mut BytesMut)) -> &mut Self {
        self.out.put_bytes(0x40, self.nulls);
        self.count += self.nulls + 1;
        self.nulls = 0;
        write(self.out);
        self
    }

    /// Fills in size and count.
    pub(crate) fn end(&mut self) {
        let size = self.out.len() - self.at - 5;
        patch_u32(self.out, self.at + 1, size);
        patch_u32(self.out, self.at + 5, self.count);
    }
}

/// Writes a map pair by pair.
pub(crate) struct MapWriter<'a> {
    out: &'a mut BytesMut,
    at: usize,
    count: usize,
}

impl<'a> MapWriter<'a> {
    pub(crate) fn begin(out: &'a mut BytesMut) -> MapWriter<'a> {
        let at = out.len();
        out.put_slice(&[0xd1, 0, 0, 0, 0, 0, 0, 0, 0]);
        MapWriter { out, at, count: 0 }
    }

    pub(crate) fn pair(&mut self, key: impl Put, value: impl Put) -> &mut Self {
        key.put(self.out);
        value.put(self.out);
        self.count += 2;
        self
    }

    pub(crate) fn end(&mut self) {
        let size = self.out.len() - self.at - 5;
        patch_u32(self.out, self.at + 1, size);
        patch_u32(self.out, self.at + 5, self.count);
    }
}
