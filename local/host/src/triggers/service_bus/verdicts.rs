//! What the broker says to a settlement and to a drain, read off the wire.
//!
//! Under `rcv-settle-mode` second the broker answers each disposition, and `rejected` with an error
//! in that answer means that the settlement was refused, most often because the lock is lost. A
//! link that is drained gets a `flow` once everything is sent that comes for its credit. The AMQP
//! client hides both, so this wrapper around the socket looks at incoming frames on their way to
//! the client. It changes nothing and understands nothing else.
//!
//! Reference: AMQP 1.0 part 2, sections 2.3 (framing), 2.6.7 (flow control) and 2.7 (performatives).

use std::collections::HashMap;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::mpsc;

/// A disposition is far smaller; the rest of a larger frame is skipped.
const FRAME_KEPT_BYTES: usize = 4 * 1024;

/// Notices that may wait to be read. Beyond that they are dropped: verdicts only explain, and nobody
/// waits for the end of a drain for long.
pub(crate) const NOTICES_MAX: usize = 1024;

/// Links of the peer that are kept apart. The host has four on a connection.
const LINKS_MAX: usize = 64;

const FRAME_HEADER_BYTES: usize = 8;
const ATTACH: u64 = 0x12;
const FLOW: u64 = 0x13;
const TRANSFER: u64 = 0x14;
const DISPOSITION: u64 = 0x15;
const DETACH: u64 = 0x16;
const REJECTED: u64 = 0x25;
const ERROR: u64 = 0x1d;

/// The broker's answer for the deliveries `first` to `last`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) first: u32,
    pub(crate) last: u32,
    /// The error condition, if the settlement was refused.
    pub(crate) refused: Option<String>,
}

/// What is worth a word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    /// An answer to a settlement.
    Verdict(Verdict),
    /// Nothing more comes over a link that was drained.
    Drained {
        /// The last delivery that was sent over it, if there was one.
        last: Option<u32>,
    },
}

/// A stream that reports the notices that pass through it.
#[derive(Debug)]
pub(crate) struct Tapped<S> {
    stream: S,
    frames: Frames,
    notices: mpsc::Sender<Notice>,
}

impl<S> Tapped<S> {
    pub(crate) fn new(stream: S) -> (Self, mpsc::Receiver<Notice>) {
        let (notices, seen) = mpsc::channel(NOTICES_MAX);
        (Self { stream, frames: Frames::default(), notices }, seen)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Tapped<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(context, buffer))?;
        let notices = &this.notices;
        this.frames.feed(&buffer.filled()[before..], |notice| {
            let _ = notices.try_send(notice);
        });
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Tapped<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

/// Cuts the byte stream into frames. Keeps at most the head of one.
#[derive(Debug, Default)]
struct Frames {
    kept: Vec<u8>,
    /// Bytes of the present frame that are still to come and are not kept.
    skip: usize,
    /// The last delivery over each link, by channel and handle.
    links: HashMap<(u16, u32), Option<u32>>,
}

impl Frames {
    fn feed(&mut self, mut bytes: &[u8], mut report: impl FnMut(Notice)) {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let wanted = match self.frame_size() {
                None => FRAME_HEADER_BYTES,
                Some(size) => size.min(FRAME_KEPT_BYTES),
            };
            let taken = (wanted - self.kept.len()).min(bytes.len());
            self.kept.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            let Some(size) = self.frame_size() else { continue };
            if self.kept.len() < size.min(FRAME_KEPT_BYTES) {
                continue;
            }
            if let Some(notice) = self.notice() {
                report(notice);
            }
            self.skip = size - self.kept.len();
            self.kept.clear();
        }
    }

    /// Known once the header is there. A protocol header counts as a frame without a body.
    fn frame_size(&self) -> Option<usize> {
        let head: [u8; 4] = self.kept.get(..FRAME_HEADER_BYTES)?.get(..4)?.try_into().ok()?;
        if &head == b"AMQP" {
            return Some(FRAME_HEADER_BYTES);
        }
        let size = usize::try_from(u32::from_be_bytes(head)).unwrap_or(usize::MAX);
        Some(size.max(FRAME_HEADER_BYTES))
    }

