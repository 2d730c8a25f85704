//! `cargo stack slo`: how a running system keeps its service levels.
//!
//! Completion and correctness are read off the newest orders, over the HTTP API. What the API
//! cannot know, because it sees no request that failed, comes from the metrics: a file with one
//! OTLP `resourceMetrics` document per line, as the `file` exporter of the OpenTelemetry collector
//! writes it. Totals there run since the start of a process, so the last line of each counts.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail};
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use reqwest::{Client, Url};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::output;

/// Orders of one page: the most that the API gives.
const PAGE_ORDERS: usize = 100;

/// How long the API may take for one page.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// Part of the requests to submit an order that must not fail for a reason of ours.
const ACCEPTANCE_PART_MIN: f64 = 0.999;

/// Seconds within which 99 of 100 submissions are answered.
const ACCEPTANCE_P99_S_MAX: f64 = 0.250;

/// Seconds within which most orders come to an end, and the part of them that must.
const SOON_S: f64 = 30.0;
const SOON_PART_MIN: f64 = 0.99;

/// Seconds within which almost all do, and the part of them that must.
const LATE_S: f64 = 300.0;
const LATE_PART_MIN: f64 = 0.999;

/// What `cargo stack slo` takes.
#[derive(Debug, clap::Args)]
pub struct Options {
    /// Where the API is.
    #[arg(long, default_value = "http://127.0.0.1:7071")]
    url: Url,
    /// How many of the newest orders to look at.
    #[arg(long, default_value_t = 1_000)]
    orders: usize,
    /// OTLP metrics, one JSON document per line.
    #[arg(long)]
    metrics: Option<PathBuf>,
    /// A header for every request, e.g. 'authorization: Bearer …'.
    #[arg(long, value_parser = crate::client::header)]
    header: Vec<(HeaderName, HeaderValue)>,
    /// JSON instead of a table.
    #[arg(long)]
    json: bool,
}

/// One service level: what is wanted, and what is.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Indicator {
    /// What is measured.
    pub name: &'static str,
    /// What is wanted, for people.
    pub objective: String,
    /// What is: a part of one, seconds or a number; `None` where nothing is known.
    pub measured: Option<f64>,
    /// The same for people.
    pub shown: String,
    /// Whether that is good enough; `None` where nothing is known.
    pub kept: Option<bool>,
    /// How many requests or orders that is about.
    pub samples: u64,
}

/// An order, as far as the API's list shows it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Seen {
    order_id: String,
    created_at: String,
    overall: String,
    status: BTreeMap<String, String>,
    stage: BTreeMap<String, Stage>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stage {
    updated_at: Option<String>,
    #[serde(default)]
    unwound: bool,
}

#[derive(Debug, Deserialize)]
struct Page {
    orders: Vec<Seen>,
    next: Option<String>,
}

/// Looks, and prints what it finds; whether every level that is known is kept.
///
/// # Errors
/// The API does not answer, or not as expected; the metrics cannot be read.
pub async fn slo(options: &Options) -> anyhow::Result<bool> {
    let orders = recent(options).await?;
    let metrics = match &options.metrics {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("{} cannot be read", path.display()))?;
            Some(Metrics::parse(&text).with_context(|| path.display().to_string())?)
        }
        None => None,
    };
    #[expect(clippy::disallowed_methods, reason = "the shell: what is judged gets the time")]
    let now = OffsetDateTime::now_utc();
    let indicators = judge(&orders, metrics.as_ref(), now);
    if options.json {
        output::line(serde_json::to_string_pretty(&indicators)?);
    } else {
        output::print(Table(&indicators));
    }
    Ok(indicators.iter().all(|indicator| indicator.kept != Some(false)))
}

