//! What a process runs on that serves one app.

use tokio::runtime::{Builder, Runtime};

/// A runtime of one thread for a process that does nothing but run a host.
///
/// It takes less processor time for a call than two threads do: 82 instead of 98 µs when one comes
/// after the other, 33 instead of 42 µs over sixteen connections (docs/performance.md). The handler
/// and what it calls are other processes and have the other processors.
///
/// # Errors
/// The system has no descriptors or threads left.
pub fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
