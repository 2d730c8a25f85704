//! Which route needs what: one table, which the guard enforces, the OpenAPI document shows and a
//! test walks through. A route that is not in it serves nobody.

use std::borrow::Cow;
use std::fmt;

use http::Method;

use super::principal::Role;

/// What a request to a route needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// Nothing: the principal is not even looked at.
    Public,
    /// Somebody, whoever it is.
    SignedIn,
    /// Somebody with one of these roles.
    AnyOf(&'static [Role]),
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("nothing"),
            Self::SignedIn => f.write_str("somebody who is signed in"),
            Self::AnyOf(roles) => {
                let names: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
                write!(f, "the role {}", names.join(" or "))
            }
        }
    }
}

/// One route: a method, a path as the router spells it, and what it needs. `HEAD` goes with `GET`.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    /// `GET` or `POST`.
    pub method: &'static str,
    /// As the router has it, `{…}` for a segment.
    pub path: &'static str,
    /// What it needs.
    pub need: Need,
}

const fn route(method: &'static str, path: &'static str, need: Need) -> Route {
    Route { method, path, need }
}

/// Reads one's own orders, or, for an operator, all.
const READS: Need = Need::AnyOf(&[Role::OrdersRead, Role::OpsRead]);
const WRITES: Need = Need::AnyOf(&[Role::OrdersWrite]);
const OPERATES: Need = Need::AnyOf(&[Role::OpsRead]);
const REPLAYS: Need = Need::AnyOf(&[Role::OpsReplay]);

/// Every route.
pub const ROUTES: [Route; 22] = [
    route("GET", "/api/orders", READS),
    route("POST", "/api/orders", WRITES),
    route("GET", "/api/orders/{id}", READS),
    route("POST", "/api/orders/{id}/cancel", WRITES),
    route("GET", "/api/feed", READS),
    route("GET", "/api/products", Need::SignedIn),
    route("GET", "/api/ops/attention", OPERATES),
    route("GET", "/api/ops/dead-letters", OPERATES),
    route("GET", "/api/ops/dead-letters/{source}", OPERATES),
    route("GET", "/api/ops/dead-letters/{source}/{number}", OPERATES),
    route("POST", "/api/ops/dead-letters/{source}/replay", REPLAYS),
    route("POST", "/api/ops/dead-letters/{source}/discard", REPLAYS),
    route("GET", "/api/ops/audit", OPERATES),
    route("GET", "/api/ops/system", OPERATES),
    route("GET", "/api/ops/orders/{id}", OPERATES),
    route("POST", "/api/ops/orders/{id}/duplicate", REPLAYS),
    route("GET", "/api/openapi.json", Need::Public),
    route("GET", "/healthz", Need::Public),
    route("GET", "/readyz", Need::Public),
    route("GET", "/", Need::Public),
    route("GET", "/{file}", Need::Public),
    route("GET", "/problems/{name}", Need::Public),
];

/// Operations, also those without a line of their own: seeing needs one role, doing another.
const OPERATIONS: &str = "/api/ops/";

/// What the table says about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ruling {
    Needs(Need),
    /// The path is there, the method is not. Holds the methods that are, for `Allow`.
    NoSuchMethod(Cow<'static, str>),
    /// The path is not in the table.
    Unlisted,
}

/// What the table says about a method on a path, as the router spells it.
pub(super) fn rule(method: &Method, path: &str) -> Ruling {
    let asked = if *method == Method::HEAD { "GET" } else { method.as_str() };
    let here = || ROUTES.iter().filter(|route| route.path == path);
    if let Some(route) = here().find(|route| route.method == asked) {
        return Ruling::Needs(route.need);
    }
    if path.starts_with(OPERATIONS) {
        return Ruling::Needs(if asked == "GET" { OPERATES } else { REPLAYS });
    }
    let allow: Vec<_> = here()
        .map(|route| if route.method == "GET" { "GET, HEAD" } else { route.method })
        .collect();
    if allow.is_empty() { Ruling::Unlisted } else { Ruling::NoSuchMethod(allow.join(", ").into()) }
}

/// Whether a request changes something or looks at operations, so that it matters even who tries
/// without any credentials.
pub(super) fn is_guarded_closely(method: &Method, path: &str) -> bool {
    let reads = *method == Method::GET || *method == Method::HEAD;
    !reads || path.starts_with(OPERATIONS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_in_the_table_serves_nobody() {
        assert_eq!(rule(&Method::GET, "/api/secret"), Ruling::Unlisted);
        assert_eq!(rule(&Method::HEAD, "/api/orders/{id}"), Ruling::Needs(READS));
        let refused = Ruling::NoSuchMethod("GET, HEAD, POST".into());
        assert_eq!(rule(&Method::DELETE, "/api/orders"), refused);
        assert_eq!(rule(&Method::POST, "/{file}"), Ruling::NoSuchMethod("GET, HEAD".into()));
        assert_eq!(rule(&Method::GET, "/api/ops/anything"), Ruling::Needs(OPERATES));
        assert_eq!(rule(&Method::POST, "/api/ops/anything"), Ruling::Needs(REPLAYS));
        assert_eq!(rule(&Method::DELETE, "/api/ops/anything"), Ruling::Needs(REPLAYS));
    }

    #[test]
    fn what_changes_something_and_operations_are_guarded_closely() {
        for (method, path, closely) in [
            (Method::GET, "/api/orders", false),
            (Method::HEAD, "/api/orders/{id}", false),
            (Method::POST, "/api/orders", true),
            (Method::GET, "/api/ops/audit", true),
            (Method::DELETE, "/api/ops/anything", true),
        ] {
            assert_eq!(is_guarded_closely(&method, path), closely, "{method} {path}");
        }
    }

    #[test]
    fn only_what_anybody_may_see_is_public() {
        let public: Vec<_> =
            ROUTES.iter().filter(|route| route.need == Need::Public).map(|r| r.path).collect();
        let open = ["/api/openapi.json", "/healthz", "/readyz", "/", "/{file}"];
        assert_eq!(public, [&open[..], &["/problems/{name}"]].concat());
        assert!(ROUTES.iter().all(|route| route.need != Need::AnyOf(&[])));
    }
}
