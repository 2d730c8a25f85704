//! The API's answers about dead letters as text for a terminal: everything that is in them. What is
//! said of few entries only stands as `name=value` in the last column.

use serde_json::Value;

use crate::table::{table, text};

/// How many dead letters each source has, how old they are, and why.
pub(super) fn overview(answer: &Value) -> String {
    let mut rows = Vec::new();
    for source in entries(&answer["sources"]) {
        let more = if source["atLeast"] == true { "+" } else { "" };
        let count = format!("{}{more}", text(&source["count"]));
        let age = source["oldestAgeSeconds"].as_i64().map_or("-".to_owned(), |s| format!("{s} s"));
        let groups: Vec<String> = entries(&source["groups"])
            .map(|group| format!("{} {}", text(&group["count"]), text(&group["reason"])))
            .collect();
        let said = source["unavailable"].as_str().map(|why| format!("unavailable: {why}"));
        let since = text(&source["oldestAt"]);
        let why = said.unwrap_or(groups.join(", "));
        rows.push([text(&source["source"]), count, age, since, text(&why.into())]);
    }
    table(["SOURCE", "COUNT", "OLDEST", "SINCE", "REASONS"], &rows)
}

/// A page of dead letters.
pub(super) fn list(answer: &Value) -> String {
    const SAID: [&str; 7] = [
        "sequenceNumber",
        "enqueuedAt",
        "deliveryCount",
        "replays",
        "eventType",
        "orderId",
        "reason",
    ];
    const FURTHER: [&str; 3] = ["deferred", "messageId", "description"];
    let rows = rows(&answer["deadLetters"], SAID, &FURTHER);
    let columns =
        ["NUMBER", "ENQUEUED", "DELIVERIES", "REPLAYS", "EVENT", "ORDER", "REASON", "MORE"];
    with_next(table(columns, &rows), answer)
}

/// One dead letter, with the order and what was done to it before.
pub(super) fn show(answer: &Value) -> String {
    let mut out = String::new();
    let mut line = |name: &str, said: &str| out.push_str(&format!("{name:>16}  {said}\n"));
    let letter = answer.as_object().into_iter().flatten();
    // Members with a shape of their own follow below.
    let shaped = ["properties", "order", "audit", "body"];
    for (name, value) in letter.filter(|(name, _)| !shaped.contains(&name.as_str())) {
        line(name, &text(value));
    }
    for (name, value) in answer["properties"].as_object().into_iter().flatten() {
        line("property", &text(&format!("{name} = {}", text(value)).into()));
    }
    let order = &answer["order"];
    if order.is_object() {
        let [id, overall, customer, total, currency] =
            ["orderId", "overall", "customerId", "totalMinor", "currency"].map(|n| text(&order[n]));
        line("order", &format!("{id} is {overall}, of {customer}, {total} {currency} in all"));
        line("correlation id", &text(&order["correlationId"]));
    }
    for (name, status) in order["status"].as_object().into_iter().flatten() {
        let stage = &order["stage"][name];
        line(name, &format!("{} {}", text(status), members(stage, &names(stage))));
    }
    for name in ["items", "faults", "cancellation"] {
        if !order[name].is_null() {
            line(name, &text(&order[name]));
        }
    }
    for name in ["history", "messages"] {
        for entry in entries(&order[name]) {
            let further = names(entry).into_iter().filter(|name| *name != "at").collect::<Vec<_>>();
            line(name, &format!("{} {}", text(&entry["at"]), members(entry, &further)));
        }
    }
    for entry in entries(&answer["audit"]) {
        let [at, actor, action, outcome] =
            ["at", "actor", "action", "outcome"].map(|name| text(&entry[name]));
        let further = members(entry, &["reason", "detail", "replayedAs", "edited", "finishedBy"]);
        line("audit", &format!("{at} {actor} {action} {outcome} {further}"));
    }
    line("body", &format!("{:#}", answer["body"]));
    out
}

/// What became of each dead letter that was replayed or discarded.
pub(super) fn report(answer: &Value) -> String {
    const SAID: [&str; 4] = ["sequenceNumber", "outcome", "orderId", "part"];
    const FURTHER: [&str; 6] =
        ["detail", "reopened", "faultRemoved", "replayCount", "replayedAs", "messageId"];
    let rows = rows(&answer["results"], SAID, &FURTHER);
    let mut out = table(["NUMBER", "OUTCOME", "ORDER", "PART WAS", "MORE"], &rows);
    let counts = answer["counts"].as_object().into_iter().flatten();
    let counts: Vec<String> = counts.map(|(name, count)| format!("{count} {name}")).collect();
    let [action, source, selected] =
        ["action", "source", "selected"].map(|name| text(&answer[name]));
    let dry = if answer["dryRun"] == true { " (a dry run: nothing was changed)" } else { "" };
    out.push_str(&format!("{action} of {selected} in {source}: {}{dry}\n", counts.join(", ")));
    if answer["more"] == true {
        out.push_str("more fit the selection: run it again\n");
    }
    out
}

/// Who did what.
pub(super) fn audit(answer: &Value) -> String {
    const SAID: [&str; 8] =
        ["at", "actor", "action", "source", "sequenceNumber", "outcome", "count", "reason"];
    const FURTHER: [&str; 8] =
        ["detail", "orderId", "messageId", "replayedAs", "edited", "finishedBy", "traceId", "id"];
    let rows = rows(&answer["entries"], SAID, &FURTHER);
    let columns =
        ["AT", "ACTOR", "ACTION", "SOURCE", "NUMBER", "OUTCOME", "COUNT", "REASON", "MORE"];
    with_next(table(columns, &rows), answer)
}

fn entries(list: &Value) -> impl Iterator<Item = &Value> {
    list.as_array().into_iter().flatten()
}

