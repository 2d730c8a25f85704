//! `POST /api/orders/{id}/cancel`: takes an order back while nobody has set out to charge for it.
//!
//! Whether that is still so is decided by the store, in the same step as the cancellation: from
//! then on nobody can begin to charge, and whoever had begun before made it fail.

use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use azure::cosmos::StoreError;
use handler::TraceContext;
use http::StatusCode;
use orders::{Order, OrderId, Overall, Service, saga};
use tracing::info;

use super::view::OrderView;
use super::{OrderApi, Shared, read, store_problem};
use crate::access::{Principal, Reach};
use crate::clock;
use crate::crash;
use crate::problem::{Kind, Problem};
use crate::store::Moved;

/// Tries against other moves of the same order: each refusal changes what is to be said.
const ROUNDS_MAX: u32 = 3;

/// Cancels an order. Doing so again changes nothing and answers the same.
pub(super) async fn cancel(
    State(api): Shared,
    principal: Principal,
    trace: TraceContext,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let reach = principal.reach()?;
    let order_id = read::order_id(&id)?;
    let traceparent = trace.traceparent();
    let order = attempt(&api, order_id, reach, &traceparent).await?;
    Ok((StatusCode::ACCEPTED, axum::Json(OrderView::whole(order))).into_response())
}

async fn attempt(
    api: &OrderApi,
    order_id: OrderId,
    reach: Reach<'_>,
    traceparent: &str,
) -> Result<Order, Problem> {
    let mut unsettled: Option<StoreError> = None;
    for _ in 0..ROUNDS_MAX {
        let document = api.store.read(order_id).await.map_err(|error| store_problem(&error))?;
        let order = document.ok_or_else(read::no_such_order)?.value;
        read::within(reach, &order)?;
        if let Some(answer) = judge(&order) {
            return answer.map(|()| order);
        }
        let change = saga::cancel(&order, clock::now(), Some(traceparent));
        crash::point("cancel.before-commit").await;
        match api.store.apply(order_id, &change).await {
            Ok(Moved::Applied(order)) => {
                crash::point("cancel.after-commit").await;
                if let Some(event) = &change.event {
                    api.outbox.offer(event);
                }
                info!(order.id = %order_id, "cancellation accepted");
                return Ok(*order);
            }
            Ok(Moved::Missing) => return Err(read::no_such_order()),
            // Somebody moved the order in between: look again.
            Ok(Moved::Refused) => {}
            // Settled by looking, never by guessing.
            Err(error) if error.may_have_been_applied() => unsettled = Some(error),
            Err(error) => return Err(store_problem(&error)),
        }
    }
    Err(match unsettled {
        Some(error) => store_problem(&error),
        None => store_problem(&StoreError::Contended),
    })
}

/// What can be said without trying; `None` when the order can be cancelled as far as one can see.
fn judge(order: &Order) -> Option<Result<(), Problem>> {
    let conflict = |kind, detail: &str| {
        let title = "The order cannot be cancelled any more.";
        Some(Err(Problem::new(kind, title).detail(detail)))
    };
    if order.cancellation.is_some() {
        return Some(Ok(()));
    }
    if order.overall != Overall::Accepted {
        let detail = format!("It is {}.", order.overall.as_str());
        return conflict(Kind::ORDER_CLOSED, &detail);
    }
    if order.is_unwinding() {
        return conflict(Kind::ORDER_UNWINDING, "It has failed and is being undone already.");
    }
    if order.stage[Service::Billing].calls > 0 {
        return conflict(Kind::PAYMENT_BEGUN, "The payment has been made or is being made.");
    }
    None
}
