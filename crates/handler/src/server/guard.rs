//! A TCP stream with deadlines, as hyper's I/O.
//!
//! hyper's own header timeout starts with the connection and knows no difference between a client
//! that is silent and one that is idle, nor one that takes no answer. Here each phase of a
//! connection has its limit:
//!
//! ```text
//! Silent --first byte--> Head --whole head--> Busy --response sent--> Idle --first byte--> Head
//! ```
//!
//! The server moves to `Busy` and `Idle`, this module does the rest. A request that was pipelined
//! behind another counts as `Idle` until it is complete.
//!
//! A head must end its lines with CR LF. hyper also accepts a lone LF, over which a proxy may
//! disagree with us about where a request ends (RFC 9112 section 2.2 allows either); it is
//! replaced by NUL, which hyper answers with 400.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

use crate::config::Limits;

/// Read at once. Enough for nearly every request of the host; a large body takes several.
const READ_BYTES_MAX: usize = 8 * 1024;

/// What a connection is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// Accepted, and nothing heard.
    Silent,
    /// In the middle of a request's head.
    Head,
    /// A request is being handled or answered; its own limits apply.
    Busy,
    /// Between two requests.
    Idle,
}

/// The phase of one connection, shared by those who move it. All of them run in the connection's
/// task, so that there is nothing to synchronise.
#[derive(Clone, Debug)]
pub(super) struct PhaseCell(Arc<AtomicU64>);

/// Distinguishes a phase from the same phase at another time: a count above two bits of phase.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp(u64);

impl PhaseCell {
    pub(super) fn new() -> Self {
        Self(Arc::new(AtomicU64::new(Phase::Silent as u64)))
    }

