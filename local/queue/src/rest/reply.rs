//! What goes back to the client: a status, headers, XML.

use std::fmt;
use std::ops::RangeInclusive;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use uuid::Uuid;
use xml::{Element, InvalidXml};

use crate::auth::Denied;
use crate::date;
use crate::limits::{MAX_CLIENT_REQUEST_ID_CHARACTERS, MAX_MESSAGE_BYTES};
use crate::store::StoreError;

/// The version that answers claim when the request names none.
const DEFAULT_VERSION: HeaderValue = HeaderValue::from_static("2024-11-04");

const NOT_AUTHENTICATED: &str = "Server failed to authenticate the request. Make sure the value of \
    the Authorization header is formed correctly including the signature.";

/// An answer, before the headers that every answer has.
#[derive(Debug)]
pub(super) struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, String)>,
    body: Bytes,
}

/// A refusal, as the service words it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) code: &'static str,
    message: &'static str,
    /// Further elements of the error body.
    details: Vec<(&'static str, String)>,
}

/// What handlers return.
pub(super) type Answer = Result<Reply, Refusal>;

/// What every answer to a request says, whatever it is.
#[derive(Debug)]
pub(super) struct Envelope {
    request_id: String,
    client_request_id: Option<HeaderValue>,
    version: HeaderValue,
    now_ms: u64,
}

impl Envelope {
    pub(super) fn new(headers: &HeaderMap, now_ms: u64) -> Self {
        let client_request_id = headers.get("x-ms-client-request-id");
        let client_request_id =
            client_request_id.filter(|id| id.len() <= MAX_CLIENT_REQUEST_ID_CHARACTERS);
        Self {
            request_id: Uuid::new_v4().to_string(),
            client_request_id: client_request_id.cloned(),
            version: headers.get("x-ms-version").cloned().unwrap_or(DEFAULT_VERSION),
            now_ms,
        }
    }
}

impl Reply {
    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new() }
    }

    pub(super) fn xml(status: StatusCode, document: impl Into<Bytes>) -> Self {
        let body = document.into();
        let headers = vec![(header::CONTENT_TYPE, "application/xml".to_owned())];
        Self { status, headers, body }
    }

    pub(super) fn header(mut self, name: HeaderName, value: impl fmt::Display) -> Self {
        self.headers.push((name, value.to_string()));
        self
    }

    /// The finished response.
    pub(super) fn into_response(self, envelope: Envelope) -> Response<Full<Bytes>> {
        let mut response = Response::new(Full::new(self.body));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        let common = [
            (HeaderName::from_static("x-ms-request-id"), envelope.request_id),
            (header::DATE, date::rfc1123(envelope.now_ms)),
            (header::CACHE_CONTROL, "no-cache".to_owned()),
        ];
        for (name, value) in self.headers.into_iter().chain(common) {
            // Metadata came in as a header and so can go out as one; the rest is ours.
            if let Ok(value) = HeaderValue::from_str(&value) {
                headers.insert(name, value);
            }
        }
        headers.insert("x-ms-version", envelope.version);
        if let Some(id) = envelope.client_request_id {
            headers.insert("x-ms-client-request-id", id);
        }
        response
    }
}

impl Refusal {
    pub(super) fn new(status: StatusCode, code: &'static str, message: &'static str) -> Self {
        Self { status, code, message, details: Vec::new() }
    }

