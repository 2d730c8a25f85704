//! Spans: what somebody did for a trace, from when to when, and how it ended.

use super::otlp::{FinishedSpan, Scalar};
use super::{now_ns, pipeline};
use crate::trace::TraceContext;

/// Attributes of one span; what comes after them is dropped.
const ATTRIBUTES_MAX: usize = 32;

/// Characters of one attribute's text; the rest is cut off.
const TEXT_CHARS_MAX: usize = 512;

/// What a span is to its neighbours; the numbers are those of OTLP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Work within the process.
    Internal = 1,
    /// An answer to a request.
    Server = 2,
    /// A request to somebody else.
    Client = 3,
    /// A message is sent.
    Producer = 4,
    /// A message is handled.
    Consumer = 5,
}

/// A span that is going on; it is recorded when dropped, so that one whose future is dropped at a
/// deadline is recorded too. Does nothing and costs nothing while telemetry is off.
///
/// Every span is recorded, whatever the `sampled` flag of its trace says: the Functions host
/// clears it unless somebody listens to the host itself.
#[derive(Debug)]
#[must_use = "a span ends when it is dropped"]
pub struct Span(Option<Box<FinishedSpan>>);

impl Span {
    /// A span that begins now and is what `trace` says.
    pub fn start(trace: TraceContext, name: &str, kind: Kind) -> Self {
        if pipeline().is_none() {
            return Self(None);
        }
        Self(Some(Box::new(FinishedSpan {
            trace,
            name: name.to_owned(),
            kind,
            start_ns: now_ns(),
            end_ns: 0,
            attributes: Vec::new(),
            links: Vec::new(),
            error: None,
        })))
    }

    /// Whether the span is recorded.
    #[must_use]
    pub fn is_recorded(&self) -> bool {
        self.0.is_some()
    }

    /// Adds a text.
    pub fn text(&mut self, name: &'static str, value: &str) {
        if let Some(span) = &mut self.0
            && span.attributes.len() < ATTRIBUTES_MAX
        {
            span.attributes.push((name, Scalar::Text(cut(value))));
        }
    }

    /// Adds a number.
    pub fn number(&mut self, name: &'static str, value: i64) {
        if let Some(span) = &mut self.0
            && span.attributes.len() < ATTRIBUTES_MAX
        {
            span.attributes.push((name, Scalar::Integer(value)));
        }
    }

    /// Points at a span of another trace, or of another place in this one, that has to do with it.
    pub fn link(&mut self, to: TraceContext) {
        if let Some(span) = &mut self.0 {
            span.links.push((to.trace_id, to.span_id));
        }
    }

    /// Marks the span as failed.
    pub fn fail(&mut self, why: &str) {
        if let Some(span) = &mut self.0 {
            span.error = Some(cut(why));
        }
    }

    /// Sets when it began, in nanoseconds since the Unix epoch: for what began before anybody
    /// could know its trace.
    pub fn began_at(&mut self, ns: u64) {
        if let Some(span) = &mut self.0 {
            span.start_ns = ns;
        }
    }
}

/// The text, cut off where it is too long.
fn cut(text: &str) -> String {
    // Nearly every text is short in bytes already.
    if text.len() <= TEXT_CHARS_MAX {
        return text.to_owned();
    }
    text.chars().take(TEXT_CHARS_MAX).collect()
}

impl Drop for Span {
    fn drop(&mut self) {
        if let (Some(mut span), Some(pipeline)) = (self.0.take(), pipeline()) {
            span.end_ns = now_ns().max(span.start_ns);
            pipeline.offer(*span);
        }
    }
}
