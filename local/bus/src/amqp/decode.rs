//! Bytes to AMQP values (part 1, section 1.2, and the composite types of part 2).
//!
//! [`Reader`] is a cursor over one frame or section; binaries come out as slices of it, not copies.
//! [`Fields`] reads the list of a composite type field by field, so that a transfer is decoded
//! without allocating.

use bytes::Bytes;
use uuid::Uuid;

use super::value::Value;
use crate::limits::{VALUE_DEPTH_MAX, ZERO_WIDTH_ARRAY_ITEMS_MAX};

/// Why bytes are not what they should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum DecodeError {
    #[error("the input ends inside a value")]
    Truncated,
    #[error("format code 0x{0:02x} is not assigned")]
    UnknownFormat(u8),
    #[error("format code 0x{found:02x} where {wanted} is expected")]
    Unexpected { wanted: &'static str, found: u8 },
    #[error("values are nested deeper than {VALUE_DEPTH_MAX} levels")]
    TooDeep,
    #[error("a compound value claims more elements than it has bytes for")]
    TooMany,
    #[error("a map has a key without a value")]
    OddMap,
    #[error("a string is not UTF-8, or a symbol is not ASCII")]
    Text,
    #[error("a char is not a Unicode scalar value")]
    Char,
    #[error("the mandatory field {0} is missing")]
    Missing(&'static str),
    #[error("{0} is not allowed here")]
    Misplaced(&'static str),
}

/// A cursor over encoded values.
#[derive(Debug, Clone)]
pub(crate) struct Reader<'a> {
    /// What `rest` is a part of, so that binaries can be handed out without copying.
    origin: &'a Bytes,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(origin: &'a Bytes) -> Reader<'a> {
        Reader { origin, rest: origin }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// What has not been read yet, as a slice of the origin.
    pub(crate) fn remaining(&self) -> Bytes {
        self.origin.slice_ref(self.rest)
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> usize {
        self.origin.len() - self.rest.len()
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], DecodeError> {
        if self.rest.len() < n {
            return Err(DecodeError::Truncated);
        }
        let (taken, rest) = self.rest.split_at(n);
        self.rest = rest;
        Ok(taken)
    }

    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        self.take(N)?.try_into().map_err(|_| DecodeError::Truncated)
    }

    /// The next byte: usually a format code.
    pub(crate) fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(self.fixed::<1>()?[0])
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_be_bytes(self.fixed()?))
    }

    /// The size prefix of a variable, compound or array format code.
    fn size(&mut self, code: u8) -> Result<usize, DecodeError> {
        match code >> 4 {
            0xa | 0xc | 0xe => Ok(self.u8()?.into()),
            0xb | 0xd | 0xf => usize::try_from(self.u32()?).map_err(|_| DecodeError::Truncated),
            _ => Err(DecodeError::UnknownFormat(code)),
        }
    }

    fn variable(&mut self, code: u8) -> Result<&'a [u8], DecodeError> {
        let size = self.size(code)?;
        self.take(size)
    }

    /// The content of a list or map and how many elements it claims to have.
    fn compound(&mut self, code: u8) -> Result<(Reader<'a>, u32), DecodeError> {
        let content = self.variable(code)?;
        let mut inner = Reader { origin: self.origin, rest: content };
        let count = if code >> 4 == 0xc { inner.u8()?.into() } else { inner.u32()? };
        // An element has at least its format code.
        if count as usize > inner.rest.len() {
            return Err(DecodeError::TooMany);
        }
        Ok((inner, count))
    }

    /// Reads past one value without decoding it.
    pub(crate) fn skip(&mut self) -> Result<(), DecodeError> {
        // A descriptor may itself be described; the chain is bounded like any other nesting.
        let mut pending = 1_u32;
        let mut described = 0_u32;
        while pending > 0 {
            pending -= 1;
            let code = self.u8()?;
            match code >> 4 {
                0x0 if code == 0 => {
                    described += 1;
                    if described > VALUE_DEPTH_MAX {
                        return Err(DecodeError::TooDeep);
                    }
                    pending += 2;
                }
                0x4 => {}
                0x5 => drop(self.take(1)?),
                0x6 => drop(self.take(2)?),
                0x7 => drop(self.take(4)?),
                0x8 => drop(self.take(8)?),
                0x9 => drop(self.take(16)?),
                0xa..=0xf => drop(self.variable(code)?),
                _ => return Err(DecodeError::UnknownFormat(code)),
            }
        }
        Ok(())
    }

    /// Reads past one value, looking at all of it: what passes here decodes.
    pub(crate) fn check(&mut self) -> Result<(), DecodeError> {
        self.check_at(0)
    }

    fn check_at(&mut self, depth: u32) -> Result<(), DecodeError> {
        if depth > VALUE_DEPTH_MAX {
            return Err(DecodeError::TooDeep);
        }
        let mut rest = self.clone();
        let code = rest.u8()?;
        match code {
            0x00 => {
                rest.check_at(depth + 1)?;
                rest.check_at(depth + 1)?;
                *self = rest;
                return Ok(());
            }
            0xc0 | 0xd0 | 0xc1 | 0xd1 => {
                let (mut inner, count) = rest.compound(code)?;
                if code & 0x01 == 1 && count % 2 != 0 {
                    return Err(DecodeError::OddMap);
                }
                for _ in 0..count {
                    inner.check_at(depth + 1)?;
                }
            }
            0xa1 | 0xb1 | 0xa3 | 0xb3 => drop(text(rest.variable(code)?)?),
            0xa0 | 0xb0 => drop(rest.variable(code)?),
            // Fixed widths with rules of their own, and arrays, which are rare.
            _ => drop(rest.value_of(code, depth)?),
        }
        *self = rest;
        Ok(())
    }

    /// The encoding of the next value, undecoded.
    pub(crate) fn raw(&mut self) -> Result<Bytes, DecodeError> {
        let before = self.rest;
        self.skip()?;
        Ok(self.origin.slice_ref(&before[..before.len() - self.rest.len()]))
    }

    /// The next value, whatever it is.
    pub(crate) fn value(&mut self) -> Result<Value, DecodeError> {
        self.value_at(0)
    }

    fn value_at(&mut self, depth: u32) -> Result<Value, DecodeError> {
        let code = self.u8()?;
        self.value_of(code, depth)
    }

    fn value_of(&mut self, code: u8, depth: u32) -> Result<Value, DecodeError> {
        if depth > VALUE_DEPTH_MAX {
            return Err(DecodeError::TooDeep);
        }
        Ok(match code {
            0x00 => {
                let descriptor = self.value_at(depth + 1)?;
                let value = self.value_at(depth + 1)?;
                Value::Described(Box::new((descriptor, value)))
            }
            0x40 => Value::Null,
            0x41 => Value::Bool(true),
            0x42 => Value::Bool(false),
            0x56 => Value::Bool(self.u8()? != 0),
            0x43 => Value::Uint(0),
            0x44 => Value::Ulong(0),
            0x45 => Value::List(Vec::new()),
            0x50 => Value::Ubyte(self.u8()?),
            0x51 => Value::Byte(i8::from_be_bytes(self.fixed()?)),
            0x52 => Value::Uint(self.u8()?.into()),
            0x53 => Value::Ulong(self.u8()?.into()),
            0x54 => Value::Int(i8::from_be_bytes(self.fixed()?).into()),
            0x55 => Value::Long(i8::from_be_bytes(self.fixed()?).into()),
            0x60 => Value::Ushort(u16::from_be_bytes(self.fixed()?)),
            0x61 => Value::Short(i16::from_be_bytes(self.fixed()?)),
            0x70 => Value::Uint(self.u32()?),
            0x71 => Value::Int(i32::from_be_bytes(self.fixed()?)),
            0x72 => Value::Float(f32::from_be_bytes(self.fixed()?)),
            0x73 => Value::Char(char::from_u32(self.u32()?).ok_or(DecodeError::Char)?),
            0x74 => Value::Decimal32(self.fixed()?),
            0x80 => Value::Ulong(u64::from_be_bytes(self.fixed()?)),
            0x81 => Value::Long(i64::from_be_bytes(self.fixed()?)),
            0x82 => Value::Double(f64::from_be_bytes(self.fixed()?)),
            0x83 => Value::Timestamp(i64::from_be_bytes(self.fixed()?)),
            0x84 => Value::Decimal64(self.fixed()?),
            0x94 => Value::Decimal128(self.fixed()?),
            0x98 => Value::Uuid(Uuid::from_bytes(self.fixed()?)),
            0xa0 | 0xb0 => {
                let content = self.variable(code)?;
                Value::Binary(self.origin.slice_ref(content))
            }
            0xa1 | 0xb1 => Value::String(text(self.variable(code)?)?.to_owned()),
            0xa3 | 0xb3 => Value::Symbol(ascii(self.variable(code)?)?.to_owned()),
            0xc0 | 0xd0 => {
                let (mut inner, count) = self.compound(code)?;
                let mut items = Vec::with_capacity(count as usize);
                for _ in 0..count {
                    items.push(inner.value_at(depth + 1)?);
                }
                Value::List(items)
            }
            0xc1 | 0xd1 => {
                let (mut inner, count) = self.compound(code)?;
                if count % 2 != 0 {
                    return Err(DecodeError::OddMap);
                }
                let mut pairs = Vec::with_capacity(count as usize / 2);
                for _ in 0..count / 2 {
                    pairs.push((inner.value_at(depth + 1)?, inner.value_at(depth + 1)?));
                }
                Value::Map(pairs)
            }
            0xe0 | 0xf0 => self.array(code, depth)?,
            _ => return Err(DecodeError::UnknownFormat(code)),
        })
    }

    fn array(&mut self, code: u8, depth: u32) -> Result<Value, DecodeError> {
        let content = self.variable(code)?;
        let mut inner = Reader { origin: self.origin, rest: content };
        let count = if code >> 4 == 0xe { inner.u8()?.into() } else { inner.u32()? };
        let mut constructor = inner.u8()?;
        let descriptor = if constructor == 0 {
            let descriptor = inner.value_at(depth + 1)?;
            constructor = inner.u8()?;
            Some(descriptor)
        } else {
            None
        };
        let zero_width = constructor >> 4 == 0x4;
        if zero_width && count > ZERO_WIDTH_ARRAY_ITEMS_MAX
            || !zero_width && count as usize > inner.rest.len()
            || constructor == 0
        {
            return Err(DecodeError::TooMany);
        }
        let mut items = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let item = inner.value_of(constructor, depth + 1)?;
            items.push(match &descriptor {
                Some(descriptor) => Value::Described(Box::new((descriptor.clone(), item))),
                None => item,
            });
        }
        Ok(Value::Array(items))
    }

    /// The descriptor of a described composite and its fields. Accepts numeric and, through
    /// `codes`, symbolic descriptors; returns 0 for a symbol that is not among them.
    pub(crate) fn composite(
        &mut self,
        codes: &[(u64, &str)],
    ) -> Result<(u64, Fields<'a>), DecodeError> {
        let code = self.u8()?;
        if code != 0 {
            return Err(DecodeError::Unexpected { wanted: "a described type", found: code });
        }
        self.described_fields(codes)
    }

    fn described_fields(
        &mut self,
        codes: &[(u64, &str)],
    ) -> Result<(u64, Fields<'a>), DecodeError> {
        let descriptor = self.descriptor(codes)?;
        let code = self.u8()?;
        Ok((descriptor, Fields::of(code, self)?))
    }

    /// A descriptor: the part between 0x00 and the value.
    pub(crate) fn descriptor(&mut self, codes: &[(u64, &str)]) -> Result<u64, DecodeError> {
        let code = self.u8()?;
        match code {
            0x44 => Ok(0),
            0x53 => Ok(self.u8()?.into()),
            0x80 => Ok(u64::from_be_bytes(self.fixed()?)),
            0xa3 | 0xb3 => {
                let symbol = ascii(self.variable(code)?)?;
                Ok(codes.iter().find(|(_, name)| *name == symbol).map_or(0, |(code, _)| *code))
            }
            found => Err(DecodeError::Unexpected { wanted: "a descriptor", found }),
        }
    }
}

