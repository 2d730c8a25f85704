//! Who is asking, and what they may do. One middleware in front of every route ([`guard`]) finds
//! out who is asking, in the way that `AUTH_MODE` says, and holds the request to the table of
//! [`routes`]; a route gets the result as an extractor, [`Principal`], and asks it whose orders it
//! may touch.
//!
//! | `AUTH_MODE` | who vouches | |
//! | --- | --- | --- |
//! | `development` | nobody | refused on Azure; says so at start |
//! | `easy-auth` | App Service Authentication, in front of the Functions host | `easy_auth` |
//! | `bearer` | the handler itself, by the issuer's keys | [`bearer`] |
//!
//! Nothing here knows what an order is beyond the id of its customer.

pub mod bearer;
mod claims;
mod development;
mod easy_auth;
#[cfg(test)]
#[path = "../../tests/issuer.rs"]
mod issuer;
mod jwks;
pub mod principal;
pub mod routes;
pub mod settings;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, HeaderName};
use tracing::{error, info, warn};

use crate::problem::Problem;
use bearer::Bearer;
pub use principal::{Principal, Reach, Role, Roles};
use routes::{Need, Ruling};
use settings::AccessSettings;

/// What the names of headers begin with that say who is asking. Each counts in one mode and is
/// refused in the others, so that whoever relies on one by mistake finds out.
const CLAIMING: [&str; 3] = [easy_auth::HEADERS, easy_auth::TOKENS, development::NAME];

/// Says who is asking, in the way that the settings chose.
#[derive(Debug)]
pub struct Access(Mode);

#[derive(Debug)]
enum Mode {
    Development,
    EasyAuth { customer_claim: Option<String> },
    Bearer(Box<Bearer>),
}

/// Why nobody can be made out.
#[derive(Debug)]
enum Stranger {
    /// No credentials.
    Missing,
    /// Credentials that do not hold. Holds why, for the log; never the credentials themselves.
    Invalid(String),
    /// A header that anybody can write and nobody vouches for in this mode.
    Untrusted(HeaderName),
    /// The issuer's keys cannot be had at the moment.
    Unavailable(Duration),
}

impl Access {
    /// Access as the settings say.
    ///
    /// # Errors
    /// The transport to the issuer cannot be set up.
    pub fn new(settings: &AccessSettings) -> Result<Self, jwks::JwksError> {
        Ok(Self(match settings {
            AccessSettings::Development => Mode::Development,
            AccessSettings::EasyAuth { customer_claim } => {
                Mode::EasyAuth { customer_claim: customer_claim.clone() }
            }
            AccessSettings::Bearer(settings) => Mode::Bearer(Box::new(Bearer::new(settings)?)),
        }))
    }

    /// Says at start who is let in. In development that is everybody, and nobody should miss it.
    pub fn announce(&self) {
        match &self.0 {
            Mode::Development => warn!(
                "AUTH_MODE is development: NOBODY IS ASKED WHO THEY ARE, and every request may do \
                 everything; set AUTH_MODE to easy-auth or bearer anywhere but on a desk"
            ),
            Mode::EasyAuth { .. } => info!("App Service Authentication vouches for principals"),
            Mode::Bearer(bearer) => {
                info!(issuer = bearer.issuer(), "bearer tokens are validated here");
            }
        }
    }

    async fn identify(&self, headers: &HeaderMap) -> Result<Principal, Stranger> {
        let vouched: &[&str] = match &self.0 {
            Mode::Development => &[development::NAME],
            Mode::EasyAuth { .. } => &[easy_auth::HEADERS, easy_auth::TOKENS],
            Mode::Bearer(_) => &[],
        };
        let is_one_of = |prefixes: &[&str], name: &HeaderName| {
            prefixes.iter().any(|prefix| name.as_str().starts_with(prefix))
        };
        let forged =
            headers.keys().find(|name| is_one_of(&CLAIMING, name) && !is_one_of(vouched, name));
        if let Some(header) = forged {
            return Err(Stranger::Untrusted(header.clone()));
        }
        match &self.0 {
            Mode::Development => development::principal(headers),
            Mode::EasyAuth { customer_claim } => {
                easy_auth::principal(headers, customer_claim.as_deref())
            }
            Mode::Bearer(bearer) => bearer.principal(headers).await,
        }
    }