    /// What the frame says whose head is kept.
    fn notice(&mut self) -> Option<Notice> {
        let offset = usize::from(*self.kept.get(4)?) * 4;
        let channel = u16::from_be_bytes(self.kept.get(6..8)?.try_into().ok()?);
        let mut reader = Reader(self.kept.get(offset..)?);
        if *self.kept.get(5)? != 0 {
            return None;
        }
        let performative = reader.descriptor()?;
        let mut fields = reader.list()?;
        match performative {
            DISPOSITION => verdict(fields).map(Notice::Verdict),
            ATTACH => {
                fields.skip_text()?;
                let handle = fields.number()?;
                if self.links.len() < LINKS_MAX {
                    self.links.insert((channel, handle), None);
                }
                None
            }
            TRANSFER => {
                let last = self.links.get_mut(&(channel, fields.number()?))?;
                // Only the first frame of a delivery has its id.
                if let Some(id) = fields.number_or_null()? {
                    *last = Some(id);
                }
                None
            }
            DETACH => {
                self.links.remove(&(channel, fields.number()?));
                None
            }
            FLOW => {
                // The windows of the session.
                for _ in 0..4 {
                    fields.number_or_null()?;
                }
                let last = *self.links.get(&(channel, fields.number()?))?;
                // delivery-count, link-credit, available
                for _ in 0..3 {
                    fields.number_or_null()?;
                }
                fields.flag()?.then_some(Notice::Drained { last })
            }
            _ => None,
        }
    }
}

/// The verdict of a disposition, if that is one by the sending side.
fn verdict(mut fields: Reader<'_>) -> Option<Verdict> {
    // role: true is the receiving side.
    if fields.flag()? {
        return None;
    }
    let first = fields.number()?;
    let last = fields.number_or_null().map_or(first, |last| last.unwrap_or(first));
    let _settled = fields.flag();
    Some(Verdict { first, last, refused: fields.refusal() })
}

