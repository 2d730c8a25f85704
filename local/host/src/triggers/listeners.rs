//! All listeners of one host, which drain mode stops and starts again.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{Shared, listen, listens};
use crate::bindings::Function;

/// How far a drain is, in the words of `DrainModeManager` of the Azure host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Drain {
    /// Everybody listens.
    Disabled,
    /// Nothing more is taken; what was taken still runs.
    InProgress,
    /// Nothing runs any more.
    Completed,
}

/// The listeners of one host.
pub(crate) struct Listeners {
    shared: Shared,
    functions: Vec<Arc<Function>>,
    /// Ends them for good.
    stop: CancellationToken,
    /// Ends them until they are resumed.
    pause: Mutex<CancellationToken>,
    tasks: TaskTracker,
}

impl Listeners {
    /// Nobody listens before [`Listeners::resume`].
    pub(crate) fn new(
        shared: Shared,
        functions: &[Arc<Function>],
        stop: CancellationToken,
        tasks: TaskTracker,
    ) -> Self {
        let functions = functions.iter().filter(|function| listens(function)).cloned().collect();
        let pause = stop.child_token();
        pause.cancel();
        Self { shared, functions, stop, pause: Mutex::new(pause), tasks }
    }

    /// Everybody listens; nothing happens to those that do already.
    pub(crate) fn resume(&self) {
        let mut pause = self.pause();
        if self.stop.is_cancelled() || !pause.is_cancelled() {
            return;
        }
        *pause = self.stop.child_token();
        for function in &self.functions {
            self.tasks.spawn(listen(self.shared.clone(), Arc::clone(function), pause.clone()));
        }
    }

    /// Nobody takes anything more.
    pub(crate) fn drain(&self) {
        self.pause().cancel();
    }

    /// How far that is.
    pub(crate) fn state(&self) -> Drain {
        match (self.pause().is_cancelled(), self.tasks.is_empty()) {
            (false, _) => Drain::Disabled,
            (true, false) => Drain::InProgress,
            (true, true) => Drain::Completed,
        }
    }

    fn pause(&self) -> MutexGuard<'_, CancellationToken> {
        self.pause.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
