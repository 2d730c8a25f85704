//! For the wire tests of the stand-ins: a clock that is set by hand, and a plain HTTP client.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on should say where")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use http::HeaderMap;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client as Pool;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

use crate::Clock;

/// Where a [`Time`] starts: 2026-01-01T00:00:00Z, a Thursday.
pub const START_MS: u64 = 1_767_225_600_000;

/// Time that passes when the test says so.
#[derive(Clone, Debug)]
pub struct Time(Arc<AtomicU64>);

impl Default for Time {
    fn default() -> Self {
        Self(Arc::new(AtomicU64::new(START_MS)))
    }
}

impl Time {
    /// Shows this time.
    #[must_use]
    pub fn clock(&self) -> Clock {
        let source = self.0.clone();
        Clock::from_fn(move || source.load(Ordering::Relaxed))
    }

    /// Now, in epoch milliseconds.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Lets milliseconds pass.
    pub fn advance_ms(&self, by: u64) {
        self.0.fetch_add(by, Ordering::Relaxed);
    }
}

/// What came back.
#[derive(Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, which has to be UTF-8.
    pub text: String,
}

impl Answer {
    /// A header, empty if there is none.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// It is none.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|_| panic!("not JSON: {}", self.text))
    }
}

/// Sends requests as they are, over connections that are kept.
#[derive(Clone, Debug)]
pub struct Client {
    pool: Pool<HttpConnector, Full<Bytes>>,
}

impl Default for Client {
    fn default() -> Self {
        Self { pool: Pool::builder(TokioExecutor::new()).build_http() }
    }
}

impl Client {
    /// Speaks HTTP/2 from the first byte.
    #[must_use]
    pub fn http2() -> Self {
        Self { pool: Pool::builder(TokioExecutor::new()).http2_only(true).build_http() }
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Panics
    /// The request is none, or is not answered.
    pub async fn send(
        &self,
        address: SocketAddr,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let uri = format!("http://{address}{target}");
        let mut request = http::Request::builder().method(method).uri(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into())).unwrap();
        let (parts, body) = self.pool.request(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }
}
