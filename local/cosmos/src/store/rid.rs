//! Resource ids: the hierarchical binary names that SDKs parse and cache.
//!
//! A database has 4 bytes, a container 8 (its database, then its own number with the top bit set),
//! everything inside a container 16; printed as Base64 with `-` for `/`. The layout is that of
//! `ResourceId` in the official SDKs.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The number of a database; unique within an account.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DatabaseRid(pub u32);

/// The number of a container and of its database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContainerRid(pub DatabaseRid, pub u32);

const CONTAINER_BIT: u32 = 0x8000_0000;
const RANGE_KIND: u64 = 0x5 << 60;

impl DatabaseRid {
    /// As it is written in `_rid` and in paths.
    pub fn text(self) -> String {
        encode(&self.0.to_be_bytes())
    }
}

impl ContainerRid {
    /// As it is written in `_rid` and in paths.
    pub fn text(self) -> String {
        encode(&self.prefix())
    }

    /// The id of the item with this number.
    pub fn item(self, number: u64) -> String {
        encode(&[&self.prefix()[..], &number.to_le_bytes()].concat())
    }

    /// The id of the partition key range with this number.
    pub fn range(self, number: u64) -> String {
        self.item(number | RANGE_KIND)
    }

    fn prefix(self) -> [u8; 8] {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&self.0.0.to_be_bytes());
        bytes[4..].copy_from_slice(&(self.1 | CONTAINER_BIT).to_be_bytes());
        bytes
    }
}

/// The number of the item in a printed item id, `None` when it is not one.
pub fn item_number(text: &str) -> Option<u64> {
    let bytes = STANDARD.decode(text.replace('-', "/")).ok()?;
    (bytes.len() == 16).then_some(())?;
    bytes[8..].try_into().ok().map(u64::from_le_bytes)
}

fn encode(bytes: &[u8]) -> String {
    STANDARD.encode(bytes).replace('/', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layout_is_hierarchical() {
        let container = ContainerRid(DatabaseRid(1), 2);
        assert_eq!(container.0.text(), "AAAAAQ==");
        assert_eq!(container.text(), "AAAAAYAAAAI=");
        assert_eq!(item_number(&container.item(77)), Some(77));
        assert_eq!(item_number(&container.text()), None);
        assert_ne!(container.item(1), container.range(1));
    }
}
