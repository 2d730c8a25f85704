//! How fast dead letters are sent again: so that a replay of thousands is a steady stream beside
//! the orders of the day and not a flood.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Replays per second of one process. Below what one instance of a consumer takes, and far above
/// what a person waits for.
pub(super) const REPLAYS_PER_SECOND_MAX: u32 = 250;

/// Hands out moments, one after the other.
#[derive(Debug, Default)]
pub(super) struct Pace {
    next: Mutex<Option<Instant>>,
}

impl Pace {
    /// Waits for the next moment.
    pub(super) async fn turn(&self) {
        let moment = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let moment = next.unwrap_or_else(Instant::now).max(Instant::now());
            *next = Some(moment + Duration::from_secs(1) / REPLAYS_PER_SECOND_MAX);
            moment
        };
        sleep_until(moment).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn replays_keep_their_distance_whoever_asks() {
        let pace = Pace::default();
        let begun = Instant::now();
        let turns = (0..REPLAYS_PER_SECOND_MAX * 2).map(|_| pace.turn());
        futures::future::join_all(turns).await;
        let took = begun.elapsed();
        assert!((1_900..=2_000).contains(&took.as_millis()), "{took:?}");
    }
}
