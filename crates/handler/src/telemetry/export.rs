//! The background task that sends what was recorded.
//!
//! A collector that is away or slow costs spans, never an invocation: while one request waits the
//! queue fills, and what does not fit is dropped and counted. Totals are sent again and again, so
//! nothing of them is lost.

use std::time::Duration;

use bytes::Bytes;
use reqwest::RequestBuilder;
#[cfg(feature = "azure-monitor")]
use reqwest::header::{AUTHORIZATION, HeaderMap};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};
use uuid::Uuid;

#[cfg(feature = "azure-monitor")]
use super::azure_monitor::{self, Envelopes};
#[cfg(feature = "azure-monitor")]
use super::bearer::Bearer;
use super::metric::{Meter, Metric};
use super::otlp::{self, FinishedSpan};
use super::{Destination, Options, SPANS_LOST, StartError, now_ns};

/// How often spans are sent.
const SPANS_EVERY: Duration = Duration::from_secs(1);

/// How often totals are sent. Shorter than the minute that is usual, as a host may stop an idle
/// instance within it.
const METRICS_EVERY: Duration = Duration::from_secs(5);

/// How often metrics go to Application Insights, which charges by volume.
#[cfg(feature = "azure-monitor")]
const MEASUREMENTS_EVERY: Duration = Duration::from_secs(15);

/// Spans of one request: about a quarter of a megabyte.
const BATCH_SPANS_MAX: usize = 512;

/// How long the collector may take for one request.
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// How long connecting to it may take.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// Tries of one batch of spans, where the collector says that trying again helps.
const TRIES_MAX: u32 = 3;

/// The first pause between two tries; it doubles.
const TRY_PAUSE: Duration = Duration::from_secs(1);

/// How long the last requests may take when the process stops. Together with the grace period of
/// the server it stays below the ten seconds after which the host kills the process.
const FLUSH_MAX: Duration = Duration::from_millis(800);

/// Sends what was recorded.
#[derive(Debug)]
pub struct Exporter {
    queue: mpsc::Receiver<FinishedSpan>,
    collector: Collector,
}

/// The other end.
#[derive(Debug)]
struct Collector {
    http: Client,
    wire: Wire,
    meter: &'static Meter,
    start_ns: u64,
}

/// What it speaks.
#[derive(Debug)]
enum Wire {
    Otlp {
        traces: Url,
        metrics: Url,
        resource: Value,
    },
    #[cfg(feature = "azure-monitor")]
    AzureMonitor {
        track: Url,
        envelopes: Envelopes,
        bearer: Option<Box<Bearer>>,
    },
}

/// Why a request did not bring anything to the collector.
enum Unsent {
    /// It may work later.
    Retryable(String),
    Refused(String),
}

impl Exporter {
    pub(super) fn new(
        options: Options,
        queue: mpsc::Receiver<FinishedSpan>,
        meter: &'static Meter,
    ) -> Result<Self, StartError> {
        let Options { destination, service_name, service_version } = options;
        let instance_id = Uuid::new_v4().to_string();
        let (wire, headers) = match destination {
            Destination::Otlp { endpoint, headers } => {
                let (traces, metrics) = (below(&endpoint, "traces"), below(&endpoint, "metrics"));
                let resource = otlp::resource(&service_name, &service_version, &instance_id);
                (Wire::Otlp { traces, metrics, resource }, headers)
            }
            #[cfg(feature = "azure-monitor")]
            Destination::AzureMonitor { connection, tokens } => {
                let track = connection.track().clone();
                let envelopes =
                    Envelopes::new(connection, &service_name, &service_version, &instance_id);
                let bearer = tokens.map(|source| Box::new(Bearer::new(source)));
                (Wire::AzureMonitor { track, envelopes, bearer }, HeaderMap::new())
            }
        };
        let http = Client::builder()
            .default_headers(headers)
            .timeout(ANSWER_MAX)
            .connect_timeout(CONNECT_MAX)
            // Whatever a redirect leads to, it is not the collector.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(StartError::Transport)?;
        let collector = Collector { http, wire, meter, start_ns: now_ns() };
        Ok(Self { queue, collector })
    }

    /// Sends until `shutdown`, then whatever is left, within a second.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { mut queue, collector } = self;
        let send =
            async { tokio::join!(collector.send_spans(&mut queue), collector.send_totals()) };
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = send => {}
        }
        let last = async {
            let mut spans = Vec::new();
            while let Ok(span) = queue.try_recv() {
                spans.push(span);
            }
            for batch in spans.chunks(BATCH_SPANS_MAX) {
                let _ = collector.post_spans(batch).await;
            }
            let _ = collector.post_totals().await;
        };
        if tokio::time::timeout(FLUSH_MAX, last).await.is_err() {
            warn!("the collector did not take the last telemetry in time");
        }
    }
}

