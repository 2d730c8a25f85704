//! How a test makes the bank misbehave. Rules are matched in order; the first that matches decides.
//!
//! Nothing here knows what a rule is applied to: [`Script::next`] says how to behave, the routes do.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::book::Charge;
use super::limits;

/// Reason of a decline that names none.
pub const INSUFFICIENT_FUNDS: &str = "insufficient_funds";

/// Statuses that a failure may have.
const FAILURES: [u16; 3] = [429, 500, 503];

/// Status of instrument `test-fail-once`.
const FAIL_ONCE: u16 = 503;

/// A script: what `PUT /v1/script` takes and `GET` shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// At most [`limits::RULES_MAX`] rules.
    pub rules: Vec<Rule>,
}

/// One rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Which requests; everything that is named has to be equal.
    #[serde(default, rename = "match")]
    pub matching: Matching,
    /// Which operation.
    #[serde(default)]
    pub operation: Operation,
    /// How many requests are still to come; `null` for all of them.
    #[serde(default)]
    pub times: Option<u32>,
    /// What to do.
    pub behaviour: Behaviour,
}

/// What a request has to be to match. Lookups and cancellations have a reference alone, so that a
/// rule with an instrument or a customer matches charges only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Matching {
    /// Exact reference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reference: Option<String>,
    /// Exact instrument.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instrument: Option<String>,
    /// Exact customer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
}

/// What a caller may ask for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Operation {
    /// `POST /v1/charges`.
    Charge,
    /// `GET /v1/charges/{reference}`.
    Lookup,
    /// `POST /v1/charges/{reference}/cancel`.
    Cancel,
    /// In a rule: each of them.
    #[default]
    Any,
}

/// What the bank does instead of answering at once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub enum Behaviour {
    /// The charge is declined, under its key.
    Decline {
        /// Why; [`INSUFFICIENT_FUNDS`] if nothing is said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// Nothing is done; the answer is this failure.
    Fail {
        /// 429, 500 or 503.
        status: u16,
        /// Value of `Retry-After`, in seconds.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_seconds: Option<u32>,
    },
    /// Done after a delay, whether or not the caller still waits.
    Slow {
        /// The delay, in milliseconds.
        millis: u64,
    },
    /// Done at once, answered after a delay.
    Late {
        /// The delay, in milliseconds.
        millis: u64,
    },
    /// Done, never answered: the connection stays open until the caller closes it, or for
    /// [`limits::SILENCE_MAX`].
    Never {},
    /// Done; then the connection is closed without an answer.
    Lost {},
    /// Not done, and the connection is closed without an answer.
    Down {},
}

/// A script that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("{}{why}", rule.map_or(String::new(), |rule| format!("rule {rule}: ")))]
pub struct InvalidScript {
    /// Which rule, from 1.
    rule: Option<usize>,
    why: String,
}

/// The rules at work, and which references have had their `test-…-once`.
#[derive(Debug, Default)]
pub struct Script {
    rules: Rules,
    once: HashSet<String>,
}

impl Script {
    /// The rules, with what is left of their `times`.
    #[must_use]
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// Puts other rules in place of all that there are.
    ///
    /// # Errors
    /// A rule that could never do what it says.
    pub fn replace(&mut self, rules: Rules) -> Result<(), InvalidScript> {
        if rules.rules.len() > limits::RULES_MAX {
            let why = format!("there may be {} rules at most", limits::RULES_MAX);
            return Err(InvalidScript { rule: None, why });
        }
        for (at, rule) in (1..).zip(&rules.rules) {
            rule.check().map_err(|why| InvalidScript { rule: Some(at), why })?;
        }
        self.rules = rules;
        Ok(())
    }

    /// Remembers that the instrument of a charge has had its effect: what the ledger still tells
    /// of it after a restart.
    pub fn remember(&mut self, charge: &Charge) {
        if once(charge.instrument.as_deref()).is_some() {
            self.spend(&charge.reference);
        }
    }

    /// How to behave on this request; `None` is as it should be. Counts down.
    pub fn next(
        &mut self,
        operation: Operation,
        reference: &str,
        charge: Option<&Charge>,
    ) -> Option<Behaviour> {
        let rule = self.rules.rules.iter_mut().find(|rule| {
            rule.times != Some(0)
                && [Operation::Any, operation].contains(&rule.operation)
                && rule.matching.matches(reference, charge)
        });
        if let Some(rule) = rule {
            rule.times = rule.times.map(|times| times - 1);
            return Some(rule.behaviour.clone());
        }
        let instrument = charge?.instrument.as_deref();
        if instrument == Some("test-decline") {
            return Some(Behaviour::Decline { reason: None });
        }
        let behaviour = once(instrument)?;
        self.spend(reference).then_some(behaviour)
    }

    /// Whether this reference had its turn still to come.
    fn spend(&mut self, reference: &str) -> bool {
        self.once.len() < limits::ONCE_REFERENCES_MAX && self.once.insert(reference.to_owned())
    }
}

/// What an instrument does to the first charge of each reference.
fn once(instrument: Option<&str>) -> Option<Behaviour> {
    Some(match instrument? {
        "test-fail-once" => Behaviour::Fail { status: FAIL_ONCE, retry_after_seconds: None },
        "test-late-once" => Behaviour::Late { millis: limits::LATE_ONCE_MILLIS },
        "test-never-once" => Behaviour::Never {},
        "test-lost-once" => Behaviour::Lost {},
        _ => return None,
    })
}

