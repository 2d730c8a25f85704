//! The client of one queue.

use std::{fmt, sync::Arc, time::Duration};

use azure_core::{
    credentials::{Secret, TokenCredential},
    http::{HttpClient, Method, Request, StatusCode, headers::HeaderName, new_http_client},
};
use time::{OffsetDateTime, format_description::BorrowedFormatItem, macros::format_description};
use tokio::time::timeout;
use url::Url;

use super::{connection::QueueConnection, error::QueueError, sign, xml};
use crate::{connection::Credential, credential::token_credential};

/// Version of the protocol that every request asks for.
const VERSION: &str = "2024-11-04";

/// Scope of Entra tokens for Storage.
const SCOPE: &str = "https://storage.azure.com/.default";

/// Longest that one request may take.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// Messages that the service shows or hands out at once.
pub(super) const MESSAGES_MAX: usize = 32;

/// RFC 1123, as every time of this service.
const RFC_1123: &[BorrowedFormatItem<'static>] = format_description!(
    "[weekday repr:short], [day] [month repr:short] [year] [hour]:[minute]:[second] GMT"
);

/// A queue. Cheap to clone; clones share their connections.
#[derive(Clone)]
pub struct QueueClient(Arc<Inner>);

struct Inner {
    http: Arc<dyn HttpClient>,
    /// Endpoint of the service with the queue's name.
    queue: Url,
    access: Access,
}

enum Access {
    Key { account: String, key: Secret },
    Token(Arc<dyn TokenCredential>),
}

/// A message that was peeked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// Id that the service gave it.
    pub id: String,
    /// When it was put.
    pub inserted_at: Option<OffsetDateTime>,
    /// How often it has been taken.
    pub dequeue_count: u32,
    /// The text, as stored: whether it is base64 is between those who write and who read.
    pub text: String,
}

/// A message that was taken, and is hidden from others for a while.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueMessage {
    /// The message.
    pub shown: Shown,
    /// Proof that it was taken; needed to delete it or give it back.
    pub pop_receipt: String,
}

impl fmt::Debug for QueueClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("QueueClient").field(&self.0.queue.as_str()).finish()
    }
}

impl QueueClient {
    /// Messages that one call shows or takes at most: the service's limit.
    pub const MESSAGES_MAX: usize = MESSAGES_MAX;

    /// A client of `queue`. No network is touched before it is used.
    ///
    /// # Errors
    ///
    /// [`QueueError::Credential`] when the identity cannot be set up, [`QueueError::Unreadable`]
    /// when the endpoint takes no path.
    pub fn new(connection: &QueueConnection, queue: &str) -> Result<Self, QueueError> {
        let access = match &connection.credential {
            Credential::Token(identity) => {
                Access::Token(token_credential(identity).map_err(QueueError::Credential)?)
            }
            Credential::Key(key)
            | Credential::SharedAccessSignature(key)
            | Credential::SharedAccessKey { key, .. } => {
                Access::Key { account: connection.account.clone(), key: key.clone() }
            }
        };
        let mut url = connection.endpoint.clone();
        url.path_segments_mut()
            .map_err(|()| QueueError::Unreadable("the endpoint takes no path"))?
            .pop_if_empty()
            .push(queue);
        Ok(Self(Arc::new(Inner { http: new_http_client(None), queue: url, access })))
    }

    /// About how many messages there are, hidden ones included.
    ///
    /// # Errors
    ///
    /// Any [`QueueError`].
    pub async fn approximate_count(&self) -> Result<u64, QueueError> {
        let mut url = self.0.queue.clone();
        url.set_query(Some("comp=metadata"));
        let answer = self.send(Method::Get, url).await?;
        let count = HeaderName::from_static("x-ms-approximate-messages-count");
        let count = answer.headers.get_optional_string(&count);
        count
            .and_then(|text| text.parse().ok())
            .ok_or(QueueError::Unreadable("no count among the metadata"))
    }

    /// Shows up to [`Self::MESSAGES_MAX`] visible messages from the front without taking them. The
    /// service offers no way to see further.
    ///
    /// # Errors
    ///
    /// Any [`QueueError`].
    pub async fn peek(&self) -> Result<Vec<Shown>, QueueError> {
        let mut url = self.messages();
        url.set_query(Some(&format!("peekonly=true&numofmessages={MESSAGES_MAX}")));
        let body = self.send(Method::Get, url).await?.body;
        xml::elements(&body, "QueueMessage").into_iter().map(shown).collect()
    }

