//! Receiving under a peek lock.
//!
//! A message is settled through the management node, by its lock token, because that is where the
//! broker says whether the lock still held; a disposition on the link is answered too, but the
//! AMQP engine does not hand the answer out. The link is then told to forget the delivery.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex as StdMutex, MutexGuard, PoisonError},
    time::Duration,
};

use fe2o3_amqp::{
    Receiver as AmqpReceiver,
    link::{
        ErrorRecovery, RecvError,
        delivery::{Delivery, DeliveryInfo},
        receiver::{CreditMode, ReceiverDisposer},
    },
};
use fe2o3_amqp_types::{
    definitions::{ReceiverSettleMode, SenderSettleMode},
    messaging::Body,
    primitives::Value,
};
use time::OffsetDateTime;
use tokio::time::{Instant, sleep, timeout_at};
use uuid::Uuid;

use super::{
    client::BusClient,
    connection::{Connection, SessionGuard, link_name, unless_ended},
    error::BusError,
    management::{Disposition, Management},
    message::{Received, from_amqp, lock_token},
    slot::{Attach, Slot, SlotGuard},
};
use crate::retry::Backoff;

/// Messages that one call takes at most: each is held in memory and under a lock that runs out.
const RECEIVE_MAX: u32 = 1000;

/// Unsettled messages that one link keeps book of. Beyond it the link is replaced, which forgets
/// the messages that nobody ever settled.
const OPEN_DELIVERIES_MAX: usize = 10 * RECEIVE_MAX as usize;

/// Once the first message is there, how long to wait for each further one.
const LINGER: Duration = Duration::from_millis(20);

/// How long it has to be quiet, after the credit has been taken back, to believe that nothing more
/// is on its way: several round trips within a region. The broker does say when it is done, but
/// the AMQP engine keeps that to itself. A message that comes later still is not lost: the next
/// call returns it.
const DRAIN_QUIET: Duration = Duration::from_millis(50);

/// How long stragglers are waited for altogether.
const DRAIN_MAX: Duration = Duration::from_secs(1);

/// Which part of the entity to receive from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SubQueue {
    /// The entity itself.
    #[default]
    None,
    /// Its dead letters.
    DeadLetter,
}

/// How to receive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReceiverOptions {
    /// Which part of the entity to receive from.
    pub sub_queue: SubQueue,
}

/// Receives messages from one queue or subscription. Cheap to clone; clones share one link, and
/// one of them receives at a time.
#[derive(Clone)]
pub struct Receiver(Arc<Inner>);

struct Inner {
    client: BusClient,
    entity: String,
    management: Management,
    slot: Slot<Link>,
    /// Deliveries that the link still has to be told about, and whom to tell.
    open: StdMutex<HashMap<Uuid, (ReceiverDisposer, DeliveryInfo)>>,
}

struct Link {
    receiver: AmqpReceiver,
    /// Nothing has been received on it yet.
    is_new: bool,
    // After the link, which lives in it.
    session: SessionGuard,
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Receiver").field("entity", &self.0.entity).finish_non_exhaustive()
    }
}

impl Receiver {
    pub(crate) fn new(
        client: BusClient,
        entity: &str,
        subscription: Option<&str>,
        options: ReceiverOptions,
    ) -> Self {
        let mut entity = entity.to_owned();
        if let Some(subscription) = subscription {
            entity.push_str("/Subscriptions/");
            entity.push_str(subscription);
        }
        if options.sub_queue == SubQueue::DeadLetter {
            entity.push_str("/$DeadLetterQueue");
        }
        let management = client.management(&entity);
        let slot = Slot::default();
        Self(Arc::new(Inner { client, entity, management, slot, open: StdMutex::default() }))
    }

    /// The address that is received from, e.g. `orders/Subscriptions/billing-sub`.
    pub fn entity(&self) -> &str {
        &self.0.entity
    }