fn text(bytes: &[u8]) -> Result<&str, DecodeError> {
    std::str::from_utf8(bytes).map_err(|_| DecodeError::Text)
}

fn ascii(bytes: &[u8]) -> Result<&str, DecodeError> {
    // Lenient where clients are: a symbol with UTF-8 in it harms nobody.
    text(bytes)
}

/// The fields of a composite type, read in order. A null or missing field is `None`.
#[derive(Debug)]
pub(crate) struct Fields<'a> {
    reader: Reader<'a>,
    left: u32,
}

impl<'a> Fields<'a> {
    fn of(code: u8, reader: &mut Reader<'a>) -> Result<Fields<'a>, DecodeError> {
        match code {
            0x45 => Ok(Fields { reader: Reader { origin: reader.origin, rest: &[] }, left: 0 }),
            0xc0 | 0xd0 => {
                let (inner, left) = reader.compound(code)?;
                Ok(Fields { reader: inner, left })
            }
            found => Err(DecodeError::Unexpected { wanted: "a list", found }),
        }
    }

    /// The next field as `T`.
    pub(crate) fn next<T: FromAmqp<'a>>(&mut self) -> Result<Option<T>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let code = self.reader.u8()?;
        if code == 0x40 { Ok(None) } else { T::from_amqp(code, &mut self.reader).map(Some) }
    }

