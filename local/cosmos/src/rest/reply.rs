//! What goes back to the client: a status, headers, JSON.

use std::fmt;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::{Value, json};

use crate::auth::Denied;
use crate::sql::SqlError;
use crate::store::{Container, Ranges, StoreError};

/// Headers of every answer, the date of the server included.
const COMMON_HEADERS: usize = 7;

/// The status that asks to try the same again at once.
pub(super) const RETRY_WITH: u16 = 449;

/// An answer, before the headers that every answer has.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: StatusCode,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) body: Bytes,
    /// In request units.
    pub(super) charge: f64,
    /// The commit that the answer depends on; it leaves only once that is durable.
    pub(super) after: u64,
}

/// A refusal.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) substatus: u32,
    pub(super) message: String,
    pub(super) retry_after_ms: Option<u64>,
    /// The `additionalErrorInfo` of the body.
    pub(super) additional: Option<String>,
}

/// What handlers return.
pub(super) type Answer = Result<Reply, Refusal>;

impl Reply {
    pub(super) fn new(status: StatusCode, body: impl Into<Bytes>) -> Self {
        Self { status, headers: Vec::new(), body: body.into(), charge: 1.0, after: 0 }
    }

    pub(super) fn json(status: StatusCode, body: &Value) -> Self {
        Self::new(status, body.to_string())
    }

    pub(super) fn empty(status: StatusCode) -> Self {
        Self::new(status, Bytes::new())
    }

    pub(super) fn header(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    pub(super) fn charge(mut self, charge: f64) -> Self {
        self.charge = charge;
        self
    }

    /// Names the commit that the answer depends on.
    pub(super) fn after(mut self, sequence: u64) -> Self {
        self.after = sequence;
        self
    }

    /// Adds what clients track about the container that answered.
    pub(super) fn of(self, container: &Origin) -> Self {
        let reply = self
            .after(container.sequence)
            .header("x-ms-session-token", container.session_token())
            .header("lsn", container.lsn)
            .header("x-ms-alt-content-path", &container.path)
            .header("x-ms-content-path", &container.rid);
        match container.range {
            Some(range) => reply.header("x-ms-documentdb-partitionkeyrangeid", range),
            None => reply,
        }
    }

    /// The finished response.
    pub(super) fn into_response(self, activity_id: &HeaderValue) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.reserve(self.headers.len() + COMMON_HEADERS);
        for (name, value) in self.headers {
            // Names are ours; values are ids and ETags, which hold no control characters.
            if let Ok(value) = HeaderValue::from_maybe_shared(Bytes::from(value)) {
                headers.insert(HeaderName::from_static(name), value);
            }
        }
        headers.entry(header::CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        headers.insert("x-ms-activity-id", activity_id.clone());
        headers.insert("x-ms-version", HeaderValue::from_static("2020-07-15"));
        headers.insert("x-ms-gatewayversion", HeaderValue::from_static("version=2.0.0"));
        if let Ok(charge) = HeaderValue::from_maybe_shared(Bytes::from(self.charge.to_string())) {
            headers.insert("x-ms-request-charge", charge);
        }
        response
    }
}

/// The container that an answer is about.
#[derive(Debug, Clone)]
pub(super) struct Origin {
    pub(super) lsn: u64,
    sequence: u64,
    pub(super) rid: String,
    path: String,
    ranges: Ranges,
    /// The range that was asked; `None` when there are several.
    range: Option<u16>,
}

impl Origin {
    /// The container as it is now. `ranges` are those of the service.
    pub(super) fn new(database: &str, container: &Container, ranges: Ranges) -> Self {
        let ranges = container.ranges(ranges);
        Self {
            lsn: container.lsn(),
            sequence: container.sequence,
            rid: container.rid().text(),
            path: format!("dbs/{database}/colls/{}", container.settings().id),
            ranges,
            range: ranges.is_one().then_some(0),
        }
    }

    /// The same, about one range.
    pub(super) fn in_range(mut self, range: Option<u16>) -> Self {
        self.range = range.or(self.range);
        self
    }

