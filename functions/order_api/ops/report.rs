//! What became of dead letters: the report on a request, letter by letter, and the problem that the
//! fate of a single one is.

use std::collections::BTreeMap;

use orders::{OrderId, Status};
use serde::Serialize;

use super::letter::Letter;
use super::read::gone;
use crate::problem::{Kind, Problem};
use crate::store::audit::{Action, AuditEntry, Deed};

/// What became of one dead letter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Fate {
    /// Sent again, and removed.
    Replayed,
    /// Sent by an earlier run that did not get to its end; removed now.
    Finished,
    /// Sent again, but not removed yet: the next replay does only that.
    Sent,
    /// Removed.
    Discarded,
    /// A dry run: it would be sent again.
    WouldReplay,
    /// A dry run: it would be removed.
    WouldDiscard,
    /// Somebody replayed it before.
    AlreadyReplayed,
    /// Somebody discarded it before.
    AlreadyDiscarded,
    /// Somebody is at it right now.
    InProgress,
    /// It is there but cannot be taken: another tool holds it or has deferred it, or too many lie
    /// before it.
    Locked,
    /// It is not there.
    Gone,
    /// It has been replayed as often as it may be.
    LoopLimit,
    /// Nobody would get it: it says nothing by which the subscription could take it.
    NotRoutable,
    /// Something did not answer. Nothing is lost; try again.
    Failed,
}

/// The report on one dead letter.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Item {
    pub(super) sequence_number: i64,
    pub(super) outcome: Fate,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) detail: Option<String>,
    pub(super) message_id: Option<String>,
    pub(super) order_id: Option<OrderId>,
    /// Where the order's part stood before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) part: Option<Status>,
    /// Whether the part went from dead-lettered back to pending.
    pub(super) reopened: bool,
    /// Whether the failure that the client had asked for was taken away.
    pub(super) fault_removed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) replayed_as: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) replay_count: Option<u32>,
}

impl Item {
    pub(super) fn new(number: i64, outcome: Fate) -> Self {
        Self {
            sequence_number: number,
            outcome,
            detail: None,
            message_id: None,
            order_id: None,
            part: None,
            reopened: false,
            fault_removed: false,
            replayed_as: None,
            replay_count: None,
        }
    }

    pub(super) fn of(letter: &Letter, outcome: Fate) -> Self {
        Self {
            message_id: Some(letter.message_id().to_owned()),
            order_id: letter.order_id(),
            ..Self::new(letter.number, outcome)
        }
    }

    pub(super) fn because(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    pub(super) fn ends(mut self, outcome: Fate) -> Self {
        self.outcome = outcome;
        self
    }
}

/// The report on a request.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Report {
    pub(super) source: &'static str,
    pub(super) action: Action,
    pub(super) dry_run: bool,
    pub(super) selected: usize,
    /// Whether more fit the selection than `limit` let in.
    pub(super) more: bool,
    pub(super) counts: BTreeMap<Fate, usize>,
    pub(super) results: Vec<Item>,
}

pub(super) fn nothing_to_do(part: Option<Status>) -> Option<String> {
    let part = part.filter(|part| part.is_finished())?;
    Some(format!("nothing to do: the part is {}", part.as_str()))
}

pub(super) fn already(entry: &AuditEntry) -> Fate {
    match entry.action {
        Deed::Discard => Fate::AlreadyDiscarded,
        _ => Fate::AlreadyReplayed,
    }
}

pub(super) fn told(entry: &AuditEntry) -> String {
    format!("by {} at {}: {}", entry.actor, entry.at, entry.reason)
}

/// The problem that a single letter's outcome is, if it is one.
pub(super) fn refusal(item: &Item) -> Result<(), Problem> {
    let detail = item.detail.clone().unwrap_or_default();
    let problem = |kind, title| Err(Problem::new(kind, title).detail(detail.as_str()));
    match item.outcome {
        Fate::Gone => Err(gone()),
        Fate::AlreadyReplayed => {
            problem(Kind::ALREADY_REPLAYED, "The dead letter was replayed before.")
        }
        Fate::AlreadyDiscarded => {
            problem(Kind::ALREADY_DISCARDED, "The dead letter was discarded.")
        }
        Fate::InProgress => problem(Kind::IN_PROGRESS, "Somebody is at this dead letter."),
        Fate::Locked => problem(Kind::LOCKED, "The dead letter cannot be taken right now."),
        Fate::LoopLimit => {
            problem(Kind::REPLAY_LIMIT, "The message has been replayed as often as it may be.")
        }
        Fate::NotRoutable => {
            problem(Kind::NOT_ROUTABLE, "Nobody would get a replay of this dead letter.")
        }
        Fate::Failed => Err(Problem::broker_unavailable(super::RETRY_AFTER).detail(detail)),
        _ => Ok(()),
    }
}
