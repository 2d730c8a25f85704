//! An answer that breaks off, because that was asked for: half of what comes first, then nothing.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::Frame;
use hyper::body::Incoming;

use super::client::BodyError;
use crate::invocation::invoker::DROPPED;
use crate::invocation::record::Record;

/// The body of such an answer. It ends the record with a failure, and its end is an error.
pub(super) struct Torn {
    body: Incoming,
    record: Option<Record>,
    step: Step,
}

enum Step {
    /// Half of the first piece is still to come.
    Whole,
    /// The caller gets that half before it gets the end.
    Half,
    Over,
}

impl Torn {
    pub(super) fn new(body: Incoming, record: Record) -> Self {
        Self { body, record: Some(record), step: Step::Whole }
    }
}

impl http_body::Body for Torn {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Step::Whole = self.step {
            let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
            self.step = Step::Half;
            if let Some(Ok(frame)) = frame
                && let Ok(data) = frame.into_data()
                && data.len() > 1
            {
                let half = data.slice(..data.len() / 2);
                return Poll::Ready(Some(Ok(Frame::data(half))));
            }
        }
        if let Step::Half = self.step {
            self.step = Step::Over;
            // The connection writes what it has when it has to wait, and not when it fails.
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(record) = self.record.take() {
            record.failed(DROPPED);
        }
        Poll::Ready(Some(Err(DROPPED.into())))
    }
}
