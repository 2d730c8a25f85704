//! The broker as connections share it: one lock, held for one command at a time and never across
//! an await, and the wake-ups that follow from a command.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use journal::{Durable, Failed, Log, Position, WriteTimes};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use super::access::Keys;
use super::clock;
use super::operations::faults::{Faults, Mishap, Operation};
use crate::broker::{Broker, ConnectionId, ReceiverId, Status, Timestamp};
use crate::limits::{
    FRAME_BYTES_MAX, JOURNAL_WAITING_BYTES_MAX, LINKS_PER_SESSION_MAX, SNAPSHOT_AFTER_BYTES,
    UNSETTLED_PER_SESSION_MAX,
};
use crate::storage;

/// How often the length of the journal is looked at. It grows by some ten megabytes meanwhile.
const SNAPSHOT_CHECK_MS: u64 = 500;

/// What all connections share.
pub(crate) struct Hub {
    state: Mutex<State>,
    /// Told when the broker's next deadline has become earlier.
    earlier: Notify,
    /// How far the journal is.
    durable: watch::Receiver<Durable>,
    /// `None` when everything is in memory only.
    log: Option<Arc<Log>>,
    pub(super) keys: Keys,
    pub(super) max_message_bytes: u64,
    pub(super) limits: Limits,
    /// What goes wrong on purpose; `None` where that is not allowed.
    pub(super) faults: Option<Faults>,
}

/// What one connection may use.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) frame_bytes: u32,
    pub(super) links_per_session: usize,
    pub(super) unsettled_per_session: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            frame_bytes: FRAME_BYTES_MAX,
            links_per_session: LINKS_PER_SESSION_MAX,
            unsettled_per_session: UNSETTLED_PER_SESSION_MAX,
        }
    }
}

struct State {
    broker: Broker,
    /// How to tell a connection that one of its receivers has something to fetch.
    connections: HashMap<ConnectionId, Arc<Notify>>,
}

impl Hub {
    pub(super) fn new(
        broker: Broker,
        log: Option<Arc<Log>>,
        keys: Keys,
        max_message_bytes: u64,
    ) -> Hub {
        let state = Mutex::new(State { broker, connections: HashMap::new() });
        let durable = match &log {
            Some(log) => log.durable(),
            // What is in memory is as durable as it will ever be.
            None => watch::channel(Durable { position: Position::MAX, failed: None }).1,
        };
        let (earlier, limits) = (Notify::new(), Limits::default());
        Hub { state, earlier, durable, log, keys, max_message_bytes, limits, faults: None }
    }

    /// With other limits, and with faults where they are allowed.
    pub(super) fn limited(self, limits: Limits, faults: bool) -> Hub {
        Hub { limits, faults: faults.then(Faults::default), ..self }
    }

    /// Why nothing becomes durable any more, if so.
    pub(super) fn failure(&self) -> Option<Failed> {
        self.durable.borrow().failed.clone()
    }

    /// What goes wrong with this operation.
    pub(super) fn fault(&self, operation: Operation, entity: Option<&str>) -> Option<Mishap> {
        self.faults.as_ref()?.next(operation, entity.unwrap_or_default())
    }

    /// How far the journal is durable, for whoever holds answers back until it is.
    pub(super) fn durable(&self) -> watch::Receiver<Durable> {
        self.durable.clone()
    }

    /// Whether so much waits for the disk that nothing more should be taken on.
    pub(super) fn is_congested(&self) -> bool {
        let waiting = self.log.as_ref().map_or(0, |log| log.waiting_bytes());
        waiting > JOURNAL_WAITING_BYTES_MAX
    }

    /// Whether the journal is so long that a snapshot is worth it.
    pub(super) fn is_long(&self) -> bool {
        let Some(log) = &self.log else { return false };
        let live = self.lock().broker.message_bytes();
        log.bytes_since_snapshot() > live.max(SNAPSHOT_AFTER_BYTES)
    }

    /// Writes a snapshot in place of the journal so far. Blocks for as long as that takes.
    pub(super) fn compact(&self) {
        let Some(log) = &self.log else { return };
        let with = |command: &mut dyn FnMut(&mut Broker)| command(&mut self.lock().broker);
        match storage::compact(log, &with) {
            Ok(written) => tracing::debug!(written, "snapshot"),
            Err(error) => tracing::error!(%error, "a snapshot could not be written"),
        }
    }

    /// Registers a connection; the result is notified when it has something to fetch.
    pub(super) fn register(&self, id: ConnectionId) -> Arc<Notify> {
        let notify = Arc::new(Notify::new());
        self.lock().connections.insert(id, Arc::clone(&notify));
        notify
    }

    pub(super) fn deregister(&self, id: ConnectionId) {
        let mut state = self.lock();
        state.connections.remove(&id);
        state.broker.close_connection(id);
    }

    /// The receivers of a connection that have something to fetch.
    pub(super) fn ready(&self, id: ConnectionId) -> Vec<ReceiverId> {
        self.lock().broker.ready(id)
    }

    /// Runs a command. Connections it concerns are woken, except `caller`, which looks by itself
    /// before it waits.
    pub(super) fn with<R>(
        &self,
        caller: Option<ConnectionId>,
        command: impl FnOnce(&mut Broker) -> R,
    ) -> R {
        self.with_position(caller, command).0
    }

    /// As [`with`](Hub::with), and up to where the journal must be durable before anybody outside
    /// is told of the result.
    pub(super) fn with_position<R>(
        &self,
        caller: Option<ConnectionId>,
        command: impl FnOnce(&mut Broker) -> R,
    ) -> (R, Position) {
        let mut state = self.lock();
        let State { broker, connections } = &mut *state;
        let before = broker.next_deadline();
        let result = command(broker);
        let position = broker.seal();
        for id in broker.woken() {
            if Some(id) != caller
                && let Some(notify) = connections.get(&id)
            {
                notify.notify_one();
            }
        }
        if broker.next_deadline() < before {
            self.earlier.notify_one();
        }
        (result, position)
    }

    pub(super) fn status(&self) -> Status {
        let state = self.lock();
        let journal_bytes = self.log.as_ref().map_or(0, |log| log.bytes_since_snapshot());
        state.broker.status(clock::now(), state.connections.len(), journal_bytes)
    }

    /// How long writes of the journal took, if there is one.
    pub(super) fn write_times(&self) -> Option<WriteTimes> {
        self.log.as_ref().map(|log| log.write_times())
    }

    /// Keeps the journal short.
    pub(super) async fn run_compaction(self: Arc<Self>, shutdown: CancellationToken) {
        if self.log.is_none() {
            return;
        }
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(Duration::from_millis(SNAPSHOT_CHECK_MS)) => {}
            }
            if self.is_long() {
                let hub = Arc::clone(&self);
                // It reports its own errors.
                let _ = tokio::task::spawn_blocking(move || hub.compact()).await;
            }
        }
    }

    /// Lets the broker's time pass: sleeps to its next deadline, and no longer when an earlier one
    /// comes up.
    pub(super) async fn run_timers(self: Arc<Self>, shutdown: CancellationToken) {
        loop {
            let deadline = self.lock().broker.next_deadline();
            let due = async {
                if deadline == Timestamp::NEVER {
                    std::future::pending().await
                } else {
                    let ms = deadline.since(clock::now());
                    tokio::time::sleep(Duration::from_millis(ms.unsigned_abs())).await;
                }
            };
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = self.earlier.notified() => {}
                () = due => self.with(None, |broker| broker.advance(clock::now())),
            }
        }
    }

    /// A panic under the lock would be a bug of the broker's; the connection it happened on is
    /// gone, the others are served on.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
