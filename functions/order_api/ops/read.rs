//! Looking: how many dead letters there are and why, pages of them, one with everything about it,
//! and the audit trail. Nothing here locks, moves or counts a message.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderValue;
use http::header::CACHE_CONTROL;
use orders::replay::REPLAYS_MAX;
use orders::{FieldError, OrderId, Timestamp};
use serde::Serialize;
use serde_json::{Map, Value};

use super::super::view::OrderView;
use super::super::{Shared, store_problem};
use super::letter::Letter;
use super::request::Wanted;
use super::shelf::{Look, SCAN_MAX, ShelfError};
use super::source::Source;
use super::{Ops, shelf_problem};
use crate::problem::{Kind, Problem};
use crate::store::audit::AuditEntry;

/// Dead letters of one page unless the client asks for another number.
const PAGE_LETTERS_DEFAULT: usize = 50;

/// Dead letters of one page at most: one peek of the broker.
const PAGE_LETTERS_MAX: usize = 200;

/// Lines of one page of the audit trail unless the client asks for another number.
const PAGE_ENTRIES_DEFAULT: usize = 50;

/// Lines of one page of the audit trail at most.
const PAGE_ENTRIES_MAX: usize = 200;

/// Reasons that are told apart in one place. Reasons are few words of ours and the broker's, but a
/// foreign sender could make up a new one each time.
const GROUPS_MAX: usize = 50;

/// Characters of a continuation.
const CONTINUATION_CHARS_MAX: usize = 512;

type Parameters = Result<Query<BTreeMap<String, String>>, axum::extract::rejection::QueryRejection>;

/// How things stand at one source.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Standing {
    source: &'static str,
    /// How many there are, or have been looked at.
    count: u64,
    /// Whether there are more than that.
    at_least: bool,
    /// When the oldest message was enqueued.
    oldest_at: Option<Timestamp>,
    /// Seconds since then.
    oldest_age_seconds: Option<i64>,
    /// How many for which reason, most first.
    groups: Vec<Group>,
    /// Why nothing is known, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    unavailable: Option<String>,
}

#[derive(Debug, Serialize)]
struct Group {
    reason: Option<String>,
    count: u64,
}

/// All sources side by side. One that does not answer says so and hides no other.
pub(super) async fn overview(State(api): Shared) -> Response {
    let ops = &api.ops;
    let looks =
        Source::ALL.map(|source| async move { (source, api_look(ops, source, 0, SCAN_MAX).await) });
    let sources: Vec<Standing> =
        futures::future::join_all(looks).await.into_iter().map(standing).collect();
    fresh(Json(serde_json::json!({ "sources": sources })))
}

async fn api_look(ops: &Ops, source: Source, from: i64, max: usize) -> Result<Look, ShelfError> {
    ops.shelf(source).look(from, max).await
}

fn standing((source, look): (Source, Result<Look, ShelfError>)) -> Standing {
    let (look, unavailable) = match look {
        Ok(look) => (look, None),
        Err(error) => {
            let text = shelf_problem(&error).summary();
            (Look::default(), Some(text))
        }
    };
    let mut counts: BTreeMap<Option<String>, u64> = BTreeMap::new();
    for letter in &look.letters {
        *counts.entry(letter.reason.clone()).or_default() += 1;
    }
    let groups = counts.into_iter().map(|(reason, count)| Group { reason, count });
    let mut groups: Vec<_> = groups.collect();
    groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    groups.truncate(GROUPS_MAX);
    let oldest_at = look.letters.iter().filter_map(|letter| letter.enqueued_at).min();
    let now = crate::clock::now().epoch_ms();
    let seen = u64::try_from(look.letters.len()).unwrap_or(u64::MAX);
    Standing {
        source: source.name(),
        count: look.total.unwrap_or(seen),
        at_least: look.more && look.total.is_none(),
        oldest_at,
        oldest_age_seconds: oldest_at.map(|at| (now - at.epoch_ms()).max(0) / 1_000),
        groups,
        unavailable,
    }
}

/// A dead letter as a line of a list.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    source: &'static str,
    sequence_number: i64,
    message_id: String,
    event_type: Option<String>,
    order_id: Option<OrderId>,
    reason: Option<String>,
    description: Option<String>,
    delivery_count: u32,
    enqueued_at: Option<Timestamp>,
    /// How often this message has been replayed.
    replays: u32,
    /// Put aside by some other tool; it can be replayed and discarded like the others.
    deferred: bool,
}

