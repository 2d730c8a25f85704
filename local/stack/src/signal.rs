//! When to stop.

use tokio::io::AsyncReadExt as _;
use tokio_util::sync::CancellationToken;

/// Cancelled by Ctrl-C, SIGTERM, or the end of standard input if asked for.
pub(crate) fn stop_signal(until_stdin_closes: bool) -> CancellationToken {
    use tokio::signal::unix::{SignalKind, signal};
    let token = CancellationToken::new();
    let cancel = token.clone();
    let asked = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => {
                tokio::select! {
                    _ = tokio::signal::ctrl_c() => {}
                    _ = terminate.recv() => {}
                }
            }
            // Without a handler the signal ends the process, which is what is wanted.
            Err(_) => std::future::pending().await,
        }
    };
    let parent_gone = async move {
        if until_stdin_closes {
            let mut sink = [0; 64];
            let mut stdin = tokio::io::stdin();
            while let Ok(1..) = stdin.read(&mut sink).await {}
        } else {
            std::future::pending::<()>().await;
        }
    };
    #[expect(clippy::disallowed_methods, reason = "lives exactly as long as the process")]
    tokio::spawn(async move {
        tokio::select! {
            () = asked => {}
            () = parent_gone => {}
        }
        cancel.cancel();
    });
    token
}
