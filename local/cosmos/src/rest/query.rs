//! Queries over items, the query plan, and plain feeds of items.

use std::ops::ControlFlow;
use std::sync::Arc;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::reply::{Answer, Origin, Refusal, Reply};
use super::request::Request;
use super::state::State;
use super::target::Target;
use crate::limits::{MAX_INLINE_SCAN_DOCUMENTS, MAX_QUERY_BYTES};
use crate::sql::ast::Projection;
use crate::sql::eval;
use crate::sql::watch::Watch;
use crate::sql::{self, Query};
use crate::store::feed::Scope;
use crate::store::query::{Fetched, Page, Plan, Run};
use crate::store::{ContainerRid, StoreError};
use crate::store::{epk_to_hex, query_charge};

#[derive(Deserialize)]
struct Wire {
    query: String,
    #[serde(default)]
    parameters: Option<Vec<Parameter>>,
}

#[derive(Deserialize)]
struct Parameter {
    name: String,
    #[serde(default)]
    value: Value,
}

/// Reads the body of a query request.
fn read(request: &Request) -> Result<(String, Map<String, Value>), Refusal> {
    let text = request.text()?;
    // The oldest clients send the bare text.
    let wire = if text.trim_start().starts_with('{') {
        serde_json::from_str(text)
            .map_err(|error| Refusal::bad(format!("the query body is malformed: {error}")))?
    } else {
        Wire { query: text.to_owned(), parameters: None }
    };
    if wire.query.len() > MAX_QUERY_BYTES {
        return Err(Refusal::bad("the query text is too long"));
    }
    let parameters = wire.parameters.into_iter().flatten();
    Ok((wire.query, parameters.map(|p| (p.name, p.value)).collect()))
}

/// Reads the body of a query request as a query.
pub(super) fn parse(request: &Request) -> Result<Query, Refusal> {
    let (text, parameters) = read(request)?;
    Ok(Query::parse(&text, &parameters)?)
}

/// `POST …/docs` as a query.
pub(super) async fn items(state: &State, target: &Target, request: &Request) -> Answer {
    let (text, parameters) = read(request)?;
    let query = Query::parse(&text, &parameters)?;
    check_fan_out(target, request, &target.scope(request)?, &text, &parameters)?;
    run(state, target, request, query).await
}

/// `GET …/docs`: all items.
pub(super) async fn read_feed(state: &State, target: &Target, request: &Request) -> Answer {
    run(state, target, request, Query::parse("SELECT * FROM c", &Map::new())?).await
}

/// The plan of a query. With one range every query can be sent to it as it is.
pub(super) fn plan(target: &Target, request: &Request) -> Answer {
    let (text, parameters) = read(request)?;
    Query::parse(&text, &parameters)?;
    let mut planned = sql::plan::plan("SELECT VALUE c FROM c", &parameters)?;
    planned.info["hasSelectValue"] = false.into();
    if !target.ranges.is_one() {
        planned = sql::plan::plan(&text, &parameters)?;
        let able = request.header("x-ms-cosmos-supported-query-features").unwrap_or_default();
        let able: Vec<_> = able.split(',').map(str::trim).collect();
        if let Some(missing) = planned.needs.iter().find(|need| !able.contains(need)) {
            return Err(Refusal::bad(format!(
                "Query contains 1 or more unsupported features. Upgrade your SDK to a version \
                 that does support the requested features: Query contained {missing}, which the \
                 calling client does not support."
            )));
        }
    }
    let (min, max) = match target.scope(request)? {
        Scope::Range { min, max } => (epk_to_hex(&min), epk_to_hex(&max)),
        Scope::Partition(key) => {
            let key = epk_to_hex(&target.partition_key.partition(key).epk);
            (key.clone(), key)
        }
        Scope::All | Scope::Prefix(_) => (String::new(), "FF".to_owned()),
    };
    let plan = execution_info(&planned.info, &min, &max, min == max);
    Ok(Reply::json(StatusCode::OK, &plan))
}

/// A query over several ranges at once: the service answers it by itself only if the parts can be
/// put one after another.
fn check_fan_out(
    target: &Target,
    request: &Request,
    scope: &Scope,
    text: &str,
    parameters: &Map<String, Value>,
) -> Result<(), Refusal> {
    if target.ranges.is_one() || *scope != Scope::All {
        return Ok(());
    }
    if !request.flag("x-ms-documentdb-query-enablecrosspartition") {
        return Err(Refusal::bad(
            "Cross partition query is required but disabled. Please set \
             x-ms-documentdb-query-enablecrosspartition to true, specify \
             x-ms-documentdb-partitionkey, or revise your query to avoid this exception.",
        ));
    }
    let planned = sql::plan::plan(text, parameters)?;
    if planned.is_simple() {
        return Ok(());
    }
    let mut refusal = Refusal::new(
        StatusCode::BAD_REQUEST,
        1004,
        "The provided cross partition query can not be directly served by the gateway.",
    );
    // Clients take it from here, or ask for a plan once they see this.
    refusal.additional = Some(execution_info(&planned.info, "", "FF", false).to_string());
    Err(refusal)
}

