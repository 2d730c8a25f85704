//! What went wrong with an attempt, and what becomes of its message: the failure classes.
//!
//! | trouble | verdict |
//! | --- | --- |
//! | poison: never will work | dead-lettered at once, with the reason |
//! | unavailable: a dependency does not answer | a delayed copy, for a day |
//! | transient: it answered, and the answer may change | a delayed copy, a bounded number of times |
//! | crash: anything unforeseen, and what orders ask for | redelivered, dead-lettered by the broker |

use std::time::Duration;

use azure::bus::BusError;
use azure::cosmos::StoreError;
use orders::{NoSuccess, Timestamp};
use uuid::Uuid;

use crate::chain::chain;

/// The first delay of a copy, and the longest. Doubles in between.
pub const DELAY_MIN: Duration = Duration::from_secs(1);
/// See [`DELAY_MIN`]. Five minutes: an outage that is over is noticed soon, and one that is not
/// costs little.
pub const DELAY_MAX: Duration = Duration::from_secs(300);

/// Copies of one event while the dependency answers with failures: about half an hour.
pub const TRANSIENT_COPIES_MAX: u32 = 12;

/// Age of an event, in milliseconds, up to which copies of it wait for a dependency that does not
/// answer: a day, in which somebody notices.
const UNAVAILABLE_AGE_MAX_MS: i64 = 24 * 60 * 60 * 1_000;

/// Why an attempt did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Trying again can never help.
    Poison {
        /// Stable, for machines and for grouping, e.g. `not-json`.
        reason: &'static str,
        /// For people.
        description: String,
    },
    /// A dependency does not answer.
    Unavailable(String),
    /// It answered, and the answer may be another one later.
    Transient {
        /// What happened.
        what: String,
        /// When trying again begins to make sense, if that is known.
        after: Option<Duration>,
    },
    /// As a crash: nothing is known about it.
    Crash(String),
}

impl Trouble {
    /// A message that can never be handled.
    pub fn poison(reason: &'static str, description: impl Into<String>) -> Self {
        Self::Poison { reason, description: description.into() }
    }

    /// What happened, for people.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::Poison { description: text, .. }
            | Self::Unavailable(text)
            | Self::Transient { what: text, .. }
            | Self::Crash(text) => text,
        }
    }
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        let text = chain(&error);
        match &error {
            StoreError::Contended => Self::Transient { what: text, after: None },
            error if error.is_transient() => Self::Unavailable(text),
            // Keys and containers are set right by people while messages wait.
            StoreError::Unauthorized { .. } | StoreError::NotFound { .. } => {
                Self::Unavailable(text)
            }
            StoreError::Decode(_) => Self::poison("unreadable-document", text),
            _ => Self::Crash(text),
        }
    }
}

impl From<BusError> for Trouble {
    fn from(error: BusError) -> Self {
        let text = chain(&error);
        if error.is_transient() { Self::Unavailable(text) } else { Self::Crash(text) }
    }
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The broker delivers it again at once, and dead-letters it after the last time.
    Redeliver {
        /// Why.
        why: String,
        /// Whether the broker will not deliver it again.
        last: bool,
    },
    /// A copy comes back later, for this subscription alone; this one is done.
    Delay {
        /// How much later.
        after: Duration,
        /// Why.
        why: String,
    },
    /// It goes to the dead-letter queue now.
    DeadLetter {
        /// Stable.
        reason: &'static str,
        /// For people.
        description: String,
    },
}

impl Verdict {
    /// What the order notes about the attempt.
    #[must_use]
    pub fn noted(&self) -> (&str, NoSuccess) {
        match self {
            Self::Redeliver { why, last: false } => (why, NoSuccess::Redelivered),
            Self::Redeliver { why, last: true } => (why, NoSuccess::DeadLettered),
            Self::Delay { after, why } => {
                let after_ms = i64::try_from(after.as_millis()).unwrap_or(i64::MAX);
                (why, NoSuccess::Delayed { after_ms })
            }
            Self::DeadLetter { description, .. } => (description, NoSuccess::DeadLettered),
        }
    }
}

/// What is known about a delivery when its attempt fails.
#[derive(Clone, Copy, Debug)]
pub struct Circumstances {
    /// The how-manieth copy it was; 0 for the original.
    pub copies: u32,
    /// Whether the broker delivers this message no more.
    pub last_delivery: bool,
    /// When the event happened.
    pub event_time: Timestamp,
    /// Now.
    pub now: Timestamp,
}

