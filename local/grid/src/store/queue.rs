//! One subscription: its events that wait, the health of its endpoint, what it counted.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use super::outcome::Outcome;
use crate::event::Event;
use crate::limits;
use crate::topology::Subscription;

/// An event on its way to one subscriber.
#[derive(Clone, Debug)]
pub(super) struct Delivery {
    pub(super) event: Arc<Event>,
    pub(super) published_ms: u64,
    pub(super) attempts: u32,
    /// The last attempt: what came of it, and when it was begun.
    pub(super) last: Option<(Outcome, u64)>,
    /// Set once it is to be dead-lettered: why, and since when.
    pub(super) doomed: Option<(Reason, u64)>,
}

/// Why an event is not delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// `maxDeliveryAttempts` were made.
    Attempts,
    /// `eventTimeToLiveInMinutes` are over.
    TimeToLive,
    /// The subscriber refused it with an answer that no retry can change.
    Rejected(Outcome),
}

impl Reason {
    /// The name in a dead letter.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Attempts => "MaxDeliveryAttemptsExceeded".to_owned(),
            Self::TimeToLive => "TimeToLiveExceeded".to_owned(),
            Self::Rejected(outcome) => format!("UndeliverableDueToHttp{}", outcome.name()),
        }
    }
}

/// What a subscription has counted since it was created.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    /// Events that its filters let through.
    pub matched: u64,
    /// Events that were delivered.
    pub delivered: u64,
    /// Attempts that failed, whatever became of the event.
    pub failed_attempts: u64,
    /// Events that were dead-lettered.
    pub dead_lettered: u64,
    /// Events that were given up and kept nowhere.
    pub dropped: u64,
    /// Time that attempts took, all together, in milliseconds.
    pub processing_ms: u64,
}

impl Counters {
    /// The same under the names of Azure Monitor.
    pub(super) fn metrics(self) -> Value {
        json!({
            "MatchedEventCount": self.matched,
            "DeliverySuccessCount": self.delivered,
            "DeliveryAttemptFailCount": self.failed_attempts,
            "DeadLetteredCount": self.dead_lettered,
            "DroppedEventCount": self.dropped,
            "DestinationProcessingDurationInMs": self.processing_ms,
        })
    }
}

/// Whether the endpoint has agreed to get events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Agreement {
    Given,
    /// It is asked at `due_ms`, after `tries` that failed.
    Wanted {
        due_ms: u64,
        tries: u32,
    },
    Asking {
        tries: u32,
    },
}

impl Agreement {
    /// How a new endpoint begins: a webhook has to agree, a queue is one's own.
    pub(super) fn first(declared: &Subscription, now_ms: u64) -> Self {
        match declared.storage_queue {
            Some(_) => Self::Given,
            None => Self::Wanted { due_ms: now_ms, tries: 0 },
        }
    }
}

/// How the endpoint has behaved lately.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Health {
    failures: u32,
    /// How often the pause has doubled.
    level: u32,
    pub(super) not_before_ms: u64,
}

impl Health {
    pub(super) fn is_unhealthy(self) -> bool {
        self.failures >= limits::UNHEALTHY_AFTER
    }

    pub(super) fn answered(&mut self) {
        *self = Self::default();
    }

    /// Notes a failure; `scaled` turns a pause into milliseconds.
    pub(super) fn failed(&mut self, now_ms: u64, scaled: impl Fn(Duration) -> u64) {
        self.failures = self.failures.saturating_add(1);
        // An attempt that was under way when the pause began says nothing new.
        if self.is_unhealthy() && now_ms >= self.not_before_ms {
            let doubled = limits::UNHEALTHY_PAUSE_MIN.saturating_mul(1 << self.level.min(16));
            self.not_before_ms = now_ms + scaled(doubled.min(limits::UNHEALTHY_PAUSE_MAX));
            self.level += 1;
        }
    }
}

/// A subscription at work.
#[derive(Debug)]
pub(super) struct Queue {
    pub(super) declared: Subscription,
    pub(super) agreement: Agreement,
    /// Proves consent, in the Event Grid schema and by hand.
    pub(super) code: String,
    pub(super) health: Health,
    pub(super) counters: Counters,
    /// What waits, with its due time and its expiry.
    waiting: HashMap<u64, (Delivery, u64, u64)>,
    /// `(due, number)` of what is to be delivered.
    due: BTreeSet<(u64, u64)>,
    /// `(due, number)` of what is to be dead-lettered.
    doomed: BTreeSet<(u64, u64)>,
    /// `(expiry, number)` of what is to be delivered.
    expiry: BTreeSet<(u64, u64)>,
    pub(super) in_flight: HashMap<u64, Delivery>,
}

