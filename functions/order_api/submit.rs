//! `POST /api/orders`: parse, price, commit, answer. One request to the store on this path, and
//! nothing that waits for the bus.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use azure::cosmos::StoreError;
use bytes::{Bytes, BytesMut};
use handler::TraceContext;
use http::header::{CONTENT_TYPE, LOCATION};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body_util::BodyExt as _;
use orders::order::Acceptance;
use orders::submission::Refusal;
use orders::{FieldError, IdempotencyKey, Order, OrderId, OutboxEvent, Submission, Verdict};
use tracing::{error, info, warn};

use super::{BODY_BYTES_MAX, OrderApi, Shared, store_problem, view};
use crate::access::Principal;
use crate::clock;
use crate::crash;
use crate::problem::Problem;
use crate::store::Commit;
use crate::telemetry;

/// Header by which a client names the order that it means (IETF draft).
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// Says that the answer is that of an earlier request.
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// Header by which a client ties its own records to ours.
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// Characters of a correlation id; a client's longer one is replaced, not cut, because a cut one
/// would match nothing on the client's side.
const CORRELATION_ID_CHARS_MAX: usize = 128;

/// Bytes that are read of a body before the connection is given up. Generous for an honest mistake,
/// and nothing of it is kept.
const BODY_BYTES_DISCARDED_MAX: usize = 16 * 1024 * 1024;

/// What a client is told to wait when the store is too slow.
const OVERLOAD_PAUSE: Duration = Duration::from_secs(1);

/// Accepts an order.
pub(super) async fn submit(
    State(api): Shared,
    principal: Principal,
    trace: TraceContext,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let trace_id = trace.trace_id().to_string();

    // First of all: whatever the answer, the client should have sent its body before it comes.
    let body = read_body(body).await?;
    require_json(&headers)?;
    let key = idempotency_key(&headers)?;
    let submission = Submission::parse(&body).map_err(|refusal| match refusal {
        Refusal::Malformed(place) => Problem::malformed_json(&place),
        Refusal::Invalid(errors) => Problem::invalid_order(errors),
    })?;
    if !principal.reach()?.covers(submission.customer_id()) {
        warn!(principal.id = principal.id(), "refused: an order in another customer's name");
        return Err(Problem::other_customer().refuses("an order in another customer's name"));
    }
    if !api.faults_allowed && !submission.faults().is_empty() {
        let error = FieldError::new("/faults", "not_allowed", "is switched off here");
        let problem = Problem::invalid_order(vec![error]);
        return Err(problem.refuses("failures on purpose, which are switched off here"));
    }
    // Before anything that costs a request to the store.
    api.admission.count(submission.customer_id()).map_err(Problem::too_many_orders)?;
    let priced = api.shop.price(&submission).await.map_err(|refused| match refused {
        super::shop::Refused::Lines(errors) => Problem::invalid_order(errors),
        super::shop::Refused::Store(error) => store_problem(&error),
    })?;

    let order_id = key.as_ref().map_or_else(
        || OrderId::from_uuid(uuid::Uuid::now_v7()),
        |key| key.order_id(submission.customer_id()),
    );
    let correlation_id = correlation_id(&headers).unwrap_or(&trace_id);
    let traceparent = trace.traceparent();
    let log = tracing::Span::current();
    log.record("subject", tracing::field::display(order_id));
    log.record("correlation_id", correlation_id);
    let acceptance =
        Acceptance { order_id, at: clock::now(), correlation_id, traceparent: Some(&traceparent) };
    let (order, event) = Order::accept(&submission, priced, acceptance);
    let turn = api.admission.turn().await;
    let Some(_turn) = turn else { return Err(Problem::overloaded(OVERLOAD_PAUSE)) };
    let accepted = commit(&api, &order, event).await.map_err(|error| match error {
        NotCommitted::KeyReused => Problem::key_reused(),
        NotCommitted::Refused { index, status } => {
            error!(index, status, "the store refused an operation of the commit");
            Problem::internal()
        }
        NotCommitted::Store(error) => store_problem(&error),
    })?;
    if matches!(accepted, Accepted::Now) {
        telemetry::ORDERS_ACCEPTED.add(1, &[]);
    }
    info!(order.id = %order_id, correlation_id,
        replayed = matches!(accepted, Accepted::Before), "order accepted");
    Ok(answer(order_id, &accepted, key.is_some()))
}

/// How an order came to be accepted.
enum Accepted {
    /// By this request.
    Now,
    /// By an earlier one with the same key and content.
    Before,
}

