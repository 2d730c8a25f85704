//! The account, databases, containers, partition key ranges and throughput offers.

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};

use super::query;
use super::reply::{Answer, Origin, Refusal, Reply};
use super::request::Request;
use super::state::State;
use super::target::Target;
use crate::limits::DEFAULT_THROUGHPUT;
use crate::store::{Container, ContainerRid, Database, epk_to_hex};

/// `GET /`. Endpoints are those under which the client reached us, whatever we are bound to.
pub(super) fn account(state: &State, request: &Request) -> Answer {
    let endpoint = format!("{}://{}/", state.scheme, request.authority);
    let location = json!([{"name": "Local", "databaseAccountEndpoint": endpoint}]);
    let replication =
        json!({"minReplicaSetSize": 1, "maxReplicasetSize": 1, "asyncReplication": false});
    Ok(Reply::json(
        StatusCode::OK,
        &json!({
            "_self": "",
            "id": "localhost",
            "_rid": "localhost",
            "media": "//media/",
            "addresses": "//addresses/",
            "_dbs": "//dbs/",
            "writableLocations": location,
            "readableLocations": location,
            "enableMultipleWriteLocations": false,
            "continuousBackupEnabled": false,
            "enableNRegionSynchronousCommit": false,
            "enablePerPartitionFailoverBehavior": false,
            "userReplicationPolicy": replication,
            "systemReplicationPolicy": replication,
            "userConsistencyPolicy": {"defaultConsistencyLevel": "Session"},
            "readPolicy": {"primaryReadCoefficient": 1, "secondaryReadCoefficient": 1},
            "queryEngineConfiguration": "{}",
        }),
    ))
}

/// `/dbs`
pub(super) fn databases(state: &State, request: &Request) -> Answer {
    match request.method {
        Method::GET => {
            let all: Vec<_> = state.read().databases().map(database_json).collect();
            Ok(listing("", "Databases", &all))
        }
        Method::POST if is_query(request) => {
            let all = state.read().databases().map(database_json).collect();
            Ok(listing("", "Databases", &query::over(&query::parse(request)?, all)?))
        }
        Method::POST => {
            let id = crate::store::resource_id(&object(request)?)?;
            let mut store = state.write();
            let database = store.create_database(&id, state.clock.now_ms())?;
            let etag = etag(database.version);
            Ok(Reply::json(StatusCode::CREATED, &database_json(database)).header("etag", etag))
        }
        _ => Err(unknown()),
    }
}

/// `/dbs/{database}`
pub(super) fn database(state: &State, request: &Request, name: &str) -> Answer {
    match request.method {
        Method::GET => {
            let store = state.read();
            let database = store.database(name).map_err(missing)?;
            let etag = etag(database.version);
            Ok(Reply::json(StatusCode::OK, &database_json(database)).header("etag", etag))
        }
        Method::DELETE => {
            state.write().drop_database(name, state.clock.now_ms()).map_err(missing)?;
            Ok(Reply::empty(StatusCode::NO_CONTENT))
        }
        _ => Err(unknown()),
    }
}

/// `/dbs/{database}/colls`
pub(super) fn containers(state: &State, request: &Request, database: &str) -> Answer {
    let all = |query: Option<crate::sql::Query>| {
        let store = state.read();
        let database = store.database(database)?;
        let mut all: Vec<_> = store.containers(database.rid).map(container_json).collect();
        if let Some(query) = query {
            all = query::over(&query, all)?;
        }
        Ok(listing(&database.rid.text(), "DocumentCollections", &all))
    };
    match request.method {
        Method::GET => all(None),
        Method::POST if is_query(request) => all(Some(query::parse(request)?)),
        Method::POST => {
            let declared = object(request)?;
            let mut store = state.write();
            let database_id = store.database(database)?.id.clone();
            let now_ms = state.clock.now_ms();
            let rid = store.create_container(database, &declared, now_ms)?.rid();
            if let Some(content) = offered(request) {
                store.put_offer(rid, content, now_ms)?;
            }
            let container = store.container_at(rid)?;
            let origin = Origin::new(&database_id, container, state.ranges);
            let etag = etag(container.version);
            Ok(Reply::json(StatusCode::CREATED, &container_json(container))
                .header("etag", etag)
                .of(&origin))
        }
        _ => Err(unknown()),
    }
}

