//! The `Executing` and `Executed` lines of one invocation, in the words of the Azure host.

use std::borrow::Cow;
use std::sync::Arc;

use tokio::time::Instant;
use uuid::Uuid;

use crate::log::{Level, Logger};

/// Why an invocation took place, as the host words it.
pub(crate) mod reason {
    /// HTTP calls and the admin endpoint.
    pub(crate) const HOST_API: &str =
        "This function was programmatically called via the host APIs.";
    /// Message triggers.
    pub(crate) const NONE: &str = "(null)";
}

/// One running invocation. Dropped without an end, it counts as cancelled.
pub(crate) struct Record {
    log: Logger,
    function: Arc<str>,
    id: Uuid,
    started: Instant,
    ended: bool,
}

impl Record {
    /// Logs `Executing`.
    pub(crate) fn start(
        log: Logger,
        function: Arc<str>,
        reason: &str,
        details: Option<&str>,
    ) -> Self {
        let id = Uuid::new_v4();
        let record = Self { log, function, id, started: Instant::now(), ended: false };
        let name = &record.function;
        record.line(
            Level::Information,
            "",
            format!("Executing 'Functions.{name}' (Reason='{reason}', Id={id})"),
        );
        if let Some(details) = details {
            record.line(Level::Information, "", format!("Trigger Details: {details}"));
        }
        record
    }

    pub(crate) fn id(&self) -> Uuid {
        self.id
    }

    pub(crate) fn function(&self) -> &str {
        &self.function
    }

    /// A line of the function itself.
    pub(crate) fn user(&self, text: String) {
        self.line(Level::Information, ".User", text);
    }

    /// A line of the host about this invocation.
    pub(crate) fn note(&self, level: Level, text: String) {
        self.line(level, "", text);
    }

    pub(crate) fn succeeded(mut self) {
        self.ended = true;
        self.executed(Level::Information, "Succeeded", "");
    }

    pub(crate) fn failed(mut self, why: &str) {
        self.ended = true;
        self.executed(Level::Error, "Failed", why);
    }

    fn executed(&self, level: Level, result: &str, why: &str) {
        let (name, id, duration) = (&self.function, self.id, self.started.elapsed().as_millis());
        let mut text =
            format!("Executed 'Functions.{name}' ({result}, Id={id}, Duration={duration}ms)");
        if !why.is_empty() {
            text.push('\n');
            text.push_str(why);
        }
        self.line(level, "", text);
    }

    fn line(&self, level: Level, suffix: &str, text: String) {
        let category = format!("Function.{}{suffix}", self.function);
        let function = Some(Arc::clone(&self.function));
        self.log.emit(level, Cow::Owned(category), function, Some(self.id), text);
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.ended {
            self.executed(
                Level::Warning,
                "Failed",
                "Cancelled: the caller went away, or the host is stopping.",
            );
        }
    }
}
