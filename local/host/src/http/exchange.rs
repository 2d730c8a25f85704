//! What is under way on a connection, so that a stop waits for that and for nothing else: not for a
//! caller that has connected and said nothing, nor for one that has sent half of a request.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::time::sleep;

use super::client::{Body, BodyError};
use super::limits::{CLOSE_CHECK, CLOSE_GRACE};

/// The exchanges of one connection. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Exchanges(Arc<AtomicUsize>);

impl Exchanges {
    /// One more is under way.
    pub(crate) fn begin(&self) -> Exchange {
        self.0.fetch_add(1, Ordering::Relaxed);
        Exchange(Arc::clone(&self.0))
    }

    /// Waits until nothing has been under way for [`CLOSE_GRACE`]: what was answered last has left
    /// by then.
    pub(crate) async fn over(&self) {
        loop {
            while self.0.load(Ordering::Relaxed) > 0 {
                sleep(CLOSE_CHECK).await;
            }
            sleep(CLOSE_GRACE).await;
            if self.0.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }
}

/// One exchange, until it is dropped.
pub(crate) struct Exchange(Arc<AtomicUsize>);

impl Exchange {
    /// Ends with the answer.
    pub(crate) fn with(self, body: Body) -> Counted {
        Counted { body, _exchange: self }
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The body of an answer, under way until it is dropped.
pub(crate) struct Counted {
    body: Body,
    _exchange: Exchange,
}

impl http_body::Body for Counted {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, Instant, timeout};

    use super::*;
    use crate::http::client::full;

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_over_a_while_after_its_last_exchange() {
        let exchanges = Exchanges::default();
        let begun = Instant::now();
        exchanges.over().await;
        assert_eq!(begun.elapsed(), CLOSE_GRACE);
        let body = exchanges.begin().with(full("x"));
        let long = Duration::from_hours(1);
        assert!(timeout(long, exchanges.over()).await.is_err(), "the answer is under way");
        drop(body);
        timeout(CLOSE_GRACE + CLOSE_CHECK, exchanges.over()).await.unwrap();
    }
}
