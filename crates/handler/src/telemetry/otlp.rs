//! Spans and metrics as OTLP in its JSON encoding.
//!
//! <https://github.com/open-telemetry/opentelemetry-proto/blob/v1.7.0/docs/specification.md#json-protobuf-encoding>:
//! ids are hex digits, enumerations are numbers, and 64-bit integers are text.

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

/// `ExportTraceServiceRequest`.
pub(super) fn traces(resource: &Value, spans: &[FinishedSpan]) -> Value {
    let spans: Vec<_> = spans.iter().map(span).collect();
    json!({"resourceSpans": [{
        "resource": resource,
        "scopeSpans": [{"scope": {"name": env!("CARGO_PKG_NAME")}, "spans": spans}],
    }]})
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

fn span(span: &FinishedSpan) -> Value {
    let attribute = |(key, value): &(&'static str, Scalar)| match value {
        Scalar::Text(value) => text(key, value),
        Scalar::Integer(value) => json!({"key": key, "value": {"intValue": value.to_string()}}),
    };
    let mut encoded = json!({
        "traceId": span.trace.trace_id.to_string(),
        "spanId": span.trace.span_id.to_string(),
        "name": span.name,
        "kind": span.kind as u32,
        "startTimeUnixNano": span.start_ns.to_string(),
        "endTimeUnixNano": span.end_ns.to_string(),
        "attributes": span.attributes.iter().map(attribute).collect::<Vec<_>>(),
    });
    if let Some(parent) = span.trace.parent_span_id {
        encoded["parentSpanId"] = parent.to_string().into();
    }
    if !span.links.is_empty() {
        let link = |(trace_id, span_id): &(TraceId, SpanId)| json!({"traceId": trace_id.to_string(), "spanId": span_id.to_string()});
        encoded["links"] = span.links.iter().map(link).collect();
    }
    if let Some(error) = &span.error {
        encoded["status"] = json!({"code": STATUS_ERROR, "message": error});
    }
    encoded
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
        let encoded = traces(&resource("inventory", "1", "i"), &[span]);
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
