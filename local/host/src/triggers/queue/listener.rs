//! The loop of one function: receive while there are free slots, wait when there is nothing.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::polling::Polling;
use super::worker::Worker;
use crate::bindings::{Function, QueueTrigger};
use crate::log::Level;
use crate::storage::{Queue, Received, StorageError};
use crate::triggers::Shared;

/// Everything about one function's subscription to its queue.
pub(super) struct Listener {
    worker: Arc<Worker>,
    polling: Polling,
    /// This very host has put a message in.
    woken: Arc<Notify>,
    running: JoinSet<()>,
    state: State,
}

/// What is known about the queue, as far as it was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown,
    Receiving,
    /// The service answers, and has no such queue yet.
    Missing,
    /// This many attempts to receive have failed.
    Failing(u32),
}

impl Listener {
    pub(super) fn new(shared: &Shared, function: &Arc<Function>, trigger: &QueueTrigger) -> Self {
        let queues = &shared.queues;
        let clock = shared.invoker.log.clock();
        let queue = Queue::new(&trigger.connection, &trigger.queue, &queues.client, &clock);
        let worker = Worker {
            invoker: Arc::clone(&shared.invoker),
            function: Arc::clone(function),
            poison: Worker::poison_of(&queue),
            queue,
            data_type: trigger.data_type,
            options: queues.options.clone(),
            lease: queues.lease,
            wakers: queues.wakers.clone(),
            reason: format!("New queue message detected on '{}'.", trigger.queue),
        };
        Self {
            polling: Polling::new(queues.options.max_polling_interval),
            woken: queues.wakers.listener(&trigger.queue),
            worker: Arc::new(worker),
            running: JoinSet::new(),
            state: State::Unknown,
        }
    }

    pub(super) async fn run(mut self, stop: &CancellationToken) {
        let threshold =
            usize::try_from(self.worker.options.new_batch_threshold).unwrap_or(usize::MAX);
        let mut found = false;
        loop {
            while self.running.try_join_next().is_some() {}
            while self.running.len() > threshold && !stop.is_cancelled() {
                tokio::select! {
                    () = stop.cancelled() => {}
                    _ = self.running.join_next() => {}
                }
            }
            if stop.is_cancelled() {
                break;
            }
            // Never cut short: the service may have leased messages already.
            let messages = self.receive().await;
            if stop.is_cancelled() {
                for message in messages {
                    self.worker.give_back(&message).await;
                }
                break;
            }
            if !messages.is_empty() {
                found = true;
                for message in messages {
                    let worker = Arc::clone(&self.worker);
                    self.running.spawn(async move { worker.process(message).await });
                }
                continue;
            }
            let chance = f64::from(Uuid::new_v4().as_fields().0) / (f64::from(u32::MAX) + 1.0);
            let pause = self.polling.pause(std::mem::take(&mut found), chance);
            tokio::select! {
                () = stop.cancelled() => break,
                () = self.woken.notified() => {}
                () = sleep(pause) => {}
            }
        }
        while self.running.join_next().await.is_some() {}
    }

    /// What is there to work on. A service that is not there is said, and asked again.
    async fn receive(&mut self) -> Vec<Received> {
        let worker = &self.worker;
        if self.state != State::Receiving {
            match worker.queue.exists().await {
                Ok(true) => {
                    self.state = State::Receiving;
                    self.line(Level::Information, &format!("Receiving from {}.", self.source()));
                }
                Ok(false) => {
                    self.missing();
                    return Vec::new();
                }
                Err(error) => {
                    self.failing(&error);
                    return Vec::new();
                }
            }
        }
        match worker.queue.receive(worker.options.batch_size, worker.lease).await {
            Ok(messages) => messages,
            Err(StorageError::NoQueue) => {
                self.missing();
                Vec::new()
            }
            Err(error) => {
                self.failing(&error);
                Vec::new()
            }
        }
    }

    fn missing(&mut self) {
        if self.state != State::Missing {
            let text = format!(
                "There is no {}. The function runs as soon as somebody creates it, as the first \
                 message of an output binding does.",
                self.source()
            );
            self.line(Level::Information, &text);
        }
        self.state = State::Missing;
    }

    /// The first failure says it all; later ones are repeated ever more rarely.
    fn failing(&mut self, error: &StorageError) {
        let count = match self.state {
            State::Failing(count) => count.saturating_add(1),
            State::Unknown | State::Receiving | State::Missing => 1,
        };
        self.state = State::Failing(count);
        if count.is_power_of_two() {
            let text = format!(
                "Not receiving from {}: {error}. Attempt {count}; trying again until the queue \
                 service is there.",
                self.source()
            );
            self.line(Level::Warning, &text);
        }
    }

    fn source(&self) -> String {
        format!("{} for function '{}'", self.worker.queue.described(), self.worker.function.name)
    }

    fn line(&self, level: Level, text: &str) {
        self.worker.line(level, text.to_owned());
    }
}
