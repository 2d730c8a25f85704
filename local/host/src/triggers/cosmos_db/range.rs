//! One partition key range, while its lease is held: poll, invoke, checkpoint, and again.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::feed::{Feed, Page, Position, is_stale};
use super::lease::{Change, Lease, LeaseError, Leases};
use super::link::Link;
use super::page;
use crate::bindings::Function;
use crate::config::cosmos::CosmosDbTrigger;
use crate::invocation::{Call, InvocationError, Invoker};
use crate::log::Level;

/// Pause after the store did not answer.
pub(super) const AWAY_MIN: Duration = Duration::from_millis(250);

/// Longest such pause: a store that comes back is found within this time.
pub(super) const AWAY_MAX: Duration = Duration::from_secs(5);

/// Giving a lease back is worth this much time at stop. Otherwise it expires.
const RELEASE_TIMEOUT: Duration = Duration::from_secs(2);

/// Everything a range needs, and what all ranges of a function share.
pub(super) struct Range {
    pub(super) invoker: Arc<Invoker>,
    pub(super) function: Arc<Function>,
    pub(super) trigger: Arc<CosmosDbTrigger>,
    pub(super) feed: Feed,
    pub(super) leases: Leases,
    pub(super) link: Arc<Link>,
    pub(super) lease: Mutex<Lease>,
    /// When the lease was last written, at the earliest.
    pub(super) written: std::sync::Mutex<Instant>,
    pub(super) range: String,
}

/// Why a range is not processed here any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Left {
    /// The host is stopping; the lease is given back if that was possible.
    Stopped,
    /// Somebody else may have the lease by now.
    Lost,
    /// The container has to be looked at anew.
    Stale(String),
}

/// What became of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Delivered {
    /// The range may go on.
    Done,
    /// The page has to be delivered again.
    Unfinished,
}

impl Range {
    /// Processes the range until the host stops or the lease is lost. Never two pages at a time.
    pub(super) async fn run(self, stop: CancellationToken) -> Left {
        let left = tokio::select! {
            left = self.process(&stop) => left,
            () = self.keep() => Left::Lost,
        };
        if left == Left::Stopped {
            let mut lease = self.lease.lock().await;
            let released = self.leases.write(&mut lease, &Change::Released);
            if let Ok(Err(LeaseError::Store(error))) = timeout(RELEASE_TIMEOUT, released).await {
                self.link.line(
                    Level::Warning,
                    format!(
                        "The lease of {} is not given back: {error}. The next host waits {:?} for \
                         it.",
                        self.name(),
                        self.trigger.expiration
                    ),
                );
            }
        }
        left
    }

    async fn process(&self, stop: &CancellationToken) -> Left {
        let known = self.lease.lock().await.continuation().map(str::to_owned);
        let mut position = match known {
            Some(continuation) => Position::After(continuation),
            None => Position::from(self.trigger.start),
        };
        let mut pause = AWAY_MIN;
        loop {
            let polled = tokio::select! {
                biased;
                () = stop.cancelled() => return Left::Stopped,
                polled = self.feed.poll(&self.range, &position) => polled,
            };
            let wait = match polled {
                Ok(page) => {
                    self.link.up();
                    pause = AWAY_MIN;
                    position = Position::After(page.next.clone());
                    if page.count > 0 {
                        if self.deliver(&page, stop).await == Delivered::Unfinished {
                            stop.cancelled().await;
                            return Left::Stopped;
                        }
                        match self.checkpoint(page.next, stop).await {
                            Ok(()) => continue,
                            Err(left) => return left,
                        }
                    }
                    self.trigger.poll_delay
                }
                Err(error) if is_stale(&error) => return Left::Stale(error.to_string()),
                Err(error) => {
                    self.link.down(&error.to_string());
                    let wait = pause;
                    pause = (pause * 2).min(AWAY_MAX);
                    wait
                }
            };
            tokio::select! {
                biased;
                () = stop.cancelled() => return Left::Stopped,
                () = sleep(wait) => {}
            }
        }
    }

