//! Bodies that keep the connection informed: a request's that may not stall, a response's that
//! says when it has been sent.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body as AxumBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::{Instant, Sleep};

use super::guard::{Phase, PhaseCell};

/// The client stopped in the middle of a body.
#[derive(Debug, thiserror::Error)]
#[error("the client stopped sending in the middle of the body")]
pub(super) struct Stalled;

/// A request's body that fails when somebody waits for it and nothing arrives.
pub(super) struct Patient {
    body: Incoming,
    limit: Duration,
    /// Running while somebody waits.
    waiting: Option<Pin<Box<Sleep>>>,
    fate: Arc<Fate>,
}

/// What became of a request's body.
#[derive(Debug, Default)]
pub(super) struct Fate {
    /// Whether it stopped arriving; axum's extractors would not tell.
    stalled: AtomicBool,
    /// Whether somebody has read it to its end.
    read: AtomicBool,
}

impl Fate {
    pub(super) fn is_stalled(&self) -> bool {
        self.stalled.load(Ordering::Relaxed)
    }

    pub(super) fn is_read(&self) -> bool {
        self.read.load(Ordering::Relaxed)
    }
}

impl Patient {
    pub(super) fn new(body: Incoming, limit: Duration) -> (Self, Arc<Fate>) {
        let fate = Arc::new(Fate::default());
        fate.read.store(body.is_end_stream(), Ordering::Relaxed);
        (Self { body, limit, waiting: None, fate: Arc::clone(&fate) }, fate)
    }
}

impl Body for Patient {
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.body).poll_frame(cx) {
            this.waiting = None;
            if frame.is_none() || this.body.is_end_stream() {
                this.fate.read.store(true, Ordering::Relaxed);
            }
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let limit = this.limit;
        let waiting = this
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(Instant::now() + limit)));
        ready!(waiting.as_mut().poll(cx));
        this.fate.stalled.store(true, Ordering::Relaxed);
        Poll::Ready(Some(Err(Stalled.into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body after whose end the connection is idle.
pub(super) struct Answer {
    body: AxumBody,
    phase: PhaseCell,
}

impl Answer {
    pub(super) fn new(body: AxumBody, phase: PhaseCell) -> Self {
        Self { body, phase }
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.phase.set(Phase::Idle);
    }
}
