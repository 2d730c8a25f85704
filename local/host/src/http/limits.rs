//! The limits of the HTTP side. Each one is also what the Azure host has, where it has one.

use std::time::Duration;

/// Connections served at a time. More wait in the listen backlog: a laptop has finite descriptors
/// (1024 by default on many systems), and each proxied call takes two.
pub(crate) const CONNECTIONS_MAX: usize = 400;

/// A request head has to arrive within this time. The same clock ends idle connections, so it is
/// Kestrel's keep-alive timeout rather than its shorter head timeout: a caller that reuses a
/// connection after half a minute must not meet a reset.
pub(crate) const HEADER_TIMEOUT: Duration = Duration::from_secs(130);

/// Largest request body, `FUNCTIONS_REQUEST_BODY_SIZE_LIMIT` in the Azure host: 100 MB.
pub(crate) const BODY_MAX_BYTES: u64 = 104_857_600;

/// Largest body of an admin request; it carries one trigger item.
pub(crate) const ADMIN_BODY_MAX_BYTES: usize = 1024 * 1024;

/// A proxied exchange on which nothing moves this long is given up (YARP `ActivityTimeout`).
pub(crate) const IDLE_TIMEOUT: Duration = Duration::from_secs(240);

/// Connect attempts of a proxied call (`RetryProxyHandler`).
pub(crate) const CONNECT_ATTEMPTS_MAX: u32 = 10;

/// Pause before the second attempt; it doubles up to [`CONNECT_PAUSE_MAX`].
pub(crate) const CONNECT_PAUSE_MIN: Duration = Duration::from_millis(50);

/// Longest pause between two attempts.
pub(crate) const CONNECT_PAUSE_MAX: Duration = Duration::from_millis(250);

/// An idle connection to the handler is closed after this time (.NET's pool: 1 min).
pub(crate) const POOL_IDLE: Duration = Duration::from_secs(60);

/// Idle connections kept to the handler. More than the callers there can be is never needed.
pub(crate) const POOL_IDLE_MAX: usize = CONNECTIONS_MAX;

/// A connection on which nothing is under way is closed this long after the host was told to stop:
/// enough for the end of an answer to leave.
pub(super) const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// How often a stop looks whether an exchange has ended.
pub(super) const CLOSE_CHECK: Duration = Duration::from_millis(50);
