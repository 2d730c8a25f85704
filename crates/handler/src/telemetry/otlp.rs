//! Spans and metrics as OTLP in its JSON encoding.
//!
//! <https://github.com/open-telemetry/opentelemetry-proto/blob/v1.7.0/docs/specification.md#json-protobuf-encoding>:
//! ids are hex digits, enumerations are numbers, and 64-bit integers are text.

use std::fmt;

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::metric::{BOUNDS_S, Metric, Series, Total};
use super::span::Kind;
use crate::trace::{SpanId, TraceContext, TraceId};

/// `AGGREGATION_TEMPORALITY_CUMULATIVE`: totals since the start of the process.
const CUMULATIVE: u32 = 2;

/// `STATUS_CODE_ERROR`.
const STATUS_ERROR: u32 = 2;

/// A span that has ended.
#[derive(Debug)]
pub(super) struct FinishedSpan {
    pub(super) trace: TraceContext,
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) start_ns: u64,
    pub(super) end_ns: u64,
    pub(super) attributes: Vec<(&'static str, Scalar)>,
    pub(super) links: Vec<(TraceId, SpanId)>,
    pub(super) error: Option<String>,
}

/// The value of an attribute.
#[derive(Debug)]
pub(super) enum Scalar {
    Text(String),
    Integer(i64),
}

/// Whose telemetry it is: `resource` of every request.
pub(super) fn resource(service_name: &str, service_version: &str, instance_id: &str) -> Value {
    json!({"attributes": [
        text("service.name", service_name),
        text("service.version", service_version),
        text("service.instance.id", instance_id),
        text("telemetry.sdk.language", "rust"),
        text("telemetry.sdk.name", "bulkhead-handler"),
    ]})
}