/// A cursor over encoded AMQP values, as far as these performatives need them.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, tail) = self.0.split_at_checked(length)?;
        self.0 = tail;
        Some(head)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    fn word(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn descriptor(&mut self) -> Option<u64> {
        match (self.byte()?, self.byte()?) {
            (0x00, 0x53) => self.byte().map(u64::from),
            (0x00, 0x80) => Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?)),
            _ => None,
        }
    }

    /// The content of a list.
    fn list(&mut self) -> Option<Reader<'a>> {
        let length = match self.byte()? {
            0x45 => return Some(Reader(&[])),
            0xc0 => {
                let length = usize::from(self.byte()?).checked_sub(1)?;
                self.byte()?;
                length
            }
            0xd0 => {
                let length = usize::try_from(self.word()?).ok()?.checked_sub(4)?;
                self.word()?;
                length
            }
            _ => return None,
        };
        self.take(length).map(Reader)
    }

    fn skip_text(&mut self) -> Option<()> {
        let length = match self.byte()? {
            0xa1 => usize::from(self.byte()?),
            0xb1 => usize::try_from(self.word()?).ok()?,
            _ => return None,
        };
        self.take(length).map(drop)
    }

    fn flag(&mut self) -> Option<bool> {
        match self.byte()? {
            0x41 => Some(true),
            0x56 => self.byte().map(|byte| byte != 0),
            _ => Some(false),
        }
    }

    fn number(&mut self) -> Option<u32> {
        self.number_or_null()?
    }

    fn number_or_null(&mut self) -> Option<Option<u32>> {
        match self.byte()? {
            0x40 => Some(None),
            0x43 => Some(Some(0)),
            0x52 => self.byte().map(|byte| Some(u32::from(byte))),
            0x70 => self.word().map(Some),
            _ => None,
        }
    }

    /// The condition of `rejected{error}`; `None` for every other state.
    fn refusal(&mut self) -> Option<String> {
        if self.descriptor()? != REJECTED {
            return None;
        }
        let mut rejected = self.list()?;
        if rejected.descriptor()? != ERROR {
            return None;
        }
        let mut error = rejected.list()?;
        let length = match error.byte()? {
            0xa3 => usize::from(error.byte()?),
            0xb3 => usize::try_from(error.word()?).ok()?,
            _ => return None,
        };
        Some(String::from_utf8_lossy(error.take(length)?).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(body.len() + 8).unwrap();
        [&size.to_be_bytes()[..], &[2, 0, 0, 1], body].concat()
    }

    /// role, first, last, settled, then `state`.
    fn disposition(role: u8, last: &[u8], state: &[u8]) -> Vec<u8> {
        let fields = [&[role, 0x52, 7][..], last, &[0x41], state].concat();
        let length = u8::try_from(fields.len() + 1).unwrap();
        frame(&[&[0x00, 0x53, 0x15, 0xc0, length, 5][..], &fields].concat())
    }

    fn rejected() -> Vec<u8> {
        let condition = b"com.microsoft:message-lock-lost";
        let symbol = [&[0xa3, u8::try_from(condition.len()).unwrap()][..], condition].concat();
        let error_length = u8::try_from(symbol.len() + 1).unwrap();
        let error = [&[0x00, 0x53, 0x1d, 0xc0, error_length, 1][..], &symbol].concat();
        let length = u8::try_from(error.len() + 1).unwrap();
        [&[0x00, 0x53, 0x25, 0xc0, length, 1][..], &error].concat()
    }

    #[test]
    fn refusals_are_found_however_the_stream_is_cut() {
        let accepted = [0x00, 0x53, 0x24, 0x45];
        let mut large = frame(&vec![0x42; FRAME_KEPT_BYTES * 3]);
        large[8..11].copy_from_slice(&[0x00, 0x53, 0x14]);
        let stream = [
            b"AMQP\x03\x01\x00\x00".to_vec(),
            b"AMQP\x00\x01\x00\x00".to_vec(),
            frame(&[]),
            disposition(0x42, &[0x40], &accepted),
            large,
            disposition(0x42, &[0x70, 0, 0, 1, 0], &rejected()),
            disposition(0x41, &[0x40], &accepted),
            disposition(0x42, &[0x40], &[0x00, 0x53, 0x25, 0x45]),
        ]
        .concat();
        let expected = [
            Verdict { first: 7, last: 7, refused: None },
            Verdict {
                first: 7,
                last: 256,
                refused: Some("com.microsoft:message-lock-lost".to_owned()),
            },
            Verdict { first: 7, last: 7, refused: None },
        ]
        .map(Notice::Verdict);
        for size in [1, 2, 3, 7, 8, 9, 64, 5000, stream.len()] {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            for piece in stream.chunks(size) {
                frames.feed(piece, |notice| seen.push(notice));
            }
            assert_eq!(seen, expected, "in pieces of {size}");
            assert_eq!((frames.kept.len(), frames.skip), (0, 0));
        }
    }

    /// A performative with these fields, each of them encoded.
    fn performative(code: u8, fields: &[&[u8]]) -> Vec<u8> {
        let (count, fields) = (u8::try_from(fields.len()).unwrap(), fields.concat());
        let length = u8::try_from(fields.len() + 1).unwrap();
        [&[0x00, 0x53, code, 0xc0, length, count][..], &fields].concat()
    }

    #[test]
    fn the_end_of_a_drain_names_the_last_delivery_of_its_link() {
        const NULL: &[u8] = &[0x40];
        let (name, handle, other) = (&[0xa1, 1, b'r'][..], &[0x52, 4][..], &[0x43][..]);
        let attach = |handle| frame(&performative(0x12, &[name, handle]));
        let transfer = |handle, id: &[u8], payload: usize| {
            frame(&[performative(0x14, &[handle, id]), vec![7; payload]].concat())
        };
        let flow = |handle, drain: u8| {
            let window = [0x70, 0, 0, 8, 0];
            let fields = [
                &[0x52, 1][..],
                &window,
                &[0x52, 2],
                &window,
                handle,
                &[0x52, 9],
                &[0x43],
                NULL,
                &[drain],
            ];
            frame(&performative(0x13, &fields))
        };
        let stream = [
            attach(handle),
            attach(other),
            flow(handle, 0x41),
            transfer(handle, &[0x52, 5], FRAME_KEPT_BYTES * 2),
            transfer(handle, NULL, 100),
            transfer(other, &[0x52, 6], 1),
            flow(handle, 0x42),
            flow(NULL, 0x41),
            flow(handle, 0x41),
            frame(&performative(0x16, &[handle])),
            flow(handle, 0x41),
            attach(handle),
            flow(handle, 0x41),
        ]
        .concat();
        let expected = [None, Some(5), None].map(|last| Notice::Drained { last });
        for size in [1, 7, 64, 5000, stream.len()] {
            let (mut frames, mut seen) = (Frames::default(), Vec::new());
            for piece in stream.chunks(size) {
                frames.feed(piece, |notice| seen.push(notice));
            }
            assert_eq!(seen, expected, "in pieces of {size}");
        }
    }

    #[test]
    fn garbage_is_survived() {
        for seed in 0_u32..2_000 {
            let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
            let performative = [0x12, 0x13, 0x14, 0x15, 0x16][seed as usize % 5];
            let mut bytes = frame(&[0x00, 0x53, performative]);
            bytes.extend((0..40).map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                state.to_be_bytes()[0]
            }));
            let size = u32::try_from(bytes.len()).unwrap();
            bytes[..4].copy_from_slice(&size.to_be_bytes());
            Frames::default().feed(&bytes, |_| {});
        }
    }
}