/// `/dbs/{database}/colls/{container}`
pub(super) fn container(state: &State, request: &Request, database: &str, name: &str) -> Answer {
    let found = |container: &Container, database: &str| {
        let progress = "x-ms-documentdb-collection-index-transformation-progress";
        Reply::json(StatusCode::OK, &container_json(container))
            .header("etag", etag(container.version))
            .header(progress, 100)
            .of(&Origin::new(database, container, state.ranges))
    };
    match request.method {
        Method::GET => {
            let store = state.read();
            let container = store.container(database, name).map_err(missing)?;
            Ok(found(container, &store.database(database)?.id))
        }
        Method::PUT => {
            let declared = object(request)?;
            let mut store = state.write();
            let database_id = store.database(database).map_err(missing)?.id.clone();
            let now_ms = state.clock.now_ms();
            let container =
                store.replace_container(database, name, &declared, now_ms).map_err(missing)?;
            Ok(found(container, &database_id))
        }
        Method::DELETE => {
            let mut store = state.write();
            store.drop_container(database, name, state.clock.now_ms()).map_err(missing)?;
            Ok(Reply::empty(StatusCode::NO_CONTENT))
        }
        _ => Err(unknown()),
    }
}

/// `/dbs/{database}/colls/{container}/pkranges`
pub(super) fn ranges(target: &Target, request: &Request) -> Answer {
    // The set of ranges never changes. Clients ask again until they hear so.
    let etag = "\"1\"";
    if request.header("if-none-match").is_some_and(|known| known.trim_matches('"') == "1") {
        return Ok(Reply::empty(StatusCode::NOT_MODIFIED).header("etag", etag).of(&target.origin));
    }
    let container = &target.origin.rid;
    let database = target.rid.0.text();
    let range = |index: u16| {
        let rid = target.rid.range(u64::from(index) + 1);
        let (min, max) = target.ranges.bounds(index);
        json!({
            "id": index.to_string(),
            "_rid": rid,
            "_self": format!("dbs/{database}/colls/{container}/pkranges/{rid}/"),
            "_etag": etag,
            "_ts": 0,
            "minInclusive": epk_to_hex(&min),
            "maxExclusive": epk_to_hex(&max),
            "ridPrefix": index,
            "throughputFraction": 1.0 / f64::from(target.ranges.count()),
            "status": "online",
            "parents": [],
            "lsn": target.origin.lsn,
        })
    };
    let all: Vec<_> = (0..target.ranges.count()).map(range).collect();
    let reply = listing(container, "PartitionKeyRanges", &all);
    Ok(reply.header("etag", etag).of(&target.origin))
}

/// `/offers` and `/offers/{id}`
pub(super) fn offers(state: &State, request: &Request, id: Option<&str>) -> Answer {
    let all = || {
        let store = state.read();
        store
            .all_containers()
            .map(|c| offer_json(c.rid(), store.offer(c.rid())))
            .collect::<Vec<_>>()
    };
    match (&request.method, id) {
        (&Method::GET, None) => Ok(listing("", "Offers", &all())),
        (&Method::POST, None) if is_query(request) => {
            Ok(listing("", "Offers", &query::over(&query::parse(request)?, all())?))
        }
        (&Method::GET | &Method::PUT, Some(id)) => {
            let known = all().into_iter().find(|offer| offer["id"] == id || offer["_rid"] == id);
            let mut offer = known.ok_or_else(Refusal::not_found)?;
            if request.method == Method::PUT {
                let content = object(request)?.remove("content").unwrap_or(Value::Null);
                offer["content"] = content.clone();
                let mut store = state.write();
                let all = store.all_containers().map(Container::rid);
                let rid = all.into_iter().find(|rid| offer["offerResourceId"] == rid.text());
                let rid = rid.ok_or_else(Refusal::not_found)?;
                store.put_offer(rid, content, state.clock.now_ms())?;
            }
            Ok(Reply::json(StatusCode::OK, &offer))
        }
        _ => Err(unknown()),
    }
}

