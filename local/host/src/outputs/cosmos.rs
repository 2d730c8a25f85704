//! Upserting documents into Cosmos DB.
//!
//! The partition key of a document is found as the SDKs find it: the container's definition is read
//! once and names the paths. Reference: <https://learn.microsoft.com/rest/api/cosmos-db/>.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{Method, StatusCode};
use serde_json::{Map, Value, json};
use tokio::time::sleep;

use crate::config::cosmos::CosmosConnection;
use crate::log::Logger;
use crate::triggers::cosmos_db::account::{Account, Answer, StoreError};

/// A throttled request is sent this often in all, as the SDKs do.
const ATTEMPTS_MAX: u32 = 10;

/// The pause after the first throttled request; it doubles, to fifty seconds in all at most.
const THROTTLE_PAUSE: Duration = Duration::from_millis(100);

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
pub(crate) enum NotWritten {
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("the database or container does not exist{0}")]
    NoContainer(&'static str),
    #[error("the document has no \"id\" (a text); the service needs one and makes none up")]
    NoId,
}

/// The containers of one host's output bindings, and what is known about them.
pub(crate) struct Containers {
    log: Logger,
    /// By setting.
    accounts: Mutex<HashMap<String, Account>>,
    /// By setting, database and container.
    known: Mutex<HashMap<[String; 3], Paths>>,
}

impl Container<'_> {
    /// Name, address and setting, for messages.
    pub(crate) fn described(&self) -> String {
        let CosmosConnection { authority, setting, .. } = self.connection;
        format!(
            "container '{}' of database '{}' at {authority} (setting {setting})",
            self.container, self.database
        )
    }

    fn key(&self) -> [String; 3] {
        [self.connection.setting.clone(), self.database.clone(), self.container.clone()]
    }
}

impl Containers {
    pub(crate) fn new(log: Logger) -> Self {
        Self { log, accounts: Mutex::default(), known: Mutex::default() }
    }

    /// Inserts `document`, or replaces the one of its id and partition key.
    pub(crate) async fn upsert(
        &self,
        container: &Container<'_>,
        missing: &Missing,
        document: &Map<String, Value>,
    ) -> Result<(), NotWritten> {
        if !document.get("id").is_some_and(Value::is_string) {
            return Err(NotWritten::NoId);
        }
        let first = self.attempt(container, document).await;
        let Err(error) = first else { return Ok(()) };
        if error.is(StatusCode::NOT_FOUND) {
            self.forget(container);
            match missing {
                Missing::Refused => {
                    return Err(NotWritten::NoContainer(
                        "; create it, or set \"createIfNotExists\" and \"partitionKey\" in the \
                         binding",
                    ));
                }
                Missing::NeedsPartitionKey => {
                    return Err(NotWritten::NoContainer(
                        ", and without \"partitionKey\" in the binding it cannot be created",
                    ));
                }
                Missing::CreatedWith(path) => self.create(container, path).await?,
            }
        } else if error.is(StatusCode::BAD_REQUEST) {
            // The container may have been made anew with another partition key.
            self.forget(container);
        } else {
            return Err(error.into());
        }
        Ok(self.attempt(container, document).await?)
    }

    fn forget(&self, container: &Container<'_>) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(&container.key());
    }

    async fn attempt(
        &self,
        container: &Container<'_>,
        document: &Map<String, Value>,
    ) -> Result<(), StoreError> {
        let paths = self.paths(container).await?;
        let partition_key = partition_key(&paths, document);
        let path = ["dbs", &container.database, "colls", &container.container, "docs"];
        let headers = [
            ("content-type", "application/json"),
            ("prefer", "return=minimal"),
            ("x-ms-documentdb-is-upsert", "True"),
            ("x-ms-documentdb-partitionkey", partition_key.as_str()),
        ];
        let body = Value::Object(document.clone()).to_string();
        self.send(container, Method::POST, &path, &headers, &body).await.map(drop)
    }

    async fn paths(&self, container: &Container<'_>) -> Result<Paths, StoreError> {
        let known = {
            let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
            known.get(&container.key()).cloned()
        };
        if let Some(paths) = known {
            return Ok(paths);
        }
        let path = ["dbs", &container.database, "colls", &container.container];
        let definition = self.send(container, Method::GET, &path, &[], "").await?.object()?;
        let paths = definition.get("partitionKey").and_then(|key| key.get("paths")?.as_array());
        let paths = paths.ok_or(StoreError::Unreadable("partition key"))?;
        let paths: Paths = Arc::new(paths.iter().filter_map(Value::as_str).map(names).collect());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(container.key(), Arc::clone(&paths));
        Ok(paths)
    }

    async fn create(&self, container: &Container<'_>, path: &str) -> Result<(), StoreError> {
        let partition_key = json!({ "paths": [path], "kind": "Hash", "version": 2 });
        let database = json!({ "id": container.database });
        let definition = json!({ "id": container.container, "partitionKey": partition_key });
        let containers = ["dbs", &container.database, "colls"];
        for (path, body) in [(&["dbs"][..], database), (&containers, definition)] {
            let headers = [("content-type", "application/json")];
            match self.send(container, Method::POST, path, &headers, &body.to_string()).await {
                // Somebody else was faster.
                Err(error) if error.is(StatusCode::CONFLICT) => {}
                done => drop(done?),
            }
        }
        Ok(())
    }

    /// Sends a request, again while the service is too busy.
    async fn send(
        &self,
        container: &Container<'_>,
        method: Method,
        path: &[&str],
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Result<Answer, StoreError> {
        let account = {
            let mut accounts = self.accounts.lock().unwrap_or_else(PoisonError::into_inner);
            let new = || Account::new(container.connection.clone(), self.log.clone());
            accounts.entry(container.connection.setting.clone()).or_insert_with(new).clone()
        };
        let mut pause = THROTTLE_PAUSE;
        for _ in 1..ATTEMPTS_MAX {
            match account.send(method.clone(), path, headers, body.to_owned()).await {
                Err(error) if error.is(StatusCode::TOO_MANY_REQUESTS) => sleep(pause).await,
                done => return done,
            }
            pause *= 2;
        }
        account.send(method, path, headers, body.to_owned()).await
    }
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
