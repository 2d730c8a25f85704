//! A bare HTTP/1.1 client: what a test sends and sees is exactly what is on the wire.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::app::PATIENCE;

/// One connection.
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// A complete answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.unwrap().unwrap();
    }

    /// Waits for the first byte of an answer that takes longer than others.
    pub(crate) async fn begins_within(&self, limit: Duration) {
        timeout(limit, self.stream.readable()).await.unwrap().unwrap();
    }

    /// Reads until what has arrived contains `end`, and takes everything up to its end.
    pub(crate) async fn until(&mut self, end: &str) -> String {
        loop {
            let at = self.buffer.windows(end.len()).position(|window| window == end.as_bytes());
            if let Some(at) = at {
                let rest = self.buffer.split_off(at + end.len());
                let taken = std::mem::replace(&mut self.buffer, rest);
                return String::from_utf8_lossy(&taken).into_owned();
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
            let shown = || String::from_utf8_lossy(&self.buffer).into_owned();
            match read {
                Ok(Ok(1..)) => {}
                Ok(Ok(0)) => panic!("closed before {end:?} after {:?}", shown()),
                other => panic!("{other:?} before {end:?} after {:?}", shown()),
            }
        }
    }

    /// Everything until the peer closes the connection, or says that it will with its answer.
    pub(crate) async fn until_closed(&mut self) -> String {
        loop {
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await.unwrap();
            let shown = String::from_utf8_lossy(&self.buffer).into_owned();
            let is_whole = shown.contains("content-length: 0\r\n") && shown.ends_with("\r\n\r\n");
            if is_whole || !matches!(read, Ok(1..)) {
                return shown;
            }
        }
    }

    /// Reads one answer with a length or in chunks.
    pub(crate) async fn answer(&mut self) -> Answer {
        let head = self.until("\r\n\r\n").await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let lower = head.to_ascii_lowercase();
        let mut body = Vec::new();
        if lower.contains("transfer-encoding: chunked") {
            loop {
                let size = self.until("\r\n").await;
                let size = usize::from_str_radix(size.trim(), 16).unwrap();
                body.extend(self.take(size + 2).await.into_iter().take(size));
                if size == 0 {
                    break;
                }
            }
        } else if let Some((_, rest)) = lower.split_once("content-length: ") {
            body = self.take(rest.split("\r\n").next().unwrap().parse().unwrap()).await;
        }
        Answer { status, head, body: String::from_utf8_lossy(&body).into_owned() }
    }

    async fn take(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.buffer)).await;
            assert!(read.unwrap().unwrap() > 0, "closed in the middle of a body");
        }
        let rest = self.buffer.split_off(length);
        std::mem::replace(&mut self.buffer, rest)
    }
}

/// One call on a connection of its own. `head` is the request line and further header lines.
pub(crate) async fn call(address: SocketAddr, head: &str, body: &str) -> Answer {
    let mut wire = Wire::connect(address).await;
    let length =
        if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let (line, headers) = head.split_once("\r\n").unwrap_or((head, ""));
    let headers = if headers.is_empty() { String::new() } else { format!("{headers}\r\n") };
    wire.send(format!("{line} HTTP/1.1\r\nhost: shop.test\r\n{headers}{length}\r\n{body}")).await;
    wire.answer().await
}
