//! Cosmos binary JSON to text: what SDKs send as item bodies unless told not to.
//!
//! A buffer starts with 0x80, which no JSON text does; every value starts with a marker byte. The
//! marker table is published with the .NET SDK (`JsonBinaryEncoding.TypeMarker.cs` of
//! <https://github.com/Azure/azure-cosmos-dotnet-v3>). Only reading, and only the forms that
//! clients write: the compressed and base64 strings that the service produces are refused.

use std::fmt::Write as _;

use thiserror::Error;

use crate::limits::{MAX_BINARY_DEPTH, MAX_REQUEST_BYTES};

/// First byte of every binary buffer.
const PREAMBLE: u8 = 0x80;

/// Strings that have a marker of their own, from 0x20.
const SYSTEM_STRINGS: [&str; 32] = [
    "$s",
    "$t",
    "$v",
    "_attachments",
    "_etag",
    "_rid",
    "_self",
    "_ts",
    "attachments/",
    "coordinates",
    "geometry",
    "GeometryCollection",
    "id",
    "url",
    "Value",
    "label",
    "LineString",
    "link",
    "MultiLineString",
    "MultiPoint",
    "MultiPolygon",
    "name",
    "Name",
    "Type",
    "Point",
    "Polygon",
    "properties",
    "type",
    "value",
    "Feature",
    "FeatureCollection",
    "_id",
];

/// A buffer that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub(crate) enum BinaryError {
    #[error("the binary body ends early")]
    Truncated,
    #[error("the binary body has bytes after its value")]
    Trailing,
    #[error(
        "the binary body has the marker 0x{marker:02X} at byte {offset}, which is not supported"
    )]
    Marker { marker: u8, offset: usize },
    #[error("the binary body has lengths that do not agree at byte {0}")]
    Length(usize),
    #[error("the binary body has a string that is not UTF-8 at byte {0}")]
    Utf8(usize),
    #[error("the binary body is nested too deeply or too large")]
    Limit,
}

type Result<T> = std::result::Result<T, BinaryError>;

/// Whether `body` is binary JSON rather than text.
pub(crate) fn is_binary(body: &[u8]) -> bool {
    body.first() == Some(&PREAMBLE)
}

/// The JSON text of a binary buffer.
pub(crate) fn to_text(body: &[u8]) -> Result<String> {
    let mut reader = Reader { body, at: 1, out: String::with_capacity(body.len() * 2) };
    reader.value(0)?;
    if reader.at == body.len() { Ok(reader.out) } else { Err(BinaryError::Trailing) }
}