/// `ExportTraceServiceRequest`. Written out straight from the spans: there are a dozen of them per
/// order, and most of what telemetry costs is spent here.
pub(super) fn traces(resource: &Value, spans: &[FinishedSpan]) -> String {
    let scope = Scope { name: env!("CARGO_PKG_NAME") };
    let scope_spans = [ScopeSpans { scope, spans: spans.iter().map(SpanShape::of).collect() }];
    let request = Traces { resource_spans: [ResourceSpans { resource, scope_spans }] };
    // Texts, numbers and lists of them: nothing that could fail.
    serde_json::to_string(&request).unwrap_or_default()
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Traces<'a> {
    resource_spans: [ResourceSpans<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceSpans<'a> {
    resource: &'a Value,
    scope_spans: [ScopeSpans<'a>; 1],
}

#[derive(Serialize)]
struct ScopeSpans<'a> {
    scope: Scope,
    spans: Vec<SpanShape<'a>>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SpanShape<'a> {
    trace_id: AsText<TraceId>,
    span_id: AsText<SpanId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    parent_span_id: Option<AsText<SpanId>>,
    name: &'a str,
    kind: u32,
    start_time_unix_nano: AsText<u64>,
    end_time_unix_nano: AsText<u64>,
    attributes: Vec<Attribute<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    links: Vec<Link>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status<'a>>,
}

#[derive(Serialize)]
struct Attribute<'a> {
    key: &'static str,
    value: AttributeValue<'a>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
enum AttributeValue<'a> {
    StringValue(&'a str),
    IntValue(AsText<i64>),
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Link {
    trace_id: AsText<TraceId>,
    span_id: AsText<SpanId>,
}

#[derive(Serialize)]
struct Status<'a> {
    code: u32,
    message: &'a str,
}

/// A value as text, without a string in between.
struct AsText<T>(T);

impl<T: fmt::Display> Serialize for AsText<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'a> SpanShape<'a> {
    fn of(span: &'a FinishedSpan) -> Self {
        let attribute = |(key, value): &'a (&'static str, Scalar)| Attribute {
            key,
            value: match value {
                Scalar::Text(text) => AttributeValue::StringValue(text),
                Scalar::Integer(number) => AttributeValue::IntValue(AsText(*number)),
            },
        };
        let link = |(trace_id, span_id): &(TraceId, SpanId)| Link {
            trace_id: AsText(*trace_id),
            span_id: AsText(*span_id),
        };
        Self {
            trace_id: AsText(span.trace.trace_id),
            span_id: AsText(span.trace.span_id),
            parent_span_id: span.trace.parent_span_id.map(AsText),
            name: &span.name,
            kind: span.kind as u32,
            start_time_unix_nano: AsText(span.start_ns),
            end_time_unix_nano: AsText(span.end_ns),
            attributes: span.attributes.iter().map(attribute).collect(),
            links: span.links.iter().map(link).collect(),
            status: span.error.as_deref().map(|message| Status { code: STATUS_ERROR, message }),
        }
    }
}

/// `ExportMetricsServiceRequest`.
pub(super) fn metrics(resource: &Value, metrics: &[Metric], start_ns: u64, now_ns: u64) -> Value {
    let metrics: Vec<_> = metrics.iter().map(|known| metric(known, start_ns, now_ns)).collect();
    json!({"resourceMetrics": [{
        "resource": resource,
        "scopeMetrics": [{"scope": {"name": env!("CARGO_PKG_NAME")}, "metrics": metrics}],
    }]})
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

fn metric(metric: &Metric, start_ns: u64, now_ns: u64) -> Value {
    let point = |series: &Series| {
        let attributes: Vec<_> =
            series.attributes.iter().map(|(key, value)| text(key, value)).collect();
        let mut point = json!({
            "attributes": attributes,
            "startTimeUnixNano": start_ns.to_string(),
            "timeUnixNano": now_ns.to_string(),
        });
        match &series.total {
            Total::Count(count) => point["asInt"] = count.to_string().into(),
            Total::Last { value, .. } => point["asDouble"] = (*value).into(),
            Total::Durations(durations) => {
                let buckets = durations.buckets.iter().map(ToString::to_string);
                point["count"] = durations.count.to_string().into();
                point["sum"] = durations.sum.into();
                point["bucketCounts"] = buckets.collect();
                point["explicitBounds"] = BOUNDS_S.to_vec().into();
            }
        }
        point
    };
    let points: Vec<_> = metric.series.iter().map(point).collect();
    let mut encoded = json!({
        "name": metric.instrument.name,
        "unit": metric.instrument.unit,
        "description": metric.instrument.description,
    });
    match metric.series.first().map(|series| &series.total) {
        Some(Total::Durations(_)) => {
            encoded["histogram"] =
                json!({"aggregationTemporality": CUMULATIVE, "dataPoints": points});
        }
        Some(Total::Last { .. }) => encoded["gauge"] = json!({"dataPoints": points}),
        Some(Total::Count(_)) | None => {
            encoded["sum"] = json!({
                "aggregationTemporality": CUMULATIVE,
                "isMonotonic": true,
                "dataPoints": points,
            });
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::super::metric::{Counter, Histogram, Meter};
    use super::*;

    #[test]
    fn a_span_has_the_shape_that_collectors_read() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = TraceContext::continue_from(parent).unwrap();
        let span = FinishedSpan {
            trace,
            name: "reserve".into(),
            kind: Kind::Consumer,
            start_ns: 1_700_000_000_000_000_001,
            end_ns: 1_700_000_000_000_000_002,
            attributes: vec![("a", Scalar::Text("x".into())), ("n", Scalar::Integer(-7))],
            links: vec![(trace.trace_id, trace.span_id)],
            error: Some("no".into()),
        };
        let encoded: Value =
            serde_json::from_str(&traces(&resource("inventory", "1", "i"), &[span])).unwrap();
        let span = &encoded["resourceSpans"][0]["scopeSpans"][0]["spans"][0];
        assert_eq!(span["traceId"], "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(span["parentSpanId"], "00f067aa0ba902b7");
        assert_eq!(span["kind"], 5);
        assert_eq!(span["startTimeUnixNano"], "1700000000000000001");
        assert_eq!(span["attributes"][1]["value"]["intValue"], "-7");
        assert_eq!(span["links"][0]["spanId"], trace.span_id.to_string());
        assert_eq!(span["status"], json!({"code": 2, "message": "no"}));
    }

    #[test]
    fn metrics_have_the_shape_that_collectors_read() {
        let meter = Meter::default();
        let counter = Counter::new("orders.accepted", "{order}", "Orders.");
        counter.add_to(&meter, 3, &[("reason", "r")]);
        Histogram::new("outbox.lag", "Lag.").record_in(&meter, 0.03, &[]);
        let encoded = metrics(&resource("s", "1", "i"), &meter.snapshot(), 1, 2);
        let found = &encoded["resourceMetrics"][0]["scopeMetrics"][0]["metrics"];
        assert_eq!(found[0]["name"], "orders.accepted");
        assert_eq!(found[0]["sum"]["dataPoints"][0]["asInt"], "3");
        assert_eq!(found[0]["sum"]["isMonotonic"], true);
        let lag = &found[1]["histogram"]["dataPoints"][0];
        assert_eq!((&lag["count"], &lag["sum"]), (&json!("1"), &json!(0.03)));
        let buckets = lag["bucketCounts"].as_array().unwrap();
        assert_eq!(buckets.len(), lag["explicitBounds"].as_array().unwrap().len() + 1);
    }
}
