//! `GET /healthz` says that the process lives, `GET /readyz` that it can accept orders. They are
//! told apart because restarting a process does not mend a store that is down.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use serde_json::{Value, json};

use super::{RETRY_AFTER_DEFAULT, Shared};
use crate::problem::Problem;

/// How long the store may take to show that it is there.
const READY_WITHIN: Duration = Duration::from_secs(2);

/// The process lives.
pub(super) async fn healthz() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// The store answers.
pub(super) async fn readyz(State(api): Shared) -> Result<Json<Value>, Problem> {
    match tokio::time::timeout(READY_WITHIN, api.store.ping()).await {
        Ok(Ok(())) => Ok(Json(json!({ "status": "ready" }))),
        Ok(Err(error)) => Err(super::store_problem(&error)),
        Err(_) => Err(Problem::unavailable(RETRY_AFTER_DEFAULT)),
    }
}
