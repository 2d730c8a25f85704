//! AMQP over WebSockets: the frames of RFC 6455 around a stream of bytes.
//!
//! The handshake and both directions of the stream, nothing more: no extensions, no text, and no
//! message is ever collected, because AMQP has frames of its own. Written here because the crates
//! that do it bring second versions of others in the tree.
//! <https://docs.oasis-open.org/amqp-bindmap/amqp-wsb/v1.0/amqp-wsb-v1.0.html>

use std::io;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf, BufMut, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::limits::READ_BUFFER_BYTES;

/// The subprotocol clients ask for.
pub(super) const SUBPROTOCOL: &str = "AMQPWSB10";

/// The end of the text that is hashed for the handshake (RFC 6455, section 1.3).
const HANDSHAKE_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Payload of a control frame (RFC 6455, section 5.5).
const CONTROL_BYTES_MAX: u64 = 125;

const BINARY: u8 = 0x82;
const CLOSE: u8 = 0x88;
const PONG: u8 = 0x8a;

/// The value of `Sec-WebSocket-Accept` for a client's key.
pub(super) fn accept_key(key: &str) -> String {
    let text = format!("{key}{HANDSHAKE_SUFFIX}");
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

/// What a client sent.
#[derive(Debug, PartialEq, Eq)]
enum Event {
    /// So much of the payload is in the buffer that was handed in.
    Data,
    Ping(Vec<u8>),
    Close,
}

/// Why a client's bytes are no WebSocket frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum FrameError {
    #[error("reserved bits or an unknown kind of frame")]
    Kind,
    #[error("a client's frame that is not masked")]
    Unmasked,
    #[error("a control frame that is long or in pieces")]
    Control,
}

/// Reads a client's frames, however they are cut.
#[derive(Debug, Default)]
struct Decoder {
    /// Payload of the current data frame that is still to come.
    left: u64,
    mask: [u8; 4],
    /// Position of the mask.
    at: usize,
}

impl Decoder {
    /// Takes what is complete off `input`; payload is appended to `payload`. `None` when more
    /// bytes are needed.
    fn next(
        &mut self,
        input: &mut BytesMut,
        payload: &mut BytesMut,
    ) -> Result<Option<Event>, FrameError> {
        if self.left > 0 {
            let count = usize::try_from(self.left).unwrap_or(usize::MAX).min(input.len());
            if count == 0 {
                return Ok(None);
            }
            let bytes = input.split_to(count);
            payload.extend(bytes.iter().enumerate().map(|(i, b)| b ^ self.mask[(self.at + i) % 4]));
            self.at = (self.at + count) % 4;
            self.left -= count as u64;
            return Ok(Some(Event::Data));
        }
        let Some(&[first, second]) = input.first_chunk::<2>() else { return Ok(None) };
        let control = first & 0x08 != 0;
        if first & 0x70 != 0 || !matches!(first & 0x0f, 0x0 | 0x2 | 0x8..=0xa) {
            return Err(FrameError::Kind);
        }
        if second & 0x80 == 0 {
            return Err(FrameError::Unmasked);
        }
        let (extra, short) = match second & 0x7f {
            126 => (2, None),
            127 => (8, None),
            n => (0, Some(u64::from(n))),
        };
        if input.len() < 2 + extra + 4 {
            if control && short.is_none() {
                return Err(FrameError::Control);
            }
            return Ok(None);
        }
        let mut head = &input[2..];
        let length = match extra {
            2 => u64::from(head.get_u16()),
            8 => head.get_u64(),
            _ => short.unwrap_or(0),
        };
        let mut mask = [0; 4];
        head.copy_to_slice(&mut mask);
        if !control {
            input.advance(2 + extra + 4);
            (self.left, self.mask, self.at) = (length, mask, 0);
            return if length == 0 { Ok(Some(Event::Data)) } else { self.next(input, payload) };
        }
        if length > CONTROL_BYTES_MAX || first & 0x80 == 0 {
            return Err(FrameError::Control);
        }
        let length = usize::try_from(length).unwrap_or(0);
        if input.len() < 6 + length {
            return Ok(None);
        }
        input.advance(6);
        let body = input.split_to(length);
        let body: Vec<u8> = body.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]).collect();
        Ok(Some(match first & 0x0f {
            0x8 => Event::Close,
            0x9 => Event::Ping(body),
            // An unasked pong means nothing.
            _ => Event::Data,
        }))
    }
}

/// Writes one frame of ours: whole and, as a server's, not masked.
fn put_frame(out: &mut BytesMut, head: u8, payload: &[u8]) {
    out.put_u8(head);
    match payload.len() {
        n @ 0..=125 => out.put_u8(u8::try_from(n).unwrap_or(0)),
        n if n <= usize::from(u16::MAX) => {
            out.put_u8(126);
            out.put_u16(u16::try_from(n).unwrap_or(u16::MAX));
        }
        n => {
            out.put_u8(127);
            out.put_u64(n as u64);
        }
    }
    out.put_slice(payload);
}

