//! The delivery loop: carries out what the store hands out, and reports back.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::State;
use super::courier::Courier;
use super::morgue::Morgue;
use crate::limits;
use crate::store::Work;

/// Carries out work until `shutdown`.
pub(super) async fn pump(
    state: Arc<State>,
    courier: Courier,
    morgue: Morgue,
    tasks: TaskTracker,
    shutdown: CancellationToken,
) {
    while !shutdown.is_cancelled() {
        let now_ms = state.clock.now_ms();
        let work = state.store().advance(now_ms);
        for one in work {
            let (state, courier, morgue) = (state.clone(), courier.clone(), morgue.clone());
            let done = async move {
                carry_out(&state, &courier, &morgue, one).await;
                state.changed.notify_one();
            };
            // What is cut off was never settled, and is gone with this process anyway.
            tasks.spawn(shutdown.clone().run_until_cancelled_owned(done));
        }
        let next_ms = state.store().next_ms();
        let pause = next_ms.map_or(limits::LOOK_AGAIN, |next_ms| {
            Duration::from_millis(next_ms.saturating_sub(now_ms)).min(limits::LOOK_AGAIN)
        });
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = state.changed.notified() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn carry_out(state: &State, courier: &Courier, morgue: &Morgue, work: Work) {
    match work {
        Work::Handshake { ticket, endpoint, schema, code } => {
            let now_ms = state.clock.now_ms();
            let wants = courier.shake_hands(&ticket, &endpoint, schema, &code, now_ms).await;
            if !wants {
                tracing::warn!(
                    subscription = %ticket.subscription,
                    endpoint,
                    "the endpoint has not agreed to get events; it is asked again"
                );
            }
            state.store().agreed(&ticket, &endpoint, wants, state.clock.now_ms());
        }
        Work::Deliver { ticket, endpoint, queue, schema, event, attempts } => {
            let begun_ms = state.clock.now_ms();
            let written = (&*event, schema);
            let outcome = match queue {
                Some(queue) => courier.put(&endpoint, &queue, written, begun_ms).await,
                None => courier.deliver(&ticket, &endpoint, written, attempts).await,
            };
            tracing::debug!(
                subscription = %ticket.subscription, event.id, attempts, ?outcome, "attempt made"
            );
            state.store().settle(&ticket, outcome, begun_ms, state.clock.now_ms());
        }
        Work::Bury { ticket, destination, line } => {
            let written = morgue.bury(&ticket, &destination, &line).await;
            if let Err(error) = &written {
                let subscription = &ticket.subscription;
                tracing::warn!(%subscription, %error, "a dead letter could not be written");
            }
            state.store().buried(&ticket, written.is_ok(), state.clock.now_ms());
        }
    }
}
