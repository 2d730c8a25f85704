//! Faults on order: refusals that the real service gives under load, and answers that get lost.

use std::sync::{Mutex, PoisonError};

use http::StatusCode;
use serde::{Deserialize, Serialize};

use super::reply::{RETRY_WITH, Refusal};
use super::request::Request;
use crate::limits::MAX_FAULT_RULES;

/// The rules; the first that matches a request decides.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Vec<Rule>>);

/// When to misbehave, and how.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Rule {
    /// Only requests with this method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    /// Only requests whose path contains this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    /// How often; without it until the rules are replaced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    times: Option<u32>,
    /// What happens.
    fault: Fault,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase",
    deny_unknown_fields
)]
pub(super) enum Fault {
    /// It is refused and nothing is done.
    Refuse {
        /// 408, 429, 449 or 503.
        status: u16,
        /// Sent as `x-ms-retry-after-ms` with 429 and 449.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    },
    /// It is carried out, and the connection closes without an answer.
    Drop,
}

impl Faults {
    pub(super) fn rules(&self) -> Vec<Rule> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Replaces all rules.
    pub(super) fn set(&self, rules: Vec<Rule>) -> Result<(), Refusal> {
        if rules.len() > MAX_FAULT_RULES {
            return Err(Refusal::bad(format!("at most {MAX_FAULT_RULES} rules")));
        }
        let known = |rule: &Rule| match rule.fault {
            Fault::Refuse { status, .. } => [408, 429, RETRY_WITH, 503].contains(&status),
            Fault::Drop => true,
        };
        if !rules.iter().all(known) {
            return Err(Refusal::bad("a status to refuse with is 408, 429, 449 or 503"));
        }
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = rules;
        Ok(())
    }

    /// What happens to this request; counts it.
    pub(super) fn take(&self, request: &Request) -> Option<Fault> {
        let mut rules = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let path = request.segments.join("/");
        let rule = rules.iter_mut().find(|rule| {
            let method = rule.method.as_deref();
            method.is_none_or(|method| request.method.as_str().eq_ignore_ascii_case(method))
                && rule.path.as_deref().is_none_or(|part| path.contains(part.trim_matches('/')))
                && rule.times != Some(0)
        })?;
        rule.times = rule.times.map(|times| times - 1);
        Some(rule.fault.clone())
    }
}

/// The refusal that a fault of this status is.
pub(super) fn refusal(status: u16, retry_after_ms: Option<u64>) -> Refusal {
    let (substatus, message) = match status {
        408 => (0, "The request timed out."),
        429 => (3200, "The request rate is too large. Retry after the time given."),
        RETRY_WITH => (0, "Conflicting request to the resource. Retry the request."),
        _ => (0, "The service is currently unavailable. Retry the request."),
    };
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
    let mut refusal = Refusal::new(status, substatus, message);
    refusal.retry_after_ms = match status.as_u16() {
        429 | RETRY_WITH => Some(retry_after_ms.unwrap_or(DEFAULT_RETRY_AFTER_MS)),
        _ => None,
    };
    refusal
}

/// Milliseconds after which clients are told to come again unless a rule says otherwise.
const DEFAULT_RETRY_AFTER_MS: u64 = 10;
