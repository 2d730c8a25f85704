//! What this system measures, and the trace of one order from the request to the last consumer.
//!
//! The trace travels in the event: `traceparent` of the request that caused it. Every consumer
//! opens a span below that ([`Consumption`]) and puts its own span into the event that it works
//! with, so that whatever follows from it (a payment in the queue, a closing event) hangs below
//! the consumer; a delayed copy is sent with the event as it came. `docs/observability.md` lists
//! every metric.

use handler::telemetry::{Counter, Destination, Gauge, Histogram, Kind, Options, Span, is_on};
use handler::{Context, TraceContext};
use orders::{CloudEvent, EventType, Move, Order, OutboxEvent, Overall, Service, Timestamp};
use tracing::error_span;

use crate::clock;
use crate::delivery::Delivery;
use crate::staging::Function;

/// Orders that were accepted for the first time.
pub static ORDERS_ACCEPTED: Counter =
    Counter::new("orders.accepted", "{order}", "Orders that were committed");

static ORDERS_COMPLETED: Counter =
    Counter::new("orders.completed", "{order}", "Orders whose every part is done");

static ORDERS_FAILED: Counter =
    Counter::new("orders.failed", "{order}", "Orders that could not be fulfilled, by reason");

static ORDERS_CANCELLED: Counter =
    Counter::new("orders.cancelled", "{order}", "Orders that their customers took back");

static ORDER_DURATION: Histogram =
    Histogram::new("orders.duration", "From the acceptance of an order to its end, by outcome");

static STAGE_LATENCY: Histogram = Histogram::new(
    "stage.latency",
    "From the event to the stored outcome of a service, waits and retries included",
);

static OUTBOX_LAG: Histogram =
    Histogram::new("outbox.lag", "From the commit of an event to its acceptance by the topic");

static DEAD_LETTERED: Counter = Counter::new(
    "messages.dead_lettered",
    "{message}",
    "Messages that were given up on, by source and reason",
);

static RETRIED: Counter =
    Counter::new("messages.retried", "{message}", "Copies that come back later, by source");

static HTTP_DURATION: Histogram =
    Histogram::new("http.server.request.duration", "Requests by route and status");

/// Age of the oldest event that is not on the topic yet, as the sweep and `/readyz` see it.
pub static OUTBOX_OLDEST_AGE: Gauge =
    Gauge::new("outbox.oldest_pending.age", "s", "Age of the oldest event still in the outbox");

/// Dead letters of a source, as the sweep sees them.
pub static DEAD_LETTERS: Gauge =
    Gauge::new("dead_letters.count", "{message}", "Messages that were given up on, by source");

/// Age of the oldest dead letter of a source; 0 where there is none.
pub static DEAD_LETTERS_OLDEST_AGE: Gauge =
    Gauge::new("dead_letters.oldest.age", "s", "Age of the oldest dead letter, by source");

/// Messages of a source that a consumer has not finished, as the sweep sees them.
pub static BACKLOG: Gauge =
    Gauge::new("backlog.count", "{message}", "Messages that wait for their consumer, by source");

/// Age of the oldest of them; 0 where there is none.
pub static BACKLOG_OLDEST_AGE: Gauge =
    Gauge::new("backlog.oldest.age", "s", "Age of the oldest waiting message, by source");

/// What does not fit together, by kind.
pub static RECONCILE_MISMATCHES: Counter = Counter::new(
    "reconcile.mismatches",
    "{mismatch}",
    "Places where bank, stock and orders disagree, by kind",
);

/// Refused requests that the audit trail only counts.
pub static REFUSALS_SUPPRESSED: Counter = Counter::new(
    "access.refusals.suppressed",
    "{request}",
    "Refused requests beyond what the audit trail keeps one by one",
);

/// Orders that were compared with the bank and the stock.
pub static RECONCILE_ORDERS: Counter =
    Counter::new("reconcile.orders", "{order}", "Orders that were reconciled");

/// Where the settings send telemetry, with the name of the app that `functions` make up.
#[must_use]
pub fn options(destination: Destination, functions: &[Function]) -> Options {
    Options {
        destination,
        service_name: functions.first().map_or("functions", |first| first.app()).to_owned(),
        service_version: env!("CARGO_PKG_VERSION").to_owned(),
    }
}

/// The handling of one event: its span, and the fields of every log line about it.
#[derive(Debug)]
pub struct Consumption {
    /// Log lines within it carry order, event, correlation and trace.
    pub log: tracing::Span,
    span: Span,
}

