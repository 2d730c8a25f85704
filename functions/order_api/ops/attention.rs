//! `GET /api/ops/attention`: what does not get on by itself: events that the topic can never take,
//! and orders that are late.

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use orders::{CustomerId, EventType, OrderId, Timestamp};
use serde::Serialize;

use super::super::{Shared, store_problem};
use crate::clock;
use crate::outbox::sweep::{STUCK_AGE_MS, STUCK_ORDERS_MAX, stuck_at};
use crate::problem::Problem;

/// Parked events that are shown: a person looks at them one by one.
const PARKED_EVENTS_MAX: usize = 100;

/// What needs a person.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Attention {
    parked_events: Vec<ParkedEvent>,
    stuck_orders: Vec<StuckOrder>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ParkedEvent {
    event_id: String,
    order_id: OrderId,
    event_type: EventType,
    created_at: Timestamp,
    reason: Option<String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct StuckOrder {
    order_id: OrderId,
    customer_id: CustomerId,
    created_at: Timestamp,
    waits_for: Vec<String>,
}

/// What needs a person, at most a hundred of each kind.
pub(in crate::order_api) async fn attention(State(api): Shared) -> Result<Response, Problem> {
    let before = clock::now().plus_ms(-STUCK_AGE_MS);
    let (parked, stuck) = tokio::try_join!(
        api.store.parked_events(PARKED_EVENTS_MAX),
        api.store.open_orders(before, STUCK_ORDERS_MAX),
    )
    .map_err(|error| store_problem(&error))?;
    let parked_events = parked.into_iter().map(|event| ParkedEvent {
        event_id: event.id,
        order_id: event.order_id,
        event_type: event.event_type,
        created_at: event.created_at,
        reason: event.parked_reason,
    });
    let stuck_orders = stuck.into_iter().map(|order| StuckOrder {
        order_id: order.order_id,
        waits_for: stuck_at(&order),
        created_at: order.created_at,
        customer_id: order.customer_id,
    });
    let attention =
        Attention { parked_events: parked_events.collect(), stuck_orders: stuck_orders.collect() };
    let no_store = [(CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    Ok((no_store, Json(attention)).into_response())
}