/// The answer to a request for a plan.
fn execution_info(info: &Value, min: &str, max: &str, single: bool) -> Value {
    json!({
        "partitionedQueryExecutionInfoVersion": 2,
        "queryInfo": info,
        "queryRanges": [
            {"min": min, "max": max, "isMinInclusive": true, "isMaxInclusive": single},
        ],
        "hybridSearchQueryInfo": null,
    })
}

/// Evaluates a query over resources that are not items, such as databases.
///
/// # Errors
/// 400 when a limit of evaluation is exceeded, or for what only queries over items know.
pub(super) fn over(query: &Query, resources: Vec<Value>) -> Result<Vec<Value>, Refusal> {
    let select = &query.select;
    if query.is_grouped()
        || select.distinct
        || !select.order_by.is_empty()
        || !select.sources.is_empty()
    {
        return Err(Refusal::bad(
            "a query over databases, containers or offers knows no JOIN, DISTINCT, GROUP BY, \
             ORDER BY and no aggregates",
        ));
    }
    let watch = Watch::default();
    let matching = resources.into_iter().filter_map(|resource| {
        watch.next_row();
        let row = eval::Scope::of(Some(&resource), &watch);
        let filter = query.select.filter.as_ref();
        if filter.is_some_and(|filter| !eval::is_true(filter, &row)) {
            return None;
        }
        match &query.select.projection {
            Projection::Star => Some(resource),
            projection => eval::project(projection, &row),
        }
    });
    let limit = query.top.unwrap_or(usize::MAX).min(query.limit.unwrap_or(usize::MAX));
    let found = matching.skip(query.offset).take(limit).collect();
    watch.verdict().map_err(StoreError::from)?;
    Ok(found)
}

async fn run(state: &State, target: &Target, request: &Request, query: Query) -> Answer {
    let scope = target.scope(request)?;
    let scope_of_answer = scope.clone();
    let now_ms = state.clock.now_ms();
    let plan = {
        let store = state.read();
        let continuation = request.header("x-ms-continuation");
        Plan::new(Arc::new(query), scope, continuation, target.container(&store)?)?
    };
    let run = plan.run(request.max_items(), now_ms, target.default_ttl);
    let finished = complete(state, target.rid, run).await?;
    let origin = match &scope_of_answer {
        Scope::Partition(key) => target.origin_of(target.container(&state.read())?, key),
        _ => target.origin(target.container(&state.read())?),
    };
    Ok(page(finished, &origin))
}

/// Carries a run to the end of its page.
pub(super) async fn complete(state: &State, rid: ContainerRid, run: Run) -> Result<Page, Refusal> {
    let mut run = run.holding_at_most(state.max_held_bytes);
    loop {
        let fetched = {
            let store = state.read();
            run.fetch(store.container_at(rid)?)
        };
        let candidates = match fetched {
            Fetched::Candidates(candidates) => candidates,
            // Not there yet, or other queries have pushed it out meanwhile.
            Fetched::IndexMissing(shape) => {
                state.write().prepare(rid, &shape);
                continue;
            }
        };
        let flow = if candidates.len() <= MAX_INLINE_SCAN_DOCUMENTS {
            run.evaluate(&candidates)
        } else {
            // Long scans must not hold up the connections that share this thread.
            let evaluated = tokio::task::spawn_blocking(move || {
                let flow = run.evaluate(&candidates);
                (run, flow)
            });
            let flow;
            (run, flow) = evaluated.await.map_err(|_| {
                Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, 0, "the query was abandoned")
            })?;
            flow
        };
        if flow == ControlFlow::Break(()) {
            break;
        }
    }
    Ok(run.finish()?)
}

fn page(page: Page, origin: &Origin) -> Reply {
    let mut body = Vec::with_capacity(page.results.len() + 64);
    body.extend_from_slice(format!("{{\"_rid\":\"{}\",\"Documents\":[", origin.rid).as_bytes());
    body.extend_from_slice(&page.results);
    body.extend_from_slice(format!("],\"_count\":{}}}", page.count).as_bytes());
    let charge = query_charge(page.examined, body.len());
    let mut reply = Reply::new(StatusCode::OK, body)
        .charge(charge)
        .header("x-ms-item-count", page.count)
        .of(origin);
    if let Some(continuation) = page.continuation {
        reply = reply.header("x-ms-continuation", continuation);
    }
    reply
}