/// The newest orders.
async fn recent(options: &Options) -> anyhow::Result<Vec<Seen>> {
    let headers: HeaderMap = options.header.iter().cloned().collect();
    let client = Client::builder().timeout(ANSWER_MAX).default_headers(headers).build()?;
    let mut orders = Vec::new();
    let mut after: Option<String> = None;
    while orders.len() < options.orders {
        let mut url = options.url.join("/api/orders")?;
        let limit = PAGE_ORDERS.min(options.orders - orders.len());
        url.query_pairs_mut().append_pair("limit", &limit.to_string());
        if let Some(after) = &after {
            url.query_pairs_mut().append_pair("after", after);
        }
        let response = client.get(url).send().await.context("the API does not answer")?;
        if !response.status().is_success() {
            bail!("the API answered {} to the list of orders", response.status());
        }
        let page: Page = response.json().await.context("the list of orders is unreadable")?;
        orders.extend(page.orders);
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    Ok(orders)
}

/// Every indicator of the orders and, if there are any, the metrics.
fn judge(orders: &[Seen], metrics: Option<&Metrics>, now: OffsetDateTime) -> Vec<Indicator> {
    let submissions = metrics.map(Metrics::submissions).unwrap_or_default();
    let answered = submissions.values().map(|durations| durations.count).sum::<u64>();
    let failed = submissions.iter().filter(|(status, _)| status.starts_with('5'));
    let failed = failed.map(|(_, durations)| durations.count).sum::<u64>();
    let mut all = Durations::default();
    for durations in submissions.values() {
        all.add(durations);
    }
    let incorrect: Vec<&str> = orders
        .iter()
        .filter(|order| !order.is_consistent())
        .map(|order| order.order_id.as_str())
        .collect();
    let mismatches = metrics.map_or(0, |metrics| metrics.count("reconcile.mismatches"));
    let wrong = mismatches + u64::try_from(incorrect.len()).unwrap_or(u64::MAX);
    let p99 = all.quantile(0.99);
    vec![
        part("acceptance availability", ACCEPTANCE_PART_MIN, answered - failed, answered),
        Indicator {
            name: "acceptance latency, 99th percentile",
            objective: format!("<= {:.0} ms", ACCEPTANCE_P99_S_MAX * 1_000.0),
            measured: p99,
            shown: p99.map_or("unknown".to_owned(), |p99| format!("{:.1} ms", p99 * 1_000.0)),
            kept: p99.map(|p99| p99 <= ACCEPTANCE_P99_S_MAX),
            samples: answered,
        },
        completion("completion within 30 s", SOON_S, SOON_PART_MIN, orders, now),
        completion("completion within 5 min", LATE_S, LATE_PART_MIN, orders, now),
        Indicator {
            name: "correctness",
            objective: "0 wrong".to_owned(),
            measured: Some(f64::from(u32::try_from(wrong).unwrap_or(u32::MAX))),
            shown: match incorrect.first() {
                Some(first) => format!("{wrong} wrong, e.g. {first}"),
                None => format!("{wrong} wrong"),
            },
            kept: Some(wrong == 0),
            samples: u64::try_from(orders.len()).unwrap_or(u64::MAX),
        },
    ]
}

/// The part of the orders that came to an end in time, of those that had the time.
fn completion(
    name: &'static str,
    limit_s: f64,
    part_min: f64,
    orders: &[Seen],
    now: OffsetDateTime,
) -> Indicator {
    let mut due = 0;
    let mut in_time = 0;
    for order in orders {
        let Some(created) = moment(&order.created_at) else { continue };
        let took_s = order.closed_at().map(|closed| (closed - created).as_seconds_f64());
        if took_s.is_some_and(|took_s| took_s <= limit_s) {
            in_time += 1;
            due += 1;
        } else if took_s.is_some() || (now - created).as_seconds_f64() > limit_s {
            due += 1;
        }
    }
    part(name, part_min, in_time, due)
}

/// A part of one, and whether it is large enough.
fn part(name: &'static str, part_min: f64, good: u64, of: u64) -> Indicator {
    let ratio = |number: u64| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
    let measured = (of > 0).then(|| ratio(good) / ratio(of));
    Indicator {
        name,
        objective: format!(">= {:.1} %", part_min * 100.0),
        measured,
        shown: measured.map_or("unknown".to_owned(), |part| format!("{:.3} %", part * 100.0)),
        kept: measured.map(|part| part >= part_min),
        samples: of,
    }
}

impl Seen {
    /// Whether the roll-up and the parts agree.
    fn is_consistent(&self) -> bool {
        let undone = |service: &str| match self.status.get(service).map(String::as_str) {
            Some("released" | "refunded") => true,
            Some("failed") => self.stage.get(service).is_some_and(|stage| stage.unwound),
            _ => false,
        };
        match self.overall.as_str() {
            "completed" => self.status.values().all(|status| status == "done"),
            "failed" | "cancelled" => undone("inventory") && undone("billing"),
            _ => true,
        }
    }

    /// When its last part moved, if it came to an end: the roll-up is written right after.
    fn closed_at(&self) -> Option<OffsetDateTime> {
        if self.overall == "accepted" {
            return None;
        }
        let moves = self.stage.values().filter_map(|stage| moment(stage.updated_at.as_deref()?));
        moves.max()
    }
}

fn moment(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}

/// The last totals of every process.
#[derive(Debug, Default)]
struct Metrics(BTreeMap<Key, Value>);

/// Instance, metric, attributes.
type Key = (String, String, BTreeMap<String, String>);

/// A histogram.
#[derive(Clone, Debug, Default, PartialEq)]
struct Durations {
    count: u64,
    bounds: Vec<f64>,
    buckets: Vec<u64>,
}

impl Metrics {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let mut metrics = Self::default();
        for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let document: Value =
                serde_json::from_str(line).with_context(|| format!("line {}", number + 1))?;
            for resource in entries(&document["resourceMetrics"]) {
                let whose = attributes(&resource["resource"]["attributes"]);
                let instance = whose.get("service.instance.id").cloned().unwrap_or_default();
                for scope in entries(&resource["scopeMetrics"]) {
                    for metric in entries(&scope["metrics"]) {
                        metrics.keep(&instance, metric);
                    }
                }
            }
        }
        Ok(metrics)
    }

    fn keep(&mut self, instance: &str, metric: &Value) {
        let name = metric["name"].as_str().unwrap_or_default();
        for kind in ["sum", "histogram"] {
            for point in entries(&metric[kind]["dataPoints"]) {
                let key = (instance.to_owned(), name.to_owned(), attributes(&point["attributes"]));
                self.0.insert(key, point.clone());
            }
        }
    }

    /// A counter, over all processes and attributes.
    fn count(&self, name: &str) -> u64 {
        let points = self.0.iter().filter(|((_, known, _), _)| known == name);
        points.filter_map(|(_, point)| whole(&point["asInt"])).sum()
    }

    /// The answers to submissions, by status.
    fn submissions(&self) -> BTreeMap<String, Durations> {
        let mut found: BTreeMap<String, Durations> = BTreeMap::new();
        for ((_, name, attributes), point) in &self.0 {
            let is = |name: &str, value: &str| attributes.get(name).is_some_and(|v| v == value);
            if name == "http.server.request.duration"
                && is("http.route", "/api/orders")
                && is("http.request.method", "POST")
            {
                let status = attributes.get("http.response.status_code").cloned();
                found.entry(status.unwrap_or_default()).or_default().add(&Durations::of(point));
            }
        }
        found
    }
}