/// Whether a POST asks instead of creating.
pub(super) fn is_query(request: &Request) -> bool {
    request.flag("x-ms-documentdb-isquery")
        || request.flag("x-ms-documentdb-query")
        || request.header("content-type").is_some_and(|kind| kind.starts_with("application/query"))
}

/// A missing resource that was addressed itself, not through something inside it.
fn missing(error: crate::store::StoreError) -> Refusal {
    let mut refusal = Refusal::from(error);
    if refusal.substatus == 1003 {
        refusal.substatus = 0;
    }
    refusal
}

fn unknown() -> Refusal {
    Refusal::new(StatusCode::METHOD_NOT_ALLOWED, 0, "the method is not supported on this resource")
}

fn object(request: &Request) -> Result<Map<String, Value>, Refusal> {
    serde_json::from_str(request.text()?)
        .map_err(|error| Refusal::bad(format!("the body must be a JSON object: {error}")))
}

fn etag(version: u64) -> String {
    format!("\"{version:08x}-0000-0000-0000-000000000000\"")
}

fn listing(rid: &str, name: &str, all: &[Value]) -> Reply {
    let count = all.len();
    Reply::json(StatusCode::OK, &json!({"_rid": rid, name: all, "_count": count}))
        .header("x-ms-item-count", count)
}

fn database_json(database: &Database) -> Value {
    let rid = database.rid.text();
    json!({
        "id": database.id,
        "_rid": rid,
        "_self": format!("dbs/{rid}/"),
        "_etag": etag(database.version),
        "_ts": database.created_at_ms / 1000,
        "_colls": "colls/",
        "_users": "users/",
    })
}

fn container_json(container: &Container) -> Value {
    let rid = container.rid().text();
    let mut body = container.settings().properties.clone();
    for (name, value) in [
        ("_rid", Value::from(rid.as_str())),
        ("_self", format!("dbs/{}/colls/{rid}/", container.rid().0.text()).into()),
        ("_etag", etag(container.version).into()),
        ("_ts", (container.changed_at_ms / 1000).into()),
        ("_docs", "docs/".into()),
        ("_sprocs", "sprocs/".into()),
        ("_triggers", "triggers/".into()),
        ("_udfs", "udfs/".into()),
        ("_conflicts", "conflicts/".into()),
    ] {
        body.insert(name.to_owned(), value);
    }
    Value::Object(body)
}

/// The throughput that a create request asks for.
fn offered(request: &Request) -> Option<Value> {
    if let Some(throughput) = request.header("x-ms-offer-throughput") {
        return throughput.parse::<u64>().ok().map(|units| json!({"offerThroughput": units}));
    }
    let autoscale = request.header("x-ms-cosmos-offer-autopilot-settings")?;
    let settings: Value = serde_json::from_str(autoscale).ok()?;
    let throughput = settings["maxThroughput"].as_u64()? / 10;
    Some(json!({"offerThroughput": throughput, "offerAutopilotSettings": settings}))
}

fn offer_json(container: ContainerRid, content: Option<&Value>) -> Value {
    let rid = container.text();
    let default = json!({"offerThroughput": DEFAULT_THROUGHPUT});
    json!({
        "id": rid,
        "_rid": rid,
        "_self": format!("offers/{rid}/"),
        "_etag": etag(1),
        "_ts": 0,
        "resource": format!("dbs/{}/colls/{rid}/", container.0.text()),
        "offerResourceId": rid,
        "offerType": "Invalid",
        "offerVersion": "V2",
        "content": content.unwrap_or(&default),
    })
}
