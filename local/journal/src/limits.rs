//! Every bound of the log, with its unit in the name and the reason beside it.

/// Bytes of the entries of one frame. It is read as a whole at start, and written under one fsync,
/// which should not take much longer than a usual one.
pub const FRAME_BYTES_MAX: usize = 16 * 1_048_576;

/// Bytes of one record: a frame with nothing else.
pub const RECORD_BYTES_MAX: usize = FRAME_BYTES_MAX - 4;

/// Bytes after which a segment is left for a new one. Small enough to delete and repair piecemeal.
pub const SEGMENT_BYTES_MAX: u64 = 64 * 1_048_576;

/// Bytes of the frames of a snapshot: enough to make the write worth it, and little to lose with
/// one byte that is damaged.
pub const SNAPSHOT_FRAME_BYTES: usize = 65_536;

/// Bytes that an idle log keeps for its next frame; a larger buffer is given back after a burst.
pub const BUFFER_BYTES_KEPT_MAX: usize = 4 * 1_048_576;

/// How long a write is put off for records that follow on each other, beside what
/// [`GATHER_SHARE`] allows, in microseconds: a message should not wait for others longer than for
/// a fast disk.
pub const GATHER_US_MAX: u64 = 2_000;

/// The part of the last write and sync that the next one may be put off: with what was answered by
/// the last one on its way back, writing at once would write a little of it and make the rest wait
/// for a whole sync more.
pub const GATHER_SHARE: u32 = 2;

/// Without a record for so long nothing more is waited for, in microseconds.
pub const GATHER_QUIET_US: u64 = 150;

/// The load, in records a millisecond, from which on writes keep a pace: what one client that waits
/// for every answer does not reach.
pub const PACE_RECORDS_PER_MS: f64 = 30.0;

/// Under such a load, how long after the one before the next write begins at the earliest, in
/// microseconds. Every write and what it wakes cost the same however little is in it; many small
/// ones take the processor from those who wait for them. Small against the few milliseconds that a
/// message may take.
pub const PACE_US: u64 = 1_000;

/// Records that make a write worth it at once, unless the last one had more.
pub const PACE_RECORDS_MIN: u64 = 48;

/// Over how many writes the load is averaged.
pub const PACE_WRITES: u32 = 16;

/// Bytes that a file which is no longer needed is cut by after each sync, unless twice as many were
/// written meanwhile. A disk that is told what is free (`discard`) is busy with it, and the next
/// sync waits: for a whole segment, tens of milliseconds.
pub const RELEASE_BYTES_MIN: u64 = 262_144;

/// What times of writes are told apart by, in milliseconds: from a write that nobody notices to a
/// disk that stands still.
pub const WRITE_TIMES_MS: [u64; 9] = [1, 2, 5, 10, 25, 50, 100, 250, 1_000];

/// Zeros at the end of a file that count as never written: a sector.
pub const ZEROS_BYTES_MIN: usize = 512;
