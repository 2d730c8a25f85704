//! What operators see of one order beyond what its customer sees, and the experiment that sends its
//! first event twice.
//!
//! | route | answer |
//! | --- | --- |
//! | `GET /api/ops/orders/{id}` | the document as it is stored, and its events |
//! | `POST /api/ops/orders/{id}/duplicate` | sends `order.created` once more, under another message id |

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode};
use orders::{EventType, OrderId, OutboxEvent};
use serde_json::{Value, json};
use tracing::{info, warn};

use super::ops::deed::{self, Intent};
use super::ops::request::{self, Asked};
use super::{OrderApi, Shared, read, store_problem, submit};
use crate::access::Principal;
use crate::chain::chain;
use crate::problem::Problem;
use crate::publisher;
use crate::store::audit::{Deed, Outcome};
use crate::topology::TOPOLOGY;

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
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut intent = Intent {
        deed: Deed::Duplicate,
        actor: principal.id().to_owned(),
        reason: String::new(),
        source: TOPOLOGY.topic().name.clone(),
        message_id: None,
        order_id: None,
    };
    let first = match wanted(&api, &id, &headers, body, &mut intent).await {
        Ok(first) => first,
        Err(problem) => {
            intent.refused(&api, &problem).await;
            return Err(problem);
        }
    };
    let mut entry = intent.entry();
    let message_id = format!("{}#again-{}", first.message_id, uuid::Uuid::now_v7());
    entry.replayed_as = Some(message_id.clone());
    deed::begin(&api, &entry).await?;
    let message = publisher::message(&first.event, &message_id);
    let order_id = intent.order_id.as_deref();
    if let Err(error) = api.ops.send(&message).await {
        warn!(order.id = order_id, error = %chain(&error), "the topic does not take the copy");
        entry.detail = Some("the topic does not take the copy".to_owned());
        deed::end(&api, &entry, Outcome::Failed).await;
        return Err(Problem::broker_unavailable(RETRY_AFTER).detail("It did not take the copy."));
    }
    info!(
        order.id = order_id,
        message.id = message_id,
        principal.id = principal.id(),
        reason = intent.reason,
        "an event is delivered twice on purpose"
    );
    deed::end(&api, &entry, Outcome::Done).await;
    Ok((StatusCode::ACCEPTED, Json(json!({"messageId": message_id}))).into_response())
}

/// The event that is to be delivered again, if it may be; `intent` learns on the way what it is
/// about.
async fn wanted(
    api: &OrderApi,
    id: &str,
    headers: &HeaderMap,
    body: Body,
    intent: &mut Intent,
) -> Result<OutboxEvent, Problem> {
    intent.order_id = id.parse::<OrderId>().ok().map(|order_id| order_id.to_string());
    let body = submit::read_body(body).await?;
    if !body.is_empty() {
        submit::require_json(headers)?;
        let body: Value = serde_json::from_slice(&body).map_err(|error| {
            Problem::malformed_json(&format!("line {} column {}", error.line(), error.column()))
        })?;
        intent.reason = Asked::of(&body).reason;
        request::reason(&body).map_err(Problem::invalid_request)?;
    }
    if !api.faults_allowed {
        return Err(Problem::faults_switched_off());
    }
    let order_id = read::order_id(id)?;
    let events = api.store.events_of(order_id).await.map_err(|error| store_problem(&error))?;
    let first = events.into_iter().find(|event| event.event_type == EventType::OrderCreated);
    let first = first.ok_or_else(read::no_such_order)?;
    intent.message_id = Some(first.message_id.clone());
    Ok(first)
}
