//! Bearer tokens, validated here: a JWT (RFC 7519) of one issuer, for one audience, signed with one
//! of the issuer's keys by one of two algorithms. What a token says about how it wants to be
//! validated (`alg`, `jku`, `jwk`, `x5u`) is never followed.

use http::HeaderMap;
use http::header::AUTHORIZATION;
use jsonwebtoken::{Algorithm, Validation, decode, decode_header};
use serde_json::{Map, Value};

use super::Stranger;
use super::claims::{CLAIMS_MAX, Claims};
use super::jwks::{Jwks, JwksError, NoKey};
use super::principal::Principal;
use super::settings::BearerSettings;

/// Bytes of a token: Entra's stay below 4 KB unless groups are put into them.
const TOKEN_BYTES_MAX: usize = 12 * 1024;

/// Seconds that the issuer's clock and ours may differ, for `exp` and `nbf`.
const CLOCK_SKEW_S: u64 = 60;

/// The algorithms that a token may be signed with: what Entra ID uses, and its elliptic sibling.
const ALGORITHMS: [Algorithm; 2] = [Algorithm::RS256, Algorithm::ES256];

/// Validates tokens of one issuer.
#[derive(Debug)]
pub struct Bearer {
    issuer: String,
    audience: String,
    customer_claim: Option<String>,
    jwks: Jwks,
}

impl Bearer {
    /// A validator that fetches the issuer's keys when it first needs them.
    ///
    /// # Errors
    /// The transport cannot be set up.
    pub fn new(settings: &BearerSettings) -> Result<Self, JwksError> {
        Ok(Self {
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
            customer_claim: settings.customer_claim.clone(),
            jwks: Jwks::new(settings.jwks.clone())?,
        })
    }

    pub(super) fn issuer(&self) -> &str {
        &self.issuer
    }

    pub(super) async fn principal(&self, headers: &HeaderMap) -> Result<Principal, Stranger> {
        let mut values = headers.get_all(AUTHORIZATION).iter();
        let Some(value) = values.next() else { return Err(Stranger::Missing) };
        if values.next().is_some() {
            return Err(invalid("there is more than one"));
        }
        let token = value.to_str().ok().and_then(|text| text.split_once(' '));
        let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        let Some((_, token)) = token else { return Err(invalid("it is no bearer token")) };
        self.validate(token.trim()).await
    }

    async fn validate(&self, token: &str) -> Result<Principal, Stranger> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(invalid("it is too long"));
        }
        // Fails for `none` and whatever else is no algorithm of a signature.
        let header = decode_header(token).map_err(|_| invalid("its header cannot be read"))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(invalid("its algorithm is not allowed"));
        }
        if !header.typ.as_deref().is_none_or(is_access_token) {
            return Err(invalid("it is a token of another kind"));
        }
        if header.crit.is_some() {
            return Err(invalid("it has extensions that nobody here understands"));
        }
        let Some(key_id) = header.kid else { return Err(invalid("it names no key")) };
        let key = self.jwks.key(&key_id).await.map_err(|no_key| match no_key {
            NoKey::Unknown => invalid("its key is unknown"),
            NoKey::Unavailable(wait) => Stranger::Unavailable(wait),
        })?;
        // The key says which algorithm it is for, not the token.
        let mut validation = Validation::new(key.algorithm);
        validation.leeway = CLOCK_SKEW_S;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer]);
        validation.set_audience(&[&self.audience]);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let decoded = decode::<Map<String, Value>>(token, &key.decoding, &validation);
        // The kinds say what is wrong and quote nothing.
        let decoded = decoded.map_err(|error| invalid(&format!("{:?}", error.kind())))?;
        let claims = flatten(decoded.claims).ok_or_else(|| invalid("there are too many claims"))?;
        claims.principal(self.customer_claim.as_deref()).map_err(|why| invalid(&why))
    }
}

/// Whether `typ` is that of an access token. An ID token has `JWT` as well; it is told apart by
/// its audience.
fn is_access_token(typ: &str) -> bool {
    ["JWT", "at+jwt", "application/at+jwt"].iter().any(|known| typ.eq_ignore_ascii_case(known))
}

/// Texts and lists of texts; nobody asks for the others.
fn flatten(claims: Map<String, Value>) -> Option<Claims> {
    let mut flat = Vec::new();
    for (name, value) in claims {
        match value {
            Value::String(text) => flat.push((name, text)),
            Value::Array(values) => {
                flat.extend(values.into_iter().filter_map(|value| match value {
                    Value::String(text) => Some((name.clone(), text)),
                    _ => None,
                }))
            }
            _ => {}
        }
    }
    (flat.len() <= CLAIMS_MAX).then_some(Claims(flat))
}

