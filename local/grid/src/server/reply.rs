//! Answers, and refusals in the shape that the service gives them:
//! <https://learn.microsoft.com/azure/event-grid/post-to-custom-topic#response>.

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_TYPE};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::Full;
use serde::Serialize;
use serde_json::json;

use crate::access::Denied;
use crate::event::Invalid;
use crate::limits;
use crate::store::StoreError;

/// An answer, or why there is none.
pub(super) type Answer = Result<Response<Full<Bytes>>, Refusal>;

/// A request that is not carried out.
#[derive(Debug)]
pub(super) struct Refusal {
    status: StatusCode,
    code: &'static str,
    message: String,
    allow: Option<&'static str>,
}

impl Refusal {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { status, code, message: message.into(), allow: None }
    }

    pub(super) fn bad(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }

    pub(super) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub(super) fn method(allow: &'static str) -> Self {
        let status = StatusCode::METHOD_NOT_ALLOWED;
        let refusal = Self::new(status, "MethodNotAllowed", format!("this takes {allow}"));
        Self { allow: Some(allow), ..refusal }
    }

    pub(super) fn too_large(message: impl Into<String>) -> Self {
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge", message)
    }

    pub(super) fn body_too_large() -> Self {
        let most = limits::REQUEST_BYTES_MAX;
        Self::too_large(format!("the request has more than {most} bytes"))
    }

    pub(super) fn body_incomplete() -> Self {
        Self::bad("the request body ended early")
    }

    pub(super) fn body_late() -> Self {
        let message = "the request body did not arrive in time";
        Self::new(StatusCode::REQUEST_TIMEOUT, "RequestTimeout", message)
    }

    pub(super) fn status(&self) -> u16 {
        self.status.as_u16()
    }

    pub(super) fn into_response(self) -> Response<Full<Bytes>> {
        let Self { status, code, message, allow } = self;
        let details = json!([{"code": code, "message": message}]);
        let body = json!({"error": {"code": code, "message": message, "details": details}});
        let mut response = json(status.as_u16(), &body);
        if let Some(allow) = allow {
            response.headers_mut().insert(ALLOW, HeaderValue::from_static(allow));
        }
        response
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", denied.to_string())
    }
}

impl From<Invalid> for Refusal {
    fn from(invalid: Invalid) -> Self {
        let text = invalid.to_string();
        match invalid {
            Invalid::MediaType => {
                Self::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType", text)
            }
            Invalid::TooLarge(_) => Self::too_large(text),
            Invalid::Body(_) | Invalid::Event { .. } => Self::bad(text),
        }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        match error {
            StoreError::NoTopic(_) | StoreError::NoSubscription(_) => Self::not_found(text),
            StoreError::Full => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", text)
            }
            StoreError::TooMany => Self::new(StatusCode::CONFLICT, "QuotaExceeded", text),
            StoreError::Invalid(_) => Self::bad(text),
        }
    }
}

/// An answer of JSON.
pub(super) fn json(status: u16, body: &impl Serialize) -> Response<Full<Bytes>> {
    // What is answered here has text keys only, so it can always be written.
    let bytes = serde_json::to_vec(body).unwrap_or_default();
    let mut response = Response::new(Full::new(Bytes::from(bytes)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::OK);
    let json = HeaderValue::from_static("application/json; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

/// An answer without a body.
pub(super) fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}