    /// Log sequence numbers are those of the container, which is finer than clients need.
    fn session_token(&self) -> String {
        let one = |range: u16| format!("{range}:-1#{}", self.lsn);
        match self.range {
            Some(range) => one(range),
            None => (0..self.ranges.count()).map(one).collect::<Vec<_>>().join(","),
        }
    }
}

impl Refusal {
    pub(super) fn new(status: StatusCode, substatus: u32, message: impl Into<String>) -> Self {
        Self { status, substatus, message: message.into(), retry_after_ms: None, additional: None }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, 0, message)
    }

    pub(super) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, 0, "Resource Not Found.")
    }

    /// The `code` of the error body.
    pub(super) fn code(&self) -> &'static str {
        match self.status {
            StatusCode::BAD_REQUEST => "BadRequest",
            StatusCode::UNAUTHORIZED => "Unauthorized",
            StatusCode::FORBIDDEN => "Forbidden",
            StatusCode::NOT_FOUND => "NotFound",
            StatusCode::METHOD_NOT_ALLOWED => "MethodNotAllowed",
            StatusCode::REQUEST_TIMEOUT => "RequestTimeout",
            StatusCode::CONFLICT => "Conflict",
            StatusCode::GONE => "Gone",
            StatusCode::PRECONDITION_FAILED => "PreconditionFailed",
            StatusCode::PAYLOAD_TOO_LARGE => "RequestEntityTooLarge",
            StatusCode::TOO_MANY_REQUESTS => "429",
            status if status.as_u16() == RETRY_WITH => "449",
            StatusCode::SERVICE_UNAVAILABLE => "ServiceUnavailable",
            _ => "InternalServerError",
        }
    }

    pub(super) fn into_reply(self, activity_id: &str) -> Reply {
        let message = format!("{}\r\nActivityId: {activity_id}", self.message);
        let mut body = json!({"code": self.code(), "message": message});
        if let Some(additional) = self.additional.clone() {
            body["additionalErrorInfo"] = additional.into();
        }
        let mut reply = Reply::json(self.status, &body);
        if self.substatus != 0 {
            reply = reply.header("x-ms-substatus", self.substatus);
        }
        if let Some(delay) = self.retry_after_ms {
            reply = reply.header("x-ms-retry-after-ms", delay);
        }
        reply
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let (status, substatus) = match &error {
            // 1003 tells clients that what holds the item is missing, not the item.
            StoreError::DatabaseMissing | StoreError::ContainerMissing => {
                (StatusCode::NOT_FOUND, 1003)
            }
            StoreError::ItemMissing | StoreError::ResourceMissing => (StatusCode::NOT_FOUND, 0),
            StoreError::AlreadyExists | StoreError::UniqueKeyViolation => (StatusCode::CONFLICT, 0),
            StoreError::EtagMismatch => (StatusCode::PRECONDITION_FAILED, 0),
            StoreError::ConditionNotMet => (StatusCode::PRECONDITION_FAILED, 1110),
            StoreError::BadRequest(_) => (StatusCode::BAD_REQUEST, 0),
            StoreError::PartitionKeyMismatch => (StatusCode::BAD_REQUEST, 1001),
            StoreError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, 0),
            StoreError::LogUnavailable => (StatusCode::SERVICE_UNAVAILABLE, 0),
        };
        Self::new(status, substatus, error.to_string())
    }
}

impl From<SqlError> for Refusal {
    fn from(error: SqlError) -> Self {
        let detail = json!({"errors": [{
            "severity": "Error",
            "location": {"start": error.offset, "end": error.offset},
            "code": "SC1001",
            "message": error.message,
        }]});
        Self::bad(format!("Message: {detail}"))
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let status = match denied {
            Denied::ClockSkew | Denied::ReadOnly | Denied::ControlPlane => StatusCode::FORBIDDEN,
            Denied::MissingToken
            | Denied::MalformedToken
            | Denied::UnsupportedToken
            | Denied::MissingDate
            | Denied::WrongSignature => StatusCode::UNAUTHORIZED,
        };
        let substatus = if denied == Denied::ControlPlane { 5300 } else { 0 };
        Self::new(status, substatus, denied.to_string())
    }
}