/// Why an order was not committed.
enum NotCommitted {
    KeyReused,
    /// The store refused one operation of the batch for a reason that no client can mend.
    Refused {
        index: usize,
        status: u16,
    },
    Store(StoreError),
}

/// Commits the order and its event. An outcome that the store leaves open is settled by reading,
/// never by guessing.
async fn commit(
    api: &OrderApi,
    order: &Order,
    event: OutboxEvent,
) -> Result<Accepted, NotCommitted> {
    crash::point("submit.before-commit").await;
    let committed = api.store.commit(order, &event).await;
    crash::point("submit.after-commit").await;
    match committed {
        Ok(Commit::Created) => {
            api.outbox.offer(&event);
            Ok(Accepted::Now)
        }
        Ok(Commit::Exists) => match stored(api, order).await? {
            Some(accepted) => Ok(accepted),
            // Deleted in between: the client's next try creates it.
            None => Err(NotCommitted::Refused { index: 0, status: 404 }),
        },
        Ok(Commit::Refused { index, status }) => Err(NotCommitted::Refused { index, status }),
        Err(error) if error.may_have_been_applied() => match stored(api, order).await {
            Ok(Some(accepted)) => {
                // Its event is in the outbox as well; offering it again costs a duplicate at most.
                api.outbox.offer(&event);
                Ok(accepted)
            }
            _ => Err(NotCommitted::Store(error)),
        },
        Err(error) => Err(NotCommitted::Store(error)),
    }
}

/// Judges the order that is stored under this order's id, if any.
async fn stored(api: &OrderApi, order: &Order) -> Result<Option<Accepted>, NotCommitted> {
    let document = api.store.read(order.order_id).await.map_err(NotCommitted::Store)?;
    let Some(document) = document else { return Ok(None) };
    // Our own write whose answer was lost, or a retry inside the client library.
    if document.value.created_at == order.created_at {
        return Ok(Some(Accepted::Now));
    }
    match orders::idempotency::judge(&document.value.payload_hash, &order.payload_hash) {
        Verdict::Replay => Ok(Some(Accepted::Before)),
        Verdict::Mismatch => Err(NotCommitted::KeyReused),
    }
}

fn answer(order_id: OrderId, accepted: &Accepted, has_key: bool) -> Response {
    let location = view::order_path(order_id);
    let body = axum::Json(view::Receipt::new(order_id, has_key));
    let mut response = (StatusCode::ACCEPTED, body).into_response();
    let headers = response.headers_mut();
    // A path of a UUID is always a valid header value.
    if let Ok(location) = HeaderValue::from_str(&location) {
        headers.insert(LOCATION, location);
    }
    if matches!(accepted, Accepted::Before) {
        headers.insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    response
}

pub(super) fn require_json(headers: &HeaderMap) -> Result<(), Problem> {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or("");
    let essence = media_type.split(';').next().unwrap_or("").trim();
    if essence.eq_ignore_ascii_case("application/json") {
        Ok(())
    } else {
        Err(Problem::unsupported_media_type())
    }
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let bad = |detail: &str| Problem::invalid_header("Idempotency-Key", detail);
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(bad("may be sent once only"));
    }
    let text = value.to_str().map_err(|_| bad("may hold only visible ASCII characters"))?;
    IdempotencyKey::parse(text).map(Some).map_err(|error| bad(&error.to_string()))
}

fn correlation_id(headers: &HeaderMap) -> Option<&str> {
    let text = headers.get(CORRELATION_ID)?.to_str().ok()?;
    let fits = !text.is_empty() && text.len() <= CORRELATION_ID_CHARS_MAX;
    (fits && text.chars().all(|c| c.is_ascii_graphic())).then_some(text)
}

/// Reads a body up to its limit. What is beyond is read and thrown away, within bounds: a client
/// that is still sending when the connection closes may never see the answer.
pub(super) async fn read_body(mut body: Body) -> Result<Bytes, Problem> {
    let mut kept = BytesMut::new();
    let mut read = 0;
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| Problem::body_incomplete())?.into_data() else {
            continue;
        };
        read += data.len();
        if read <= BODY_BYTES_MAX {
            kept.extend_from_slice(&data);
        } else if read > BODY_BYTES_DISCARDED_MAX {
            break;
        }
    }
    if read > BODY_BYTES_MAX {
        return Err(Problem::body_too_large(BODY_BYTES_MAX));
    }
    Ok(kept.freeze())
}
