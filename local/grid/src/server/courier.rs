//! Requests to subscribers: the two handshakes and the delivery.
//!
//! Handshake: <https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/http-webhook.md#4-abuse-protection>;
//! headers: <https://learn.microsoft.com/azure/event-grid/delivery-properties>.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderName, ORIGIN};
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::{Instant, timeout_at};
use uuid::Uuid;

use super::storage;
use crate::event::{Event, Schema};
use crate::limits;
use crate::store::Ticket;
use crate::store::outcome::Outcome;
use crate::topology::StorageQueue;

/// Who asks; what Azure calls itself.
const SENDER: &str = "eventgrid.azure.net";

const REQUEST_ORIGIN: HeaderName = HeaderName::from_static("webhook-request-origin");
const ALLOWED_ORIGIN: HeaderName = HeaderName::from_static("webhook-allowed-origin");

/// Speaks to subscribers. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Courier {
    http: Client<HttpConnector, Full<Bytes>>,
    answer_within: Duration,
    /// Where consent can be given later.
    address: SocketAddr,
}

impl Courier {
    pub(super) fn new(time_scale: u32, address: SocketAddr) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let mut builder = Client::builder(TokioExecutor::new());
        builder.pool_max_idle_per_host(limits::IN_FLIGHT_MAX);
        let scaled = limits::ANSWER_WITHIN / time_scale.max(1);
        let answer_within = scaled.max(limits::ANSWER_WITHIN_MIN);
        Self { http: builder.build(connector), answer_within, address }
    }

    /// Asks an endpoint whether it wants events, as the schema has it. At `callback` it, or a
    /// person, can agree later.
    pub(super) async fn shake_hands(
        &self,
        ticket: &Ticket,
        endpoint: &str,
        schema: Schema,
        code: &str,
        now_ms: u64,
    ) -> bool {
        let (topic, name) = (&ticket.topic, &ticket.subscription);
        let callback = format!(
            "http://{}/admin/topics/{topic}/subscriptions/{name}/validate?code={code}",
            self.address
        );
        match schema {
            Schema::CloudEvents => self.ask_for_origin(endpoint, &callback).await,
            Schema::EventGrid => self.send_code(ticket, endpoint, code, &callback, now_ms).await,
        }
    }

    /// <https://learn.microsoft.com/azure/event-grid/end-point-validation-event-grid-events-schema>
    async fn send_code(
        &self,
        ticket: &Ticket,
        endpoint: &str,
        code: &str,
        callback: &str,
        now_ms: u64,
    ) -> bool {
        let event = json!([{
            "id": Uuid::new_v4(),
            "topic": format!("/{}", ticket.topic),
            "subject": "",
            "data": { "validationCode": code, "validationUrl": callback },
            "eventType": "Microsoft.EventGrid.SubscriptionValidationEvent",
            "eventTime": date(now_ms),
            "metadataVersion": "1",
            "dataVersion": "2",
        }]);
        let request = Request::builder()
            .method(Method::POST)
            .uri(endpoint)
            .header(CONTENT_TYPE, "application/json; charset=utf-8")
            .header("aeg-event-type", "SubscriptionValidation")
            .header("aeg-subscription-name", ticket.subscription.to_ascii_uppercase())
            .body(Full::from(event.to_string()));
        let Ok(request) = request else { return false };
        let deadline = Instant::now() + self.answer_within;
        let Ok(Ok(response)) = timeout_at(deadline, self.http.request(request)).await else {
            return false;
        };
        // 202 promises to agree at the callback.
        let status = response.status();
        let body = Limited::new(response.into_body(), limits::ANSWER_BYTES_MAX).collect();
        let Ok(Ok(body)) = timeout_at(deadline, body).await else { return false };
        let answer: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or_default();
        let given = answer.get("validationResponse").and_then(Value::as_str);
        status == StatusCode::OK && given == Some(code)
    }

    async fn ask_for_origin(&self, endpoint: &str, callback: &str) -> bool {
        let request = Request::builder()
            .method(Method::OPTIONS)
            .uri(endpoint)
            .header(REQUEST_ORIGIN, SENDER)
            .header("webhook-request-callback", callback)
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
        (event, schema): (&Event, Schema),
        attempts: u32,
    ) -> Outcome {
        let body = event.delivered_as(schema);
        let (media_type, body) = match (event.schema, schema) {
            (Schema::EventGrid, Schema::EventGrid) => {
                ("application/json; charset=utf-8", [b"[", &*body, b"]"].concat().into())
            }
            _ => ("application/cloudevents+json; charset=utf-8", body),
        };
        let request = Request::builder()
            .method(Method::POST)
            .uri(endpoint)
            .header(CONTENT_TYPE, media_type)
            .header(ORIGIN, SENDER)
            .header("aeg-event-type", "Notification")
            // Upper case, as the service writes it.
            .header("aeg-subscription-name", ticket.subscription.to_ascii_uppercase())
            .header("aeg-delivery-count", attempts)
            .header("aeg-metadata-version", "1")
            .body(Full::new(body));
        // The endpoint was checked when it was declared.
        let Ok(request) = request else { return Outcome::Unreachable };
        self.attempt(endpoint, request).await
    }

    /// Puts an event into a queue, in Base64, as queue triggers want it.
    pub(super) async fn put(
        &self,
        endpoint: &str,
        queue: &StorageQueue,
        (event, schema): (&Event, Schema),
        now_ms: u64,
    ) -> Outcome {
        let Ok(request) = storage::put(endpoint, queue, &event.delivered_as(schema), now_ms) else {
            return Outcome::Unreachable;
        };
        self.attempt(endpoint, request).await
    }

    async fn attempt(&self, endpoint: &str, request: Request<Full<Bytes>>) -> Outcome {
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

fn date(ms: u64) -> Option<String> {
    let nanos = i128::from(ms) * 1_000_000;
    OffsetDateTime::from_unix_timestamp_nanos(nanos).ok()?.format(&Rfc3339).ok()
}