/// Judges an attempt that failed.
#[must_use]
pub fn judge(trouble: Trouble, circumstances: Circumstances) -> Verdict {
    let Circumstances { copies, last_delivery, event_time, now } = circumstances;
    match trouble {
        Trouble::Poison { reason, description } => Verdict::DeadLetter { reason, description },
        Trouble::Crash(why) => Verdict::Redeliver { why, last: last_delivery },
        Trouble::Unavailable(why) => {
            if now.epoch_ms() - event_time.epoch_ms() < UNAVAILABLE_AGE_MAX_MS {
                Verdict::Delay { after: back_off(copies, random()), why }
            } else {
                let description = format!("waited for a day: {why}");
                Verdict::DeadLetter { reason: "dependency-unavailable", description }
            }
        }
        Trouble::Transient { what, after } => {
            if copies < TRANSIENT_COPIES_MAX {
                let after = after.unwrap_or_else(|| back_off(copies, random()));
                Verdict::Delay { after, why: what }
            } else {
                let description = format!("after {copies} retries: {what}");
                Verdict::DeadLetter { reason: "retries-exhausted", description }
            }
        }
    }
}

/// The delay before copy `copies + 1`: doubling, between half and all of it, so that what failed
/// together does not come back together. `random` is any 32 random bits.
#[must_use]
pub fn back_off(copies: u32, random: u32) -> Duration {
    let whole = DELAY_MIN.saturating_mul(1_u32.checked_shl(copies).unwrap_or(u32::MAX));
    let whole = whole.min(DELAY_MAX);
    whole / 2 + (whole / 2).mul_f64(f64::from(random) / f64::from(u32::MAX))
}

fn random() -> u32 {
    // The first 32 bits of a version-4 UUID are all random.
    Uuid::new_v4().as_fields().0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(copies: u32, last_delivery: bool, age_ms: i64) -> Circumstances {
        let event_time = Timestamp::parse("2026-03-01T10:00:00Z").unwrap();
        Circumstances { copies, last_delivery, event_time, now: event_time.plus_ms(age_ms) }
    }

    #[test]
    fn delays_double_and_stay_within_their_bounds() {
        for copies in 0..70 {
            let [least, most] = [0, u32::MAX].map(|random| back_off(copies, random));
            assert!(least >= DELAY_MIN / 2 && most <= DELAY_MAX, "{copies}: {least:?} {most:?}");
            assert_eq!(least * 2, most);
            assert!(most <= back_off(copies + 1, u32::MAX));
        }
        assert_eq!(back_off(0, u32::MAX), DELAY_MIN);
        assert_eq!(back_off(3, u32::MAX), DELAY_MIN * 8);
        assert_eq!(back_off(40, u32::MAX), DELAY_MAX);
    }

    #[test]
    fn every_class_has_its_verdict() {
        let unavailable = || Trouble::Unavailable("away".into());
        assert!(matches!(judge(unavailable(), at(400, true, 1_000)), Verdict::Delay { .. }));
        let given_up = judge(unavailable(), at(1, false, UNAVAILABLE_AGE_MAX_MS));
        assert!(matches!(given_up, Verdict::DeadLetter { reason: "dependency-unavailable", .. }));

        let transient = || Trouble::Transient { what: "no".into(), after: None };
        assert!(matches!(judge(transient(), at(0, true, 0)), Verdict::Delay { .. }));
        let exhausted = judge(transient(), at(TRANSIENT_COPIES_MAX, false, 0));
        assert!(matches!(exhausted, Verdict::DeadLetter { reason: "retries-exhausted", .. }));
        assert_eq!(exhausted.noted().1, NoSuccess::DeadLettered);

        let crash = |last| judge(Trouble::Crash("boom".into()), at(0, last, 0));
        assert_eq!(crash(false).noted(), ("boom", NoSuccess::Redelivered));
        assert_eq!(crash(true).noted(), ("boom", NoSuccess::DeadLettered));
        let poison = judge(Trouble::poison("not-json", "x"), at(0, false, 0));
        assert!(matches!(poison, Verdict::DeadLetter { reason: "not-json", .. }));
    }
}
