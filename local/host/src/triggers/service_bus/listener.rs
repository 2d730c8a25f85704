//! The loop of one receiver: connect, hand out credit, invoke, settle, connect again.
//!
//! A function has one receiver; one whose messages come by session has as many as it may hold
//! sessions. Each of those holds one session at a time, until nothing has come for a while or its
//! lock is lost, and then asks for the next (`SessionReceiverManager` of the .NET client).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use fe2o3_amqp::link::delivery::DeliveryInfo;
use fe2o3_amqp::link::{LinkStateError, RecvError};
use fe2o3_amqp::types::messaging::{Body, Modified};
use fe2o3_amqp::types::primitives::Value;
use fe2o3_amqp::{Delivery, Receiver};
use time::OffsetDateTime;
use tokio::sync::watch;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::super::Shared;
use super::drain::Drain;
use super::link::{Granted, Intake, Link, LinkError, condition};
use super::management::{Disposition, LockError, Locked, Management};
use super::message::{self, Message};
use super::renewal::{self, Lock};
use super::verdicts::{NOTICES_MAX, Notice, Verdict};
use super::wire;
use crate::bindings::{Cardinality, Function, ServiceBusTrigger};
use crate::invocation::record::{Record, reason};
use crate::invocation::{Call, Invoker};
use crate::log::{Level, Logger, category};

/// Pause before the first reconnect.
const RECONNECT_MIN: Duration = Duration::from_millis(250);

/// Longest pause between reconnects: a local broker that comes back is found within this time.
const RECONNECT_MAX: Duration = Duration::from_secs(5);

/// After the first message of a batch, more are waited for as long as they come this fast
/// (`AmqpReceiver` of the .NET client).
const BATCH_GAP: Duration = Duration::from_millis(20);

/// The broker takes a session away.
const SESSION_LOCK_LOST: &str = "com.microsoft:session-lock-lost";

/// Everything about one receiver that outlives a connection.
pub(crate) struct Listener {
    shared: Shared,
    function: Arc<Function>,
    trigger: ServiceBusTrigger,
    /// Only one of the receivers of a function speaks of their broker.
    speaks: bool,
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
    /// The session held at present, and when its lock ends.
    session: Option<(String, watch::Receiver<OffsetDateTime>)>,
}

/// A message this host has locked.
struct Held {
    info: DeliveryInfo,
    generation: u64,
    lock: Uuid,
    name: String,
    until: watch::Receiver<OffsetDateTime>,
}

/// Why nothing more is received.
enum Left {
    Stopped,
    /// The session is over; the connection is good for the next one.
    SessionOver,
    Broken(String),
}

