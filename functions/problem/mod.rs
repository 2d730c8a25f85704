//! The one shape of an error that HTTP clients see: RFC 9457 problem details.
//!
//! `type` is stable and is what a client branches on; `detail` is for a person and never holds
//! internals; `traceId` leads an operator to the log line that does. Every type is explained in
//! `docs/api.md`; there is none but those of [`Kind`].

mod kind;

use std::borrow::Cow;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderName, HeaderValue, StatusCode};
use orders::FieldError;
use serde::Serialize;

pub use kind::Kind;

/// Media type of a problem.
const MEDIA_TYPE: HeaderValue = HeaderValue::from_static("application/problem+json");

/// An error answer. Boxed, because every route can return one and hardly any does.
#[derive(Clone, Debug)]
pub struct Problem(Box<Details>);

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Details {
    #[serde(rename = "type")]
    problem_type: String,
    title: &'static str,
    #[serde(serialize_with = "status_number")]
    status: StatusCode,
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_id: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<FieldError>,
    #[serde(skip)]
    retry_after: Option<Duration>,
    #[serde(skip)]
    allow: Option<Cow<'static, str>>,
    #[serde(skip)]
    challenge: Option<&'static str>,
    /// For the audit trail: what was refused because of who asked. Clients never see it.
    #[serde(skip)]
    refusal: Option<Cow<'static, str>>,
}

fn status_number<S: serde::Serializer>(status: &StatusCode, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_u16(status.as_u16())
}

impl Problem {
    /// A problem of a kind.
    #[must_use]
    pub fn new(kind: Kind, title: &'static str) -> Self {
        Self(Box::new(Details {
            problem_type: kind.uri(),
            title,
            status: kind.status(),
            detail: String::new(),
            trace_id: None,
            errors: Vec::new(),
            retry_after: None,
            allow: None,
            challenge: None,
            refusal: None,
        }))
    }

    /// The body is no JSON.
    #[must_use]
    pub fn malformed_json(place: &str) -> Self {
        Self::new(Kind::MALFORMED_JSON, "The body is not JSON.")
            .detail(format!("Reading stopped at {place}."))
    }

    /// The body is JSON and breaks rules.
    #[must_use]
    pub fn invalid_order(errors: Vec<FieldError>) -> Self {
        let title = "The order breaks at least one rule.";
        Self::new(Kind::INVALID_ORDER, title).errors(errors)
    }

    /// A query parameter is wrong.
    #[must_use]
    pub fn invalid_query(errors: Vec<FieldError>) -> Self {
        let title = "A query parameter is not valid.";
        Self::new(Kind::INVALID_QUERY, title).errors(errors)
    }

    /// The body is JSON and does not say what it has to.
    #[must_use]
    pub fn invalid_request(errors: Vec<FieldError>) -> Self {
        let title = "The request breaks at least one rule.";
        Self::new(Kind::INVALID_REQUEST, title).errors(errors)
    }

    /// The broker or the queue service cannot be used at the moment.
    #[must_use]
    pub fn broker_unavailable(retry_after: Duration) -> Self {
        let title = "The message broker cannot be reached at the moment.";
        let mut problem = Self::new(Kind::BROKER_UNAVAILABLE, title)
            .detail("Nothing is lost: the dead letters stay where they are.");
        problem.0.retry_after = Some(retry_after);
        problem
    }

    /// A header is wrong.
    #[must_use]
    pub fn invalid_header(name: &str, detail: &str) -> Self {
        Self::new(Kind::INVALID_HEADER, "A header is not valid.")
            .detail(format!("{name} {detail}."))
    }

    /// The idempotency key was used for another request.
    #[must_use]
    pub fn key_reused() -> Self {
        let title = "The Idempotency-Key was used for another order.";
        Self::new(Kind::KEY_REUSED, title)
            .detail("Send the same body as the first time, or a new key.")
    }

    /// Another media type is needed.
    #[must_use]
    pub fn unsupported_media_type() -> Self {
        let title = "The content type is not supported.";
        Self::new(Kind::UNSUPPORTED_MEDIA_TYPE, title).detail("Send application/json.")
    }

    /// The body is larger than `limit_bytes`.
    #[must_use]
    pub fn body_too_large(limit_bytes: usize) -> Self {
        Self::new(Kind::BODY_TOO_LARGE, "The body is too large.")
            .detail(format!("The limit is {limit_bytes} bytes."))
    }

    /// The body could not be read to its end.
    #[must_use]
    pub fn body_incomplete() -> Self {
        let title = "The body ended before it was complete.";
        Self::new(Kind::BODY_INCOMPLETE, title)
    }

