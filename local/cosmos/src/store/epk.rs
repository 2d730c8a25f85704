//! Effective partition keys: the hash space in which clients address ranges of a container.
//!
//! MurmurHash3 is public domain (<https://github.com/aappleby/smhasher>). How components are laid
//! out before hashing is the same in every official SDK; the tests hold it against their published
//! vectors. Knows nothing about documents.

use super::partition::Component;

/// Strings are cut here in version 1, counted in UTF-16 units.
const V1_STRING_UNITS: usize = 100;

/// Which hash a container uses (`partitionKey.kind` and `.version`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    /// `Hash` version 1: 32-bit hash followed by the components.
    HashV1,
    /// `Hash` version 2: 128-bit hash over all components.
    HashV2,
    /// `MultiHash`: one 128-bit hash per component, concatenated, so that a prefix is a range.
    MultiHash,
}

/// The effective partition key of `components`, as raw bytes. Empty for no components.
pub(crate) fn effective(components: &[Component], scheme: Scheme) -> Vec<u8> {
    if components.is_empty() {
        return Vec::new();
    }
    let mut buffer = Vec::new();
    match scheme {
        Scheme::HashV1 => {
            components.iter().for_each(|c| write_for_hash(c, 0x00, true, &mut buffer));
            let mut out = Vec::new();
            write_ordered_number(f64::from(murmur3_32(&buffer)), &mut out);
            components.iter().for_each(|c| write_ordered(c, &mut out));
            out
        }
        Scheme::HashV2 => {
            components.iter().for_each(|c| write_for_hash(c, 0xFF, false, &mut buffer));
            hash_v2(&buffer).to_vec()
        }
        Scheme::MultiHash => {
            let mut out = Vec::with_capacity(16 * components.len());
            for component in components {
                buffer.clear();
                write_for_hash(component, 0xFF, false, &mut buffer);
                out.extend_from_slice(&hash_v2(&buffer));
            }
            out
        }
    }
}

/// Reads a hexadecimal range boundary; `None` when it is not hexadecimal.
pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).ok()).collect()
}

/// Whether `min <= key < max`. Trailing zero bytes do not count: services and SDKs pad or trim
/// the boundaries of hierarchical keys at will. An equal `min` and `max` is a single key.
pub(crate) fn contains(min: &[u8], max: &[u8], key: &[u8]) -> bool {
    let (min, max, key) = (trimmed(min), trimmed(max), trimmed(key));
    if min == max && !min.is_empty() {
        return key == min;
    }
    key >= min && key < max
}

fn trimmed(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
    &bytes[..end]
}

fn hash_v2(data: &[u8]) -> [u8; 16] {
    let mut bytes = murmur3_128(data).to_be_bytes();
    // The service keeps the top two bits free, so that 0xFF is above every key.
    bytes[0] &= 0x3F;
    bytes
}

fn write_for_hash(component: &Component, terminator: u8, cut: bool, out: &mut Vec<u8>) {
    match component {
        Component::Undefined => out.push(0x00),
        Component::Null => out.push(0x01),
        Component::Bool(false) => out.push(0x02),
        Component::Bool(true) => out.push(0x03),
        Component::Number(bits) => {
            out.push(0x05);
            out.extend_from_slice(&bits.to_le_bytes());
        }
        Component::String(text) => {
            out.push(0x08);
            match cut {
                true => out.extend_from_slice(&v1_bytes(text)),
                false => out.extend_from_slice(text.as_bytes()),
            }
            out.push(terminator);
        }
    }
}

fn write_ordered(component: &Component, out: &mut Vec<u8>) {
    match component {
        Component::Undefined => out.push(0x00),
        Component::Null => out.push(0x01),
        Component::Bool(false) => out.push(0x02),
        Component::Bool(true) => out.push(0x03),
        Component::Number(bits) => write_ordered_number(f64::from_bits(*bits), out),
        Component::String(text) => {
            out.push(0x08);
            let bytes = v1_bytes(text);
            out.extend(bytes.iter().take(V1_STRING_UNITS + 1).map(|b| b.wrapping_add(1)));
            if bytes.len() <= V1_STRING_UNITS {
                out.push(0x00);
            }
        }
    }
}

/// Seven bits per byte, the low bit saying whether another follows: short for small integers.
fn write_ordered_number(number: f64, out: &mut Vec<u8>) {
    const SIGN: u64 = 1 << 63;
    let bits = number.to_bits();
    let mut payload = if bits < SIGN { bits ^ SIGN } else { (!bits).wrapping_add(1) };
    out.push(0x05);
    out.push((payload >> 56) as u8);
    payload <<= 8;
    let mut pending: Option<u8> = None;
    while payload != 0 {
        if let Some(byte) = pending {
            out.push(byte);
        }
        pending = Some((payload >> 56) as u8 | 0x01);
        payload <<= 7;
    }
    out.push(pending.unwrap_or(0) & 0xFE);
}

fn v1_bytes(text: &str) -> Vec<u8> {
    let mut units = 0;
    for (offset, ch) in text.char_indices() {
        if units == V1_STRING_UNITS {
            return text.as_bytes()[..offset].to_vec();
        }
        units += ch.len_utf16();
        if units > V1_STRING_UNITS {
            // The cut falls inside a surrogate pair, which the service replaces.
            return [&text.as_bytes()[..offset], "\u{FFFD}".as_bytes()].concat();
        }
    }
    text.as_bytes().to_vec()
}

