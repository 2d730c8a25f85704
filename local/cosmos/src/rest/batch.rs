//! Transactional batches, and the bulk requests that look like them.
//!
//! <https://learn.microsoft.com/azure/cosmos-db/transactional-batch>. A batch is one partition, all
//! or nothing; a bulk request is a bundle of unrelated operations.

use http::StatusCode;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::items;
use super::reply::{Answer, Refusal, Reply};
use super::request::Request;
use super::state::State;
use super::target::Target;
use crate::limits::{MAX_BATCH_BYTES, MAX_BATCH_OPERATIONS};
use crate::store::{
    Action, ItemBody, Operation, Outcome, OutcomeKind, PartitionKey, Patch, StoreError,
};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire<'a> {
    operation_type: String,
    id: Option<String>,
    #[serde(borrow)]
    resource_body: Option<&'a RawValue>,
    if_match: Option<String>,
    if_none_match: Option<String>,
    /// Bulk requests only.
    partition_key: Option<String>,
}

/// `POST …/docs` with the batch header.
pub(super) fn run(state: &State, target: &Target, request: &Request) -> Answer {
    if request.body.len() > MAX_BATCH_BYTES {
        return Err(
            StoreError::TooLarge { actual: request.body.len(), limit: MAX_BATCH_BYTES }.into()
        );
    }
    let wire: Vec<Wire<'_>> = serde_json::from_str(request.text()?)
        .map_err(|error| Refusal::bad(format!("the batch is malformed: {error}")))?;
    if wire.is_empty() || wire.len() > MAX_BATCH_OPERATIONS {
        return Err(Refusal::bad("a batch must have 1 to 100 operations"));
    }
    match request.flag("x-ms-cosmos-batch-atomic") {
        true => atomic(state, target, request, wire),
        false => bulk(state, target, request, wire),
    }
}

fn atomic(state: &State, target: &Target, request: &Request, wire: Vec<Wire<'_>>) -> Answer {
    let key = target.key(request)?;
    let total = wire.len();
    let operations =
        wire.into_iter().map(|wire| operation(wire, target)).collect::<Result<Vec<_>, _>>()?;
    let minimal = request.wants_minimal();
    let (result, origin) = {
        let mut store = state.write();
        let result = store.execute(target.rid, &key, &operations, state.clock.now_ms());
        (result, target.origin_of(target.container(&store)?, &key))
    };
    let mut charge = 0.0;
    let (status, results) = match result {
        Ok(outcomes) => {
            let results = outcomes.iter().map(|outcome| {
                charge += outcome.charge;
                succeeded(outcome, minimal)
            });
            (StatusCode::OK, results.collect::<Vec<_>>())
        }
        Err(failure) if concerns_all(&failure.error) => return Err(failure.error.into()),
        Err(failure) => {
            charge = 1.0;
            let refusal = Refusal::from(failure.error);
            let results = (0..total).map(|index| match index == failure.index {
                true => failed(refusal.status, refusal.substatus),
                false => failed(StatusCode::FAILED_DEPENDENCY, 0),
            });
            (StatusCode::MULTI_STATUS, results.collect())
        }
    };
    Ok(Reply::new(status, format!("[{}]", results.join(","))).charge(charge).of(&origin))
}

/// These refuse the request, not an operation in it.
fn concerns_all(error: &StoreError) -> bool {
    matches!(
        error,
        StoreError::PartitionKeyMismatch
            | StoreError::ContainerMissing
            | StoreError::DatabaseMissing
            | StoreError::LogUnavailable
    )
}

fn bulk(state: &State, target: &Target, request: &Request, wire: Vec<Wire<'_>>) -> Answer {
    let proceed = request.flag("x-ms-cosmos-batch-continue-on-error");
    let minimal = request.wants_minimal();
    let (mut results, mut charge, mut all_well) = (Vec::with_capacity(wire.len()), 0.0, true);
    for wire in wire {
        if !all_well && !proceed {
            results.push(failed(StatusCode::FAILED_DEPENDENCY, 0));
            continue;
        }
        let outcome = bulk_operation(state, target, request, wire);
        results.push(match outcome {
            Ok(outcome) => {
                charge += outcome.charge;
                succeeded(&outcome, minimal)
            }
            Err(refusal) => {
                all_well = false;
                charge += 1.0;
                failed(refusal.status, refusal.substatus)
            }
        });
    }
    let status = if all_well { StatusCode::OK } else { StatusCode::MULTI_STATUS };
    let origin = target.origin(target.container(&state.read())?);
    Ok(Reply::new(status, format!("[{}]", results.join(","))).charge(charge).of(&origin))
}

fn bulk_operation(
    state: &State,
    target: &Target,
    request: &Request,
    wire: Wire<'_>,
) -> Result<Outcome, Refusal> {
    let key = match &wire.partition_key {
        Some(key) => PartitionKey::parse(key)?,
        None => target.key(request)?,
    };
    if target.range.is_some() && target.range_of(&key).is_some_and(|own| Some(own) != target.range)
    {
        let message = "the partition key does not lie in the partition key range";
        return Err(Refusal::new(StatusCode::GONE, 1002, message));
    }
    let operation = operation(wire, target)?;
    let mut store = state.write();
    let outcomes =
        store.execute(target.rid, &key, std::slice::from_ref(&operation), state.clock.now_ms());
    let outcomes = outcomes.map_err(|failure| failure.error)?;
    outcomes.into_iter().next().ok_or_else(Refusal::not_found)
}

fn operation(wire: Wire<'_>, target: &Target) -> Result<Operation, Refusal> {
    let id = || wire.id.clone().ok_or_else(|| Refusal::bad("the operation needs an id"));
    let text = || {
        let body = wire.resource_body.ok_or_else(|| Refusal::bad("the operation needs a body"))?;
        Ok::<_, Refusal>(body.get())
    };
    let action = match wire.operation_type.to_ascii_lowercase().as_str() {
        "create" => Action::Create(ItemBody::parse(text()?)?),
        "upsert" => Action::Upsert(ItemBody::parse(text()?)?),
        "replace" => {
            let body = ItemBody::parse(text()?)?;
            Action::Replace { id: wire.id.clone().unwrap_or_else(|| body.id.clone()), body }
        }
        "read" => Action::Read { id: id()? },
        "delete" => Action::Delete { id: id()? },
        "patch" => {
            Action::Patch { id: id()?, patch: Patch::parse(text()?, &target.partition_key.paths)? }
        }
        other => return Err(Refusal::bad(format!("unknown operation type '{other}'"))),
    };
    Ok(Operation { action, if_match: wire.if_match, if_none_match: wire.if_none_match })
}

fn succeeded(outcome: &Outcome, minimal: bool) -> String {
    let (status, charge) = (items::status(outcome).as_u16(), outcome.charge);
    let mut text = format!("{{\"statusCode\":{status},\"requestCharge\":{charge}");
    if let Some(document) = &outcome.document {
        text.push_str(",\"eTag\":");
        text.push_str(&serde_json::Value::from(document.etag()).to_string());
        // What was asked for is never left out.
        if !minimal || outcome.kind == OutcomeKind::Read {
            text.push_str(",\"resourceBody\":");
            text.push_str(&String::from_utf8_lossy(&document.text.read()));
        }
    }
    text.push('}');
    text
}

fn failed(status: StatusCode, substatus: u32) -> String {
    let status = status.as_u16();
    match substatus {
        0 => format!("{{\"statusCode\":{status},\"requestCharge\":0.0}}"),
        _ => format!(
            "{{\"statusCode\":{status},\"subStatusCode\":{substatus},\"requestCharge\":0.0}}"
        ),
    }
}
