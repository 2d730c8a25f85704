//! Every bound of an order, with its unit and its reason.

/// Lines of one order. Keeps the document far below the store's 2 MB and a batch far below 100
/// operations when stock is reserved line by line.
pub const ITEMS_MAX: usize = 100;

/// Units of one line. A typing error, not a purchase, beyond this; and it keeps every product of
/// quantity and price inside 64 bits with room for a hundred lines.
pub const QUANTITY_MAX: u32 = 10_000;

/// Price of one unit in minor units (cents): ten million of the major unit.
pub const UNIT_PRICE_MINOR_MAX: u64 = 1_000_000_000;

/// Total of one order in minor units. The largest integer that every JSON reader keeps exactly
/// (2^53 − 1), because the total is shown by JavaScript.
pub const TOTAL_MINOR_MAX: u64 = (1 << 53) - 1;

/// Characters of a customer id. Longer ids exist nowhere that we have seen, and the id is part of
/// index keys.
pub const CUSTOMER_ID_CHARS_MAX: usize = 64;

/// Characters of a SKU, which is also a partition key and a document id.
pub const SKU_CHARS_MAX: usize = 64;

/// Characters of an `Idempotency-Key`. Large enough for two UUIDs and a prefix; the IETF draft
/// leaves the bound to the server.
pub const IDEMPOTENCY_KEY_CHARS_MAX: usize = 128;

/// Entries of an order's history. The document is rewritten by every patch, so it must not grow
/// with the number of retries; the oldest entries after the first give way.
pub const HISTORY_ENTRIES_MAX: usize = 64;

/// Characters of an error that is kept in the order document for people to read.
pub const ERROR_CHARS_MAX: usize = 512;

/// Field errors reported for one request. A body of 64 KiB can be wrong in thousands of places;
/// nobody reads past the first screen.
pub const FIELD_ERRORS_MAX: usize = 100;