    pub(super) fn set(&self, phase: Phase) {
        let count = (self.0.load(Ordering::Relaxed) >> 2) + 1;
        self.0.store((count << 2) | phase as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Phase {
        self.stamp().phase()
    }

    /// Which head is being waited for, if one is: a value that differs for every request. An idle
    /// connection waits for none.
    pub(super) fn unfinished_head(&self) -> Option<u64> {
        let count = self.0.load(Ordering::Relaxed) >> 2;
        match self.get() {
            Phase::Head => Some(count),
            // The head that comes next: a first byte in the meantime is not yet a head.
            Phase::Silent => Some(count + 1),
            Phase::Busy | Phase::Idle => None,
        }
    }

    fn stamp(&self) -> Stamp {
        Stamp(self.0.load(Ordering::Relaxed))
    }
}

impl Stamp {
    fn phase(self) -> Phase {
        match self.0 & 0b11 {
            0 => Phase::Silent,
            1 => Phase::Head,
            2 => Phase::Busy,
            _ => Phase::Idle,
        }
    }
}

/// The stream of one connection, with its deadlines.
pub(super) struct Guard<S> {
    stream: S,
    limits: Limits,
    phase: PhaseCell,
    /// The phase that `read_deadline` was set for.
    armed: Option<Stamp>,
    read_deadline: Pin<Box<Sleep>>,
    /// Running while the client takes nothing.
    write_stalled: Option<Pin<Box<Sleep>>>,
    lines: LineEnds,
    buffer: Box<[u8]>,
}

impl<S> Guard<S> {
    pub(super) fn new(stream: S, limits: Limits, phase: PhaseCell) -> Self {
        Self {
            stream,
            limits,
            phase,
            armed: None,
            read_deadline: Box::pin(tokio::time::sleep(limits.first_byte)),
            write_stalled: None,
            lines: LineEnds::default(),
            buffer: vec![0; READ_BYTES_MAX].into(),
        }
    }

    /// Starts the limit of a phase that has begun since last time.
    fn arm(&mut self) -> Phase {
        let stamp = self.phase.stamp();
        let phase = stamp.phase();
        if self.armed != Some(stamp) {
            self.armed = Some(stamp);
            let limit = match phase {
                Phase::Silent => Some(self.limits.first_byte),
                Phase::Head => Some(self.limits.head),
                Phase::Busy => None,
                Phase::Idle => {
                    self.lines.expect_head();
                    Some(self.limits.idle)
                }
            };
            if let Some(limit) = limit {
                self.read_deadline.as_mut().reset(Instant::now() + limit);
            }
        }
        phase
    }

    /// What to say about a client that takes nothing.
    fn poll_stalled(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let limit: Duration = self.limits.write_stall;
        let stalled = self.write_stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        stalled.as_mut().poll(cx).map(|()| timed_out("the client takes no answer"))
    }
}

impl<S: AsyncRead + Unpin> hyper::rt::Read for Guard<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        mut target: hyper::rt::ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let phase = this.arm();
        let room = target.remaining().min(this.buffer.len());
        let mut read = ReadBuf::new(&mut this.buffer[..room]);
        if Pin::new(&mut this.stream).poll_read(cx, &mut read)?.is_pending() {
            if phase == Phase::Busy {
                return Poll::Pending;
            }
            ready!(this.read_deadline.as_mut().poll(cx));
            return Poll::Ready(Err(timed_out("the client sends no request")));
        }
        let bytes = read.filled_mut();
        if !bytes.is_empty() {
            if matches!(phase, Phase::Silent | Phase::Idle) {
                this.phase.set(Phase::Head);
            }
            this.lines.check(bytes);
        }
        target.put_slice(bytes);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> hyper::rt::Write for Guard<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write(cx, bytes) {
            Poll::Ready(written) => {
                self.write_stalled = None;
                Poll::Ready(written)
            }
            Poll::Pending => self.poll_stalled(cx).map(Err),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match Pin::new(&mut self.stream).poll_write_vectored(cx, slices) {
            Poll::Ready(written) => {
                self.write_stalled = None;
                Poll::Ready(written)
            }
            Poll::Pending => self.poll_stalled(cx).map(Err),
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

fn timed_out(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

/// Finds line ends without CR in the heads of requests.
#[derive(Debug)]
struct LineEnds {
    in_head: bool,
    /// The last four bytes, whatever they belong to.
    tail: [u8; 4],
}

impl Default for LineEnds {
    fn default() -> Self {
        Self { in_head: true, tail: [0; 4] }
    }
}

impl LineEnds {
    /// What comes next is the head of a request.
    fn expect_head(&mut self) {
        self.in_head = true;
    }

    /// Replaces each lone LF of a head by NUL. What follows a head in the same bytes, be it a body
    /// or another request, is not looked at.
    fn check(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            let [_, second, third, last] = self.tail;
            if self.in_head && *byte == b'\n' && last != b'\r' {
                *byte = 0;
            }
            self.tail = [second, third, last, *byte];
            if self.tail == *b"\r\n\r\n" {
                self.in_head = false;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(parts: &[&str]) -> String {
        let mut lines = LineEnds::default();
        let mut seen = Vec::new();
        for part in parts {
            let mut bytes = part.as_bytes().to_vec();
            lines.check(&mut bytes);
            seen.extend(bytes);
        }
        String::from_utf8(seen).unwrap()
    }

    #[test]
    fn a_lone_line_feed_in_a_head_becomes_nul() {
        let good = "GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\nwith\n\nlines";
        assert_eq!(checked(&[good]), good);
        for split in 1..good.len() {
            let (first, rest) = good.split_at(split);
            assert_eq!(checked(&[first, rest]), good, "split at {split}");
        }
        assert_eq!(
            checked(&["GET / HTTP/1.1\nHost: a\r\n\r\n"]),
            "GET / HTTP/1.1\0Host: a\r\n\r\n"
        );
        assert_eq!(
            checked(&["GET / HTTP/1.1\r\nHost: a\r\n\n"]),
            "GET / HTTP/1.1\r\nHost: a\r\n\0"
        );
    }

    #[test]
    fn a_phase_is_told_from_the_same_phase_later() {
        let phase = PhaseCell::new();
        assert_eq!(phase.get(), Phase::Silent);
        let head = phase.unfinished_head();
        phase.set(Phase::Head);
        assert_eq!(phase.unfinished_head(), head);
        phase.set(Phase::Busy);
        assert_eq!(phase.unfinished_head(), None);
        phase.set(Phase::Idle);
        let first = phase.stamp();
        phase.set(Phase::Busy);
        assert_eq!(phase.get(), Phase::Busy);
        phase.set(Phase::Idle);
        assert_eq!(phase.get(), Phase::Idle);
        assert_ne!(phase.stamp(), first);
        assert_eq!(phase.unfinished_head(), None);
        phase.set(Phase::Head);
        assert!(phase.unfinished_head().is_some());
        assert_ne!(phase.unfinished_head(), head);
    }
}
