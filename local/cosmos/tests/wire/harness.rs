//! A server on a free port and a plain HTTP client that signs.

use std::net::SocketAddr;
use std::ops::Deref;

use bytes::Bytes;
use cosmos::{Account, EMULATOR_KEY, Options, Server, auth};
use listener::testing::{self, Client, Time};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use listener::testing::START_MS;

pub(crate) const DOCS: &str = "/dbs/db/colls/c/docs";

pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    pub(crate) time: Time,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: JoinHandle<Result<(), cosmos::ServeError>>,
    client: Client,
}

pub(crate) struct Answer(testing::Answer);

impl Deref for Answer {
    type Target = testing::Answer;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl Answer {
    /// Status and substatus.
    pub(crate) fn code(&self) -> (u16, u32) {
        (self.status, self.header("x-ms-substatus").parse().unwrap_or(0))
    }
}

pub(crate) async fn start() -> Service {
    start_with(|_| {}).await
}

pub(crate) async fn start_with(change: impl FnOnce(&mut Options)) -> Service {
    let account: Account = serde_json::from_value(json!({"databases": [{"id": "db", "containers": [
        {"id": "c", "partitionKey": {"paths": ["/pk"]}, "defaultTtl": -1, "custom": {"kept": true}},
    ]}]}))
    .unwrap();
    let time = Time::default();
    let mut options =
        Options { account, clock: time.clock(), incarnation: 1, ..Options::default() };
    change(&mut options);
    let server = Server::bind(options).await.unwrap();
    let (address, shutdown) = (server.local_addr(), CancellationToken::new());
    #[expect(clippy::disallowed_methods, reason = "the handle is joined by the shutdown test")]
    let running = tokio::spawn(server.run(shutdown.clone()));
    Service { address, time, shutdown, running, client: Client::default() }
}

impl Service {
    pub(crate) fn advance_ms(&self, by: u64) {
        self.time.advance_ms(by);
    }

    /// Sends a signed request.
    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let date = auth::http_date(self.time.now_ms() / 1000);
        let token = auth::sign(EMULATOR_KEY, method, path, &date);
        let signed = [("authorization", token.as_str()), ("x-ms-date", date.as_str())];
        self.send_unsigned(method, path, &[&signed, headers].concat(), body).await
    }

    pub(crate) async fn send_unsigned(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        self.send_by(&self.client, method, path, headers, body).await
    }

    pub(crate) async fn send_by(
        &self,
        client: &Client,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        Answer(client.send(self.address, method, path, headers, body).await)
    }

    /// Creates an item in partition `p`.
    pub(crate) async fn create(&self, body: Value) -> Answer {
        let key = json!([body["pk"]]).to_string();
        self.send("POST", DOCS, &[("x-ms-documentdb-partitionkey", &key)], body.to_string()).await
    }

    /// Reads an item of partition `p`.
    pub(crate) async fn read(&self, id: &str) -> Answer {
        self.send("GET", &format!("{DOCS}/{id}"), &[P], "").await
    }

    pub(crate) async fn patch(&self, id: &str, body: Value) -> Answer {
        self.send("PATCH", &format!("{DOCS}/{id}"), &[P], body.to_string()).await
    }

    pub(crate) async fn query(&self, text: &str, headers: &[(&str, &str)]) -> Answer {
        let query = [("x-ms-documentdb-isquery", "True")];
        self.send("POST", DOCS, &[&query, headers].concat(), json!({"query": text}).to_string())
            .await
    }
}

/// The header for partition `p`.
pub(crate) const P: (&str, &str) = ("x-ms-documentdb-partitionkey", "[\"p\"]");
