//! A service on a free port, a plain HTTP client, and a subscriber that does as it is told.

use std::collections::{HashMap, VecDeque};
use std::convert::Infallible;
use std::net::SocketAddr;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use grid::{LOCAL_KEY, Options, Server};
use http::{Method, Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use listener::testing::{self, Client};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Far more than anything here takes.
const DONE_WITHIN: Duration = Duration::from_secs(20);

/// Ten seconds are a tenth of one.
pub(crate) const TIME_SCALE: u32 = 100;

pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) dead_letters: PathBuf,
    client: Client,
    shutdown: CancellationToken,
    _running: JoinSet<()>,
}

pub(crate) struct Answer(testing::Answer);

impl Deref for Answer {
    type Target = testing::Answer;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Answer {
    /// Status and code of an error, and that the body is of the documented shape.
    pub(crate) fn code(&self) -> (u16, String) {
        let error = &self.json()["error"];
        assert_eq!(error["details"][0]["code"], error["code"], "{}", self.text);
        assert!(error["message"].as_str().is_some_and(|text| !text.is_empty()), "{}", self.text);
        (self.status, error["code"].as_str().unwrap().to_owned())
    }
}

/// Starts a service with topic `orders` and these subscriptions.
pub(crate) async fn start(subscriptions: Value) -> Service {
    start_with("CloudEventSchemaV1_0", subscriptions).await
}

/// The same with a topic of this schema.
pub(crate) async fn start_with(schema: &str, subscriptions: Value) -> Service {
    let declaration = json!({"topics": [{"name": "orders", "inputSchema": schema,
        "subscriptions": subscriptions}]});
    let declaration = serde_json::from_value(declaration).unwrap();
    let dead_letters = std::env::temp_dir().join(format!("grid-{}", uuid::Uuid::new_v4()));
    let options =
        Options { time_scale: TIME_SCALE, ..Options::new(declaration, dead_letters.clone()) };
    let server = Server::bind(options).await.unwrap();
    let (address, shutdown) = (server.local_addr(), CancellationToken::new());
    let mut running = JoinSet::new();
    let stop = shutdown.clone();
    running.spawn(async move { server.run(stop).await.unwrap() });
    let client = Client::default();
    Service { address, dead_letters, client, shutdown, _running: running }
}

impl Drop for Service {
    fn drop(&mut self) {
        self.shutdown.cancel();
        let _ = std::fs::remove_dir_all(&self.dead_letters);
    }
}

/// A valid event.
pub(crate) fn event(id: &str, kind: &str, subject: &str) -> Value {
    json!({"specversion": "1.0", "id": id, "source": "/tests", "type": kind, "subject": subject,
        "data": {"n": 1}})
}

impl Service {
    pub(crate) async fn send(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        Answer(self.client.send(self.address, method, target, headers, body).await)
    }

    /// Publishes a batch, as a publisher with the key does.
    pub(crate) async fn publish(&self, events: &Value) -> Answer {
        let headers = [
            ("content-type", "application/cloudevents-batch+json; charset=utf-8"),
            ("aeg-sas-key", LOCAL_KEY),
        ];
        let target = "/orders/api/events?api-version=2018-01-01";
        self.send("POST", target, &headers, events.to_string()).await
    }

    /// Publishes a list in the Event Grid schema.
    pub(crate) async fn publish_own(&self, events: &Value) -> Answer {
        let headers = [("content-type", "application/json"), ("aeg-sas-key", LOCAL_KEY)];
        let target = "/orders/api/events?api-version=2018-01-01";
        self.send("POST", target, &headers, events.to_string()).await
    }

    /// One subscription, as the control route shows it.
    pub(crate) async fn subscription(&self, name: &str) -> Value {
        let target = format!("/admin/topics/orders/subscriptions/{name}");
        self.send("GET", &target, &[], "").await.json()
    }

