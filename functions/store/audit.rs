//! The audit trail: who did what to which dead letter, when, why, and what came of it; who made which
//! experiment; and who was refused.
//!
//! An action on a dead letter has one record, whose id follows from the letter; it is created
//! before anything is done, so it is the lock as well: of two operators one creates it and the
//! other finds it. The record tells how far the action came, so that a crash in the middle is
//! finished instead of repeated. It lies in the partition of the day on which the message was
//! enqueued, which both find out by themselves; everything else (refusals) lies under the day on
//! which it happened. Entries expire with the container's time to live.

use azure::cosmos::{Container, Document, ETag, Patch, Query, Scope, StoreError, literal};
use orders::Timestamp;
use serde::{Deserialize, Serialize};

use super::OrderStore;
use crate::clock;

/// What stands beside an outcome that nobody knows.
const NO_END: &str =
    "its end was not written down: the process that did it ended, or the store stayed away";

/// How long an action that has begun is left alone before somebody else may take it over: longer
/// than the broker and the store together may take for one message.
const LEASE_MS: i64 = 15_000;

/// Tries of beginning: each lost one means that somebody else has just moved.
const BEGIN_TRIES_MAX: u32 = 4;

/// What an operator can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Send the message again, to the subscription it was dead-lettered in.
    Replay,
    /// Remove it.
    Discard,
}

/// What an entry tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Deed {
    /// [`Action::Replay`].
    Replay,
    /// [`Action::Discard`].
    Discard,
    /// An event was delivered twice on purpose.
    Duplicate,
    /// A switch of the local stack was moved: a process killed or paused, a bank told to misbehave.
    Local,
    /// A request that was refused because of who asked.
    Access,
}

impl From<Action> for Deed {
    fn from(action: Action) -> Self {
        match action {
            Action::Replay => Self::Replay,
            Action::Discard => Self::Discard,
        }
    }
}

impl Action {
    /// The text form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Deed::from(self).as_str()
    }
}

impl Deed {
    /// The text form.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Discard => "discard",
            Self::Duplicate => "duplicate",
            Self::Local => "local",
            Self::Access => "access",
        }
    }
}

/// How far an action came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Begun; nothing is known of its end.
    Begun,
    /// The replay is on the topic, the dead letter still there.
    Sent,
    /// Replayed, and the dead letter gone.
    Replayed,
    /// Discarded.
    Discarded,
    /// Done, whatever else it was.
    Done,
    /// Something did not answer; a dead letter is still there.
    Failed,
    /// Not begun: `detail` says why.
    Refused,
    /// Begun, and its end was never written down. Never stored: it is what [`AuditEntry::as_told`]
    /// makes of the first when nobody can be at it any more.
    Unknown,
}

impl Outcome {
    fn as_str(self) -> &'static str {
        match self {
            Self::Begun => "begun",
            Self::Sent => "sent",
            Self::Replayed => "replayed",
            Self::Discarded => "discarded",
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// One line of the audit trail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AuditEntry {
    /// Document id.
    pub id: String,
    /// Partition key.
    pub day: String,
    /// When it happened.
    pub at: Timestamp,
    /// Unique and ascending in time; pages continue after it.
    pub sort_key: String,
    /// Who.
    pub actor: String,
    /// What.
    pub action: Deed,
    /// Where the dead letter was; as the client wrote it when there is no such place. Of a duplicate
    /// the topic, of a switch its path, of a refused request its method and route.
    pub source: String,
    /// Which one; `None` for a refused selection.
    pub sequence_number: Option<i64>,
    /// The message's own id.
    pub message_id: Option<String>,
    /// The order it is about.
    pub order_id: Option<String>,
    /// The operator's reason.
    pub reason: String,
    /// What came of it.
    pub outcome: Outcome,
    /// More about the outcome.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// Id of the replay, or of the duplicate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed_as: Option<String>,
    /// Whether an edited body took the place of the original.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub edited: bool,
    /// Who completed what somebody else had begun.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_by: Option<String>,
    /// How many requests like the entry before it this one stands for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// The trace under which a refused request is logged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Whose attempt it is: unique to the request.
    pub owner: String,
    /// Until when nobody else may take it over, in milliseconds since the Unix epoch.
    pub lease_until: i64,
}

/// What an entry is about.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    /// What is done.
    pub action: Deed,
    /// Who does it.
    pub actor: &'a str,
    /// Why.
    pub reason: &'a str,
    /// Where; see [`AuditEntry::source`].
    pub source: &'a str,
    /// Which one.
    pub sequence_number: Option<i64>,
    /// The message's own id.
    pub message_id: Option<&'a str>,
    /// The order it is about.
    pub order_id: Option<String>,
}