impl Durations {
    fn of(point: &Value) -> Self {
        Self {
            count: whole(&point["count"]).unwrap_or(0),
            bounds: entries(&point["explicitBounds"]).iter().filter_map(Value::as_f64).collect(),
            buckets: entries(&point["bucketCounts"]).iter().filter_map(whole).collect(),
        }
    }

    fn add(&mut self, other: &Self) {
        if self.buckets.is_empty() {
            self.clone_from(other);
        } else if self.bounds == other.bounds && self.buckets.len() == other.buckets.len() {
            self.count += other.count;
            self.buckets.iter_mut().zip(&other.buckets).for_each(|(sum, more)| *sum += more);
        }
    }

    /// The value below which a part of them lies, straight between the bounds of its bucket; the
    /// last bound for what lies beyond.
    fn quantile(&self, part: f64) -> Option<f64> {
        let ratio = |number: u64| f64::from(u32::try_from(number).unwrap_or(u32::MAX));
        let rank = ratio(self.count) * part;
        let mut below = 0;
        for (index, &count) in self.buckets.iter().enumerate() {
            if count > 0 && ratio(below + count) >= rank {
                let low = index.checked_sub(1).map_or(0.0, |index| self.bounds[index]);
                let Some(high) = self.bounds.get(index) else { return Some(low) };
                return Some(low + (high - low) * (rank - ratio(below)) / ratio(count));
            }
            below += count;
        }
        None
    }
}

fn entries(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// A 64-bit number, which OTLP writes as text.
fn whole(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_str()?.parse().ok())
}

fn attributes(list: &Value) -> BTreeMap<String, String> {
    let pairs = entries(list).iter().filter_map(|pair| {
        let value = pair["value"]["stringValue"].as_str().or(pair["value"]["intValue"].as_str())?;
        Some((pair["key"].as_str()?.to_owned(), value.to_owned()))
    });
    pairs.collect()
}

