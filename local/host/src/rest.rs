//! Plain HTTP calls to local services, limited in time and size.
//!
//! Knows requests and answers; what a service means by them is the business of its client.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use time::{OffsetDateTime, PrimitiveDateTime, UtcOffset};
use tokio::time::timeout;

use crate::error::chain;

/// A local service that has not answered by then hangs; Azure's clients allow a minute or more.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(15);

/// The largest answer that is read: 32 queue messages of 64 KiB, escaped, and as much again.
const ANSWER_MAX_BYTES: usize = 8 * 1024 * 1024;

/// Idle connections are closed after this time.
const POOL_IDLE: Duration = Duration::from_mins(1);

/// Dates of HTTP headers, and of the answers of Storage.
const HTTP_DATE: &[BorrowedFormatItem<'_>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// A pooled client. Cheap to clone.
#[derive(Clone)]
pub(crate) struct RestClient(Client<HttpConnector, Full<Bytes>>);

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// There is no answer. `Display` is for the log.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoReply(String);

impl RestClient {
    pub(crate) fn new() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(POOL_IDLE)
            .build(connector);
        Self(client)
    }

    /// One call. A status of any kind is an answer.
    pub(crate) async fn send(&self, request: Request<Full<Bytes>>) -> Result<Reply, NoReply> {
        let exchange = async {
            let response = self.0.request(request).await.map_err(|error| NoReply(chain(&error)))?;
            let (parts, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_MAX_BYTES)
                .collect()
                .await
                .map_err(|error| NoReply(format!("the answer broke off: {error}")))?;
            Ok(Reply { status: parts.status, headers: parts.headers, body: body.to_bytes() })
        };
        timeout(ANSWER_TIMEOUT, exchange)
            .await
            .map_err(|_| NoReply(format!("no answer within {ANSWER_TIMEOUT:?}")))?
    }
}

impl Reply {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }
}

/// `time` as HTTP writes it, always in GMT.
pub(crate) fn http_date(time: OffsetDateTime) -> String {
    // The format has no component that can fail.
    time.to_offset(UtcOffset::UTC).format(HTTP_DATE).unwrap_or_default()
}

pub(crate) fn parse_http_date(text: &str) -> Option<OffsetDateTime> {
    PrimitiveDateTime::parse(text.trim(), HTTP_DATE).ok().map(PrimitiveDateTime::assume_utc)
}

#[cfg(test)]
mod tests {
    use time::macros::datetime;

    use super::*;

    #[test]
    fn dates_are_written_and_read_as_http_has_them() {
        let time = datetime!(2017-04-07 02:51:12 +02:00);
        assert_eq!(http_date(time), "Fri, 07 Apr 2017 00:51:12 GMT");
        assert_eq!(parse_http_date("Fri, 07 Apr 2017 00:51:12 GMT"), Some(time));
        assert_eq!(parse_http_date("2017-04-07T00:51:12Z"), None);
    }
}