    /// There is nothing under this path.
    #[must_use]
    pub fn not_found(detail: &str) -> Self {
        Self::new(Kind::NOT_FOUND, "There is nothing here.").detail(detail)
    }

    /// The path exists, the method does not.
    #[must_use]
    pub fn method_not_allowed(allow: impl Into<Cow<'static, str>>) -> Self {
        let allow = allow.into();
        let title = "The method is not supported here.";
        let mut problem =
            Self::new(Kind::METHOD_NOT_ALLOWED, title).detail(format!("Supported: {allow}."));
        problem.0.allow = Some(allow);
        problem
    }

    /// Nobody can be made out. `sent` says whether there were credentials, which do not hold.
    #[must_use]
    pub fn unauthenticated(sent: bool) -> Self {
        let title = "Who is asking cannot be made out.";
        let mut problem = Self::new(Kind::UNAUTHENTICATED, title);
        // RFC 6750 §3: an error is named only when credentials came.
        problem.0.challenge = Some(if sent {
            "Bearer realm=\"bulkhead\", error=\"invalid_token\""
        } else {
            "Bearer realm=\"bulkhead\""
        });
        problem.detail(if sent { "The credentials do not hold." } else { "Sign in first." })
    }

    /// A header claims to say who is asking, and nobody vouches for it.
    #[must_use]
    pub fn untrusted_principal(header: &HeaderName) -> Self {
        let title = "A header says who is asking, and nobody vouches for it here.";
        Self::new(Kind::UNTRUSTED_PRINCIPAL, title).detail(format!("Leave out {header}."))
    }