    /// Takes up to `max` messages, waiting up to `wait` for the first one. Returns an empty list
    /// when none came.
    ///
    /// When the call is dropped before it returns, messages that were on their way are returned by
    /// the next one.
    ///
    /// # Errors
    ///
    /// Any [`BusError`]. Messages that arrived before an error are returned, not lost.
    pub async fn receive(&self, max: u32, wait: Duration) -> Result<Vec<Received>, BusError> {
        let max = max.clamp(1, RECEIVE_MAX);
        let client = &self.0.client;
        let until = Instant::now() + wait;
        let mut slot = self.0.slot.lock().await;
        let mut backoff = Backoff::new(client.options().retry);
        loop {
            let error = match self.attempt(&mut slot, max, until).await {
                Ok(received) => return Ok(received),
                Err(error) => error,
            };
            let delay = error.deserves_another_link().then(|| backoff.next_delay(None));
            let Some(delay) = delay.flatten() else { return Err(error) };
            sleep(delay).await;
        }
    }

    /// Removes a message.
    ///
    /// # Errors
    ///
    /// [`BusError::LockLost`] when it will be delivered again instead, and any other [`BusError`].
    pub async fn complete(&self, message: &Received) -> Result<(), BusError> {
        self.settle(&[message], &Disposition::Completed).await
    }

    /// Gives a message back; its delivery count goes up.
    ///
    /// # Errors
    ///
    /// As [`Self::complete`].
    pub async fn abandon(&self, message: &Received) -> Result<(), BusError> {
        self.settle(&[message], &Disposition::Abandoned).await
    }

    /// Puts a message aside.
    ///
    /// # Errors
    ///
    /// As [`Self::complete`].
    pub async fn defer(&self, message: &Received) -> Result<(), BusError> {
        self.settle(&[message], &Disposition::Deferred).await
    }

    /// Moves a message to the dead-letter queue.
    ///
    /// # Errors
    ///
    /// As [`Self::complete`].
    pub async fn dead_letter(
        &self,
        message: &Received,
        reason: &str,
        description: &str,
    ) -> Result<(), BusError> {
        let (reason, description) = (reason.to_owned(), description.to_owned());
        self.settle(&[message], &Disposition::DeadLettered { reason, description }).await
    }

    /// Settles several messages alike, in one request.
    ///
    /// # Errors
    ///
    /// [`BusError::LockLost`] when one of the locks is over; the others may be settled or not.
    pub async fn settle(
        &self,
        messages: &[&Received],
        disposition: &Disposition,
    ) -> Result<(), BusError> {
        let tokens = tokens(messages)?;
        let result = self.0.management.update_disposition(&tokens, disposition).await;
        // After any other error the locks are still ours, and the caller may try again.
        if matches!(result, Ok(()) | Err(BusError::LockLost)) {
            for token in &tokens {
                self.forget(token).await;
            }
        }
        result
    }