impl Consumption {
    /// Begins to handle `delivery`, which came from `source`: the trace of the event goes on here,
    /// or else that of its sender, or else that of the invocation. What the delivery gives rise to
    /// is put below this span.
    pub fn begin(
        delivery: &mut Delivery,
        sender: Option<TraceContext>,
        context: &Context,
        source: &str,
    ) -> Self {
        let event = &mut delivery.event;
        let trace = event.traceparent.as_deref().and_then(TraceContext::continue_from);
        let trace = trace.or(sender).unwrap_or_else(|| context.trace.child());
        event.traceparent = Some(trace.traceparent());
        let mut span = Span::start(trace, &context.function, Kind::Consumer);
        if span.is_recorded() {
            span.link(context.trace);
            span.text("messaging.operation.type", "process");
            span.text("messaging.destination.name", source);
            span.text("messaging.message.id", &delivery.origin);
            span.text("messaging.message.conversation_id", &event.correlationid);
            span.text("order.id", &event.subject);
            span.text("event.type", event.event_type.as_str());
            span.number("attempt", delivery.attempt.into());
        }
        // The invocation's own lines, those about its failure above all, name the order too.
        let around = tracing::Span::current();
        around.record("subject", event.subject.as_str());
        around.record("correlation_id", event.correlationid.as_str());
        let log = error_span!(
            "event",
            order.id = %delivery.order_id,
            event.id = event.id,
            event.type = event.event_type.as_str(),
            correlation_id = event.correlationid,
            trace_id = %trace.trace_id(),
            span_id = %trace.span_id(),
        );
        Self { log, span }
    }

    /// The handling did not succeed.
    pub fn fail(&mut self, why: &str) {
        self.span.fail(why);
    }
}

/// The span of an attempt's own work, below the consumption that it belongs to.
pub fn attempt(event: &CloudEvent, service: Service, attempt: u32) -> Option<Span> {
    let trace = event.traceparent.as_deref().filter(|_| is_on())?;
    let trace = TraceContext::continue_from(trace)?;
    let mut span = Span::start(trace, &format!("{service} attempt"), Kind::Internal);
    span.number("attempt", attempt.into());
    Some(span)
}

/// A service has stored its outcome for an event.
pub fn finished(event: &CloudEvent, order: &Order, service: Service) {
    let outcome = order.status[service].as_str();
    let attributes = [("service", service.as_str()), ("outcome", outcome)];
    STAGE_LATENCY.record(seconds_since(event.time), &attributes);
}

/// A move was applied; if it closed the order, that is counted.
pub fn applied(change: &Move, order: &Order) {
    let closes = |event: &OutboxEvent| {
        matches!(
            event.event_type,
            EventType::OrderCompleted | EventType::OrderFailed | EventType::OrderCancelled
        )
    };
    if !is_on() || !change.event.as_deref().is_some_and(closes) {
        return;
    }
    match order.overall {
        Overall::Completed => ORDERS_COMPLETED.add(1, &[]),
        Overall::Failed => {
            let reason = order.failure().map_or("unknown", |(_, reason)| reason);
            ORDERS_FAILED.add(1, &[("reason", reason)]);
        }
        Overall::Cancelled => ORDERS_CANCELLED.add(1, &[]),
        Overall::Accepted => return,
    }
    let outcome = [("outcome", order.overall.as_str())];
    ORDER_DURATION.record(seconds_since(order.created_at), &outcome);
}

/// A copy of a message from `source` comes back later.
pub fn retried(source: &str) {
    RETRIED.add(1, &[("source", source)]);
}

/// A message from `source` was given up on.
pub fn dead_lettered(source: &str, reason: &str) {
    DEAD_LETTERED.add(1, &[("source", source), ("reason", reason)]);
}

/// A request was answered. `route` is the pattern and not the path.
pub fn answered(method: &str, route: Option<&str>, status: u16, seconds: f64) {
    if is_on() {
        let attributes = [
            ("http.request.method", method),
            ("http.route", route.unwrap_or("")),
            ("http.response.status_code", &status.to_string()),
        ];
        HTTP_DURATION.record(seconds, &attributes);
    }
}

/// An event on its way to the topic, as telemetry needs it; nothing while that is off.
#[derive(Debug)]
pub struct Departing(Option<(Timestamp, Option<TraceContext>)>);

impl Departing {
    /// Before the event is sent.
    #[must_use]
    pub fn new(event: &OutboxEvent) -> Self {
        let trace = || event.event.traceparent.as_deref().and_then(TraceContext::continue_from);
        Self(is_on().then(|| (event.created_at, trace())))
    }

    /// The topic has it: notes how long that took since the commit.
    pub fn departed(&self) {
        let Some((committed_at, trace)) = &self.0 else { return };
        OUTBOX_LAG.record(seconds_since(*committed_at), &[]);
        if let Some(trace) = trace {
            let mut span = Span::start(*trace, "publish", Kind::Producer);
            span.began_at(u64::try_from(committed_at.epoch_ms()).unwrap_or(0) * 1_000_000);
            span.text("messaging.operation.type", "send");
            span.text("messaging.destination.name", &crate::topology::TOPOLOGY.topic().name);
        }
    }
}

/// Seconds from a moment to now.
#[must_use]
pub fn seconds_since(moment: Timestamp) -> f64 {
    let now = clock::now().to_offset_date_time();
    (now - moment.to_offset_date_time()).as_seconds_f64()
}
