//! App `order-api`, function `http`: everything that people and programs reach over HTTP.
//!
//! | route | answer |
//! | --- | --- |
//! | `POST /api/orders` | 202 once the order is committed ([`submit`]) |
//! | `GET /api/orders` | the newest orders, page by page ([`read`]) |
//! | `GET /api/orders/{id}` | one order, with an ETag ([`read`]) |
//! | `POST /api/orders/{id}/cancel` | 202 while nobody has set out to charge ([`cancel`]) |
//! | `GET /api/feed` | what changes about orders, as it changes (`feed`) |
//! | `/api/ops/…` | what needs a person; dead letters and their replay ([`ops`]) |
//! | `GET /api/products` | what can be bought ([`shop`]) |
//! | `GET /api/openapi.json` | the contract of all of this ([`openapi`]) |
//! | `GET /healthz`, `GET /readyz` | the process; its dependencies ([`health`]) |
//! | `GET /` | the portal ([`portal`]) |
//!
//! Who may use which is said by the table in [`crate::access::routes`]; a route without a line
//! there serves nobody. Routes that act on orders take the [`crate::access::Principal`] and ask it
//! whose they may touch.

mod admission;
pub mod cancel;
mod feed;
mod feed_source;
pub mod health;
mod local;
pub mod openapi;
pub mod ops;
pub mod portal;
pub mod read;
mod record;
pub mod shop;
pub mod submit;
mod system;
pub mod view;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use azure::cosmos::StoreError;
use handler::TraceContext;
use http::header::HeaderName;
use http::{HeaderValue, StatusCode};
use sha2::{Digest as _, Sha256};
use tokio::time::Instant;
use tracing::{error, warn};

use crate::access::{self, Access};
use crate::chain::chain;
use crate::problem::Problem;
use crate::publisher::Outbox;
use crate::settings::Settings;
use crate::store::OrderStore;
use crate::telemetry;
use admission::Admission;
use shop::Shop;

/// Bytes of a request body. A full order of a hundred lines is below 16 KB.
pub const BODY_BYTES_MAX: usize = 64 * 1024;

/// What a client is told to wait when the store does not say.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(2);

/// Everything that the routes share.
#[derive(Debug)]
pub struct OrderApi {
    store: OrderStore,
    outbox: Outbox,
    shop: Shop,
    admission: Admission,
    faults_allowed: bool,
    ops: ops::Ops,
    feed: feed_source::Feed,
    system: system::System,
    local: local::Local,
    access: Arc<Access>,
}

type Shared = State<Arc<OrderApi>>;

impl OrderApi {
    /// The API over a store and an outbox, for whom `access` admits.
    #[must_use]
    pub fn new(store: OrderStore, outbox: Outbox, settings: &Settings, access: Access) -> Self {
        let shop = Shop::new(store.clone());
        let admission = Admission::new(settings.customer_orders_per_second);
        let ops = ops::Ops::new(&store, settings);
        let faults_allowed = settings.faults_allowed;
        let (feed, system) = (feed_source::Feed::default(), system::System::new(settings));
        let local = local::Local::new(settings.stack.as_ref());
        let access = Arc::new(access);
        Self { store, outbox, shop, admission, faults_allowed, ops, feed, system, local, access }
    }

    /// The routes.
    pub fn router(self) -> Router {
        let orders = get(read::list).merge(post(submit::submit));
        Router::new()
            .route("/api/orders", orders.fallback(|| refuse_method("GET, HEAD, POST")))
            .route("/api/orders/{id}", get(read::one).fallback(|| refuse_method("GET, HEAD")))
            .route(
                "/api/orders/{id}/cancel",
                post(cancel::cancel).fallback(|| refuse_method("POST")),
            )
            .route("/api/feed", get(feed::feed).fallback(|| refuse_method("GET, HEAD")))
            .route("/api/products", get(shop::list).fallback(|| refuse_method("GET, HEAD")))
            .route("/api/openapi.json", get(openapi::serve).fallback(|| refuse_method("GET, HEAD")))
            .route("/healthz", get(health::healthz).fallback(|| refuse_method("GET, HEAD")))
            .route("/readyz", get(health::readyz).fallback(|| refuse_method("GET, HEAD")))
            .merge(ops::router())
            .route("/api/ops/system", get(system::system).fallback(|| refuse_method("GET, HEAD")))
            .route(
                "/api/ops/orders/{id}",
                get(record::record).fallback(|| refuse_method("GET, HEAD")),
            )
            .route(
                "/api/ops/orders/{id}/duplicate",
                post(record::duplicate).fallback(|| refuse_method("POST")),
            )
            .route(
                "/api/ops/local/{*path}",
                get(local::local).post(local::local).fallback(|| refuse_method("GET, HEAD, POST")),
            )
            .merge(portal::router())
            .fallback(|| async { Problem::not_found("No route has this path.") })
            // `submit` reads the body itself, to answer in its own words.
            .layer(DefaultBodyLimit::disable())
            .layer(middleware::from_fn_with_state(Arc::clone(&self.access), access::guard))
            .layer(middleware::from_fn(harden))
            .with_state(Arc::new(self))
    }
}

