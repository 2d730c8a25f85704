//! Spans and metrics as Application Insights takes them: envelopes in JSON, posted to the
//! ingestion endpoint of a connection string.
//!
//! | span | envelope |
//! | --- | --- |
//! | server, consumer | `RequestData` |
//! | internal, client, producer | `RemoteDependencyData` |
//!
//! Metrics are `MetricData`. The service adds up what it gets, so counters and histograms are sent
//! as what has been added since the last time that it took them.
//!
//! The format is that of Microsoft's own exporters:
//! <https://github.com/microsoft/ApplicationInsights-Home/tree/master/EndpointSpecs/Schemas/Bond>.
//! Connection strings: <https://learn.microsoft.com/azure/azure-monitor/app/connection-strings>.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use reqwest::Url;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use super::metric::{Metric, Series, Total};
use super::otlp::{FinishedSpan, Scalar};
use super::span::Kind;

/// Where telemetry goes that names no endpoint.
const ENDPOINT_DEFAULT: &str = "https://dc.services.visualstudio.com/";

/// Version of each kind of data.
const SCHEMA_VERSION: u32 = 2;

/// A connection string of Application Insights, as far as it is needed to send.
#[derive(Clone, PartialEq, Eq)]
pub struct ConnectionString {
    instrumentation_key: Uuid,
    track: Url,
}

/// Why a connection string cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionStringError {
    /// No instrumentation key, or one that is no UUID.
    #[error("it names no InstrumentationKey that is a UUID")]
    Key,
    /// The endpoint is no address that telemetry may be sent to.
    #[error("its IngestionEndpoint is neither https nor on 127.0.0.1")]
    Endpoint,
}

impl fmt::Debug for ConnectionString {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectionString").field("track", &self.track.as_str()).finish()
    }
}

impl ConnectionString {
    /// Reads `InstrumentationKey=…;IngestionEndpoint=…`, in any order; other members are for
    /// others. Without an endpoint it is that of `EndpointSuffix`, or the global one.
    ///
    /// # Errors
    /// [`ConnectionStringError`]; it does not quote the string.
    pub fn parse(text: &str) -> Result<Self, ConnectionStringError> {
        let members: HashMap<String, &str> = text
            .split(';')
            .filter_map(|member| member.split_once('='))
            .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim()))
            .collect();
        let key = members.get("instrumentationkey").and_then(|key| key.parse::<Uuid>().ok());
        let instrumentation_key = key.ok_or(ConnectionStringError::Key)?;
        let endpoint = match (members.get("ingestionendpoint"), members.get("endpointsuffix")) {
            (Some(endpoint), _) => (*endpoint).to_owned(),
            (None, Some(suffix)) => format!("https://dc.{suffix}/"),
            (None, None) => ENDPOINT_DEFAULT.to_owned(),
        };
        let mut track = Url::parse(&endpoint).map_err(|_| ConnectionStringError::Endpoint)?;
        let here = matches!(track.host_str(), Some("127.0.0.1" | "[::1]"));
        let safe = track.scheme() == "https" || (track.scheme() == "http" && here);
        if !safe || track.path_segments_mut().is_err() {
            return Err(ConnectionStringError::Endpoint);
        }
        if let Ok(mut segments) = track.path_segments_mut() {
            segments.pop_if_empty().extend(["v2.1", "track"]);
        }
        Ok(Self { instrumentation_key, track })
    }

    pub(super) fn track(&self) -> &Url {
        &self.track
    }
}

/// Makes envelopes of what one process recorded.
#[derive(Debug)]
pub(super) struct Envelopes {
    connection: ConnectionString,
    role: String,
    instance: String,
    version: String,
    /// The totals that the service has, by metric and attributes.
    taken: Mutex<HashMap<SeriesKey, Total>>,
}

type SeriesKey = (&'static str, Vec<(&'static str, String)>);

impl Envelopes {
    pub(super) fn new(
        connection: ConnectionString,
        role: &str,
        version: &str,
        instance: &str,
    ) -> Self {
        let [role, version, instance] = [role, version, instance].map(str::to_owned);
        Self { connection, role, instance, version, taken: Mutex::default() }
    }