impl AuditEntry {
    /// The record of an action on the dead letter that was enqueued at `enqueued_at`.
    #[must_use]
    pub fn of_letter(subject: &Subject<'_>, enqueued_at: Timestamp) -> Self {
        let Subject { action, source, sequence_number, .. } = subject;
        let number = sequence_number.unwrap_or_default();
        let id = format!("{}:{source}:{number}", action.as_str());
        Self::new(subject, id, day(enqueued_at), Outcome::Begun, None)
    }

    /// The record of something that may be done again and again.
    #[must_use]
    pub fn of_deed(subject: &Subject<'_>) -> Self {
        let id = format!("{}:{}", subject.action.as_str(), uuid::Uuid::now_v7());
        Self::new(subject, id, day(clock::now()), Outcome::Begun, None)
    }

    /// The record of something that was refused.
    #[must_use]
    pub fn refused(subject: &Subject<'_>, detail: &str) -> Self {
        let id = format!("refused:{}", uuid::Uuid::now_v7());
        let detail = detail.chars().take(orders::limits::ERROR_CHARS_MAX).collect();
        Self::new(subject, id, day(clock::now()), Outcome::Refused, Some(detail))
    }

    /// The entry as it is told at `now`: what has begun, and can have nobody at it any more, came to
    /// an end that is not known.
    #[must_use]
    pub fn as_told(mut self, now: Timestamp) -> Self {
        if self.outcome == Outcome::Begun && self.lease_until < now.epoch_ms() {
            self.outcome = Outcome::Unknown;
            self.detail.get_or_insert_with(|| NO_END.to_owned());
        }
        self
    }

    fn new(
        subject: &Subject<'_>,
        id: String,
        day: String,
        outcome: Outcome,
        detail: Option<String>,
    ) -> Self {
        let at = clock::now();
        Self {
            sort_key: format!("{at}~{id}"),
            id,
            day,
            at,
            actor: subject.actor.to_owned(),
            action: subject.action,
            source: subject.source.to_owned(),
            sequence_number: subject.sequence_number,
            message_id: subject.message_id.map(str::to_owned),
            order_id: subject.order_id.clone(),
            reason: subject.reason.to_owned(),
            outcome,
            detail,
            replayed_as: None,
            edited: false,
            finished_by: None,
            count: None,
            trace_id: None,
            owner: uuid::Uuid::new_v4().to_string(),
            lease_until: at.epoch_ms() + LEASE_MS,
        }
    }
}

/// What became of beginning an action.
#[derive(Debug)]
pub enum Begun {
    /// It is ours.
    Ours,
    /// The replay is on the topic already; only the dead letter is left to be removed.
    Sent(Box<AuditEntry>),
    /// It is done.
    Done(Box<AuditEntry>),
    /// Somebody else is at it.
    Busy(Box<AuditEntry>),
}

/// The container `audit`.
#[derive(Clone, Debug)]
pub struct Audit {
    container: Container,
}

impl OrderStore {
    /// The audit trail beside the orders.
    #[must_use]
    pub fn audit(&self) -> Audit {
        Audit { container: self.store.container("audit") }
    }
}

impl Audit {
    /// Begins an action, unless it was begun before.
    ///
    /// # Errors
    /// The store did not answer: nothing may be done then.
    pub async fn begin(&self, entry: &AuditEntry) -> Result<Begun, StoreError> {
        for _ in 0..BEGIN_TRIES_MAX {
            match self.container.create(&entry.day, entry).await {
                Ok(_) => return Ok(Begun::Ours),
                Err(StoreError::Conflict) => {}
                // Settled by looking.
                Err(error) if error.may_have_been_applied() => {}
                Err(error) => return Err(error),
            }
            let Some(Document { value: found, etag }) = self.read(entry).await? else { continue };
            let same_message = found.message_id == entry.message_id;
            match found.outcome {
                _ if found.owner == entry.owner => return Ok(Begun::Ours),
                Outcome::Sent if same_message => return Ok(Begun::Sent(Box::new(found))),
                Outcome::Replayed | Outcome::Discarded if same_message => {
                    return Ok(Begun::Done(Box::new(found)));
                }
                Outcome::Begun if found.lease_until >= entry.at.epoch_ms() => {
                    return Ok(Begun::Busy(Box::new(found)));
                }
                // Given up by whoever began it, or the number belongs to another message: the
                // entity was deleted and made again.
                _ => match self.replace(entry, &etag).await {
                    Ok(()) => return Ok(Begun::Ours),
                    Err(StoreError::PreconditionFailed | StoreError::ItemNotFound) => {}
                    Err(error) if error.may_have_been_applied() => {}
                    Err(error) => return Err(error),
                },
            }
        }
        Err(StoreError::Contended)
    }

