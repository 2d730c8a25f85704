//! The client: one request, tried again within a deadline.

use std::sync::Arc;
use std::time::Duration;

use azure_core::credentials::{AccessToken, Secret, TokenCredential};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use reqwest::{Client, StatusCode};
use serde::Serialize;
use time::OffsetDateTime;
use tokio::sync::Mutex;
use url::Url;

use super::batch::bodies;
use super::error::GridError;
use crate::connection::{Credential, GridConnection};
use crate::credential::token_credential;
use crate::retry::{Backoff, RetryPolicy};

/// Version of the publish API.
const API_VERSION: &str = "2018-01-01";

/// Scope of Entra tokens for Event Grid.
const SCOPE: &str = "https://eventgrid.azure.net/.default";

/// A token is replaced this long before it expires.
const RENEWAL_LEAD: Duration = Duration::from_secs(5 * 60);

const BATCH: HeaderValue =
    HeaderValue::from_static("application/cloudevents-batch+json; charset=utf-8");

/// Characters of the service's own words that an error keeps.
const MESSAGE_CHARS_MAX: usize = 300;

/// Bytes of an error answer that are read.
const ANSWER_BYTES_MAX: usize = 16 * 1024;

/// How patient to be.
#[derive(Clone, Copy, Debug)]
pub struct GridOptions {
    /// How long one call may take, tries and pauses included.
    pub deadline: Duration,
    /// How long one request may take.
    pub attempt_timeout: Duration,
    /// How long connecting may take.
    pub connect_timeout: Duration,
    /// When to try again.
    pub retry: RetryPolicy,
}

impl Default for GridOptions {
    fn default() -> Self {
        Self {
            deadline: Duration::from_secs(10),
            attempt_timeout: Duration::from_secs(4),
            connect_timeout: Duration::from_secs(2),
            retry: RetryPolicy {
                attempts_max: 4,
                delay_base: Duration::from_millis(100),
                delay_max: Duration::from_secs(2),
                budget: Duration::from_secs(4),
            },
        }
    }
}

/// Publishes to one topic. Cheap to clone; clones share connections and token.
#[derive(Clone, Debug)]
pub struct GridPublisher {
    http: Client,
    url: Url,
    entry: Entry,
    options: GridOptions,
}

#[derive(Clone, Debug)]
enum Entry {
    Key(Secret),
    Token { credential: Arc<dyn TokenCredential>, held: Arc<Mutex<Option<AccessToken>>> },
}

impl GridPublisher {
    /// A client of a topic. Nothing is connected yet.
    ///
    /// # Errors
    /// The credential is of no use here, or the transport cannot be set up.
    pub fn new(connection: GridConnection, options: GridOptions) -> Result<Self, GridError> {
        let entry = match connection.credential {
            Credential::Key(key) => Entry::Key(key),
            Credential::Token(identity) => {
                let credential = token_credential(&identity).map_err(GridError::Credential)?;
                Entry::Token { credential, held: Arc::default() }
            }
            Credential::SharedAccessKey { .. } | Credential::SharedAccessSignature(_) => {
                let why = "a shared access key of Service Bus does not open a topic of Event Grid";
                return Err(GridError::Credential(azure_core::Error::with_message(
                    azure_core::error::ErrorKind::Credential,
                    why,
                )));
            }
        };
        let http = Client::builder()
            .timeout(options.attempt_timeout)
            .connect_timeout(options.connect_timeout)
            // Whatever a redirect leads to, it is not the topic, and must not get the key.
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(GridError::Unreachable)?;
        let mut url = connection.endpoint;
        if !url.query_pairs().any(|(name, _)| name.eq_ignore_ascii_case("api-version")) {
            url.query_pairs_mut().append_pair("api-version", API_VERSION);
        }
        Ok(Self { http, url, entry, options })
    }

    /// Publishes events, in as few requests as the limits allow. Each event serialises to one
    /// CloudEvent of at most a megabyte.
    ///
    /// # Errors
    /// [`GridError`]; some of the events may have been taken all the same.
    pub async fn publish<E: Serialize>(&self, events: &[E]) -> Result<(), GridError> {
        let bodies = bodies(events)?;
        let after = self.options.deadline;
        let sent = async {
            for body in bodies {
                self.patiently(body).await?;
            }
            Ok(())
        };
        tokio::time::timeout(after, sent).await.unwrap_or(Err(GridError::Timeout { after }))
    }

    async fn patiently(&self, body: Vec<u8>) -> Result<(), GridError> {
        let mut backoff = Backoff::new(self.options.retry);
        let body = bytes::Bytes::from(body);
        loop {
            let Err(error) = self.send(body.clone()).await else { return Ok(()) };
            if !error.is_transient() {
                return Err(error);
            }
            let Some(pause) = backoff.next_delay(error.retry_after()) else { return Err(error) };
            tracing::debug!(pause_ms = pause.as_millis(), error = %error, "publishing again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn send(&self, body: bytes::Bytes) -> Result<(), GridError> {
        let request = self.http.post(self.url.clone()).header(CONTENT_TYPE, BATCH).body(body);
        let request = match &self.entry {
            Entry::Key(key) => request.header("aeg-sas-key", sensitive(key.secret())?),
            Entry::Token { credential, held } => {
                request.bearer_auth(token(credential.as_ref(), held).await?)
            }
        };
        // Without the address: a key may stand in its query.
        let response =
            request.send().await.map_err(|error| GridError::Unreachable(error.without_url()))?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        if let (Entry::Token { held, .. }, StatusCode::UNAUTHORIZED) = (&self.entry, status) {
            // Revoked before its time; the next request gets another.
            held.lock().await.take();
        }
        let retry_after = retry_after(response.headers());
        let code = status.as_u16();
        Err(match code {
            429 => GridError::Throttled { retry_after },
            408 | 500.. => GridError::Unavailable { status: code, retry_after },
            404 => GridError::NotFound,
            401 | 403 => GridError::Unauthorized { status: code, message: words(response).await },
            _ => GridError::Rejected { status: code, message: words(response).await },
        })
    }
}

/// A header that no log shows.
fn sensitive(text: &str) -> Result<HeaderValue, GridError> {
    let mut value = HeaderValue::from_str(text).map_err(|_| GridError::Limit {
        reason: "the access key has characters that a header cannot have",
    })?;
    value.set_sensitive(true);
    Ok(value)
}

/// A token that is good for a while; one caller fetches it, the others wait.
async fn token(
    credential: &dyn TokenCredential,
    held: &Mutex<Option<AccessToken>>,
) -> Result<String, GridError> {
    let mut held = held.lock().await;
    if let Some(token) = held.as_ref().filter(|token| token.expires_on > now() + RENEWAL_LEAD) {
        return Ok(token.token.secret().to_owned());
    }
    let token = credential.get_token(&[SCOPE], None).await.map_err(GridError::Credential)?;
    let text = token.token.secret().to_owned();
    *held = Some(token);
    Ok(text)
}

#[expect(clippy::disallowed_methods, reason = "the expiry of a token is a wall-clock date")]
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

/// Whole seconds; the other form of the header, a date, is not used by the service.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let seconds = headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds))
}

/// What the service says about a refusal: `error.message` of its answer, shortened.
async fn words(mut response: reqwest::Response) -> String {
    let mut body = Vec::new();
    while let Ok(Some(chunk)) = response.chunk().await {
        body.extend_from_slice(&chunk);
        if body.len() > ANSWER_BYTES_MAX {
            break;
        }
    }
    let answer: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = answer["error"]["message"].as_str().unwrap_or("no reason given");
    message.chars().take(MESSAGE_CHARS_MAX).collect()
}