    pub(super) fn spans(&self, spans: &[FinishedSpan]) -> Value {
        spans.iter().map(|span| self.span(span)).collect()
    }

    fn span(&self, span: &FinishedSpan) -> Value {
        let text = |wanted: &str| {
            let found = span.attributes.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| plain(value))
        };
        let name = match text("http.route") {
            Some(route) => format!("{} {route}", span.name),
            None => span.name.clone(),
        };
        let mut data = json!({
            "ver": SCHEMA_VERSION,
            "id": span.trace.span_id.to_string(),
            "name": name,
            "duration": duration(span.end_ns.saturating_sub(span.start_ns)),
            "success": span.error.is_none(),
            "properties": properties(span),
        });
        let code = text("http.response.status_code").unwrap_or_else(|| "0".to_owned());
        let is_request = matches!(span.kind, Kind::Server | Kind::Consumer);
        if is_request {
            data["responseCode"] = code.into();
            data["source"] = text("messaging.destination.name").unwrap_or_default().into();
        } else {
            data["resultCode"] = code.into();
            data["type"] = match span.kind {
                Kind::Internal => "InProc",
                Kind::Producer => "Queue Message",
                _ => "HTTP",
            }
            .into();
            data["target"] = text("messaging.destination.name").unwrap_or_default().into();
        }
        let (kind, base_type) = match is_request {
            true => ("Request", "RequestData"),
            false => ("RemoteDependency", "RemoteDependencyData"),
        };
        let mut envelope = self.envelope(kind, base_type, span.start_ns, data);
        let tags = &mut envelope["tags"];
        tags["ai.operation.id"] = span.trace.trace_id.to_string().into();
        if let Some(parent) = span.trace.parent_span_id {
            tags["ai.operation.parentId"] = parent.to_string().into();
        }
        if is_request {
            tags["ai.operation.name"] = name.into();
        }
        envelope
    }

    /// What has been added to the totals since the service last took them; empty if nothing was.
    pub(super) fn metrics(&self, metrics: &[Metric], now_ns: u64) -> Vec<Value> {
        let taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let all = metrics.iter().flat_map(|metric| metric.series.iter().map(move |s| (metric, s)));
        all.filter_map(|(metric, series)| {
            let before = taken.get(&(metric.instrument.name, series.attributes.clone()));
            let mut point = added(before, &series.total)?;
            point["name"] = metric.instrument.name.into();
            let properties: Map<String, Value> = series
                .attributes
                .iter()
                .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
                .collect();
            let data = json!({"ver": SCHEMA_VERSION, "metrics": [point], "properties": properties});
            Some(self.envelope("Metric", "MetricData", now_ns, data))
        })
        .collect()
    }

    /// Remembers that the service has taken these totals.
    pub(super) fn took(&self, metrics: &[Metric]) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        for metric in metrics {
            for Series { attributes, total } in &metric.series {
                taken.insert((metric.instrument.name, attributes.clone()), total.clone());
            }
        }
    }

    fn envelope(&self, kind: &str, base_type: &str, at_ns: u64, data: Value) -> Value {
        let at = OffsetDateTime::from_unix_timestamp_nanos(at_ns.into()).ok();
        let at = at.and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_default();
        let mut envelope = json!({
            "name": format!("Microsoft.ApplicationInsights.{kind}"),
            "time": at,
            "iKey": self.connection.instrumentation_key.to_string(),
            "tags": {
                "ai.cloud.role": self.role,
                "ai.cloud.roleInstance": self.instance,
                "ai.application.ver": self.version,
                "ai.internal.sdkVersion": concat!("bulkhead:", env!("CARGO_PKG_VERSION")),
            },
            "data": {"baseType": base_type},
        });
        envelope["data"]["baseData"] = data;
        envelope
    }
}

/// How many of the items the service has refused, by its answer to a request.
pub(super) fn refused(answer: &[u8]) -> u64 {
    let answer: Value = serde_json::from_slice(answer).unwrap_or_default();
    let count = |name: &str| answer[name].as_u64().unwrap_or(0);
    count("itemsReceived").saturating_sub(count("itemsAccepted"))
}