async fn refuse_method(allow: &'static str) -> Problem {
    Problem::method_not_allowed(allow)
}

/// Adds what every answer carries: safe headers, and the trace under which it is logged.
async fn harden(trace: TraceContext, request: Request, next: Next) -> Response {
    let trace_id = trace.trace_id().to_string();
    let (method, began) = (request.method().clone(), Instant::now());
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = Problem::in_trace(next.run(request).await, &trace_id);
    let (route, status) = (route.as_ref().map(MatchedPath::as_str), response.status().as_u16());
    telemetry::answered(method.as_str(), route, status, began.elapsed().as_secs_f64());
    let headers = response.headers_mut();
    let fixed: [(&'static str, &'static str); 3] = [
        ("x-content-type-options", "nosniff"),
        ("referrer-policy", "no-referrer"),
        ("x-frame-options", "DENY"),
    ];
    for (name, value) in fixed {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    if let Ok(trace_id) = HeaderValue::from_str(&trace_id) {
        headers.insert(HeaderName::from_static("x-trace-id"), trace_id);
    }
    response
}

/// A store error as the client may see it; the cause goes to the log.
fn store_problem(error: &StoreError) -> Problem {
    if error.is_transient() {
        warn!(error = %chain(error), "the store did not answer");
        Problem::unavailable(error.retry_after().unwrap_or(RETRY_AFTER_DEFAULT))
    } else {
        error!(error = %chain(error), "the store refused");
        match error {
            // Wrong keys or missing containers are ours to mend, and no fault of the request.
            StoreError::Unauthorized { .. } | StoreError::NotFound { .. } => {
                Problem::unavailable(RETRY_AFTER_DEFAULT)
            }
            _ => Problem::internal(),
        }
    }
}

/// A tag of the bytes themselves: the first eight bytes of their SHA-256.
fn content_etag(content: &[u8]) -> HeaderValue {
    let hex: String = Sha256::digest(content)[..8].iter().map(|b| format!("{b:02x}")).collect();
    // Sixteen hexadecimal digits between quotes are a valid header value.
    HeaderValue::from_str(&format!("\"{hex}\"")).unwrap_or(HeaderValue::from_static("\"\""))
}

/// 304 when the client has this version already (RFC 9110 §13.1.2: weak comparison, lists, `*`).
fn not_modified(headers: &http::HeaderMap, etag: &HeaderValue) -> Option<Response> {
    fn strong(tag: &str) -> &str {
        tag.trim().trim_start_matches("W/")
    }
    let current = etag.to_str().ok()?;
    let known = headers.get_all(http::header::IF_NONE_MATCH).iter().any(|value| {
        value.to_str().is_ok_and(|tags| {
            tags.split(',').any(|tag| tag.trim() == "*" || strong(tag) == strong(current))
        })
    });
    known.then(|| (StatusCode::NOT_MODIFIED, [(http::header::ETAG, etag.clone())]).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entity_tags_are_compared_as_rfc_9110_says() {
        let etag = HeaderValue::from_static("\"a-1\"");
        let asks = |value: &str| {
            let mut headers = http::HeaderMap::new();
            headers.insert(http::header::IF_NONE_MATCH, value.parse().unwrap());
            not_modified(&headers, &etag).is_some()
        };
        assert!(asks("\"a-1\"") && asks("W/\"a-1\"") && asks("\"x\", \"a-1\"") && asks("*"));
        assert!(!asks("\"a-2\"") && !asks("a-1"));
        assert!(not_modified(&http::HeaderMap::new(), &etag).is_none());
    }
}