/// A row per entry: these members, and whichever of the others it has.
fn rows<const N: usize, const M: usize>(
    list: &Value,
    said: [&str; N],
    further: &[&str],
) -> Vec<[String; M]> {
    let row = |entry: &Value| {
        let more = members(entry, further);
        let mut cells = said.iter().map(|name| text(&entry[*name])).chain([more]);
        std::array::from_fn(|_| cells.next().unwrap_or_default())
    };
    entries(list).map(row).collect()
}

/// `name=value` of those members that say something.
fn members(entry: &Value, names: &[&str]) -> String {
    let said = names.iter().filter(|name| {
        let value = &entry[**name];
        !(value.is_null() || *value == false || *value == "")
    });
    said.map(|name| format!("{name}={}", text(&entry[*name]))).collect::<Vec<_>>().join(" ")
}

fn names(object: &Value) -> Vec<&str> {
    object.as_object().into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

fn with_next(mut out: String, answer: &Value) -> String {
    if let Some(next) = answer["next"].as_str() {
        out.push_str(&format!("more: --after {next}\n"));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// Every value somewhere in `answer` is in `shown`, as far as it says something.
    fn all_shown(answer: &Value, shown: &str) {
        match answer {
            Value::Object(members) => members.values().for_each(|value| all_shown(value, shown)),
            Value::Array(entries) => entries.iter().for_each(|value| all_shown(value, shown)),
            Value::Null | Value::Bool(_) => {}
            other => assert!(shown.contains(&text(other)), "{other} in\n{shown}"),
        }
    }

    #[test]
    fn tables_line_up_and_foreign_text_stays_in_its_cell() {
        let answer = json!({"deadLetters": [{"sequenceNumber": 7, "reason": "a\u{1b}[31m\nb"}],
            "next": "7"});
        let shown = list(&answer);
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[0], "NUMBER  ENQUEUED  DELIVERIES  REPLAYS  EVENT  ORDER  REASON    MORE");
        assert_eq!(lines[1], "7       -         -           -        -      -      a [31m b");
        assert_eq!(lines[2], "more: --after 7");
        let overview = overview(&json!({"sources": [{"source": "s", "unavailable": "a\u{1b}b"}]}));
        assert!(overview.contains("unavailable: a b"), "{overview:?}");
    }

    #[test]
    fn whatever_the_api_says_is_shown() {
        let entry = json!({"id": "refused:1", "at": "2026-03-01T10:00:00.000000Z", "actor": "c-m",
            "action": "access", "source": "GET /api/orders", "outcome": "refused", "count": 399,
            "reason": "TICKET-7", "detail": "/problems/forbidden: the role is missing",
            "sequenceNumber": 8, "messageId": "m-1", "orderId": "o-9", "replayedAs": "m-1#r1",
            "finishedBy": "o-2", "traceId": "4bf92f35", "edited": true});
        let page = json!({"entries": [entry], "next": "cursor"});
        let shown = audit(&page);
        all_shown(&page, &shown);
        assert!(shown.contains("COUNT") && shown.contains("edited=true"), "{shown}");
        let page = json!({"source": "s", "deadLetters": [{"sequenceNumber": 7,
            "enqueuedAt": "2026-03-01T10:00:00.000000Z", "deliveryCount": 3, "replays": 2,
            "eventType": "order.created", "orderId": "o-9", "reason": "not-json",
            "description": "expected value", "messageId": "m-1", "deferred": true}]});
        all_shown(&page["deadLetters"], &list(&page));
        assert!(list(&page).contains("deferred=true"));
        let told = json!({"source": "billing-sub", "action": "replay", "dryRun": true,
            "selected": 41, "more": true, "counts": {"would-replay": 41}, "results": [{
                "sequenceNumber": 7, "outcome": "would-replay", "detail": "nothing to do",
                "messageId": "m-1", "orderId": "o-9", "part": "dead-lettered", "reopened": true,
                "faultRemoved": true, "replayedAs": "m-1#r1", "replayCount": 1}]});
        let shown = report(&told);
        all_shown(&told, &shown);
        for said in ["dry run", "reopened=true", "faultRemoved=true", "run it again"] {
            assert!(shown.contains(said), "{said} in\n{shown}");
        }
        let whole = json!({"source": "billing-sub", "target": "billing-sub", "deferred": true,
            "sequenceNumber": 7, "contentType": "application/cloudevents+json", "subject": "o-9",
            "correlationId": "c-1", "bodyEncoding": "json", "replaysMax": 5, "unreadable": "why",
            "properties": {"event_type": "order.created"}, "body": "text", "order": {
                "orderId": "o-9", "overall": "accepted", "customerId": "c-4", "totalMinor": 4_300,
                "currency": "EUR", "correlationId": "c-1", "status": {"billing": "dead-lettered"},
                "stage": {"billing": {"attempt": 3, "error": "asked to fail", "owner": null}},
                "faults": {"billing": "fail"}, "history": [{"at": "t-1", "service": "billing",
                    "what": "failed", "attempt": 3, "note": "n"}],
                "messages": [{"at": "t-2", "notice": "accepted", "subject": "s", "text": "Hello"}]},
            "audit": [{"at": "t-3", "actor": "o-1", "action": "replay", "outcome": "refused",
                "reason": "TICKET-7", "detail": "/problems/locked"}]});
        all_shown(&whole, &show(&whole));
        let places = json!({"sources": [{"source": "s", "count": 3, "atLeast": true,
            "oldestAt": "2026-03-01T10:00:00.000000Z", "oldestAgeSeconds": 61,
            "groups": [{"reason": "not-json", "count": 3}]}]});
        all_shown(&places, &overview(&places));
    }
}
