//! The total order of JSON values: undefined, null, booleans, numbers, strings, arrays, objects.
//!
//! Values are written as bytes that compare as the values do. Indexes, ORDER BY, GROUP BY and
//! DISTINCT all use this one encoding, so that they cannot disagree.

use serde_json::{Number, Value};

/// Appends the bytes of `value`. No encoding is a prefix of another, so that several can follow
/// each other and can be inverted for descending order.
pub(crate) fn encode(value: Option<&Value>, out: &mut Vec<u8>) {
    match value {
        None => out.push(0x00),
        Some(Value::Null) => out.push(0x01),
        Some(Value::Bool(false)) => out.push(0x02),
        Some(Value::Bool(true)) => out.push(0x03),
        Some(Value::Number(number)) => {
            out.push(0x04);
            encode_number(number, out);
        }
        Some(Value::String(text)) => {
            out.push(0x05);
            encode_text(text, out);
        }
        Some(Value::Array(elements)) => {
            out.push(0x06);
            for element in elements {
                out.push(0x01);
                encode(Some(element), out);
            }
            out.push(0x00);
        }
        Some(Value::Object(properties)) => {
            out.push(0x07);
            let mut sorted: Vec<_> = properties.iter().collect();
            sorted.sort_unstable_by_key(|(name, _)| *name);
            for (name, value) in sorted {
                out.push(0x01);
                encode_text(name, out);
                encode(Some(value), out);
            }
            out.push(0x00);
        }
    }
}

/// The bytes of `value` alone, inverted when the order is descending.
pub(crate) fn key(value: Option<&Value>, descending: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(value, &mut bytes);
    if descending {
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
    }
    bytes
}

/// Numbers order as doubles do; integers that round to the same double order by the remainder.
fn encode_number(number: &Number, out: &mut Vec<u8>) {
    const SIGN: u64 = 1 << 63;
    let double = number.as_f64().unwrap_or(f64::NAN) + 0.0;
    let bits = double.to_bits();
    let ordered = if bits & SIGN == 0 { bits | SIGN } else { !bits };
    out.extend_from_slice(&ordered.to_be_bytes());
    let exact = number.as_i64().map(i128::from).or(number.as_u64().map(i128::from));
    let remainder = exact.map_or(0, |exact| exact - double as i128);
    // 64-bit integers are at most 1024 away from a double.
    let biased = (remainder + 0x8000).clamp(0, 0xFFFF) as u16;
    out.extend_from_slice(&biased.to_be_bytes());
}

fn encode_text(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        out.push(byte);
        if byte == 0 {
            out.push(0xFF);
        }
    }
    out.extend_from_slice(&[0, 0]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn bytes_order_as_values() {
        let ascending = [
            None,
            Some(json!(null)),
            Some(json!(false)),
            Some(json!(true)),
            Some(json!(-1.0e300)),
            Some(json!(-2)),
            Some(json!(-1.5)),
            Some(json!(0)),
            Some(json!(0.5)),
            Some(json!(9_007_199_254_740_992_i64)),
            Some(json!(9_007_199_254_740_993_i64)),
            Some(json!(u64::MAX - 1)),
            Some(json!(u64::MAX)),
            Some(json!("")),
            Some(json!("a")),
            Some(json!("a\u{0}")),
            Some(json!("a\u{0}b")),
            Some(json!("ab")),
            Some(json!([])),
            Some(json!([1])),
            Some(json!([1, 2])),
            Some(json!({})),
            Some(json!({"a": 1})),
            Some(json!({"a": 2})),
        ];
        for descending in [false, true] {
            let keys: Vec<_> = ascending.iter().map(|v| key(v.as_ref(), descending)).collect();
            for pair in keys.windows(2) {
                assert_eq!(pair[0] > pair[1], descending);
                assert!(!pair[0].starts_with(&pair[1]) && !pair[1].starts_with(&pair[0]));
            }
        }
        assert_eq!(key(Some(&json!(1)), false), key(Some(&json!(1.0)), false));
        assert_eq!(key(Some(&json!(0)), false), key(Some(&json!(-0.0)), false));
    }
}
