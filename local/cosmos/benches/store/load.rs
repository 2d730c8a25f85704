//! A plain HTTP/1.1 load generator: keep-alive connections, one request after another on each.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use cosmos::auth;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What requests do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Creates a document of 1 KB in a partition of its own.
    Create,
    /// Reads one of those.
    Read,
    /// Creates two documents of 1 KB in one partition.
    Batch,
    /// Counts one property of a document up.
    Patch,
}

pub(crate) struct Load {
    address: SocketAddr,
    key: &'static str,
    created: Arc<AtomicUsize>,
    batches: Arc<AtomicUsize>,
}

/// How long each request took.
pub(crate) struct Done {
    latencies: Vec<Duration>,
    elapsed: Duration,
}

impl Done {
    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    pub(crate) fn print(&self, what: &str) {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let at = |part: f64| sorted.get((sorted.len() as f64 * part) as usize).copied();
        let ms = |d: Option<Duration>| d.unwrap_or_default().as_secs_f64() * 1000.0;
        let (p50, p99) = (ms(at(0.5)), ms(at(0.99)));
        println!("  {what:<28} {:>8.0}/s   p50 {p50:>7.2} ms   p99 {p99:>7.2} ms", self.rate());
    }
}

impl Load {
    pub(crate) fn new(address: SocketAddr, key: &'static str) -> Self {
        Self { address, key, created: Arc::default(), batches: Arc::default() }
    }

    pub(crate) fn created(&self) -> usize {
        self.created.load(Ordering::Relaxed)
    }

    /// As fast as the connections go, for some time or some requests.
    pub(crate) async fn run(
        &mut self,
        kind: Kind,
        connections: usize,
        time: Option<Duration>,
        count: Option<usize>,
    ) -> Done {
        self.drive(kind, connections, time, count, None).await
    }

    /// At a steady rate. Latency counts from when a request was due.
    pub(crate) async fn paced(
        &mut self,
        kind: Kind,
        connections: usize,
        time: Duration,
        per_second: f64,
    ) -> Done {
        self.drive(kind, connections, Some(time), None, Some(per_second)).await
    }

    async fn drive(
        &mut self,
        kind: Kind,
        connections: usize,
        time: Option<Duration>,
        count: Option<usize>,
        per_second: Option<f64>,
    ) -> Done {
        let known = self.created();
        let begun = Instant::now();
        let taken = Arc::new(AtomicUsize::new(0));
        let mut all = JoinSet::new();
        for connection in 0..connections {
            let (address, key, taken) = (self.address, self.key, taken.clone());
            let (created, batches) = (self.created.clone(), self.batches.clone());
            all.spawn(async move {
                let mut client = Client::connect(address, key).await;
                let mut latencies = Vec::new();
                let mut random = connection as u64 + 1;
                loop {
                    let turn = taken.fetch_add(1, Ordering::Relaxed);
                    if count.is_some_and(|count| turn >= count)
                        || time.is_some_and(|time| begun.elapsed() >= time)
                    {
                        return latencies;
                    }
                    let mut from = Instant::now();
                    if let Some(rate) = per_second {
                        from = begun + Duration::from_secs_f64(turn as f64 / rate);
                        tokio::time::sleep_until(from.into()).await;
                    }
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    let some = (random >> 33) as usize % known.max(1);
                    match kind {
                        Kind::Create => {
                            let number = created.fetch_add(1, Ordering::Relaxed);
                            client.create(number).await;
                        }
                        Kind::Read => client.read(some).await,
                        Kind::Batch => {
                            client.batch(batches.fetch_add(1, Ordering::Relaxed)).await;
                        }
                        Kind::Patch => client.patch(some).await,
                    }
                    latencies.push(from.elapsed());
                }
            });
        }
        let latencies = all.join_all().await.into_iter().flatten().collect();
        Done { latencies, elapsed: begun.elapsed() }
    }
}

struct Client {
    stream: TcpStream,
    key: &'static str,
    date: String,
    host: String,
    /// The signature of requests to the feed of documents: always the same.
    feed_token: String,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr, key: &'static str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let now = cosmos::Clock::system().now_ms() / 1000;
        let date = auth::http_date(now);
        let feed_token = auth::sign(key, "POST", "/dbs/db/colls/c/docs", &date);
        let host = address.to_string();
        Self { stream, key, date, host, feed_token, buffer: Vec::with_capacity(4096) }
    }

    async fn create(&mut self, number: usize) {
        let body = document(&format!("d{number}"), &format!("d{number}"));
        let token = self.feed_token.clone();
        self.send("POST", "", &token, &format!("d{number}"), "", &body, b"201").await;
    }

    async fn batch(&mut self, number: usize) {
        let key = format!("b{number}");
        let one = |id: &str| {
            format!(r#"{{"operationType":"Create","resourceBody":{}}}"#, document(id, &key))
        };
        let body = format!("[{},{}]", one("1"), one("2"));
        let token = self.feed_token.clone();
        let headers = "x-ms-cosmos-is-batch-request: True\r\nx-ms-cosmos-batch-atomic: True\r\n";
        self.send("POST", "", &token, &key, headers, &body, b"200").await;
    }

    async fn read(&mut self, number: usize) {
        let id = format!("d{number}");
        let path = format!("/dbs/db/colls/c/docs/{id}");
        let token = auth::sign(self.key, "GET", &path, &self.date);
        self.send("GET", &format!("/{id}"), &token, &id, "", "", b"200").await;
    }

    async fn patch(&mut self, number: usize) {
        let id = format!("d{number}");
        let path = format!("/dbs/db/colls/c/docs/{id}");
        let token = auth::sign(self.key, "PATCH", &path, &self.date);
        let body = r#"{"operations":[{"op":"incr","path":"/n","value":1}]}"#;
        self.send("PATCH", &format!("/{id}"), &token, &id, "", body, b"200").await;
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a request")]
    async fn send(
        &mut self,
        method: &str,
        path: &str,
        token: &str,
        key: &str,
        headers: &str,
        body: &str,
        expected: &[u8],
    ) {
        let (date, host, length) = (&self.date, &self.host, body.len());
        let request = format!(
            "{method} /dbs/db/colls/c/docs{path} HTTP/1.1\r\nhost: {host}\r\n\
             authorization: {token}\r\nx-ms-date: {date}\r\n\
             x-ms-documentdb-partitionkey: [\"{key}\"]\r\nprefer: return=minimal\r\n{headers}\
             content-length: {length}\r\n\r\n{body}"
        );
        self.stream.write_all(request.as_bytes()).await.unwrap();
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await.unwrap();
            assert!(read > 0, "the service closed the connection");
            if is_complete(&self.buffer) {
                break;
            }
        }
        let status = &self.buffer[9..12];
        assert_eq!(status, expected, "{}", String::from_utf8_lossy(&self.buffer));
    }
}

/// Whether an answer with a length, or without a body, is all there.
fn is_complete(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]);
    let length = head
        .lines()
        .filter_map(|line| line.split_once(':'))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
        .and_then(|(_, value)| value.trim().parse::<usize>().ok());
    answer.len() >= end + 4 + length.unwrap_or(0)
}

/// A document of 1 KB.
fn document(id: &str, pk: &str) -> String {
    let mut document = json!({"id": id, "pk": pk, "n": 0, "type": "bench", "text": ""});
    let rest = 1024 - document.to_string().len();
    document["text"] = "x".repeat(rest).into();
    document.to_string()
}