struct Reader<'a> {
    body: &'a [u8],
    at: usize,
    out: String,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<()> {
        // References repeat strings, so that the text may be far larger than the buffer.
        if depth > MAX_BINARY_DEPTH || self.out.len() > MAX_REQUEST_BYTES {
            return Err(BinaryError::Limit);
        }
        let offset = self.at;
        let marker = self.byte()?;
        match marker {
            0xD0 => self.out.push_str("null"),
            0xD1 => self.out.push_str("false"),
            0xD2 => self.out.push_str("true"),
            0x00..=0x1F => self.push(marker),
            0xC7 | 0xC8..=0xCE | 0xD7..=0xDC => self.number(marker)?,
            0xE0 => self.out.push_str("[]"),
            0xE1 => {
                self.out.push('[');
                self.value(depth + 1)?;
                self.out.push(']');
            }
            0xE2..=0xE7 => self.container(marker - 0xE2, "[]", depth)?,
            0xE8 => self.out.push_str("{}"),
            0xE9 => {
                self.out.push('{');
                self.member(depth + 1)?;
                self.out.push('}');
            }
            0xEA..=0xEF => self.container(marker - 0xEA, "{}", depth)?,
            0xF0 | 0xF1 => self.uniform_numbers(marker == 0xF1)?,
            _ => {
                self.at = offset;
                let text = self.string()?;
                self.push_string(&text);
            }
        }
        Ok(())
    }

    fn member(&mut self, depth: usize) -> Result<()> {
        let name = self.string()?;
        self.push_string(&name);
        self.out.push(':');
        self.value(depth)
    }

    /// An array or object with its length in bytes and, for the last three `forms`, its count.
    fn container(&mut self, form: u8, brackets: &str, depth: usize) -> Result<()> {
        let width = 1 << (form % 3);
        let length = self.length(width)?;
        let count = if form >= 3 { Some(self.length(width)?) } else { None };
        let start = self.at;
        let end = start.checked_add(length).filter(|end| *end <= self.body.len());
        let end = end.ok_or(BinaryError::Truncated)?;
        let mut found = 0;
        self.out.push_str(&brackets[..1]);
        while self.at < end {
            if found > 0 {
                self.out.push(',');
            }
            match brackets {
                "[]" => self.value(depth + 1)?,
                _ => self.member(depth + 1)?,
            }
            found += 1;
        }
        self.out.push_str(&brackets[1..]);
        match self.at == end && count.is_none_or(|count| count == found) {
            true => Ok(()),
            false => Err(BinaryError::Length(start)),
        }
    }

    fn uniform_numbers(&mut self, wide: bool) -> Result<()> {
        let (offset, marker) = (self.at, self.byte()?);
        if !matches!(marker, 0xCD | 0xCE | 0xD7..=0xDC) {
            return Err(BinaryError::Marker { marker, offset });
        }
        let count = self.length(if wide { 2 } else { 1 })?;
        self.out.push('[');
        for index in 0..count {
            if index > 0 {
                self.out.push(',');
            }
            self.number(marker)?;
        }
        self.out.push(']');
        Ok(())
    }

    fn number(&mut self, marker: u8) -> Result<()> {
        match marker {
            0xC8 | 0xD7 => {
                let number = self.byte()?;
                self.push(number);
            }
            0xD8 => {
                let number = self.byte()? as i8;
                self.push(number);
            }
            0xC9 | 0xD9 => {
                let number = i16::from_le_bytes(self.array()?);
                self.push(number);
            }
            0xCA | 0xDA => {
                let number = i32::from_le_bytes(self.array()?);
                self.push(number);
            }
            0xCB | 0xDB => {
                let number = i64::from_le_bytes(self.array()?);
                self.push(number);
            }
            0xC7 => {
                let number = u64::from_le_bytes(self.array()?);
                self.push(number);
            }
            0xDC => {
                let number = u32::from_le_bytes(self.array()?);
                self.push(number);
            }
            0xCD => {
                let number = f32::from_le_bytes(self.array()?);
                // Infinities have no JSON form and become null, as text encoders do.
                self.push(serde_json::Value::from(f64::from(number)));
            }
            _ if matches!(marker, 0xCC | 0xCE) => {
                let number = f64::from_le_bytes(self.array()?);
                self.push(serde_json::Value::from(number));
            }
            _ => return Err(BinaryError::Marker { marker, offset: self.at }),
        }
        Ok(())
    }

    /// A string in any of its forms, in the place of a value or of a name.
    fn string(&mut self) -> Result<std::borrow::Cow<'a, str>> {
        let offset = self.at;
        let marker = self.byte()?;
        let length = match marker {
            0x20..=0x3F => return Ok(SYSTEM_STRINGS[usize::from(marker - 0x20)].into()),
            0x75..=0x77 => return self.guid(marker).map(Into::into),
            0x80..=0xBF => usize::from(marker & 0x7F),
            0xC0 => self.length(1)?,
            0xC1 => self.length(2)?,
            0xC2 => self.length(4)?,
            0xC3..=0xC6 => {
                let target = self.length(usize::from(marker - 0xC2))?;
                let known = self.body.get(target).ok_or(BinaryError::Truncated)?;
                // Backwards only, and never to another reference: no loops, no chains.
                if target >= offset || matches!(known, 0xC3..=0xC6) {
                    return Err(BinaryError::Length(offset));
                }
                return Reader { body: self.body, at: target, out: String::new() }.string();
            }
            _ => return Err(BinaryError::Marker { marker, offset }),
        };
        let text = std::str::from_utf8(self.take(length)?);
        text.map(Into::into).map_err(|_| BinaryError::Utf8(offset))
    }

    /// Sixteen bytes as 32 digits, low half first, in a case and quotes that the marker tells.
    fn guid(&mut self, marker: u8) -> Result<String> {
        let mut text = String::with_capacity(38);
        for (index, byte) in self.take(16)?.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                text.push('-');
            }
            let _ = write!(text, "{:x}{:x}", byte & 0x0F, byte >> 4);
        }
        Ok(match marker {
            0x75 => text,
            0x76 => text.to_uppercase(),
            _ => format!("\"{text}\""),
        })
    }

    fn push(&mut self, value: impl std::fmt::Display) {
        // Writing into a string does not fail.
        let _ = write!(self.out, "{value}");
    }

    fn push_string(&mut self, text: &str) {
        self.push(serde_json::Value::from(text));
    }

    /// A little-endian unsigned integer of `width` bytes.
    fn length(&mut self, width: usize) -> Result<usize> {
        let bytes = self.take(width)?;
        Ok(bytes.iter().rev().fold(0, |length, byte| length << 8 | usize::from(*byte)))
    }

    fn byte(&mut self) -> Result<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.take(N)?.try_into().map_err(|_| BinaryError::Truncated)
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8]> {
        let end = self.at.checked_add(length).ok_or(BinaryError::Truncated)?;
        let bytes = self.body.get(self.at..end).ok_or(BinaryError::Truncated)?;
        self.at = end;
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        hex.split(' ').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect()
    }

    /// Vectors published with the official Rust SDK.
    #[test]
    fn reads_published_vectors() {
        for (hex, expected) in [
            ("80 D0", json!(null)),
            ("80 D2", json!(true)),
            ("80 1F", json!(31)),
            ("80 C8 C8", json!(200)),
            ("80 C9 18 FC", json!(-1000)),
            ("80 CA 70 11 01 00", json!(70000)),
            ("80 CB 00 0E FA D5 FE FF FF FF", json!(-5_000_000_000_i64)),
            ("80 C7 FE FF FF FF FF FF FF FF", json!(18_446_744_073_709_551_614_u64)),
            ("80 CC 00 00 00 00 00 00 0C 40", json!(3.5)),
            ("80 D8 FB", json!(-5)),
            ("80 DC FE FF FF FF", json!(4_294_967_294_u32)),
            ("80 CD 00 00 C0 3F", json!(1.5)),
            ("80 2C", json!("id")),
            ("80 3F", json!("_id")),
            ("80 80", json!("")),
            ("80 82 68 69", json!("hi")),
            ("80 C0 05 68 65 6C 6C 6F", json!("hello")),
            ("80 C2 05 00 00 00 68 65 6C 6C 6F", json!("hello")),
            (
                "80 76 00 01 02 03 04 05 06 07 08 09 0A 0B 0C 0D 0E 0F",
                json!("00102030-4050-6070-8090-A0B0C0D0E0F0"),
            ),
            (
                "80 77 00 00 84 21 00 00 20 00 00 00 A6 F7 9A A8 00 00",
                json!("\"00004812-0000-0200-0000-6a7fa98a0000\""),
            ),
            ("80 F0 DA 03 01 00 00 00 02 00 00 00 03 00 00 00", json!([1, 2, 3])),
            ("80 F1 D9 03 00 FF FF 00 00 E8 03", json!([-1, 0, 1000])),
            ("80 E0", json!([])),
            ("80 E8", json!({})),
            ("80 E1 D2", json!([true])),
            ("80 E9 2C D2", json!({"id": true})),
            ("80 E2 03 00 01 D0", json!([0, 1, null])),
            ("80 E7 03 00 00 00 03 00 00 00 00 01 D0", json!([0, 1, null])),
            ("80 ED 04 02 2C 00 3B 01", json!({"id": 0, "type": 1})),
            ("80 EB 04 00 2C 00 3B 01", json!({"id": 0, "type": 1})),
            ("80 E2 05 E1 00 E9 2C 01", json!([[0], {"id": 1}])),
            ("80 E2 05 82 68 69 C3 03", json!(["hi", "hi"])),
            ("80 E2 08 82 68 69 C6 03 00 00 00", json!(["hi", "hi"])),
        ] {
            let text = to_text(&bytes(hex)).unwrap_or_else(|error| panic!("{hex}: {error}"));
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), expected, "{hex}");
        }
    }

    #[test]
    fn refuses_what_it_cannot_read() {
        for hex in [
            "80",
            "80 D0 D0",
            "80 83 68 69",
            "80 82 FF FE",
            "80 E2 09 00",
            "80 E5 01 02 00",
            "80 E2 02 C9 18 FC",
            "80 E9 00 00",
            "80 C3 01",
            "80 E2 04 C3 03 C3 03",
            "80 71 01 00 66 6F 6F",
            "80 FF",
        ] {
            assert!(to_text(&bytes(hex)).is_err(), "{hex}");
        }
        let deep = [&[PREAMBLE][..], &[0xE1; 100_000], &[0xD0]].concat();
        assert_eq!(to_text(&deep), Err(BinaryError::Limit));
    }

    proptest! {
        #[test]
        fn no_buffer_panics(mut body in proptest::collection::vec(any::<u8>(), 0..200)) {
            body.insert(0, PREAMBLE);
            if let Ok(text) = to_text(&body) {
                prop_assert!(serde_json::from_str::<Value>(&text).is_ok(), "{}", text);
            }
        }
    }
}