    /// Takes a deferred message under a lock, by its sequence number; `None` when it is not there,
    /// not deferred, or locked by somebody else.
    ///
    /// # Errors
    ///
    /// Any [`BusError`].
    pub async fn receive_deferred(
        &self,
        sequence_number: i64,
    ) -> Result<Option<Received>, BusError> {
        match self.0.management.receive_deferred(&[sequence_number]).await {
            Ok(received) => Ok(received.into_iter().next()),
            Err(BusError::MessageNotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives messages back as if they had never been received: their delivery count stays, and
    /// others see them at once. For a receiver that looks for particular messages and has to take
    /// what lies before them.
    ///
    /// Best effort: a lock that is over, or a link that is gone, has given its message back
    /// already, which then counts as a failed delivery.
    pub async fn release(&self, messages: &[Received]) {
        for token in messages.iter().filter_map(|message| message.lock_token) {
            self.forget(&token).await;
        }
    }

    /// Extends the lock of a message; returns when it ends now.
    ///
    /// # Errors
    ///
    /// [`BusError::LockLost`] when it is over, and any other [`BusError`].
    pub async fn renew_lock(&self, message: &Received) -> Result<OffsetDateTime, BusError> {
        let ends = self.0.management.renew_lock(&tokens(&[message])?).await?;
        ends.first().copied().ok_or_else(|| BusError::protocol("a renewed lock without an end"))
    }

    async fn attempt(
        &self,
        slot: &mut SlotGuard<'_, Link>,
        max: u32,
        until: Instant,
    ) -> Result<Vec<Received>, BusError> {
        let Inner { client, entity, .. } = &*self.0;
        if self.open().len() > OPEN_DELIVERIES_MAX {
            slot.give_up(ErrorRecovery::NewLink);
        }
        // Attaching is subject to the client's deadline, waiting for messages is not.
        let link = client.within_deadline(slot.link(client, entity)).await?;
        if link.is_new {
            link.is_new = false;
            self.open().clear();
        }
        let mut received = Vec::new();
        let ended = link.session.ended().clone();
        let filled = unless_ended(&ended, self.fill(link, max, until, &mut received)).await;
        let error = match filled {
            Ok(Ok(())) => return Ok(received),
            Ok(Err(error)) => BusError::from(error),
            Err(error) => error,
        };
        // Whatever it was, the link cannot be relied on any more.
        slot.give_up(ErrorRecovery::NewLink);
        if received.is_empty() { Err(error) } else { Ok(received) }
    }

    async fn fill(
        &self,
        link: &mut Link,
        max: u32,
        until: Instant,
        received: &mut Vec<Received>,
    ) -> Result<(), RecvError> {
        let receiver = &mut link.receiver;
        receiver.set_credit(max).await.map_err(link_error)?;
        let mut patience = until;
        while received.len() < max as usize {
            match timeout_at(patience, receiver.recv::<Body<Value>>()).await {
                Ok(delivery) => received.push(self.take(receiver.disposer(), delivery?)),
                Err(_) => break,
            }
            patience = Instant::now() + LINGER;
        }
        if received.len() == max as usize {
            return Ok(());
        }
        // Credit that is left over would let messages in that nobody waits for, and their locks
        // would run out: take it back, and take what was on its way.
        receiver.drain().await.map_err(link_error)?;
        let end = Instant::now() + DRAIN_MAX;
        while let quiet_until = Instant::now() + DRAIN_QUIET
            && quiet_until < end
            && let Ok(delivery) = timeout_at(quiet_until, receiver.recv::<Body<Value>>()).await
        {
            received.push(self.take(receiver.disposer(), delivery?));
        }
        Ok(())
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Uuid, (ReceiverDisposer, DeliveryInfo)>> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, disposer: ReceiverDisposer, delivery: Delivery<Body<Value>>) -> Received {
        let (info, message) = delivery.into_parts();
        let token = lock_token(info.delivery_tag());
        if let Some(token) = token {
            self.open().insert(token, (disposer, info));
        }
        from_amqp(message, token)
    }

    /// Closes the delivery on the link. The lock is gone already, whatever the link says.
    async fn forget(&self, token: &Uuid) {
        let entry = self.open().remove(token);
        if let Some((disposer, info)) = entry
            && let Err(error) = disposer.release(info).await
        {
            // The link is gone, and all its deliveries with it.
            tracing::trace!(%error, "a delivery could not be closed");
        }
    }
}

impl Attach for Link {
    async fn attach(connection: &Connection, entity: &str) -> Result<Self, BusError> {
        let mut session = connection.session().await?;
        let receiver = AmqpReceiver::builder()
            .name(link_name("receiver"))
            .source(entity)
            .sender_settle_mode(SenderSettleMode::Unsettled)
            .receiver_settle_mode(ReceiverSettleMode::Second)
            .credit_mode(CreditMode::Manual)
            .attach(&mut session)
            .await?;
        Ok(Self { receiver, is_new: true, session: SessionGuard::new(session, connection.tasks()) })
    }

    fn is_alive(&self) -> bool {
        !self.session.ended().is_cancelled()
    }
}

fn link_error(error: fe2o3_amqp::link::IllegalLinkStateError) -> RecvError {
    RecvError::LinkStateError(error.into())
}

fn tokens(messages: &[&Received]) -> Result<Vec<Uuid>, BusError> {
    messages.iter().map(|message| message.lock_token.ok_or(BusError::LockLost)).collect()
}