impl Line {
    fn new(source: Source, letter: &Letter) -> Self {
        let event_type = letter.text("event_type").map(str::to_owned);
        Self {
            source: source.name(),
            sequence_number: letter.number,
            message_id: letter.message_id().to_owned(),
            event_type,
            order_id: letter.order_id(),
            reason: letter.reason.clone(),
            description: letter.description.clone(),
            delivery_count: letter.delivery_count,
            enqueued_at: letter.enqueued_at,
            replays: letter.lineage().replays,
            deferred: letter.deferred,
        }
    }
}

/// A page of dead letters.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Page {
    source: &'static str,
    dead_letters: Vec<Line>,
    /// Where the next page begins; null on the last one.
    next: Option<String>,
}

/// Dead letters of one source by sequence number, oldest first.
pub(super) async fn list(
    State(api): Shared,
    Path(source): Path<String>,
    query: Parameters,
) -> Result<Response, Problem> {
    let source = Source::parse(&source)?;
    let known = ["after", "reason"];
    let wanted = parse(query, &known, PAGE_LETTERS_DEFAULT, PAGE_LETTERS_MAX)?;
    let from = match wanted.after.as_deref().map(str::parse::<i64>) {
        None => 0,
        Some(Ok(after)) if (0..i64::MAX).contains(&after) => after + 1,
        Some(_) => return Err(unknown_continuation()),
    };
    // With a filter the page is looked for; without one it is simply the next.
    let max = if wanted.reason.is_some() { SCAN_MAX } else { wanted.limit };
    let look = api_look(&api.ops, source, from, max).await;
    let look = look.map_err(|error| shelf_problem(&error))?;
    let last_seen = look.letters.last().map(|letter| letter.number);
    let fits = |letter: &&Letter| match &wanted.reason {
        Some(reason) => letter.reason.as_deref().unwrap_or_default() == reason,
        None => true,
    };
    let mut found: Vec<&Letter> = look.letters.iter().filter(fits).collect();
    let beyond = found.len() > wanted.limit;
    found.truncate(wanted.limit);
    let next = match beyond {
        true => found.last().map(|letter| letter.number),
        // The poison queue shows its front only: there is no next page to ask for.
        false => last_seen.filter(|_| look.more && source != Source::Poison),
    };
    Ok(fresh(Json(Page {
        source: source.name(),
        dead_letters: found.into_iter().map(|letter| Line::new(source, letter)).collect(),
        next: next.map(|number| number.to_string()),
    })))
}

/// A dead letter with everything about it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Whole {
    #[serde(flatten)]
    line: Line,
    replays_max: u32,
    /// Whom a replay is for.
    target: &'static str,
    content_type: Option<String>,
    subject: Option<String>,
    correlation_id: Option<String>,
    properties: Map<String, Value>,
    body: Value,
    /// `json`, `text`, or `base64`.
    body_encoding: &'static str,
    /// What its consumer would say to the body; null if it can be read.
    unreadable: Option<String>,
    /// The order as it is now; null if there is none.
    order: Option<OrderView>,
    /// What was done about it so far, newest first.
    audit: Vec<AuditLine>,
}

