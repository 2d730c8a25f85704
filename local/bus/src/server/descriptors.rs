//! As many file descriptors as there may be connections.
//!
//! Shells start a process with room for 1,024 and leave it to the process to ask for more, up to a
//! hard limit.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::limits::OTHER_DESCRIPTORS;

/// Raises the soft limit as far as `connections` need it and the hard limit allows.
pub(super) fn allow(connections: usize) {
    let wanted = (connections as u64).saturating_add(OTHER_DESCRIPTORS);
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(soft, hard)| {
        let soft = soft.max(wanted.min(hard));
        setrlimit(Resource::RLIMIT_NOFILE, soft, hard).map(|()| soft)
    });
    match raised {
        Ok(limit) if limit < wanted => {
            tracing::warn!(limit, wanted, "there are fewer file descriptors than connections");
        }
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "the limit of file descriptors was not raised"),
    }
}