    /// The next field, which the specification makes mandatory.
    pub(crate) fn must<T: FromAmqp<'a>>(&mut self, name: &'static str) -> Result<T, DecodeError> {
        self.next()?.ok_or(DecodeError::Missing(name))
    }

    /// The next field's encoding, undecoded.
    pub(crate) fn raw(&mut self) -> Result<Option<Bytes>, DecodeError> {
        if self.left == 0 {
            return Ok(None);
        }
        self.left -= 1;
        let raw = self.reader.raw()?;
        Ok((raw[..] != [0x40]).then_some(raw))
    }

    /// Passes over a field nobody here needs.
    pub(crate) fn skip(&mut self) -> Result<(), DecodeError> {
        self.raw().map(drop)
    }
}

/// A type that a field can be read as, given its format code.
pub(crate) trait FromAmqp<'a>: Sized {
    fn from_amqp(code: u8, reader: &mut Reader<'a>) -> Result<Self, DecodeError>;
}

impl FromAmqp<'_> for Value {
    fn from_amqp(code: u8, reader: &mut Reader<'_>) -> Result<Value, DecodeError> {
        reader.value_of(code, 0)
    }
}

impl FromAmqp<'_> for bool {
    fn from_amqp(code: u8, reader: &mut Reader<'_>) -> Result<bool, DecodeError> {
        match code {
            0x41 => Ok(true),
            0x42 => Ok(false),
            0x56 => Ok(reader.u8()? != 0),
            found => Err(DecodeError::Unexpected { wanted: "a boolean", found }),
        }
    }
}

