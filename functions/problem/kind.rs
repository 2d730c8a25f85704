//! Every kind of problem that a client can meet. A [`super::Problem`] is made of one of these and of
//! nothing else, so none is answered that `docs/api.md` and `docs/openapi.json` do not know.

use http::StatusCode;

/// What went wrong, as a client branches on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    name: &'static str,
    status: u16,
    about: &'static str,
}

impl Kind {
    /// The last segment of its `type`: `not-found` of `/problems/not-found`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.name
    }

    /// What `type` holds (RFC 9457 §3.1.1).
    #[must_use]
    pub fn uri(self) -> String {
        format!("/problems/{}", self.name)
    }

    /// The one status that it is answered with.
    #[must_use]
    pub fn status(self) -> StatusCode {
        // The numbers below are those of the registry; a test tries each.
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// One sentence for the contract.
    #[must_use]
    pub fn about(self) -> &'static str {
        self.about
    }
}

macro_rules! kinds {
    ($($constant:ident = $name:literal, $status:literal, $about:literal;)+) => {
        impl Kind {
            $(
                #[doc = $about]
                pub const $constant: Self = Self { name: $name, status: $status, about: $about };
            )+

            /// All of them, by status.
            pub const ALL: &[Self] = &[$(Self::$constant),+];
        }
    };
}

kinds! {
    MALFORMED_JSON = "malformed-json", 400, "The body is no JSON.";
    BODY_INCOMPLETE = "body-incomplete", 400, "The connection ended before the body did.";
    INVALID_HEADER = "invalid-header", 400, "A header is not valid.";
    INVALID_QUERY = "invalid-query", 400, "A query parameter is not valid.";
    UNTRUSTED_PRINCIPAL = "untrusted-principal", 400,
        "A header says who is asking, and nobody vouches for it.";
    UNAUTHENTICATED = "unauthenticated", 401, "Who is asking cannot be made out.";
    FORBIDDEN = "forbidden", 403, "The role is missing.";
    OTHER_CUSTOMER = "other-customer", 403, "The order is for another customer.";
    FAULTS_SWITCHED_OFF = "faults-switched-off", 403, "Experiments are switched off here.";
    NOT_FOUND = "not-found", 404, "There is nothing here.";
    GONE = "gone", 404, "The dead letter is not there.";
    METHOD_NOT_ALLOWED = "method-not-allowed", 405, "The method is not supported here.";
    ORDER_CLOSED = "order-closed", 409, "The order has ended.";
    ORDER_UNWINDING = "order-unwinding", 409, "The order is being undone already.";
    PAYMENT_BEGUN = "payment-begun", 409, "The payment has been made or is being made.";
    ALREADY_REPLAYED = "already-replayed", 409, "Somebody replayed it before.";
    ALREADY_DISCARDED = "already-discarded", 409, "Somebody discarded it before.";
    IN_PROGRESS = "in-progress", 409, "Somebody is at it.";
    LOCKED = "locked", 409, "The dead letter cannot be taken right now.";
    REPLAY_LIMIT = "replay-limit", 409, "It was replayed as often as it may be.";
    BODY_TOO_LARGE = "body-too-large", 413, "The body is too large.";
    UNSUPPORTED_MEDIA_TYPE = "unsupported-media-type", 415, "The content type is not supported.";
    INVALID_ORDER = "invalid-order", 422, "The order breaks at least one rule.";
    INVALID_REQUEST = "invalid-request", 422, "The request breaks at least one rule.";
    TOO_MANY_SELECTED = "too-many-selected", 422, "More are selected than one request may move.";
    NOT_ROUTABLE = "not-routable", 422, "Nobody would get a replay of this.";
    KEY_REUSED = "idempotency-key-reused", 422, "The Idempotency-Key was used for another order.";
    TOO_MANY_ORDERS = "too-many-orders", 429,
        "This customer sends more orders than its rate allows.";
    INTERNAL = "internal", 500, "A defect of ours.";
    STACK_UNAVAILABLE = "stack-unavailable", 502, "The local stack does not answer.";
    OUTBOX_NOT_DRAINING = "outbox-not-draining", 503, "Events do not leave the outbox.";
    STORE_UNAVAILABLE = "store-unavailable", 503, "The order store cannot be reached.";
    BROKER_UNAVAILABLE = "broker-unavailable", 503, "Dead letters cannot be reached.";
    OVERLOADED = "overloaded", 503, "The order store is too slow for what is asked of it.";
    ISSUER_UNAVAILABLE = "issuer-unavailable", 503,
        "Credentials cannot be checked at the moment.";
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_kind_has_a_name_of_its_own_and_a_status_that_says_that_something_is_wrong() {
        let names: BTreeSet<_> = Kind::ALL.iter().map(|kind| kind.name()).collect();
        assert_eq!(names.len(), Kind::ALL.len());
        for kind in Kind::ALL {
            assert_eq!(kind.status().as_u16(), kind.status, "{kind:?}");
            assert!(kind.status().is_client_error() || kind.status().is_server_error());
            assert!(kind.name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-'), "{kind:?}");
        }
        assert!(Kind::ALL.is_sorted_by_key(|kind| kind.status), "by status");
    }

    #[test]
    fn the_page_for_people_explains_the_same_kinds() {
        let known: Vec<(&str, u16)> = Kind::ALL.iter().map(|k| (k.name, k.status)).collect();
        let told: Vec<(&str, u16)> = include_str!("../../docs/api.md")
            .lines()
            .filter_map(|line| {
                let (name, rest) = line.strip_prefix("| `/problems/")?.split_once("` | ")?;
                Some((name, rest.get(..3)?.parse().ok()?))
            })
            .collect();
        assert_eq!(known, told, "docs/api.md has others");
    }
}