fn murmur3_128(data: &[u8]) -> u128 {
    const C1: u64 = 0x87c3_7b91_1142_53d5;
    const C2: u64 = 0x4cf5_ad43_2745_937f;
    let (mut h1, mut h2) = (0u64, 0u64);
    let mut chunks = data.chunks_exact(16);
    for chunk in &mut chunks {
        let (k1, k2) = (word(&chunk[..8]), word(&chunk[8..]));
        h1 ^= k1.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
        h1 = h1.rotate_left(27).wrapping_add(h2).wrapping_mul(5).wrapping_add(0x52dc_e729);
        h2 ^= k2.wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
        h2 = h2.rotate_left(31).wrapping_add(h1).wrapping_mul(5).wrapping_add(0x3849_5ab5);
    }
    let tail = chunks.remainder();
    if tail.len() > 8 {
        h2 ^= word(&tail[8..]).wrapping_mul(C2).rotate_left(33).wrapping_mul(C1);
    }
    if !tail.is_empty() {
        let low = word(&tail[..tail.len().min(8)]);
        h1 ^= low.wrapping_mul(C1).rotate_left(31).wrapping_mul(C2);
    }
    let length = data.len() as u64;
    h1 ^= length;
    h2 ^= length;
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    h1 = finish_64(h1);
    h2 = finish_64(h2);
    h1 = h1.wrapping_add(h2);
    h2 = h2.wrapping_add(h1);
    u128::from(h2) << 64 | u128::from(h1)
}

/// Up to eight little-endian bytes.
fn word(bytes: &[u8]) -> u64 {
    bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte))
}

fn finish_64(mut value: u64) -> u64 {
    value ^= value >> 33;
    value = value.wrapping_mul(0xff51_afd7_ed55_8ccd);
    value ^= value >> 33;
    value = value.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    value ^ value >> 33
}

fn murmur3_32(data: &[u8]) -> u32 {
    const C1: u32 = 0xcc9e_2d51;
    const C2: u32 = 0x1b87_3593;
    let mut hash = 0u32;
    let mut chunks = data.chunks_exact(4);
    for chunk in &mut chunks {
        hash ^= (word(chunk) as u32).wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);
        hash = hash.rotate_left(13).wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    if !chunks.remainder().is_empty() {
        let tail = word(chunks.remainder()) as u32;
        hash ^= tail.wrapping_mul(C1).rotate_left(15).wrapping_mul(C2);
    }
    hash ^= data.len() as u32;
    hash = (hash ^ hash >> 16).wrapping_mul(0x85eb_ca6b);
    hash = (hash ^ hash >> 13).wrapping_mul(0xc2b2_ae35);
    hash ^ hash >> 16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|b| format!("{b:02X}")).collect()
    }

    /// Vectors published with the official Java and Python SDKs.
    #[test]
    fn matches_published_vectors() {
        let text = |t: &str| Component::String(t.into());
        let number = |n: f64| Component::Number(n.to_bits());
        let v1 = [
            (text(""), "05C1CF33970FF80800"),
            (text("partitionKey"), "05C1E1B3D9CD2608716273756A756A706F4C667A00"),
            (Component::Null, "05C1ED45D7475601"),
            (Component::Undefined, "05C1D529E345DC00"),
            (Component::Bool(true), "05C1D7C5A903D803"),
            (number(-128.0), "05C1D73349F54C053FA0"),
            (number(2_147_483_647.0), "05C1E1F503DFB205C1DFFFFFFFFC"),
            (number(5e-324), "05C1E5C91F4D3005800101010101010102"),
        ];
        for (component, expected) in v1 {
            assert_eq!(hex(&effective(&[component], Scheme::HashV1)), expected);
        }
        let v2 = [
            (text(""), "32E9366E637A71B4E710384B2F4970A0"),
            (text("partitionKey"), "013AEFCF77FA271571CF665A58C933F1"),
            (text(&"a".repeat(1024)), "332BDF5512AE49615F32C7D98C2DB86C"),
            (text("caf\u{e9} \u{6771}\u{4eac} \u{1f680}"), "389ED563F219577470F42691A5234A68"),
            (Component::Null, "378867E4430E67857ACE5C908374FE16"),
            (Component::Undefined, "11622DAA78F835834610ABE56EFF5CB5"),
            (Component::Bool(false), "2FE1BE91E90A3439635E0E9E37361EF2"),
            (number(127.0), "0C507ACAC853ECA7977BF4CEFB562A25"),
            (number(1.797_693_134_862_315_7e308), "31424D996457102634591FF245DBCC4D"),
        ];
        for (component, expected) in v2 {
            assert_eq!(hex(&effective(&[component], Scheme::HashV2)), expected);
        }
        assert_eq!(
            hex(&effective(&[text(""), Component::Bool(true)], Scheme::MultiHash)),
            "32E9366E637A71B4E710384B2F4970A00E711127C5B5A8E4726AC6DD306A3E59"
        );
    }

    #[test]
    fn ranges_ignore_padding() {
        let key = effective(&[Component::Bool(true)], Scheme::HashV2);
        assert!(contains(&[], &[0xFF], &key));
        assert!(contains(&key, &key, &key));
        assert!(!contains(&key, &[&key[..], &[0, 0]].concat(), &[0x01]));
        let padded = [&key[..], &[0; 16]].concat();
        assert!(contains(&padded, &[0xFF], &key));
        assert!(!contains(&[], &key, &key));
        assert_eq!(from_hex("0e7G"), None);
        assert_eq!(from_hex("0e"), Some(vec![0x0e]));
    }
}
