//! Peers that mean no good, or nothing at all, while a good one is served.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests")]

use std::net::SocketAddr;
use std::time::Duration;

use bus::{Options, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

const AMQP: [u8; 8] = *b"AMQP\x00\x01\x00\x00";

/// Long enough for a machine that is busy with other things.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server with TLS, stopped when this goes.
struct Running {
    address: SocketAddr,
    folder: std::path::PathBuf,
    stop: CancellationToken,
    tasks: tokio::task::JoinSet<()>,
}

impl Running {
    async fn start(max_connections: usize) -> Running {
        let folder = std::env::temp_dir().join(format!("bus-hostile-{}", uuid::Uuid::new_v4()));
        let options =
            Options { certificate: Some(folder.clone()), max_connections, ..Options::default() };
        let server = Server::bind(options).await.unwrap();
        let (address, stop) = (server.local_addr(), CancellationToken::new());
        let mut tasks = tokio::task::JoinSet::new();
        let stopped = stop.clone();
        tasks.spawn(async move { server.run(stopped).await.unwrap() });
        Running { address, folder, stop, tasks }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Whether a client that speaks properly is answered.
    async fn serves(&self) -> bool {
        let mut stream = self.connect().await;
        if stream.write_all(&AMQP).await.is_err() {
            return false;
        }
        let mut answer = [0; 8];
        let read = tokio::time::timeout(PATIENCE, stream.read_exact(&mut answer)).await;
        matches!(read, Ok(Ok(_))) && answer == AMQP
    }

    async fn stop(mut self) {
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        std::fs::remove_dir_all(&self.folder).unwrap();
    }
}

/// Everything until the other side hangs up.
async fn until_closed(mut stream: TcpStream) -> Vec<u8> {
    let mut all = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut all)).await;
    // A reset ends a connection as well.
    let _ = read.expect("the connection was left open");
    all
}

#[tokio::test]
async fn what_speaks_nothing_known_is_shown_the_door() {
    let server = Running::start(100).await;
    for bytes in [
        &[0; 64][..],
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"AMQP\x07\x09\x09\x09",
        // A TLS handshake that turns into something else.
        b"\x16\x03\x01\x00\x05hello-and-then-nothing-of-the-kind",
        b"GET /$servicebus/websocket HTTP/1.0\r\n\r\n",
    ] {
        let mut stream = server.connect().await;
        stream.write_all(bytes).await.unwrap();
        let answer = until_closed(stream).await;
        assert!(answer.len() < 1_024, "{bytes:?}");
    }
    // Frames: one that is too large, one that is none, one for a channel nobody opened.
    for frame in [
        &b"\xff\xff\xff\xff\x02\x00\x00\x00"[..],
        b"\x00\x00\x00\x07\x02\x00\x00\x00",
        b"\x00\x00\x00\x0d\x02\x00\x00\x05\x00\x53\x13\x45\x45",
    ] {
        let mut stream = server.connect().await;
        stream.write_all(&AMQP).await.unwrap();
        stream.write_all(frame).await.unwrap();
        let answer = until_closed(stream).await;
        // The header, then a close with the reason.
        assert!(answer.starts_with(&AMQP) && answer.len() > AMQP.len(), "{frame:?}");
    }
    assert!(server.serves().await);
    server.stop().await;
}

#[tokio::test]
async fn idle_and_half_open_connections_keep_nobody_out() {
    let server = Running::start(1_000).await;
    let mut idle = Vec::new();
    for n in 0..300 {
        let mut stream = server.connect().await;
        match n % 3 {
            // A TLS client that says hello and no more.
            0 => stream.write_all(b"\x16\x03\x01\x02\x00\x01").await.unwrap(),
            // One that has exchanged headers.
            1 => stream.write_all(&AMQP).await.unwrap(),
            _ => {}
        }
        idle.push(stream);
    }
    assert!(server.serves().await);
    drop(idle);
    server.stop().await;
}

#[tokio::test]
async fn beyond_the_limit_connections_are_closed_until_there_is_room() {
    let server = Running::start(2).await;
    let (first, second) = (server.connect().await, server.connect().await);
    assert!(until_closed(server.connect().await).await.is_empty());
    drop((first, second));
    let served = async {
        while !server.serves().await {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, served).await.expect("no room was made");
    server.stop().await;
}