impl Collector {
    /// Sends spans for ever.
    async fn send_spans(&self, queue: &mut mpsc::Receiver<FinishedSpan>) {
        let mut tick = interval(SPANS_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut health = Health::default();
        let mut batch = Vec::with_capacity(BATCH_SPANS_MAX);
        loop {
            tick.tick().await;
            loop {
                while batch.len() < BATCH_SPANS_MAX
                    && let Ok(span) = queue.try_recv()
                {
                    batch.push(span);
                }
                if batch.is_empty() {
                    break;
                }
                let sent = self.send_batch(&batch).await;
                health.saw(&sent);
                if sent.is_err() {
                    let lost = u64::try_from(batch.len()).unwrap_or(u64::MAX);
                    SPANS_LOST.add_to(self.meter, lost, &[("reason", "not-sent")]);
                }
                batch.clear();
            }
        }
    }

    async fn send_batch(&self, batch: &[FinishedSpan]) -> Result<(), String> {
        let mut pause = TRY_PAUSE;
        for _ in 1..TRIES_MAX {
            match self.post_spans(batch).await {
                Ok(()) => return Ok(()),
                Err(Unsent::Refused(why)) => return Err(why),
                Err(Unsent::Retryable(_)) => {
                    tokio::time::sleep(pause).await;
                    pause *= 2;
                }
            }
        }
        self.post_spans(batch).await.map_err(Unsent::why)
    }

    /// Sends totals for ever.
    async fn send_totals(&self) {
        let mut tick = interval(match self.wire {
            Wire::Otlp { .. } => METRICS_EVERY,
            #[cfg(feature = "azure-monitor")]
            Wire::AzureMonitor { .. } => MEASUREMENTS_EVERY,
        });
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut health = Health::default();
        loop {
            tick.tick().await;
            let sent = self.post_totals().await;
            health.saw(&sent.map_err(Unsent::why));
        }
    }

    async fn post_spans(&self, batch: &[FinishedSpan]) -> Result<(), Unsent> {
        match &self.wire {
            Wire::Otlp { traces, resource, .. } => {
                self.post(traces, otlp::traces(resource, batch)).await.map(drop)
            }
            #[cfg(feature = "azure-monitor")]
            Wire::AzureMonitor { track, envelopes, .. } => {
                let answer = self.post(track, envelopes.spans(batch).to_string()).await?;
                let lost = azure_monitor::refused(&answer);
                if lost > 0 {
                    SPANS_LOST.add_to(self.meter, lost, &[("reason", "refused")]);
                }
                Ok(())
            }
        }
    }

    async fn post_totals(&self) -> Result<(), Unsent> {
        let snapshot: Vec<Metric> = self.meter.snapshot();
        match &self.wire {
            Wire::Otlp { metrics, resource, .. } => {
                let body = otlp::metrics(resource, &snapshot, self.start_ns, now_ns());
                self.post(metrics, body.to_string()).await.map(drop)
            }
            #[cfg(feature = "azure-monitor")]
            Wire::AzureMonitor { track, envelopes, .. } => {
                for part in envelopes.metrics(&snapshot, now_ns()).chunks(BATCH_SPANS_MAX) {
                    self.post(track, Value::from(part.to_vec()).to_string()).await?;
                }
                envelopes.took(&snapshot);
                Ok(())
            }
        }
    }

    /// Sends one request; the body of an answer that is a success, as far as it is looked at.
    async fn post(&self, url: &Url, body: String) -> Result<Bytes, Unsent> {
        let json = HeaderValue::from_static("application/json");
        let request = self.http.post(url.clone()).header(CONTENT_TYPE, json);
        let request = self.signed(request).await?;
        let response = match request.body(body).send().await {
            Ok(response) => response,
            // Without the address, which may hold a key.
            Err(error) => return Err(Unsent::Retryable(error.without_url().to_string())),
        };
        match response.status() {
            // Only a partial success has something to say.
            StatusCode::PARTIAL_CONTENT => Ok(response.bytes().await.unwrap_or_default()),
            status if status.is_success() => Ok(Bytes::new()),
            status @ (StatusCode::REQUEST_TIMEOUT
            | StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT) => Err(Unsent::Retryable(format!("answered {status}"))),
            status => Err(self.not_taken(status).await),
        }
    }

    /// A request that says who sends it, where that is asked for.
    async fn signed(&self, request: RequestBuilder) -> Result<RequestBuilder, Unsent> {
        #[cfg(feature = "azure-monitor")]
        if let Wire::AzureMonitor { bearer: Some(bearer), .. } = &self.wire {
            let header = bearer.header(self.meter).await.map_err(Unsent::Retryable)?;
            return Ok(request.header(AUTHORIZATION, header));
        }
        Ok(request)
    }

    /// What a refusal means: who sends with a token may be admitted later, when it is another one
    /// or the role has reached the service.
    async fn not_taken(&self, status: StatusCode) -> Unsent {
        let why = format!("answered {status}");
        #[cfg(feature = "azure-monitor")]
        if let Wire::AzureMonitor { bearer: Some(bearer), .. } = &self.wire
            && matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN)
        {
            bearer.refused().await;
            return Unsent::Retryable(why);
        }
        Unsent::Refused(why)
    }
}

