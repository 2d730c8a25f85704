//! Queries over items, the query plan, and plain feeds of items.

use std::ops::ControlFlow;
use std::sync::Arc;

use http::StatusCode;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::reply::{Answer, Origin, Refusal, Reply};
use super::request::Request;
use super::state::{State, Target};
use crate::limits::{MAX_INLINE_SCAN_DOCUMENTS, MAX_QUERY_BYTES};
use crate::sql::Query;
use crate::sql::ast::Projection;
use crate::sql::eval;
use crate::store::query::{Page, Plan};
use crate::store::query_charge;

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
pub(super) fn parse(request: &Request) -> Result<Query, Refusal> {
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
    let parameters: Map<String, Value> = parameters.map(|p| (p.name, p.value)).collect();
    Ok(Query::parse(&wire.query, &parameters)?)
}

/// `POST …/docs` as a query.
pub(super) async fn items(state: &State, target: &Target, request: &Request) -> Answer {
    run(state, target, request, parse(request)?).await
}

/// `GET …/docs`: all items.
pub(super) async fn read_feed(state: &State, target: &Target, request: &Request) -> Answer {
    run(state, target, request, Query::parse("SELECT * FROM c", &Map::new())?).await
}

/// The plan of a query. There is one range, so every query can be sent to it as it is.
pub(super) fn plan(request: &Request) -> Answer {
    parse(request)?;
    let plan = json!({
        "partitionedQueryExecutionInfoVersion": 2,
        "queryInfo": {
            "distinctType": "None",
            "top": null,
            "offset": null,
            "limit": null,
            "orderBy": [],
            "orderByExpressions": [],
            "groupByExpressions": [],
            "groupByAliases": [],
            "aggregates": [],
            "groupByAliasToAggregateType": {},
            "rewrittenQuery": "",
            "hasSelectValue": false,
            "hasNonStreamingOrderBy": false,
            "dCountInfo": null,
        },
        "queryRanges": [
            {"min": "", "max": "FF", "isMinInclusive": true, "isMaxInclusive": false},
        ],
        "hybridSearchQueryInfo": null,
    });
    Ok(Reply::json(StatusCode::OK, &plan))
}

/// Evaluates a query over resources that are not items, such as databases.
pub(super) fn over(query: &Query, resources: Vec<Value>) -> Vec<Value> {
    let matching = resources.into_iter().filter_map(|resource| {
        let row = eval::Scope { slots: vec![Some(&resource)], aggregates: &[] };
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
    matching.skip(query.offset).take(limit).collect()
}

async fn run(state: &State, target: &Target, request: &Request, query: Query) -> Answer {
    let scope = target.scope(request)?;
    let now_ms = state.clock.now_ms();
    let (plan, unprepared) = {
        let store = state.read();
        let container = target.container(&store)?;
        let continuation = request.header("x-ms-continuation");
        let plan = Plan::new(Arc::new(query), scope, continuation, container)?;
        let unprepared = plan.needs_preparation(container);
        (plan, unprepared)
    };
    if unprepared {
        state.write().prepare(target.rid, &plan);
    }
    let mut run = plan.run(request.max_items(), now_ms, target.default_ttl);
    loop {
        let candidates = {
            let store = state.read();
            run.fetch(target.container(&store)?)
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
    let origin = Origin::new(&target.database, target.container(&state.read())?);
    Ok(page(run.finish(), &origin))
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
