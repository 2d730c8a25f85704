//! Back-off with full jitter, bounded in attempts and in total time, honouring `retry-after`.
//!
//! The schedule is decided by [`Backoff`], which owns no clock and no random source of its own, so
//! a test can walk it step by step. It refuses to know what is being retried: whether an error may
//! be tried again is the caller's decision.
//!
//! "Full jitter" (every delay is uniform between zero and the exponential ceiling) is described in
//! <https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/>.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    time::Duration,
};

/// How often, how long and how patiently to try again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Tries in total, the first one included. `1` means "never again".
    pub attempts_max: u32,
    /// Ceiling of the first delay; doubles with every further one.
    pub delay_base: Duration,
    /// Ceiling that no delay exceeds, unless the service itself asked for a longer one.
    pub delay_max: Duration,
    /// Sum of all delays. A delay that does not fit is not taken: the caller gets its error at
    /// once instead of waiting for nothing.
    pub budget: Duration,
}

impl RetryPolicy {
    /// One try, no delay.
    pub const NEVER: Self = Self {
        attempts_max: 1,
        delay_base: Duration::ZERO,
        delay_max: Duration::ZERO,
        budget: Duration::ZERO,
    };
}

/// Where delays get their randomness from.
pub trait Jitter {
    /// A duration between zero and `ceiling`, both included.
    fn up_to(&mut self, ceiling: Duration) -> Duration;
}

/// The jitter of production: SplitMix64, seeded by the operating system.
///
/// Delays need to differ between processes, not to be unpredictable, so no cryptographic
/// generator is involved.
#[derive(Clone, Debug)]
pub struct RandomJitter(u64);

impl RandomJitter {
    /// A generator with a seed of its own.
    pub fn new() -> Self {
        // Every RandomState carries fresh keys from the operating system.
        Self(RandomState::new().build_hasher().finish())
    }

    /// A generator that repeats itself: for tests that want to see the same delays again.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }
}

impl Default for RandomJitter {
    fn default() -> Self {
        Self::new()
    }
}

impl Jitter for RandomJitter {
    fn up_to(&mut self, ceiling: Duration) -> Duration {
        let nanos = u64::try_from(ceiling.as_nanos()).unwrap_or(u64::MAX);
        match nanos.checked_add(1) {
            Some(bound) => Duration::from_nanos(self.next() % bound),
            None => Duration::from_nanos(self.next()),
        }
    }
}

/// The delays of one operation, handed out one at a time.
#[derive(Clone, Debug)]
pub struct Backoff<J = RandomJitter> {
    policy: RetryPolicy,
    jitter: J,
    attempts_made: u32,
    waited: Duration,
}

impl Backoff<RandomJitter> {
    /// A schedule with production jitter.
    pub fn new(policy: RetryPolicy) -> Self {
        Self::with_jitter(policy, RandomJitter::new())
    }
}

impl<J: Jitter> Backoff<J> {
    /// A schedule with the given source of randomness.
    pub fn with_jitter(policy: RetryPolicy, jitter: J) -> Self {
        Self { policy, jitter, attempts_made: 0, waited: Duration::ZERO }
    }

    /// Call after a failed attempt: how long to wait before the next one, or `None` when attempts
    /// or budget are used up.
    ///
    /// `retry_after` is what the service asked for; the delay is never shorter than that.
    pub fn next_delay(&mut self, retry_after: Option<Duration>) -> Option<Duration> {
        self.attempts_made = self.attempts_made.saturating_add(1);
        if self.attempts_made >= self.policy.attempts_max {
            return None;
        }
        let doublings = (self.attempts_made - 1).min(31);
        let ceiling = self.policy.delay_base.saturating_mul(1 << doublings);
        let delay = self.jitter.up_to(ceiling.min(self.policy.delay_max));
        let delay = delay.max(retry_after.unwrap_or_default());
        let waited = self.waited.saturating_add(delay);
        if waited > self.policy.budget {
            return None;
        }
        self.waited = waited;
        Some(delay)
    }

    /// Attempts that have failed so far.
    pub fn attempts_made(&self) -> u32 {
        self.attempts_made
    }

    /// Starts over: for connections that have worked since the last failure.
    pub fn reset(&mut self) {
        self.attempts_made = 0;
        self.waited = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Always the longest delay that full jitter allows.
    struct Longest;

    impl Jitter for Longest {
        fn up_to(&mut self, ceiling: Duration) -> Duration {
            ceiling
        }
    }

    const POLICY: RetryPolicy = RetryPolicy {
        attempts_max: 6,
        delay_base: Duration::from_millis(10),
        delay_max: Duration::from_millis(50),
        budget: Duration::from_millis(150),
    };

    fn walk(policy: RetryPolicy, retry_after: Option<Duration>) -> Vec<u128> {
        let mut backoff = Backoff::with_jitter(policy, Longest);
        std::iter::from_fn(|| backoff.next_delay(retry_after)).map(|d| d.as_millis()).collect()
    }

    #[test]
    fn delays_double_up_to_the_ceiling_and_end_with_the_budget() {
        // 10 + 20 + 40 + 50 = 120; another 50 would exceed the budget of 150.
        assert_eq!(walk(POLICY, None), [10, 20, 40, 50]);
        // Attempts are a bound of their own.
        assert_eq!(walk(RetryPolicy { attempts_max: 3, ..POLICY }, None), [10, 20]);
        assert_eq!(walk(RetryPolicy::NEVER, None), Vec::<u128>::new());
    }

    #[test]
    fn retry_after_is_a_floor_and_never_waited_for_in_vain() {
        assert_eq!(walk(POLICY, Some(Duration::from_millis(45))), [45, 45, 45]);
        // Longer than the whole budget: give the error back at once.
        assert_eq!(walk(POLICY, Some(Duration::from_secs(1))), Vec::<u128>::new());
    }

    #[test]
    fn a_reset_starts_the_schedule_over() {
        let mut backoff = Backoff::with_jitter(POLICY, Longest);
        while backoff.next_delay(None).is_some() {}
        backoff.reset();
        assert_eq!(backoff.next_delay(None), Some(Duration::from_millis(10)));
        assert_eq!(backoff.attempts_made(), 1);
    }

    #[test]
    fn jitter_stays_in_range_repeats_under_a_seed_and_differs_without_one() {
        let ceiling = Duration::from_millis(100);
        let mut a = RandomJitter::seeded(7);
        let mut b = RandomJitter::seeded(7);
        let mut below_half = 0;
        for _ in 0..1000 {
            let delay = a.up_to(ceiling);
            assert!(delay <= ceiling);
            assert_eq!(delay, b.up_to(ceiling));
            below_half += u32::from(delay < ceiling / 2);
        }
        assert!((300..700).contains(&below_half), "{below_half} of 1000 below the middle");
        let fresh: std::collections::HashSet<Duration> =
            (0..8).map(|_| RandomJitter::new().up_to(Duration::MAX)).collect();
        assert!(fresh.len() > 1);
        assert_eq!(a.up_to(Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn huge_attempt_counts_do_not_overflow() {
        let policy = RetryPolicy {
            attempts_max: u32::MAX,
            delay_base: Duration::from_secs(1),
            delay_max: Duration::from_secs(2),
            budget: Duration::MAX,
        };
        let mut backoff = Backoff::with_jitter(policy, Longest);
        for _ in 0..100 {
            assert!(backoff.next_delay(None).is_some_and(|d| d <= Duration::from_secs(2)));
        }
    }
}