    /// Waits until a subscription is as wanted.
    pub(crate) async fn until(&self, name: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + DONE_WITHIN;
        loop {
            let found = self.subscription(name).await;
            if wanted(&found) {
                return found;
            }
            assert!(Instant::now() < deadline, "never as wanted: {found:#}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// The dead letters of a subscription.
    pub(crate) fn letters(&self, name: &str) -> Vec<Value> {
        let path = self.dead_letters.join("dead").join("orders").join(format!("{name}.jsonl"));
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// What a subscriber does with the next request.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Answer(u16),
    /// Reads it and never answers.
    Hang,
    /// Reads it and hangs up.
    HangUp,
}

/// A request that a subscriber got.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) method: Method,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
    pub(crate) at: Instant,
}

#[derive(Default)]
struct Script {
    acts: VecDeque<Act>,
    deaf: bool,
    /// Answers handshakes of the Event Grid schema with 202, to agree later.
    hesitant: bool,
    got: Vec<Got>,
}

/// A subscriber; follows its script, then answers 200.
pub(crate) struct Subscriber {
    pub(crate) url: String,
    script: Arc<Mutex<Script>>,
    _running: JoinSet<()>,
}

impl Subscriber {
    pub(crate) async fn start(acts: impl IntoIterator<Item = Act>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let script = Script { acts: acts.into_iter().collect(), ..Script::default() };
        let script = Arc::new(Mutex::new(script));
        let mut running = JoinSet::new();
        let shared = Arc::clone(&script);
        running.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let script = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&script), request));
                let builder = hyper::server::conn::http1::Builder::new();
                let connection = builder.serve_connection(TokioIo::new(stream), service);
                connections.spawn(async move { drop(connection.await) });
            }
        });
        Self { url, script, _running: running }
    }

    /// Answers handshakes without consent, or with.
    pub(crate) fn set_deaf(&self, deaf: bool) {
        self.script.lock().unwrap().deaf = deaf;
    }

    /// Answers validation events without the code.
    pub(crate) fn set_hesitant(&self) {
        self.script.lock().unwrap().hesitant = true;
    }

    /// Everything that came, or the events alone.
    pub(crate) fn got(&self, method: &Method) -> Vec<Got> {
        let script = self.script.lock().unwrap();
        script.got.iter().filter(|got| got.method == *method).cloned().collect()
    }
}

async fn answer(
    script: Arc<Mutex<Script>>,
    request: Request<Incoming>,
) -> Result<Response<Full<Bytes>>, std::io::Error> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let headers = parts
        .headers
        .iter()
        .map(|(name, value)| (name.as_str().to_owned(), value.to_str().unwrap().to_owned()));
    let got = Got {
        method: parts.method.clone(),
        headers: headers.collect(),
        body: String::from_utf8(body.to_vec()).unwrap(),
        at: Instant::now(),
    };
    let origin = got.headers.get("webhook-request-origin").cloned();
    let validation = got.headers.get("aeg-event-type").is_some_and(|kind| kind != "Notification");
    let code =
        serde_json::from_str::<Value>(&got.body).unwrap_or_default()[0]["data"]["validationCode"]
            .clone();
    let (act, deaf) = {
        let mut script = script.lock().unwrap();
        script.got.push(got);
        if validation {
            let answer = json!({ "validationResponse": code }).to_string();
            let mut response = Response::new(Full::from(answer));
            if script.hesitant {
                *response.body_mut() = Full::default();
                *response.status_mut() = http::StatusCode::ACCEPTED;
            }
            return Ok(response);
        }
        let act = if parts.method == Method::POST { script.acts.pop_front() } else { None };
        (act, script.deaf)
    };
    let mut response = Response::builder();
    match act {
        Some(Act::Hang) => match std::future::pending::<Infallible>().await {},
        Some(Act::HangUp) => return Err(std::io::Error::other("hung up")),
        Some(Act::Answer(status)) => {
            response = response.status(status).header("location", "/elsewhere");
        }
        None => {}
    }
    if let Some(origin) = origin.filter(|_| !deaf) {
        response = response.header("webhook-allowed-origin", origin);
    }
    Ok(response.body(Full::default()).unwrap())
}
