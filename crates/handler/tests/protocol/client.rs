//! A server under test and a client that speaks bytes, so that it can also speak nonsense.

use std::net::SocketAddr;
use std::time::Duration;

use handler::{App, Config, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Longer than anything that is waited for takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A limit that a test waits out.
pub(crate) const SHORT: Duration = Duration::from_millis(200);

pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    pub(crate) shutdown: CancellationToken,
    pub(crate) served: JoinHandle<Result<(), handler::ServeError>>,
}

/// Serves an app on a port of the system's choice.
pub(crate) async fn start(app: App) -> Running {
    start_with(app, |_| {}).await
}

/// The same with other limits.
pub(crate) async fn start_with(app: App, configure: impl FnOnce(&mut Config)) -> Running {
    let mut config = Config::new(0);
    configure(&mut config);
    let server = Server::bind(&config).await.unwrap();
    let address = server.local_addr();
    let shutdown = CancellationToken::new();
    #[expect(clippy::disallowed_methods, reason = "awaited, or ended with the test's runtime")]
    let served = tokio::spawn(server.serve(app, shutdown.clone()));
    Running { address, shutdown, served }
}

/// Sends bytes on a connection of their own and returns the response.
pub(crate) async fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> Response {
    let mut client = connect(address).await;
    client.send(bytes).await;
    client.response().await
}

async fn connect(address: SocketAddr) -> Client {
    Client { stream: TcpStream::connect(address).await.unwrap(), read: Vec::new() }
}

impl Running {
    pub(crate) async fn connect(&self) -> Client {
        connect(self.address).await
    }

    pub(crate) async fn exchange(&self, bytes: impl AsRef<[u8]>) -> Response {
        exchange(self.address, bytes).await
    }

    pub(crate) async fn get(&self, path: &str) -> Response {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: handler\r\n\r\n")).await
    }

    /// Posts a body as the host posts an invocation.
    pub(crate) async fn invoke(&self, function: &str, body: &str) -> Response {
        self.exchange(invocation(function, body)).await
    }
}

/// The bytes of an invocation, with the headers of the host.
pub(crate) fn invocation(function: &str, body: &str) -> String {
    format!(
        "POST /{function} HTTP/1.1\r\nHost: 127.0.0.1\r\n\
         X-Azure-Functions-HostVersion: 4.1052.200\r\n\
         X-Azure-Functions-InvocationId: 0d6a4a8e-7b55-4f0b-a26c-5a53c2b8c9f1\r\n\
         User-Agent: Azure-Functions-Host/4.1052.200\r\n\
         traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
         Content-Type: application/json; charset=utf-8\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

pub(crate) struct Client {
    pub(crate) stream: TcpStream,
    read: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

impl Client {
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// The next response; its body has a length or is chunked.
    pub(crate) async fn response(&mut self) -> Response {
        let head = self.until(b"\r\n\r\n").await;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut response = Response { status, head, body: String::new() };
        let body = if response.header("transfer-encoding") == Some("chunked") {
            let mut body = Vec::new();
            loop {
                let chunk = self.chunk().await;
                if chunk.is_empty() {
                    break body;
                }
                body.extend(chunk);
            }
        } else {
            let length = response.header("content-length").map_or(0, |text| text.parse().unwrap());
            self.bytes(length).await
        };
        response.body = String::from_utf8(body).unwrap();
        response
    }

    /// The head of a response whose body is read as it comes.
    pub(crate) async fn head(&mut self) -> String {
        self.until(b"\r\n\r\n").await
    }

    /// The next chunk; empty at the end.
    pub(crate) async fn chunk(&mut self) -> Vec<u8> {
        let size = self.until(b"\r\n").await;
        let size = usize::from_str_radix(size.trim(), 16).unwrap();
        let chunk = self.bytes(size).await;
        self.bytes(2).await;
        chunk
    }

    /// Waits until the server closes, and returns what it has sent before that.
    pub(crate) async fn closed(mut self) -> String {
        let mut rest = std::mem::take(&mut self.read);
        let ended = timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await;
        match ended.expect("the connection stays open") {
            // Data that the server has not read turns its close into a reset.
            Ok(_) | Err(_) => String::from_utf8(rest).unwrap(),
        }
    }

    async fn until(&mut self, end: &[u8]) -> String {
        loop {
            if let Some(at) = self.read.windows(end.len()).position(|bytes| bytes == end) {
                let bytes = self.read.drain(..at + end.len()).collect();
                return String::from_utf8(bytes).unwrap();
            }
            self.more().await;
        }
    }

    async fn bytes(&mut self, count: usize) -> Vec<u8> {
        while self.read.len() < count {
            self.more().await;
        }
        self.read.drain(..count).collect()
    }

    async fn more(&mut self) {
        let read = timeout(PATIENCE, self.stream.read_buf(&mut self.read)).await;
        let read = read.expect("no answer").unwrap();
        assert_ne!(read, 0, "closed after {:?}", String::from_utf8_lossy(&self.read));
    }
}