impl Listener {
    pub(crate) fn new(
        shared: Shared,
        function: Arc<Function>,
        trigger: ServiceBusTrigger,
        speaks: bool,
    ) -> Self {
        Self {
            shared,
            function,
            trigger,
            speaks,
            client_id: Uuid::new_v4().to_string(),
            generation: 0,
            management: watch::Sender::new(None),
            management_tasks: TaskTracker::new(),
            running: JoinSet::new(),
            held: HashMap::new(),
            waiting: Vec::new(),
            batch_started: None,
            last_received: Instant::now(),
            session: None,
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
                    let generation = self.generation;
                    match self.serve(link, &stop).await {
                        Ok(()) => break,
                        Err(why) => {
                            if self.generation != generation {
                                (pause, failures) = (RECONNECT_MIN, 0);
                            }
                            why
                        }
                    }
                }
                Err(error) => error.to_string(),
            };
            failures += 1;
            // The first failure says it all; later ones are repeated ever more rarely.
            if self.speaks && failures.is_power_of_two() {
                self.line(
                    Level::Warning,
                    format!(
                        "Not receiving from {}: {why}. Attempt {failures}; trying again until the \
                         broker is there.",
                        self.source()
                    ),
                );
            }
            if self.trigger.sessions {
                // The session is somebody else's by now, and comes from its start: in order.
                self.abandon_running("its session is lost").await;
            }
            tokio::select! {
                () = stop.cancelled() => break,
                () = sleep(pause) => pause = (pause * 2).min(RECONNECT_MAX),
            }
        }
        // Without a connection nothing can be settled any more, but nothing is cut short either.
        self.abandon_running("the host is stopping").await;
        self.management.send_replace(None);
        self.management_tasks.close();
    }

    /// Waits until nothing runs any more; what it held cannot be settled.
    async fn abandon_running(&mut self, why: &str) {
        while let Some(ended) = self.running.join_next_with_id().await {
            let (held, _) = self.ended(ended);
            for held in held {
                self.line(Level::Warning, format!("{} is not settled, as {why}.", held.name));
            }
        }
    }

    /// Receives over one connection until the host stops. The error says how it broke.
    async fn serve(&mut self, mut link: Link, stop: &CancellationToken) -> Result<(), String> {
        if self.trigger.sessions {
            self.say_receiving();
        }
        loop {
            let intake = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                intake = self.intake(&mut link) => match intake {
                    Ok(intake) => intake,
                    Err(error) => {
                        self.management.send_replace(None);
                        return Err(error.to_string());
                    }
                },
            };
            if !self.trigger.sessions {
                self.say_receiving();
            }
            self.generation += 1;
            match self.pump(&mut link, intake, stop).await {
                (Left::Stopped, intake) => {
                    link.close(intake).await;
                    return Ok(());
                }
                (Left::SessionOver, intake) => {
                    // Nobody else gets the session while something of it still runs here.
                    self.abandon_running("its session is lost").await;
                    intake.close().await;
                }
                (Left::Broken(why), _) => return Err(why),
            }
        }
    }

    async fn intake(&self, link: &mut Link) -> Result<Intake, LinkError> {
        match self.trigger.sessions {
            true => link.receive_session(&self.trigger, || self.now()).await,
            false => link.receive(&self.trigger).await,
        }
    }

    /// Works on what comes out of `intake` until that ends, the connection breaks or the host
    /// stops.
    async fn pump(
        &mut self,
        link: &mut Link,
        mut intake: Intake,
        stop: &CancellationToken,
    ) -> (Left, Intake) {
        self.adopt(link);
        let log = self.shared.invoker.log.clone();
        let keeping = self.keep_session(intake.session.take(), &log);
        tokio::pin!(keeping);
        let receiver = &mut intake.receiver;
        let mut drain = Drain::default();
        let mut settling: HashMap<u32, String> = HashMap::new();
        self.last_received = Instant::now();
        let left = loop {
            let stopping = drain.has_begun();
            if self.running.is_empty() && drain.is_over() {
                self.management.send_replace(None);
                break Left::Stopped;
            }
            if !stopping && let Err(why) = self.grant(receiver).await {
                break self.broken(why);
            }
            let batch_due = self.batch_due(stopping);
            let idle_at = self.idle_at(stopping);
            let refresh_at = link.refresh_at;
            let drain_until = drain.until().filter(|_| self.running.is_empty());
            tokio::select! {
                biased;
                () = stop.cancelled(), if !stopping => {
                    self.release_waiting(receiver).await;
                    if let Err(why) = drain.begin(receiver).await {
                        break self.broken(why);
                    }
                }
                Some(ended) = self.running.join_next_with_id() => {
                    let (held, succeeded) = self.ended(ended);
                    self.last_received = Instant::now();
                    if let Err(why) = self.settle(receiver, held, succeeded, &mut settling).await {
                        break self.broken(why);
                    }
                }
                Some(notice) = link.notices.recv() => match notice {
                    Notice::Verdict(verdict) => self.note(&verdict, &mut settling),
                    Notice::Drained { last } => drain.ended(last),
                },
                () = sleep_until(drain_until.unwrap_or(refresh_at)), if drain_until.is_some() => {}
                () = sleep_until(refresh_at) => {
                    if let Err(error) = link.refresh(&self.trigger, self.now()).await {
                        break self.broken(error.to_string());
                    }
                }
                () = sleep_until(batch_due.unwrap_or(refresh_at)), if batch_due.is_some() => {
                    self.start_batch();
                }
                () = &mut keeping => {}
                () = sleep_until(idle_at.unwrap_or(refresh_at)), if idle_at.is_some() => {
                    break Left::SessionOver;
                }
                delivery = receiver.recv::<Body<Value>>() => match delivery {
                    Ok(delivery) => {
                        drain.received(*delivery.delivery_id());
                        match stopping {
                            // Given back without counting as a failed delivery.
                            true => drop(receiver.release(&delivery).await),
                            false => self.received(&delivery),
                        }
                    }
                    Err(RecvError::MessageDecode(error)) => {
                        drain.received(error.info.delivery_id());
                        let why = format!("A message is abandoned, it cannot be read: {error}");
                        self.line(Level::Error, why);
                        let _ = receiver.modify(error.info, abandoned()).await;
                    }
                    Err(error) if self.session_lost(&error) => break Left::SessionOver,
                    Err(error) => break self.broken(format!("the link broke: {error}")),
                },
            }
        };
        self.session = None;
        self.waiting.clear();
        (left, intake)
    }

    /// Takes note of the session that is held and renews its lock. Never ends.
    fn keep_session(
        &mut self,
        granted: Option<Granted>,
        log: &Logger,
    ) -> impl Future<Output = ()> + use<> {
        let log = log.clone();
        let lock = granted.map(|Granted { id, until }| {
            let (known, seen) = watch::channel(until);
            self.session = Some((id.clone(), seen));
            Lock {
                name: format!("session '{id}' of {}", self.trigger.entity),
                on: Locked::Session(id),
                until,
                management: self.management.subscribe(),
                known,
            }
        });
        let limit = match self.trigger.cardinality {
            Cardinality::One => self.shared.service_bus.max_auto_lock_renewal,
            // As for messages: the extension renews nothing while a batch runs.
            Cardinality::Many => Duration::ZERO,
        };
        async move {
            match lock {
                Some(lock) => renewal::keep(lock, limit, &log).await,
                None => std::future::pending().await,
            }
        }
    }

    /// When the session has brought nothing for so long that another one gets its turn.
    fn idle_at(&self, stopping: bool) -> Option<Instant> {
        let idle = self.session.is_some()
            && !stopping
            && self.running.is_empty()
            && self.waiting.is_empty();
        idle.then(|| self.last_received + self.shared.service_bus.session_idle_timeout)
    }

    /// Whether the broker has taken the session away; says so.
    fn session_lost(&self, error: &RecvError) -> bool {
        let RecvError::LinkStateError(
            LinkStateError::RemoteClosedWithError(error)
            | LinkStateError::RemoteDetachedWithError(error),
        ) = error
        else {
            return false;
        };
        let Some((id, _)) = &self.session else { return false };
        if condition(error) != SESSION_LOCK_LOST {
            return false;
        }
        let cause = format!("A session of function '{}' was taken away", self.function.name);
        self.shared.invoker.log.sharp_edge(Level::Warning, &cause, || {
            format!(
                "The lock of session '{id}' of {} is lost. What is not settled by now is delivered \
                 again. Fix: be done with a session within maxAutoLockRenewalDuration ({:?}), or \
                 raise it.",
                self.trigger.entity, self.shared.service_bus.max_auto_lock_renewal
            )
        });
        true
    }

    fn say_receiving(&self) {
        if self.speaks {
            let what = if self.trigger.sessions { "sessions of " } else { "" };
            self.line(Level::Information, format!("Receiving from {what}{}.", self.source()));
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
    async fn grant(&self, receiver: &mut Receiver) -> Result<(), String> {
        let slots = match self.trigger.sessions {
            true => self.shared.service_bus.max_calls_per_session,
            false => self.shared.service_bus.max_concurrent_calls,
        };
        let busy = u32::try_from(self.running.len()).unwrap_or(u32::MAX);
        let credit = receiver.credit();
        let (free, step) = match self.trigger.cardinality {
            // A quarter at a time: one flow frame for several messages, and never none at all.
            Cardinality::One => (slots.saturating_sub(busy), slots.div_ceil(4)),
            // One batch at a time. Credit is not taken back: messages may be on their way for it,
            // and those would end the link. They wait for the next batch.
            Cardinality::Many if busy > 0 => (credit, 1),
            Cardinality::Many => {
                let waiting = u32::try_from(self.waiting.len()).unwrap_or(u32::MAX);
                (self.trigger.max_batch_messages.saturating_sub(waiting), 1)
            }
        };
        let more = free > credit && (credit == 0 || free - credit >= step);
        let less = free < credit;
        if more || less {
            let set = receiver.set_credit(free).await;
            set.map_err(|error| format!("the link broke: {error}"))?;
        }
        Ok(())
    }

    fn received(&mut self, delivery: &Delivery<Body<Value>>) {
        let mut message = wire::message(delivery);
        let until = message.locked_until.unwrap_or_else(|| self.now());
        let (known, mut seen) = watch::channel(until);
        if let Some((_, session)) = &self.session {
            seen = session.clone();
            message.session_locked_until = Some(*seen.borrow());
        }
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
            on: Locked::Message(held.lock),
            until,
            name: held.name.clone(),
            management: self.management.subscribe(),
            known,
        };
        let renewal = self.shared.service_bus.max_auto_lock_renewal;
        // The lock of a message in a session is the session's.
        let renewable = message.locked_until.is_some() && self.session.is_none();
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
        // What has waited for longer than its lock belongs to somebody else by now.
        let now = self.now();
        self.waiting.retain(|(held, _)| *held.until.borrow() > now);
        if self.waiting.is_empty() {
            self.batch_started = None;
            return;
        }
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
        receiver: &Receiver,
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
                self.warn_of_expiry(&held);
            }
            if settling.len() >= NOTICES_MAX {
                settling.clear();
            }
            settling.insert(held.info.delivery_id(), held.name);
            let sent = match succeeded {
                true => receiver.accept(held.info).await,
                false => receiver.modify(held.info, abandoned()).await,
            };
            sent.map_err(|error| format!("the link broke: {error}"))?;
        }
        Ok(())
    }

    fn warn_of_expiry(&self, held: &Held) {
        let cause = format!("A lock expired under function '{}'", self.function.name);
        self.shared.invoker.log.sharp_edge(Level::Warning, &cause, || {
            format!(
                "The lock of {} has expired before its invocation ended: what it did stands, and \
                 the message is delivered again all the same, as in Azure. Fix: end within \
                 extensions.serviceBus.maxAutoLockRenewalDuration ({:?}), which is not applied to \
                 batches, and do nothing twice for one message.",
                held.name, self.shared.service_bus.max_auto_lock_renewal
            )
        });
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

    async fn release_waiting(&mut self, receiver: &Receiver) {
        for (held, _) in self.waiting.drain(..) {
            let _ = receiver.release(held.info).await;
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