/// Any unsigned integer; clients differ in the width they choose.
impl FromAmqp<'_> for u64 {
    fn from_amqp(code: u8, reader: &mut Reader<'_>) -> Result<u64, DecodeError> {
        match code {
            0x43 | 0x44 => Ok(0),
            0x50 | 0x52 | 0x53 => Ok(reader.u8()?.into()),
            0x60 => Ok(u16::from_be_bytes(reader.fixed()?).into()),
            0x70 => Ok(reader.u32()?.into()),
            0x80 => Ok(u64::from_be_bytes(reader.fixed()?)),
            found => Err(DecodeError::Unexpected { wanted: "an unsigned integer", found }),
        }
    }
}

impl<'a> FromAmqp<'a> for u32 {
    fn from_amqp(code: u8, reader: &mut Reader<'a>) -> Result<u32, DecodeError> {
        let wide = u64::from_amqp(code, reader)?;
        wide.try_into().map_err(|_| DecodeError::Unexpected { wanted: "a uint", found: code })
    }
}

impl<'a> FromAmqp<'a> for u16 {
    fn from_amqp(code: u8, reader: &mut Reader<'a>) -> Result<u16, DecodeError> {
        let wide = u64::from_amqp(code, reader)?;
        wide.try_into().map_err(|_| DecodeError::Unexpected { wanted: "a ushort", found: code })
    }
}

impl<'a> FromAmqp<'a> for u8 {
    fn from_amqp(code: u8, reader: &mut Reader<'a>) -> Result<u8, DecodeError> {
        let wide = u64::from_amqp(code, reader)?;
        wide.try_into().map_err(|_| DecodeError::Unexpected { wanted: "a ubyte", found: code })
    }
}

impl FromAmqp<'_> for Bytes {
    fn from_amqp(code: u8, reader: &mut Reader<'_>) -> Result<Bytes, DecodeError> {
        match code {
            0xa0 | 0xb0 => {
                let content = reader.variable(code)?;
                Ok(reader.origin.slice_ref(content))
            }
            found => Err(DecodeError::Unexpected { wanted: "a binary", found }),
        }
    }
}

/// A string or a symbol.
impl<'a> FromAmqp<'a> for &'a str {
    fn from_amqp(code: u8, reader: &mut Reader<'a>) -> Result<&'a str, DecodeError> {
        match code {
            0xa1 | 0xb1 | 0xa3 | 0xb3 => text(reader.variable(code)?),
            found => Err(DecodeError::Unexpected { wanted: "a string", found }),
        }
    }
}

impl<'a> FromAmqp<'a> for String {
    fn from_amqp(code: u8, reader: &mut Reader<'a>) -> Result<String, DecodeError> {
        <&str>::from_amqp(code, reader).map(str::to_owned)
    }
}

/// A described composite inside a field, with numeric or (unrecognised: 0) symbolic descriptor.
pub(crate) struct Composite<'a> {
    pub(crate) code: u64,
    pub(crate) fields: Fields<'a>,
}

