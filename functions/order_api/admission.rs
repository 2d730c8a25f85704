//! Who gets in: a rate limit per customer, so that one of them cannot take the others' share, and
//! a bound on commits in flight, so that a slow store makes some clients wait elsewhere instead of
//! all of them here.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use orders::CustomerId;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout};

/// Seconds of its rate that a customer may send at once.
const BURST_SECONDS: u32 = 2;

/// Customers that are remembered, some 100 bytes each. A customer is forgotten once it could send
/// a whole burst again, so this many must be active within two seconds before any goes uncounted.
const CUSTOMERS_MAX: usize = 50_000;

/// Commits in flight: twice what the store's client sends at once, so that its queue is never
/// empty and never long.
const COMMITS_IN_FLIGHT_MAX: usize = 256;

/// How long a request waits for its turn to commit. A burst is served within this; a store that
/// has become slow is not.
const TURN_WAIT_MAX: Duration = Duration::from_millis(500);

/// The door of the order API.
#[derive(Debug)]
pub(super) struct Admission {
    limiter: Option<Limiter>,
    commits: Semaphore,
}

impl Admission {
    pub(super) fn new(customer_orders_per_second: Option<NonZeroU32>) -> Self {
        let limiter = customer_orders_per_second.map(Limiter::new);
        Self { limiter, commits: Semaphore::new(COMMITS_IN_FLIGHT_MAX) }
    }

    /// Counts an order of a customer, or says how long it has to wait.
    pub(super) fn count(&self, customer: &CustomerId) -> Result<(), Duration> {
        let Some(limiter) = &self.limiter else { return Ok(()) };
        limiter.count(customer, Instant::now())
    }

    /// A turn to commit, or `None` when the store is too slow for more.
    pub(super) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        timeout(TURN_WAIT_MAX, self.commits.acquire()).await.ok()?.ok()
    }
}

/// One number per customer: the moment up to which its orders use up its rate (the generic cell
/// rate algorithm).
#[derive(Debug)]
struct Limiter {
    per_order: Duration,
    burst: Duration,
    used_until: Mutex<HashMap<CustomerId, Instant>>,
}

impl Limiter {
    fn new(rate: NonZeroU32) -> Self {
        Self {
            per_order: Duration::from_secs(1) / rate.get(),
            burst: Duration::from_secs(1) * BURST_SECONDS,
            used_until: Mutex::default(),
        }
    }

    fn count(&self, customer: &CustomerId, now: Instant) -> Result<(), Duration> {
        let mut used_until = self.used_until.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(until) = used_until.get_mut(customer) {
            let next = (*until).max(now) + self.per_order;
            if let Some(wait) = next.checked_duration_since(now + self.burst)
                && !wait.is_zero()
            {
                return Err(wait);
            }
            *until = next;
            return Ok(());
        }
        if used_until.len() >= CUSTOMERS_MAX {
            used_until.retain(|_, until| *until > now);
        }
        if used_until.len() < CUSTOMERS_MAX {
            used_until.insert(customer.clone(), now + self.per_order);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn each_customer_has_its_own_rate_and_burst() {
        let limiter = Limiter::new(NonZeroU32::new(10).unwrap());
        let [alice, bob] = ["alice", "bob"].map(|name| CustomerId::parse(name).unwrap());
        let admitted =
            |customer| (0..100).filter(|_| limiter.count(customer, Instant::now()).is_ok()).count();
        assert_eq!(admitted(&alice), 20);
        let wait = limiter.count(&alice, Instant::now()).unwrap_err();
        assert!(wait <= Duration::from_millis(100), "{wait:?}");
        assert_eq!(admitted(&bob), 20, "nobody pays for another");
        tokio::time::advance(wait).await;
        assert_eq!(admitted(&alice), 1);
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(admitted(&alice), 20, "a pause earns one burst, not more");
    }

    #[tokio::test(start_paused = true)]
    async fn commits_wait_a_moment_for_their_turn_and_then_give_up() {
        let admission = Admission::new(None);
        let mut turns = Vec::new();
        for _ in 0..COMMITS_IN_FLIGHT_MAX {
            turns.push(admission.turn().await.unwrap());
        }
        assert!(admission.turn().await.is_none());
        turns.pop();
        assert!(admission.turn().await.is_some());
    }
}