    /// The principal behind a request, if it may do what the route does.
    async fn admit(&self, headers: &HeaderMap, need: Need) -> Result<Principal, Problem> {
        let principal = self.identify(headers).await.map_err(|stranger| match stranger {
            Stranger::Missing => {
                info!("refused: no credentials");
                Problem::unauthenticated(false)
            }
            Stranger::Invalid(why) => {
                warn!(reason = why, "refused: credentials that do not hold");
                Problem::unauthenticated(true)
            }
            Stranger::Untrusted(header) => {
                warn!(%header, "refused: a principal that nobody vouches for");
                Problem::untrusted_principal(&header)
            }
            Stranger::Unavailable(wait) => Problem::issuer_unavailable(wait),
        })?;
        let admitted = match need {
            Need::Public | Need::SignedIn => true,
            Need::AnyOf(roles) => roles.iter().any(|role| principal.has(*role)),
        };
        if admitted {
            return Ok(principal);
        }
        warn!(principal.id = principal.id(), %need, "refused: the role is missing");
        Err(Problem::forbidden(format!("This needs {need}.")))
    }
}

/// Lets a request through to its route, with its [`Principal`], if the table of [`routes`] admits
/// it. Layered over all routes at once, so that a new one cannot be forgotten.
pub async fn guard(
    State(access): State<Arc<Access>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(path) = request.extensions().get::<MatchedPath>().cloned() else {
        // No route has this path, and the fallback says so.
        return next.run(request).await;
    };
    match routes::rule(request.method(), path.as_str()) {
        Ruling::Needs(Need::Public) => next.run(request).await,
        Ruling::Needs(need) => match access.admit(request.headers(), need).await {
            Ok(principal) => {
                request.extensions_mut().insert(principal);
                next.run(request).await
            }
            Err(problem) => problem.into_response(),
        },
        Ruling::NoSuchMethod(allow) => Problem::method_not_allowed(allow).into_response(),
        Ruling::Unlisted => {
            error!(path = path.as_str(), "the route is not in the table of routes");
            Problem::forbidden("Nobody may use this route.").into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), v.parse().unwrap())).collect()
    }

    #[tokio::test]
    async fn a_header_counts_only_in_the_mode_that_vouches_for_it() {
        let easy_auth = Access(Mode::EasyAuth { customer_claim: None });
        let development = Access(Mode::Development);
        for name in ["x-ms-client-principal", "x-ms-client-principal-id", "x-ms-token-aad-id-token"]
        {
            let forged = headers(&[(name, "e30=")]);
            let refused = development.identify(&forged).await.unwrap_err();
            assert!(matches!(refused, Stranger::Untrusted(header) if header == name));
            let trusted = easy_auth.identify(&forged).await.unwrap_err();
            assert!(!matches!(trusted, Stranger::Untrusted(_)), "{name}: {trusted:?}");
        }
        let chosen = headers(&[("x-development-principal", "alice")]);
        assert_eq!(development.identify(&chosen).await.unwrap().id(), "alice");
        assert!(matches!(easy_auth.identify(&chosen).await, Err(Stranger::Untrusted(_))));
    }

    #[tokio::test]
    async fn a_missing_role_is_told_apart_from_missing_credentials() {
        let access = Access(Mode::Development);
        let need = Need::AnyOf(&[Role::OpsRead]);
        let status = async |principal: &str| {
            let headers = headers(&[("x-development-principal", principal)]);
            access.admit(&headers, need).await.map_err(|problem| problem.status().as_u16())
        };
        assert_eq!(status("").await.unwrap_err(), 401);
        assert_eq!(status("alice").await.unwrap_err(), 403);
        assert_eq!(status("alice;roles=ops.replay").await.unwrap_err(), 403);
        assert_eq!(status("alice;roles=ops.read").await.unwrap().id(), "alice");
        assert!(access.admit(&HeaderMap::new(), need).await.is_ok(), "a desk needs no header");
    }
}
