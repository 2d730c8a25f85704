//! One queue of one account, and what can be done with it.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::Full;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use time::OffsetDateTime;
use tokio::time::sleep;

use super::sign::{Signed, authorization};
use super::xml;
use crate::clock::Clock;
use crate::config::storage::StorageConnection;
use crate::rest::{Reply, RestClient, http_date};

/// A version every Storage account and emulator in use understands.
const VERSION: &str = "2020-10-02";

/// An operation is tried this often in all, as often as the SDKs do.
const ATTEMPTS_MAX: u32 = 4;

/// Pause before the second attempt; it doubles. Shorter than in the SDKs: the service is local.
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// What is left alone in a query value: the service decodes the rest.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A message as received, its text not yet decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Received {
    pub(crate) id: String,
    pub(crate) inserted: OffsetDateTime,
    pub(crate) expires: OffsetDateTime,
    /// Proves that the message is leased by whoever holds it; changes with every update.
    pub(crate) pop_receipt: String,
    pub(crate) next_visible: OffsetDateTime,
    /// Including this time: 1 at the first one.
    pub(crate) dequeue_count: u64,
    pub(crate) text: String,
}

/// Why an operation was not done. `Display` is for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StorageError {
    /// Nobody answered, or with a fault of their own.
    #[error("{0}")]
    Unavailable(String),
    #[error("the queue does not exist")]
    NoQueue,
    /// Somebody else has taken the message over, or has deleted it.
    #[error("the message is no longer held ({0})")]
    NotHeld(String),
    /// The service does not want to.
    #[error("{0}")]
    Refused(String),
}

/// One queue. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Queue {
    connection: StorageConnection,
    name: String,
    client: RestClient,
    clock: Clock,
}

/// A request to be signed and sent, as often as it takes.
struct Operation<'a> {
    method: &'static str,
    /// Below the queue, with a leading slash; may be empty.
    below: &'a str,
    /// In the order of the names.
    query: &'a [(&'a str, &'a str)],
    body: String,
    /// Done twice it does no harm, or none that at-least-once delivery does not allow.
    repeatable: bool,
}

impl Queue {
    pub(crate) fn new(
        connection: &StorageConnection,
        name: &str,
        client: &RestClient,
        clock: &Clock,
    ) -> Self {
        Self {
            connection: connection.clone(),
            name: name.to_owned(),
            client: client.clone(),
            clock: clock.clone(),
        }
    }

