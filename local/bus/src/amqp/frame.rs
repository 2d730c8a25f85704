//! Frames and protocol headers (part 2, sections 2.2 and 2.3; part 5 for SASL).

use bytes::{BufMut, Bytes, BytesMut};

/// `AMQP` 0 1.0.0: what follows are AMQP frames.
pub(crate) const AMQP_HEADER: [u8; 8] = *b"AMQP\x00\x01\x00\x00";
/// `AMQP` 3 1.0.0: what follows are SASL frames.
pub(crate) const SASL_HEADER: [u8; 8] = *b"AMQP\x03\x01\x00\x00";

const FRAME_HEADER_BYTES: usize = 8;

/// Which of the two frame types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameKind {
    Amqp,
    Sasl,
}

/// One frame. An empty body is a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: FrameKind,
    pub(crate) channel: u16,
    pub(crate) body: Bytes,
}

/// Why bytes are not a frame. None of these can be recovered from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FrameError {
    #[error("a frame of {size} bytes exceeds the announced maximum of {max}")]
    TooLarge { size: u32, max: u32 },
    #[error("a frame size of {0} bytes or a data offset of {1} words is impossible")]
    Malformed(u32, u8),
    #[error("frame type {0} is neither AMQP nor SASL")]
    Kind(u8),
}

/// Takes the first complete frame off `input`; `None` when more bytes are needed.
pub(crate) fn take_frame(input: &mut BytesMut, max: u32) -> Result<Option<Frame>, FrameError> {
    let Some(&[a, b, c, d, offset, kind, e, f]) = input.first_chunk::<FRAME_HEADER_BYTES>() else {
        return Ok(None);
    };
    let size = u32::from_be_bytes([a, b, c, d]);
    let body_at = usize::from(offset) * 4;
    if size > max {
        return Err(FrameError::TooLarge { size, max });
    }
    let length = size as usize;
    if length < FRAME_HEADER_BYTES || offset < 2 || body_at > length {
        return Err(FrameError::Malformed(size, offset));
    }
    let kind = match kind {
        0 => FrameKind::Amqp,
        1 => FrameKind::Sasl,
        other => return Err(FrameError::Kind(other)),
    };
    if input.len() < length {
        input.reserve(length - input.len());
        return Ok(None);
    }
    let mut body = input.split_to(length).freeze();
    let body = body.split_off(body_at);
    Ok(Some(Frame { kind, channel: u16::from_be_bytes([e, f]), body }))
}

/// A frame being appended to an output buffer.
pub(crate) struct OpenFrame {
    at: usize,
}

impl OpenFrame {
    pub(crate) fn begin(out: &mut BytesMut, kind: FrameKind, channel: u16) -> OpenFrame {
        let at = out.len();
        out.put_u32(0);
        out.put_u8(2);
        out.put_u8(match kind {
            FrameKind::Amqp => 0,
            FrameKind::Sasl => 1,
        });
        out.put_u16(channel);
        OpenFrame { at }
    }

    /// Fills in the size.
    pub(crate) fn end(self, out: &mut BytesMut) {
        let size = u32::try_from(out.len() - self.at).unwrap_or(u32::MAX);
        out[self.at..self.at + 4].copy_from_slice(&size.to_be_bytes());
    }
}

/// An empty frame on channel 0.
pub(crate) fn put_heartbeat(out: &mut BytesMut) {
    OpenFrame::begin(out, FrameKind::Amqp, 0).end(out);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_come_out_whole_and_only_when_complete() {
        let mut wire = BytesMut::new();
        let frame = OpenFrame::begin(&mut wire, FrameKind::Amqp, 7);
        wire.put_slice(b"body");
        frame.end(&mut wire);
        put_heartbeat(&mut wire);
        let mut input = BytesMut::new();
        let mut seen = Vec::new();
        for byte in wire {
            input.put_u8(byte);
            if let Some(frame) = take_frame(&mut input, 512).unwrap() {
                seen.push((frame.channel, frame.body));
            }
        }
        assert_eq!(seen, [(7, Bytes::from_static(b"body")), (0, Bytes::new())]);
        assert!(input.is_empty());
    }

    #[test]
    fn impossible_headers_are_refused() {
        let refuse = |bytes: [u8; 8]| take_frame(&mut BytesMut::from(&bytes[..]), 512).unwrap_err();
        assert_eq!(refuse([0, 0, 2, 1, 2, 0, 0, 0]), FrameError::TooLarge { size: 513, max: 512 });
        assert_eq!(refuse([0, 0, 0, 7, 2, 0, 0, 0]), FrameError::Malformed(7, 2));
        assert_eq!(refuse([0, 0, 0, 8, 1, 0, 0, 0]), FrameError::Malformed(8, 1));
        assert_eq!(refuse([0, 0, 0, 8, 3, 0, 0, 0]), FrameError::Malformed(8, 3));
        assert_eq!(refuse([0, 0, 0, 8, 2, 9, 0, 0]), FrameError::Kind(9));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let mut input = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = take_frame(&mut input, 4096) {}
        }
    }
}
