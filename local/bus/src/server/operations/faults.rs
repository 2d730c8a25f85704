//! What goes wrong on purpose, so that clients can be tested against it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::broker::normalise;
use crate::limits::{FAULT_DELAY_MS_MAX, FAULT_RULES_MAX};

/// What a client is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::server) enum Operation {
    /// It sends a message.
    Send,
    /// It gives credit to a receiver.
    Receive,
    /// It settles deliveries.
    Settle,
}

/// What happens instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase")]
pub(in crate::server) enum Mishap {
    /// Refused with `com.microsoft:server-busy`: a send is rejected, a receiver detached.
    ServerBusy,
    /// The link is detached with `amqp:link:detach-forced`.
    Detach,
    /// It happens, and everything said on the connection comes later by so much.
    Slow {
        /// By how much.
        millis: u32,
    },
    /// The connection ends without a word; what was asked for is not done.
    Drop,
}

/// One rule. The first that matches decides.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", try_from = "Declared")]
pub(in crate::server) struct FaultRule {
    #[serde(flatten)]
    fault: Mishap,
    /// On this entity only.
    #[serde(skip_serializing_if = "Option::is_none")]
    entity: Option<String>,
    /// Instead of this operation only.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<Operation>,
    /// So many times; for ever unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    times: Option<u32>,
}

/// A rule as it is written. A misspelt `entity` that is passed over would fail everything.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Declared {
    kind: Kind,
    millis: Option<u32>,
    entity: Option<String>,
    operation: Option<Operation>,
    times: Option<u32>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
enum Kind {
    ServerBusy,
    Detach,
    Slow,
    Drop,
}

impl TryFrom<Declared> for FaultRule {
    type Error = &'static str;

    fn try_from(declared: Declared) -> Result<FaultRule, &'static str> {
        let Declared { kind, millis, entity, operation, times } = declared;
        let fault = match (kind, millis) {
            (Kind::Slow, Some(millis)) => Mishap::Slow { millis },
            (Kind::Slow, None) => return Err("`slow` needs `millis`"),
            (_, Some(_)) => return Err("only `slow` has `millis`"),
            (Kind::ServerBusy, None) => Mishap::ServerBusy,
            (Kind::Detach, None) => Mishap::Detach,
            (Kind::Drop, None) => Mishap::Drop,
        };
        Ok(FaultRule { fault, entity, operation, times })
    }
}

/// Why rules are as they were.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(in crate::server) enum RulesError {
    #[error("there are at most {FAULT_RULES_MAX} rules")]
    TooMany,
    #[error("a delay has at most {FAULT_DELAY_MS_MAX} milliseconds")]
    TooSlow,
}

/// The rules in force.
#[derive(Debug, Default)]
pub(in crate::server) struct Faults {
    /// Whether there are any: looked at before every operation.
    some: AtomicBool,
    rules: Mutex<Vec<FaultRule>>,
}

impl Faults {
    fn lock(&self) -> MutexGuard<'_, Vec<FaultRule>> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn rules(&self) -> Vec<FaultRule> {
        self.lock().clone()
    }

    /// Replaces all rules.
    pub(super) fn set(&self, mut rules: Vec<FaultRule>) -> Result<(), RulesError> {
        if rules.len() > FAULT_RULES_MAX {
            return Err(RulesError::TooMany);
        }
        for rule in &mut rules {
            if matches!(rule.fault, Mishap::Slow { millis } if millis > FAULT_DELAY_MS_MAX) {
                return Err(RulesError::TooSlow);
            }
            rule.entity = rule.entity.as_deref().map(normalise);
        }
        self.some.store(!rules.is_empty(), Ordering::Relaxed);
        *self.lock() = rules;
        Ok(())
    }

    /// What happens to this operation on the entity with this normalised path.
    pub(in crate::server) fn next(&self, operation: Operation, entity: &str) -> Option<Mishap> {
        if !self.some.load(Ordering::Relaxed) {
            return None;
        }
        let mut rules = self.lock();
        let at = rules.iter().position(|rule| {
            rule.times != Some(0)
                && rule.operation.is_none_or(|wanted| wanted == operation)
                && rule.entity.as_deref().is_none_or(|wanted| wanted == entity)
        })?;
        if let Some(times) = &mut rules[at].times {
            *times -= 1;
        }
        Some(rules[at].fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_rule_that_matches_decides_as_often_as_it_says() {
        let faults = Faults::default();
        assert_eq!(faults.next(Operation::Send, "q"), None);
        let rules = serde_json::from_str(
            r#"[{"kind": "serverBusy", "entity": "Q", "operation": "send", "times": 2},
                {"kind": "slow", "millis": 5, "operation": "send"}]"#,
        )
        .unwrap();
        faults.set(rules).unwrap();
        assert_eq!(faults.next(Operation::Receive, "q"), None);
        assert_eq!(faults.next(Operation::Send, "other"), Some(Mishap::Slow { millis: 5 }));
        for expected in [Mishap::ServerBusy, Mishap::ServerBusy, Mishap::Slow { millis: 5 }] {
            assert_eq!(faults.next(Operation::Send, "q"), Some(expected));
        }
        let many = vec![faults.rules()[0].clone(); FAULT_RULES_MAX + 1];
        assert_eq!(faults.set(many), Err(RulesError::TooMany));
        for wrong in [
            r#"{"kind": "explode"}"#,
            r#"{"kind": "drop", "entiti": "q"}"#,
            r#"{"kind": "drop", "millis": 5}"#,
            r#"{"kind": "slow"}"#,
        ] {
            assert!(serde_json::from_str::<FaultRule>(wrong).is_err(), "{wrong}");
        }
    }
}
