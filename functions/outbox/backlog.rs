//! How much waits, and how much was given up on: the depth of every subscription and queue, and
//! the age of what is oldest there, as metrics.
//!
//! One timer looks for the whole system, so that no number is reported twice. It looks by peeking,
//! for which an identity that may receive is enough; the broker's own counts are for those who may
//! manage it. Nothing is locked, moved or counted by it, and nothing depends on it: what does not
//! answer is not reported.

use std::time::Duration;

use azure::bus::{BusClient, BusError, Management, MessageState, Received};
use azure::queue::{QueueClient, QueueConnection, QueueError};
use orders::{Service, Timestamp};
use time::OffsetDateTime;
use tracing::warn;

use crate::chain::chain;
use crate::telemetry::{self, BACKLOG, BACKLOG_OLDEST_AGE, DEAD_LETTERS, DEAD_LETTERS_OLDEST_AGE};
use crate::topology::TOPOLOGY;

/// Dead letters of one place that are counted; more are said to be so many.
const DEAD_LETTERS_MAX: usize = 10_000;

/// Waiting messages of one place that are counted; more are said to be so many. Less than above,
/// as this grows whenever a service is slow, and peeking should not slow it further.
const WAITING_MAX: usize = 2_000;

/// Messages of one peek: the broker cuts a page at its own size limit besides.
const PEEK_PAGE: u32 = 250;

/// How long all the looking may take: the rest of the minute is the sweep's.
const LOOK_WITHIN: Duration = Duration::from_secs(20);

/// The queue behind billing, and what could not be settled there.
const PAYMENTS: &str = "payments";
const PAYMENTS_POISON: &str = "payments-poison";

/// Every place where messages wait.
#[derive(Clone, Debug)]
pub(super) struct Backlog {
    subscriptions: Vec<Subscription>,
    payments: Option<QueueClient>,
    poison: Option<QueueClient>,
}

#[derive(Clone, Debug)]
struct Subscription {
    name: String,
    waiting: Management,
    dead: Management,
}

/// How much there is in one place.
#[derive(Debug, Default, PartialEq, Eq)]
struct Depth {
    count: u64,
    oldest_at: Option<OffsetDateTime>,
}

impl Backlog {
    /// The subscriptions of the topic, and the queues of payments if there is a connection.
    pub(super) fn new(bus: &BusClient, queues: Option<&QueueConnection>) -> Self {
        let topic = &TOPOLOGY.topic().name;
        let subscriptions = Service::ALL.map(|service| {
            let name = format!("{service}-sub");
            let path = format!("{topic}/Subscriptions/{name}");
            let dead = bus.management(&format!("{path}/$DeadLetterQueue"));
            Subscription { name, waiting: bus.management(&path), dead }
        });
        let queue = |name: &str| {
            QueueClient::new(queues?, name)
                .inspect_err(|error| warn!(error = %chain(error), "no queue to look into"))
                .ok()
        };
        let (payments, poison) = (queue(PAYMENTS), queue(PAYMENTS_POISON));
        Self { subscriptions: subscriptions.into(), payments, poison }
    }

    /// Looks at every place once. Does nothing while telemetry is off.
    pub(super) async fn look(&self) {
        if handler::telemetry::is_on()
            && tokio::time::timeout(LOOK_WITHIN, self.look_everywhere()).await.is_err()
        {
            warn!("not every place was counted in time");
        }
    }

    async fn look_everywhere(&self) {
        for Subscription { name, waiting, dead } in &self.subscriptions {
            report(name, true, count(dead, DEAD_LETTERS_MAX).await);
            report(name, false, count(waiting, WAITING_MAX).await);
        }
        if let Some(queue) = &self.poison {
            report(PAYMENTS_POISON, true, count_queue(queue).await);
        }
        if let Some(queue) = &self.payments {
            report(PAYMENTS, false, count_queue(queue).await);
        }
    }
}

fn report<E: std::error::Error>(source: &str, dead: bool, found: Result<Depth, E>) {
    match found {
        Ok(depth) => depth.report(source, dead),
        Err(error) => warn!(source, error = %chain(&error), "messages cannot be counted"),
    }
}

impl Depth {
    fn report(&self, source: &str, dead: bool) {
        let (count, age) = match dead {
            true => (&DEAD_LETTERS, &DEAD_LETTERS_OLDEST_AGE),
            false => (&BACKLOG, &BACKLOG_OLDEST_AGE),
        };
        let attributes = [("source", source)];
        let whole = u32::try_from(self.count).unwrap_or(u32::MAX);
        count.set(whole.into(), &attributes);
        let oldest = self.oldest_at.map(|at| telemetry::seconds_since(Timestamp::new(at)));
        age.set(oldest.unwrap_or(0.0).max(0.0), &attributes);
    }

    fn add(&mut self, message: &Received) {
        // Deferred and scheduled ones wait for somebody else than a consumer.
        if message.state == MessageState::Active {
            self.count += 1;
            self.oldest_at = [self.oldest_at, message.enqueued_at].into_iter().flatten().min();
        }
    }
}

/// Counts up to `max` messages.
async fn count(entity: &Management, max: usize) -> Result<Depth, BusError> {
    let (mut depth, mut from, mut seen) = (Depth::default(), 0, 0);
    loop {
        let page = entity.peek_without_body(from, PEEK_PAGE).await?;
        page.iter().for_each(|message| depth.add(message));
        seen += page.len();
        match page.last() {
            Some(last) if seen < max => from = last.sequence_number + 1,
            _ => return Ok(depth),
        }
    }
}

/// The service counts by itself, and shows what is at the front.
async fn count_queue(queue: &QueueClient) -> Result<Depth, QueueError> {
    let (shown, count) = tokio::try_join!(queue.peek(), queue.approximate_count())?;
    let oldest_at = shown.iter().filter_map(|message| message.inserted_at).min();
    Ok(Depth { count, oldest_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_queue_that_is_looked_into_is_one_of_the_topology() {
        for name in [PAYMENTS, PAYMENTS_POISON] {
            assert!(TOPOLOGY.storage.queues.iter().any(|queue| queue == name), "{name}");
        }
        let ours: Vec<_> = TOPOLOGY.topic().subscriptions.iter().map(|s| &s.name).collect();
        let services: Vec<_> = Service::ALL.iter().map(|s| format!("{s}-sub")).collect();
        assert_eq!(ours, services.iter().collect::<Vec<_>>());
    }
}
