//! A plain HTTP/1.1 load generator: keep-alive connections, one request after another on each.
//!
//! One thread, and requests that are put together and signed beforehand where that is possible: it
//! shares the machine with what it measures.

use std::cell::Cell;
use std::io::Write as _;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use cosmos::{EMULATOR_KEY, auth};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const FEED: &str = "/dbs/db/colls/c/docs";

/// Connections of the generator unless told otherwise.
pub(crate) const CONNECTIONS: usize = 64;

/// Documents whose requests are prepared for one sample. They lie all over the container.
const PREPARED: usize = 40_000;

/// Documents that one request brings when the container is filled.
const FILLED_AT_ONCE: usize = 100;

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
    /// Asks the change feed for what is new, which is nothing.
    Poll,
    /// Creates a hundred documents, each in a partition of its own.
    Fill,
}

pub(crate) struct Load {
    address: SocketAddr,
    connections: usize,
    /// Single documents that were created, `d0` and so on.
    singles: Rc<Cell<usize>>,
    batches: Rc<Cell<usize>>,
}

/// When a sample ends.
#[derive(Clone, Copy)]
pub(crate) enum Until {
    Time(Duration),
    Requests(usize),
}

/// How long each request took.
pub(crate) struct Done {
    latencies: Vec<Duration>,
    elapsed: Duration,
}

impl Done {
    pub(crate) fn requests(&self) -> usize {
        self.latencies.len()
    }

    pub(crate) fn rate(&self) -> f64 {
        self.latencies.len() as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that this part of the requests stayed below, in milliseconds.
    pub(crate) fn quantile_ms(&self, part: f64) -> f64 {
        let mut sorted = self.latencies.clone();
        sorted.sort_unstable();
        let at = sorted.get((sorted.len() as f64 * part) as usize).copied();
        at.unwrap_or_default().as_secs_f64() * 1000.0
    }
}

impl Load {
    pub(crate) fn new(address: SocketAddr, connections: usize) -> Self {
        Self { address, connections, singles: Rc::default(), batches: Rc::default() }
    }

    /// Goes on with a service that was started again.
    pub(crate) fn moved_to(&mut self, address: SocketAddr) {
        self.address = address;
    }

    /// Documents that were created.
    pub(crate) fn documents(&self) -> usize {
        self.singles.get() + 2 * self.batches.get()
    }

    /// Creates documents until there are `documents`.
    pub(crate) async fn fill(&mut self, documents: usize) -> Done {
        let missing = documents.saturating_sub(self.documents());
        let requests = missing.div_ceil(FILLED_AT_ONCE);
        self.run(Kind::Fill, Until::Requests(requests), None).await
    }

    /// As fast as the connections go, or at a steady rate; then latency counts from when a request
    /// was due.
    pub(crate) async fn run(&mut self, kind: Kind, until: Until, per_second: Option<f64>) -> Done {
        let date = auth::http_date(cosmos::Clock::system().now_ms() / 1000);
        let prepared: Rc<Vec<Vec<u8>>> = match kind {
            Kind::Read | Kind::Patch => {
                let known = self.singles.get();
                let count = PREPARED.min(known);
                Rc::new((0..count).map(|n| prepare(kind, n * known / count, &date)).collect())
            }
            Kind::Create | Kind::Batch | Kind::Poll | Kind::Fill => Rc::default(),
        };
        let (begun, taken) = (Instant::now(), Rc::new(Cell::new(0)));
        let mut all = JoinSet::new();
        for connection in 0..self.connections {
            let (prepared, taken) = (prepared.clone(), taken.clone());
            let (singles, batches) = (self.singles.clone(), self.batches.clone());
            let mut client = Client::connect(self.address, &date).await;
            all.spawn_local(async move {
                let mut latencies = Vec::new();
                let mut random = connection as u64 + 1;
                loop {
                    let turn: usize = taken.replace(taken.get() + 1);
                    let over = match until {
                        Until::Time(time) => begun.elapsed() >= time,
                        Until::Requests(count) => turn >= count,
                    };
                    if over {
                        return latencies;
                    }
                    let mut from = Instant::now();
                    if let Some(rate) = per_second {
                        from = begun + Duration::from_secs_f64(turn as f64 / rate);
                        tokio::time::sleep_until(from.into()).await;
                    }
                    random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    match kind {
                        Kind::Create => client.create(singles.replace(singles.get() + 1)).await,
                        Kind::Poll => client.poll().await,
                        Kind::Batch => client.batch(batches.replace(batches.get() + 1)).await,
                        Kind::Fill => {
                            client.fill(singles.replace(singles.get() + FILLED_AT_ONCE)).await;
                        }
                        Kind::Read | Kind::Patch => {
                            let some = &prepared[(random >> 33) as usize % prepared.len()];
                            client.send(some, b"200").await;
                        }
                    }
                    latencies.push(from.elapsed());
                }
            });
        }
        let latencies = all.join_all().await.into_iter().flatten().collect();
        Done { latencies, elapsed: begun.elapsed() }
    }
}

/// The request that reads or patches document `number`.
fn prepare(kind: Kind, number: usize, date: &str) -> Vec<u8> {
    let (method, body) = match kind {
        Kind::Patch => ("PATCH", r#"{"operations":[{"op":"incr","path":"/n","value":1}]}"#),
        _ => ("GET", ""),
    };
    let id = format!("d{number}");
    let token = auth::sign(EMULATOR_KEY, method, &format!("{FEED}/{id}"), date);
    let mut request = Vec::new();
    let head = Head { method, id: &id, token: &token, date, headers: "" };
    head.write(Some(&id), body.len(), &mut request);
    request.extend_from_slice(body.as_bytes());
    request
}

/// What comes before the body.
struct Head<'a> {
    method: &'a str,
    /// Of the document in the path; empty for the feed.
    id: &'a str,
    token: &'a str,
    date: &'a str,
    headers: &'a str,
}

impl Head<'_> {
    fn write(&self, key: Option<&str>, length: usize, out: &mut Vec<u8>) {
        let Self { method, id, token, date, headers } = self;
        let slash = if id.is_empty() { "" } else { "/" };
        write!(
            out,
            "{method} {FEED}{slash}{id} HTTP/1.1\r\nhost: localhost\r\nauthorization: {token}\r\n\
             x-ms-date: {date}\r\nprefer: return=minimal\r\n{headers}content-length: {length}\r\n"
        )
        .unwrap();
        if let Some(key) = key {
            write!(out, "x-ms-documentdb-partitionkey: [\"{key}\"]\r\n").unwrap();
        }
        out.extend_from_slice(b"\r\n");
    }
}

