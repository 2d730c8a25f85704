//! Which dead letters a request means, found out before anything is touched, and whether an edited
//! body may take the place of the original.

use std::collections::BTreeSet;

use orders::FieldError;

use super::super::{OrderApi, store_problem};
use super::letter::Letter;
use super::request::{Order, SELECTION_MAX, Select};
use super::shelf::SCAN_MAX;
use super::shelf_problem;
use super::source::Source;
use crate::problem::{Kind, Problem};

/// Which letters are meant.
#[derive(Default)]
pub(super) struct Plan {
    /// Those that were seen, without their bodies.
    pub(super) seen: Vec<Letter>,
    pub(super) wanted: BTreeSet<i64>,
    /// Named, but not there.
    pub(super) absent: Vec<i64>,
    pub(super) more: bool,
}

pub(super) async fn plan(api: &OrderApi, source: Source, order: &Order) -> Result<Plan, Problem> {
    let shelf = api.ops.shelf(source);
    let look = |from, max| async move {
        shelf.look(from, max).await.map_err(|error| shelf_problem(&error))
    };
    let mut plan = Plan::default();
    let Select::Numbers(numbers) = &order.select else {
        let found = look(0, SCAN_MAX).await?;
        plan.more = found.more;
        plan.seen = found.letters;
        if let Select::Reason(reason) = &order.select {
            plan.seen.retain(|letter| letter.reason.as_deref().unwrap_or_default() == reason);
        }
        let max = order.limit.unwrap_or(SELECTION_MAX);
        if plan.seen.len() > max {
            if order.limit.is_none() {
                let detail = format!(
                    "At least {} fit the selection, and one request takes {SELECTION_MAX}. Give a \
                     limit to take the oldest ones first.",
                    plan.seen.len()
                );
                let title = "The selection is too large for one request.";
                return Err(Problem::new(Kind::TOO_MANY_SELECTED, title).detail(detail));
            }
            plan.seen.truncate(max);
            plan.more = true;
        }
        plan.wanted = plan.seen.iter().map(|letter| letter.number).collect();
        return Ok(plan);
    };
    let mut left: BTreeSet<i64> = match order.limit {
        Some(limit) => numbers.iter().copied().take(limit).collect(),
        None => numbers.clone(),
    };
    plan.more = left.len() < numbers.len();
    while let (Some(&first), Some(&last)) = (left.first(), left.last()) {
        let span = usize::try_from(last - first).unwrap_or(SCAN_MAX).saturating_add(1);
        let found = look(first, span.min(SELECTION_MAX)).await?;
        let end = found.letters.last().map_or(i64::MAX, |letter| letter.number);
        plan.seen.extend(found.letters.into_iter().filter(|letter| left.remove(&letter.number)));
        // Whatever was named up to here and not seen is not there. The poison queue shows its
        // front only, so that one has to be searched to say so.
        let rest = if end == i64::MAX { BTreeSet::new() } else { left.split_off(&(end + 1)) };
        match source {
            Source::Poison => plan.wanted.extend(&left),
            Source::Subscription(_) => plan.absent.extend(&left),
        }
        left = rest;
    }
    plan.wanted.extend(plan.seen.iter().map(|letter| letter.number));
    Ok(plan)
}

/// An edited event must be about the same order, one that the subscription gets, and what its schema
/// says.
pub(super) async fn check_edit(
    api: &OrderApi,
    source: Source,
    letter: &Letter,
    edited: &crate::delivery::Delivery,
) -> Result<(), Problem> {
    let refuse = |pointer: &str, detail: String| {
        let error = FieldError::new(format!("/body{pointer}"), "not_allowed", detail);
        Err(Problem::invalid_request(vec![error]))
    };
    match letter.order_id() {
        Some(order_id) if order_id != edited.order_id => {
            return refuse("/subject", format!("must stay {order_id}"));
        }
        Some(_) => {}
        // What it was about cannot be read any more: then at least it must be about something.
        None => {
            let order = api.store.read(edited.order_id).await;
            if order.map_err(|error| store_problem(&error))?.is_none() {
                return refuse("/subject", "must be the id of an order".to_owned());
            }
        }
    }
    let event_type = edited.event.event_type;
    match letter.text("event_type") {
        Some(original) if original != event_type.as_str() => {
            refuse("/type", format!("must stay {original}"))
        }
        _ if !source.takes(event_type) => {
            refuse("/type", format!("is none that {} takes", source.target()))
        }
        _ => orders::payload::check(&edited.event).map_err(|mut error| {
            error.pointer.insert_str(0, "/body");
            Problem::invalid_request(vec![error])
        }),
    }
}