/// One dead letter, and the order beside it.
pub(super) async fn one(
    State(api): Shared,
    Path((source, number)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let source = Source::parse(&source)?;
    let number = number.parse::<i64>().ok().filter(|number| *number >= 0);
    let number =
        number.ok_or_else(|| Problem::not_found("A sequence number is a whole number."))?;
    let found = api.ops.shelf(source).find(number).await.map_err(|error| shelf_problem(&error))?;
    let letter = found.ok_or_else(gone)?;
    let order_id = letter.order_id();
    let order = async {
        match order_id {
            Some(order_id) => api.store.read(order_id).await,
            None => Ok(None),
        }
    };
    let entries = api.ops.audit.of_letter(source.name(), number);
    let (order, entries) =
        tokio::try_join!(order, entries).map_err(|error| store_problem(&error))?;
    let (body, body_encoding) = letter.body();
    Ok(fresh(Json(Whole {
        line: Line::new(source, &letter),
        replays_max: REPLAYS_MAX,
        target: source.target(),
        content_type: letter.message.content_type.clone(),
        subject: letter.message.subject.clone(),
        correlation_id: letter.message.correlation_id.clone(),
        properties: letter.properties(),
        unreadable: letter.event().err().map(|trouble| trouble.text().to_owned()),
        body,
        body_encoding,
        order: order.map(|document| OrderView::whole(document.value)),
        audit: lines(entries),
    })))
}

/// The dead letter is not there (any more).
pub(super) fn gone() -> Problem {
    Problem::new(Kind::GONE, "The dead letter is not there.")
        .detail("It was replayed, discarded, or never here; the audit trail tells.")
}

/// A line of the audit trail as clients see it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AuditLine {
    id: String,
    day: String,
    at: Timestamp,
    actor: String,
    action: crate::store::audit::Deed,
    source: String,
    sequence_number: Option<i64>,
    message_id: Option<String>,
    order_id: Option<String>,
    reason: String,
    outcome: crate::store::audit::Outcome,
    detail: Option<String>,
    replayed_as: Option<String>,
    edited: bool,
    finished_by: Option<String>,
    count: Option<u64>,
    trace_id: Option<String>,
}

impl From<AuditEntry> for AuditLine {
    fn from(entry: AuditEntry) -> Self {
        Self {
            id: entry.id,
            day: entry.day,
            at: entry.at,
            actor: entry.actor,
            action: entry.action,
            source: entry.source,
            sequence_number: entry.sequence_number,
            message_id: entry.message_id,
            order_id: entry.order_id,
            reason: entry.reason,
            outcome: entry.outcome,
            detail: entry.detail,
            replayed_as: entry.replayed_as,
            edited: entry.edited,
            finished_by: entry.finished_by,
            count: entry.count,
            trace_id: entry.trace_id,
        }
    }
}

/// The audit trail, newest first.
pub(super) async fn audit(State(api): Shared, query: Parameters) -> Result<Response, Problem> {
    let wanted = parse(query, &["after"], PAGE_ENTRIES_DEFAULT, PAGE_ENTRIES_MAX)?;
    let after = match &wanted.after {
        None => None,
        Some(text) => Some(sort_key(text).ok_or_else(unknown_continuation)?),
    };
    let entries = api.ops.audit.newest(wanted.limit, after.as_deref()).await;
    let entries = entries.map_err(|error| store_problem(&error))?;
    // A full page may have a successor; a short one is the last.
    let next = (entries.len() == wanted.limit)
        .then(|| entries.last().map(|entry| URL_SAFE_NO_PAD.encode(&entry.sort_key)))
        .flatten();
    Ok(fresh(Json(serde_json::json!({ "entries": lines(entries), "next": next }))))
}

/// Entries as clients see them, at this moment.
fn lines(entries: Vec<AuditEntry>) -> Vec<AuditLine> {
    let now = crate::clock::now();
    entries.into_iter().map(|entry| AuditLine::from(entry.as_told(now))).collect()
}

fn sort_key(continuation: &str) -> Option<String> {
    if continuation.len() > CONTINUATION_CHARS_MAX {
        return None;
    }
    let key = String::from_utf8(URL_SAFE_NO_PAD.decode(continuation).ok()?).ok()?;
    let (at, _) = key.split_once('~')?;
    Timestamp::parse(at).is_ok().then_some(key)
}

fn parse(
    query: Parameters,
    known: &[&str],
    limit_default: usize,
    limit_max: usize,
) -> Result<Wanted, Problem> {
    let Query(parameters) = query.map_err(|_| {
        Problem::invalid_query(vec![FieldError::new("", "malformed", "is no query string")])
    })?;
    Wanted::parse(&parameters, known, limit_default, limit_max).map_err(Problem::invalid_query)
}

fn unknown_continuation() -> Problem {
    let detail = "must be the `next` of an earlier page";
    Problem::invalid_query(vec![FieldError::new("/after", "unknown_value", detail)])
}

/// An answer about things that change by the second.
pub(in crate::order_api) fn fresh<T: axum::response::IntoResponse>(answer: T) -> Response {
    ([(CACHE_CONTROL, HeaderValue::from_static("no-store"))], answer).into_response()
}