impl Matching {
    fn matches(&self, reference: &str, charge: Option<&Charge>) -> bool {
        let equal = |wanted: &Option<String>, found: Option<&str>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        equal(&self.reference, Some(reference))
            && equal(&self.instrument, charge.and_then(|charge| charge.instrument.as_deref()))
            && equal(&self.customer, charge.map(|charge| charge.customer.as_str()))
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        let charges_only = self.matching.instrument.is_some() || self.matching.customer.is_some();
        if charges_only && [Operation::Lookup, Operation::Cancel].contains(&self.operation) {
            return Err("only a charge has an instrument and a customer".to_owned());
        }
        match &self.behaviour {
            Behaviour::Decline { .. } if self.operation != Operation::Charge => {
                Err("only operation `charge` can be declined".to_owned())
            }
            Behaviour::Decline { reason: Some(reason) }
                if reason.is_empty() || reason.chars().count() > limits::TEXT_CHARS_MAX =>
            {
                Err(format!("a reason has 1 to {} characters", limits::TEXT_CHARS_MAX))
            }
            Behaviour::Fail { status, .. } if !FAILURES.contains(status) => {
                Err(format!("status has to be one of {FAILURES:?}"))
            }
            Behaviour::Slow { millis } | Behaviour::Late { millis }
                if *millis > limits::DELAY_MILLIS_MAX =>
            {
                Err(format!("a delay is {} ms at most", limits::DELAY_MILLIS_MAX))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn charge(reference: &str, instrument: Option<&str>) -> Charge {
        Charge {
            reference: reference.to_owned(),
            amount_minor: 1,
            currency: "EUR".to_owned(),
            customer: "c-1".to_owned(),
            instrument: instrument.map(str::to_owned),
        }
    }

    fn script(rules: &serde_json::Value) -> Result<Script, InvalidScript> {
        let mut script = Script::default();
        script.replace(serde_json::from_value(json!({ "rules": rules })).unwrap())?;
        Ok(script)
    }

    #[test]
    fn the_first_rule_that_matches_decides_until_it_is_used_up() {
        let mut script = script(&json!([
            {"match": {"reference": "r-1"}, "operation": "charge", "times": 2,
             "behaviour": {"kind": "fail", "status": 503, "retryAfterSeconds": 1}},
            {"match": {"customer": "c-1"}, "operation": "charge", "behaviour": {"kind": "lost"}},
            {"behaviour": {"kind": "slow", "millis": 5}},
        ]))
        .unwrap();
        let charge = charge("r-1", None);
        let mut kinds = Vec::new();
        for _ in 0..3 {
            kinds.push(script.next(Operation::Charge, "r-1", Some(&charge)).unwrap());
        }
        let fail = Behaviour::Fail { status: 503, retry_after_seconds: Some(1) };
        assert_eq!(kinds, [fail.clone(), fail, Behaviour::Lost {}]);
        let slow = Some(Behaviour::Slow { millis: 5 });
        assert_eq!(script.next(Operation::Lookup, "r-1", None), slow);
        assert_eq!(script.next(Operation::Cancel, "r-2", None), slow);
        let left: Vec<_> = script.rules().rules.iter().map(|rule| rule.times).collect();
        assert_eq!(left, [Some(0), None, None]);
        // What is shown can be put back.
        let shown = serde_json::to_value(script.rules()).unwrap();
        assert_eq!(serde_json::from_value::<Rules>(shown).unwrap(), *script.rules());
    }

    #[test]
    fn an_instrument_acts_once_per_reference() {
        let mut script = Script::default();
        let mut next = |reference: &str, instrument: &str| {
            let charge = charge(reference, Some(instrument));
            script.next(Operation::Charge, reference, Some(&charge))
        };
        assert_eq!(next("r-1", "test-lost-once"), Some(Behaviour::Lost {}));
        assert_eq!(next("r-1", "test-lost-once"), None);
        assert_eq!(next("r-2", "test-never-once"), Some(Behaviour::Never {}));
        for _ in 0..2 {
            let decline = Behaviour::Decline { reason: None };
            assert_eq!(next("r-3", "test-decline"), Some(decline));
        }
        assert_eq!(next("r-4", "card"), None);
        script.remember(&charge("r-5", Some("test-late-once")));
        let late = charge("r-5", Some("test-late-once"));
        assert_eq!(script.next(Operation::Charge, "r-5", Some(&late)), None);
    }

    #[test]
    fn a_rule_that_cannot_work_is_refused() {
        let decline = json!({"kind": "decline"});
        for (rule, why) in [
            (json!({"behaviour": decline}), "rule 1: only operation `charge`"),
            (json!({"behaviour": {"kind": "fail", "status": 404}}), "status"),
            (json!({"behaviour": {"kind": "late", "millis": 600_001}}), "600000 ms"),
            (
                json!({"operation": "lookup", "match": {"customer": "c"},
                       "behaviour": {"kind": "down"}}),
                "only a charge",
            ),
        ] {
            let error = script(&json!([rule])).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
        let many = vec![json!({"behaviour": {"kind": "down"}}); limits::RULES_MAX + 1];
        assert!(script(&json!(many)).is_err());
        for unknown in [
            json!({"behaviour": {"kind": "explode"}}),
            json!({"behaviour": {"kind": "down", "millis": 1}}),
            json!({"behaviour": {"kind": "down"}, "time": 1}),
        ] {
            assert!(serde_json::from_value::<Rule>(unknown).is_err());
        }
    }
}
