//! The whole life of a handler process in one call, for apps that need no more.

use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::app::App;
use crate::config::{Config, ConfigError};
use crate::logging;
use crate::server::{BindError, ServeError, Server};

/// Exit code for a process that was asked to stop: to the host it means "start me again", without
/// counting as an error. Code 0 would mean that all is well: a host that goes on living would not
/// start the handler again, and every later invocation would fail. A host that is itself going
/// away does not look.
pub const EXIT_RESTART: u8 = 200;

/// Why a handler could not run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The environment is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The port could not be bound.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The log filter cannot be read.
    #[error(transparent)]
    Logging(logging::InitError),
    /// Serving ended by itself.
    #[error(transparent)]
    Serve(#[from] ServeError),
}

/// Serves an app on the port that the host chose, until the process gets SIGTERM or SIGINT.
///
/// Logs go to stdout unless a subscriber is set. An app that has to prepare something slow should
/// call [`Server::bind`] first and serve later, because the host starts to wait at once.
///
/// # Errors
/// The environment is wrong, the port is taken, or the listener broke. A process should then exit
/// with any code but 0 and [`EXIT_RESTART`], which the host counts as an error and restarts from.
pub async fn run(app: App) -> Result<(), Error> {
    let config = Config::from_env()?;
    let server = Server::bind(&config).await?;
    match logging::init(config.log_filter.as_deref(), config.log_format) {
        Ok(()) | Err(logging::InitError::Twice(_)) => {}
        Err(error @ logging::InitError::Filter(_)) => return Err(Error::Logging(error)),
    }
    Ok(server.serve(app, shutdown_signal()).await?)
}

/// A token that is cancelled when the process gets SIGTERM or SIGINT.
///
/// # Panics
/// Outside a tokio runtime.
#[must_use]
pub fn shutdown_signal() -> CancellationToken {
    let token = CancellationToken::new();
    let asked = token.clone();
    #[expect(clippy::disallowed_methods, reason = "waits for a signal until the process ends")]
    tokio::spawn(async move {
        let signal = signal().await;
        info!(signal, "asked to stop");
        asked.cancel();
    });
    token
}

#[cfg(unix)]
async fn signal() -> &'static str {
    use tokio::signal::unix::{SignalKind, signal};
    // Without the one signal there is still the other, and without both the host's SIGKILL.
    let wait = |kind| async move {
        match signal(kind) {
            Ok(mut signal) => signal.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = wait(SignalKind::terminate()) => "SIGTERM",
        _ = wait(SignalKind::interrupt()) => "SIGINT",
    }
}

#[cfg(not(unix))]
async fn signal() -> &'static str {
    match tokio::signal::ctrl_c().await {
        Ok(()) => "Ctrl-C",
        Err(_) => std::future::pending().await,
    }
}
