//! Log lines of the host, with the categories and texts of the Azure Functions host.
//!
//! Nothing is printed here: the caller passes a sink, so that several hosts can share a terminal.

use std::borrow::Cow;
use std::sync::Arc;

use time::OffsetDateTime;
use uuid::Uuid;

use crate::clock::Clock;
use crate::edges::{Edges, Said};

/// Receives every log line of one host, in order per task. It must not block.
pub type LogSink = Arc<dyn Fn(LogLine) + Send + Sync>;

/// Severity, named as the Azure Functions host names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Of interest only when something else looks wrong.
    Debug,
    /// Normal operation.
    Information,
    /// Something that works now but will not somewhere else, or not for long.
    Warning,
    /// Something failed.
    Error,
}

/// One line of the host's log.
#[derive(Debug, Clone)]
pub struct LogLine {
    /// When it happened, in UTC.
    pub time: OffsetDateTime,
    /// How bad it is.
    pub level: Level,
    /// The logger, e.g. `Host.Startup`, `Function.charge`, `Host.Function.Console`.
    pub category: Cow<'static, str>,
    /// The function the line belongs to, if it belongs to one.
    pub function: Option<Arc<str>>,
    /// The invocation the line belongs to, if it belongs to one.
    pub invocation_id: Option<Uuid>,
    /// What happened. May hold several lines.
    pub text: String,
}

/// The categories of lines that belong to no function.
pub(crate) mod category {
    pub(crate) const STARTUP: &str = "Host.Startup";
    pub(crate) const GENERAL: &str = "Host.General";
    pub(crate) const SHARP_EDGE: &str = "Host.SharpEdge";
    pub(crate) const CONSOLE: &str = "Host.Function.Console";
    pub(crate) const TOOLING: &str = "Host.Function.ToolingConsoleLog";
    pub(crate) const WORKER: &str = "Host.Worker.Http";
    pub(crate) const COSMOS_DB: &str = "Host.Triggers.CosmosDB";
    pub(crate) const SERVICE_BUS: &str = "Host.Triggers.ServiceBus";
    pub(crate) const QUEUES: &str = "Host.Triggers.Queues";
    pub(crate) const TIMER: &str = "Host.Triggers.Timer";
}

/// The sink together with the clock that stamps its lines.
#[derive(Clone)]
pub(crate) struct Logger {
    sink: LogSink,
    clock: Clock,
    edges: Edges,
}

impl Logger {
    pub(crate) fn new(sink: LogSink, clock: Clock) -> Self {
        Self { sink, clock, edges: Edges::default() }
    }

    pub(crate) fn now(&self) -> OffsetDateTime {
        (self.clock)()
    }

    pub(crate) fn clock(&self) -> Clock {
        Arc::clone(&self.clock)
    }

    pub(crate) fn line(&self, level: Level, category: &'static str, text: impl Into<String>) {
        self.emit(level, Cow::Borrowed(category), None, None, text.into());
    }

    /// Explains what Azure would do without a word: all of it the first time, later only how often
    /// it has come up. `cause` is a sentence without its full stop, and names the function.
    pub(crate) fn sharp_edge(&self, level: Level, cause: &str, text: impl FnOnce() -> String) {
        match self.edges.count(cause) {
            Said::First => {
                let text = format!("{} This is said once, and counted from now on.", text());
                self.line(level, category::SHARP_EDGE, text);
            }
            Said::Again(count) => {
                self.line(level, category::SHARP_EDGE, format!("{cause}: {count} times by now."));
            }
            Said::Nothing => {}
        }
    }

    /// How often each cause of [`Self::sharp_edge`] has come up, if more than once.
    pub(crate) fn sharp_edge_totals(&self) {
        for (cause, count) in self.edges.totals() {
            let text = format!("{cause}: {count} times in all.");
            self.line(Level::Warning, category::SHARP_EDGE, text);
        }
    }

    pub(crate) fn emit(
        &self,
        level: Level,
        category: Cow<'static, str>,
        function: Option<Arc<str>>,
        invocation_id: Option<Uuid>,
        text: String,
    ) {
        (self.sink)(LogLine { time: self.now(), level, category, function, invocation_id, text });
    }
}
