//! What the log says about the store: that it is there, and once per outage that it is not.

use std::sync::{Arc, Mutex, PoisonError};

use crate::bindings::Function;
use crate::config::cosmos::CosmosDbTrigger;
use crate::log::{Level, Logger, category};

/// Shared by everything that speaks to the store for one function.
pub(super) struct Link {
    log: Logger,
    /// What is read, and for whom.
    source: String,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Untried,
    Up,
    Down,
}

impl Link {
    pub(super) fn new(log: Logger, function: &Function, trigger: &CosmosDbTrigger) -> Arc<Self> {
        let account = &trigger.monitored.account;
        let source = format!(
            "{} at {} (setting {}) for function '{}'",
            trigger.monitored, account.authority, account.setting, function.name
        );
        Arc::new(Self { log, source, state: Mutex::new(State::Untried) })
    }

    /// The store has answered as it should.
    pub(super) fn up(&self) {
        if self.becomes(State::Up) {
            self.line(Level::Information, format!("Reading changes of {}.", self.source));
        }
    }

    /// It has not.
    pub(super) fn down(&self, why: &str) {
        if self.becomes(State::Down) {
            let text = format!(
                "Not reading changes of {}: {why}. Trying again until the store is there.",
                self.source
            );
            self.line(Level::Warning, text);
        }
    }

    pub(super) fn line(&self, level: Level, text: String) {
        self.log.line(level, category::COSMOS_DB, text);
    }

    fn becomes(&self, state: State) -> bool {
        let mut current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::replace(&mut *current, state) != state
    }
}
