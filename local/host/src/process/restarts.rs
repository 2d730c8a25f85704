//! How many errors of the handler are too many. Pure; time is an argument.

use std::time::Duration;

use tokio::time::Instant;

/// The error that stops the host: two restarts, no third.
const ERRORS_MAX: usize = 3;

/// An error this much later than the previous one starts the count anew.
const WINDOW: Duration = Duration::from_mins(30);

/// What an exit of the handler means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// Code 0: taken as intended, and nothing is started in its place.
    Final,
    /// Code 200: start again, and do not count it.
    Requested,
    /// Any other code, or a signal.
    Error,
}

impl Exit {
    /// `code` is `None` when a signal ended the process.
    pub(crate) fn of(code: Option<i32>) -> Self {
        match code {
            Some(0) => Self::Final,
            Some(200) => Self::Requested,
            _ => Self::Error,
        }
    }
}

/// The errors that still count.
#[derive(Debug, Default)]
pub(crate) struct ErrorBucket {
    errors: usize,
    last: Option<Instant>,
}

impl ErrorBucket {
    /// Counts one error. True when the host has to give up.
    pub(crate) fn push(&mut self, now: Instant) -> bool {
        if self.last.is_some_and(|last| now.duration_since(last) > WINDOW) {
            self.errors = 0;
        }
        self.last = Some(now);
        self.errors += 1;
        self.errors >= ERRORS_MAX
    }

    /// How many errors count at present.
    pub(crate) fn count(&self) -> usize {
        self.errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_third_error_within_the_window_is_the_last() {
        let mut bucket = ErrorBucket::default();
        let start = Instant::now();
        let minute = |m: u64| start + Duration::from_mins(m);
        assert!(!bucket.push(minute(0)));
        assert!(!bucket.push(minute(29)));
        assert!(!bucket.push(minute(60)), "31 minutes after the last one the count starts anew");
        assert!(!bucket.push(minute(61)));
        assert!(bucket.push(minute(91)), "each error is compared with the previous one only");
        assert_eq!(bucket.count(), 3);
    }

    #[test]
    fn exit_codes() {
        assert_eq!(Exit::of(Some(0)), Exit::Final);
        assert_eq!(Exit::of(Some(200)), Exit::Requested);
        assert_eq!(Exit::of(Some(1)), Exit::Error);
        assert_eq!(Exit::of(None), Exit::Error);
    }
}