/// The indicators for people.
struct Table<'a>(&'a [Indicator]);

impl fmt::Display for Table<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for indicator in self.0 {
            let mark = match indicator.kept {
                Some(true) => "ok",
                Some(false) => "MISSED",
                None => "-",
            };
            let Indicator { name, objective, shown, samples, .. } = indicator;
            writeln!(f, "{mark:<6}  {name:<36}  {objective:<10}  {shown}  (of {samples})")?;
        }
        if self.0.iter().any(|indicator| indicator.kept.is_none()) {
            writeln!(f, "\nWhat is unknown takes metrics (--metrics) or orders to look at.")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn seen(overall: &str, billing: &str, updated_at: &str) -> Seen {
        let stage = |at: &str| json!({"updatedAt": at, "unwound": false});
        let at = "2026-03-01T10:00:01Z";
        serde_json::from_value(json!({
            "orderId": format!("{overall}-{billing}"), "createdAt": "2026-03-01T10:00:00.000001Z",
            "overall": overall,
            "status": {"inventory": "done", "billing": billing, "notification": "done"},
            "stage": {"inventory": stage(at), "billing": stage(updated_at), "notification": stage(at)},
        }))
        .unwrap()
    }

    fn now() -> OffsetDateTime {
        moment("2026-03-01T10:02:00Z").unwrap()
    }

    fn submissions(status: &str, buckets: [u64; 3]) -> Value {
        let count: u64 = buckets.iter().sum();
        json!({"resourceMetrics": [{
            "resource": {"attributes": [
                {"key": "service.instance.id", "value": {"stringValue": "one"}},
            ]},
            "scopeMetrics": [{"metrics": [{
                "name": "http.server.request.duration",
                "histogram": {"dataPoints": [{
                    "attributes": [
                        {"key": "http.request.method", "value": {"stringValue": "POST"}},
                        {"key": "http.route", "value": {"stringValue": "/api/orders"}},
                        {"key": "http.response.status_code", "value": {"stringValue": status}},
                    ],
                    "count": count.to_string(),
                    "bucketCounts": buckets.map(|n| n.to_string()),
                    "explicitBounds": [0.1, 0.2],
                }]},
            }]}],
        }]})
    }

    #[test]
    fn orders_tell_of_completion_and_correctness_and_of_nothing_else() {
        let orders = [
            seen("completed", "done", "2026-03-01T10:00:02Z"),
            seen("completed", "done", "2026-03-01T10:01:02Z"),
            seen("accepted", "pending", "2026-03-01T10:00:02Z"),
        ];
        let found = judge(&orders, None, now());
        assert_eq!(found[0].kept, None);
        assert_eq!(found[1].kept, None);
        assert_eq!((found[2].samples, found[2].kept), (3, Some(false)), "one of three in time");
        assert_eq!((found[3].samples, found[3].kept), (2, Some(true)), "the third has time left");
        assert_eq!(found[4].kept, Some(true));
        let torn = judge(&[seen("completed", "pending", "2026-03-01T10:00:02Z")], None, now());
        assert_eq!(torn[4].kept, Some(false));
        assert!(torn[4].shown.contains("completed-pending"), "{torn:?}");
    }

    #[test]
    fn metrics_tell_of_acceptance_and_only_the_last_totals_count() {
        let lines = [
            submissions("202", [5, 0, 0]),
            submissions("202", [98, 1, 0]),
            submissions("503", [1, 0, 0]),
        ];
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        let metrics = Metrics::parse(&text).unwrap();
        let found = judge(&[], Some(&metrics), now());
        assert_eq!((found[0].measured, found[0].kept), (Some(0.99), Some(false)));
        let p99 = found[1].measured.unwrap();
        assert!(p99 > 0.09 && p99 <= 0.1, "{p99}");
        assert_eq!(found[1].kept, Some(true));
        assert!(Metrics::parse("{").is_err());
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let durations = Durations { count: 10, bounds: vec![1.0, 2.0], buckets: vec![0, 10, 0] };
        assert_eq!(durations.quantile(0.5), Some(1.5));
        let beyond = Durations { count: 1, bounds: vec![1.0, 2.0], buckets: vec![0, 0, 1] };
        assert_eq!(beyond.quantile(0.99), Some(2.0));
        assert_eq!(Durations::default().quantile(0.5), None);
    }
}
