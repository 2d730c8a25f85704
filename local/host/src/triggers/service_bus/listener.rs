//! The loop of one function: connect, hand out credit, invoke, settle, connect again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::Delivery;
use fe2o3_amqp::link::RecvError;
use fe2o3_amqp::link::delivery::DeliveryInfo;
use fe2o3_amqp::types::messaging::{Body, Modified};
use fe2o3_amqp::types::primitives::Value;
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::super::Shared;
use super::link::{Link, TOKEN_REFRESH};
use super::management::{Disposition, LockError, Management};
use super::message::{self, Message};
use super::renewal::{self, Lock};
use super::verdicts::{VERDICTS_MAX, Verdict};
use super::wire;
use crate::bindings::{Cardinality, Function, ServiceBusTrigger};
use crate::invocation::record::{Record, reason};
use crate::invocation::{Call, Invoker};
use crate::log::{Level, category};

/// Pause before the first reconnect.
const RECONNECT_MIN: Duration = Duration::from_millis(250);

/// Longest pause between reconnects: a local broker that comes back is found within this time.
const RECONNECT_MAX: Duration = Duration::from_secs(5);

/// After the first message of a batch, more are waited for as long as they come this fast
/// (`AmqpReceiver` of the .NET client).
const BATCH_GAP: Duration = Duration::from_millis(20);

/// Everything about one function's subscription that outlives a connection.
pub(crate) struct Listener {
    shared: Shared,
    function: Arc<Function>,
    trigger: ServiceBusTrigger,
    /// Identifies this receiver in `Metadata.Client`.
    client_id: String,
    /// Counts connections: a delivery can only be settled on the one it came from.
    generation: u64,
    management: watch::Sender<Option<Management>>,
    management_tasks: TaskTracker,
    running: JoinSet<bool>,
    /// What each running invocation holds.
    held: HashMap<Id, Vec<Held>>,
    /// Received for the next batch.
    waiting: Vec<(Held, Message)>,
    batch_started: Option<Instant>,
    last_received: Instant,
}

/// A message this host has locked.
struct Held {
    info: DeliveryInfo,
    generation: u64,
    lock: Uuid,
    name: String,
    until: watch::Receiver<OffsetDateTime>,
}

/// Why a connection is not used any more.
enum Left {
    Stopped,
    Broken(String),
}

