//! Subscription rules: a filter, and perhaps an action on what passes it.

use super::time::Timestamp;
use crate::filter::{Action, Change, EvalError, Filter, Properties};

/// A named rule.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rule {
    pub(crate) name: String,
    pub(crate) filter: Filter,
    pub(crate) action: Option<Action>,
    pub(crate) created_at: Timestamp,
}

impl Rule {
    /// The rule of a subscription for which none is declared: every message.
    pub(crate) fn default_rule() -> Rule {
        Rule {
            name: "$Default".into(),
            filter: Filter::True,
            action: None,
            created_at: Timestamp::from_millis(0),
        }
    }

    /// Whether deciding needs the message's properties.
    pub(crate) fn reads_message(&self) -> bool {
        self.filter.reads_message() || self.action.is_some()
    }
}

/// Which copies of a message a subscription gets.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Verdict {
    /// One copy as it came: some rule without action matched.
    pub(crate) plain: bool,
    /// One more copy per matching rule with an action: the changes and the rule's name.
    pub(crate) changed: Vec<(Vec<Change>, String)>,
}

/// Applies all rules of a subscription.
pub(crate) fn judge<'a>(
    rules: impl Iterator<Item = &'a Rule>,
    properties: &dyn Properties,
) -> Result<Verdict, EvalError> {
    let mut verdict = Verdict::default();
    for rule in rules {
        match &rule.action {
            None if verdict.plain => {}
            None => verdict.plain = rule.filter.matches(properties)?,
            Some(action) => {
                if rule.filter.matches(properties)? {
                    verdict.changed.push((action.changes(properties)?, rule.name.clone()));
                }
            }
        }
    }
    Ok(verdict)
}
