//! Upserting documents over the REST API of Cosmos DB.
//!
//! Reference: <https://learn.microsoft.com/rest/api/cosmos-db/>. The partition key of a document is
//! found as the SDKs find it: the container's definition is read once and names the paths.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use hmac::{Hmac, Mac};
use http::{Request, StatusCode};
use http_body_util::Full;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Map, Value, json};
use sha2::Sha256;
use tokio::time::sleep;

use crate::clock::Clock;
use crate::config::cosmos::CosmosConnection;
use crate::rest::{Reply, RestClient, http_date};

/// The version the SDKs speak.
const VERSION: &str = "2020-07-15";

/// A throttled request is sent this often in all, as the SDKs do.
const ATTEMPTS_MAX: u32 = 10;

/// The pause after a throttled request whose answer names none.
const THROTTLE_PAUSE: Duration = Duration::from_millis(100);

/// What is left alone in a path segment.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Partition key paths, each as its property names.
type Paths = Arc<Vec<Vec<String>>>;

/// Where documents go.
pub(crate) struct Container<'a> {
    pub(crate) connection: &'a CosmosConnection,
    pub(crate) database: String,
    pub(crate) container: String,
}

/// What happens when the container does not exist.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Missing {
    Refused,
    /// `createIfNotExists` without `partitionKey`.
    NeedsPartitionKey,
    /// `createIfNotExists` with this path.
    CreatedWith(String),
}

/// Why a document was not written. `Display` is for the log.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CosmosError {
    #[error("{0}")]
    Unavailable(String),
    #[error("the database or container does not exist{0}")]
    NoContainer(&'static str),
    /// The service does not want to.
    #[error("{told}")]
    Refused { status: StatusCode, told: String },
    #[error("the document has no \"id\" (a text); the service needs one and makes none up")]
    NoId,
}

/// The containers of one host's output bindings, and what is known about them.
pub(crate) struct Containers {
    client: RestClient,
    known: Mutex<HashMap<(String, String, String), Paths>>,
}

impl Container<'_> {
    /// Name, address and setting, for messages.
    pub(crate) fn described(&self) -> String {
        format!(
            "container '{}' of database '{}' at {} (setting {})",
            self.container,
            self.database,
            self.connection.endpoint.authority,
            self.connection.setting
        )
    }

    fn key(&self) -> (String, String, String) {
        let setting = self.connection.setting.clone();
        (setting, self.database.clone(), self.container.clone())
    }
}

/// A request to be signed and sent.
struct Call<'a> {
    method: &'static str,
    /// Database, then container: the names in the path, as many as it has.
    names: &'a [&'a str],
    /// The feed at the end of the path, if it is one.
    feed: Option<&'a str>,
    headers: &'a [(&'a str, &'a str)],
    body: String,
}

impl Containers {
    pub(crate) fn new(client: RestClient) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// Inserts `document`, or replaces the one of its id and partition key.
    pub(crate) async fn upsert(
        &self,
        container: &Container<'_>,
        missing: &Missing,
        document: &Map<String, Value>,
        clock: &Clock,
    ) -> Result<(), CosmosError> {
        if !document.get("id").is_some_and(Value::is_string) {
            return Err(CosmosError::NoId);
        }
        match self.attempt(container, document, clock).await {
            Err(CosmosError::NoContainer(_)) => {
                self.forget(container);
                match missing {
                    Missing::Refused => {
                        return Err(CosmosError::NoContainer(
                            "; create it, or set \"createIfNotExists\" and \"partitionKey\" in the \
                         binding",
                        ));
                    }
                    Missing::NeedsPartitionKey => {
                        return Err(CosmosError::NoContainer(
                            ", and without \"partitionKey\" in the binding it cannot be created",
                        ));
                    }
                    Missing::CreatedWith(path) => self.create(container, path, clock).await?,
                }
            }
            // The container may have been made anew with another partition key.
            Err(CosmosError::Refused { status: StatusCode::BAD_REQUEST, .. }) => {
                self.forget(container);
            }
            done => return done,
        }
        self.attempt(container, document, clock).await
    }

    fn forget(&self, container: &Container<'_>) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&container.key());
    }