impl Listener {
    pub(crate) fn new(shared: Shared, function: Arc<Function>, trigger: ServiceBusTrigger) -> Self {
        Self {
            shared,
            function,
            trigger,
            client_id: Uuid::new_v4().to_string(),
            generation: 0,
            management: watch::Sender::new(None),
            management_tasks: TaskTracker::new(),
            running: JoinSet::new(),
            held: HashMap::new(),
            waiting: Vec::new(),
            batch_started: None,
            last_received: Instant::now(),
        }
    }

    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut pause = RECONNECT_MIN;
        let mut failures = 0_u32;
        loop {
            let opened = tokio::select! {
                () = stop.cancelled() => break,
                opened = Link::open(&self.trigger, self.now()) => opened,
            };
            let why = match opened {
                Ok(link) => {
                    (pause, failures) = (RECONNECT_MIN, 0);
                    self.line(Level::Information, format!("Receiving from {}.", self.source()));
                    match self.pump(link, &stop).await {
                        Left::Stopped => break,
                        Left::Broken(why) => why,
                    }
                }
                Err(error) => error.to_string(),
            };
            failures += 1;
            // The first failure says it all; later ones are repeated ever more rarely.
            if failures.is_power_of_two() {
                self.line(
                    Level::Warning,
                    format!(
                        "Not receiving from {}: {why}. Attempt {failures}; trying again until the \
                         broker is there.",
                        self.source()
                    ),
                );
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(pause) => pause = (pause * 2).min(RECONNECT_MAX),
            }
        }
        // Without a connection nothing can be settled any more, but nothing is cut short either.
        while let Some(ended) = self.running.join_next_with_id().await {
            let (held, _) = self.ended(ended);
            for held in held {
                self.line(
                    Level::Warning,
                    format!("{} is not settled, as the host is stopping.", held.name),
                );
            }
        }
        self.management.send_replace(None);
        self.management_tasks.close();
    }

    /// Works on one connection until it breaks or the host stops.
    async fn pump(&mut self, mut link: Link, stop: &CancellationToken) -> Left {
        self.generation += 1;
        self.adopt(&mut link);
        let mut stopping = false;
        let mut settling: HashMap<u32, String> = HashMap::new();
        let mut token_refresh = Instant::now() + TOKEN_REFRESH;
        loop {
            if stopping && self.running.is_empty() {
                self.release_waiting(&mut link).await;
                self.management.send_replace(None);
                link.close().await;
                return Left::Stopped;
            }
            if let Err(why) = self.grant(&mut link, stopping).await {
                return self.broken(why);
            }
            let batch_due = self.batch_due(stopping);
            tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => stopping = true,
                Some(ended) = self.running.join_next_with_id() => {
                    let (held, succeeded) = self.ended(ended);
                    if let Err(why) = self.settle(&link, held, succeeded, &mut settling).await {
                        return self.broken(why);
                    }
                }
                Some(verdict) = link.verdicts.recv() => self.note(&verdict, &mut settling),
                () = sleep_until(token_refresh) => {
                    if let Err(error) = link.refresh(&self.trigger, self.now()).await {
                        return self.broken(error.to_string());
                    }
                    token_refresh = Instant::now() + TOKEN_REFRESH;
                }
                () = sleep_until(batch_due.unwrap_or(token_refresh)), if batch_due.is_some() => {
                    self.start_batch();
                }
                delivery = link.receiver.recv::<Body<Value>>() => match delivery {
                    Ok(delivery) if stopping => {
                        // Given back without counting as a failed delivery.
                        let _ = link.receiver.release(&delivery).await;
                    }
                    Ok(delivery) => self.received(&delivery),
                    Err(RecvError::MessageDecode(error)) => {
                        let why = format!("A message is abandoned, it cannot be read: {error}");
                        self.line(Level::Error, why);
                        let _ = link.receiver.modify(error.info, abandoned()).await;
                    }
                    Err(error) => return self.broken(format!("the link broke: {error}")),
                },
            }
        }
    }

    /// Makes this connection the one that renews locks.
    fn adopt(&mut self, link: &mut Link) {
        if let Some(session) = link.managing.take() {
            let (management, task) = Management::new(session, &self.trigger.entity);
            self.management_tasks.spawn(task);
            self.management.send_replace(Some(management));
        }
        self.waiting.clear();
        self.batch_started = None;
    }

    fn broken(&mut self, why: String) -> Left {
        self.management.send_replace(None);
        // Their locks expire, or the broker has freed them with the connection.
        self.waiting.clear();
        Left::Broken(why)
    }

    /// Lets the broker send as many messages as there are free slots.
    async fn grant(&self, link: &mut Link, stopping: bool) -> Result<(), String> {
        let slots = self.shared.service_bus.max_concurrent_calls;
        let busy = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        let (free, step) = match self.trigger.cardinality {
            _ if stopping => (0, 1),
            // A quarter at a time: one flow frame for several messages, and never none at all.
            Cardinality::One => (slots.saturating_sub(busy), slots.div_ceil(4)),
            // One batch at a time.
            Cardinality::Many if busy > 0 => (0, 1),
            Cardinality::Many => {
                let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
                (self.trigger.max_batch_messages.saturating_sub(waiting), 1)
            }
        };
        let credit = link.receiver.credit();
        let more = free > credit && (credit == 0 || free - credit >= step);
        let less = free < credit;
        if more || less {
            let set = link.receiver.set_credit(free).await;
            set.map_err(|error| format!("the link broke: {error}"))?;
        }
        Ok(())
    }

    fn received(&mut self, delivery: &Delivery<Body<Value>>) {
        let message = wire::message(delivery);
        let until = message.locked_until.unwrap_or_else(|| self.now());
        let (known, seen) = watch::channel(until);
        let held = Held {
            info: DeliveryInfo::from(delivery),
            generation: self.generation,
            lock: message.lock_token,
            name: format!(
                "message '{}' of {}",
                message.message_id.as_deref().unwrap_or_default(),
                self.trigger.entity
            ),
            until: seen,
        };
        match self.trigger.cardinality {
            Cardinality::One => self.start_one(held, message, known),
            Cardinality::Many => {
                self.last_received = Instant::now();
                self.batch_started.get_or_insert(self.last_received);
                self.waiting.push((held, message));
            }
        }
    }

    fn start_one(&mut self, held: Held, message: Message, known: watch::Sender<OffsetDateTime>) {
        let (invoker, function) = (Arc::clone(&self.shared.invoker), Arc::clone(&self.function));
        let envelope =
            message::single(&function, &self.trigger, &message, &self.client_id, self.now());
        let until = *known.borrow();
        let lock = Lock {
            token: held.lock,
            until,
            message: held.name.clone(),
            management: self.management.subscribe(),
            known,
        };
        let (renewal, renewable) =
            (self.shared.service_bus.max_auto_lock_renewal, message.locked_until.is_some());
        let task = self.running.spawn(async move {
            let (details, trace) = (Some(message.details()), message.traceparent());
            let run = invoke(&invoker, &function, envelope, details, trace);
            if !renewable {
                return run.await;
            }
            tokio::select! {
                succeeded = run => succeeded,
                () = renewal::keep(lock, renewal, &invoker.log) => false,
            }
        });
        self.held.insert(task.id(), vec![held]);
    }

    /// When the messages waiting become a batch; `None` while there are none or one is running.
    fn batch_due(&self, stopping: bool) -> Option<Instant> {
        let started = self.batch_started?;
        if stopping || self.waiting.is_empty() || !self.running.is_empty() {
            return None;
        }
        let bus = &self.shared.service_bus;
        let (count, most) = (self.waiting.len(), self.trigger.max_batch_messages);
        let reached = |limit: u32| u32::try_from(count).is_ok_and(|count| count >= limit);
        if reached(most) {
            Some(started)
        } else if reached(bus.min_batch_messages.min(most)) {
            Some(self.last_received + BATCH_GAP)
        } else {
            Some(started + bus.max_batch_wait)
        }
    }

    fn start_batch(&mut self) {
        let most = usize::try_from(self.trigger.max_batch_messages).unwrap_or(usize::MAX);
        let rest = self.waiting.split_off(self.waiting.len().min(most));
        let (held, messages): (Vec<Held>, Vec<Message>) =
            std::mem::replace(&mut self.waiting, rest).into_iter().unzip();
        self.batch_started = (!self.waiting.is_empty()).then(Instant::now);
        let (invoker, function) = (Arc::clone(&self.shared.invoker), Arc::clone(&self.function));
        let envelope =
            message::batch(&function, &self.trigger, &messages, &self.client_id, self.now());
        let details = Some(format!("MessageCount: {}", messages.len()));
        let trace = messages.first().and_then(Message::traceparent);
        let task = self
            .running
            .spawn(async move { invoke(&invoker, &function, envelope, details, trace).await });
        self.held.insert(task.id(), held);
    }

    /// What an invocation held, and whether it succeeded. One that panicked has failed.
    fn ended(&mut self, ended: Result<(Id, bool), JoinError>) -> (Vec<Held>, bool) {
        let (id, succeeded) = match ended {
            Ok((id, succeeded)) => (id, succeeded),
            Err(error) => (error.id(), false),
        };
        (self.held.remove(&id).unwrap_or_default(), succeeded)
    }

    async fn settle(
        &self,
        link: &Link,
        held: Vec<Held>,
        succeeded: bool,
        settling: &mut HashMap<u32, String>,
    ) -> Result<(), String> {
        // Without it the messages stay locked until their locks expire.
        if !self.trigger.auto_complete {
            return Ok(());
        }
        for held in held {
            if held.generation != self.generation {
                self.settle_by_token(held, succeeded);
                continue;
            }
            if *held.until.borrow() < self.now() {
                let name = &held.name;
                let text = format!("The lock of {name} has expired before its invocation ended.");
                self.line(Level::Warning, text);
            }
            if settling.len() >= VERDICTS_MAX {
                settling.clear();
            }
            settling.insert(held.info.delivery_id(), held.name);
            let sent = match succeeded {
                true => link.receiver.accept(held.info).await,
                false => link.receiver.modify(held.info, abandoned()).await,
            };
            sent.map_err(|error| format!("the link broke: {error}"))?;
        }
        Ok(())
    }

    /// The delivery is gone with its connection; its lock may not be.
    fn settle_by_token(&self, held: Held, succeeded: bool) {
        let Some(management) = self.management.borrow().clone() else { return };
        let log = self.shared.invoker.log.clone();
        let disposition = if succeeded { Disposition::Completed } else { Disposition::Abandoned };
        self.management_tasks.spawn(async move {
            if let Err(error) = management.settle(held.lock, disposition).await {
                let again = match error {
                    LockError::Lost(_) => "It is delivered again.",
                    LockError::Unavailable(_) => "It may be delivered again.",
                };
                log.line(
                    Level::Warning,
                    category::SERVICE_BUS,
                    format!(
                        "{} could not be settled after the connection was lost: {error}. {again}",
                        held.name
                    ),
                );
            }
        });
    }

    /// The broker's answer to a settlement; only refusals are worth a word.
    fn note(&self, verdict: &Verdict, settling: &mut HashMap<u32, String>) {
        for delivery in verdict.first..=verdict.last.min(verdict.first.saturating_add(1_000)) {
            let Some(name) = settling.remove(&delivery) else { continue };
            if let Some(condition) = &verdict.refused {
                self.line(
                    Level::Warning,
                    format!(
                        "The broker refused to settle {name}: {condition}. If nobody else has \
                         settled it, it is delivered again."
                    ),
                );
            }
        }
    }

    async fn release_waiting(&mut self, link: &mut Link) {
        for (held, _) in self.waiting.drain(..) {
            let _ = link.receiver.release(held.info).await;
        }
    }

    fn source(&self) -> String {
        let connection = &self.trigger.connection;
        format!(
            "{} at {} (setting {}) for function '{}'",
            self.trigger.entity,
            connection.address(),
            connection.setting,
            self.function.name
        )
    }

    fn now(&self) -> OffsetDateTime {
        self.shared.invoker.log.now()
    }

    fn line(&self, level: Level, text: String) {
        self.shared.invoker.log.line(level, category::SERVICE_BUS, text);
    }
}

/// Available again at once, and counted.
fn abandoned() -> Modified {
    Modified {
        delivery_failed: Some(true),
        undeliverable_here: Some(false),
        message_annotations: None,
    }
}

/// True when the function succeeded. An envelope that cannot be made is a failed invocation.
async fn invoke(
    invoker: &Invoker,
    function: &Arc<Function>,
    envelope: Result<crate::invocation::Envelope, String>,
    details: Option<String>,
    traceparent: Option<String>,
) -> bool {
    match envelope {
        Ok(envelope) => {
            let call = Call { function, reason: reason::NONE, details, traceparent };
            invoker.invoke(call, envelope).await.is_ok()
        }
        Err(why) => {
            let name = Arc::clone(&function.name);
            Record::start(invoker.log.clone(), name, reason::NONE, details.as_deref()).failed(&why);
            false
        }
    }
}
