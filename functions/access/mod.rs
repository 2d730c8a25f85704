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
pub mod trail;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use handler::TraceContext;
use http::{HeaderMap, HeaderName, StatusCode};
use orders::OrderId;
use percent_encoding::percent_decode_str;
use tracing::{error, info, warn};

use crate::problem::Problem;
use bearer::Bearer;
pub use principal::{Principal, Reach, Role, Roles};
use routes::{Need, Ruling};
use settings::AccessSettings;
use trail::{Refusal, Refusals};

/// What the names of headers begin with that say who is asking. Each counts in one mode and is
/// refused in the others, so that whoever relies on one by mistake finds out.
const CLAIMING: [&str; 3] = [easy_auth::HEADERS, easy_auth::TOKENS, development::NAME];

/// Says who is asking, in the way that the settings chose.
#[derive(Debug)]
pub struct Access {
    mode: Mode,
    refusals: Refusals,
}

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
    /// Access as the settings say; what is refused goes to `refusals`.
    ///
    /// # Errors
    /// The transport to the issuer cannot be set up.
    pub fn new(settings: &AccessSettings, refusals: Refusals) -> Result<Self, jwks::JwksError> {
        let mode = match settings {
            AccessSettings::Development => Mode::Development,
            AccessSettings::EasyAuth { customer_claim } => {
                Mode::EasyAuth { customer_claim: customer_claim.clone() }
            }
            AccessSettings::Bearer(settings) => Mode::Bearer(Box::new(Bearer::new(settings)?)),
        };
        Ok(Self { mode, refusals })
    }

    /// Says at start who is let in. In development that is everybody, and nobody should miss it.
    pub fn announce(&self) {
        match &self.mode {
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

    /// Writes down that somebody was refused, if that is what the answer says.
    fn note(&self, response: &Response, asked: Asked, actor: Option<String>) {
        let Some(refusal) = Problem::refusal(response) else { return };
        let Asked { route, order_id, trace_id } = asked;
        self.refusals.offer(Refusal { actor, route, order_id, detail: refusal }, trace_id);
    }
}

impl Mode {
    async fn identify(&self, headers: &HeaderMap) -> Result<Principal, Stranger> {
        let vouched: &[&str] = match self {
            Self::Development => &[development::NAME],
            Self::EasyAuth { .. } => &[easy_auth::HEADERS, easy_auth::TOKENS],
            Self::Bearer(_) => &[],
        };
        let is_one_of = |prefixes: &[&str], name: &HeaderName| {
            prefixes.iter().any(|prefix| name.as_str().starts_with(prefix))
        };
        let forged =
            headers.keys().find(|name| is_one_of(&CLAIMING, name) && !is_one_of(vouched, name));
        if let Some(header) = forged {
            return Err(Stranger::Untrusted(header.clone()));
        }
        match self {
            Self::Development => development::principal(headers),
            Self::EasyAuth { customer_claim } => {
                easy_auth::principal(headers, customer_claim.as_deref())
            }
            Self::Bearer(bearer) => bearer.principal(headers).await,
        }
    }

    /// The principal behind a request, if it may do what the route does.
    async fn admit(&self, headers: &HeaderMap, need: Need) -> Result<Principal, Denied> {
        let stranger = |problem| Denied { problem, actor: None };
        let principal = self.identify(headers).await.map_err(|why| match why {
            Stranger::Missing => {
                info!("refused: no credentials");
                stranger(Problem::unauthenticated(false))
            }
            Stranger::Invalid(why) => {
                warn!(reason = why, "refused: credentials that do not hold");
                stranger(Problem::unauthenticated(true).refuses(why))
            }
            Stranger::Untrusted(header) => {
                warn!(%header, "refused: a principal that nobody vouches for");
                let problem = Problem::untrusted_principal(&header);
                stranger(problem.refuses("a principal that nobody vouches for"))
            }
            Stranger::Unavailable(wait) => stranger(Problem::issuer_unavailable(wait)),
        })?;
        let admitted = match need {
            Need::Public | Need::SignedIn => true,
            Need::AnyOf(roles) => roles.iter().any(|role| principal.has(*role)),
        };
        if admitted {
            return Ok(principal);
        }
        warn!(principal.id = principal.id(), %need, "refused: the role is missing");
        let problem = Problem::forbidden(format!("This needs {need}."));
        Err(Denied { problem: problem.refuses("the role is missing"), actor: Some(principal.id) })
    }
}

/// Why a request is not let through, and whose it is, if that could be made out.
#[derive(Debug)]
struct Denied {
    problem: Problem,
    actor: Option<String>,
}

/// What a request asked for, as the audit trail has it.
#[derive(Debug)]
struct Asked {
    route: String,
    order_id: Option<String>,
    trace_id: String,
}

impl Asked {
    fn of(request: &Request, path: &str) -> Self {
        let path_asked = request.uri().path();
        let of_order = ["/api/orders/", "/api/ops/orders/"];
        let order_id = of_order.iter().find_map(|prefix| path_asked.strip_prefix(prefix));
        let order_id = order_id.and_then(|rest| rest.split('/').next()?.parse::<OrderId>().ok());
        let trace = request.extensions().get::<TraceContext>();
        Self {
            route: format!("{} {path}", request.method()),
            order_id: order_id.map(|order_id| order_id.to_string()),
            trace_id: trace.map(|trace| trace.trace_id().to_string()).unwrap_or_default(),
        }
    }
}

/// Lets a request through to its route, with its [`Principal`], if the table of [`routes`] admits
/// it; what is refused because of who asks is written down. Layered over all routes at once, so
/// that a new one cannot be forgotten.
pub async fn guard(
    State(access): State<Arc<Access>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(path) = request.extensions().get::<MatchedPath>().cloned() else {
        // No route has this path, and the fallback says so.
        return next.run(request).await;
    };
    let need = match routes::rule(request.method(), path.as_str()) {
        Ruling::Needs(Need::Public) => return next.run(request).await,
        Ruling::Needs(need) => need,
        Ruling::NoSuchMethod(allow) => return Problem::method_not_allowed(allow).into_response(),
        Ruling::Unlisted => {
            error!(path = path.as_str(), "the route is not in the table of routes");
            return Problem::forbidden("Nobody may use this route.").into_response();
        }
    };
    let asked = Asked::of(&request, path.as_str());
    let changes = routes::is_guarded_closely(request.method(), path.as_str());
    let (response, actor) = match access.mode.admit(request.headers(), need).await {
        Ok(principal) => {
            let actor = Some(principal.id().to_owned());
            request.extensions_mut().insert(principal);
            if percent_decode_str(request.uri().path()).decode_utf8().is_ok() {
                (next.run(request).await, actor)
            } else {
                // Routes take what is in a path as text.
                let problem = Problem::not_found("A path is text in UTF-8.");
                let problem =
                    if changes { problem.refuses("no text in the path") } else { problem };
                (problem.into_response(), actor)
            }
        }
        Err(Denied { problem, actor }) => {
            // Who only looks at shop or orders without having signed in has not tried anything.
            let tried = changes && problem.status() == StatusCode::UNAUTHORIZED;
            let problem = if tried { problem.or_refuses("no credentials") } else { problem };
            (problem.into_response(), actor)
        }
    };
    access.note(&response, asked, actor);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| (HeaderName::from_static(n), v.parse().unwrap())).collect()
    }

    #[tokio::test]
    async fn a_header_counts_only_in_the_mode_that_vouches_for_it() {
        let easy_auth = Mode::EasyAuth { customer_claim: None };
        let development = Mode::Development;
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
        let access = Mode::Development;
        let need = Need::AnyOf(&[Role::OpsRead]);
        let status = async |principal: &str| {
            let headers = headers(&[("x-development-principal", principal)]);
            access.admit(&headers, need).await.map_err(|denied| denied.problem.status().as_u16())
        };
        assert_eq!(status("").await.unwrap_err(), 401);
        assert_eq!(status("alice").await.unwrap_err(), 403);
        assert_eq!(status("alice;roles=ops.replay").await.unwrap_err(), 403);
        assert_eq!(status("alice;roles=ops.read").await.unwrap().id(), "alice");
        assert!(access.admit(&HeaderMap::new(), need).await.is_ok(), "a desk needs no header");
    }
}
