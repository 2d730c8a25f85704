//! How often to write under load: not more often than the machine gains by it.

use std::time::{Duration, Instant};

use crate::limits::{PACE_RECORDS_MIN, PACE_RECORDS_PER_MS, PACE_US, PACE_WRITES};
use crate::log::Position;

/// What the last writes had in them, and when the last one began.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    begun: Option<Instant>,
    last: Position,
    /// Records and time of the last writes, the older ones counting less.
    records: f64,
    time: Duration,
}

impl Pace {
    /// A write of so many records begins.
    pub(crate) fn begin(&mut self, now: Instant, records: Position) {
        let since = self.begun.map_or(Duration::ZERO, |begun| now.saturating_duration_since(begun));
        let kept = 1.0 - f64::from(PACE_WRITES).recip();
        self.time = self.time.mul_f64(kept) + since;
        self.records = self.records * kept + f64::from(u32::try_from(records).unwrap_or(u32::MAX));
        (self.begun, self.last) = (Some(now), records);
    }

    /// For how long the next write may wait for more, and how many records end that wait: those whom
    /// the last write has answered may all be back. `None` when the load is no reason to wait, or
    /// the last one took as long.
    pub(crate) fn rest(&self, now: Instant) -> Option<(Duration, Position)> {
        let since = now.saturating_duration_since(self.begun?);
        // A pause counts as well, before there is a write after it.
        let most = (self.time + since).as_secs_f64() * 1_000.0 * PACE_RECORDS_PER_MS;
        let rest = Duration::from_micros(PACE_US).saturating_sub(since);
        let records = self.last.max(PACE_RECORDS_MIN);
        (self.records >= most && !rest.is_zero()).then_some((rest, records))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A pace after writes of so many records each, `every` apart; the moment of the last one.
    fn after(writes: u32, records: Position, every: Duration) -> (Pace, Instant) {
        let (mut pace, mut now) = (Pace::default(), Instant::now());
        for _ in 0..writes {
            now += every;
            pace.begin(now, records);
        }
        (pace, now)
    }

    #[test]
    fn only_a_load_waits() {
        assert_eq!(Pace::default().rest(Instant::now()), None);
        // One client that waits for every answer: each record a write.
        let (pace, now) = after(100, 1, MS / 10);
        assert_eq!(pace.rest(now + MS / 10), None);
        let (pace, now) = after(100, 10, MS / 5);
        assert_eq!(pace.rest(now + MS / 5), Some((MS * 4 / 5, PACE_RECORDS_MIN)));
        assert_eq!(pace.rest(now + MS), None);
        assert_eq!(pace.rest(now + 10 * MS), None);
    }

    #[test]
    fn what_the_last_write_answered_is_waited_for() {
        let (pace, now) = after(9, 600, MS);
        assert_eq!(pace.rest(now + MS / 2), Some((MS / 2, 600)));
    }
}
