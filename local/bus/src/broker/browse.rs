//! What an operator does: peek, delete in bulk, list and change rules.

use std::sync::Arc;

use super::Broker;
use super::body::Body;
use super::receive::Delivery;
use super::record::{QueueId, Record, Removal};
use super::rule::Rule;
use super::time::Timestamp;
use crate::limits::RULES_PER_SUBSCRIPTION_MAX;

/// Why rules are as they were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum RuleError {
    #[error("the rule `{0}` exists already")]
    Exists(String),
    #[error("there is no rule `{0}`")]
    NotFound(String),
    #[error("a subscription has at most {RULES_PER_SUBSCRIPTION_MAX} rules")]
    TooMany,
}

impl Broker {
    /// Messages from a sequence number on, of one session or all, whoever has them, without
    /// touching them.
    pub(crate) fn peek(
        &mut self,
        now: Timestamp,
        queue: QueueId,
        from: i64,
        count: usize,
        session: Option<&str>,
    ) -> Vec<Delivery> {
        self.advance(now);
        self.touch(queue);
        let place = self.queue(queue);
        let wanted =
            |message: &Body| session.is_none_or(|session| message.session_id() == Some(session));
        let messages = place.from(from).filter(|(_, entry)| wanted(&entry.message));
        messages.take(count).filter_map(|(sequence, _)| place.delivery(sequence)).collect()
    }

    /// Deletes up to `count` available messages enqueued no later than `until`, and says how many.
    pub(crate) fn delete_batch(
        &mut self,
        now: Timestamp,
        queue: QueueId,
        count: usize,
        until: Timestamp,
    ) -> usize {
        self.advance(now);
        let place = self.queue(queue);
        let old =
            |sequence: &i64| place.get(*sequence).is_some_and(|entry| entry.enqueued_at <= until);
        let sequences: Vec<i64> = place.available().filter(old).take(count).collect();
        for &sequence in &sequences {
            self.commit(Record::Removed { queue, sequence, removal: Removal::Deleted });
        }
        sequences.len()
    }

    /// The rules of a subscription in the order in which they were added.
    pub(crate) fn rules(&self, queue: QueueId) -> &[Arc<Rule>] {
        &self.queue(queue).rules
    }

    /// Adds a rule; messages already there are not judged again.
    pub(crate) fn add_rule(
        &mut self,
        now: Timestamp,
        queue: QueueId,
        rule: Rule,
    ) -> Result<(), RuleError> {
        self.advance(now);
        self.touch(queue);
        let rules = &self.queue(queue).rules;
        if rules.iter().any(|known| known.name.eq_ignore_ascii_case(&rule.name)) {
            return Err(RuleError::Exists(rule.name));
        }
        if rules.len() >= RULES_PER_SUBSCRIPTION_MAX {
            return Err(RuleError::TooMany);
        }
        let rule = Arc::new(Rule { created_at: self.now, ..rule });
        self.commit(Record::RuleAdded { queue, rule });
        Ok(())
    }

    /// Removes a rule.
    pub(crate) fn remove_rule(
        &mut self,
        now: Timestamp,
        queue: QueueId,
        name: &str,
    ) -> Result<(), RuleError> {
        self.advance(now);
        let mut rules = self.queue(queue).rules.iter();
        let known = rules.find(|rule| rule.name.eq_ignore_ascii_case(name));
        let name = known.ok_or_else(|| RuleError::NotFound(name.to_owned()))?.name.clone();
        self.commit(Record::RuleRemoved { queue, name });
        Ok(())
    }
}
