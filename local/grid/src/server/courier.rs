//! Requests to subscribers: the handshake and the delivery.
//!
//! Handshake: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md#4-abuse-protection>;
//! headers: <https://learn.microsoft.com/azure/event-grid/delivery-properties>.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, ORIGIN};
use http::{Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::time::{Instant, timeout_at};

use crate::limits;
use crate::store::Ticket;
use crate::store::outcome::Outcome;

/// Who asks; what Azure calls itself.
const SENDER: &str = "eventgrid.azure.net";

const REQUEST_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");
const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");

/// Speaks to subscribers. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Courier {
    http: Client<HttpConnector, Full<Bytes>>,
    answer_within: Duration,
}

impl Courier {
    pub(super) fn new(time_scale: u32) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_max_idle_per_host(limits::IN_FLIGHT_MAX);
        let scaled = limits::ANSWER_WITHIN / time_scale.max(1);
        let answer_within = scaled.max(limits::ANSWER_WITHIN_MIN);
        Self { http: builder.build(connector), answer_within }
    }

    /// Asks an endpoint whether it wants events.
    pub(super) async fn shake_hands(&self, endpoint: &str) -> bool {
        let request = Request::builder()
            .method(Method::OPTIONS)
            .uri(endpoint)
            .header(REQUEST_ORIGIN, SENDER)
            .body(Full::default());
        let Ok(request) = request else { return false };
        let deadline = Instant::now() + self.answer_within;
        let Ok(Ok(response)) = timeout_at(deadline, self.http.request(request)).await else {
            return false;
        };
        // A status alone is no consent: many servers answer OPTIONS of their own accord.
        let allowed = response.headers().get(ALLOWED_ORIGIN).and_then(|value| value.to_str().ok());
        let allows = |allowed: &str| allowed == "*" || allowed.eq_ignore_ascii_case(SENDER);
        response.status().is_success() && allowed.is_some_and(allows)
    }

    /// Delivers an event; `attempts` were made before.
    pub(super) async fn deliver(
        &self,
        ticket: &Ticket,
        endpoint: &str,
        body: Bytes,
        attempts: u32,
    ) -> Outcome {
        let request = Request::builder()
            .method(Method::POST)
            .uri(endpoint)
            .header(CONTENT_TYPE, "application/cloudevents+json; charset=utf-8")
            .header(ORIGIN, SENDER)
            .header("aeg-event-type", "Notification")
            // Upper case, as the service writes it.
            .header("aeg-subscription-name", ticket.subscription.to_ascii_uppercase())
            .header("aeg-delivery-count", attempts)
            .header("aeg-metadata-version", "1")
            .body(Full::new(body));
        // The endpoint was checked when it was declared.
        let Ok(request) = request else { return Outcome::Unreachable };
        let deadline = Instant::now() + self.answer_within;
        let response = match timeout_at(deadline, self.http.request(request)).await {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => {
                tracing::debug!(endpoint, error = %error, "subscriber not reached");
                return Outcome::Unreachable;
            }
            Err(_) => return Outcome::TimedOut,
        };
        let status = response.status().as_u16();
        // Read for the sake of the connection alone: the status has said it all.
        let rest = Limited::new(response.into_body(), limits::ANSWER_BYTES_MAX).collect();
        let _ = timeout_at(deadline, rest).await;
        Outcome::Status(status)
    }
}
