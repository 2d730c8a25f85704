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

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpListener;

    use super::*;
    use crate::broker::{Broker, NoJournal};
    use crate::server::access::Keys;
    use crate::server::certificate::Certificate;

    /// A ClientHello that announces 512 bytes and has one.
    const HALF_A_HELLO: &[u8] = b"\x16\x03\x01\x02\x00\x01";

    /// The clock stands still but for who waits for it, so this takes no time.
    #[tokio::test(start_paused = true)]
    async fn half_open_connections_are_dropped_after_a_while() {
        let folder = std::env::temp_dir().join(format!("bus-door-{}", uuid::Uuid::new_v4()));
        let certificate = Certificate::of(&folder).unwrap();
        let broker = Broker::new(&serde_json::from_str("{}").unwrap(), Box::new(NoJournal), 1);
        let keys = Keys::new("name".into(), "key".into(), &[]);
        let hub = Arc::new(Hub::new(broker.unwrap(), None, keys, 1_024));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        for (id, said) in [(1, HALF_A_HELLO), (2, &HALF_A_HELLO[..1]), (3, b"")] {
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
            client.write_all(said).await.unwrap();
            let (stream, _) = listener.accept().await.unwrap();
            let (acceptor, begun) = (certificate.acceptor.clone(), tokio::time::Instant::now());
            let (id, stop) = (ConnectionId(id), CancellationToken::new());
            serve(stream, Some(acceptor), Arc::clone(&hub), id, stop).await;
            let held_ms = begun.elapsed().as_millis();
            assert!(held_ms >= HANDSHAKE_MS_MAX.unsigned_abs().into(), "{held_ms} ms");
            let mut rest = Vec::new();
            client.read_to_end(&mut rest).await.unwrap();
            assert!(rest.is_empty(), "{said:?}");
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