    async fn attempt(
        &self,
        container: &Container<'_>,
        document: &Map<String, Value>,
        clock: &Clock,
    ) -> Result<(), CosmosError> {
        let paths = self.paths(container, clock).await?;
        let partition_key = partition_key(&paths, document);
        let call = Call {
            method: "POST",
            names: &[&container.database, &container.container],
            feed: Some("docs"),
            headers: &[
                ("x-ms-documentdb-is-upsert", "True"),
                ("x-ms-documentdb-partitionkey", &partition_key),
                ("prefer", "return=minimal"),
            ],
            body: Value::Object(document.clone()).to_string(),
        };
        self.send(container.connection, &call, clock).await.map(drop)
    }

    async fn paths(&self, container: &Container<'_>, clock: &Clock) -> Result<Paths, CosmosError> {
        let known = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&container.key()).cloned()
        };
        if let Some(paths) = known {
            return Ok(paths);
        }
        let call = Call {
            method: "GET",
            names: &[&container.database, &container.container],
            feed: None,
            headers: &[],
            body: String::new(),
        };
        let reply = self.send(container.connection, &call, clock).await?;
        let definition: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
        let paths = definition["partitionKey"]["paths"].as_array();
        let paths = paths.ok_or_else(|| {
            CosmosError::Unavailable("the container's definition names no partition key".to_owned())
        })?;
        let paths: Paths = Arc::new(paths.iter().filter_map(Value::as_str).map(names).collect());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(container.key(), Arc::clone(&paths));
        Ok(paths)
    }

    async fn create(
        &self,
        container: &Container<'_>,
        path: &str,
        clock: &Clock,
    ) -> Result<(), CosmosError> {
        let partition_key = json!({ "paths": [path], "kind": "Hash", "version": 2 });
        for (names, feed, body) in [
            (&[][..], "dbs", json!({ "id": container.database })),
            (
                &[container.database.as_str()][..],
                "colls",
                json!({ "id": container.container, "partitionKey": partition_key }),
            ),
        ] {
            let body = body.to_string();
            let call = Call { method: "POST", names, feed: Some(feed), headers: &[], body };
            match self.send(container.connection, &call, clock).await {
                // Somebody else was faster.
                Ok(_) | Err(CosmosError::Refused { status: StatusCode::CONFLICT, .. }) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Sends the call, again while the service is too busy.
    async fn send(
        &self,
        connection: &CosmosConnection,
        call: &Call<'_>,
        clock: &Clock,
    ) -> Result<Reply, CosmosError> {
        let mut attempt = 1;
        loop {
            let request = request(connection, call, clock)
                .map_err(|error| CosmosError::Unavailable(format!("not a request: {error}")))?;
            let reply = self
                .client
                .send(request)
                .await
                .map_err(|error| CosmosError::Unavailable(error.to_string()))?;
            if reply.status == StatusCode::TOO_MANY_REQUESTS && attempt < ATTEMPTS_MAX {
                let named = reply.header("x-ms-retry-after-ms").and_then(|ms| ms.parse().ok());
                sleep(named.map_or(THROTTLE_PAUSE, Duration::from_millis)).await;
                attempt += 1;
                continue;
            }
            return judge(reply, &connection.setting);
        }
    }
}

fn request(
    connection: &CosmosConnection,
    call: &Call<'_>,
    clock: &Clock,
) -> http::Result<Request<Full<Bytes>>> {
    let kinds = ["dbs", "colls"];
    let (mut path, mut link) = (String::new(), String::new());
    for (kind, name) in kinds.iter().zip(call.names) {
        path.push_str(&format!("/{kind}/{}", utf8_percent_encode(name, SEGMENT)));
        let slash = if link.is_empty() { "" } else { "/" };
        link.push_str(&format!("{slash}{kind}/{name}"));
    }
    let kind = match call.feed {
        Some(feed) => {
            path.push_str(&format!("/{feed}"));
            feed
        }
        None => kinds.get(call.names.len().saturating_sub(1)).copied().unwrap_or_default(),
    };
    let date = http_date(clock());
    let endpoint = &connection.endpoint;
    let mut request = Request::builder()
        .method(call.method)
        .uri(format!("http://{}{}{path}", endpoint.authority, endpoint.path))
        .header("authorization", authorization(&connection.key, call.method, kind, &link, &date))
        .header("x-ms-date", &date)
        .header("x-ms-version", VERSION);
    if !call.body.is_empty() {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in call.headers {
        request = request.header(*name, *value);
    }
    request.body(Full::new(Bytes::from(call.body.clone())))
}

/// A master-key signature:
/// <https://learn.microsoft.com/rest/api/cosmos-db/access-control-on-cosmosdb-resources>.
fn authorization(key: &[u8], method: &str, kind: &str, link: &str, date: &str) -> String {
    let text = format!("{}\n{kind}\n{link}\n{}\n\n", method.to_lowercase(), date.to_lowercase());
    // An HMAC takes a key of any length.
    let signature = Hmac::<Sha256>::new_from_slice(key)
        .map(|mac| BASE64.encode(mac.chain_update(text).finalize().into_bytes()))
        .unwrap_or_default();
    let token = format!("type=master&ver=1.0&sig={signature}");
    utf8_percent_encode(&token, NON_ALPHANUMERIC).to_string()
}

fn judge(reply: Reply, setting: &str) -> Result<Reply, CosmosError> {
    let status = reply.status;
    if status.is_success() {
        return Ok(reply);
    }
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let said = body["message"].as_str().unwrap_or_default();
    let said = said.lines().next().unwrap_or_default();
    let told = format!("{} {said}", status.as_u16()).trim().to_owned();
    Err(match status {
        StatusCode::NOT_FOUND => CosmosError::NoContainer(""),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => CosmosError::Refused {
            status,
            told: format!("the key of setting {setting} was refused: {told}"),
        },
        _ => CosmosError::Refused { status, told },
    })
}

/// The property names of a path like `/customer/id` or `/"a/b"`.
fn names(path: &str) -> Vec<String> {
    let (mut names, mut rest) = (Vec::new(), path);
    while let Some(from) = rest.strip_prefix('/') {
        let quoted = from.strip_prefix('"').and_then(|from| from.split_once('"'));
        let (name, after) = quoted.unwrap_or_else(|| {
            let end = from.find('/').unwrap_or(from.len());
            from.split_at(end)
        });
        names.push(name.to_owned());
        rest = after;
    }
    names
}

/// The value of the header: a JSON list in ASCII, one entry per path; `{}` stands for a document
/// that lacks the property.
fn partition_key(paths: &[Vec<String>], document: &Map<String, Value>) -> String {
    let values: Vec<Value> = paths
        .iter()
        .map(|path| {
            let (first, rest) = path.split_first()?;
            rest.iter().try_fold(document.get(first)?, |value, name| value.get(name))
        })
        .map(|value| match value {
            Some(Value::Object(_) | Value::Array(_)) | None => json!({}),
            Some(scalar) => scalar.clone(),
        })
        .collect();
    let mut ascii = String::new();
    for unit in Value::Array(values).to_string().encode_utf16() {
        match u8::try_from(unit) {
            Ok(byte) if byte.is_ascii() => ascii.push(char::from(byte)),
            _ => ascii.push_str(&format!("\\u{unit:04x}")),
        }
    }
    ascii
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_documented_signature_comes_out() {
        let key = "dsZQi3KtZmCv1ljt3VNWNm7sQUF1y5rJfC6kv5JiwvW0EndXdDku/dkKBp8/\
                   ufDToSxLzR4y+O/0H/t4bQtVNw==";
        let key = BASE64.decode(key).unwrap();
        let date = "Thu, 27 Apr 2017 00:51:12 GMT";
        assert_eq!(
            authorization(&key, "GET", "dbs", "dbs/ToDoList", date),
            "type%3Dmaster%26ver%3D1%2E0%26sig%3Dc09PEVJrgp2uQRkr934kFbTqhByc7TVr3OHyqlu%2Bc%2Bc%3D"
        );
    }

    #[test]
    fn partition_keys_are_taken_from_the_document() {
        let document = json!({ "id": "d", "pk": "ä\u{1f600}\"", "a": { "b": 7 }, "n": null });
        let document = document.as_object().unwrap();
        for (path, expected) in [
            ("/pk", "[\"\\u00e4\\ud83d\\ude00\\\"\"]"),
            ("/a/b", "[7]"),
            ("/\"a\"/b", "[7]"),
            ("/n", "[null]"),
            ("/a", "[{}]"),
            ("/missing/deep", "[{}]"),
        ] {
            assert_eq!(partition_key(&[names(path)], document), expected, "{path}");
        }
        assert_eq!(partition_key(&[names("/id"), names("/a/b")], document), "[\"d\",7]");
        assert_eq!(names("/\"a/b\"/c"), ["a/b", "c"]);
    }
}