struct Client {
    stream: TcpStream,
    date: String,
    /// The signature of requests to the feed of documents: always the same.
    feed_token: String,
    poll_token: String,
    /// A document of 1 KB from behind its id and key.
    rest: String,
    request: Vec<u8>,
    body: String,
    answer: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr, date: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let feed_token = auth::sign(EMULATOR_KEY, "POST", FEED, date);
        let poll_token = auth::sign(EMULATOR_KEY, "GET", FEED, date);
        let rest = json!({"n": 0, "type": "bench", "text": "x".repeat(950)}).to_string();
        Self {
            stream,
            date: date.to_owned(),
            feed_token,
            poll_token,
            rest: rest[1..].to_owned(),
            request: Vec::new(),
            body: String::new(),
            answer: Vec::with_capacity(4096),
        }
    }

    async fn create(&mut self, number: usize) {
        let key = format!("d{number}");
        self.body.clear();
        self.add_document(&key, &key);
        self.post(Some(&key), "", b"201").await;
    }

    async fn batch(&mut self, number: usize) {
        let key = format!("b{number}");
        self.body.clear();
        for (id, before) in [("1", "["), ("2", ",")] {
            self.body.push_str(before);
            self.body.push_str(r#"{"operationType":"Create","resourceBody":"#);
            self.add_document(id, &key);
            self.body.push('}');
        }
        self.body.push(']');
        let headers = "x-ms-cosmos-is-batch-request: True\r\nx-ms-cosmos-batch-atomic: True\r\n";
        self.post(Some(&key), headers, b"200").await;
    }

    async fn poll(&mut self) {
        let (date, token) = (&self.date, &self.poll_token);
        let headers = "a-im: Incremental Feed\r\nif-none-match: *\r\n";
        let mut request = std::mem::take(&mut self.request);
        request.clear();
        Head { method: "GET", id: "", token, date, headers }.write(None, 0, &mut request);
        self.send(&request, b"304").await;
        self.request = request;
    }

    async fn fill(&mut self, first: usize) {
        self.body.clear();
        for number in first..first + FILLED_AT_ONCE {
            let key = format!("d{number}");
            self.body.push(if number == first { '[' } else { ',' });
            let operation = format!(
                r#"{{"operationType":"Create","partitionKey":"[\"{key}\"]","resourceBody":"#
            );
            self.body.push_str(&operation);
            self.add_document(&key, &key);
            self.body.push('}');
        }
        self.body.push(']');
        let headers = "x-ms-cosmos-is-batch-request: True\r\n";
        self.post(None, headers, b"200").await;
    }

    fn add_document(&mut self, id: &str, key: &str) {
        for part in ["{\"id\":\"", id, "\",\"pk\":\"", key, "\",", &self.rest] {
            self.body.push_str(part);
        }
    }

    async fn post(&mut self, key: Option<&str>, headers: &str, expected: &[u8]) {
        let mut request = std::mem::take(&mut self.request);
        request.clear();
        let (token, date) = (&self.feed_token, &self.date);
        let head = Head { method: "POST", id: "", token, date, headers };
        head.write(key, self.body.len(), &mut request);
        request.extend_from_slice(self.body.as_bytes());
        self.send(&request, expected).await;
        self.request = request;
    }

    async fn send(&mut self, request: &[u8], expected: &[u8]) {
        self.stream.write_all(request).await.unwrap();
        self.answer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.answer).await.unwrap();
            assert!(read > 0, "the service closed the connection");
            if is_complete(&self.answer) {
                break;
            }
        }
        let status = &self.answer[9..12];
        assert_eq!(status, expected, "{}", String::from_utf8_lossy(&self.answer));
    }
}

/// Whether an answer with a length is all there.
fn is_complete(answer: &[u8]) -> bool {
    const LENGTH: &[u8] = b"content-length: ";
    let Some(end) = find(answer, b"\r\n\r\n") else { return false };
    let length = find(&answer[..end], LENGTH).map_or(0, |at| {
        let digits = answer[at + LENGTH.len()..end].iter().take_while(|byte| byte.is_ascii_digit());
        digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0'))
    });
    answer.len() >= end + 4 + length
}

fn find(text: &[u8], part: &[u8]) -> Option<usize> {
    text.windows(part.len()).position(|window| window == part)
}
