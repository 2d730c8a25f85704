//! Somebody who was made out, and what they may do.

use std::fmt;
use std::str::FromStr;

use axum::extract::FromRequestParts;
use http::request::Parts;
use orders::CustomerId;
use serde::Serialize;
use tracing::error;

use crate::problem::Problem;

/// What a principal may do; app roles of the Entra registration, in claim `roles`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Role {
    /// Submit and cancel orders.
    #[serde(rename = "orders.write")]
    OrdersWrite,
    /// Read orders.
    #[serde(rename = "orders.read")]
    OrdersRead,
    /// See every order, what needs attention, and dead letters.
    #[serde(rename = "ops.read")]
    OpsRead,
    /// Replay and discard dead letters.
    #[serde(rename = "ops.replay")]
    OpsReplay,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 4] =
        [Self::OrdersWrite, Self::OrdersRead, Self::OpsRead, Self::OpsReplay];

    /// The name, as in claim `roles`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::OrdersWrite => "orders.write",
            Self::OrdersRead => "orders.read",
            Self::OpsRead => "ops.read",
            Self::OpsReplay => "ops.replay",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// There is no role of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such role")]
pub struct NoSuchRole;

impl FromStr for Role {
    type Err = NoSuchRole;

    fn from_str(text: &str) -> Result<Self, NoSuchRole> {
        Self::ALL.into_iter().find(|role| role.as_str() == text).ok_or(NoSuchRole)
    }
}

/// A set of roles.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles(u8);

impl Roles {
    /// Every role.
    #[must_use]
    pub fn all() -> Self {
        Role::ALL.into_iter().collect()
    }

    /// Whether the set holds `role`.
    #[must_use]
    pub fn has(self, role: Role) -> bool {
        self.0 & role.bit() != 0
    }
}

impl FromIterator<Role> for Roles {
    fn from_iter<I: IntoIterator<Item = Role>>(roles: I) -> Self {
        Self(roles.into_iter().fold(0, |set, role| set | role.bit()))
    }
}

/// Somebody who was made out. Routes take it as an extractor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Principal {
    pub(super) id: String,
    pub(super) customer: Option<CustomerId>,
    pub(super) roles: Roles,
}

/// Whose orders a principal may touch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach<'a> {
    /// Those of every customer.
    Everyone,
    /// Those of one.
    Own(&'a CustomerId),
}

impl Reach<'_> {
    /// Whether orders of `customer` are within reach.
    #[must_use]
    pub fn covers(self, customer: &CustomerId) -> bool {
        match self {
            Self::Everyone => true,
            Self::Own(own) => own == customer,
        }
    }
}

impl Principal {
    /// A stable id, for the audit trail and the log: 1 to 128 characters.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Whether the principal has `role`.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.roles.has(role)
    }

    /// Asks for a role beyond what the table of routes asks for.
    ///
    /// # Errors
    /// 403: the principal does not have it.
    pub fn require(&self, role: Role) -> Result<(), Problem> {
        if self.has(role) {
            return Ok(());
        }
        tracing::warn!(principal.id = self.id(), %role, "refused: the role is missing");
        let problem = Problem::forbidden(format!("This needs the role {role}."));
        Err(problem.refuses("the role is missing"))
    }

    /// Whose orders the principal may touch: with an operations role everybody's, otherwise those
    /// of the customer that it is.
    ///
    /// # Errors
    /// 403: the principal is neither an operator nor a customer.
    pub fn reach(&self) -> Result<Reach<'_>, Problem> {
        if self.has(Role::OpsRead) || self.has(Role::OpsReplay) {
            return Ok(Reach::Everyone);
        }
        match &self.customer {
            Some(customer) => Ok(Reach::Own(customer)),
            None => Err(Problem::forbidden("This account stands for no customer.")
                .refuses("neither a customer nor an operator")),
        }
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Principal {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        parts.extensions.get::<Self>().cloned().ok_or_else(|| {
            error!("a route asks for a principal and stands outside the guard");
            Problem::internal()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_customer_reaches_their_own_orders_and_an_operator_all() {
        let [alice, bob] = ["alice", "bob"].map(|name| CustomerId::parse(name).unwrap());
        let principal = |customer: Option<&CustomerId>, roles: &[Role]| Principal {
            id: "somebody".to_owned(),
            customer: customer.cloned(),
            roles: roles.iter().copied().collect(),
        };
        let customer = principal(Some(&alice), &[Role::OrdersRead, Role::OrdersWrite]);
        assert_eq!(customer.reach().unwrap(), Reach::Own(&alice));
        assert!(customer.reach().unwrap().covers(&alice));
        assert!(!customer.reach().unwrap().covers(&bob));
        for role in [Role::OpsRead, Role::OpsReplay] {
            let operator = principal(Some(&alice), &[role]);
            assert!(operator.reach().unwrap().covers(&bob));
            assert!(operator.require(role).is_ok());
            assert_eq!(operator.require(Role::OrdersWrite).unwrap_err().status(), 403);
        }
        assert_eq!(principal(None, &[Role::OrdersRead]).reach().unwrap_err().status(), 403);
    }

    #[test]
    fn a_role_is_its_name_and_nothing_like_it() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
            let only: Roles = [role].into_iter().collect();
            assert_eq!(Role::ALL.into_iter().filter(|other| only.has(*other)).count(), 1);
            assert!(Roles::all().has(role) && !Roles::default().has(role));
        }
        for other in ["", "ops", "OPS.READ", "ops.read ", "orders.*", "ops.read,ops.replay"] {
            assert_eq!(other.parse::<Role>(), Err(NoSuchRole), "{other}");
        }
    }
}
