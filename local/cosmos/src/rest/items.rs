//! Point operations on items: create, read, replace, upsert, patch, delete.

use http::{Method, StatusCode};

use super::reply::{Answer, Refusal, Reply};
use super::request::Request;
use super::state::State;
use super::target::Target;
use crate::store::{
    self, Action, ItemBody, Operation, Outcome, OutcomeKind, PartitionKey, Patch, item_number,
};

/// `POST …/docs` that is neither a query nor a batch.
pub(super) fn create(state: &State, target: &Target, request: &Request) -> Answer {
    let key = target.key(request)?;
    let body = ItemBody::parse(request.text()?)?;
    let action = match request.flag("x-ms-documentdb-is-upsert") {
        true => Action::Upsert(body),
        false => Action::Create(body),
    };
    write(state, target, request, &key, action)
}

/// Everything on `…/docs/{id}`.
pub(super) fn point(state: &State, target: &Target, request: &Request, id: &str) -> Answer {
    let key = target.key(request)?;
    let id = resolve(state, target, &key, id)?;
    let action = match request.method {
        Method::GET => return read(state, target, request, &key, &id),
        Method::PUT => Action::Replace { id, body: ItemBody::parse(request.text()?)? },
        Method::DELETE => Action::Delete { id },
        Method::PATCH => {
            Action::Patch { id, patch: Patch::parse(request.text()?, &target.partition_key.paths)? }
        }
        _ => return Err(Refusal::new(StatusCode::METHOD_NOT_ALLOWED, 0, "unknown operation")),
    };
    write(state, target, request, &key, action)
}

/// Items may be addressed by resource id too. Ids win.
fn resolve(
    state: &State,
    target: &Target,
    key: &PartitionKey,
    id: &str,
) -> Result<String, Refusal> {
    let now_ms = state.clock.now_ms();
    let store = state.read();
    let container = target.container(&store)?;
    if container.get(key, id, now_ms).is_some() {
        return Ok(id.to_owned());
    }
    let by_number = item_number(id)
        .filter(|number| container.rid().item(*number) == id)
        .and_then(|number| container.get_by_number(number, now_ms));
    Ok(by_number.map_or_else(|| id.to_owned(), |document| document.id.to_string()))
}

fn read(state: &State, target: &Target, request: &Request, key: &PartitionKey, id: &str) -> Answer {
    let (document, origin) = {
        let store = state.read();
        let container = target.container(&store)?;
        let document = container.get(key, id, state.clock.now_ms()).cloned();
        (document, target.origin_of(container, key))
    };
    let document = document.ok_or(store::StoreError::ItemMissing)?;
    let unchanged = request.header("if-none-match").is_some_and(|etag| document.matches(etag));
    let (status, body) = match unchanged {
        true => (StatusCode::NOT_MODIFIED, bytes::Bytes::new()),
        false => (StatusCode::OK, document.text.read()),
    };
    Ok(Reply::new(status, body)
        .charge(store::read_charge(document.text.len()))
        .header("etag", document.etag())
        .header("x-ms-item-lsn", document.lsn)
        .of(&origin)
        .after(document.sequence))
}

fn write(
    state: &State,
    target: &Target,
    request: &Request,
    key: &PartitionKey,
    action: Action,
) -> Answer {
    let operation = Operation {
        action,
        if_match: request.header("if-match").map(str::to_owned),
        if_none_match: request.header("if-none-match").map(str::to_owned),
    };
    let (outcome, origin) = {
        let mut store = state.write();
        let outcomes = store
            .execute(target.rid, key, std::slice::from_ref(&operation), state.clock.now_ms())
            .map_err(|failure| failure.error)?;
        (outcomes, target.origin_of(target.container(&store)?, key))
    };
    let outcome = outcome.into_iter().next().ok_or_else(Refusal::not_found)?;
    let mut reply = Reply::empty(status(&outcome)).charge(outcome.charge);
    if let Some(document) = &outcome.document {
        reply = reply.header("etag", document.etag()).header("x-ms-item-lsn", document.lsn);
        if !request.wants_minimal() {
            reply.body = document.text.read();
        }
    }
    Ok(reply.of(&origin))
}

/// The status that tells what happened.
pub(super) fn status(outcome: &Outcome) -> StatusCode {
    match outcome.kind {
        OutcomeKind::Created => StatusCode::CREATED,
        OutcomeKind::Replaced | OutcomeKind::Read => StatusCode::OK,
        OutcomeKind::NotModified => StatusCode::NOT_MODIFIED,
        OutcomeKind::Deleted => StatusCode::NO_CONTENT,
    }
}
