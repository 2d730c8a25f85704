//! The broker as connections share it: one lock, held for one command at a time and never across
//! an await, and the wake-ups that follow from a command.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::access::Keys;
use super::clock;
use crate::broker::{Broker, ConnectionId, Status, Timestamp};

/// What all connections share.
pub(crate) struct Hub {
    state: Mutex<State>,
    /// Told when the broker's next deadline has become earlier.
    earlier: Notify,
    pub(super) keys: Keys,
    pub(super) max_message_bytes: u64,
}

struct State {
    broker: Broker,
    /// How to tell a connection that one of its receivers has something to fetch.
    connections: HashMap<ConnectionId, Arc<Notify>>,
}

impl Hub {
    pub(super) fn new(broker: Broker, keys: Keys, max_message_bytes: u64) -> Hub {
        let state = Mutex::new(State { broker, connections: HashMap::new() });
        Hub { state, earlier: Notify::new(), keys, max_message_bytes }
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

    /// Runs a command. Connections it concerns are woken, except `caller`, which looks by itself
    /// before it waits.
    pub(super) fn with<R>(
        &self,
        caller: Option<ConnectionId>,
        command: impl FnOnce(&mut Broker) -> R,
    ) -> R {
        let mut state = self.lock();
        let State { broker, connections } = &mut *state;
        let before = broker.next_deadline();
        let result = command(broker);
        broker.seal();
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
        result
    }

    pub(super) fn status(&self) -> Status {
        let state = self.lock();
        state.broker.status(state.connections.len())
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
