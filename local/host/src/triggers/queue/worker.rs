//! One message from its receipt to its end: invoked under a lease that is renewed, then deleted,
//! released, or moved to the poison queue.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::message::{self, Message};
use crate::bindings::{DataType, Function};
use crate::config::QueueOptions;
use crate::invocation::record::Record;
use crate::invocation::{Call, Invoker};
use crate::log::{Level, category};
use crate::storage::{Queue, Received, StorageError, Wakers, is_queue_name};

const POISON_SUFFIX: &str = "-poison";

/// When the service could not be asked, a renewal is tried again after this part of the lease.
const RENEWAL_RETRY: u32 = 10;

/// What every message of one function is worked on with.
pub(super) struct Worker {
    pub(super) invoker: Arc<Invoker>,
    pub(super) function: Arc<Function>,
    pub(super) queue: Queue,
    /// `None` when the queue is a poison queue itself, or its name leaves no room for the suffix.
    pub(super) poison: Option<Queue>,
    pub(super) data_type: DataType,
    pub(super) options: QueueOptions,
    pub(super) lease: Duration,
    pub(super) wakers: Wakers,
    /// Why an invocation takes place, for its log lines.
    pub(super) reason: String,
}

/// A leased message: only who knows the latest pop receipt can settle it.
struct Held {
    id: String,
    pop_receipt: String,
}

impl Worker {
    /// The queue for what cannot be worked on.
    pub(super) fn poison_of(queue: &Queue) -> Option<Queue> {
        let name = format!("{}{POISON_SUFFIX}", queue.name());
        let usable = !queue.name().ends_with(POISON_SUFFIX) && is_queue_name(&name);
        usable.then(|| queue.sibling(name))
    }

    pub(super) async fn process(&self, received: Received) {
        let mut held = Held { id: received.id.clone(), pop_receipt: received.pop_receipt.clone() };
        let message = match Message::decode(&received, self.options.encoding) {
            Ok(message) => message,
            Err(why) => {
                self.line(
                    Level::Error,
                    format!(
                        "Message '{}' of {} is not base64 ({why}). Whoever sends plain text needs \
                         extensions.queues.messageEncoding \"none\" in host.json.",
                        held.id,
                        self.queue.described()
                    ),
                );
                return self.poison(&held, &received.text).await;
            }
        };
        if received.dequeue_count > u64::from(self.options.max_dequeue_count) {
            // Its last invocation never ended, e.g. because the host was killed.
            self.say_poison();
            return self.poison(&held, &received.text).await;
        }
        if self.invoke(&message, &mut held).await {
            self.delete(&held).await;
        } else if self.poison.is_none() {
            // It stays invisible until its lease ends, which prevents a fast endless loop.
        } else if received.dequeue_count >= u64::from(self.options.max_dequeue_count) {
            self.say_poison();
            self.poison(&held, &received.text).await;
        } else {
            self.release(&held, self.options.visibility_timeout).await;
        }
    }

    /// Makes a message that nobody will work on visible again at once.
    pub(super) async fn give_back(&self, received: &Received) {
        let held = Held { id: received.id.clone(), pop_receipt: received.pop_receipt.clone() };
        self.release(&held, Duration::ZERO).await;
    }

    /// Runs the function, and renews the lease of the message while it runs. True on success.
    async fn invoke(&self, message: &Message, held: &mut Held) -> bool {
        let mut run = pin!(self.run(message));
        let mut renew_at = Some(Instant::now() + self.lease / 2);
        loop {
            tokio::select! {
                succeeded = &mut run => return succeeded,
                () = sleep_until(renew_at.unwrap_or_else(Instant::now)), if renew_at.is_some() => {}
            }
            // Never cut short: half done, nobody would know the pop receipt.
            let mut ended = None;
            let renewed = {
                let mut renewal = pin!(self.queue.update(&held.id, &held.pop_receipt, self.lease));
                loop {
                    tokio::select! {
                        renewed = &mut renewal => break renewed,
                        succeeded = &mut run, if ended.is_none() => ended = Some(succeeded),
                    }
                }
            };
            renew_at = self.renewed(renewed, held);
            if let Some(succeeded) = ended {
                return succeeded;
            }
        }
    }

    /// When to renew next; never again once the message is lost.
    fn renewed(&self, renewed: Result<String, StorageError>, held: &mut Held) -> Option<Instant> {
        match renewed {
            Ok(pop_receipt) => {
                held.pop_receipt = pop_receipt;
                Some(Instant::now() + self.lease / 2)
            }
            Err(error @ (StorageError::NotHeld(_) | StorageError::NoQueue)) => {
                self.message_line(
                    held,
                    "could not be leased for longer",
                    &error,
                    "The invocation goes on; if the message is still there, it is delivered again.",
                );
                None
            }
            Err(error) => {
                self.message_line(held, "could not be leased for longer yet", &error, "");
                Some(Instant::now() + self.lease / RENEWAL_RETRY)
            }
        }
    }

    /// An envelope that cannot be made is a failed invocation.
    async fn run(&self, message: &Message) -> bool {
        let (function, now) = (&self.function, self.invoker.log.now());
        let (name, binding) = (&function.name, &function.binding);
        let details = Some(message.details());
        match message::envelope(name, binding, self.data_type, message, now) {
            Ok(envelope) => {
                let call = Call { function, reason: &self.reason, details, traceparent: None };
                self.invoker.invoke(call, envelope).await.is_ok()
            }
            Err(why) => {
                let log = self.invoker.log.clone();
                Record::start(log, Arc::clone(name), &self.reason, details.as_deref()).failed(&why);
                false
            }
        }
    }

    async fn delete(&self, held: &Held) {
        if let Err(error) = self.queue.delete(&held.id, &held.pop_receipt).await {
            let after = "It is delivered again if it is still there.";
            self.message_line(held, "could not be deleted", &error, after);
        }
    }

    async fn release(&self, held: &Held, invisible: Duration) {
        if let Err(error) = self.queue.update(&held.id, &held.pop_receipt, invisible).await {
            let after = "It is delivered again when its lease ends.";
            self.message_line(held, "could not be released", &error, after);
        }
    }

    fn say_poison(&self) {
        let most = self.options.max_dequeue_count;
        if let Some(poison) = &self.poison {
            let text = format!(
                "Message has reached MaxDequeueCount of {most}. Moving message to queue '{}'.",
                poison.name()
            );
            self.line(Level::Warning, text);
        }
    }

    /// Copies the message, as it was on the wire, and deletes it afterwards. Without a poison queue
    /// it stays where it is, invisible until its lease ends.
    async fn poison(&self, held: &Held, text: &str) {
        let Some(poison) = &self.poison else { return };
        match poison.put_and_create(text).await {
            Ok(()) => {
                self.wakers.wake(poison.name());
                self.delete(held).await;
            }
            Err(error) => {
                let what = format!("could not be moved to '{}'", poison.name());
                let after = "It is tried again when its lease ends.";
                self.message_line(held, &what, &error, after);
            }
        }
    }

    fn message_line(&self, held: &Held, what: &str, error: &StorageError, after: &str) {
        let queue = self.queue.described();
        let text = format!("Message '{}' of {queue} {what}: {error}. {after}", held.id);
        self.line(Level::Warning, text.trim_end().to_owned());
    }

    pub(super) fn line(&self, level: Level, text: String) {
        self.invoker.log.line(level, category::QUEUES, text);
    }
}
