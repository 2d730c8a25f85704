//! Traces and metrics, exported as OTLP over HTTP, or to Application Insights with the feature
//! `azure-monitor`: nothing at all unless [`start`] is called, and
//! never in the way of an invocation when it is.
//!
//! A finished [`Span`] goes into a bounded queue, or is dropped and counted where the queue is
//! full. Metrics are added up in memory and sent as running totals, so that a collector that was
//! away misses nothing of them. One background task ([`Exporter::run`]) sends both; whoever
//! records never waits for it.
//!
//! The crates of the OpenTelemetry project would bring a second version of `rand` and of
//! `getrandom` into every build for what is a page of JSON. The wire format is theirs:
//! <https://opentelemetry.io/docs/specs/otlp/#otlphttp>, in its JSON encoding.

#[cfg(feature = "azure-monitor")]
mod azure_monitor;
#[cfg(feature = "azure-monitor")]
mod bearer;
mod export;
mod metric;
mod otlp;
mod span;

#[cfg(feature = "azure-monitor")]
use std::sync::Arc;
use std::sync::OnceLock;
use std::time::SystemTime;

use reqwest::Url;
use reqwest::header::HeaderMap;
use tokio::sync::mpsc;

#[cfg(feature = "azure-monitor")]
pub use azure_monitor::{ConnectionString, ConnectionStringError};
#[cfg(feature = "azure-monitor")]
pub use bearer::{Token, TokenError, TokenSource};
pub use export::Exporter;
pub use metric::{Counter, Gauge, Histogram};
pub use span::{Kind, Span};

use metric::Meter;
use otlp::FinishedSpan;

/// Finished spans that wait for the exporter, about half a kilobyte each. At the pace of the
/// exporter this is far more than one process produces; beyond it spans are dropped and counted.
const QUEUE_SPANS_MAX: usize = 8_192;

/// Where telemetry goes.
#[derive(Clone, Debug)]
pub enum Destination {
    /// A collector that takes OTLP over HTTP.
    Otlp {
        /// The base address, as in `OTEL_EXPORTER_OTLP_ENDPOINT`: `v1/traces` and `v1/metrics` are
        /// added to its path.
        endpoint: Url,
        /// Headers of every request, as in `OTEL_EXPORTER_OTLP_HEADERS`; mark secrets as
        /// sensitive.
        headers: HeaderMap,
    },
    /// Application Insights.
    #[cfg(feature = "azure-monitor")]
    AzureMonitor {
        /// Where it is.
        connection: ConnectionString,
        /// Who sends; without it the key of the connection string is all that is sent, which a
        /// component without local authentication refuses.
        tokens: Option<Arc<dyn TokenSource>>,
    },
}

/// Where telemetry goes and whose it is.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where it goes.
    pub destination: Destination,
    /// `service.name`.
    pub service_name: String,
    /// `service.version`.
    pub service_version: String,
}

/// Why telemetry cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The transport cannot be set up.
    #[error("no client for the collector can be made")]
    Transport(#[source] reqwest::Error),
    /// It was started before.
    #[error("telemetry is started already")]
    Twice,
}

/// What is recorded goes through here.
#[derive(Debug)]
pub(crate) struct Pipeline {
    spans: mpsc::Sender<FinishedSpan>,
    meter: Meter,
}

static PIPELINE: OnceLock<Pipeline> = OnceLock::new();

/// The pipeline, if telemetry is on.
pub(crate) fn pipeline() -> Option<&'static Pipeline> {
    PIPELINE.get()
}

/// Whether telemetry is on: for work that is done for its sake alone.
#[must_use]
pub fn is_on() -> bool {
    pipeline().is_some()
}

/// Switches telemetry on for this process; what is recorded from now on is sent by the exporter,
/// which has to run for it.
///
/// # Errors
/// The transport cannot be set up, or telemetry is on already.
pub fn start(options: Options) -> Result<Exporter, StartError> {
    let (sender, queue) = mpsc::channel(QUEUE_SPANS_MAX);
    let pipeline = Pipeline { spans: sender, meter: Meter::default() };
    if PIPELINE.set(pipeline).is_err() {
        return Err(StartError::Twice);
    }
    // Set a line above.
    let Some(pipeline) = PIPELINE.get() else { return Err(StartError::Twice) };
    Exporter::new(options, queue, &pipeline.meter)
}

impl Pipeline {
    /// Queues a span, or drops it where the queue is full.
    fn offer(&self, span: FinishedSpan) {
        if self.spans.try_send(span).is_err() {
            SPANS_LOST.add_to(&self.meter, 1, &[("reason", "queue-full")]);
        }
    }
}

/// Spans that nobody will see.
static SPANS_LOST: Counter =
    Counter::new("telemetry.spans.lost", "{span}", "Spans that were dropped, by reason");

/// Nanoseconds since the Unix epoch.
#[expect(clippy::disallowed_methods, reason = "spans and metrics are stamped with the time of day")]
fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
