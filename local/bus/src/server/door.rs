//! What a new connection speaks: AMQP, TLS around any of the others, or HTTP.
//!
//! Every port speaks everything, and the first byte tells: `A` is AMQP, 22 is a TLS handshake, a
//! letter otherwise is an HTTP method. A client that an SDK does not let choose the port therefore
//! finds what it looks for wherever it is sent.

use std::io::{self, Cursor};
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::connection;
use super::http;
use super::hub::Hub;
use crate::broker::ConnectionId;
use crate::limits::HANDSHAKE_MS_MAX;

/// First byte of an AMQP header.
const AMQP: u8 = b'A';
/// First byte of a TLS record with a handshake.
const TLS: u8 = 22;

/// Serves one connection to its end, whatever it speaks.
pub(super) async fn serve(
    stream: TcpStream,
    tls: Option<TlsAcceptor>,
    hub: Arc<Hub>,
    id: ConnectionId,
    shutdown: CancellationToken,
) {
    // Small frames answer each other; waiting to fill packets costs a factor of ten.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY could not be set");
    }
    let limit = Duration::from_millis(HANDSHAKE_MS_MAX.unsigned_abs());
    let opened = tokio::select! {
        opened = tokio::time::timeout(limit, open(stream, tls)) => opened,
        () = shutdown.cancelled() => return,
    };
    match opened {
        Ok(Ok(Opened::Amqp(mut stream))) => {
            let (reader, writer) = stream.split();
            connection::serve(reader, writer, hub, id, shutdown).await;
        }
        Ok(Ok(Opened::Tls(first, stream))) => {
            let (reader, writer) = tokio::io::split(*stream);
            let reader = Cursor::new([first]).chain(reader);
            match first {
                AMQP => connection::serve(reader, writer, hub, id, shutdown).await,
                _ => http::serve(tokio::io::join(reader, writer), true, hub, id, shutdown).await,
            }
        }
        Ok(Ok(Opened::Http(stream))) => http::serve(stream, false, hub, id, shutdown).await,
        Ok(Err(error)) => tracing::debug!(%error, "a connection did not get to speak"),
        Err(_) => tracing::debug!("a connection took too long to say what it speaks"),
    }
}

enum Opened {
    Amqp(TcpStream),
    /// The first byte within, which was taken off the stream.
    Tls(u8, Box<tokio_rustls::server::TlsStream<TcpStream>>),
    Http(TcpStream),
}

async fn open(stream: TcpStream, tls: Option<TlsAcceptor>) -> io::Result<Opened> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(match (first[0], tls) {
        (AMQP, _) => Opened::Amqp(stream),
        (TLS, Some(tls)) => {
            let mut stream = tls.accept(stream).await?;
            Opened::Tls(stream.read_u8().await?, Box::new(stream))
        }
        (byte, _) if byte.is_ascii_alphabetic() => Opened::Http(stream),
        // Answered like any other header that is not understood.
        _ => Opened::Amqp(stream),
    })
}

/// A stream of bytes in both directions.
pub(super) trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for S {}