impl Unsent {
    fn why(self) -> String {
        match self {
            Self::Retryable(why) | Self::Refused(why) => why,
        }
    }
}

/// Says once that the collector is away, and once that it is back.
#[derive(Debug, Default)]
struct Health {
    away: bool,
}

impl Health {
    fn saw(&mut self, sent: &Result<(), String>) {
        match sent {
            Ok(()) if self.away => info!("the collector takes telemetry again"),
            Err(why) if !self.away => {
                warn!(why, "the collector does not take telemetry; orders go on");
            }
            _ => {}
        }
        self.away = sent.is_err();
    }
}

/// `<endpoint>/v1/<signal>`, as the specification of the exporter's settings has it.
fn below(endpoint: &Url, signal: &str) -> Url {
    let mut url = endpoint.clone();
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(["v1", signal]);
    }
    url
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use axum::Router;
    use axum::routing::post;
    use tokio::net::TcpListener;
    use tokio::time::Instant;

    use super::super::Pipeline;
    use super::super::span::Kind;
    use super::*;
    use crate::trace::TraceContext;

    /// A queue of this many spans, and an exporter to a collector at `address`.
    fn pipeline(address: &str, spans_max: usize) -> (Pipeline, Exporter) {
        let (spans, queue) = mpsc::channel(spans_max);
        let meter: &'static Meter = Box::leak(Box::default());
        let options = Options {
            destination: Destination::Otlp {
                endpoint: format!("http://{address}").parse().unwrap(),
                headers: Default::default(),
            },
            service_name: "test".to_owned(),
            service_version: "0".to_owned(),
        };
        let exporter = Exporter::new(options, queue, meter).unwrap();
        (Pipeline { spans, meter: Meter::default() }, exporter)
    }

    fn span() -> FinishedSpan {
        FinishedSpan {
            trace: TraceContext::new(),
            name: "n".to_owned(),
            kind: Kind::Internal,
            start_ns: 1,
            end_ns: 2,
            attributes: Vec::new(),
            links: Vec::new(),
            error: None,
        }
    }

    #[tokio::test]
    async fn a_batch_is_sent_again_when_that_helps_and_the_rest_at_the_end() {
        let answers = Arc::new(Mutex::new(vec![503_u16]));
        let taken = Arc::new(Mutex::new(Vec::new()));
        let (planned, kept) = (Arc::clone(&answers), Arc::clone(&taken));
        let traces = post(move |body: axum::Json<Value>| async move {
            let status = planned.lock().unwrap().pop().unwrap_or(200);
            let spans = body["resourceSpans"][0]["scopeSpans"][0]["spans"].clone();
            if status == 200 {
                kept.lock().unwrap().push(spans.as_array().unwrap().len());
            }
            StatusCode::from_u16(status).unwrap()
        });
        let totals = Arc::new(Mutex::new(0));
        let seen = Arc::clone(&totals);
        let metrics = post(move || async move { *seen.lock().unwrap() += 1 });
        let app = Router::new().route("/v1/traces", traces).route("/v1/metrics", metrics);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(async move { axum::serve(listener, app).await.unwrap() });

        let (pipeline, exporter) = pipeline(&address, 8);
        pipeline.offer(span());
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let arrived = Arc::clone(&taken);
        tasks.spawn(async move {
            let deadline = Instant::now() + Duration::from_secs(20);
            while arrived.lock().unwrap().is_empty() {
                assert!(Instant::now() < deadline, "the batch never arrives");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            // Straight before the end: only the flush can still take it.
            pipeline.offer(span());
            pipeline.offer(span());
            stop.cancel();
        });
        exporter.run(shutdown).await;
        assert!(answers.lock().unwrap().is_empty(), "it was refused once");
        assert_eq!(*taken.lock().unwrap(), [1, 2]);
        assert!(*totals.lock().unwrap() >= 2, "at the start and at the end");
    }

    #[tokio::test]
    async fn a_collector_that_hangs_costs_spans_and_nothing_else() {
        // The system takes connections; nobody answers.
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (pipeline, exporter) = pipeline(&address, 8);
        let shutdown = CancellationToken::new();
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(exporter.run(shutdown.clone()));
        let begun = Instant::now();
        for _ in 0..10_000 {
            pipeline.offer(span());
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        let lost = format!("{:?}", pipeline.meter.snapshot());
        assert!(lost.contains("queue-full") && lost.contains("Count(9992)"), "{lost}");
        shutdown.cancel();
        let begun = Instant::now();
        tasks.join_all().await;
        assert!(begun.elapsed() < FLUSH_MAX * 2, "{:?}", begun.elapsed());
    }

    #[test]
    fn signals_lie_below_the_endpoint() {
        for (endpoint, traces) in [
            ("http://127.0.0.1:4318", "http://127.0.0.1:4318/v1/traces"),
            ("https://c.example/otlp/", "https://c.example/otlp/v1/traces"),
            ("https://c.example/otlp", "https://c.example/otlp/v1/traces"),
        ] {
            assert_eq!(below(&endpoint.parse().unwrap(), "traces").as_str(), traces);
        }
    }
}
