//! Function `relay`: the change feed of the outbox.
//!
//! Most events are published by whoever commits them, a moment after the feed has them. So the
//! relay waits until a pending event is old enough to have been left behind, and looks again
//! before it publishes. When the topic does not take them, the invocation fails, and the retry
//! policy in `function.json` brings the same page again, for as long as it takes. An event that
//! can never be sent is parked and blocks nothing.

use std::time::Duration;

use futures::StreamExt as _;
use handler::{ChangeFeed, Context, Failure, Reply};
use orders::event::OutboxState;
use orders::{OutboxEvent, Timestamp};
use serde_json::Value;
use tracing::{error, info};

use crate::clock;
use crate::publisher::{BATCH_EVENTS_MAX, Channel};

/// Age at which a pending event is no longer just on its way, in milliseconds.
const GRACE_MS: i64 = 1_000;

/// Reads in flight at once.
const READS_IN_FLIGHT_MAX: usize = 8;

/// Publishes the events of a page that are still pending.
pub(super) async fn relay(
    channel: &Channel,
    page: ChangeFeed,
    context: &Context,
) -> Result<Reply, Failure> {
    let pending: Vec<OutboxEvent> = page.documents.iter().filter_map(pending_event).collect();
    let Some(newest) = pending.iter().map(|event| event.created_at).max() else {
        return Ok(Reply::done());
    };
    let wait = left_of_grace(newest, clock::now()).min(context.remaining() / 2);
    tokio::time::sleep(wait).await;

    // Not the feed's version, which is old by now.
    let looks = pending.iter().map(|event| channel.store().event(event.order_id, &event.id));
    let looks: Vec<_> = looks.collect();
    let mut left_behind = Vec::new();
    let mut current = futures::stream::iter(looks).buffered(READS_IN_FLIGHT_MAX);
    while let Some(event) = current.next().await {
        left_behind.extend(event?.filter(|event| event.state == OutboxState::Pending));
    }
    for events in left_behind.chunks(BATCH_EVENTS_MAX) {
        channel.publish(events).await?;
    }
    if !left_behind.is_empty() {
        info!(events = left_behind.len(), "published events that were left behind");
    }
    Ok(Reply::done())
}

/// The event in a document of the feed, if it is one and waits. A document that calls itself an
/// event and is none is reported and passed: failing would stop the feed for all others.
fn pending_event(document: &Value) -> Option<OutboxEvent> {
    if document["type"] != "event" || document["state"] != "pending" {
        return None;
    }
    match serde_json::from_value(document.clone()) {
        Ok(event) => Some(event),
        Err(error) => {
            error!(document.id = document["id"].as_str(), %error, "this is no event");
            None
        }
    }
}

/// How long an event of that moment may still be on its way.
fn left_of_grace(created_at: Timestamp, now: Timestamp) -> Duration {
    let age_ms = now.epoch_ms() - created_at.epoch_ms();
    Duration::from_millis(u64::try_from((GRACE_MS - age_ms).clamp(0, GRACE_MS)).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_pending_events_are_looked_at_and_bad_documents_pass() {
        assert!(pending_event(&json!({"type": "order"})).is_none());
        assert!(pending_event(&json!({"type": "event", "state": "published"})).is_none());
        assert!(pending_event(&json!({"type": "event", "state": "pending", "id": 7})).is_none());
    }

    #[test]
    fn the_grace_is_bounded_whatever_the_clocks_say() {
        let at = Timestamp::parse("2026-03-01T10:00:00Z").unwrap();
        assert_eq!(left_of_grace(at, at), Duration::from_secs(1));
        assert_eq!(left_of_grace(at, at.plus_ms(400)), Duration::from_millis(600));
        assert_eq!(left_of_grace(at, at.plus_ms(60_000)), Duration::ZERO);
        assert_eq!(left_of_grace(at.plus_ms(3_600_000), at), Duration::from_secs(1));
    }
}
