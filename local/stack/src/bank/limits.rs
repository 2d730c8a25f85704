//! Every limit of the bank, each with its reason.

use std::time::Duration;

/// Smallest and largest amount of one charge, in minor units: a ceiling keeps every total that the
/// ledger can hold far inside 64 bits.
pub const AMOUNT_MINOR: std::ops::RangeInclusive<u64> = 1..=1_000_000_000_000;

/// Longest reference, customer and instrument, in characters. Enough for any id of a caller.
pub const TEXT_CHARS_MAX: usize = 128;

/// Longest idempotency key, in bytes of visible ASCII, as large providers have it.
pub const KEY_BYTES_MAX: usize = 255;

/// Largest body of a charge or a script, in bytes.
pub const BODY_BYTES_MAX: usize = 256 * 1024;

/// Lines of one ledger. The whole book is in memory, at a few hundred bytes a line.
pub const LEDGER_LINES_MAX: u64 = 1_000_000;

/// Longest line of a ledger, in bytes: every text at its limit, with every character escaped, is
/// shorter. A longer one was not written here.
pub const LEDGER_LINE_BYTES_MAX: usize = 8 * 1024;

/// Charges of one reference whose money is held at a time. One cancellation gives all of it back,
/// in one write, while everybody else waits.
pub const HELD_MAX: usize = 1000;

/// Requests that one write to the disk carries. Bounds the wait of the first one in the batch.
pub const BATCH_MAX: usize = 256;

/// Requests that wait for the book; further ones wait in their own connections.
pub const QUEUE_MAX: usize = 1024;

/// Requests under way, those included whose client has gone. Further ones are answered 503.
pub const REQUESTS_MAX: usize = 4096;

/// Open connections; further ones wait in the listen backlog.
pub const CONNECTIONS_MAX: usize = 2048;

/// Time for a request's head to arrive, and without any request before a connection is closed.
/// Clients keep idle connections for about a minute.
pub const CONNECTION_IDLE: Duration = Duration::from_secs(120);

/// Time for a body to arrive after its head.
pub const BODY_READ: Duration = Duration::from_secs(10);

/// Time that a stop waits for requests under way.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);

/// Rules of one script: more than a test that a person can follow needs.
pub const RULES_MAX: usize = 256;

/// Longest delay that a rule may ask for, in milliseconds. Ten minutes outlast every time-out.
pub const DELAY_MILLIS_MAX: u64 = 600_000;

/// How long a request is left without an answer if its client does not go by itself.
pub const SILENCE_MAX: Duration = Duration::from_secs(600);

/// Delay of instrument `test-late-once`, in milliseconds: longer than callers wait for a payment.
pub const LATE_ONCE_MILLIS: u64 = 15_000;

/// References that the `test-…-once` instruments remember. Beyond it they act as ordinary ones.
pub const ONCE_REFERENCES_MAX: usize = 100_000;
