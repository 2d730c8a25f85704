//! Acting: replay dead letters to the subscription that they were meant for, or discard them.
//!
//! One letter at a time goes through these steps, each of which may be the last of this process:
//!
//! ```text
//! take under a lock -> write it down -> reopen the order's part -> send -> note that -> remove -> note that
//! ```
//!
//! Sent first, removed afterwards: a crash in between leaves both, and the next replay finds in
//! the audit trail that it is sent and only removes the letter. If even that note was lost, it
//! sends the same message id once more, which the topic drops within its duplicate window, and
//! consumers absorb beyond it. A double click or a second operator finds the record of the first.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use futures::StreamExt as _;
use futures::future::BoxFuture;
use http::HeaderMap;
use orders::{EventType, Status, Timestamp, saga};
use serde_json::Value;
use tracing::{error, info, warn};

use super::super::{OrderApi, Shared, store_problem, submit};
use super::deed::{SOURCE_CHARS_MAX, note};
use super::letter::Letter;
use super::plan::{self, Plan};
use super::read::fresh;
use super::report::{Fate, Item, Report, already, nothing_to_do, refusal, told};
use super::request::{Asked, Order};
use super::shelf::{Hand, Held};
use super::shelf_problem;
use super::source::Source;
use crate::access::Principal;
use crate::chain::chain;
use crate::clock;
use crate::crash;
use crate::problem::Problem;
use crate::store::Moved;
use crate::store::audit::{Action, AuditEntry, Begun, Outcome, Subject};

/// Orders read at once for a dry run.
const READS_IN_FLIGHT_MAX: usize = 8;

/// Refusals written down at once.
const NOTES_IN_FLIGHT_MAX: usize = 8;

/// Replays dead letters.
pub(super) async fn replay(
    State(api): Shared,
    Path(source): Path<String>,
    principal: Principal,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    run(&api, Action::Replay, &source, principal.id(), &headers, body).await
}

/// Discards dead letters.
pub(super) async fn discard(
    State(api): Shared,
    Path(source): Path<String>,
    principal: Principal,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    run(&api, Action::Discard, &source, principal.id(), &headers, body).await
}

/// Carries a request out, or writes down that it was refused.
async fn run(
    api: &Arc<OrderApi>,
    action: Action,
    source: &str,
    actor: &str,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let mut asked = Asked::default();
    let answer = attempt(api, action, source, headers, body, actor, &mut asked).await;
    if let Err(problem) = &answer {
        let source: String = source.chars().take(SOURCE_CHARS_MAX).collect();
        let Asked { reason, sequence_number } = &asked;
        let sequence_number = *sequence_number;
        let subject = Subject {
            action: action.into(),
            actor,
            reason,
            source: &source,
            sequence_number,
            message_id: None,
            order_id: None,
        };
        note(api, &AuditEntry::refused(&subject, &problem.summary())).await;
    }
    answer
}

async fn attempt(
    api: &Arc<OrderApi>,
    action: Action,
    source: &str,
    headers: &HeaderMap,
    body: Body,
    actor: &str,
    asked: &mut Asked,
) -> Result<Response, Problem> {
    let body = submit::read_body(body).await?;
    submit::require_json(headers)?;
    let body = serde_json::from_slice::<Value>(&body);
    // Whatever is wrong with it, the trail says what it was about.
    *asked = body.as_ref().map(Asked::of).unwrap_or_default();
    let source = Source::parse(source)?;
    let body = body.map_err(|error| {
        Problem::malformed_json(&format!("line {} column {}", error.line(), error.column()))
    })?;
    let order = Order::parse(&body, action).map_err(Problem::invalid_request)?;
    let order = Arc::new(order);
    let plan = plan::plan(api, source, &order).await?;
    if let (Some(edited), Some(number)) = (&order.edited, order.single()) {
        let found = api.ops.shelf(source).find(number).await;
        let letter = found.map_err(|error| shelf_problem(&error))?;
        if let Some(letter) = letter {
            plan::check_edit(api, source, &letter, edited).await?;
        }
    }
    let (api, actor) = (Arc::clone(api), actor.to_owned());
    let items = Mutex::default();
    let job = Job { api, source, action, order: Arc::clone(&order), actor, items };
    if order.dry_run {
        job.pretend(&plan).await;
    } else {
        let mut wanted: BTreeSet<i64> = plan.wanted.clone();
        let deferred = plan.seen.iter().filter(|letter| letter.deferred);
        let deferred = deferred.map(|letter| letter.number).collect();
        let taken = job.api.ops.shelf(source).take(&mut wanted, &deferred, &job).await;
        if let Err(error) = &taken {
            // Those that were worked on are reported all the same.
            let problem = shelf_problem(error);
            if job.items().is_empty() {
                return Err(problem);
            }
            for number in std::mem::take(&mut wanted) {
                job.report(Item::new(number, Fate::Failed).because(problem.summary()));
            }
        }
        for number in wanted {
            job.report_absent(number).await?;
        }
    }
    for number in plan.absent {
        job.report_absent(number).await?;
    }
    let results: Vec<Item> = std::mem::take(&mut *job.items()).into_values().collect();
    if !order.dry_run {
        job.note_refusals(&results).await;
    }
    if let (Some(_), [item]) = (order.single(), &results[..]) {
        refusal(item)?;
    }
    let mut counts = BTreeMap::new();
    for item in &results {
        *counts.entry(item.outcome).or_default() += 1;
    }
    info!(actor = job.actor, action = action.as_str(), source = source.name(), selected = results.len(),
        dry_run = order.dry_run, counts = ?counts, "dead letters worked on");
    Ok(fresh(Json(Report {
        source: source.name(),
        action,
        dry_run: order.dry_run,
        selected: results.len(),
        more: plan.more,
        counts,
        results,
    })))
}

