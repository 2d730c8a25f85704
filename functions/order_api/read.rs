//! `GET /api/orders/{id}` and `GET /api/orders`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse as _, Response};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::HeaderMap;
use http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG};
use orders::{FieldError, Order, OrderId};
use serde::Serialize;
use tracing::warn;

use super::view::OrderView;
use super::{Shared, content_etag, not_modified, store_problem};
use crate::access::{Principal, Reach};
use crate::problem::Problem;
use crate::store::etag_header;

/// Orders of one page unless the client asks for another number.
pub(super) const PAGE_ORDERS_DEFAULT: usize = 20;

/// Orders of one page at most: an answer stays far below a megabyte.
pub(super) const PAGE_ORDERS_MAX: usize = 100;

/// Characters of a continuation: a base64url sort key, with room for a longer one some day.
pub(super) const CONTINUATION_CHARS_MAX: usize = 256;

/// One order. That of another customer is not there.
pub(super) async fn one(
    State(api): Shared,
    principal: Principal,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let reach = principal.reach()?;
    let order_id = order_id(&id)?;
    let document = api.store.read(order_id).await.map_err(|error| store_problem(&error))?;
    let document = document.ok_or_else(no_such_order)?;
    within(reach, &document.value)?;
    let etag = etag_header(&document.etag);
    if let Some(unchanged) = etag.as_ref().and_then(|etag| not_modified(&headers, etag)) {
        return Ok(unchanged);
    }
    let mut response = Json(OrderView::whole(document.value)).into_response();
    // A client may keep the answer but has to ask whether it still holds.
    response.headers_mut().insert(CACHE_CONTROL, http::HeaderValue::from_static("no-cache"));
    if let Some(etag) = etag {
        response.headers_mut().insert(ETAG, etag);
    }
    Ok(response)
}

/// The order id in a path.
pub(super) fn order_id(text: &str) -> Result<OrderId, Problem> {
    text.parse()
        .map_err(|_| Problem::not_found("An order id is a UUID in lower case with hyphens."))
}

/// There is no order with this id.
pub(super) fn no_such_order() -> Problem {
    Problem::not_found("There is no order with this id.")
}

/// An order of another customer looks as if there were none; the audit trail knows better.
pub(super) fn within(reach: Reach<'_>, order: &Order) -> Result<(), Problem> {
    if reach.covers(&order.customer_id) {
        return Ok(());
    }
    warn!(order.id = %order.order_id, "refused: another customer's order");
    Err(no_such_order().refuses("another customer's order"))
}

/// A page of orders, newest first.
#[derive(Debug, Serialize)]
pub(super) struct Page {
    orders: Vec<OrderView>,
    /// Where the next page begins; null on the last one.
    next: Option<String>,
}

/// The newest orders within the principal's reach. The page has no version of its own in the store, so its ETag is that of the
/// bytes: a poller is spared the transfer, not the query.
pub(super) async fn list(
    State(api): Shared,
    principal: Principal,
    headers: HeaderMap,
    query: Result<Query<BTreeMap<String, String>>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Problem> {
    let customer = match principal.reach()? {
        Reach::Everyone => None,
        Reach::Own(customer) => Some(customer),
    };
    let query = query.map(|Query(parameters)| parameters).map_err(|_| {
        Problem::invalid_query(vec![FieldError::new("", "malformed", "is no query string")])
    });
    let wanted =
        query.and_then(|parameters| Wanted::parse(&parameters).map_err(Problem::invalid_query))?;
    let page = api
        .store
        .newest(wanted.limit, wanted.after.as_deref(), customer)
        .await
        .map_err(|error| store_problem(&error))?;
    // A full page may have a successor; a short one is the last.
    let next = (page.of == wanted.limit)
        .then(|| page.found.last().map(|order| URL_SAFE_NO_PAD.encode(&order.sort_key)))
        .flatten();
    let orders = page.found.into_iter().map(OrderView::line).collect();
    let body = serde_json::to_vec(&Page { orders, next }).unwrap_or_default();
    let etag = content_etag(&body);
    if let Some(unchanged) = not_modified(&headers, &etag) {
        return Ok(unchanged);
    }
    let fixed = [
        (CONTENT_TYPE, http::HeaderValue::from_static("application/json")),
        (CACHE_CONTROL, http::HeaderValue::from_static("no-cache")),
        (ETAG, etag),
    ];
    Ok((fixed, body).into_response())
}

/// Which page is wanted.
#[derive(Debug, PartialEq, Eq)]
struct Wanted {
    limit: usize,
    after: Option<String>,
}

impl Wanted {
    fn parse(parameters: &BTreeMap<String, String>) -> Result<Self, Vec<FieldError>> {
        let mut wanted = Self { limit: PAGE_ORDERS_DEFAULT, after: None };
        let mut errors = Vec::new();
        for (name, value) in parameters {
            match name.as_str() {
                "limit" => match value.parse() {
                    Ok(limit) if (1..=PAGE_ORDERS_MAX).contains(&limit) => wanted.limit = limit,
                    _ => {
                        let detail = format!("must be between 1 and {PAGE_ORDERS_MAX}");
                        errors.push(FieldError::new("/limit", "out_of_range", detail));
                    }
                },
                "after" => match sort_key(value) {
                    Some(key) => wanted.after = Some(key),
                    None => {
                        let detail = "must be the `next` of an earlier page";
                        errors.push(FieldError::new("/after", "unknown_value", detail));
                    }
                },
                _ => {
                    let detail = "is not known here; known are limit, after";
                    let shown: String = name.chars().take(64).collect();
                    errors.push(FieldError::new(format!("/{shown}"), "unknown_field", detail));
                }
            }
        }
        if errors.is_empty() { Ok(wanted) } else { Err(errors) }
    }
}

fn sort_key(continuation: &str) -> Option<String> {
    if continuation.len() > CONTINUATION_CHARS_MAX {
        return None;
    }
    let key = String::from_utf8(URL_SAFE_NO_PAD.decode(continuation).ok()?).ok()?;
    let (at, order_id) = key.split_once('~')?;
    let known = orders::Timestamp::parse(at).is_ok() && order_id.parse::<OrderId>().is_ok();
    known.then_some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Wanted, Vec<FieldError>> {
        let owned = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
        Wanted::parse(&owned.collect())
    }

    #[test]
    fn a_page_is_asked_for_within_bounds() {
        assert_eq!(parse(&[]), Ok(Wanted { limit: 20, after: None }));
        let key = "2026-03-01T10:00:00.000000Z~01890a5d-ac96-774b-bcce-b302099a8057";
        let after = URL_SAFE_NO_PAD.encode(key);
        let wanted = parse(&[("limit", "100"), ("after", &after)]).unwrap();
        assert_eq!(wanted, Wanted { limit: 100, after: Some(key.to_owned()) });
        for limit in ["0", "101", "-1", "ten", ""] {
            assert_eq!(parse(&[("limit", limit)]).unwrap_err()[0].pointer, "/limit");
        }
        let forged = URL_SAFE_NO_PAD.encode("' OR 1=1 --");
        for after in ["", "%%%", &forged, &"a".repeat(300)] {
            assert_eq!(parse(&[("after", after)]).unwrap_err()[0].pointer, "/after");
        }
        assert_eq!(parse(&[("sort", "asc"), ("limit", "0")]).unwrap_err().len(), 2);
    }
}
