//! `GET /healthz` says that the process lives, `GET /readyz` that it can accept orders and that what
//! it accepts gets on. They are told apart because restarting a process mends neither a store that
//! is down nor an outbox that does not drain.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use orders::{OutboxEvent, Timestamp};
use serde_json::{Value, json};

use super::{OrderApi, RETRY_AFTER_DEFAULT, Shared};
use crate::clock;
use crate::problem::{Kind, Problem};
use crate::telemetry;

/// How long the store may take to show that it is there.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// Age in milliseconds up to which an event may wait in the outbox. Whoever commits one publishes
/// it at once, the relay looks after seconds, the sweep every minute; one that has waited for
/// longer than that was missed by all three.
const OUTBOX_AGE_MAX_MS: i64 = 90_000;

/// The process lives.
pub(super) async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// The store answers, and the outbox drains.
pub(super) async fn readyz(State(api): Shared) -> Result<Json<Value>, Problem> {
    let (now, oldest) = match tokio::time::timeout(READY_WITHIN, look(&api)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => return Err(super::store_problem(&error)),
        Err(_) => return Err(Problem::unavailable(RETRY_AFTER_DEFAULT)),
    };
    let age_ms = oldest.map_or(0, |event| age_ms(&event, now));
    telemetry::OUTBOX_OLDEST_AGE.set(Duration::from_millis(age_ms).as_secs_f64(), &[]);
    if is_draining(age_ms) {
        return Ok(Json(json!({ "status": "ready" })));
    }
    Err(not_draining(age_ms))
}

/// Asks the store for the oldest event that waits.
async fn look(
    api: &OrderApi,
) -> Result<(Timestamp, Option<OutboxEvent>), azure::cosmos::StoreError> {
    api.store.ping().await?;
    let now = clock::now();
    Ok((now, api.store.pending_events(now, 1).await?.pop()))
}

fn age_ms(event: &OutboxEvent, now: Timestamp) -> u64 {
    u64::try_from(now.epoch_ms() - event.created_at.epoch_ms()).unwrap_or(0)
}

fn is_draining(age_ms: u64) -> bool {
    i64::try_from(age_ms).is_ok_and(|age_ms| age_ms <= OUTBOX_AGE_MAX_MS)
}

/// Orders are accepted and kept, but nobody is told of them.
fn not_draining(age_ms: u64) -> Problem {
    let title = "Orders are accepted, but their events do not reach the topic.";
    let detail = format!(
        "The oldest event has waited for {} s; up to {} s are allowed.",
        age_ms / 1_000,
        OUTBOX_AGE_MAX_MS / 1_000,
    );
    Problem::new(Kind::OUTBOX_NOT_DRAINING, title).detail(detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outbox_that_stands_still_says_so_and_for_how_long() {
        assert!(is_draining(0) && is_draining(90_000));
        assert!(!is_draining(90_001) && !is_draining(u64::MAX));
        let problem = not_draining(125_900);
        assert_eq!(problem.status(), 503);
        assert!(format!("{problem:?}").contains("125 s"), "{problem:?}");
    }
}