fn added(before: Option<&Total>, now: &Total) -> Option<Value> {
    match (before, now) {
        (_, Total::Last { value, .. }) => Some(json!({"value": value, "count": 1})),
        (before, Total::Count(count)) => {
            let before = if let Some(Total::Count(before)) = before { *before } else { 0 };
            let more = count.saturating_sub(before);
            (more > 0).then(|| json!({"value": more, "count": 1}))
        }
        (before, Total::Durations(now)) => {
            let (sum, count) = match before {
                Some(Total::Durations(before)) => (before.sum, before.count),
                _ => (0.0, 0),
            };
            let more = now.count.saturating_sub(count);
            (more > 0)
                .then(|| json!({"value": now.sum - sum, "count": more, "kind": "Aggregation"}))
        }
    }
}

fn properties(span: &FinishedSpan) -> Map<String, Value> {
    let attributes = span.attributes.iter();
    let mut properties: Map<String, Value> =
        attributes.map(|(name, value)| ((*name).to_owned(), plain(value).into())).collect();
    if let Some(error) = &span.error {
        properties.insert("error".to_owned(), error.as_str().into());
    }
    if !span.links.is_empty() {
        let link = |(trace_id, span_id): &(_, _)| link(trace_id, span_id);
        let links: Value = span.links.iter().map(link).collect();
        properties.insert("_MS.links".to_owned(), links.to_string().into());
    }
    properties
}

fn link(trace_id: &crate::trace::TraceId, span_id: &crate::trace::SpanId) -> Value {
    json!({"operation_Id": trace_id.to_string(), "id": span_id.to_string()})
}

fn plain(value: &Scalar) -> String {
    match value {
        Scalar::Text(text) => text.clone(),
        Scalar::Integer(number) => number.to_string(),
    }
}