    /// Somebody who may not do this.
    #[must_use]
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(Kind::FORBIDDEN, "You may not do this.").detail(detail)
    }

    /// An experiment, where failures on purpose are not allowed.
    #[must_use]
    pub fn faults_switched_off() -> Self {
        let title = "Experiments are switched off here.";
        Self::new(Kind::FAULTS_SWITCHED_OFF, title).detail("Setting FAULTS_ALLOWED is not true.")
    }

    /// A customer orders in the name of another.
    #[must_use]
    pub fn other_customer() -> Self {
        let title = "An order is submitted by the customer that it is for.";
        Self::new(Kind::OTHER_CUSTOMER, title)
            .detail("The customerId is not that of the account that is signed in.")
    }

    /// Credentials cannot be judged: the issuer's keys are not there.
    #[must_use]
    pub fn issuer_unavailable(retry_after: Duration) -> Self {
        let title = "Credentials cannot be checked at the moment.";
        let mut problem =
            Self::new(Kind::ISSUER_UNAVAILABLE, title).detail("Send the same request again later.");
        problem.0.retry_after = Some(retry_after);
        problem
    }

    /// The store cannot be used at the moment.
    #[must_use]
    pub fn unavailable(retry_after: Duration) -> Self {
        let title = "The order store cannot be reached at the moment.";
        let mut problem = Self::new(Kind::STORE_UNAVAILABLE, title)
            .detail("Send the same request again later, an order with the same Idempotency-Key.");
        problem.0.retry_after = Some(retry_after);
        problem
    }

    /// One customer sends too much.
    #[must_use]
    pub fn too_many_orders(retry_after: Duration) -> Self {
        let title = "This customer sends more orders than its rate allows.";
        let mut problem = Self::new(Kind::TOO_MANY_ORDERS, title)
            .detail("Send the same request again later, an order with the same Idempotency-Key.");
        problem.0.retry_after = Some(retry_after);
        problem
    }

    /// The store is too slow for what is asked of it.
    #[must_use]
    pub fn overloaded(retry_after: Duration) -> Self {
        let title = "More orders are on their way to the store than it takes.";
        let mut problem = Self::new(Kind::OVERLOADED, title)
            .detail("Send the same request again later, an order with the same Idempotency-Key.");
        problem.0.retry_after = Some(retry_after);
        problem
    }

    /// A defect of ours.
    #[must_use]
    pub fn internal() -> Self {
        Self::new(Kind::INTERNAL, "Something failed on our side.")
    }

    /// With a text for a person.
    #[must_use]
    pub fn detail(mut self, detail: impl Into<String>) -> Self {
        self.0.detail = detail.into();
        self
    }

    /// Marks it as a refusal because of who asks, for the audit trail: `why` is for operators and
    /// may say more than the client is told, though never a credential.
    #[must_use]
    pub fn refuses(mut self, why: impl Into<Cow<'static, str>>) -> Self {
        self.0.refusal = Some(why.into());
        self
    }

    /// As [`Self::refuses`], unless it is marked already.
    #[must_use]
    pub fn or_refuses(self, why: &'static str) -> Self {
        if self.0.refusal.is_some() { self } else { self.refuses(why) }
    }

    /// What the audit trail says about an answer that refuses somebody; `None` for any other.
    pub fn refusal(response: &Response) -> Option<String> {
        let problem = response.extensions().get::<Self>()?;
        let why = problem.0.refusal.as_ref()?;
        Some(format!("{}: {why}", problem.0.problem_type))
    }

    /// The same answer, and if it is a problem, with the trace under which its cause is logged.
    pub fn in_trace(mut response: Response, trace_id: &str) -> Response {
        match response.extensions_mut().remove::<Self>() {
            Some(mut problem) if problem.0.trace_id.is_none() => {
                problem.0.trace_id = Some(trace_id.to_owned());
                problem.into_response()
            }
            _ => response,
        }
    }

    /// Its type, e.g. `/problems/not-found`, and what it says about it.
    #[must_use]
    pub fn summary(&self) -> String {
        let Details { problem_type, detail, errors, .. } = &*self.0;
        let errors = errors.iter().map(|error| format!("{} {}", error.pointer, error.detail));
        let said: Vec<String> = Some(detail.clone())
            .filter(|text| !text.is_empty())
            .into_iter()
            .chain(errors)
            .collect();
        if said.is_empty() {
            problem_type.clone()
        } else {
            format!("{problem_type}: {}", said.join("; "))
        }
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.0.status
    }

    fn errors(mut self, errors: Vec<FieldError>) -> Self {
        self.0.errors = errors;
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = serde_json::to_vec(&self.0).unwrap_or_default();
        let mut response = (self.0.status, body).into_response();
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, MEDIA_TYPE);
        headers.insert(http::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(wait) = self.0.retry_after {
            // Whole seconds, rounded up: an early retry would only be refused again.
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if let Some(Ok(allow)) = self.0.allow.as_deref().map(HeaderValue::from_str) {
            headers.insert(ALLOW, allow);
        }
        if let Some(challenge) = self.0.challenge {
            headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
        }
        // For whoever wraps the routes and knows the trace: see `in_trace`.
        response.extensions_mut().insert(self);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http_body_util::BodyExt as _;
    use serde_json::{Value, json};

    #[tokio::test]
    async fn a_problem_is_what_rfc_9457_says() {
        let error = FieldError::new("/items/0/quantity", "out_of_range", "must be between 1 and 9");
        let response = Problem::invalid_order(vec![error]).into_response();
        let response = Problem::in_trace(response, "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(response.status(), StatusCode::UNPROCESSABLE_ENTITY);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/problem+json");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(
            serde_json::from_slice::<Value>(&body).unwrap(),
            json!({
                "type": "/problems/invalid-order",
                "title": "The order breaks at least one rule.",
                "status": 422,
                "traceId": "4bf92f3577b34da6a3ce929d0e0e4736",
                "errors": [{"pointer": "/items/0/quantity", "code": "out_of_range",
                    "detail": "must be between 1 and 9"}],
            })
        );
        let busy = Problem::unavailable(Duration::from_millis(1_200)).into_response();
        assert_eq!(busy.headers()[RETRY_AFTER], "2");
        assert!(busy.extensions().get::<Problem>().is_some());
        let refused = Problem::not_found("None.").refuses("another customer's").into_response();
        let told = Problem::refusal(&refused);
        assert_eq!(told.as_deref(), Some("/problems/not-found: another customer's"));
        let body = refused.into_body().collect().await.unwrap().to_bytes();
        assert!(!String::from_utf8_lossy(&body).contains("another"), "clients are not told");
        assert!(Problem::refusal(&Problem::internal().into_response()).is_none());
        let fine = Problem::in_trace(StatusCode::OK.into_response(), "4bf9");
        assert_eq!(fine.status(), StatusCode::OK, "an answer that is no problem is left alone");
        let refused = Problem::method_not_allowed("GET, POST").into_response();
        assert_eq!(refused.headers()[ALLOW], "GET, POST");
        let unknown = Problem::unauthenticated(false).into_response();
        assert_eq!(unknown.headers()[WWW_AUTHENTICATE], "Bearer realm=\"bulkhead\"");
        let invalid = Problem::unauthenticated(true).into_response();
        assert!(invalid.headers()[WWW_AUTHENTICATE].to_str().unwrap().contains("invalid_token"));
    }
}
