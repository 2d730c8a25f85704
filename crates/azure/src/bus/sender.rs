//! Sending: one link per entity, many callers, an acknowledgement for each.
//!
//! Callers share a link only for as long as it takes to write a transfer. They wait for the
//! broker's verdict without holding it, so that sends of different callers overlap.

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use fe2o3_amqp::{
    Sender as AmqpSender,
    link::{SendError, delivery::DeliveryFut},
};
use fe2o3_amqp_types::messaging::Outcome;
use tokio_util::sync::CancellationToken;

use super::{
    client::BusClient,
    connection::{Connection, SessionGuard, link_name, unless_ended},
    error::BusError,
    message::{Message, Packet, pack},
    slot::{Attach, Slot},
};

/// What the broker takes when its attach does not say: the limit of the Standard tier.
const MESSAGE_BYTES_MAX_DEFAULT: usize = 256 * 1024;

/// Premium namespaces take single messages of up to 100 MB, but no larger batches than this.
const BATCH_BYTES_MAX: usize = 1024 * 1024;

/// Sends messages to one queue or topic. Cheap to clone.
#[derive(Clone)]
pub struct Sender {
    client: BusClient,
    entity: Arc<str>,
    slot: Arc<Slot<SenderLink>>,
}

/// The link that all senders to one entity share.
pub(crate) struct SenderLink {
    sender: AmqpSender,
    // After the link, which lives in it.
    session: SessionGuard,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sender").field("entity", &self.entity).finish_non_exhaustive()
    }
}

impl Sender {
    pub(crate) fn new(client: BusClient, entity: &str, slot: Arc<Slot<SenderLink>>) -> Self {
        Self { client, entity: entity.into(), slot }
    }

    /// Sends a message; returns when the broker has accepted it.
    ///
    /// When the connection breaks before the verdict, the message is sent again, so the broker may
    /// get it twice. Give it a [`Message::message_id`] and let the entity detect duplicates.
    ///
    /// # Errors
    ///
    /// Any [`BusError`]. After [`BusError::Timeout`] and [`BusError::Disconnected`] the broker may
    /// have the message nevertheless.
    pub async fn send(&self, message: &Message) -> Result<(), BusError> {
        let packet = Packet::one(message);
        self.client.run(|| self.deliver(&packet)).await
    }

    /// Sends messages in as few transfers as the broker's size limit allows; returns when it has
    /// accepted all of them. Messages in one transfer are accepted together or not at all.
    ///
    /// # Errors
    ///
    /// As [`Self::send`]. The broker may have some of the messages.
    pub async fn send_batch(&self, messages: &[Message]) -> Result<(), BusError> {
        if messages.is_empty() {
            return Ok(());
        }
        let progress = Progress::default();
        self.client.run(|| self.deliver_all(messages, &progress)).await
    }

    /// Attaches the link, so that the first real send need not.
    ///
    /// # Errors
    ///
    /// [`BusError::NotFound`] when there is no such entity, and any other [`BusError`].
    pub async fn warm_up(&self) -> Result<(), BusError> {
        self.client.run(|| async { self.message_bytes_max().await.map(drop) }).await
    }

    async fn message_bytes_max(&self) -> Result<usize, BusError> {
        let mut slot = self.slot.lock().await;
        let link = slot.link(&self.client, &self.entity).await?;
        let max = link.sender.max_message_size().and_then(|max| usize::try_from(max).ok());
        Ok(max.unwrap_or(MESSAGE_BYTES_MAX_DEFAULT))
    }

    async fn deliver_all(&self, messages: &[Message], progress: &Progress) -> Result<(), BusError> {
        let packets = match progress.packets.get() {
            Some(packets) => packets,
            // The limit is known once the link is attached, so packing has to wait until then.
            None => {
                let room = self.message_bytes_max().await?.min(BATCH_BYTES_MAX);
                let packets = pack(messages, room)?;
                progress.packets.get_or_init(|| packets)
            }
        };
        while let Some(packet) = packets.get(progress.accepted.load(Relaxed)) {
            self.deliver(packet).await?;
            progress.accepted.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    async fn deliver(&self, packet: &Packet) -> Result<(), BusError> {
        let Transfer { link_id, verdict, session_ended } = self.transfer(packet).await?;
        match unless_ended(&session_ended, verdict).await? {
            Ok(Outcome::Accepted(_)) => Ok(()),
            Ok(Outcome::Rejected(rejected)) => Err(match &rejected.error {
                Some(error) => BusError::from_amqp(error),
                None => BusError::protocol("the message was rejected without a reason"),
            }),
            // Not stored, and nobody's fault: the broker is shutting down or moving the entity.
            Ok(_) => Err(BusError::gone("the broker released the message")),
            Err(error) => {
                self.slot.give_up(link_id, error.recovery()).await;
                Err(error.into())
            }
        }
    }

    async fn transfer(&self, packet: &Packet) -> Result<Transfer, BusError> {
        let mut slot = self.slot.lock().await;
        let link = slot.link(&self.client, &self.entity).await?;
        let session_ended = link.session.ended().clone();
        let sending = async {
            match packet {
                Packet::One(message) => link.sender.send_batchable_ref(message).await,
                Packet::Many(batch) => link.sender.send_batchable_ref(batch).await,
            }
        };
        match unless_ended(&session_ended, sending).await? {
            Ok(verdict) => Ok(Transfer { link_id: link.id, verdict, session_ended }),
            Err(error) => {
                slot.give_up(error.recovery());
                Err(error.into())
            }
        }
    }
}

/// A message on its way.
struct Transfer {
    link_id: u64,
    verdict: DeliveryFut<Result<Outcome, SendError>>,
    session_ended: CancellationToken,
}

/// How far a batch has come, over all attempts.
#[derive(Default)]
struct Progress {
    packets: OnceLock<Vec<Packet>>,
    accepted: AtomicUsize,
}

impl Attach for SenderLink {
    async fn attach(connection: &Connection, entity: &str) -> Result<Self, BusError> {
        let mut session = connection.session().await?;
        let sender = AmqpSender::attach(&mut session, link_name("sender"), entity).await?;
        Ok(Self { sender, session: SessionGuard::new(session, connection.tasks()) })
    }

    fn is_alive(&self) -> bool {
        !self.session.ended().is_cancelled()
    }
}