/// `d.hh:mm:ss.ffffff`.
fn duration(ns: u64) -> String {
    let duration = Duration::from_nanos(ns);
    let seconds = duration.as_secs();
    let (days, hours) = (seconds / 86_400, seconds / 3_600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    format!("{days}.{hours:02}:{minutes:02}:{seconds:02}.{:06}", duration.subsec_micros())
}

#[cfg(test)]
mod tests {
    use super::super::metric::{Counter, Histogram, Meter};
    use super::*;
    use crate::trace::TraceContext;

    const KEY: &str = "11111111-2222-3333-4444-555555555555";

    fn envelopes() -> Envelopes {
        let connection = ConnectionString::parse(&format!("InstrumentationKey={KEY}")).unwrap();
        Envelopes::new(connection, "inventory", "1", "i")
    }

    #[test]
    fn a_connection_string_says_where_to() {
        let track = |rest: &str| {
            let text = format!("InstrumentationKey={KEY};{rest}");
            ConnectionString::parse(&text).map(|connection| connection.track.to_string())
        };
        for (rest, expected) in [
            ("", "https://dc.services.visualstudio.com/v2.1/track"),
            (
                "EndpointSuffix=applicationinsights.us",
                "https://dc.applicationinsights.us/v2.1/track",
            ),
            (
                "IngestionEndpoint=https://we-5.in.example.com/;LiveEndpoint=https://l.example.com/",
                "https://we-5.in.example.com/v2.1/track",
            ),
            ("ingestionendpoint=http://127.0.0.1:9", "http://127.0.0.1:9/v2.1/track"),
        ] {
            assert_eq!(track(rest).as_deref(), Ok(expected));
        }
        for rest in ["IngestionEndpoint=http://we.example.com/", "IngestionEndpoint=data:x"] {
            assert_eq!(track(rest), Err(ConnectionStringError::Endpoint));
        }
        for text in ["", "InstrumentationKey=", "IngestionEndpoint=https://e.example.com/"] {
            assert_eq!(ConnectionString::parse(text), Err(ConnectionStringError::Key));
        }
        let connection = ConnectionString::parse(&format!("InstrumentationKey={KEY}")).unwrap();
        assert!(!format!("{connection:?}").contains(KEY));
    }

    #[test]
    fn spans_are_requests_and_dependencies_of_one_operation() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let trace = TraceContext::continue_from(parent).unwrap();
        let span = |kind, error: Option<&str>| FinishedSpan {
            trace,
            name: "POST".into(),
            kind,
            start_ns: 1_700_000_000_000_000_000,
            end_ns: 1_700_000_000_000_000_000 + 90_061_000_002_000,
            attributes: vec![
                ("http.route", Scalar::Text("/api/orders".into())),
                ("http.response.status_code", Scalar::Integer(202)),
            ],
            links: vec![(trace.trace_id, trace.span_id)],
            error: error.map(str::to_owned),
        };
        let spans = [span(Kind::Server, None), span(Kind::Producer, Some("no"))];
        let encoded = envelopes().spans(&spans);
        let [request, dependency] = [0, 1].map(|at| &encoded[at]);
        assert_eq!(request["iKey"], KEY);
        assert_eq!(request["name"], "Microsoft.ApplicationInsights.Request");
        assert_eq!(request["time"], "2023-11-14T22:13:20Z");
        for envelope in [request, dependency] {
            assert_eq!(envelope["tags"]["ai.operation.id"], "4bf92f3577b34da6a3ce929d0e0e4736");
            assert_eq!(envelope["tags"]["ai.operation.parentId"], "00f067aa0ba902b7");
            assert_eq!(envelope["tags"]["ai.cloud.role"], "inventory");
        }
        let data = &request["data"];
        assert_eq!(data["baseType"], "RequestData");
        assert_eq!(data["baseData"]["name"], "POST /api/orders");
        assert_eq!(data["baseData"]["id"], trace.span_id.to_string());
        assert_eq!(data["baseData"]["duration"], "1.01:01:01.000002");
        assert_eq!(data["baseData"]["responseCode"], "202");
        assert_eq!(data["baseData"]["success"], true);
        let links = data["baseData"]["properties"]["_MS.links"].as_str().unwrap();
        assert!(links.contains("4bf92f3577b34da6a3ce929d0e0e4736"), "{links}");
        let data = &dependency["data"];
        assert_eq!(data["baseType"], "RemoteDependencyData");
        assert_eq!(
            (&data["baseData"]["success"], &data["baseData"]["type"]),
            (&json!(false), &json!("Queue Message"))
        );
        assert_eq!(data["baseData"]["properties"]["error"], "no");
    }

    #[test]
    fn totals_are_sent_as_what_was_added_since_they_were_last_taken() {
        let (envelopes, meter) = (envelopes(), Meter::default());
        let counter = Counter::new("orders.accepted", "{order}", "");
        let histogram = Histogram::new("outbox.lag", "");
        let points = |metrics: &[Metric]| -> Vec<Value> {
            let encoded = envelopes.metrics(metrics, 1);
            encoded.iter().map(|e| e["data"]["baseData"]["metrics"][0].clone()).collect()
        };
        counter.add_to(&meter, 3, &[("reason", "r")]);
        histogram.record_in(&meter, 0.5, &[]);
        let first = meter.snapshot();
        let expected = [
            json!({"name": "orders.accepted", "value": 3, "count": 1}),
            json!({"name": "outbox.lag", "value": 0.5, "count": 1, "kind": "Aggregation"}),
        ];
        assert_eq!(points(&first), expected);
        assert_eq!(points(&first), expected, "not taken yet, so sent again");
        let encoded = envelopes.metrics(&first, 1);
        assert_eq!(encoded[0]["data"]["baseType"], "MetricData");
        assert_eq!(encoded[0]["data"]["baseData"]["properties"]["reason"], "r");
        envelopes.took(&first);
        assert!(points(&meter.snapshot()).is_empty());
        counter.add_to(&meter, 2, &[("reason", "r")]);
        histogram.record_in(&meter, 0.25, &[]);
        let [more, lag] = points(&meter.snapshot()).try_into().unwrap();
        assert_eq!(
            (&more["value"], &lag["value"], &lag["count"]),
            (&json!(2), &json!(0.25), &json!(1))
        );
    }

    #[test]
    fn what_the_service_refuses_is_counted() {
        assert_eq!(refused(br#"{"itemsReceived": 5, "itemsAccepted": 3, "errors": []}"#), 2);
        assert_eq!(refused(b"nonsense"), 0);
    }
}
