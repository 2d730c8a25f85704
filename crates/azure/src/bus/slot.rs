//! A place for one link: attached when first needed, given up when it breaks, attached again.
//!
//! Knows when a link must go, not what it is for.

use std::{
    ops::{Deref, DerefMut},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use fe2o3_amqp::link::ErrorRecovery;
use tokio::sync::{Mutex, MutexGuard};

use super::{client::BusClient, connection::Connection, error::BusError};

/// Tells links apart, so that a late error of an old one does not cost us its successor.
static NEXT_ID: AtomicU64 = AtomicU64::new(0);

/// How a kind of link is made.
pub(crate) trait Attach: Sized {
    /// Attaches a link to `entity`, for which a token is in place.
    fn attach(
        connection: &Connection,
        entity: &str,
    ) -> impl Future<Output = Result<Self, BusError>> + Send;

    /// Whether its session is still there.
    fn is_alive(&self) -> bool;
}

/// A place for one link.
pub(crate) struct Slot<L>(Mutex<Option<Attached<L>>>);

/// A link, and what it lives on.
pub(crate) struct Attached<L> {
    /// Different for every link of this process.
    pub(crate) id: u64,
    link: L,
    // After the link, which says goodbye on it when dropped.
    connection: Arc<Connection>,
}

impl<L> Deref for Attached<L> {
    type Target = L;

    fn deref(&self) -> &L {
        &self.link
    }
}

impl<L> DerefMut for Attached<L> {
    fn deref_mut(&mut self) -> &mut L {
        &mut self.link
    }
}

impl<L> Default for Slot<L> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

impl<L: Attach> Slot<L> {
    /// Exclusive use of the slot.
    pub(crate) async fn lock(&self) -> SlotGuard<'_, L> {
        SlotGuard(self.0.lock().await)
    }

    /// Gives up the link that `id` names, if it is still there.
    pub(crate) async fn give_up(&self, id: u64, recovery: ErrorRecovery) {
        let mut slot = self.lock().await;
        if slot.0.as_ref().is_some_and(|attached| attached.id == id) {
            slot.give_up(recovery);
        }
    }
}

/// Exclusive use of a slot.
pub(crate) struct SlotGuard<'a, L>(MutexGuard<'a, Option<Attached<L>>>);

impl<L: Attach> SlotGuard<'_, L> {
    /// The link. If there is none on a usable connection, a token for `entity` is presented and a
    /// new one attached.
    pub(crate) async fn link(
        &mut self,
        client: &BusClient,
        entity: &str,
    ) -> Result<&mut Attached<L>, BusError> {
        let usable =
            |attached: &Attached<L>| attached.link.is_alive() && attached.connection.is_usable();
        if !self.0.as_ref().is_some_and(usable) {
            *self.0 = None;
            let connection = client.connection().await?;
            connection.authorize(entity).await.inspect_err(|error| {
                // Without its security links a connection opens nothing any more.
                if error.deserves_another_link() {
                    connection.condemn();
                }
            })?;
            let link = L::attach(&connection, entity).await?;
            *self.0 = Some(Attached { id: NEXT_ID.fetch_add(1, Relaxed), link, connection });
        }
        self.0.as_mut().ok_or_else(|| BusError::gone("the link has been closed"))
    }

    /// Gives the link up, unless the error leaves it usable.
    pub(crate) fn give_up(&mut self, recovery: ErrorRecovery) {
        if recovery.link_is_usable() {
            return;
        }
        if let Some(attached) = self.0.take()
            && recovery == ErrorRecovery::ReconnectConnection
        {
            attached.connection.condemn();
        }
    }
}