    async fn deliver(&self, page: &Page, stop: &CancellationToken) -> Delivered {
        let now = self.invoker.log.now();
        let envelope = page::envelope(&self.function, &page.documents, now);
        let reason = page::reason(&self.trigger.monitored.container, now);
        let call =
            Call { function: &self.function, reason: &reason, details: None, traceparent: None };
        let outcome = self.invoker.invoke(call, envelope).await;
        // As in Azure, a stop keeps even a success from being recorded: the host may be going down
        // because of it.
        if stop.is_cancelled() {
            self.link.line(
                Level::Information,
                format!(
                    "The host is stopping: a page of {} changes of {} is not recorded as \
                     processed and is delivered again.",
                    page.count,
                    self.name()
                ),
            );
            return Delivered::Unfinished;
        }
        match outcome {
            Ok(_) => Delivered::Done,
            // The host is about to stop.
            Err(InvocationError::NotReady) => Delivered::Unfinished,
            Err(_) => {
                self.skip(page.count);
                Delivered::Done
            }
        }
    }

    /// Says that failed pages are not delivered again.
    fn skip(&self, count: usize) {
        let name = &self.function.name;
        let (why, fix) = match self.function.retry {
            None => (
                "has no retry policy".to_owned(),
                format!(
                    "add \"retry\": {{ \"strategy\": \"fixedDelay\", \"maxRetryCount\": -1, \
                     \"delayInterval\": \"00:00:05\" }} to {name}/function.json, which holds the \
                     range until the page succeeds"
                ),
            ),
            Some(policy) => (
                format!("has used up its {} retries", policy.most.unwrap_or_default()),
                format!(
                    "set retry.maxRetryCount to -1 in {name}/function.json, which holds the range \
                     until the page succeeds"
                ),
            ),
        };
        let cause = format!("A page of changes was skipped by function '{name}', which {why}");
        self.invoker.log.sharp_edge(Level::Warning, &cause, || {
            format!(
                "Function '{name}' failed and {why}: a page of {count} changes of {} is skipped, \
                 as in Azure, where the lease moves on. They are lost for this function, and so \
                 is every page that fails later. Fix: {fix}; or let the function note what it \
                 cannot process, and succeed.",
                self.name()
            )
        });
    }

    /// Records that everything up to `continuation` is processed, for as long as it takes.
    async fn checkpoint(&self, continuation: String, stop: &CancellationToken) -> Result<(), Left> {
        let change = Change::Checkpoint(continuation);
        let mut pause = AWAY_MIN;
        loop {
            match self.write(&change).await {
                Ok(()) => return Ok(()),
                Err(LeaseError::Lost) => return Err(Left::Lost),
                Err(LeaseError::Store(error)) => self.link.down(&error.to_string()),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Err(Left::Stopped),
                () = sleep(pause) => pause = (pause * 2).min(AWAY_MAX),
            }
        }
    }

    /// Renews the lease until it is lost. A lease that could not be renewed in time is lost too:
    /// others may take it, and two hosts must not process one range.
    async fn keep(&self) {
        let (renew, expiration) = (self.trigger.renew_interval, self.trigger.expiration);
        // Somewhat early: timers are late on a busy machine, and clocks differ.
        let safe = expiration - expiration.saturating_sub(renew) / 4;
        let mut pause = AWAY_MIN;
        loop {
            let written = self.written();
            let (due, end) = (written + renew, written + safe);
            sleep_until(due).await;
            if self.written() > written {
                // A checkpoint has renewed it.
                continue;
            }
            tokio::select! {
                biased;
                outcome = self.write(&Change::Renewed) => match outcome {
                    Ok(()) => pause = AWAY_MIN,
                    Err(LeaseError::Lost) => return,
                    Err(LeaseError::Store(error)) => {
                        self.link.down(&error.to_string());
                        tokio::select! {
                            biased;
                            () = sleep_until(end) => return,
                            () = sleep(pause) => pause = (pause * 2).min(AWAY_MAX),
                        }
                    }
                },
                () = sleep_until(end) => return,
            }
        }
    }

    async fn write(&self, change: &Change) -> Result<(), LeaseError> {
        let mut lease = self.lease.lock().await;
        let before = Instant::now();
        self.leases.write(&mut lease, change).await?;
        *self.written.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = before;
        self.link.up();
        Ok(())
    }

    fn written(&self) -> Instant {
        *self.written.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn name(&self) -> String {
        format!("range {} of {}", self.range, self.trigger.monitored)
    }
}
