//! What the real service does not have: health, metrics, a look into containers, faults on order.
//!
//! Open to whoever reaches the port, which is bound to this machine.

use std::sync::Arc;

use http::{Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::query;
use super::reply::{Answer, Refusal, Reply};
use super::request::Request;
use super::state::State;
use crate::sql::Query;
use crate::store::feed::Scope;
use crate::store::query::Plan;

/// Items in a page of the explorer unless it asks for fewer.
const EXPLORER_PAGE_ITEMS: usize = 100;

/// Whether a path is one of these; they need no signature.
pub(super) fn is_admin(segments: &[&str]) -> bool {
    matches!(segments, ["healthz" | "metrics"] | ["admin", ..])
}

/// Answers.
pub(super) async fn answer(state: &State, request: &Request) -> Answer {
    let segments: Vec<&str> = request.segments.iter().map(String::as_str).collect();
    match (&request.method, segments.as_slice()) {
        (&Method::GET, ["healthz"]) => Ok(Reply::json(StatusCode::OK, &json!({"status": "ok"}))),
        (&Method::GET, ["metrics"]) => {
            let log = state.compactor.as_ref().map(|compactor| compactor.stats());
            let text = state.metrics.text(&state.read(), log);
            let kind = "text/plain; version=0.0.4";
            Ok(Reply::new(StatusCode::OK, text).header("content-type", kind))
        }
        (&Method::GET, ["admin", "state"]) => Ok(overview(state)),
        (&Method::GET, ["admin", "dbs", database, "colls", container, "docs"]) => {
            items(state, request, database, container).await
        }
        (_, ["admin", "faults"]) => faults(state, request),
        _ => Err(Refusal::not_found()),
    }
}

/// `GET /admin/state`: every container with what it holds and what it cost.
fn overview(state: &State) -> Reply {
    let store = state.read();
    let container = |container: &crate::store::Container| {
        let used = state.metrics.of(container.rid());
        let settings = container.settings();
        json!({
            "id": settings.id,
            "partitionKey": settings.properties.get("partitionKey"),
            "defaultTtl": settings.default_ttl,
            "items": container.len(),
            "lsn": container.lsn(),
            "requests": used.requests,
            "requestUnits": (used.request_units * 100.0).round() / 100.0,
            "throttled": used.throttled,
            "throughput": store.offer(container.rid()),
        })
    };
    let databases: Vec<_> = store
        .databases()
        .map(|database| {
            let containers: Vec<_> = store.containers(database.rid).map(container).collect();
            json!({"id": database.id, "containers": containers})
        })
        .collect();
    let log = state.compactor.as_ref().map(|compactor| {
        let log = compactor.stats();
        json!({"bytes": log.bytes, "liveBytes": log.live_bytes, "files": log.files})
    });
    Reply::json(StatusCode::OK, &json!({"databases": databases, "log": log}))
}

/// `GET /admin/dbs/{database}/colls/{container}/docs?query=…&max=…&continuation=…`
async fn items(state: &State, request: &Request, database: &str, container: &str) -> Answer {
    let option = |name: &str| {
        let pairs = request.query.as_deref().unwrap_or_default().split('&');
        let found = pairs.filter_map(|pair| pair.split_once('=')).find(|(known, _)| *known == name);
        found.map(|(_, value)| {
            let spaces = value.replace('+', " ");
            percent_decode_str(&spaces).decode_utf8_lossy().into_owned()
        })
    };
    let text = option("query").unwrap_or_else(|| "SELECT * FROM c ORDER BY c._ts DESC".to_owned());
    let max = option("max").and_then(|max| max.parse().ok()).unwrap_or(EXPLORER_PAGE_ITEMS);
    let parsed = Query::parse(&text, &Map::new())?;
    let (rid, plan, default_ttl) = {
        let store = state.read();
        let container = store.container(database, container)?;
        let continuation = option("continuation");
        let plan = Plan::new(Arc::new(parsed), Scope::All, continuation.as_deref(), container)?;
        (container.rid(), plan, container.settings().default_ttl)
    };
    let run = plan.run(Some(max.clamp(1, EXPLORER_PAGE_ITEMS)), state.clock.now_ms(), default_ttl);
    let page = query::complete(state, rid, run).await?;
    let charge = crate::store::query_charge(page.examined, page.results.len());
    let continuation = page.continuation.map_or(Value::Null, Value::from);
    let mut body = b"{\"items\":[".to_vec();
    body.extend_from_slice(&page.results);
    let rest = format!("],\"continuation\":{continuation},\"requestCharge\":{charge}}}");
    body.extend_from_slice(rest.as_bytes());
    let sequence = state.read().sequence();
    Ok(Reply::new(StatusCode::OK, body).charge(0.0).after(sequence))
}

/// `GET`, `PUT`, `DELETE /admin/faults`
fn faults(state: &State, request: &Request) -> Answer {
    let faults = state.faults.as_ref().ok_or_else(|| {
        Refusal::new(StatusCode::NOT_FOUND, 0, "the service was started without --faults")
    })?;
    match request.method {
        Method::GET => {}
        Method::DELETE => faults.set(Vec::new())?,
        Method::PUT => faults.set(
            serde_json::from_str(request.text()?)
                .map_err(|error| Refusal::bad(format!("the rules are malformed: {error}")))?,
        )?,
        _ => return Err(Refusal::not_found()),
    }
    Ok(Reply::json(StatusCode::OK, &json!(faults.rules())))
}