    async fn read(&self, entry: &AuditEntry) -> Result<Option<Document<AuditEntry>>, StoreError> {
        self.container.read(&entry.day, &entry.id).await
    }

    async fn replace(&self, entry: &AuditEntry, etag: &ETag) -> Result<(), StoreError> {
        self.container.replace(&entry.day, &entry.id, entry, Some(etag)).await.map(drop)
    }

    /// Notes how far the action of `entry` came. Only its owner can, so that who was taken over
    /// writes nothing any more.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn mark(
        &self,
        entry: &AuditEntry,
        outcome: Outcome,
        finished_by: Option<&str>,
    ) -> Result<(), StoreError> {
        let mut patch = Patch::new().set("/outcome", outcome.as_str());
        if let Some(replayed_as) = &entry.replayed_as {
            patch = patch.set("/replayedAs", replayed_as.as_str()).set("/edited", entry.edited);
        }
        if let Some(detail) = &entry.detail {
            patch = patch.set("/detail", detail.as_str());
        }
        if let Some(actor) = finished_by {
            patch = patch.set("/finishedBy", actor);
        }
        let owner = literal(&entry.owner);
        let patch = patch.when(format!("FROM c WHERE c.owner = {owner}"));
        self.container.patch::<serde::de::IgnoredAny>(&entry.day, &entry.id, &patch).await.map(drop)
    }

    /// Writes an entry that locks nothing.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn note(&self, entry: &AuditEntry) -> Result<(), StoreError> {
        match self.container.create(&entry.day, entry).await {
            Ok(_) | Err(StoreError::Conflict) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// What was done to a dead letter that is not there any more, newest first.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn of_letter(
        &self,
        source: &str,
        sequence_number: i64,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        /// A letter has a record per action, and a refusal per attempt: the newest tell.
        const ENTRIES_MAX: usize = 20;
        let query = Query::new(format!(
            "SELECT TOP {ENTRIES_MAX} * FROM c WHERE c.source = @source \
             AND c.sequenceNumber = @number ORDER BY c.sortKey DESC"
        ))
        .with("@source", source)
        .with("@number", sequence_number);
        self.container.query(&query, Scope::All, ENTRIES_MAX).await
    }

    /// At most `limit` entries, newest first, continuing after the one whose sort key is `after`.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn newest(
        &self,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Vec<AuditEntry>, StoreError> {
        let query = match after {
            None => Query::new(format!("SELECT TOP {limit} * FROM c ORDER BY c.sortKey DESC")),
            Some(after) => Query::new(format!(
                "SELECT TOP {limit} * FROM c WHERE c.sortKey < @after ORDER BY c.sortKey DESC"
            ))
            .with("@after", after),
        };
        self.container.query(&query, Scope::All, limit).await
    }
}

/// The date of a point in time.
fn day(at: Timestamp) -> String {
    at.to_string().chars().take("2026-03-01".len()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_of_an_action_is_found_again_by_whoever_sees_the_letter() {
        let subject = Subject {
            action: Deed::Replay,
            actor: "a",
            reason: "fixed",
            source: "billing-sub",
            sequence_number: Some(7),
            message_id: Some("m"),
            order_id: None,
        };
        let enqueued = Timestamp::parse("2026-03-01T23:59:59Z").unwrap();
        let [one, two] = [(); 2].map(|()| AuditEntry::of_letter(&subject, enqueued));
        assert_eq!((one.id.as_str(), one.day.as_str()), ("replay:billing-sub:7", "2026-03-01"));
        assert_eq!((&one.id, &one.day), (&two.id, &two.day));
        assert_ne!(one.owner, two.owner);
        let begun = || one.clone();
        assert_eq!(begun().as_told(one.at), one, "somebody may be at it");
        let after = one.at.plus_ms(LEASE_MS + 1);
        let told = begun().as_told(after);
        assert_eq!((told.outcome, told.detail.as_deref()), (Outcome::Unknown, Some(NO_END)));
        let done = AuditEntry { outcome: Outcome::Done, ..begun() };
        assert_eq!(done.clone().as_told(after), done);
        let refused = [(); 2].map(|()| AuditEntry::refused(&subject, &"x".repeat(2_000)));
        assert_ne!(refused[0].id, refused[1].id);
        assert_eq!(refused[0].detail.as_ref().map(String::len), Some(512));
        let stored = serde_json::to_value(&one).unwrap();
        assert_eq!(serde_json::from_value::<AuditEntry>(stored).unwrap(), one);
    }
}