    fn bad(code: &'static str, message: &'static str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    fn detail(mut self, name: &'static str, value: impl fmt::Display) -> Self {
        self.details.push((name, value.to_string()));
        self
    }

    pub(super) fn invalid_uri() -> Self {
        Self::bad("InvalidUri", "The requested URI does not represent any resource on the server.")
    }

    pub(super) fn unsupported_verb() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "UnsupportedHttpVerb",
            "The resource doesn't support specified Http Verb.",
        )
    }

    pub(super) fn missing_parameter(name: &'static str) -> Self {
        Self::bad(
            "MissingRequiredQueryParameter",
            "A query parameter that's mandatory for this request is not specified.",
        )
        .detail("QueryParameterName", name)
    }

    pub(super) fn invalid_parameter(name: &'static str, value: &str) -> Self {
        Self::bad(
            "InvalidQueryParameterValue",
            "Value for one of the query parameters specified in the request URI is invalid.",
        )
        .detail("QueryParameterName", name)
        .detail("QueryParameterValue", value)
    }

    pub(super) fn parameter_out_of_range(
        name: &'static str,
        value: &str,
        range: &RangeInclusive<u64>,
    ) -> Self {
        Self::bad(
            "OutOfRangeQueryParameterValue",
            "One of the query parameters specified in the request URI is outside the permissible \
             range.",
        )
        .detail("QueryParameterName", name)
        .detail("QueryParameterValue", value)
        .detail("MinimumAllowed", range.start())
        .detail("MaximumAllowed", range.end())
    }

    pub(super) fn too_large() -> Self {
        Self::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "RequestBodyTooLarge",
            "The request body is too large and exceeds the maximum permissible limit.",
        )
        .detail("MaxLimit", MAX_MESSAGE_BYTES)
    }

    pub(super) fn body_incomplete() -> Self {
        Self::bad("InvalidInput", "The request body ended early.")
    }

    pub(super) fn body_late() -> Self {
        Self::new(
            StatusCode::REQUEST_TIMEOUT,
            "OperationTimedOut",
            "The operation could not be completed within the permitted time.",
        )
    }

    pub(super) fn invalid_xml() -> Self {
        Self::bad("InvalidXmlDocument", "XML specified is not syntactically valid.")
    }

    pub(super) fn xml_node(name: &'static str) -> Self {
        Self::bad(
            "InvalidXmlNodeValue",
            "The value for one of the XML nodes is not in the correct format.",
        )
        .detail("XmlNodeName", name)
    }

    pub(super) fn missing_xml_node(name: &'static str) -> Self {
        Self::bad(
            "MissingRequiredXmlNode",
            "A required XML node is not specified in the request body.",
        )
        .detail("XmlNodeName", name)
    }

    pub(super) fn metadata(code: &'static str) -> Self {
        Self::bad(
            code,
            match code {
                "EmptyMetadataKey" => "The key for one of the metadata key-value pairs is empty.",
                "MetadataTooLarge" => {
                    "The metadata specified exceeds the maximum permissible limit."
                }
                _ => "The metadata specified is invalid. It has characters that are not permitted.",
            },
        )
    }

    pub(super) fn into_reply(self, envelope: &Envelope) -> Reply {
        let message = format!(
            "{}\nRequestId:{}\nTime:{}",
            self.message,
            envelope.request_id,
            date::rfc1123(envelope.now_ms)
        );
        let mut elements =
            vec![Element::text("Code", self.code), Element::text("Message", message)];
        elements.extend(self.details.iter().map(|(name, value)| Element::text(name, value)));
        Reply::xml(self.status, Element::of("Error", elements).document())
            .header(HeaderName::from_static("x-ms-error-code"), self.code)
    }
}

impl From<InvalidXml> for Refusal {
    fn from(_: InvalidXml) -> Self {
        Self::invalid_xml()
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::QueueNotFound => Self::new(
                StatusCode::NOT_FOUND,
                "QueueNotFound",
                "The specified queue does not exist.",
            ),
            StoreError::QueueAlreadyExists => Self::new(
                StatusCode::CONFLICT,
                "QueueAlreadyExists",
                "The specified queue already exists.",
            ),
            StoreError::QueueBeingDeleted => Self::new(
                StatusCode::CONFLICT,
                "QueueBeingDeleted",
                "The specified queue is being deleted.",
            ),
            StoreError::MessageNotFound => Self::new(
                StatusCode::NOT_FOUND,
                "MessageNotFound",
                "The specified message does not exist.",
            ),
            StoreError::PopReceiptMismatch => Self::bad(
                "PopReceiptMismatch",
                "The specified pop receipt did not match the pop receipt for a dequeued message.",
            ),
            StoreError::InvalidName => Self::bad(
                "InvalidResourceName",
                "The specified resource name contains invalid characters.",
            ),
            StoreError::NameLength => Self::bad(
                "OutOfRangeInput",
                "The specified resource name length is not within the permissible limits.",
            ),
            StoreError::VisibilityBeyondExpiry => Self::bad(
                "InvalidQueryParameterValue",
                "Value for one of the query parameters specified in the request URI is invalid.",
            )
            .detail("QueryParameterName", "visibilitytimeout")
            .detail("Reason", error),
            StoreError::LogUnavailable => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "ServerBusy",
                "The server is currently unable to receive requests. Please retry your request.",
            ),
        }
    }
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let forbidden = |code, message| Self::new(StatusCode::FORBIDDEN, code, message);
        match denied {
            Denied::Missing => Self::new(
                StatusCode::UNAUTHORIZED,
                "NoAuthenticationInformation",
                "Server failed to authenticate the request: it carries no credentials.",
            ),
            Denied::Malformed => Self::bad(
                "InvalidAuthenticationInfo",
                "Authentication information is not given in the correct format. Check the value of \
                 Authorization header.",
            ),
            Denied::Unsupported => Self::new(
                StatusCode::UNAUTHORIZED,
                "InvalidAuthenticationInfo",
                "This service accepts Shared Key and shared access signatures, no bearer tokens.",
            ),
            Denied::Date | Denied::Signature | Denied::SasNotValid => {
                forbidden("AuthenticationFailed", NOT_AUTHENTICATED)
            }
            Denied::SourceAddress => forbidden(
                "AuthorizationSourceIPMismatch",
                "This request is not authorized to perform this operation using this source IP.",
            ),
            Denied::Protocol => forbidden(
                "AuthorizationProtocolMismatch",
                "This request is not authorized to perform this operation using this protocol.",
            ),
            Denied::Service => forbidden(
                "AuthorizationServiceMismatch",
                "This request is not authorized to perform this operation using this service.",
            ),
            Denied::ResourceType => forbidden(
                "AuthorizationResourceTypeMismatch",
                "This request is not authorized to perform this operation using this resource type.",
            ),
            Denied::Permission => forbidden(
                "AuthorizationPermissionMismatch",
                "This request is not authorized to perform this operation using this permission.",
            ),
        }
    }
}
