//! An optional budget of request units, so that clients meet 429 on purpose.

/// A bucket that refills with time and may be overdrawn by one request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Throttle {
    units_per_second: f64,
    available: f64,
    at_ms: u64,
}

impl Throttle {
    pub(super) fn new(units_per_second: f64, now_ms: u64) -> Self {
        Self { units_per_second, available: units_per_second, at_ms: now_ms }
    }

    /// Lets a request in, or says after how many milliseconds to come again.
    pub(super) fn admit(&mut self, now_ms: u64) -> Result<(), u64> {
        let elapsed_ms = now_ms.saturating_sub(self.at_ms) as f64;
        self.at_ms = now_ms;
        let refilled = self.available + elapsed_ms * self.units_per_second / 1000.0;
        self.available = refilled.min(self.units_per_second);
        if self.available > 0.0 {
            return Ok(());
        }
        Err((-self.available * 1000.0 / self.units_per_second).ceil().max(1.0) as u64)
    }

    /// Goes on with another rate.
    pub(super) fn set_rate(&mut self, units_per_second: f64) {
        self.units_per_second = units_per_second.max(1.0);
    }

    /// Takes what a request turned out to cost.
    pub(super) fn spend(&mut self, units: f64) {
        self.available -= units;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overdraft_is_paid_back() {
        let mut throttle = Throttle::new(10.0, 0);
        assert_eq!(throttle.admit(0), Ok(()));
        throttle.spend(15.0);
        assert_eq!(throttle.admit(0), Err(500));
        assert_eq!(throttle.admit(500), Err(1), "an empty bucket is not yet refilled");
        assert_eq!(throttle.admit(600), Ok(()));
    }
}
