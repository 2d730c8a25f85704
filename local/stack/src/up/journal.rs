//! What the processes printed lately, as records that can be looked through: the source of the
//! portal's log page and of `stack logs`. Bounded; the oldest go first.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::lines;

/// Records that are kept, some 500 bytes each.
const RECORDS_MAX: usize = 5_000;

/// Records of one answer at most.
const PAGE_MAX: usize = 1_000;

/// Records of one answer unless asked for otherwise.
const PAGE_DEFAULT: usize = 200;

/// Characters of one text; a longer one is cut.
const TEXT_CHARS_MAX: usize = 4_096;

/// One line of a process.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// Counts up from 1.
    seq: u64,
    /// RFC 3339, UTC.
    at: String,
    /// Who printed it.
    app: String,
    /// `error`, `warn`, `info`, or `debug`.
    level: &'static str,
    message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    order_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    /// What else the line says.
    #[serde(skip_serializing_if = "Map::is_empty")]
    fields: Map<String, Value>,
}

/// What is looked for.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Filter {
    /// Only records after this one.
    after: Option<u64>,
    /// The newest so many of those that fit.
    limit: Option<usize>,
    app: Option<String>,
    /// This level and what is worse.
    level: Option<String>,
    /// An order id.
    order: Option<String>,
    /// Any text: in the message, a field, or an id.
    text: Option<String>,
}

/// The records of a run.
#[derive(Debug, Default)]
pub(crate) struct Journal(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    records: VecDeque<Record>,
    seq: u64,
}

impl Journal {
    /// Takes a line in, unless it is routine.
    pub(crate) fn note(&self, app: &str, line: &str, now: &str) {
        let Some(record) = record(app, line, now) else { return };
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        kept.seq += 1;
        let seq = kept.seq;
        if kept.records.len() == RECORDS_MAX {
            kept.records.pop_front();
        }
        kept.records.push_back(Record { seq, ..record });
    }

    /// The newest records that fit, oldest first, and the number of the newest of all.
    pub(crate) fn find(&self, filter: &Filter) -> (Vec<Record>, u64) {
        let kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let limit = filter.limit.unwrap_or(PAGE_DEFAULT).min(PAGE_MAX);
        let fits = |record: &&Record| filter.takes(record);
        let mut found: Vec<Record> =
            kept.records.iter().rev().filter(fits).take(limit).cloned().collect();
        found.reverse();
        (found, kept.seq)
    }
}

impl Filter {
    fn takes(&self, record: &Record) -> bool {
        let is = |wanted: &Option<String>, value: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted.is_empty() || wanted == value)
        };
        let order = record.order_id.as_deref().unwrap_or_default();
        let worst = self.level.as_deref().map_or(usize::MAX, gravity);
        self.after.is_none_or(|after| record.seq > after)
            && is(&self.app, &record.app)
            && is(&self.order, order)
            && gravity(record.level) <= worst
            && self.text.as_deref().is_none_or(|text| says(record, text))
    }
}

/// 0 is the worst.
fn gravity(level: &str) -> usize {
    ["error", "warn", "info"].iter().position(|known| *known == level).unwrap_or(usize::MAX)
}

fn says(record: &Record, text: &str) -> bool {
    let has = |value: &str| value.contains(text);
    let ids = [&record.order_id, &record.correlation_id, &record.trace_id];
    has(&record.message)
        || ids.into_iter().flatten().any(|id| has(id))
        || record.fields.values().any(|value| match value {
            Value::String(value) => has(value),
            other => has(&other.to_string()),
        })
}

