//! SASL frames (part 5, section 5.3).

use bytes::{Bytes, BytesMut};

use super::decode::{DecodeError, Reader};
use super::encode::{ListWriter, Put};
use super::frame::{FrameKind, OpenFrame};

const INIT: u64 = 0x41;
const RESPONSE: u64 = 0x43;
const CODES: &[(u64, &str)] =
    &[(INIT, "amqp:sasl-init:list"), (RESPONSE, "amqp:sasl-response:list")];

/// What a client may say.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum SaslRequest {
    Init { mechanism: String, initial_response: Option<Bytes> },
    Response(Bytes),
}

impl SaslRequest {
    pub(crate) fn decode(body: &Bytes) -> Result<SaslRequest, DecodeError> {
        let (code, mut fields) = Reader::new(body).composite(CODES)?;
        match code {
            INIT => Ok(SaslRequest::Init {
                mechanism: fields.must("mechanism")?,
                initial_response: fields.next()?,
            }),
            RESPONSE => Ok(SaslRequest::Response(fields.must("response")?)),
            _ => Err(DecodeError::Misplaced("this SASL frame")),
        }
    }
}

/// The outcome codes used here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SaslOutcome {
    Ok = 0,
    /// Wrong credentials.
    Auth = 1,
}

/// Offers `mechanisms`.
pub(crate) fn put_mechanisms(out: &mut BytesMut, mechanisms: &[&str]) {
    let frame = OpenFrame::begin(out, FrameKind::Sasl, 0);
    let offered = mechanisms.iter().map(|name| super::Value::symbol(name)).collect();
    ListWriter::composite(out, 0x40).field(&super::Value::Array(offered)).end();
    frame.end(out);
}

/// Asks the client to say something more.
pub(crate) fn put_challenge(out: &mut BytesMut) {
    let frame = OpenFrame::begin(out, FrameKind::Sasl, 0);
    ListWriter::composite(out, 0x42).field(&[][..] as &[u8]).end();
    frame.end(out);
}

/// Ends the negotiation.
pub(crate) fn put_outcome(out: &mut BytesMut, outcome: SaslOutcome) {
    let frame = OpenFrame::begin(out, FrameKind::Sasl, 0);
    ListWriter::composite(out, 0x44).place(|out| (outcome as u8).put(out)).end();
    frame.end(out);
}

/// Writes the frames a client would; only tests speak that side.
#[cfg(test)]
pub(crate) fn put_init(out: &mut BytesMut, mechanism: &str, response: Option<&[u8]>) {
    let frame = OpenFrame::begin(out, FrameKind::Sasl, 0);
    ListWriter::composite(out, INIT).field(super::encode::Symbol(mechanism)).field(response).end();
    frame.end(out);
}
