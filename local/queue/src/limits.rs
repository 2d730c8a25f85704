//! Every bound of the service, in one place, with its unit and its reason.
//!
//! The numbers that Azure publishes are taken over as they are
//! (<https://learn.microsoft.com/azure/storage/queues/scalability-targets>); the others protect
//! this process.

use std::time::Duration;

/// Longest message text, in bytes of UTF-8. Published limit.
pub const MAX_MESSAGE_BYTES: usize = 64 * 1024;

/// Largest request body that is read at all. A message of the permitted length may be six times as
/// long on the wire, when each character is written as an entity such as `&quot;`.
pub const MAX_REQUEST_BYTES: usize = 512 * 1024;

/// The largest body in XML: what the service knows goes four levels down, and its rules and policies
/// take some hundred elements.
pub const XML_BOUNDS: xml::Bounds = xml::Bounds { depth: 16, elements: 1_000 };

/// Messages handed out or shown by one request. Published limit.
pub const MAX_MESSAGES_PER_REQUEST: usize = 32;

/// Longest visibility timeout, in seconds: seven days. Published limit.
pub const MAX_VISIBILITY_SECONDS: u64 = 7 * 24 * 60 * 60;

/// Visibility timeout of a message that is taken without saying for how long, in seconds.
/// Published default.
pub const DEFAULT_VISIBILITY_SECONDS: u64 = 30;

/// Time to live of a message that is put without saying how long it lives, in seconds: seven days.
/// Published default.
pub const DEFAULT_TTL_SECONDS: u64 = 7 * 24 * 60 * 60;

/// Longest time to live that is not "for ever", in seconds. The service takes a signed 32-bit
/// number.
pub const MAX_TTL_SECONDS: u64 = i32::MAX as u64;

/// Queues in one page of a listing. Published limit and default.
pub const MAX_QUEUES_PER_PAGE: usize = 5000;

/// Shortest and longest name of a queue, in characters. Published limits.
pub const QUEUE_NAME_LENGTH: std::ops::RangeInclusive<usize> = 3..=63;

/// Names and values of a queue's metadata together, in bytes. Published limit.
pub const MAX_METADATA_BYTES: usize = 8 * 1024;

/// Stored access policies of one queue. Published limit.
pub const MAX_ACCESS_POLICIES: usize = 5;

/// Longest id of a stored access policy, in characters. Published limit.
pub const MAX_POLICY_ID_CHARACTERS: usize = 64;

/// Longest client request id that is echoed, in characters. Published limit.
pub const MAX_CLIENT_REQUEST_ID_CHARACTERS: usize = 1024;

/// Clock difference that a signature may have, in seconds. Published limit.
pub const MAX_CLOCK_SKEW_SECONDS: u64 = 15 * 60;

/// Expired messages removed under one lock, so that nobody waits long for the sweeper.
pub const SWEEP_STEP_MESSAGES: usize = 1000;

/// Interval at which expired messages are removed for good. They are gone for every client from
/// the instant they expire; this only returns their memory.
pub const EXPIRY_SWEEP_INTERVAL: Duration = Duration::from_secs(5);

/// Open connections; further ones wait in the listen backlog.
pub const MAX_CONNECTIONS: usize = 4096;

/// Time to receive a request head, and time without any request, after which a connection is
/// closed. SDK pools keep idle connections for about a minute.
pub const CONNECTION_IDLE: Duration = Duration::from_secs(120);

/// Time to receive a request body after its head.
pub const BODY_READ: Duration = Duration::from_secs(15);

/// Time that shutdown waits for requests under way.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Bytes of commits that wait for the disk; further changes are refused as the disk cannot follow.
/// A second's worth of a slow disk.
pub const JOURNAL_WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes of commits after which a snapshot is written, so that a start reads little more than
/// what there is.
pub const SNAPSHOT_AFTER_BYTES: u64 = 64 * 1024 * 1024;
