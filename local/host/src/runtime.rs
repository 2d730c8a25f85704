//! What a process runs on that serves one app.

use tokio::runtime::{Builder, Runtime};

/// A runtime of one thread for a process that does nothing but run a host.
///
/// A call of a host is a handful of system calls. With more threads each of them wakes a second one,
/// which finds nothing to do: that costs more than the call. The handler and what it calls are other
/// processes and have the other processors.
///
/// # Errors
/// The system has no descriptors or threads left.
pub fn runtime() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}
