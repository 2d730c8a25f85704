//! Where a request or an invocation stands in a distributed trace.
//!
//! The format is the `traceparent` header of W3C Trace Context,
//! <https://www.w3.org/TR/trace-context/#traceparent-header>. `tracestate` is not carried on: it
//! belongs to the vendors that write it, and none writes one here.

use std::convert::Infallible;
use std::fmt;

use axum::extract::FromRequestParts;
use http::HeaderMap;
use http::request::Parts;
use uuid::Uuid;

/// Name of the header, and by convention of the message property, that carries the context.
pub const TRACEPARENT: &str = "traceparent";

/// Length of a `traceparent` of version 00: `00-<32 hex>-<16 hex>-<2 hex>`.
const TRACEPARENT_LEN: usize = 55;

/// The only flag that version 00 defines.
const FLAG_SAMPLED: u8 = 0x01;

/// Identifies a whole trace: 16 bytes, never all zero, shown as 32 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId(u128);

/// Identifies one span of a trace: 8 bytes, never all zero, shown as 16 lower-case hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId(u64);

/// The span that this request or invocation is, within the trace that it belongs to.
///
/// As an axum extractor it yields the context that the server opened for the request. In a router
/// that runs without the server, in a test for example, it continues the request's own
/// `traceparent` header or starts a trace.
///
/// ```
/// # use handler::TraceContext;
/// let caller = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
/// let trace = TraceContext::continue_from(caller).unwrap();
/// assert_eq!(trace.trace_id().to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
/// assert_eq!(trace.parent_span_id.unwrap().to_string(), "00f067aa0ba902b7");
/// assert_ne!(trace.traceparent(), caller); // same trace, but a span of our own
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TraceContext {
    /// The trace.
    pub trace_id: TraceId,
    /// This span.
    pub span_id: SpanId,
    /// The caller's span, unless the trace starts here.
    pub parent_span_id: Option<SpanId>,
    /// Whether the caller records the trace. A trace that starts here is recorded.
    pub sampled: bool,
}

impl TraceContext {
    /// Starts a trace.
    #[must_use]
    #[expect(clippy::new_without_default, reason = "a default that is random surprises")]
    pub fn new() -> Self {
        Self {
            trace_id: TraceId::random(),
            span_id: SpanId::random(),
            parent_span_id: None,
            sampled: true,
        }
    }

    /// A new span under the caller's `traceparent`; `None` when that is no valid one.
    #[must_use]
    pub fn continue_from(traceparent: &str) -> Option<Self> {
        let (trace_id, parent, flags) = parse(traceparent.trim())?;
        Some(Self {
            trace_id,
            span_id: SpanId::random(),
            parent_span_id: Some(parent),
            sampled: flags & FLAG_SAMPLED != 0,
        })
    }

    /// A new span under the `traceparent` header, or the start of a trace when there is no valid
    /// one, or more than one.
    #[must_use]
    pub fn from_headers(headers: &HeaderMap) -> Self {
        let mut values = headers.get_all(TRACEPARENT).iter();
        match (values.next(), values.next()) {
            (Some(only), None) => only.to_str().ok().and_then(Self::continue_from),
            _ => None,
        }
        .unwrap_or_else(Self::new)
    }

    /// A new span under this one.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: SpanId::random(), parent_span_id: Some(self.span_id), ..*self }
    }

    /// What to hand to whoever is called next, in a header or a message property.
    #[must_use]
    pub fn traceparent(&self) -> String {
        let flags = if self.sampled { FLAG_SAMPLED } else { 0 };
        format!("00-{}-{}-{flags:02x}", self.trace_id, self.span_id)
    }

    /// The trace.
    #[must_use]
    pub fn trace_id(&self) -> TraceId {
        self.trace_id
    }

    /// This span.
    #[must_use]
    pub fn span_id(&self) -> SpanId {
        self.span_id
    }

    /// Whether the trace is recorded.
    #[must_use]
    pub fn sampled(&self) -> bool {
        self.sampled
    }
}

