//! Every bound of the service, in one place, with its unit and its reason.
//!
//! The numbers that Azure publishes are taken over as they are
//! (<https://learn.microsoft.com/azure/cosmos-db/concepts-limits>); the others protect this process.

use std::time::Duration;

/// Largest item, as UTF-8 JSON. Published limit.
pub const MAX_ITEM_BYTES: usize = 2 * 1024 * 1024;

/// Largest transactional batch body. Published limit.
pub const MAX_BATCH_BYTES: usize = 2 * 1024 * 1024;

/// Largest request body that is read at all. Above the published 2 MB so that an item slightly too
/// large is answered with a proper 413 body instead of a cut connection.
pub const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;

/// Operations in one transactional batch or one bulk request. Published limit.
pub const MAX_BATCH_OPERATIONS: usize = 100;

/// Operations in one PATCH. Published limit.
pub const MAX_PATCH_OPERATIONS: usize = 10;

/// Longest item id, in bytes. Published limit.
pub const MAX_ID_BYTES: usize = 1023;

/// Longest database or container id, in bytes. Published limit.
pub const MAX_RESOURCE_ID_BYTES: usize = 255;

/// Longest partition key component, in bytes. Published limit for large partition keys.
pub const MAX_PARTITION_KEY_BYTES: usize = 2048;

/// Unique keys of one container. Published limit.
pub const MAX_UNIQUE_KEYS: usize = 10;

/// Paths over all unique keys of one container. Published limit.
pub const MAX_UNIQUE_KEY_PATHS: usize = 16;

/// Levels of a hierarchical partition key. Published limit.
pub const MAX_PARTITION_KEY_PATHS: usize = 3;

/// Longest SQL text, in bytes. Published limit.
pub const MAX_QUERY_BYTES: usize = 512 * 1024;

/// Deepest SQL expression. Evaluation recurses; the service refuses far smaller queries than those
/// that would endanger a 2 MiB stack.
pub const MAX_EXPRESSION_DEPTH: usize = 96;

/// Deepest binary JSON body: that of the text parser, so that both refuse the same items.
pub const MAX_BINARY_DEPTH: usize = 127;

/// Results in a page when the client does not say. A page is also cut at [`MAX_PAGE_BYTES`].
pub const DEFAULT_PAGE_ITEMS: usize = 1000;

/// Results in a page whatever the client says.
pub const MAX_PAGE_ITEMS: usize = 10_000;

/// Size at which a page of results is cut. Published limit of a response.
pub const MAX_PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Rows that JOINs may make of one document, so that a cross product cannot exhaust memory. A query
/// that makes more is refused with 400.
pub const MAX_ROWS_PER_DOCUMENT: usize = 100_000;

/// Bytes of rows and groups that a page may have to hold before its first result is known: for
/// DISTINCT, GROUP BY, ORDER BY without an index, and OFFSET. A query that needs more is refused
/// with 400. Room for about a million small groups. `Options::max_held_bytes` lowers it.
pub const MAX_HELD_BYTES: usize = 256 * 1024 * 1024;

/// Bytes of the arrays and objects that a query may put together of one row, copies of the item
/// included. Much more than fits into a page, for what is only counted or searched. A query that
/// needs more is refused with 400.
pub const MAX_BUILT_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of the string that one SQL string function may produce. A query that makes a longer one is
/// refused with 400.
pub const MAX_STRING_RESULT_BYTES: usize = 2 * 1024 * 1024;

/// Ordered indexes that queries may call into being per container. Each costs about a hundred
/// bytes per document; beyond this the oldest one goes.
pub const MAX_INDEXES_PER_CONTAINER: usize = 12;

/// Below this number of documents a scan is faster than building an index.
pub const MIN_DOCUMENTS_FOR_INDEX: usize = 256;

/// A partition of at most this many documents is scanned rather than searched by index.
pub const MAX_PARTITION_SCAN_DOCUMENTS: usize = 512;

/// Documents looked at before a query leaves the network thread for a blocking one.
pub const MAX_INLINE_SCAN_DOCUMENTS: usize = 1024;

/// Seconds for which the change feed remembers the first change. A start time further back starts
/// at the beginning, which returns more than asked for, never less.
pub const MAX_FEED_SECONDS: usize = 100_000;

/// Minutes for which the change feed keeps all versions and deletes of a container that declares no
/// `changeFeedPolicy.retentionDuration`.
pub const DEFAULT_RETENTION_MINUTES: u64 = 10;

/// Minutes for which it can be told to: a week, which is what the service has with continuous
/// backups of seven days.
pub const MAX_RETENTION_MINUTES: u64 = 7 * 24 * 60;

/// Versions and deletes of a container that the change feed keeps, however long it should. Each
/// costs about four hundred bytes. Whoever is further behind is refused with 400.
pub const MAX_HISTORY_VERSIONS: usize = 50_000;

/// Bytes of the items in those versions.
pub const MAX_HISTORY_BYTES: usize = 64 * 1024 * 1024;

/// Open connections; further ones wait in the listen backlog.
pub const MAX_CONNECTIONS: usize = 4096;

/// Concurrent HTTP/2 streams on one connection.
pub const MAX_STREAMS_PER_CONNECTION: u32 = 256;

/// Time without any request after which a connection is closed. Also bounds a client that sends
/// its request head byte by byte. SDK pools keep idle connections for about a minute.
pub const CONNECTION_IDLE: Duration = Duration::from_secs(120);

/// Time to receive a request body after its head.
pub const BODY_READ: Duration = Duration::from_secs(15);

/// Time that shutdown waits for requests under way.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Interval at which expired items are removed for good. They are invisible from the instant they
/// expire; this only returns their memory.
pub const EXPIRY_SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Clock difference that a signature may have. Published limit.
pub const MAX_CLOCK_SKEW_SECONDS: i64 = 15 * 60;

/// Size at which the log begins another file. The oldest file is given up as a whole, and is read
/// into memory for that.
pub const MAX_SEGMENT_BYTES: u64 = 32 * 1024 * 1024;

/// Bytes that may wait for the disk before writes are refused with 503. Every client waits for its
/// write, so only a disk that stands still gets this far behind.
pub const MAX_UNWRITTEN_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of item texts that stay in memory after they were written. Older ones are read back from
/// the log, which costs a system call each.
pub const MAX_RECENT_TEXT_BYTES: usize = 64 * 1024 * 1024;

/// Bytes of items that are copied out of the oldest file in one step, during which writes wait.
pub const MAX_KEPT_BYTES: usize = 1024 * 1024;

/// Bytes that may be out of date in the log, on top of as many as are current, before the oldest
/// file is given up.
pub const MIN_OUTDATED_BYTES: u64 = 64 * 1024 * 1024;

/// Rules of fault injection: a script that needs more is several scripts.
pub const MAX_FAULT_RULES: usize = 64;

/// Request units per second of a container without an offer.
pub const DEFAULT_THROUGHPUT: u64 = 400;

/// Partition key ranges that a container can be cut into. Enough to exercise clients, which ask
/// every one of them.
pub const MAX_PARTITION_KEY_RANGES: u16 = 100;