impl Queue {
    pub(super) fn new(declared: Subscription, code: String, now_ms: u64) -> Self {
        Self {
            agreement: Agreement::first(&declared, now_ms),
            declared,
            code,
            health: Health::default(),
            counters: Counters::default(),
            waiting: HashMap::new(),
            due: BTreeSet::new(),
            doomed: BTreeSet::new(),
            expiry: BTreeSet::new(),
            in_flight: HashMap::new(),
        }
    }

    /// Lets a delivery wait until `due_ms`, or until it expires.
    pub(super) fn wait(&mut self, number: u64, delivery: Delivery, due_ms: u64, expires_ms: u64) {
        if delivery.doomed.is_some() {
            self.doomed.insert((due_ms, number));
        } else {
            self.due.insert((due_ms, number));
            self.expiry.insert((expires_ms, number));
        }
        self.waiting.insert(number, (delivery, due_ms, expires_ms));
    }

    fn take(&mut self, number: u64) -> Option<(u64, Delivery)> {
        let (delivery, due_ms, expires_ms) = self.waiting.remove(&number)?;
        self.due.remove(&(due_ms, number));
        self.doomed.remove(&(due_ms, number));
        self.expiry.remove(&(expires_ms, number));
        Some((number, delivery))
    }

    /// Takes a delivery whose time to live is over.
    pub(super) fn take_expired(&mut self, now_ms: u64) -> Option<(u64, Delivery)> {
        let (expires_ms, number) = *self.expiry.first()?;
        if expires_ms > now_ms {
            return None;
        }
        self.take(number)
    }

    /// Takes a delivery whose moment has come, dead letters first.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Option<(u64, Delivery)> {
        let due = |(due_ms, _): &&(u64, u64)| *due_ms <= now_ms;
        let (deliveries, burials) = self.under_way();
        let doomed = self.doomed.first().filter(|_| burials < limits::BURIALS_MAX);
        let first = self.due.first().filter(|_| self.is_open(deliveries));
        let first = first.filter(|_| self.health.not_before_ms <= now_ms);
        let (_, number) = *doomed.filter(due).or(first.filter(due))?;
        self.take(number)
    }

    /// When something may have to be done next; `None` if only an answer can change that.
    pub(super) fn next_ms(&self) -> Option<u64> {
        let handshake = match self.agreement {
            Agreement::Wanted { due_ms, .. } => Some(due_ms),
            Agreement::Given | Agreement::Asking { .. } => None,
        };
        let (deliveries, burials) = self.under_way();
        let doomed = self.doomed.first().filter(|_| burials < limits::BURIALS_MAX);
        let due = self.due.first().filter(|_| self.is_open(deliveries));
        let due = due.map(|(due_ms, _)| (*due_ms).max(self.health.not_before_ms));
        let [doomed, expiry] = [doomed, self.expiry.first()].map(|first| first.map(|(at, _)| *at));
        [handshake, due, doomed, expiry].into_iter().flatten().min()
    }

    /// Whether the endpoint may get another event besides those under way. One that is not well
    /// gets one at a time, to find out.
    fn is_open(&self, under_way: usize) -> bool {
        let most = if self.health.is_unhealthy() { 1 } else { limits::IN_FLIGHT_MAX };
        self.agreement == Agreement::Given && under_way < most
    }

    /// Deliveries and dead letters under way.
    fn under_way(&self) -> (usize, usize) {
        let burials = self.in_flight.values().filter(|one| one.doomed.is_some()).count();
        (self.in_flight.len() - burials, burials)
    }

    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Everything that it holds: events and their bytes.
    pub(super) fn held(&self) -> (usize, usize) {
        let waiting = self.waiting.values().map(|(delivery, ..)| delivery);
        let all = waiting.chain(self.in_flight.values());
        all.fold((0, 0), |(count, bytes), one| (count + 1, bytes + one.event.body.len()))
    }

    pub(super) fn next_due_ms(&self) -> Option<u64> {
        self.due.first().map(|(due_ms, _)| *due_ms)
    }
}
