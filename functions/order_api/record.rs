//! What operators see of one order beyond what its customer sees, and the experiment that sends its
//! first event twice.
//!
//! | route | answer |
//! | --- | --- |
//! | `GET /api/ops/orders/{id}` | the document as it is stored, and its events |
//! | `POST /api/ops/orders/{id}/duplicate` | sends `order.created` once more, under another message id |

use axum::Json;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use orders::EventType;
use serde_json::json;
use tracing::{info, warn};

use super::{Shared, read, store_problem};
use crate::access::Principal;
use crate::chain::chain;
use crate::problem::Problem;
use crate::publisher;

/// What a client is told to wait when the topic does not take the copy.
const RETRY_AFTER: std::time::Duration = std::time::Duration::from_secs(2);

/// The document and the events of an order.
pub(super) async fn record(
    State(api): Shared,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let order_id = read::order_id(&id)?;
    let (document, events) =
        tokio::try_join!(api.store.raw(order_id), api.store.events_of(order_id))
            .map_err(|error| store_problem(&error))?;
    let document = document.ok_or_else(read::no_such_order)?;
    Ok(super::ops::fresh(Json(json!({"document": document, "events": events}))))
}

/// Delivers the event that announced an order once more to everybody, as a broker may do at any
/// time. Its message id is new, so that the topic's own duplicate detection does not spoil the
/// experiment; the event id is the old one, by which consumers must know it.
pub(super) async fn duplicate(
    State(api): Shared,
    principal: Principal,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let order_id = read::order_id(&id)?;
    let events = api.store.events_of(order_id).await.map_err(|error| store_problem(&error))?;
    let first = events.into_iter().find(|event| event.event_type == EventType::OrderCreated);
    let first = first.ok_or_else(read::no_such_order)?;
    let message_id = format!("{}#again-{}", first.message_id, uuid::Uuid::now_v7());
    let message = publisher::message(&first.event, &message_id);
    api.ops.send(&message).await.map_err(|error| {
        warn!(order.id = %order_id, error = %chain(&error), "the topic does not take the copy");
        Problem::broker_unavailable(RETRY_AFTER)
    })?;
    info!(order.id = %order_id, message.id = message_id, principal.id = principal.id(),
        "an event is delivered twice on purpose");
    Ok((StatusCode::ACCEPTED, Json(json!({"messageId": message_id}))).into_response())
}
