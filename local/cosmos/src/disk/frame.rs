//! Framing: how records follow each other in a file, and what can be wrong with that.
//!
//! ```text
//! payload length u32 | CRC-32 of the payload u32 | CRC-32 of these eight bytes u32 | payload
//! ```
//!
//! All little-endian. The header has a checksum of its own, so that a damaged length is not taken
//! for a record that was cut off. A record that ends with the file is a write that a crash
//! interrupted; anything else that does not add up is damage.

/// Bytes before the payload.
pub(super) const HEADER_BYTES: usize = 12;

/// What follows at a position.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Next<'a> {
    /// A whole record.
    Frame(&'a [u8]),
    /// Nothing.
    End,
    /// The beginning of a record, up to the end of the file.
    Torn,
    /// Something that was never written like this.
    Damaged(&'static str),
}

/// Appends a record whose payload `write` writes. Returns the position of the payload in `out`.
pub(super) fn push(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) -> usize {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_BYTES]);
    let payload = out.len();
    write(out);
    let length = (out.len() - payload) as u32;
    let checksum = crc32fast::hash(&out[payload..]);
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
    out[start + 4..start + 8].copy_from_slice(&checksum.to_le_bytes());
    let header = crc32fast::hash(&out[start..start + 8]);
    out[start + 8..start + 12].copy_from_slice(&header.to_le_bytes());
    payload
}

/// What is at `at` of `file`.
pub(super) fn next(file: &[u8], at: usize) -> Next<'_> {
    let rest = &file[at.min(file.len())..];
    if rest.is_empty() {
        return Next::End;
    }
    let Some((header, payload)) = rest.split_at_checked(HEADER_BYTES) else { return Next::Torn };
    let word = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|i| header[at + i]));
    if crc32fast::hash(&header[..8]) != word(8) {
        return Next::Damaged("the head of a record does not match its checksum");
    }
    let Some(payload) = payload.get(..word(0) as usize) else { return Next::Torn };
    if crc32fast::hash(payload) != word(4) {
        return Next::Damaged("a record does not match its checksum");
    }
    Next::Frame(payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cut_is_torn_and_every_flip_is_damage() {
        let mut file = Vec::new();
        assert_eq!(push(&mut file, |out| out.extend_from_slice(b"first")), HEADER_BYTES);
        let second = push(&mut file, |out| out.extend_from_slice(b"second"));
        assert_eq!(next(&file, 0), Next::Frame(b"first"));
        assert_eq!(next(&file, second - HEADER_BYTES), Next::Frame(b"second"));
        assert_eq!(next(&file, file.len()), Next::End);
        let start = second - HEADER_BYTES;
        for end in start + 1..file.len() {
            assert_eq!(next(&file[..end], start), Next::Torn, "{end}");
        }
        for at in start..file.len() {
            for bit in 0..8 {
                let mut flipped = file.clone();
                flipped[at] ^= 1 << bit;
                assert!(matches!(next(&flipped, start), Next::Damaged(_)), "{at} {bit}");
            }
        }
    }
}
