//! The change feed on the wire: `GET …/docs` with `A-IM`.

use http::StatusCode;

use super::reply::{Answer, Refusal, Reply};
use super::request::Request;
use super::state::State;
use super::target::Target;
use crate::auth::parse_http_date;
use crate::limits::{DEFAULT_PAGE_ITEMS, MAX_PAGE_ITEMS};
use crate::store::feed::{self, Start};
use crate::store::{Document, query_charge};

/// The wire format in which every change is an envelope.
const ENVELOPE_FORMAT: &str = "2021-09-15";

/// Answers a poll.
pub(super) fn read(state: &State, target: &Target, request: &Request) -> Answer {
    if request.header("a-im").is_some_and(|mode| mode.eq_ignore_ascii_case("Full-Fidelity Feed")) {
        return Err(Refusal::bad(
            "the all versions and deletes mode of the change feed is not supported here",
        ));
    }
    let start = start(request)?;
    let scope = target.scope(request)?;
    let limit = request.max_items().unwrap_or(DEFAULT_PAGE_ITEMS).min(MAX_PAGE_ITEMS);
    let (page, origin) = {
        let store = state.read();
        let container = target.container(&store)?;
        let page = feed::read(container, &scope, start, limit, state.clock.now_ms());
        let origin = match &scope {
            feed::Scope::Partition(key) => target.origin_of(container, key),
            _ => target.origin(container),
        };
        (page, origin)
    };
    let etag = format!("\"{}\"", page.position);
    if page.documents.is_empty() {
        return Ok(Reply::empty(StatusCode::NOT_MODIFIED).header("etag", etag).of(&origin));
    }
    let envelopes =
        request.header("x-ms-cosmos-changefeed-wire-format-version") == Some(ENVELOPE_FORMAT);
    let mut body = format!("{{\"_rid\":\"{}\",\"Documents\":[", origin.rid).into_bytes();
    for (index, document) in page.documents.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        write(document, envelopes, &mut body);
    }
    let count = page.documents.len();
    body.extend_from_slice(format!("],\"_count\":{count}}}").as_bytes());
    let charge = query_charge(count, body.len());
    Ok(Reply::new(StatusCode::OK, body)
        .charge(charge)
        .header("etag", etag)
        .header("x-ms-item-count", count)
        .of(&origin))
}

fn start(request: &Request) -> Result<Start, Refusal> {
    if let Some(etag) = request.header("if-none-match") {
        if etag == "*" {
            return Ok(Start::Now);
        }
        let position = etag.trim_matches('"').parse();
        return position
            .map(Start::After)
            .map_err(|_| Refusal::bad("the change feed position is malformed"));
    }
    match request.header("if-modified-since") {
        None => Ok(Start::Beginning),
        Some(date) => parse_http_date(date)
            .map(|second| Start::Time(u64::try_from(second).unwrap_or(0)))
            .ok_or_else(|| Refusal::bad("the if-modified-since date is malformed")),
    }
}

/// Stored text is an object that ends in its system properties, so one more can follow.
fn write(document: &Document, envelope: bool, out: &mut Vec<u8>) {
    let Document { lsn, ts, .. } = document;
    let text = document.text.read();
    if envelope {
        out.extend_from_slice(b"{\"current\":");
        out.extend_from_slice(&text);
        let metadata = format!(
            ",\"metadata\":{{\"lsn\":{lsn},\"crts\":{ts},\"operationType\":\"replace\"}}}}"
        );
        out.extend_from_slice(metadata.as_bytes());
    } else {
        out.extend_from_slice(&text[..text.len().saturating_sub(1)]);
        out.extend_from_slice(format!(",\"_lsn\":{lsn}}}").as_bytes());
    }
}