impl<S: Send + Sync> FromRequestParts<S> for TraceContext {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Infallible> {
        if let Some(trace) = parts.extensions.get::<Self>() {
            return Ok(*trace);
        }
        let trace = Self::from_headers(&parts.headers);
        // Kept, so that every extractor of this request sees the same span.
        parts.extensions.insert(trace);
        Ok(trace)
    }
}

impl TraceId {
    fn random() -> Self {
        // A version 4 UUID is never all zero: its version digit is not.
        Self(Uuid::new_v4().as_u128())
    }
}

impl SpanId {
    fn random() -> Self {
        let (high, low) = Uuid::new_v4().as_u64_pair();
        // The halves hold the fixed bits of a UUID in different places, so that folding them
        // leaves every bit random; zero, which is not allowed, is one in 2^64.
        Self((high ^ low).max(1))
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for SpanId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Trace, parent span and flags. A later version may append fields after the flags, which have to
/// be skipped; version `ff` is invalid for ever.
fn parse(text: &str) -> Option<(TraceId, SpanId, u8)> {
    let (head, rest) = text.split_at_checked(TRACEPARENT_LEN)?;
    let mut fields = head.split('-');
    let version = hex(fields.next()?, 2)?;
    let trace_id = hex(fields.next()?, 32)?;
    let span_id = hex(fields.next()?, 16)?;
    let flags = hex(fields.next()?, 2)?;
    let surplus = !rest.is_empty() && (version == 0 || !rest.starts_with('-'));
    if fields.next().is_some() || surplus || version == 0xff || trace_id == 0 || span_id == 0 {
        return None;
    }
    let (span_id, flags) = (u64::try_from(span_id).ok()?, u8::try_from(flags).ok()?);
    Some((TraceId(trace_id), SpanId(span_id), flags))
}

/// Exactly `digits` hex digits, lower-case as the standard demands.
fn hex(text: &str, digits: usize) -> Option<u128> {
    let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    (text.len() == digits && text.bytes().all(lower))
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_valid_parent_is_continued() {
        let trace = TraceContext::continue_from(CALLER).unwrap();
        assert_eq!(trace.trace_id.to_string(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(trace.parent_span_id.map(|id| id.to_string()).unwrap(), "00f067aa0ba902b7");
        assert!(trace.sampled);
        let again = TraceContext::continue_from(&trace.traceparent()).unwrap();
        assert_eq!(again.parent_span_id, Some(trace.span_id));
        assert_eq!(again.trace_id, trace.trace_id);
        let child = trace.child();
        assert_eq!((child.trace_id, child.parent_span_id), (trace.trace_id, Some(trace.span_id)));

        // .NET writes 00 when it does not record; later versions may append fields.
        assert!(!TraceContext::continue_from(&CALLER.replace("-01", "-00")).unwrap().sampled);
        assert!(TraceContext::continue_from(&format!("01{}-what-ever", &CALLER[2..])).is_some());
    }

    #[test]
    fn an_invalid_parent_is_not() {
        for invalid in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01more",
            "00-4bf92f3577b34da6a3ce929d0e0e473-600f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-+1",
            "00-4bf92f3577b34da6a3ce929d0e0e47366-00f067aa0ba902b-01",
            "ä0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0",
        ] {
            assert_eq!(TraceContext::continue_from(invalid), None, "{invalid}");
        }
        let mut headers = HeaderMap::new();
        headers.append(TRACEPARENT, CALLER.parse().unwrap());
        assert!(TraceContext::from_headers(&headers).parent_span_id.is_some());
        headers.append(TRACEPARENT, CALLER.parse().unwrap());
        assert_eq!(TraceContext::from_headers(&headers).parent_span_id, None);
    }

    #[tokio::test]
    async fn extractors_of_one_request_see_one_span() {
        let (mut parts, ()) =
            http::Request::builder().header(TRACEPARENT, CALLER).body(()).unwrap().into_parts();
        let Ok(first) = TraceContext::from_request_parts(&mut parts, &()).await;
        let Ok(second) = TraceContext::from_request_parts(&mut parts, &()).await;
        assert_eq!(first, second);
        assert_eq!(first.trace_id.to_string(), CALLER[3..35]);
    }
}
