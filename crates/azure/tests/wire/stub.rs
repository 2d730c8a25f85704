//! A scripted HTTP server that looks enough like a Cosmos DB account for the client to talk to, and
//! like an Event Grid topic.
//!
//! It answers the discovery requests by itself and everything about documents and events from a
//! script, and it remembers what it was asked. It knows nothing about documents.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// A request about documents.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// What to do about the next request.
#[derive(Clone, Debug)]
pub(crate) enum Reply {
    /// Answer it.
    Answer { status: u16, headers: Vec<(&'static str, &'static str)>, body: &'static str },
    /// Read it, then cut the connection.
    Cut,
    /// Read it, then say nothing.
    Hang,
}

impl Reply {
    pub(crate) fn status(status: u16) -> Self {
        Self::Answer { status, headers: Vec::new(), body: r#"{"code":"X","message":"why"}"# }
    }

    pub(crate) fn with(mut self, name: &'static str, value: &'static str) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.push((name, value));
        }
        self
    }

    pub(crate) fn body(status: u16, body: &'static str) -> Self {
        Self::Answer { status, headers: vec![("etag", "\"7\"")], body }
    }
}

#[derive(Default)]
struct State {
    script: VecDeque<Reply>,
    requests: Vec<Request>,
    missing_container: bool,
}

/// The server; it stops when dropped.
pub(crate) struct Stub {
    pub(crate) port: u16,
    state: Arc<Mutex<State>>,
    _server: JoinSet<()>,
}

impl Stub {
    pub(crate) async fn start() -> Self {
        Self::start_on(0).await
    }

    pub(crate) async fn start_on(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State::default()));
        let mut server = JoinSet::new();
        let shared = Arc::clone(&state);
        server.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (socket, _) = listener.accept().await.unwrap();
                connections.spawn(serve(socket, port, Arc::clone(&shared)));
            }
        });
        Self { port, state, _server: server }
    }

    pub(crate) fn script(&self, replies: impl IntoIterator<Item = Reply>) {
        self.state.lock().unwrap().script.extend(replies);
    }

    pub(crate) fn without_container(&self) {
        self.state.lock().unwrap().missing_container = true;
    }

    /// The requests about documents since the last call.
    pub(crate) fn take_requests(&self) -> Vec<Request> {
        std::mem::take(&mut self.state.lock().unwrap().requests)
    }

    pub(crate) fn connection_string(&self) -> String {
        format!("AccountEndpoint=http://127.0.0.1:{}/;AccountKey=c2VjcmV0", self.port)
    }
}

async fn serve(socket: TcpStream, port: u16, state: Arc<Mutex<State>>) {
    let mut socket = BufReader::new(socket);
    while let Some(request) = read(&mut socket).await {
        let scripted = ["/docs", "/api/events"].iter().any(|part| request.path.contains(part));
        let reply = if scripted {
            let mut state = state.lock().unwrap();
            state.requests.push(request);
            state.script.pop_front().expect("a request that the script does not foresee")
        } else {
            let missing = state.lock().unwrap().missing_container;
            discovery(&request, port, missing)
        };
        match reply {
            Reply::Answer { status, headers, body } => {
                let mut text = format!(
                    "HTTP/1.1 {status} X\r\ncontent-type: application/json\r\n\
                     content-length: {}\r\nx-ms-request-charge: 1.25\r\n",
                    body.len()
                );
                for (name, value) in headers {
                    text.push_str(&format!("{name}: {value}\r\n"));
                }
                text.push_str("\r\n");
                text.push_str(body);
                if socket.write_all(text.as_bytes()).await.is_err() {
                    return;
                }
            }
            Reply::Cut => return,
            Reply::Hang => tokio::time::sleep(Duration::from_secs(3600)).await,
        }
    }
}

async fn read(socket: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut line = String::new();
    if socket.read_line(&mut line).await.ok()? == 0 {
        return None;
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        socket.read_line(&mut line).await.ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = vec![0; length];
    socket.read_exact(&mut body).await.ok()?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Some(Request { method, path, headers, body })
}

fn discovery(request: &Request, port: u16, missing_container: bool) -> Reply {
    let (status, body) = match request.path.as_str() {
        "/" => {
            let here = format!(
                r#"{{"name":"Local","databaseAccountEndpoint":"http://127.0.0.1:{port}/"}}"#
            );
            let account = format!(
                r#"{{"_self":"","id":"stub","_rid":"stub.sql","writableLocations":[{here}],
                "readableLocations":[{here}],"enableMultipleWriteLocations":false,
                "userConsistencyPolicy":{{"defaultConsistencyLevel":"Session"}}}}"#
            );
            (200, account)
        }
        "/dbs/db" => (200, r#"{"id":"db","_rid":"AAAAAQ=="}"#.to_owned()),
        "/dbs/db/colls/items" if missing_container => (404, "{}".to_owned()),
        "/dbs/db/colls/items" => (
            200,
            r#"{"id":"items","_rid":"AAAAAYAAAAE=","_self":"dbs/AAAAAQ==/colls/AAAAAYAAAAE=/",
            "partitionKey":{"paths":["/pk"],"kind":"Hash","version":2}}"#
                .to_owned(),
        ),
        path if path.ends_with("/pkranges") => {
            if request.headers.contains_key("if-none-match") {
                return Reply::Answer { status: 304, headers: vec![("etag", "\"1\"")], body: "" };
            }
            (
                200,
                r#"{"_rid":"AAAAAYAAAAE=","_count":1,"PartitionKeyRanges":[{"id":"0",
                "_rid":"AAAAAYAAAAEAAAAAAAAAUA==","minInclusive":"","maxExclusive":"FF",
                "status":"online","parents":[]}]}"#
                    .to_owned(),
            )
        }
        other => panic!("discovery asked for {other}"),
    };
    let headers = if status == 404 { vec![] } else { vec![("etag", "\"1\"")] };
    Reply::Answer { status, headers, body: body.leak() }
}
