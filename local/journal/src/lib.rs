//! A log on disk, from which a service rebuilds what it had in memory.
//!
//! The owner appends records, each an atomic change in an encoding of its own, and answers whoever
//! asked for the change once the record is durable ([`Log::wait`], or [`Log::durable`] for many at
//! once). One thread writes: what was appended while the disk was busy goes into one frame and is
//! covered by one `fdatasync`, so that the cost of a record falls as the load grows. Those whom one
//! write has answered come back together, so the next one waits for them a little; a record that
//! comes alone is written at once. At start
//! [`Log::open`] hands every record back in order.
//!
//! So that the log does not grow for ever, the owner writes a [`Snapshot`] of its state from time
//! to time, in the background, and on a clean stop; what came before it is then deleted. The state
//! may change while it is written: the records since the start of the snapshot are replayed on top
//! of it, so a record must say what is, not what is to be added ("count is 3", not "one more").
//!
//! # Files
//!
//! A directory has segments `NNNNNNNNNN.log` and at most one finished snapshot
//! `NNNNNNNNNN.snapshot`. Snapshot N stands for all segments below N. Segments follow each other
//! without a gap, and every start begins a new one. `LOCK` keeps a second process out. A `.tmp` is
//! a snapshot that was not finished, and is deleted at start.
//!
//! All numbers are little-endian. A file is a header and frames, a frame is a header and entries:
//!
//! | part | bytes | content |
//! | --- | --- | --- |
//! | file header | 8 | `BHJRNL` and the version of this format, 0 1 |
//! | | 4 | 0 for a segment, 1 for a snapshot |
//! | | 4 | the number in the file's name |
//! | | 4 | CRC-32 of the 16 bytes before |
//! | frame header | 4 | `B5 4A 46 1E` |
//! | | 4 | bytes of the entries |
//! | | 4 | CRC-32 of kind, number, offset of the frame and the entries |
//! | | 4 | CRC-32 of the 12 bytes before |
//! | entry | 4 | bytes of the record |
//! | | | the record |
//!
//! A frame without entries ends a snapshot.
//!
//! # What may be wrong
//!
//! A frame is written at once and the next one only after it is durable. So a crash leaves at most
//! one frame that is not whole, the last one of the last segment: it is cut short, or ends in a
//! stretch of zeros that the file system had reserved. Nobody was told of anything in it; it is cut
//! off and reported ([`Opened::torn_bytes`]). Everything else that does not fit a checksum is
//! damage to something that was promised: the start stops and says where, and [`repair()`] keeps
//! what can still be read.

mod committer;
mod directory;
mod error;
mod format;
pub mod limits;
mod log;
mod pace;
mod read;
mod repair;
mod snapshot;
mod times;

pub use error::{AppendError, Damage, Failed, OpenError};
pub use log::{Appended, Durable, Location, Log, Opened, Options, Position};
pub use repair::{Loss, Repaired, repair};
pub use snapshot::{Committed, Snapshot};
pub use times::WriteTimes;