fn invalid(why: &str) -> Stranger {
    Stranger::Invalid(format!("bearer token: {why}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::access::Role;
    use crate::access::issuer::{Issuer, now_s};

    fn validator(issuer: &Issuer) -> Bearer {
        Bearer::new(&BearerSettings {
            issuer: issuer.name.clone(),
            audience: "api://bulkhead".to_owned(),
            jwks: issuer.jwks_url.parse().unwrap(),
            customer_claim: None,
        })
        .unwrap()
    }

    async fn present(bearer: &Bearer, token: &str) -> Result<Principal, Stranger> {
        let value = format!("Bearer {token}").parse().unwrap();
        bearer.principal(&[(AUTHORIZATION, value)].into_iter().collect()).await
    }

    async fn why(bearer: &Bearer, token: &str) -> String {
        match present(bearer, token).await {
            Err(Stranger::Invalid(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_token_of_the_issuer_says_who_somebody_is() {
        let issuer = Issuer::start();
        let bearer = validator(&issuer);
        let token = issuer.token(&issuer.claims("alice", &["ops.read"]));
        let principal = present(&bearer, &token).await.unwrap();
        assert_eq!(principal.id(), "alice");
        assert!(principal.has(Role::OpsRead) && !principal.has(Role::OpsReplay));
        let elliptic = issuer.elliptic_token(&issuer.claims("alice", &[]));
        assert_eq!(present(&bearer, &elliptic).await.unwrap().id(), "alice");
        let mut several = issuer.claims("alice", &[]);
        several["aud"] = json!(["somebody", "api://bulkhead"]);
        assert!(present(&bearer, &issuer.token(&several)).await.is_ok());
        assert_eq!(issuer.fetches(), 1, "the keys are kept");
    }

    #[tokio::test]
    async fn a_token_that_does_not_hold_is_nobodys() {
        let issuer = Issuer::start();
        let bearer = validator(&issuer);
        let good = issuer.claims("alice", &["orders.read"]);
        let with = |name: &str, value: Value| {
            let mut claims = good.clone();
            claims[name] = value;
            issuer.token(&claims)
        };
        for (token, reason) in [
            (with("aud", json!("api://another")), "InvalidAudience"),
            (with("aud", Value::Null), "aud"),
            (with("iss", json!("https://another.example/")), "InvalidIssuer"),
            (with("exp", json!(now_s() - 301)), "ExpiredSignature"),
            (with("exp", json!("tomorrow")), "exp"),
            (with("exp", Value::Null), "exp"),
            (with("nbf", json!(now_s() + 301)), "ImmatureSignature"),
            (issuer.unsigned(&good), "header"),
            (issuer.signed_by_another(&good), "InvalidSignature"),
            (issuer.with_header(&json!({"alg": "HS256", "kid": "rsa"}), &good), "not allowed"),
            (issuer.with_header(&json!({"alg": "RS512", "kid": "rsa"}), &good), "not allowed"),
            (issuer.with_header(&json!({"alg": "ES256", "kid": "rsa"}), &good), "Algorithm"),
            (issuer.with_header(&json!({"alg": "RS256"}), &good), "names no key"),
            (
                issuer.with_header(
                    &json!({"alg": "RS256", "kid": "rsa", "typ": "logout+jwt"}),
                    &good,
                ),
                "another kind",
            ),
            (
                issuer.with_header(&json!({"alg": "RS256", "kid": "rsa", "crit": ["x"]}), &good),
                "extensions",
            ),
            ("a.b.c".to_owned(), "header"),
            (String::new(), "header"),
            ("x".repeat(TOKEN_BYTES_MAX + 1), "too long"),
        ] {
            let found = why(&bearer, &token).await;
            assert!(found.contains(reason), "{found}, not {reason}");
        }
        let within = with("exp", json!(now_s() - 5));
        assert!(present(&bearer, &within).await.is_ok(), "clocks may differ a little");
        assert!(matches!(bearer.principal(&HeaderMap::new()).await, Err(Stranger::Missing)));
        let basic = [(AUTHORIZATION, "Basic YTpi".parse().unwrap())].into_iter().collect();
        assert!(matches!(bearer.principal(&basic).await, Err(Stranger::Invalid(_))));
    }

    #[tokio::test]
    async fn unknown_keys_cost_one_request_to_the_issuer_however_many_come() {
        let issuer = Issuer::start();
        let bearer = validator(&issuer);
        let claims = issuer.claims("alice", &[]);
        let strange = |n: u32| {
            issuer.with_header(&json!({"alg": "RS256", "kid": format!("strange-{n}")}), &claims)
        };
        let tokens: Vec<String> = (0..20).map(strange).collect();
        let answers = tokens.iter().map(|token| present(&bearer, token));
        for answer in futures::future::join_all(answers).await {
            assert!(matches!(answer, Err(Stranger::Invalid(_))), "{answer:?}");
        }
        assert_eq!(issuer.fetches(), 1);
        assert!(present(&bearer, &issuer.token(&claims)).await.is_ok());
        assert_eq!(issuer.fetches(), 1);
    }

    #[tokio::test]
    async fn an_issuer_that_is_away_is_no_fault_of_the_token() {
        let issuer = Issuer::start();
        issuer.publish("<html>maintenance</html>");
        let bearer = validator(&issuer);
        let token = issuer.token(&issuer.claims("alice", &[]));
        for _ in 0..3 {
            assert!(matches!(present(&bearer, &token).await, Err(Stranger::Unavailable(_))));
        }
        assert_eq!(issuer.fetches(), 1, "it is not asked again at once");
    }
}
