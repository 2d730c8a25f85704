//! Callers from other origins, as the front end of Azure and `func` treat them: a preflight never
//! reaches the handler.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};

use super::client::{Body, empty};

/// Which origins may call (`Host.CORS`), and whether with credentials (`Host.CORSCredentials`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cors {
    origins: Vec<String>,
    credentials: bool,
}

impl Cors {
    /// `origins` as local.settings.json has them: a list with commas, or `*`.
    pub(crate) fn new(origins: &str, credentials: bool) -> Self {
        let origins = origins.split(',').map(|origin| origin.trim().trim_end_matches('/'));
        let origins = origins.filter(|origin| !origin.is_empty()).map(str::to_owned).collect();
        Self { origins, credentials }
    }

    /// The origin to answer with, if the request comes from one that may call.
    pub(crate) fn admits(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let origin = headers.get(header::ORIGIN)?;
        let text = origin.to_str().ok()?;
        let named = self.origins.iter().any(|known| known.eq_ignore_ascii_case(text));
        if named || (self.any() && self.credentials) {
            return Some(origin.clone());
        }
        self.any().then(|| HeaderValue::from_static("*"))
    }

    /// The answer to a preflight; `None` for any other request, and where nobody was named.
    pub(crate) fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response<Body>> {
        let asked = headers.get(header::ACCESS_CONTROL_REQUEST_METHOD)?;
        if method != Method::OPTIONS || self.origins.is_empty() {
            return None;
        }
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::NO_CONTENT;
        if let Some(origin) = self.admits(headers) {
            let answered = response.headers_mut();
            answered.insert(header::ACCESS_CONTROL_ALLOW_METHODS, asked.clone());
            if let Some(wanted) = headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
                answered.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
            }
            self.allow(origin, answered);
        }
        Some(response)
    }

    /// Says in an answer that its caller may read it.
    pub(crate) fn allow(&self, origin: HeaderValue, headers: &mut HeaderMap) {
        const VARY: HeaderName = header::VARY;
        if origin != "*" {
            headers.append(VARY, HeaderValue::from_static("Origin"));
        }
        if self.credentials {
            let yes = HeaderValue::from_static("true");
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, yes);
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }

    fn any(&self) -> bool {
        self.origins.iter().any(|origin| origin == "*")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn from(origin: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::ORIGIN, HeaderValue::from_static(origin))])
    }

    #[test]
    fn only_origins_that_are_named_may_call() {
        let cors = Cors::new("https://shop.test/, https://other.test", true);
        assert_eq!(cors.admits(&from("https://shop.test")).unwrap(), "https://shop.test");
        assert_eq!(cors.admits(&from("https://evil.test")), None);
        assert_eq!(cors.admits(&HeaderMap::new()), None);
        assert_eq!(Cors::new("*", false).admits(&from("https://x.test")).unwrap(), "*");
        assert_eq!(Cors::new("*", true).admits(&from("https://x.test")).unwrap(), "https://x.test");
        assert_eq!(Cors::default().admits(&from("https://x.test")), None);
    }

    #[test]
    fn a_preflight_is_answered_here() {
        let cors = Cors::new("https://shop.test", true);
        let mut headers = from("https://shop.test");
        assert!(cors.preflight(&Method::OPTIONS, &headers).is_none(), "not a preflight");
        headers.insert(header::ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("PUT"));
        assert!(cors.preflight(&Method::GET, &headers).is_none());
        assert!(Cors::default().preflight(&Method::OPTIONS, &headers).is_none());
        let response = cors.preflight(&Method::OPTIONS, &headers).unwrap();
        assert_eq!(response.status(), 204);
        assert_eq!(response.headers()["access-control-allow-methods"], "PUT");
        assert_eq!(response.headers()["access-control-allow-credentials"], "true");
        headers.insert(header::ORIGIN, HeaderValue::from_static("https://evil.test"));
        let refused = cors.preflight(&Method::OPTIONS, &headers).unwrap();
        assert!(refused.headers().is_empty(), "the browser then refuses");
    }
}
