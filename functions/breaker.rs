//! A circuit breaker: while a dependency is away, callers wait for one of them to find it back
//! instead of each spending its own attempt on it. Waiting callers hold their place in the host's
//! concurrency limit, so consumption slows down by itself.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::{info, warn};

/// Failures in a row that open the breaker. One or two happen on a healthy day.
const FAILURES_TO_OPEN: u32 = 5;

/// The first pause before a probe, and the longest; it doubles in between.
const PAUSE_MIN: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// A circuit breaker for one dependency. Cheap to clone; clones share their state.
#[derive(Clone, Debug)]
pub struct Breaker {
    name: &'static str,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    /// Rung whenever the state changes.
    changed: Notify,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Calls pass; counts the failures in a row.
    Closed { failures: u32 },
    /// No call passes before `probe_at`, then one does.
    Open { probe_at: Instant, pause: Duration },
    /// One call is finding out. If it never reports (its task was dropped), another may after
    /// `expires`.
    Probing { expires: Instant, pause: Duration },
}

/// The breaker stayed open until the caller's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Open;

impl Breaker {
    /// A closed breaker; `name` is for the log.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        let state = Mutex::new(State::Closed { failures: 0 });
        Self { name, inner: Arc::new(Inner { state, changed: Notify::new() }) }
    }

    /// Waits until a call may be made.
    ///
    /// # Errors
    /// [`Open`] when that is not before `deadline`.
    pub async fn admit(&self, deadline: Instant) -> Result<(), Open> {
        loop {
            // Before looking, so that a change in between is not missed.
            let changed = self.inner.changed.notified();
            let until = {
                let mut state = self.lock();
                let now = Instant::now();
                match *state {
                    State::Closed { .. } => return Ok(()),
                    State::Open { probe_at: due, pause }
                    | State::Probing { expires: due, pause } => {
                        if due <= now {
                            *state = State::Probing { expires: now + PAUSE_MAX, pause };
                            return Ok(());
                        }
                        due
                    }
                }
            };
            if until >= deadline {
                // The dependency may come back earlier, through somebody else's probe.
                return match tokio::time::timeout_at(deadline, changed).await {
                    Ok(()) => continue,
                    Err(_) => Err(Open),
                };
            }
            tokio::select! {
                () = changed => {}
                () = tokio::time::sleep_until(until) => {}
            }
        }
    }

    /// Notes that the dependency answered, whatever it said.
    pub fn succeeded(&self) {
        let mut state = self.lock();
        let was_open = !matches!(*state, State::Closed { .. });
        *state = State::Closed { failures: 0 };
        drop(state);
        if was_open {
            info!(dependency = self.name, "the circuit breaker closed: it answers again");
            self.inner.changed.notify_waiters();
        }
    }

    /// Notes that the dependency did not answer.
    pub fn failed(&self) {
        let mut state = self.lock();
        let now = Instant::now();
        *state = match *state {
            State::Closed { failures } if failures + 1 < FAILURES_TO_OPEN => {
                State::Closed { failures: failures + 1 }
            }
            State::Closed { .. } => {
                warn!(dependency = self.name, "the circuit breaker opened: it does not answer");
                State::Open { probe_at: now + PAUSE_MIN, pause: PAUSE_MIN }
            }
            // A call from before it opened says nothing new.
            open @ State::Open { .. } => open,
            State::Probing { pause, .. } => {
                let pause = (pause * 2).min(PAUSE_MAX);
                State::Open { probe_at: now + pause, pause }
            }
        };
    }

    /// Whether calls pass.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(*self.lock(), State::Closed { .. })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is a plain value: a panic elsewhere cannot leave it half written.
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_ms(ms: u64) -> Instant {
        Instant::now() + Duration::from_millis(ms)
    }

    #[tokio::test(start_paused = true)]
    async fn it_opens_after_failures_in_a_row_and_closes_with_the_first_success() {
        let breaker = Breaker::new("bank");
        for _ in 0..FAILURES_TO_OPEN - 1 {
            breaker.failed();
        }
        breaker.succeeded();
        for _ in 0..FAILURES_TO_OPEN {
            assert!(breaker.is_closed());
            breaker.failed();
        }
        assert!(!breaker.is_closed());
        assert_eq!(breaker.admit(in_ms(10)).await, Err(Open));
        // One probe passes, everybody else waits for what it finds.
        assert_eq!(breaker.admit(in_ms(600)).await, Ok(()));
        assert_eq!(breaker.admit(in_ms(10)).await, Err(Open));
        let waiting = {
            let breaker = breaker.clone();
            async move { breaker.admit(in_ms(5_000)).await }
        };
        let (admitted, ()) = tokio::join!(waiting, async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            breaker.succeeded();
        });
        assert_eq!(admitted, Ok(()));
        assert!(breaker.is_closed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_failed_probe_doubles_the_pause_up_to_its_bound() {
        let breaker = Breaker::new("bank");
        (0..FAILURES_TO_OPEN).for_each(|_| breaker.failed());
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let since = Instant::now();
            assert_eq!(breaker.admit(in_ms(60_000)).await, Ok(()));
            pauses.push(since.elapsed());
            breaker.failed();
        }
        assert_eq!(pauses[0], PAUSE_MIN);
        assert_eq!(pauses[1], PAUSE_MIN * 2);
        assert_eq!(pauses[7], PAUSE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_probe_that_never_reports_does_not_block_for_ever() {
        let breaker = Breaker::new("bank");
        (0..FAILURES_TO_OPEN).for_each(|_| breaker.failed());
        assert_eq!(breaker.admit(in_ms(1_000)).await, Ok(()));
        assert_eq!(breaker.admit(in_ms(1_000)).await, Err(Open));
        assert_eq!(breaker.admit(in_ms(60_000)).await, Ok(()));
    }
}