/// A line as a record; nothing if it is routine.
fn record(app: &str, line: &str, now: &str) -> Option<Record> {
    let cut = |text: &str| text.chars().take(TEXT_CHARS_MAX).collect::<String>();
    if let Ok(Value::Object(mut members)) = serde_json::from_str(line)
        && let Some(Value::String(message)) = members.remove("message")
    {
        let level = match members.remove("level").as_ref().and_then(Value::as_str) {
            Some("ERROR") => "error",
            Some("WARN") => "warn",
            Some("DEBUG" | "TRACE") => "debug",
            _ => "info",
        };
        let at = members.remove("timestamp");
        let at = at.as_ref().and_then(Value::as_str).unwrap_or(now).to_owned();
        members.remove("target");
        let spans = [members.remove("span"), members.remove("spans")];
        let around: Vec<&Map<String, Value>> = spans
            .iter()
            .flatten()
            .flat_map(|value| match value {
                Value::Array(list) => list.iter().filter_map(Value::as_object).collect(),
                value => value.as_object().into_iter().collect::<Vec<_>>(),
            })
            .collect();
        let mut id = |names: &[&str]| {
            let own = names.iter().find_map(|name| members.remove(*name));
            let own = own.as_ref().and_then(Value::as_str).map(str::to_owned);
            own.or_else(|| {
                let found = around.iter().rev().flat_map(|span| names.iter().map(|n| span.get(*n)));
                found.flatten().find_map(Value::as_str).map(str::to_owned)
            })
        };
        return Some(Record {
            seq: 0,
            order_id: id(&["order.id", "subject"]),
            correlation_id: id(&["correlation_id"]),
            trace_id: id(&["trace_id"]),
            at,
            app: app.to_owned(),
            level,
            message: cut(&message),
            fields: members,
        });
    }
    let text = lines::render(line, false)?;
    let level = match text.split_once(':') {
        Some(("error", _)) => "error",
        Some(("warning", _)) => "warn",
        _ => "info",
    };
    Some(Record {
        seq: 0,
        at: now.to_owned(),
        app: app.to_owned(),
        level,
        message: cut(&text),
        order_id: None,
        correlation_id: None,
        trace_id: None,
        fields: Map::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = r#"{"timestamp":"2026-11-21T07:17:47Z","level":"WARN","message":"attempt failed",
        "attempt":2,"target":"t","span":{"name":"invocation","subject":"o-1","trace_id":"4bf9"},
        "spans":[{"name":"invocation","subject":"o-1","correlation_id":"c-1"}]}"#;

    fn filter(query: &[(&str, &str)]) -> Filter {
        let pairs: Vec<String> =
            query.iter().map(|(name, value)| format!("{name}={value}")).collect();
        axum::extract::Query::try_from_uri(&format!("/?{}", pairs.join("&")).parse().unwrap())
            .map(|axum::extract::Query(filter)| filter)
            .unwrap()
    }

    #[test]
    fn a_line_is_found_by_its_order_its_level_and_what_it_says() {
        let journal = Journal::default();
        journal.note("billing", &LINE.replace('\n', ""), "now");
        journal.note("billing", "Executing 'Functions.charge' (Id=1)", "now");
        journal.note("bus", "error: the port is taken", "now");
        let count = |query: &[(&str, &str)]| journal.find(&filter(query)).0.len();
        let (all, newest) = journal.find(&Filter::default());
        assert_eq!((all.len(), newest), (2, 2));
        let shown = serde_json::to_value(&all[0]).unwrap();
        assert_eq!(shown["orderId"], "o-1");
        assert_eq!(shown["correlationId"], "c-1");
        assert_eq!(shown["fields"], serde_json::json!({"attempt": 2}));
        assert_eq!(count(&[("order", "o-1")]), 1);
        assert_eq!(count(&[("level", "error")]), 1);
        assert_eq!(count(&[("level", "warn")]), 2);
        assert_eq!(count(&[("app", "bus"), ("order", "o-1")]), 0);
        assert_eq!(count(&[("text", "4bf9")]), 1);
        assert_eq!(count(&[("after", "1")]), 1);
    }

    #[test]
    fn the_oldest_records_go_first() {
        let journal = Journal::default();
        for _ in 0..=RECORDS_MAX {
            journal.note("a", "something", "now");
        }
        let (page, newest) = journal.find(&filter(&[("limit", "1000000")]));
        assert_eq!(page.len(), PAGE_MAX);
        assert_eq!(newest, RECORDS_MAX as u64 + 1);
        assert_eq!(page.last().unwrap().seq, newest);
    }
}
