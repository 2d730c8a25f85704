//! From what an issuer says about somebody to a principal, whichever way it came.

use orders::CustomerId;

use super::principal::{Principal, Role};

/// Claims that are looked at; a token of Entra ID has some thirty.
pub(super) const CLAIMS_MAX: usize = 256;

/// Characters of a principal's id: an object id has 36, a subject 43.
const ID_CHARS_MAX: usize = 128;

/// Entra's stable id of a user or service within a tenant.
pub(super) const OBJECT_ID: &str = "oid";

/// Everybody's id of a user, at Entra one per application.
pub(super) const SUBJECT: &str = "sub";

/// The app roles.
pub(super) const ROLES: &str = "roles";

/// Claims by their short names; a name may come more than once.
#[derive(Debug, Default)]
pub(super) struct Claims(pub(super) Vec<(String, String)>);

impl Claims {
    fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    /// The only value of a claim. Two would leave it to chance who somebody is.
    fn one<'a>(&'a self, name: &'a str) -> Result<Option<&'a str>, String> {
        let mut values = self.all(name);
        let value = values.next();
        match values.next() {
            None => Ok(value),
            Some(_) => Err(format!("claim {name} comes more than once")),
        }
    }

    /// The principal. `customer_claim` names the claim that holds the customer's id; by default it
    /// is that of the principal. Unknown roles are passed over: they are for somebody else.
    pub(super) fn principal(&self, customer_claim: Option<&str>) -> Result<Principal, String> {
        let id = match self.one(OBJECT_ID)? {
            Some(id) => id,
            None => self.one(SUBJECT)?.ok_or("there is neither an oid nor a sub claim")?,
        };
        let fits = (1..=ID_CHARS_MAX).contains(&id.chars().count());
        if !fits || id.chars().any(char::is_control) {
            return Err("the oid or sub claim is no id".to_owned());
        }
        let customer = match customer_claim {
            Some(name) => self.one(name)?,
            None => Some(id),
        };
        // Who is no customer by that name may still be an operator.
        let customer = customer.and_then(|text| CustomerId::parse(text).ok());
        let roles = self.all(ROLES).filter_map(|name| name.parse::<Role>().ok()).collect();
        Ok(Principal { id: id.to_owned(), customer, roles })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(pairs: &[(&str, &str)]) -> Claims {
        Claims(pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect())
    }

    #[test]
    fn claims_say_who_somebody_is_and_never_leave_it_to_chance() {
        let told = claims(&[
            ("sub", "pairwise"),
            ("oid", "01890a5d-ac96-774b-bcce-b302099a8057"),
            ("roles", "orders.read"),
            ("roles", "somebody.elses"),
            ("extension_customer", "c-42"),
        ]);
        let principal = told.principal(None).unwrap();
        assert_eq!(principal.id(), "01890a5d-ac96-774b-bcce-b302099a8057");
        assert_eq!(principal.customer.as_ref().unwrap().as_str(), principal.id());
        assert!(principal.has(Role::OrdersRead) && !principal.has(Role::OpsRead));
        let principal = told.principal(Some("extension_customer")).unwrap();
        assert_eq!(principal.customer.unwrap().as_str(), "c-42");
        assert_eq!(told.principal(Some("absent")).unwrap().customer, None);
        assert_eq!(claims(&[("sub", "s")]).principal(None).unwrap().id(), "s");
        for bad in [
            claims(&[]),
            claims(&[("oid", "")]),
            claims(&[("oid", "a\nb")]),
            claims(&[("oid", &"o".repeat(129))]),
            claims(&[("oid", "alice"), ("oid", "bob")]),
        ] {
            assert!(bad.principal(None).is_err(), "{bad:?}");
        }
        let twice = claims(&[("oid", "o"), ("customer", "alice"), ("customer", "bob")]);
        assert!(twice.principal(Some("customer")).is_err());
    }
}