    /// Another queue of the same account.
    pub(crate) fn sibling(&self, name: String) -> Self {
        Self { name, ..self.clone() }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Name, address and setting, for messages.
    pub(crate) fn described(&self) -> String {
        let connection = &self.connection;
        format!(
            "queue '{}' at {} (setting {})",
            self.name, connection.endpoint.authority, connection.setting
        )
    }

    /// Whether the queue exists.
    pub(crate) async fn exists(&self) -> Result<bool, StorageError> {
        let query = &[("comp", "metadata")];
        let operation =
            Operation { method: "GET", below: "", query, body: String::new(), repeatable: true };
        match self.run(&operation).await {
            Ok(_) => Ok(true),
            Err(StorageError::NoQueue) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Puts a message with `text` in, and creates the queue if there is none yet.
    pub(crate) async fn put_and_create(&self, text: &str) -> Result<(), StorageError> {
        match self.put(text).await {
            Err(StorageError::NoQueue) => {
                self.create().await?;
                self.put(text).await
            }
            done => done,
        }
    }

    async fn put(&self, text: &str) -> Result<(), StorageError> {
        let operation = Operation {
            method: "POST",
            below: "/messages",
            query: &[],
            body: xml::message(text),
            repeatable: true,
        };
        self.run(&operation).await.map(drop)
    }

    async fn create(&self) -> Result<(), StorageError> {
        let operation = Operation {
            method: "PUT",
            below: "",
            query: &[],
            body: String::new(),
            repeatable: true,
        };
        self.run(&operation).await.map(drop)
    }

    /// Receives up to `count` messages, invisible to others for `lease` (whole seconds).
    pub(crate) async fn receive(
        &self,
        count: u32,
        lease: Duration,
    ) -> Result<Vec<Received>, StorageError> {
        let (count, seconds) = (count.to_string(), lease.as_secs().to_string());
        let operation = Operation {
            method: "GET",
            below: "/messages",
            query: &[("numofmessages", &count), ("visibilitytimeout", &seconds)],
            body: String::new(),
            // What a lost answer carried would stay invisible; polling again is soon enough.
            repeatable: false,
        };
        let reply = self.run(&operation).await?;
        xml::received(&String::from_utf8_lossy(&reply.body)).ok_or_else(|| {
            StorageError::Unavailable("the answer is no list of messages".to_owned())
        })
    }

    /// Makes a received message visible again in `invisible` (whole seconds). Answers its new pop
    /// receipt.
    pub(crate) async fn update(
        &self,
        id: &str,
        pop_receipt: &str,
        invisible: Duration,
    ) -> Result<String, StorageError> {
        let seconds = invisible.as_secs().to_string();
        let operation = Operation {
            method: "PUT",
            below: &format!("/messages/{id}"),
            query: &[("popreceipt", pop_receipt), ("visibilitytimeout", &seconds)],
            body: String::new(),
            // If only the answer was lost, the message counts as no longer held; so it would anyhow,
            // as nobody knows its new pop receipt.
            repeatable: true,
        };
        let reply = self.run(&operation).await?;
        let receipt = reply.header("x-ms-popreceipt").map(str::to_owned);
        receipt.ok_or_else(|| StorageError::Unavailable("the answer has no pop receipt".to_owned()))
    }

    /// Deletes a received message.
    pub(crate) async fn delete(&self, id: &str, pop_receipt: &str) -> Result<(), StorageError> {
        let operation = Operation {
            method: "DELETE",
            below: &format!("/messages/{id}"),
            query: &[("popreceipt", pop_receipt)],
            body: String::new(),
            repeatable: true,
        };
        self.run(&operation).await.map(drop)
    }

    async fn run(&self, operation: &Operation<'_>) -> Result<Reply, StorageError> {
        let attempts = if operation.repeatable { ATTEMPTS_MAX } else { 1 };
        let mut pause = RETRY_PAUSE;
        for _ in 1..attempts {
            match self.attempt(operation).await {
                Err(StorageError::Unavailable(_)) => sleep(pause).await,
                done => return done,
            }
            pause *= 2;
        }
        self.attempt(operation).await
    }

    async fn attempt(&self, operation: &Operation<'_>) -> Result<Reply, StorageError> {
        let request = self.request(operation).map_err(|error| {
            // Neither a name nor a number can make an illegal request; a setting might.
            StorageError::Refused(format!("not a request: {error}"))
        })?;
        let reply = self
            .client
            .send(request)
            .await
            .map_err(|error| StorageError::Unavailable(error.to_string()))?;
        judge(reply, &self.connection.setting)
    }

    fn request(&self, operation: &Operation<'_>) -> http::Result<Request<Full<Bytes>>> {
        let endpoint = &self.connection.endpoint;
        let path = format!("{}/{}{}", endpoint.path, self.name, operation.below);
        let query: Vec<String> = operation
            .query
            .iter()
            .map(|(name, value)| format!("{name}={}", utf8_percent_encode(value, QUERY)))
            .collect();
        let query = if query.is_empty() { String::new() } else { format!("?{}", query.join("&")) };
        let content_type = if operation.body.is_empty() { "" } else { "application/xml" };
        let date = http_date((self.clock)());
        let signed = Signed {
            method: operation.method,
            length: operation.body.len(),
            content_type,
            headers: &[("x-ms-date", &date), ("x-ms-version", VERSION)],
            path: &path,
            query: operation.query,
        };
        let token = authorization(&self.connection.account, &self.connection.key, &signed);
        let mut request = Request::builder()
            .method(operation.method)
            .uri(format!("http://{}{path}{query}", endpoint.authority))
            .header("authorization", token)
            .header("x-ms-date", &date)
            .header("x-ms-version", VERSION);
        if !content_type.is_empty() {
            request = request.header("content-type", content_type);
        }
        request.body(Full::new(Bytes::from(operation.body.clone())))
    }
}

fn judge(reply: Reply, setting: &str) -> Result<Reply, StorageError> {
    if reply.status.is_success() {
        return Ok(reply);
    }
    let document = String::from_utf8_lossy(&reply.body);
    let code = reply
        .header("x-ms-error-code")
        .map(str::to_owned)
        .or_else(|| xml::text(&document, "Code"))
        .unwrap_or_default();
    let said = xml::text(&document, "Message").unwrap_or_default();
    let said = said.lines().next().unwrap_or_default();
    let told = format!("{} {code} {said}", reply.status.as_u16()).trim().to_owned();
    if code == "QueueAlreadyExists" {
        // Somebody else was faster; what else they said about it does not matter here.
        return Ok(reply);
    }
    Err(match (reply.status, code.as_str()) {
        (_, "MessageNotFound" | "PopReceiptMismatch") => StorageError::NotHeld(code),
        (StatusCode::NOT_FOUND, _) => StorageError::NoQueue,
        (StatusCode::FORBIDDEN | StatusCode::UNAUTHORIZED, _) => {
            StorageError::Refused(format!("the key of setting {setting} was refused: {told}"))
        }
        // Just being deleted, or too busy.
        (StatusCode::CONFLICT | StatusCode::TOO_MANY_REQUESTS, _) => {
            StorageError::Unavailable(told)
        }
        (status, _) if status.is_server_error() => StorageError::Unavailable(told),
        _ => StorageError::Refused(told),
    })
}

/// Whether `name` can be the name of a queue: 3 to 63 lower-case letters, digits and single
/// hyphens between them.
pub(crate) fn is_queue_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (3..=63).contains(&name.len())
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
        && !name.contains("--")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queue_names_are_those_of_the_service() {
        for name in ["abc", "payments-poison", "0-0", &"q".repeat(63)] {
            assert!(is_queue_name(name), "{name}");
        }
        for name in ["ab", "Abc", "a_b", "-ab", "ab-", "a--b", "ä12", &"q".repeat(64)] {
            assert!(!is_queue_name(name), "{name}");
        }
    }
}
