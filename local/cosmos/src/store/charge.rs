//! What operations cost, in request units, of the order that the service publishes
//! (<https://learn.microsoft.com/azure/cosmos-db/key-value-store-cost>): reading 1 KB costs 1,
//! writing it 5.5, replacing twice that, and all grow with size.

const KB: f64 = 1024.0;

/// Reading an item of `bytes` by id.
pub(crate) fn read(bytes: usize) -> f64 {
    round(1.0 + 0.09 * (bytes as f64 / KB - 1.0).max(0.0))
}

/// Creating an item of `bytes`.
pub(crate) fn create(bytes: usize) -> f64 {
    round(5.0 + 0.45 * bytes as f64 / KB)
}

/// Replacing or patching an item, whose new size is `bytes`.
pub(crate) fn replace(bytes: usize) -> f64 {
    round(2.0 * create(bytes))
}

/// Deleting an item.
pub(crate) fn delete() -> f64 {
    5.5
}

/// A query or feed page that looked at `documents` and returned `bytes`.
pub(crate) fn query(documents: usize, bytes: usize) -> f64 {
    round(2.3 + 0.02 * documents as f64 + 0.05 * bytes as f64 / KB)
}

fn round(charge: f64) -> f64 {
    (charge * 100.0).round() / 100.0
}