    /// Takes up to `count` messages; nobody else sees them for `hidden`, unless they are given
    /// back.
    ///
    /// # Errors
    ///
    /// Any [`QueueError`].
    pub async fn take(
        &self,
        count: usize,
        hidden: Duration,
    ) -> Result<Vec<QueueMessage>, QueueError> {
        let count = count.clamp(1, MESSAGES_MAX);
        let seconds = hidden.as_secs().max(1);
        let mut url = self.messages();
        url.set_query(Some(&format!("numofmessages={count}&visibilitytimeout={seconds}")));
        let body = self.send(Method::Get, url).await?.body;
        let taken = |element| {
            let pop_receipt = xml::text(element, "PopReceipt")
                .ok_or(QueueError::Unreadable("a message without a pop receipt"))?;
            Ok(QueueMessage { shown: shown(element)?, pop_receipt })
        };
        xml::elements(&body, "QueueMessage").into_iter().map(taken).collect()
    }

    /// Makes a message visible again. Its dequeue count stays raised.
    ///
    /// # Errors
    ///
    /// [`QueueError::Lost`] when somebody else has it by now, and any other [`QueueError`].
    pub async fn give_back(&self, message: &QueueMessage) -> Result<(), QueueError> {
        let mut url = self.held(message);
        url.query_pairs_mut().append_pair("visibilitytimeout", "0");
        self.send(Method::Put, url).await.map(drop)
    }

    /// Deletes a message.
    ///
    /// # Errors
    ///
    /// [`QueueError::Lost`] when somebody else has it by now, and any other [`QueueError`].
    pub async fn delete(&self, message: &QueueMessage) -> Result<(), QueueError> {
        self.send(Method::Delete, self.held(message)).await.map(drop)
    }

    fn messages(&self) -> Url {
        let mut url = self.0.queue.clone();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.push("messages");
        }
        url
    }

    fn held(&self, message: &QueueMessage) -> Url {
        let mut url = self.messages();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.push(&message.shown.id);
        }
        url.query_pairs_mut().append_pair("popreceipt", &message.pop_receipt);
        url
    }

    async fn send(&self, method: Method, url: Url) -> Result<Answer, QueueError> {
        let answer = timeout(REQUEST_MAX, self.attempt(method, url));
        answer.await.map_err(|_| QueueError::Timeout { after: REQUEST_MAX })?
    }

    async fn attempt(&self, method: Method, url: Url) -> Result<Answer, QueueError> {
        let date = now().format(RFC_1123).unwrap_or_default();
        let authorization = match &self.0.access {
            Access::Key { account, key } => {
                let headers = [("x-ms-date", date.as_str()), ("x-ms-version", VERSION)];
                sign::authorization(account, key, method.as_str(), &url, &headers)
            }
            Access::Token(credential) => {
                let token = credential.get_token(&[SCOPE], None).await;
                token.map(|token| format!("Bearer {}", token.token.secret()))
            }
        };
        let mut request = Request::new(url, method);
        request.insert_header("authorization", authorization.map_err(QueueError::Credential)?);
        request.insert_header("x-ms-date", date);
        request.insert_header("x-ms-version", VERSION);
        request.insert_header("content-length", "0");
        let response = self.0.http.execute_request(&request).await;
        let response = response.map_err(QueueError::Unavailable)?;
        let (status, headers, body) = response.deconstruct();
        let body = body.collect().await.map_err(QueueError::Unavailable)?;
        let body = String::from_utf8_lossy(&body).into_owned();
        if status.is_success() {
            return Ok(Answer { headers, body });
        }
        let code = xml::text(&body, "Code").unwrap_or_default();
        Err(match (status, code.as_str()) {
            (StatusCode::Unauthorized | StatusCode::Forbidden, _) => QueueError::Unauthorized,
            (_, "MessageNotFound" | "PopReceiptMismatch") => QueueError::Lost,
            (StatusCode::NotFound, _) => QueueError::NotFound,
            (status, _) => QueueError::Rejected { status: status.into(), code },
        })
    }
}

struct Answer {
    headers: azure_core::http::headers::Headers,
    body: String,
}

fn shown(element: &str) -> Result<Shown, QueueError> {
    let id = xml::text(element, "MessageId");
    let inserted_at = xml::text(element, "InsertionTime").and_then(|text| {
        time::PrimitiveDateTime::parse(&text, RFC_1123)
            .ok()
            .map(time::PrimitiveDateTime::assume_utc)
    });
    Ok(Shown {
        id: id.ok_or(QueueError::Unreadable("a message without an id"))?,
        inserted_at,
        dequeue_count: xml::text(element, "DequeueCount")
            .and_then(|text| text.parse().ok())
            .unwrap_or_default(),
        text: xml::text(element, "MessageText").unwrap_or_default(),
    })
}

#[expect(clippy::disallowed_methods, reason = "requests are signed for the moment they are sent")]
fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}
