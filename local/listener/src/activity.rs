//! Whether a connection is in use.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Requests under way on a connection, and when the last one ended.
pub(crate) struct Activity {
    busy: Arc<Busy>,
}

struct Busy {
    requests: AtomicUsize,
    ended: watch::Sender<Instant>,
}

/// One request under way.
pub(crate) struct BusyGuard(Arc<Busy>);

impl Activity {
    pub(crate) fn new() -> Self {
        let (ended, _) = watch::channel(Instant::now());
        Self { busy: Arc::new(Busy { requests: AtomicUsize::new(0), ended }) }
    }

    pub(crate) fn begin(&self) -> BusyGuard {
        self.busy.requests.fetch_add(1, Ordering::Relaxed);
        BusyGuard(self.busy.clone())
    }

    /// Returns once no request has been under way for `limit`.
    pub(crate) async fn idle_for(&self, limit: Duration) {
        loop {
            let since = *self.busy.ended.borrow();
            tokio::time::sleep_until(since + limit).await;
            let busy = self.busy.requests.load(Ordering::Relaxed) > 0;
            if busy {
                tokio::time::sleep(limit).await;
            } else if *self.busy.ended.borrow() == since {
                return;
            }
        }
    }
}

impl Drop for BusyGuard {
    fn drop(&mut self) {
        self.0.requests.fetch_sub(1, Ordering::Relaxed);
        self.0.ended.send_replace(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(120);

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_only_when_nothing_is_under_way() {
        let (activity, begun) = (Activity::new(), Instant::now());
        let busy = activity.begin();
        let ends = async {
            tokio::time::sleep(LIMIT * 5).await;
            drop(busy);
        };
        tokio::join!(activity.idle_for(LIMIT), ends);
        assert!(begun.elapsed() >= LIMIT * 6, "{:?}", begun.elapsed());
        let begun = Instant::now();
        activity.begin();
        activity.idle_for(LIMIT).await;
        assert!(begun.elapsed() >= LIMIT);
    }
}
