//! A server on a free port and a plain HTTP client that signs.

use std::net::SocketAddr;
use std::ops::Deref;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use listener::testing::{self, Client, Time};
use queue::{EMULATOR_ACCOUNT, EMULATOR_KEY, Options, Server, auth};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) use listener::testing::START_MS;

/// A queue that exists from the start.
pub(crate) const QUEUE: &str = "/devstoreaccount1/payments";

/// Its messages.
pub(crate) const MESSAGES: &str = "/devstoreaccount1/payments/messages";

pub(crate) struct Service {
    pub(crate) address: SocketAddr,
    time: Time,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: JoinHandle<Result<(), queue::ServeError>>,
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
    /// Status and error code, which header and body must agree on.
    pub(crate) fn code(&self) -> (u16, &str) {
        let code = self.header("x-ms-error-code");
        if self.status >= 400 {
            assert_eq!(self.element("Code"), code, "{}", self.text);
        }
        (self.status, code)
    }

    /// The text of all elements of this name.
    pub(crate) fn elements(&self, name: &str) -> Vec<&str> {
        let (start, end) = (format!("<{name}>"), format!("</{name}>"));
        self.text.split(&start).skip(1).filter_map(|rest| rest.split(&end).next()).collect()
    }

    /// The text of the first element of this name.
    pub(crate) fn element(&self, name: &str) -> &str {
        self.elements(name).first().copied().unwrap_or_default()
    }

    /// The path and query that address the first message as its holder does.
    pub(crate) fn held(&self) -> String {
        let receipt = self.element("PopReceipt").replace('+', "%2B").replace('=', "%3D");
        format!("{MESSAGES}/{}?popreceipt={receipt}", self.element("MessageId"))
    }
}

pub(crate) async fn start() -> Service {
    start_with(|_| {}).await
}

pub(crate) async fn start_with(change: impl FnOnce(&mut Options)) -> Service {
    let time = Time::default();
    let queues = vec!["payments".to_owned()];
    let mut options = Options { queues, clock: time.clock(), incarnation: 1, ..Options::default() };
    change(&mut options);
    let server = Server::bind(options).await.unwrap();
    let (address, shutdown) = (server.local_addr(), CancellationToken::new());
    #[expect(clippy::disallowed_methods, reason = "the handle is joined by the shutdown test")]
    let running = tokio::spawn(server.run(shutdown.clone()));
    Service { address, time, shutdown, running, client: Client::default() }
}

/// The body that puts `text`.
pub(crate) fn body(text: &str) -> String {
    format!("<QueueMessage><MessageText>{text}</MessageText></QueueMessage>")
}

impl Service {
    pub(crate) fn advance_seconds(&self, by: u64) {
        self.time.advance_ms(by * 1000);
    }

    /// Sends a signed request without a body.
    pub(crate) async fn send(&self, method: &str, target: &str) -> Answer {
        self.send_with(method, target, &[], "").await
    }

    /// Sends a signed request.
    pub(crate) async fn send_with(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        let body = body.into();
        let date = auth::http_date(self.time.now_ms());
        let mut sent = vec![("x-ms-date", date.as_str()), ("x-ms-version", "2024-11-04")];
        sent.extend(headers);
        let signed: HeaderMap = sent
            .iter()
            .map(|(name, value)| {
                let name = HeaderName::try_from(*name).unwrap();
                (name, HeaderValue::from_str(value).unwrap())
            })
            .collect();
        let token = auth::sign(EMULATOR_ACCOUNT, EMULATOR_KEY, method, target, &signed, body.len());
        sent.push(("authorization", &token));
        self.send_unsigned(method, target, &sent, body).await
    }

    pub(crate) async fn send_unsigned(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Answer {
        Answer(self.client.send(self.address, method, target, headers, body).await)
    }

    /// Puts a message; `query` begins with a question mark if there is one.
    pub(crate) async fn put(&self, text: &str, query: &str) -> Answer {
        self.send_with("POST", &format!("{MESSAGES}{query}"), &[], body(text)).await
    }

    /// Takes messages.
    pub(crate) async fn get(&self, query: &str) -> Answer {
        self.send("GET", &format!("{MESSAGES}{query}")).await
    }
}
