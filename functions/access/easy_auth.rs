//! App Service Authentication: the platform signs people in before the Functions host sees a
//! request, and says who they are in `X-MS-CLIENT-PRINCIPAL`. It removes these headers from what
//! comes from outside; without it anybody could write them, so they count in this mode only.
//!
//! Format: <https://learn.microsoft.com/azure/app-service/configure-authentication-user-identities>

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderName};
use serde::Deserialize;

use super::Stranger;
use super::claims::{CLAIMS_MAX, Claims, OBJECT_ID, ROLES, SUBJECT};
use super::principal::Principal;

/// What the names of the headers about the principal begin with.
pub(super) const HEADERS: &str = "x-ms-client-principal";

/// What the names of the headers with the provider's tokens begin with.
pub(super) const TOKENS: &str = "x-ms-token-";

/// Base64 of the claims in JSON.
const PRINCIPAL: HeaderName = HeaderName::from_static(HEADERS);

/// Bytes of that header: App Service allows 16 KiB for all headers together.
const PRINCIPAL_BYTES_MAX: usize = 16 * 1024;

/// Entra ID. Others have no app roles, and whatever claim looks like one is not ours.
const ENTRA: &str = "aad";

/// Long names under which App Service hands on what tokens call by short ones.
const LONG_NAMES: [(&str, &str); 3] = [
    ("http://schemas.microsoft.com/identity/claims/objectidentifier", OBJECT_ID),
    ("http://schemas.xmlsoap.org/ws/2005/05/identity/claims/nameidentifier", SUBJECT),
    ("http://schemas.microsoft.com/ws/2008/06/identity/claims/role", ROLES),
];

#[derive(Deserialize)]
struct ClientPrincipal {
    auth_typ: String,
    #[serde(default)]
    role_typ: String,
    claims: Vec<Claim>,
}

#[derive(Deserialize)]
struct Claim {
    typ: String,
    val: String,
}

pub(super) fn principal(
    headers: &HeaderMap,
    customer_claim: Option<&str>,
) -> Result<Principal, Stranger> {
    let mut values = headers.get_all(PRINCIPAL).iter();
    let Some(value) = values.next() else { return Err(Stranger::Missing) };
    if values.next().is_some() {
        return Err(invalid("it comes more than once"));
    }
    if value.len() > PRINCIPAL_BYTES_MAX {
        return Err(invalid("it is too long"));
    }
    let json = STANDARD.decode(value.as_bytes()).map_err(|_| invalid("it is not base64"))?;
    // The cause of a JSON error may quote what was sent, so it stays here.
    let told: ClientPrincipal =
        serde_json::from_slice(&json).map_err(|_| invalid("it is not a principal in JSON"))?;
    if told.auth_typ != ENTRA {
        return Err(invalid("the provider is not Entra ID"));
    }
    if told.claims.len() > CLAIMS_MAX {
        return Err(invalid("there are too many claims"));
    }
    let claims = told.claims.into_iter().map(|claim| {
        let short = LONG_NAMES.iter().find(|(long, _)| *long == claim.typ);
        let name = match short {
            Some((_, short)) => (*short).to_owned(),
            None if claim.typ == told.role_typ => ROLES.to_owned(),
            None => claim.typ,
        };
        (name, claim.val)
    });
    Claims(claims.collect()).principal(customer_claim).map_err(|why| invalid(&why))
}

fn invalid(why: &str) -> Stranger {
    Stranger::Invalid(format!("{HEADERS}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::access::Role;
    use serde_json::{Value, json};

    fn with(value: &str) -> Result<Principal, Stranger> {
        principal(&[(PRINCIPAL, value.parse().unwrap())].into_iter().collect(), None)
    }

    fn told(principal: &Value) -> Result<Principal, Stranger> {
        with(&STANDARD.encode(principal.to_string()))
    }

    #[test]
    fn a_principal_of_the_platform_is_read_with_short_and_long_names() {
        let long = json!({
            "auth_typ": "aad", "name_typ": "name", "role_typ": LONG_NAMES[2].0,
            "claims": [
                {"typ": LONG_NAMES[0].0, "val": "o-1"},
                {"typ": LONG_NAMES[1].0, "val": "s-1"},
                {"typ": LONG_NAMES[2].0, "val": "ops.read"},
            ],
        });
        let short = json!({
            "auth_typ": "aad", "role_typ": "roles",
            "claims": [{"typ": "oid", "val": "o-1"}, {"typ": "roles", "val": "ops.read"}],
        });
        for principal in [long, short] {
            let principal = told(&principal).unwrap();
            assert_eq!(principal.id(), "o-1");
            assert!(principal.has(Role::OpsRead) && !principal.has(Role::OpsReplay));
        }
    }

    #[test]
    fn anything_else_is_nobody() {
        assert!(matches!(principal(&HeaderMap::new(), None), Err(Stranger::Missing)));
        for bad in ["", "%%%", "e30=", "bnVsbA==", &STANDARD.encode([0xff, 0xfe])] {
            assert!(matches!(with(bad), Err(Stranger::Invalid(_))), "{bad}");
        }
        let claims = json!([{"typ": "oid", "val": "o"}]);
        assert!(told(&json!({"auth_typ": "google", "claims": claims})).is_err());
        let flood = vec![json!({"typ": "roles", "val": "ops.read"}); CLAIMS_MAX + 1];
        assert!(told(&json!({"auth_typ": "aad", "claims": flood})).is_err());
        let value: http::HeaderValue = STANDARD
            .encode(json!({"auth_typ": "aad", "claims": claims}).to_string())
            .parse()
            .unwrap();
        let mut headers: HeaderMap = [(PRINCIPAL, value.clone())].into_iter().collect();
        assert!(principal(&headers, None).is_ok());
        headers.append(PRINCIPAL, value);
        assert!(matches!(principal(&headers, None), Err(Stranger::Invalid(_))), "two principals");
    }
}