/// One request at work on its letters.
struct Job {
    api: Arc<OrderApi>,
    source: Source,
    action: Action,
    order: Arc<Order>,
    actor: String,
    items: Mutex<BTreeMap<i64, Item>>,
}

impl Hand for Job {
    fn handle<'a>(&'a self, letter: Letter, held: Held<'a>) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let item = match self.action {
                Action::Replay => self.replay(&letter, &held).await,
                Action::Discard => self.discard(&letter, &held).await,
            };
            self.report(item);
        })
    }
}

impl Job {
    fn items(&self) -> std::sync::MutexGuard<'_, BTreeMap<i64, Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn report(&self, item: Item) {
        self.items().insert(item.sequence_number, item);
    }

    /// Why a letter cannot be replayed at all; how the replay is counted otherwise.
    fn admit(&self, letter: &Letter) -> Result<u32, Item> {
        let refused = |outcome, why: String| Err(Item::of(letter, outcome).because(why));
        let event_type = match &self.order.edited {
            Some(edited) => Some(edited.event.event_type),
            None => letter
                .text("event_type")
                .and_then(|text| serde_json::from_value::<EventType>(Value::from(text)).ok()),
        };
        if !event_type.is_some_and(|event_type| self.source.takes(event_type)) {
            let why = format!("{} takes no such event; edit the body", self.source.target());
            return refused(Fate::NotRoutable, why);
        }
        letter.lineage().next().ok_or(()).or_else(|()| {
            let max = orders::replay::REPLAYS_MAX;
            refused(Fate::LoopLimit, format!("it has been replayed {max} times already"))
        })
    }

    fn subject<'s>(&'s self, letter: &'s Letter) -> Subject<'s> {
        Subject {
            action: self.action.into(),
            actor: &self.actor,
            reason: &self.order.reason,
            source: self.source.name(),
            sequence_number: Some(letter.number),
            message_id: Some(letter.message_id()),
            order_id: letter.order_id().map(|order_id| order_id.to_string()),
        }
    }

    /// Says what would be done.
    async fn pretend(&self, plan: &Plan) {
        let mut looks: Vec<BoxFuture<'_, ()>> = Vec::with_capacity(plan.seen.len());
        for letter in &plan.seen {
            looks.push(Box::pin(async move {
                let item = match self.action {
                    Action::Discard => Item::of(letter, Fate::WouldDiscard),
                    Action::Replay => match self.admit(letter) {
                        Err(refused) => refused,
                        Ok(count) => {
                            let item = Item::of(letter, Fate::WouldReplay);
                            let id = letter.lineage();
                            let id = id.message_id(self.source.name(), letter.number, count);
                            Item { replayed_as: Some(id), replay_count: Some(count), ..item }
                        }
                    },
                };
                self.report(self.with_part(item).await);
            }));
        }
        futures::stream::iter(looks).buffer_unordered(READS_IN_FLIGHT_MAX).collect::<()>().await;
        for &number in plan.wanted.iter().filter(|number| !self.items().contains_key(number)) {
            let why = "it lies too deep in the poison queue to be seen";
            self.report(Item::new(number, Fate::Locked).because(why));
        }
    }

    /// The item with what the order says, if the store answers.
    async fn with_part(&self, mut item: Item) -> Item {
        if let Some(order_id) = item.order_id
            && let Ok(Some(order)) = self.api.store.read(order_id).await
        {
            let service = self.source.service();
            item.part = Some(order.value.status[service]);
            item.reopened = item.outcome == Fate::WouldReplay
                && order.value.status[service] == Status::DeadLettered;
            item.fault_removed = item.reopened
                && self.order.without_fault
                && order.value.faults.contains_key(&service);
            item.detail = item.detail.or_else(|| nothing_to_do(item.part));
        }
        item
    }

    async fn replay(&self, letter: &Letter, held: &Held<'_>) -> Item {
        let ops = &self.api.ops;
        let count = match self.admit(letter) {
            Ok(count) => count,
            Err(refused) => {
                held.release().await;
                return refused;
            }
        };
        ops.pace.turn().await;
        let message = letter.replay(self.source, count, self.order.edited.as_deref());
        let mut entry = self.entry(letter);
        entry.replayed_as.clone_from(&message.message_id);
        entry.edited = self.order.edited.is_some();
        let item = Item {
            replayed_as: message.message_id.clone(),
            replay_count: Some(count),
            ..Item::of(letter, Fate::Replayed)
        };
        let item = match self.begin(&entry, item, held).await {
            Ok(item) => item,
            Err(ended) => return ended,
        };
        let item = match self.reopen(item).await {
            Ok(item) => item,
            Err(failed) => return self.give_up(entry, failed, held).await,
        };
        crash::point("ops.before-send").await;
        if let Err(error) = ops.topic.send(&message).await {
            let failed = item.ends(Fate::Failed).because(chain(&error));
            return self.give_up(entry, failed, held).await;
        }
        crash::point("ops.after-send").await;
        self.mark(&entry, Outcome::Sent, None).await;
        crash::point("ops.after-mark").await;
        self.remove(&entry, item, held, None).await
    }

    async fn discard(&self, letter: &Letter, held: &Held<'_>) -> Item {
        let entry = self.entry(letter);
        let item = Item::of(letter, Fate::Discarded);
        match self.begin(&entry, item, held).await {
            Ok(item) => self.remove(&entry, item, held, None).await,
            Err(ended) => ended,
        }
    }

    fn entry(&self, letter: &Letter) -> AuditEntry {
        // A message without a time has been enqueued at some time all the same.
        let epoch = Timestamp::new(time::OffsetDateTime::UNIX_EPOCH);
        AuditEntry::of_letter(&self.subject(letter), letter.enqueued_at.unwrap_or(epoch))
    }

    /// Writes down that it is begun; the item as it ends if there is nothing left to begin.
    async fn begin(&self, entry: &AuditEntry, item: Item, held: &Held<'_>) -> Result<Item, Item> {
        let ended = match self.api.ops.audit.begin(entry).await {
            Ok(Begun::Ours) => return Ok(item),
            Ok(Begun::Sent(earlier)) => {
                let item = item.ends(Fate::Finished).because(told(&earlier));
                return Err(self.remove(&earlier, item, held, Some(&self.actor)).await);
            }
            Ok(Begun::Done(earlier)) => item.ends(already(&earlier)).because(told(&earlier)),
            Ok(Begun::Busy(earlier)) => item.ends(Fate::InProgress).because(told(&earlier)),
            Err(error) => {
                warn!(error = %chain(&error), "nothing is done that is not written down");
                item.ends(Fate::Failed).because("the audit trail did not answer")
            }
        };
        held.release().await;
        Err(ended)
    }

    /// Puts the order's part back to pending, if it was given up on.
    async fn reopen(&self, mut item: Item) -> Result<Item, Item> {
        let Some(order_id) = item.order_id else { return Ok(item) };
        let service = self.source.service();
        let document = match self.api.store.read(order_id).await {
            Ok(Some(document)) => document,
            Ok(None) => return Ok(item.because("there is no such order")),
            Err(error) => return Err(item.ends(Fate::Failed).because(chain(&error))),
        };
        let order = document.value;
        let part = order.status[service];
        item.part = Some(part);
        if part != Status::DeadLettered {
            item.detail = nothing_to_do(item.part);
            return Ok(item);
        }
        let without_fault = self.order.without_fault;
        let change = saga::reopen(&order, service, clock::now(), without_fault);
        match self.api.store.apply(order_id, &change).await {
            Ok(Moved::Applied(_)) => {
                item.reopened = true;
                item.fault_removed = without_fault && order.faults.contains_key(&service);
                Ok(item)
            }
            // Somebody else moved it on in the meantime.
            Ok(Moved::Refused | Moved::Missing) => Ok(item),
            Err(error) => Err(item.ends(Fate::Failed).because(chain(&error))),
        }
    }

    async fn give_up(&self, mut entry: AuditEntry, failed: Item, held: &Held<'_>) -> Item {
        entry.detail.clone_from(&failed.detail);
        warn!(
            sequence_number = failed.sequence_number,
            detail = failed.detail,
            "a dead letter could not be replayed"
        );
        self.mark(&entry, Outcome::Failed, None).await;
        held.release().await;
        failed
    }

    /// Removes the letter, which is the end of it.
    async fn remove(
        &self,
        entry: &AuditEntry,
        item: Item,
        held: &Held<'_>,
        finished_by: Option<&str>,
    ) -> Item {
        if let Err(error) = held.complete().await {
            warn!(sequence_number = item.sequence_number, error = %chain(&error),
                "a dead letter could not be removed");
            let outcome = match self.action {
                Action::Replay => Fate::Sent,
                Action::Discard => Fate::Failed,
            };
            return item.ends(outcome).because("it could not be removed; ask once more");
        }
        crash::point("ops.after-complete").await;
        let outcome = match self.action {
            Action::Replay => Outcome::Replayed,
            Action::Discard => Outcome::Discarded,
        };
        self.mark(entry, outcome, finished_by).await;
        info!(
            actor = self.actor,
            action = self.action.as_str(),
            source = self.source.name(),
            sequence_number = item.sequence_number,
            message.id = item.message_id,
            order.id = item.order_id.map(tracing::field::display),
            reason = self.order.reason,
            replayed_as = item.replayed_as,
            "dead letter {}",
            outcome_word(outcome)
        );
        item
    }

    /// Notes how far it came. If that fails, the next look at the letter finds out.
    async fn mark(&self, entry: &AuditEntry, outcome: Outcome, finished_by: Option<&str>) {
        if let Err(error) = self.api.ops.audit.mark(entry, outcome, finished_by).await {
            error!(error = %chain(&error), entry = entry.id, ?outcome,
                "the audit trail is behind what was done");
        }
    }

    /// A letter that did not come by: why.
    async fn report_absent(&self, number: i64) -> Result<(), Problem> {
        let api = &self.api;
        let found = api.ops.shelf(self.source).find(number).await;
        if let Some(letter) = found.map_err(|error| shelf_problem(&error))? {
            let why = match letter.deferred {
                true => "another tool has deferred it and holds it right now",
                false => "another search or tool holds it, or too many lie before it",
            };
            self.report(Item::of(&letter, Fate::Locked).because(why));
            return Ok(());
        }
        let entries = api.ops.audit.of_letter(self.source.name(), number).await;
        let entries = entries.map_err(|error| store_problem(&error))?;
        let told_of = entries.iter().find(|entry| {
            matches!(entry.outcome, Outcome::Sent | Outcome::Replayed | Outcome::Discarded)
        });
        let item = match told_of {
            Some(entry) => {
                if entry.outcome == Outcome::Sent && !self.order.dry_run {
                    // The crash came after the letter was removed: only the last note is missing.
                    self.mark(entry, Outcome::Replayed, Some(&self.actor)).await;
                }
                Item::new(number, already(entry)).because(told(entry))
            }
            None => Item::new(number, Fate::Gone),
        };
        self.report(item);
        Ok(())
    }

    /// What was not done is written down as well.
    async fn note_refusals(&self, items: &[Item]) {
        let refused = items.iter().filter(|item| {
            !matches!(
                item.outcome,
                Fate::Replayed
                    | Fate::Finished
                    | Fate::Sent
                    | Fate::Discarded
                    // Its own record says so.
                    | Fate::Failed
            )
        });
        // A single one is answered by a problem, which is written down by the caller.
        let refused = refused.filter(|_| self.order.single().is_none());
        let mut notes: Vec<BoxFuture<'_, ()>> = Vec::new();
        for item in refused {
            notes.push(Box::pin(async move {
                let subject = Subject {
                    action: self.action.into(),
                    actor: &self.actor,
                    reason: &self.order.reason,
                    source: self.source.name(),
                    sequence_number: Some(item.sequence_number),
                    message_id: item.message_id.as_deref(),
                    order_id: item.order_id.map(|order_id| order_id.to_string()),
                };
                let outcome = serde_json::to_value(item.outcome).unwrap_or_default();
                let detail = item.detail.as_deref().unwrap_or_default();
                let detail = format!("{}: {detail}", outcome.as_str().unwrap_or_default());
                note(&self.api, &AuditEntry::refused(&subject, &detail)).await;
            }));
        }
        futures::stream::iter(notes).buffer_unordered(NOTES_IN_FLIGHT_MAX).collect::<()>().await;
    }
}

fn outcome_word(outcome: Outcome) -> &'static str {
    if outcome == Outcome::Replayed { "replayed" } else { "discarded" }
}