/// Carries bytes between a WebSocket and a plain stream until either ends.
///
/// # Errors
/// The socket failed, or what came was not a WebSocket's.
pub(super) async fn carry<S, P>(socket: S, plain: P) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite,
    P: AsyncRead + AsyncWrite,
{
    let (mut socket_reader, mut socket_writer) = tokio::io::split(socket);
    let (mut plain_reader, mut plain_writer) = tokio::io::split(plain);
    let (pongs, mut pongs_due) = tokio::sync::mpsc::channel::<Vec<u8>>(1);
    let inwards = async {
        let mut decoder = Decoder::default();
        let mut input = BytesMut::with_capacity(READ_BUFFER_BYTES);
        let mut payload = BytesMut::new();
        loop {
            match decoder.next(&mut input, &mut payload) {
                Ok(Some(Event::Data)) => {
                    plain_writer.write_all(&payload).await?;
                    payload.clear();
                }
                // While a pong waits for the socket, further pings need none.
                Ok(Some(Event::Ping(body))) => drop(pongs.try_send(body)),
                Ok(Some(Event::Close)) => return Ok(()),
                Ok(None) => {
                    input.reserve(READ_BUFFER_BYTES / 4);
                    if socket_reader.read_buf(&mut input).await? == 0 {
                        return Ok(());
                    }
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
    };
    let outwards = async {
        let mut buffer = BytesMut::with_capacity(READ_BUFFER_BYTES);
        let mut out = BytesMut::new();
        loop {
            out.clear();
            tokio::select! {
                Some(body) = pongs_due.recv() => put_frame(&mut out, PONG, &body),
                read = plain_reader.read_buf(&mut buffer) => {
                    if read? == 0 {
                        put_frame(&mut out, CLOSE, &1_000_u16.to_be_bytes());
                        socket_writer.write_all(&out).await?;
                        return socket_writer.flush().await;
                    }
                    put_frame(&mut out, BINARY, &buffer);
                    buffer.clear();
                }
            }
            socket_writer.write_all(&out).await?;
            socket_writer.flush().await?;
        }
    };
    tokio::select! {
        result = inwards => result,
        result = outwards => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(head: u8, payload: &[u8]) -> Vec<u8> {
        let mut out = BytesMut::new();
        put_frame(&mut out, head, payload);
        let split = out.len() - payload.len();
        out[1] |= 0x80;
        let mask = [1, 2, 3, 4];
        let mut frame = out[..split].to_vec();
        frame.extend(mask);
        frame.extend(payload.iter().enumerate().map(|(i, b)| b ^ mask[i % 4]));
        frame
    }

    #[test]
    fn the_example_of_the_specification_is_answered_as_it_says() {
        assert_eq!(accept_key("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn frames_are_read_however_they_are_cut() {
        let long: Vec<u8> = (0..70_000_u32).map(|n| n.to_le_bytes()[0]).collect();
        let mut bytes = masked(0x02, b"ab");
        bytes.extend(masked(0x89, b"ping"));
        bytes.extend(masked(0x80, &[b'c'; 300]));
        bytes.extend(masked(0x82, &long));
        bytes.extend(masked(0x88, b""));
        let mut expected = b"ab".to_vec();
        expected.extend([b'c'; 300]);
        expected.extend(&long);
        for size in [1, 2, 3, 7, 1_000, bytes.len()] {
            let mut decoder = Decoder::default();
            let (mut input, mut payload) = (BytesMut::new(), BytesMut::new());
            let mut others = Vec::new();
            for piece in bytes.chunks(size) {
                input.extend_from_slice(piece);
                while let Some(event) = decoder.next(&mut input, &mut payload).unwrap() {
                    if event != Event::Data {
                        others.push(event);
                    }
                }
            }
            assert_eq!(payload, expected, "in pieces of {size}");
            assert_eq!(others, [Event::Ping(b"ping".to_vec()), Event::Close]);
        }
    }

    #[test]
    fn what_a_client_must_not_send_is_an_error() {
        let mut unmasked = BytesMut::new();
        put_frame(&mut unmasked, BINARY, b"x");
        for (bytes, error) in [
            (unmasked.to_vec(), FrameError::Unmasked),
            (masked(0x81, b"text"), FrameError::Kind),
            (masked(0xc2, b"reserved"), FrameError::Kind),
            (masked(0x89, &[0; 126]), FrameError::Control),
            (masked(0x09, b"in pieces"), FrameError::Control),
        ] {
            let mut input = BytesMut::from(&bytes[..]);
            let result = Decoder::default().next(&mut input, &mut BytesMut::new());
            assert_eq!(result, Err(error), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn bytes_pass_and_pings_are_answered() {
        let (client, socket) = tokio::io::duplex(1_024);
        let (plain, broker) = tokio::io::duplex(1_024);
        let mut tasks = tokio::task::JoinSet::new();
        tasks.spawn(carry(socket, plain));
        let (mut reader, mut writer) = tokio::io::split(client);
        let (mut from_client, mut to_client) = tokio::io::split(broker);
        writer.write_all(&masked(0x82, b"hello")).await.unwrap();
        let mut got = [0; 5];
        from_client.read_exact(&mut got).await.unwrap();
        assert_eq!(&got, b"hello");
        writer.write_all(&masked(0x89, b"?")).await.unwrap();
        let mut pong = [0; 3];
        reader.read_exact(&mut pong).await.unwrap();
        assert_eq!(pong, [PONG, 1, b'?']);
        to_client.write_all(b"back").await.unwrap();
        let mut frame = [0; 6];
        reader.read_exact(&mut frame).await.unwrap();
        assert_eq!(&frame, &[BINARY, 4, b'b', b'a', b'c', b'k']);
        writer.write_all(&masked(0x88, b"")).await.unwrap();
        tasks.join_next().await.unwrap().unwrap().unwrap();
    }
}
