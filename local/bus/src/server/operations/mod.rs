//! A small HTTP endpoint for whoever runs the broker: counts, metrics, health, and faults for
//! tests. It speaks to people and scrapers on this machine, not to clients of Service Bus.
//!
//! | request | answer |
//! | --- | --- |
//! | `GET /healthz` | 200, or 503 once the journal cannot be written |
//! | `GET /status` | counts of every entity, JSON |
//! | `GET /metrics` | the same in the text format of Prometheus, and how long the journal takes |
//! | `GET`, `PUT`, `DELETE /faults` | what goes wrong on purpose; 404 unless that is allowed |

pub(super) mod faults;
mod metrics;

use std::io;
use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::hub::Hub;
use crate::limits::FAULTS_BODY_BYTES_MAX;
use faults::FaultRule;

/// Serves until `shutdown`.
pub(super) async fn serve(
    listener: TcpListener,
    hub: Arc<Hub>,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let router = Router::new()
        .route("/healthz", get(health))
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .route("/faults", get(faults).put(set_faults).delete(clear_faults))
        .layer(DefaultBodyLimit::max(FAULTS_BODY_BYTES_MAX))
        .with_state(hub);
    let stop = async move { shutdown.cancelled().await };
    axum::serve(listener, router).with_graceful_shutdown(stop).await
}

async fn health(State(hub): State<Arc<Hub>>) -> Response {
    match hub.failure() {
        None => Json(serde_json::json!({ "status": "healthy" })).into_response(),
        Some(failed) => {
            let body = serde_json::json!({ "status": "unhealthy", "message": failed.to_string() });
            (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
        }
    }
}

async fn status(State(hub): State<Arc<Hub>>) -> Response {
    Json(hub.status()).into_response()
}

async fn metrics(State(hub): State<Arc<Hub>>) -> Response {
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (content_type, metrics::text(&hub.status(), hub.write_times())).into_response()
}

fn not_allowed() -> Response {
    let text = "Faults are not allowed; start with --faults.";
    (StatusCode::NOT_FOUND, Json(serde_json::json!({ "error": text }))).into_response()
}

async fn faults(State(hub): State<Arc<Hub>>) -> Response {
    match &hub.faults {
        Some(faults) => Json(faults.rules()).into_response(),
        None => not_allowed(),
    }
}

async fn set_faults(State(hub): State<Arc<Hub>>, Json(rules): Json<Vec<FaultRule>>) -> Response {
    match &hub.faults {
        Some(faults) => match faults.set(rules) {
            Ok(()) => StatusCode::NO_CONTENT.into_response(),
            Err(error) => {
                let body = serde_json::json!({ "error": error.to_string() });
                (StatusCode::BAD_REQUEST, Json(body)).into_response()
            }
        },
        None => not_allowed(),
    }
}

async fn clear_faults(State(hub): State<Arc<Hub>>) -> Response {
    match &hub.faults {
        Some(faults) => match faults.set(Vec::new()) {
            Ok(()) | Err(_) => StatusCode::NO_CONTENT.into_response(),
        },
        None => not_allowed(),
    }
}