impl<'a> FromAmqp<'a> for Composite<'a> {
    fn from_amqp(code: u8, reader: &mut Reader<'a>) -> Result<Composite<'a>, DecodeError> {
        if code != 0 {
            return Err(DecodeError::Unexpected { wanted: "a described type", found: code });
        }
        let (code, fields) = reader.described_fields(super::state::DESCRIPTORS)?;
        Ok(Composite { code, fields })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::amqp::encode::put_value;

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<u8>().prop_map(Value::Ubyte),
            any::<u16>().prop_map(Value::Ushort),
            any::<u32>().prop_map(Value::Uint),
            any::<u64>().prop_map(Value::Ulong),
            any::<i8>().prop_map(Value::Byte),
            any::<i16>().prop_map(Value::Short),
            any::<i32>().prop_map(Value::Int),
            any::<i64>().prop_map(Value::Long),
            (-1e6_f32..1e6).prop_map(Value::Float),
            (-1e9_f64..1e9).prop_map(Value::Double),
            any::<[u8; 16]>().prop_map(Value::Decimal128),
            any::<char>().prop_map(Value::Char),
            any::<i64>().prop_map(Value::Timestamp),
            any::<u128>().prop_map(|n| Value::Uuid(Uuid::from_u128(n))),
            proptest::collection::vec(any::<u8>(), 0..300).prop_map(|b| Value::Binary(b.into())),
            ".{0,40}".prop_map(Value::String),
            "[a-z:-]{0,20}".prop_map(Value::Symbol),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
                proptest::collection::vec((inner.clone(), inner.clone()), 0..4)
                    .prop_map(Value::Map),
                proptest::collection::vec(any::<i64>().prop_map(Value::Long), 0..6)
                    .prop_map(Value::Array),
                proptest::collection::vec(
                    proptest::collection::vec((inner.clone(), inner.clone()), 0..3)
                        .prop_map(Value::Map),
                    0..3
                )
                .prop_map(Value::Array),
                (any::<u64>(), inner).prop_map(|(code, v)| Value::described(code, v)),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(value in value()) {
            let mut out = bytes::BytesMut::new();
            put_value(&mut out, &value);
            let bytes = out.freeze();
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!(reader.value(), Ok(value));
            prop_assert!(reader.is_empty());
            let mut skipping = Reader::new(&bytes);
            prop_assert_eq!(skipping.skip(), Ok(()));
            prop_assert!(skipping.is_empty());
            let mut checking = Reader::new(&bytes);
            prop_assert_eq!(checking.check(), Ok(()));
            prop_assert!(checking.is_empty());
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            let bytes = Bytes::from(bytes);
            // Most inputs are errors; what matters is that checking and decoding agree.
            let mut reader = Reader::new(&bytes);
            let decoded = reader.value();
            let mut checking = Reader::new(&bytes);
            let checked = checking.check();
            prop_assert_eq!(checked.is_ok(), decoded.is_ok());
            if checked.is_ok() {
                prop_assert_eq!(checking.position(), reader.position());
            }
            let _ = Reader::new(&bytes).skip();
            let _ = Reader::new(&bytes).composite(&[]);
        }
    }

    #[test]
    fn hostile_sizes_depths_and_counts_are_refused() {
        let refuse =
            |bytes: &[u8]| Reader::new(&Bytes::copy_from_slice(bytes)).value().unwrap_err();
        assert_eq!(refuse(&[0xb0, 0xff, 0xff, 0xff, 0xff]), DecodeError::Truncated);
        assert_eq!(refuse(&[0xd0, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff]), DecodeError::TooMany);
        // An array of four billion nulls in eleven bytes.
        assert_eq!(refuse(&[0xf0, 0, 0, 0, 5, 0xff, 0xff, 0xff, 0xff, 0x40]), DecodeError::TooMany);
        assert_eq!(refuse(&[0xc1, 2, 1, 0x40]), DecodeError::OddMap);
        assert_eq!(refuse(&[0xa1, 1, 0xff]), DecodeError::Text);
        assert_eq!(refuse(&[0x73, 0, 0, 0xd8, 0]), DecodeError::Char);
        assert_eq!(refuse(&[0x00; 100]), DecodeError::TooDeep);
        let mut deep = Vec::new();
        for _ in 0..100 {
            let size = u8::try_from(deep.len() + 1).unwrap();
            deep.splice(0..0, [0xc0, size, 1]);
            if deep.len() > 250 {
                break;
            }
        }
        assert!(matches!(refuse(&deep), DecodeError::TooDeep | DecodeError::Truncated));
    }
}
