//! A desk: nobody vouches for anybody. Without a header the request comes from a developer who may
//! do everything; with `X-Development-Principal` it comes from whoever the header says, so that a
//! test, or somebody who is curious, can be anyone.
//!
//! `<customer>` is a customer with the roles of one, `<customer>;roles=<role>,<role>` has exactly
//! these roles, an empty customer stands for none, and an empty header for nobody at all.

use http::{HeaderMap, HeaderName};
use orders::CustomerId;

use super::Stranger;
use super::principal::{Principal, Role, Roles};

/// The header that says who to be.
pub(super) const NAME: &str = "x-development-principal";
const HEADER: HeaderName = HeaderName::from_static(NAME);

/// The id of a principal that is no customer.
const DEVELOPER: &str = "developer";

pub(super) fn principal(headers: &HeaderMap) -> Result<Principal, Stranger> {
    let mut values = headers.get_all(HEADER).iter();
    let Some(value) = values.next() else {
        return Ok(Principal { id: DEVELOPER.to_owned(), customer: None, roles: Roles::all() });
    };
    if values.next().is_some() {
        return Err(invalid("it comes more than once"));
    }
    let text = value.to_str().map_err(|_| invalid("it is not ASCII"))?.trim();
    if text.is_empty() {
        return Err(Stranger::Missing);
    }
    let (customer, roles) = match text.split_once(';') {
        None => (text, [Role::OrdersRead, Role::OrdersWrite].into_iter().collect()),
        Some((customer, rest)) => {
            let names = rest.trim().strip_prefix("roles=");
            let names = names.ok_or_else(|| invalid("after ; comes roles=…"))?;
            let names = names.split(',').map(str::trim).filter(|name| !name.is_empty());
            let roles: Result<Roles, _> = names.map(str::parse::<Role>).collect();
            (customer.trim(), roles.map_err(|_| invalid("there is no such role"))?)
        }
    };
    let customer = match customer {
        "" => None,
        name => Some(CustomerId::parse(name).map_err(|_| invalid("this is no customer"))?),
    };
    let id = customer.as_ref().map_or(DEVELOPER, CustomerId::as_str).to_owned();
    Ok(Principal { id, customer, roles })
}

fn invalid(why: &str) -> Stranger {
    Stranger::Invalid(format!("{HEADER}: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Result<Principal, Stranger> {
        principal(&[(HEADER, value.parse().unwrap())].into_iter().collect())
    }

    #[test]
    fn a_developer_may_be_anybody() {
        let developer = principal(&HeaderMap::new()).unwrap();
        assert_eq!((developer.id(), developer.roles), (DEVELOPER, Roles::all()));
        let alice = parse("alice").unwrap();
        assert_eq!(alice.customer.as_ref().unwrap().as_str(), "alice");
        assert!(alice.has(Role::OrdersWrite) && !alice.has(Role::OpsRead));
        let operator = parse(" ;roles=ops.read, ops.replay").unwrap();
        assert_eq!((operator.id(), operator.customer.is_none()), (DEVELOPER, true));
        assert!(operator.has(Role::OpsReplay) && !operator.has(Role::OrdersRead));
        assert_eq!(parse("bob;roles=").unwrap().roles, Roles::default());
        assert!(matches!(parse(""), Err(Stranger::Missing)));
        let twice: HeaderMap =
            ["alice", "bob"].map(|who| (HEADER, who.parse().unwrap())).into_iter().collect();
        assert!(matches!(principal(&twice), Err(Stranger::Invalid(_))));
        for bad in ["a b", "alice;ops.read", "alice;roles=admin", "alice;roles=ops.read;x"] {
            assert!(matches!(parse(bad), Err(Stranger::Invalid(_))), "{bad}");
        }
    }
}
