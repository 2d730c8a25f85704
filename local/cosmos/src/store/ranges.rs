//! Partition key ranges: the hash space of a container, cut into equal parts.
//!
//! The service cuts as a container grows. Here the number of ranges is given, so that clients meet
//! several of them without a million items.

use std::fmt::Write as _;

use super::epk;

/// Bits of the hash space: the service keeps the top two of 128 free.
const SPACE_BITS: u32 = 126;

/// How many ranges a container has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ranges(u16);

impl Ranges {
    /// One range that holds everything.
    pub const ONE: Self = Self(1);

    /// `count` ranges, at least one.
    pub fn new(count: u16) -> Self {
        Self(count.max(1))
    }

    /// How many there are.
    pub fn count(self) -> u16 {
        self.0
    }

    /// Whether there is only one.
    pub fn is_one(self) -> bool {
        self.0 == 1
    }

    /// The boundaries of range `index`, `[min, max)`; the last one ends above every key.
    pub(crate) fn bounds(self, index: u16) -> (Vec<u8>, Vec<u8>) {
        (self.boundary(index), self.boundary(index + 1))
    }

    /// The range that holds an effective partition key.
    pub(crate) fn of(self, key: &[u8]) -> u16 {
        let holds = |index: &u16| {
            let (min, max) = self.bounds(*index);
            epk::contains(&min, &max, key)
        };
        (0..self.0).find(holds).unwrap_or(0)
    }

    fn boundary(self, index: u16) -> Vec<u8> {
        match index {
            0 => Vec::new(),
            index if index == self.0 => vec![0xFF],
            index => {
                let part = (1u128 << SPACE_BITS) / u128::from(self.0);
                (part * u128::from(index)).to_be_bytes().to_vec()
            }
        }
    }
}

/// A boundary as it is written in ranges and headers.
pub(crate) fn hex(boundary: &[u8]) -> String {
    boundary.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string does not fail.
        let _ = write!(text, "{byte:02X}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_in_exactly_one_range() {
        let ranges = Ranges::new(5);
        let mut counts = [0; 5];
        for number in 0u64..2000 {
            let key = [super::super::Component::String(number.to_string().into())];
            let key = epk::effective(&key, epk::Scheme::HashV2);
            let holding: Vec<_> = (0..5)
                .filter(|index| {
                    let (min, max) = ranges.bounds(*index);
                    epk::contains(&min, &max, &key)
                })
                .collect();
            assert_eq!(holding, [ranges.of(&key)]);
            counts[usize::from(holding[0])] += 1;
        }
        assert!(counts.iter().all(|count| *count > 200), "{counts:?}");
        assert_eq!(Ranges::ONE.bounds(0), (vec![], vec![0xFF]));
        assert_eq!(hex(&ranges.bounds(4).0[..2]), "3333");
    }
}
